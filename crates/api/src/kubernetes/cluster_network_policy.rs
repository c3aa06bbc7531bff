//! Cluster network policies as global policies of the tiers `kube-admin` and `kube-baseline`.

use std::collections::BTreeMap;

use super::error::{Converted, Direction, DroppedRule, FieldError};
use super::label_selector::{IS_POD, of_namespaces, of_pods};
use super::objects::{
    ClusterNetworkPolicy, ClusterNetworkPolicyPeer, ClusterNetworkPolicyProtocol,
    ClusterNetworkPolicySubject, DestinationPort, NamespacedPod,
};
use super::policy_metadata;
use super::rules::{PortsByProtocol, network, port_number, ports_between};
use crate::scalars::{Port, Protocol};
use crate::v3::{
    Action, EntityRule, GlobalNetworkPolicy, GlobalNetworkPolicySpec, PolicyType, Rule, RuleMetadata,
};

/// The kind of a converted policy, where kinds of policy are told apart.
pub const KUBERNETES_CLUSTER_NETWORK_POLICY: &str = "KubernetesClusterNetworkPolicy";

/// A cluster network policy as a global policy with the same name, its priority as order.
///
/// A rule that cannot be converted is reported; one that denies or passes becomes one that denies everything in its
/// place, any other is left out. So is a peer of a rule that accepts, reported too, if it is of a sort (nodes, DNS names)
/// that has no counterpart: the rule goes on with the others.
///
/// # Errors
/// The policy has to be skipped, as though it did not exist: an unknown tier, no subject or more than one, a subject that
/// cannot be expressed, or a malformed UID.
pub fn cluster_network_policy(
    policy: &ClusterNetworkPolicy,
) -> Result<Converted<GlobalNetworkPolicy>, FieldError> {
    let spec = &policy.spec;
    let metadata = policy_metadata(&policy.metadata)?;
    let tier = tier(&spec.tier)?.to_owned();
    let (selector, namespace_selector) =
        subject(&spec.subject).map_err(|error| error.within("spec.subject"))?;
    let mut dropped_rules = Vec::new();
    let ingress = spec.ingress.iter().map(|rule| RuleParts {
        name: &rule.name,
        action: &rule.action,
        peers: &rule.from,
        protocols: &rule.protocols,
    });
    let ingress = rules(Direction::Ingress, ingress, &mut dropped_rules);
    let egress = spec.egress.iter().map(|rule| RuleParts {
        name: &rule.name,
        action: &rule.action,
        peers: &rule.to,
        protocols: &rule.protocols,
    });
    let egress = rules(Direction::Egress, egress, &mut dropped_rules);
    let types = [(PolicyType::Ingress, &ingress), (PolicyType::Egress, &egress)];
    let spec = GlobalNetworkPolicySpec {
        tier,
        order: Some(f64::from(spec.priority)),
        types: types
            .into_iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(direction, _)| direction)
            .collect(),
        selector,
        namespace_selector,
        ingress,
        egress,
        ..GlobalNetworkPolicySpec::default()
    };
    Ok(Converted { policy: GlobalNetworkPolicy::new(metadata, spec), dropped_rules })
}

fn tier(name: &str) -> Result<&'static str, FieldError> {
    match name {
        "Admin" => Ok("kube-admin"),
        "Baseline" => Ok("kube-baseline"),
        other => Err(FieldError::bad_value("spec.tier", other, "is not one of Admin, Baseline")),
    }
}

/// The selectors of pods and of namespaces.
fn subject(subject: &ClusterNetworkPolicySubject) -> Result<(String, String), FieldError> {
    match (&subject.namespaces, &subject.pods) {
        (Some(namespaces), None) => {
            let namespaces = of_namespaces(namespaces).map_err(|error| error.within("namespaces"))?;
            Ok((IS_POD.to_owned(), namespaces))
        }
        (None, Some(pods)) => namespaced_pods(pods).map_err(|error| error.within("pods")),
        (None, None) => Err(FieldError::new("", "has none of namespaces and pods")),
        (Some(_), Some(_)) => Err(FieldError::new("", "has both namespaces and pods; choose one")),
    }
}

fn namespaced_pods(pods: &NamespacedPod) -> Result<(String, String), FieldError> {
    let selector = of_pods(Some(&pods.pod_selector)).map_err(|error| error.within("podSelector"))?;
    let namespaces =
        of_namespaces(&pods.namespace_selector).map_err(|error| error.within("namespaceSelector"))?;
    Ok((selector, namespaces))
}

struct RuleParts<'a> {
    name: &'a str,
    action: &'a str,
    peers: &'a [ClusterNetworkPolicyPeer],
    protocols: &'a [ClusterNetworkPolicyProtocol],
}

fn rules<'a>(
    direction: Direction,
    rules: impl Iterator<Item = RuleParts<'a>>,
    dropped: &mut Vec<DroppedRule>,
) -> Vec<Rule> {
    let mut converted = Vec::new();
    for (index, parts) in rules.enumerate() {
        let action = action(parts.action);
        let mut report = |error| dropped.push(DroppedRule::new(direction, index, error));
        match action.clone().and_then(|action| rule(direction, action, &parts, &mut report)) {
            Ok(rules) => converted.extend(rules),
            Err(error) => {
                report(error);
                let denies = matches!(action, Ok(Action::Deny | Action::Pass));
                converted.extend(denies.then(|| Rule::new(Action::Deny)));
            }
        }
    }
    converted
}

fn action(word: &str) -> Result<Action, FieldError> {
    match word {
        "Accept" => Ok(Action::Allow),
        "Deny" => Ok(Action::Deny),
        "Pass" => Ok(Action::Pass),
        other => Err(FieldError::bad_value("action", other, "is not one of Accept, Deny, Pass")),
    }
}

fn rule(
    direction: Direction,
    action: Action,
    parts: &RuleParts<'_>,
    report: &mut impl FnMut(FieldError),
) -> Result<Vec<Rule>, FieldError> {
    let mut ports = PortsByProtocol::default();
    for (index, protocol) in parts.protocols.iter().enumerate() {
        let (protocol, port) =
            protocol_and_port(protocol).map_err(|error| error.within(format_args!("protocols[{index}]")))?;
        ports.add(protocol, port);
    }
    let peers = peers(direction, action, parts.peers, report)?;
    let mut rules = ports.into_rules(action, direction, &peers);
    for rule in rules.iter_mut().filter(|_| !parts.name.is_empty()) {
        let annotations = BTreeMap::from([("name".to_owned(), parts.name.to_owned())]);
        rule.metadata = Some(RuleMetadata { annotations });
    }
    Ok(rules)
}

fn peers(
    direction: Direction,
    action: Action,
    peers: &[ClusterNetworkPolicyPeer],
    report: &mut impl FnMut(FieldError),
) -> Result<Vec<EntityRule>, FieldError> {
    if peers.is_empty() {
        return Err(FieldError::new(direction.peers_field(), "must not be empty"));
    }
    let mut entities = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let at = |error: FieldError| error.within(format_args!("{}[{index}]", direction.peers_field()));
        match inexpressible(peer) {
            Some(error) if action == Action::Allow => report(at(error)),
            Some(error) => return Err(at(error)),
            None => entities.push(entity(direction, peer).map_err(at)?),
        }
    }
    Ok(entities)
}

/// What a peer says that Calico cannot.
fn inexpressible(peer: &ClusterNetworkPolicyPeer) -> Option<FieldError> {
    let unsupported = |field| FieldError::new(field, "is not supported; use networks, namespaces or pods");
    match (&peer.nodes, peer.domain_names.is_empty()) {
        (Some(_), _) => Some(unsupported("nodes")),
        (None, false) => Some(unsupported("domainNames")),
        (None, true) => None,
    }
}

fn protocol_and_port(
    protocol: &ClusterNetworkPolicyProtocol,
) -> Result<(Option<Protocol>, Option<Port>), FieldError> {
    let ClusterNetworkPolicyProtocol { tcp, udp, sctp, destination_named_port: name } = protocol;
    match (tcp, udp, sctp, name.as_str()) {
        (Some(tcp), None, None, "") => Ok((Some(Protocol::Tcp), ports(tcp).map_err(|e| e.within("tcp"))?)),
        (None, Some(udp), None, "") => Ok((Some(Protocol::Udp), ports(udp).map_err(|e| e.within("udp"))?)),
        (None, None, Some(sctp), "") => {
            Ok((Some(Protocol::Sctp), ports(sctp).map_err(|e| e.within("sctp"))?))
        }
        (None, None, None, name) if !name.is_empty() => Ok((None, Some(Port::Named(name.to_owned())))),
        _ => Err(FieldError::new("", "has to have exactly one of tcp, udp, sctp and destinationNamedPort")),
    }
}

fn ports(protocol: &DestinationPort) -> Result<Option<Port>, FieldError> {
    let Some(port) = &protocol.destination_port else { return Ok(None) };
    let port = match (port.number, &port.range) {
        (Some(number), None) => port_number(number, "number").map(Port::Number),
        (None, Some(range)) => ports_between((range.start, "range.start"), (range.end, "range.end")),
        _ => Err(FieldError::new("", "has to have exactly one of number and range")),
    };
    port.map(Some).map_err(|error| error.within("destinationPort"))
}

fn entity(direction: Direction, peer: &ClusterNetworkPolicyPeer) -> Result<EntityRule, FieldError> {
    let networks = (!peer.networks.is_empty()).then_some(&peer.networks);
    match (&peer.namespaces, &peer.pods, networks) {
        (Some(namespaces), None, None) => {
            let namespace_selector = of_namespaces(namespaces).map_err(|error| error.within("namespaces"))?;
            Ok(EntityRule { namespace_selector, ..EntityRule::default() })
        }
        (None, Some(pods), None) => {
            let (selector, namespace_selector) =
                namespaced_pods(pods).map_err(|error| error.within("pods"))?;
            Ok(EntityRule { selector, namespace_selector, ..EntityRule::default() })
        }
        (None, None, Some(networks)) if direction == Direction::Egress => {
            let nets = networks.iter().enumerate();
            let nets: Result<_, _> =
                nets.map(|(index, text)| network(text, &format!("networks[{index}]"))).collect();
            Ok(EntityRule { nets: nets?, ..EntityRule::default() })
        }
        _ => Err(FieldError::new(
            "",
            match direction {
                Direction::Ingress => "has to have exactly one of namespaces and pods",
                Direction::Egress => "has to have exactly one of namespaces, pods and networks",
            },
        )),
    }
}
