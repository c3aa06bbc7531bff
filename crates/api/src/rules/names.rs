use super::Place;

/// The longest name of a resource (RFC 1123 section 2.1).
const MAX_SUBDOMAIN: usize = 253;
/// The longest label of a name (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Lower-case letters, digits and dashes, with a letter or digit at both ends.
fn is_label_shaped(text: &str) -> bool {
    text.bytes().all(|byte| is_alphanumeric(byte) || byte == b'-')
        && text.bytes().next().is_some_and(is_alphanumeric)
        && text.bytes().next_back().is_some_and(is_alphanumeric)
}

/// A DNS label (RFC 1123): at most 63 characters, no dots.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_label_shaped(text)
}

/// A DNS subdomain as Kubernetes has it: labels with dots between, at most 253 characters in all.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_label_shaped)
}

const SUBDOMAIN: &str =
    "lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part";

/// Checks that a name is a DNS subdomain.
pub(crate) fn check_subdomain(name: &str, at: &Place<'_>) {
    match name.len() {
        0 => at.refuse_all("is required"),
        length if length > MAX_SUBDOMAIN => {
            at.refuse(name, format!("is {length} characters long, but may have {MAX_SUBDOMAIN} at most"));
        }
        _ if !is_subdomain(name) => at.refuse(name, format!("is not a name: {SUBDOMAIN}")),
        _ => {}
    }
}

/// Checks that a name is a DNS label.
pub(crate) fn check_label_name(name: &str, at: &Place<'_>) {
    match name.len() {
        0 => at.refuse_all("is required"),
        length if length > MAX_LABEL => {
            at.refuse(name, format!("is {length} characters long, but may have {MAX_LABEL} at most"));
        }
        _ if !is_label_shaped(name) => {
            at.refuse(
                name,
                "is not a name: lower-case letters, digits and '-', with a letter or digit at both ends",
            );
        }
        _ => {}
    }
}

/// What policies are called that stand for objects of other systems, which have dots in their names: a Kubernetes
/// NetworkPolicy, an OpenStack security group.
const FOREIGN_PREFIXES: [&str; 2] = ["knp.default.", "ossg.default."];
/// The same for global policies: a Kubernetes ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy.
const FOREIGN_GLOBAL_PREFIXES: [&str; 3] = ["kcnp.", "kanp.", "kbanp."];

/// Checks the name of a policy: `NAME` or `TIER.NAME`, also what stands for a policy of another system.
pub(crate) fn check_policy_name(name: &str, is_namespaced: bool, at: &Place<'_>) {
    let foreign: &[&str] = if is_namespaced { &FOREIGN_PREFIXES } else { &FOREIGN_GLOBAL_PREFIXES };
    let is_foreign = foreign.iter().any(|prefix| name.starts_with(prefix));
    if is_foreign || name.is_empty() || name.len() > MAX_SUBDOMAIN {
        return check_subdomain(name, at);
    }
    // The parts may be longer than DNS labels: no name server ever sees them.
    let is_good = match name.split_once('.') {
        None => is_label_shaped(name),
        Some((tier, name)) => is_dns_label(tier) && is_label_shaped(name),
    };
    if !is_good {
        at.refuse(
            name,
            "is not a policy's name: NAME or TIER.NAME of lower-case letters, digits and '-', with a letter or digit at \
             both ends of each",
        );
    }
}

/// Checks the name of an endpoint's port (Kubernetes: `IsValidPortName`).
pub(crate) fn check_port_name(name: &str, at: &Place<'_>) {
    let is_good = (1..=15).contains(&name.len())
        && is_label_shaped(name)
        && !name.contains("--")
        && name.bytes().any(|byte| byte.is_ascii_lowercase());
    if !is_good {
        at.refuse(
            name,
            "is not a port's name: at most 15 lower-case letters, digits and single '-', with a letter, and a letter or \
             digit at both ends",
        );
    }
}

/// Letters, digits and dashes, with a letter or digit at both ends.
pub(crate) fn is_container_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().next_back().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// A name with, perhaps, a domain before it: `example.com/Name_1` (Kubernetes: `IsQualifiedName`).
pub(super) fn is_qualified_name(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_value(key) && !key.is_empty(),
        Some((domain, name)) => {
            !name.contains('/') && is_subdomain(domain) && is_label_value(name) && !name.is_empty()
        }
    }
}

/// Empty, or at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
pub(super) fn is_label_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let is_end = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= MAX_LABEL
        && value.bytes().all(allowed)
        && is_end(value.bytes().next())
        && is_end(value.bytes().next_back())
}
