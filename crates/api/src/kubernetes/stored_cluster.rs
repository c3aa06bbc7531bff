//! What a datastore without Kubernetes keeps for cluster network policies, in the current and in the older form.

use super::admin_network_policy::{AdminNetworkPolicy, BaselineAdminNetworkPolicy};
use super::cluster_network_policy;
use super::error::FieldError;
use super::objects::{ClusterNetworkPolicy, ClusterNetworkPolicyPeer, ClusterNetworkPolicyProtocol};
use super::stored::{converted, name_error, user_owned};
use crate::scalars::Net;
use crate::{EntityRule, Resource, Rule};

/// How many rules, peers, protocols and networks each list may have; the API server's own limits.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// What the older form calls `protocols`.
    protocols_field: &'static str,
    most: usize,
}

/// `policy.networking.k8s.io/v1alpha2`.
const CURRENT: Limits = Limits { protocols_field: "protocols", most: 25 };
/// `policy.networking.k8s.io/v1alpha1`.
const OLDER: Limits = Limits { protocols_field: "ports", most: 100 };
const LONGEST_RULE_NAME: usize = 100;
const LAST_PRIORITY: i32 = 1000;
/// The only baseline admin network policy.
const BASELINE_NAME: &str = "default";

/// What the resource is called that stands for a cluster network policy; its tier is no part of it, so that a policy that
/// moves to another tier stays the same resource.
pub(super) fn stored_cluster_network_policy_name(name: &str) -> String {
    format!("kcnp.{name}")
}

pub(super) fn stored_cluster_network_policy(
    policy: ClusterNetworkPolicy,
) -> Result<Resource, Vec<FieldError>> {
    let name = stored_cluster_network_policy_name(&policy.metadata.name);
    store(policy, name, CURRENT)
}

pub(super) fn stored_admin_network_policy(policy: AdminNetworkPolicy) -> Result<Resource, Vec<FieldError>> {
    let name = format!("kanp.{}", policy.metadata.name);
    store(policy.into_cluster_network_policy()?, name, OLDER)
}

pub(super) fn stored_baseline_policy(
    policy: BaselineAdminNetworkPolicy,
) -> Result<Resource, Vec<FieldError>> {
    let name = &policy.metadata.name;
    if name != BASELINE_NAME {
        let reason = "has to be \"default\": there is only one BaselineAdminNetworkPolicy";
        return Err(vec![FieldError::bad_value("metadata.name", name, reason)]);
    }
    let name = format!("kbanp.{name}");
    store(policy.into_cluster_network_policy()?, name, OLDER)
}

fn store(policy: ClusterNetworkPolicy, name: String, limits: Limits) -> Result<Resource, Vec<FieldError>> {
    let mut errors: Vec<_> = name_error("metadata.name", &policy.metadata.name).into_iter().collect();
    errors.extend(priority_error(policy.spec.priority));
    errors.extend(limits.errors(&policy));
    let source = ClusterNetworkPolicy { metadata: user_owned(&policy.metadata), ..policy };
    match cluster_network_policy(&source) {
        Ok(conversion) => {
            errors.extend(conversion.dropped_rules.into_iter().map(|dropped| dropped.error));
            let mut policy = conversion.policy;
            policy.metadata.name = name;
            policy.spec.egress = policy.spec.egress.into_iter().flat_map(one_family_each).collect();
            converted(errors, || Ok(policy))
        }
        Err(error) => {
            errors.push(error);
            Err(errors)
        }
    }
}

/// A rule of Calico's has networks of one IP family, a peer of these policies may have both.
fn one_family_each(rule: Rule) -> Vec<Rule> {
    let (v4, v6): (Vec<Net>, Vec<Net>) = rule.destination.nets.iter().partition(|net| !net.is_ipv6());
    if v4.is_empty() || v6.is_empty() {
        return vec![rule];
    }
    let with = |nets| Rule { destination: EntityRule { nets, ..rule.destination.clone() }, ..rule.clone() };
    vec![with(v4), with(v6)]
}

fn priority_error(priority: i32) -> Option<FieldError> {
    let is_good = (0..=LAST_PRIORITY).contains(&priority);
    let reason = format!("is out of range: 0..{LAST_PRIORITY}");
    (!is_good).then(|| FieldError::bad_value("spec.priority", priority, reason))
}

impl Limits {
    fn errors(self, policy: &ClusterNetworkPolicy) -> Vec<FieldError> {
        let spec = &policy.spec;
        let counts = [("spec.ingress", spec.ingress.len()), ("spec.egress", spec.egress.len())];
        let mut errors: Vec<_> = counts.iter().filter_map(|(path, count)| self.count(path, *count)).collect();
        for (index, rule) in spec.ingress.iter().enumerate() {
            let path = format!("spec.ingress[{index}]");
            errors.extend(self.rule(&path, &rule.name, ("from", &rule.from), &rule.protocols));
        }
        for (index, rule) in spec.egress.iter().enumerate() {
            let path = format!("spec.egress[{index}]");
            errors.extend(self.rule(&path, &rule.name, ("to", &rule.to), &rule.protocols));
        }
        errors
    }

    fn rule(
        self,
        path: &str,
        name: &str,
        (field, peers): (&str, &[ClusterNetworkPolicyPeer]),
        protocols: &[ClusterNetworkPolicyProtocol],
    ) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if name.chars().count() > LONGEST_RULE_NAME {
            let reason = format!("is longer than {LONGEST_RULE_NAME} characters");
            errors.push(FieldError::bad_value(format!("{path}.name"), name, reason));
        }
        errors.extend(self.count(&format!("{path}.{field}"), peers.len()));
        errors.extend(self.count(&format!("{path}.{}", self.protocols_field), protocols.len()));
        for (index, peer) in peers.iter().enumerate() {
            errors.extend(self.count(&format!("{path}.{field}[{index}].networks"), peer.networks.len()));
        }
        errors.extend(self.named_port_without_pods(path, peers, protocols));
        errors.extend(self.ranges(path, protocols));
        errors
    }

    fn count(self, path: &str, count: usize) -> Option<FieldError> {
        let reason = format!("has {count} entries, but may have {} at most", self.most);
        (count > self.most).then(|| FieldError::new(path, reason))
    }

    /// The conversion ends a range with the last port that there is.
    fn ranges(self, path: &str, protocols: &[ClusterNetworkPolicyProtocol]) -> Vec<FieldError> {
        let of = |protocol: &ClusterNetworkPolicyProtocol| {
            let named = [("tcp", &protocol.tcp), ("udp", &protocol.udp), ("sctp", &protocol.sctp)];
            let (name, port) = named.into_iter().find_map(|(name, ports)| Some((name, ports.as_ref()?)))?;
            Some((name, port.destination_port.as_ref()?.range.as_ref()?.end))
        };
        let ends = protocols.iter().enumerate().filter_map(|(index, protocol)| Some((index, of(protocol)?)));
        ends.filter(|(_, (_, end))| *end > i64::from(u16::MAX))
            .map(|(index, (name, end))| {
                let path = match self.protocols_field {
                    "ports" => format!("{path}.ports[{index}].portRange.end"),
                    field => format!("{path}.{field}[{index}].{name}.destinationPort.range.end"),
                };
                FieldError::bad_value(path, end, "is above 65535")
            })
            .collect()
    }

    /// Only pods have names for their ports.
    fn named_port_without_pods(
        self,
        path: &str,
        peers: &[ClusterNetworkPolicyPeer],
        protocols: &[ClusterNetworkPolicyProtocol],
    ) -> Option<FieldError> {
        let named = protocols.iter().position(|protocol| !protocol.destination_named_port.is_empty())?;
        peers.iter().any(|peer| !peer.networks.is_empty()).then(|| {
            let path = format!("{path}.{}[{named}]", self.protocols_field);
            FieldError::new(path, "names a port, which networks do not have; make two rules")
        })
    }
}
