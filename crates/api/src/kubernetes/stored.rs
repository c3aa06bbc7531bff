//! What a datastore without Kubernetes keeps for the Kubernetes objects that a user applies: what Calico's controllers
//! would have written there.

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::objects::{
    IpBlock, Namespace, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, ServiceAccount,
};
use super::stored_cluster::{
    stored_admin_network_policy, stored_baseline_policy, stored_cluster_network_policy,
};
use super::stored_endpoint_slice::{relevant, stored_endpoint_slice};
use super::{FieldError, namespace_or_default, namespace_profile, network_policy, service_account_profile};
use crate::decode::{self, Content, Problem, Tree};
use crate::{Metadata, Resource, Violation};

/// The longest name of a resource.
const MAX_NAME_LENGTH: usize = 253;

/// The kinds that can be stored, by `apiVersion` and `kind`, and the fields of theirs that only Kubernetes needs.
const STORABLE: [(&str, &str, &[&str]); 8] = [
    ("networking.k8s.io/v1", "NetworkPolicy", &["status"]),
    ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", &["status"]),
    ("policy.networking.k8s.io/v1beta1", "ClusterNetworkPolicy", &["status"]),
    ("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", &["status"]),
    ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", &["status"]),
    ("discovery.k8s.io/v1", "EndpointSlice", &["addressType"]),
    ("v1", "Namespace", &["spec", "status"]),
    ("v1", "ServiceAccount", &["secrets", "imagePullSecrets", "automountServiceAccountToken"]),
];

/// Whether [`stored_resource`] knows the kind: a Kubernetes `NetworkPolicy`, `ClusterNetworkPolicy`, `AdminNetworkPolicy`,
/// `BaselineAdminNetworkPolicy`, `EndpointSlice`, `Namespace` or `ServiceAccount`.
pub fn is_storable(api_version: &str, kind: &str) -> bool {
    STORABLE.iter().any(|(known_version, known_kind, _)| (*known_version, *known_kind) == (api_version, kind))
}

/// The name of the Calico policy that stands for a Kubernetes network policy of the same namespace.
pub fn stored_network_policy_name(name: &str) -> String {
    format!("knp.default.{name}")
}

/// Reads a Kubernetes object that a user wrote, as strictly as the API server would, and makes the resource that is kept
/// for it: policy `knp.default.NAME`; global policy `kcnp.NAME`, `kanp.NAME` or `kbanp.default`; profile `kns.NAME` or
/// `ksa.NAMESPACE.NAME`; a slice of the same name.
///
/// # Errors
/// Everything that is wrong, by field of the Kubernetes object.
pub fn stored_resource(object: &Value) -> Result<Resource, Vec<Violation>> {
    stored_from_tree(&Tree::from(object))
        .map_err(|problems| problems.into_iter().map(Violation::from).collect())
}

/// As [`stored_resource`], for a document with line numbers.
pub(crate) fn stored_from_tree(tree: &Tree) -> Result<Resource, Vec<Problem>> {
    let text = |field: &str| tree.get(field).and_then(Tree::scalar).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let known = STORABLE.iter().find(|(version, name, _)| (*version, *name) == (api_version, kind));
    let Some((_, kind, ignored)) = known else {
        let known: Vec<String> =
            STORABLE.iter().map(|(version, name, _)| format!("{version} {name}")).collect();
        let reason = format!("is not a Kubernetes kind that can be stored; those are {}", known.join(", "));
        let error = FieldError::bad_value("kind", format!("{api_version} {kind}"), reason);
        return Err(vec![problem(tree, error)]);
    };
    let tree = &without(tree, ignored);
    let located =
        |errors: Vec<FieldError>| errors.into_iter().map(|error| problem(tree, error)).collect::<Vec<_>>();
    match *kind {
        "Namespace" => stored_namespace(&read(tree)?).map_err(located),
        "ServiceAccount" => stored_service_account(&read(tree)?).map_err(located),
        "EndpointSlice" => stored_endpoint_slice(&read(&relevant(tree.clone()))?).map_err(located),
        "ClusterNetworkPolicy" => stored_cluster_network_policy(read(tree)?).map_err(located),
        "AdminNetworkPolicy" => stored_admin_network_policy(read(tree)?).map_err(located),
        "BaselineAdminNetworkPolicy" => stored_baseline_policy(read(tree)?).map_err(located),
        _ => stored_network_policy(read(tree)?).map_err(located),
    }
}

fn read<T: DeserializeOwned>(tree: &Tree) -> Result<T, Vec<Problem>> {
    decode::strict(tree)
}

fn stored_namespace(namespace: &Namespace) -> Result<Resource, Vec<FieldError>> {
    let errors: Vec<_> = name_error("metadata.name", &namespace.metadata.name).into_iter().collect();
    converted(errors, || namespace_profile(&Namespace { metadata: user_owned(&namespace.metadata) }))
}

fn stored_service_account(account: &ServiceAccount) -> Result<Resource, Vec<FieldError>> {
    let errors = identity_errors(&account.metadata);
    converted(errors, || service_account_profile(&ServiceAccount { metadata: user_owned(&account.metadata) }))
}

fn stored_network_policy(policy: NetworkPolicy) -> Result<Resource, Vec<FieldError>> {
    let mut errors = identity_errors(&policy.metadata);
    errors.extend(policy_type_errors(&policy));
    errors.extend(rule_errors(&policy));
    let name = stored_network_policy_name(&policy.metadata.name);
    let source = NetworkPolicy { metadata: user_owned(&policy.metadata), ..policy }.with_default_types();
    match network_policy(&source) {
        Ok(conversion) => {
            errors.extend(conversion.dropped_rules.into_iter().map(|dropped| dropped.error));
            let mut policy = conversion.policy;
            policy.metadata.name = name;
            converted(errors, || Ok(policy))
        }
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

pub(super) fn converted<R: Into<Resource>>(
    mut errors: Vec<FieldError>,
    convert: impl FnOnce() -> Result<R, FieldError>,
) -> Result<Resource, Vec<FieldError>> {
    match convert() {
        Ok(resource) if errors.is_empty() => Ok(resource.into()),
        Ok(_) => Err(errors),
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

/// What of the metadata is the user's to say; revision, UID and times are those of another store.
pub(super) fn user_owned(metadata: &Metadata) -> Metadata {
    Metadata {
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        ..Metadata::named(&metadata.name)
    }
}

pub(super) fn identity_errors(metadata: &Metadata) -> Vec<FieldError> {
    let name = name_error("metadata.name", &metadata.name);
    let namespace = name_error("metadata.namespace", namespace_or_default(metadata));
    name.into_iter().chain(namespace).collect()
}

/// A name has to be a DNS subdomain (RFC 1123 section 2.1, lower case), short enough for what is put before it.
pub(super) fn name_error(path: &str, name: &str) -> Option<FieldError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        label.bytes().all(|byte| allowed(byte) || byte == b'-')
            && label.bytes().next().is_some_and(allowed)
            && label.bytes().next_back().is_some_and(allowed)
    };
    let longest = MAX_NAME_LENGTH - stored_network_policy_name("").len();
    match () {
        () if name.is_empty() => Some(FieldError::new(path, "is required")),
        () if name.len() > longest => {
            Some(FieldError::bad_value(path, name, format!("is longer than {longest} characters")))
        }
        () if !name.split('.').all(is_label) => Some(FieldError::bad_value(
            path,
            name,
            "is not a name: lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part",
        )),
        () => None,
    }
}

fn policy_type_errors(policy: &NetworkPolicy) -> Vec<FieldError> {
    let types = policy.spec.policy_types.iter().enumerate();
    let unknown = types.filter(|(_, word)| !matches!(word.as_str(), "Ingress" | "Egress"));
    unknown
        .map(|(index, word)| {
            FieldError::bad_value(format!("spec.policyTypes[{index}]"), word, "is not one of Ingress, Egress")
        })
        .collect()
}

/// What the API server checks in rules, but the conversion tolerates.
fn rule_errors(policy: &NetworkPolicy) -> Vec<FieldError> {
    let ingress = policy.spec.ingress.iter().map(|rule| ("from", &rule.from, &rule.ports)).enumerate();
    let ingress = ingress.map(|(index, rule)| (format!("spec.ingress[{index}]"), rule));
    let egress = policy.spec.egress.iter().map(|rule| ("to", &rule.to, &rule.ports)).enumerate();
    let egress = egress.map(|(index, rule)| (format!("spec.egress[{index}]"), rule));
    let mut errors = Vec::new();
    for (path, (field, peers, ports)) in ingress.chain(egress) {
        errors.extend(peers_errors(&format!("{path}.{field}"), peers));
        errors.extend(ports_errors(&format!("{path}.ports"), ports));
    }
    errors
}

fn ports_errors(path: &str, ports: &[NetworkPolicyPort]) -> Vec<FieldError> {
    let ends = ports.iter().enumerate().filter_map(|(index, port)| Some((index, port.end_port?)));
    let beyond = ends.filter(|(_, end)| *end > i64::from(u16::MAX));
    beyond
        .map(|(index, end)| FieldError::bad_value(format!("{path}[{index}].endPort"), end, "is above 65535"))
        .collect()
}

fn peers_errors(path: &str, peers: &[NetworkPolicyPeer]) -> Vec<FieldError> {
    let blocks = peers.iter().enumerate().filter_map(|(index, peer)| Some((index, peer.ip_block.as_ref()?)));
    blocks.flat_map(|(index, block)| holes_outside(&format!("{path}[{index}].ipBlock"), block)).collect()
}

/// The holes of an `ipBlock` have to be inside it, and smaller than it.
fn holes_outside(path: &str, block: &IpBlock) -> Vec<FieldError> {
    let Ok(cidr) = block.cidr.parse::<IpNet>() else { return Vec::new() };
    let inside = |hole: &IpNet| cidr.trunc().contains(&hole.trunc()) && hole.prefix_len() > cidr.prefix_len();
    let holes = block.except.iter().enumerate();
    let outside = holes.filter(|(_, text)| text.parse::<IpNet>().is_ok_and(|hole| !inside(&hole)));
    outside
        .map(|(index, text)| {
            let reason = format!("is not a smaller network inside {}", block.cidr);
            FieldError::bad_value(format!("{path}.except[{index}]"), text, reason)
        })
        .collect()
}

/// The document without some of its fields.
fn without(tree: &Tree, fields: &[&str]) -> Tree {
    let mut tree = tree.clone();
    if let Content::Map(entries) = &mut tree.content {
        entries.retain(|(name, _)| !fields.contains(&name.as_str()));
    }
    tree
}

/// An error with the line of its field, or of what is nearest to it.
fn problem(tree: &Tree, error: FieldError) -> Problem {
    let line = line_of(tree, &error.path);
    Problem { field: error.path, line, value: error.value, reason: error.reason }
}

fn line_of(tree: &Tree, path: &str) -> u32 {
    let Some((part, rest)) = first_part(path) else { return tree.line };
    let child = match &tree.content {
        Content::List(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
        _ => tree.get(part),
    };
    child.map_or(tree.line, |child| line_of(child, rest))
}

/// The first part of a path such as `a.b[0].c[x.y]`, and what follows it.
fn first_part(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some(bracketed) = path.strip_prefix('[') {
        return bracketed.split_once(']');
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}
