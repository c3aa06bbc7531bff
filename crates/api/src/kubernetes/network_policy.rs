//! Kubernetes network policies as policies of the tier `default`.

use super::error::{Converted, Direction, DroppedRule, FieldError};
use super::label_selector::{of_namespaces, of_pods};
use super::objects::{IntOrText, IpBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use super::rules::{PortsByProtocol, network, port_number, ports_between};
use super::{namespace_or_default, policy_metadata};
use crate::scalars::{Port, Protocol};
use crate::v3::{self, Action, DEFAULT_TIER, EntityRule, NetworkPolicySpec, PolicyType, Rule};

/// The kind of a converted policy, where kinds of policy are told apart.
pub const KUBERNETES_NETWORK_POLICY: &str = "KubernetesNetworkPolicy";
/// The order in its tier of every converted policy.
pub const NETWORK_POLICY_ORDER: f64 = 1000.0;

/// A network policy as a policy of the tier `default`, with the same name. What selected pods are not allowed is dropped
/// at the end of that tier. A rule that cannot be converted is left out, and reported.
///
/// `policyTypes` is taken as it is, and stands for ingress if empty: the API server has filled it in. For a policy that
/// no API server has seen, see [`NetworkPolicy::with_default_types`].
///
/// # Errors
/// The UID is malformed, or the pod selector cannot be expressed.
pub fn network_policy(policy: &NetworkPolicy) -> Result<Converted<v3::NetworkPolicy>, FieldError> {
    let mut metadata = policy_metadata(&policy.metadata)?;
    metadata.namespace = Some(namespace_or_default(&policy.metadata).to_owned());
    let selector =
        of_pods(Some(&policy.spec.pod_selector)).map_err(|error| error.within("spec.podSelector"))?;
    let mut dropped_rules = Vec::new();
    let ingress = policy.spec.ingress.iter().map(|rule| (&rule.from, &rule.ports));
    let ingress = rules(Direction::Ingress, ingress, &mut dropped_rules);
    let egress = policy.spec.egress.iter().map(|rule| (&rule.to, &rule.ports));
    let egress = rules(Direction::Egress, egress, &mut dropped_rules);
    let spec = NetworkPolicySpec {
        tier: DEFAULT_TIER.to_owned(),
        order: Some(NETWORK_POLICY_ORDER),
        selector,
        ingress,
        egress,
        types: types(&policy.spec.policy_types),
        ..NetworkPolicySpec::default()
    };
    Ok(Converted { policy: v3::NetworkPolicy::new(metadata, spec), dropped_rules })
}

impl NetworkPolicy {
    /// The policy as the API server completes it: without `policyTypes` it is about ingress, and about egress too if it has
    /// rules for it.
    #[must_use]
    pub fn with_default_types(mut self) -> Self {
        if self.spec.policy_types.is_empty() {
            let egress = (!self.spec.egress.is_empty()).then_some("Egress");
            self.spec.policy_types = ["Ingress"].into_iter().chain(egress).map(str::to_owned).collect();
        }
        self
    }
}

fn types(policy_types: &[String]) -> Vec<PolicyType> {
    let given = |wanted: &PolicyType| policy_types.iter().any(|given| given == wanted.as_str());
    let types: Vec<_> = [PolicyType::Ingress, PolicyType::Egress].into_iter().filter(given).collect();
    if types.is_empty() { vec![PolicyType::Ingress] } else { types }
}

fn rules<'a>(
    direction: Direction,
    rules: impl Iterator<Item = (&'a Vec<NetworkPolicyPeer>, &'a Vec<NetworkPolicyPort>)>,
    dropped: &mut Vec<DroppedRule>,
) -> Vec<Rule> {
    let mut converted = Vec::new();
    for (index, (peers, ports)) in rules.enumerate() {
        match rule(direction, peers, ports) {
            Ok(rules) => converted.extend(rules),
            Err(error) => dropped.push(DroppedRule::new(direction, index, error)),
        }
    }
    converted
}

fn rule(
    direction: Direction,
    peers: &[NetworkPolicyPeer],
    ports: &[NetworkPolicyPort],
) -> Result<Vec<Rule>, FieldError> {
    let mut by_protocol = PortsByProtocol::default();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, port) =
            protocol_and_port(port).map_err(|e| e.within(format_args!("ports[{index}]")))?;
        by_protocol.add(Some(protocol), port);
    }
    let mut entities = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let at = |error: FieldError| error.within(format_args!("{}[{index}]", direction.peers_field()));
        entities.push(peer_entity(peer).map_err(at)?);
    }
    if entities.is_empty() {
        entities.push(EntityRule::default());
    }
    Ok(by_protocol.into_rules(Action::Allow, direction, &entities))
}

fn protocol_and_port(port: &NetworkPolicyPort) -> Result<(Protocol, Option<Port>), FieldError> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(other) => {
            return Err(FieldError::bad_value("protocol", other, "is not one of TCP, UDP, SCTP"));
        }
    };
    let port = match (&port.port, port.end_port) {
        (None, None) => None,
        (Some(IntOrText::Int(first)), Some(last)) => {
            Some(ports_between((*first, "port"), (last, "endPort"))?)
        }
        (_, Some(_)) => return Err(FieldError::new("endPort", "needs a `port` that is a number")),
        (Some(IntOrText::Int(number)), None) => Some(Port::Number(port_number(*number, "port")?)),
        (Some(IntOrText::Text(text)), None) => Some(named_port(text)?),
    };
    Ok((protocol, port))
}

fn named_port(text: &str) -> Result<Port, FieldError> {
    match text.parse() {
        Ok(Port::Number(number)) => port_number(number.into(), "port").map(Port::Number),
        Ok(Port::Named(name)) => Ok(Port::Named(name)),
        Ok(Port::Range(..)) | Err(_) => {
            Err(FieldError::bad_value("port", text, "is neither a port number nor a port's name"))
        }
    }
}

/// The other end of a rule: pods (and namespaces) by selector, or networks.
///
/// # Errors
/// A malformed CIDR or selector; or the peer says nothing, or both pods and addresses.
pub fn peer_entity(peer: &NetworkPolicyPeer) -> Result<EntityRule, FieldError> {
    let by_label = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match (&peer.ip_block, by_label) {
        (Some(block), false) => addresses(block).map_err(|error| error.within("ipBlock")),
        (None, true) => pods(peer),
        (Some(_), true) => {
            Err(FieldError::new("ipBlock", "cannot stand beside podSelector or namespaceSelector"))
        }
        (None, false) => Err(FieldError::new("", "has none of podSelector, namespaceSelector and ipBlock")),
    }
}

fn pods(peer: &NetworkPolicyPeer) -> Result<EntityRule, FieldError> {
    let selector = of_pods(peer.pod_selector.as_ref()).map_err(|error| error.within("podSelector"))?;
    let namespaces = peer.namespace_selector.as_ref().map(of_namespaces).transpose();
    let namespace_selector =
        namespaces.map_err(|error| error.within("namespaceSelector"))?.unwrap_or_default();
    Ok(EntityRule { selector, namespace_selector, ..EntityRule::default() })
}

fn addresses(block: &IpBlock) -> Result<EntityRule, FieldError> {
    let nets = vec![network(&block.cidr, "cidr")?];
    let holes = block.except.iter().enumerate();
    let not_nets: Result<_, _> =
        holes.map(|(index, text)| network(text, &format!("except[{index}]"))).collect();
    Ok(EntityRule { nets, not_nets: not_nets?, ..EntityRule::default() })
}
