use super::Place;

/// The longest name of a Linux interface (`IFNAMSIZ` without the end mark).
const MAX_INTERFACE: usize = 15;

fn is_made_of(name: &str, extra: &[u8]) -> bool {
    (1..=MAX_INTERFACE).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
}

/// Whether Linux could have an interface of this name, and Calico would take it.
pub(crate) fn is_interface_name(name: &str) -> bool {
    is_made_of(name, b"_.-")
}

/// Whether this is the name of an interface, or the beginning of one with `+` after it.
pub(crate) fn is_interface_glob(name: &str) -> bool {
    is_made_of(name, b":._+-")
}

/// Checks the name of an interface.
pub(crate) fn check_interface(name: &str, at: &Place<'_>) {
    if !is_interface_name(name) {
        at.refuse(name, "is not an interface: at most 15 letters, digits, '_', '.' and '-'");
    }
}

/// Checks the name of an interface in which `*` is a wildcard.
pub(crate) fn check_interface_pattern(pattern: &str, at: &Place<'_>) {
    if !is_made_of(pattern, b"_.*-") {
        at.refuse(pattern, "is not an interface: at most 15 letters, digits, '_', '.', '-', and '*' for any");
    }
}
