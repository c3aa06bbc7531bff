//! Kubernetes objects, and what they are in Calico's model.
//!
//! - A [`Namespace`] and a [`ServiceAccount`] become profiles, `kns.NAME` and `ksa.NAMESPACE.NAME`, that lend their labels to
//!   endpoints: [`namespace_profile`], [`service_account_profile`].
//! - A [`Pod`] becomes a workload endpoint: [`pod_endpoint`].
//! - A [`NetworkPolicy`] becomes a policy of the tier `default`: [`network_policy()`]; a [`ClusterNetworkPolicy`] a global policy
//!   of the tiers around it: [`cluster_network_policy()`]. An [`AdminNetworkPolicy`] and the [`BaselineAdminNetworkPolicy`] are
//!   written as cluster network policies first.
//!
//! What cannot be converted is a value, never a log line: a [`FieldError`] names the field; a rule that a policy had to do
//! without is a [`DroppedRule`]. A policy without such a rule lets through no more than the original.
//!
//! A datastore without Kubernetes keeps the converted objects. [`stored_resource`] makes them from what a user wrote,
//! and reads that strictly: unknown fields and impossible values are errors.

mod admin_network_policy;
mod cluster_network_policy;
mod error;
mod label_selector;
mod network_policy;
mod objects;
mod pod;
mod pod_address;
mod ports;
mod profile;
mod qos;
mod quantity;
mod rules;
mod stored;
mod stored_cluster;
mod stored_endpoint_slice;
mod uid;

#[cfg(test)]
mod tests;

pub use admin_network_policy::{
    AdminNetworkPolicy, AdminNetworkPolicyEgressRule, AdminNetworkPolicyIngressRule, AdminNetworkPolicyPort,
    AdminNetworkPolicySpec, AdminPortNumber, AdminPortRange, BaselineAdminNetworkPolicy,
    BaselineAdminNetworkPolicySpec,
};
pub use cluster_network_policy::{KUBERNETES_CLUSTER_NETWORK_POLICY, cluster_network_policy};
pub use error::{Converted, Direction, DroppedRule, FieldError};
pub use network_policy::{KUBERNETES_NETWORK_POLICY, NETWORK_POLICY_ORDER, network_policy, peer_entity};
pub use objects::*;
pub use pod::{ConvertedPod, DEFAULT_INTERFACE_PREFIX, interface_name, pod_endpoint};
pub use pod_address::pod_addresses;
pub use ports::simplify_ports;
pub use profile::{
    NAMESPACE_LABEL_PREFIX, SERVICE_ACCOUNT_LABEL_PREFIX, join_profile_revisions, namespace_of_profile,
    namespace_profile, namespace_profile_name, service_account_of_profile, service_account_profile,
    service_account_profile_name, split_profile_revision,
};
pub(crate) use stored::stored_from_tree;
pub use stored::{is_storable, stored_network_policy_name, stored_resource};
pub use uid::{UidError, converted_uid};

use crate::{ESTABLISHED_ANNOTATION, Metadata};

/// The namespace of an object; `default` if it names none.
fn namespace_or_default(metadata: &Metadata) -> &str {
    metadata.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// The metadata of a converted policy: the one annotation that says how it is enforced goes with it.
fn policy_metadata(source: &Metadata) -> Result<Metadata, FieldError> {
    let mut metadata = derived_metadata(source, &source.name)?;
    let kept = source.annotations.get_key_value(ESTABLISHED_ANNOTATION);
    metadata.annotations = kept.map(|(name, value)| (name.clone(), value.clone())).into_iter().collect();
    Ok(metadata)
}

/// What the metadata of a converted object has from its source: times, revision and the converted UID.
fn derived_metadata(source: &Metadata, name: impl Into<String>) -> Result<Metadata, FieldError> {
    let uid = source.uid.as_deref().filter(|uid| !uid.is_empty()).map(converted_uid).transpose();
    Ok(Metadata {
        uid: uid.map_err(|error| FieldError::new("metadata.uid", error.to_string()))?,
        creation_timestamp: source.creation_timestamp,
        resource_version: source.resource_version.clone(),
        ..Metadata::named(name)
    })
}
