use super::{global_policy_spec, object, policy_spec};
use crate::scalars::words;
use crate::{Kind, NoStatus, Object, Spec};
use std::collections::BTreeMap;

use super::PolicyType;
use super::policy_checks::{
    check_global, check_policy, check_staged_deletion, default_policy, global_fields, policy_fields,
};
use crate::rules::{Place, Rules, check_labels, check_policy_name, check_port_name, check_unique};
use crate::scalars::{Net, Port, Protocol};

/// A `NetworkPolicy` that is evaluated but not enforced.
pub type StagedNetworkPolicy = Object<StagedNetworkPolicySpec>;
/// A `GlobalNetworkPolicy` that is evaluated but not enforced.
pub type StagedGlobalNetworkPolicy = Object<StagedGlobalNetworkPolicySpec>;
/// A Kubernetes `NetworkPolicy` that is evaluated but not enforced.
pub type StagedKubernetesNetworkPolicy = Object<StagedKubernetesNetworkPolicySpec>;

policy_spec! {
    /// `spec` of a [`StagedNetworkPolicy`].
    StagedNetworkPolicySpec {
        /// What enforcing it would do; `Set` if absent.
        staged_action: Option<StagedAction>,
    }
}

global_policy_spec! {
    /// `spec` of a [`StagedGlobalNetworkPolicy`].
    StagedGlobalNetworkPolicySpec {
        /// What enforcing it would do; `Set` if absent.
        staged_action: Option<StagedAction>,
    }
}

words! {
    /// What enforcing a staged policy would do.
    #[derive(Default)]
    StagedAction {
        /// Create or replace the policy of the same name.
        #[default]
        Set = "Set",
        /// Delete it.
        Delete = "Delete",
        /// Made by learning (as old versions wrote it).
        Learn = "Learn",
        /// Nothing (as old versions wrote it).
        Ignore = "Ignore",
    }
}

object! {
    /// `spec` of a [`StagedKubernetesNetworkPolicy`]: `stagedAction` and the fields of a Kubernetes network policy.
    #[derive(Default)]
    pub struct StagedKubernetesNetworkPolicySpec {
        /// What enforcing it would do; `Set` if absent.
        staged_action: Option<StagedAction>,
        /// Which pods of the namespace; all if empty.
        pod_selector: LabelSelector,
        /// What the pods accept.
        ingress: Vec<StagedKubernetesIngressRule>,
        /// What the pods may reach.
        egress: Vec<StagedKubernetesEgressRule>,
        /// Which directions it decides.
        policy_types: Vec<super::PolicyType>,
    }
}

object! {
    /// Kubernetes `NetworkPolicyIngressRule`.
    #[derive(Default)]
    pub struct StagedKubernetesIngressRule {
        /// On one of these ports; any if empty.
        ports: Vec<StagedKubernetesPort>,
        /// From one of these peers; any if empty.
        from: Vec<StagedKubernetesPeer>,
    }
}

object! {
    /// Kubernetes `NetworkPolicyEgressRule`.
    #[derive(Default)]
    pub struct StagedKubernetesEgressRule {
        /// On one of these ports; any if empty.
        ports: Vec<StagedKubernetesPort>,
        /// To one of these peers; any if empty.
        to: Vec<StagedKubernetesPeer>,
    }
}

object! {
    /// Kubernetes `NetworkPolicyPort`.
    #[derive(Default)]
    pub struct StagedKubernetesPort {
        /// TCP if absent.
        protocol: Option<Protocol>,
        /// A number or a name; any if absent.
        port: Option<Port>,
        /// The last port of a range that begins with `port`.
        end_port: Option<u16>,
    }
}

object! {
    /// Kubernetes `NetworkPolicyPeer`.
    #[derive(Default)]
    pub struct StagedKubernetesPeer {
        /// Pods with these labels.
        pod_selector: Option<LabelSelector>,
        /// In namespaces with these labels.
        namespace_selector: Option<LabelSelector>,
        /// Or addresses.
        ip_block: Option<IPBlock>,
    }
}

object! {
    /// Kubernetes `IPBlock`.
    pub struct IPBlock {
        /// In this network.
        cidr: Net = required,
        /// But in none of these.
        except: Vec<Net>,
    }
}

object! {
    /// Kubernetes `LabelSelector`; all of it has to hold.
    #[derive(Default, Eq)]
    pub struct LabelSelector {
        /// Labels with these values.
        match_labels: BTreeMap<String, String>,
        /// Further demands.
        match_expressions: Vec<LabelSelectorRequirement>,
    }
}

object! {
    /// Kubernetes `LabelSelectorRequirement`.
    #[derive(Eq)]
    pub struct LabelSelectorRequirement {
        /// Which label.
        key: String = required,
        /// What of it.
        operator: LabelSelectorOperator = required,
        /// For `In` and `NotIn`.
        values: Vec<String>,
    }
}

words! {
    /// What a requirement demands of a label.
    LabelSelectorOperator {
        /// It has one of the values.
        In = "In",
        /// It has none of the values.
        NotIn = "NotIn",
        /// It is there.
        Exists = "Exists",
        /// It is not there.
        DoesNotExist = "DoesNotExist",
    }
}

impl Spec for StagedNetworkPolicySpec {
    const KIND: Kind = Kind::StagedNetworkPolicy;
    type Status = NoStatus;
}

impl Spec for StagedGlobalNetworkPolicySpec {
    const KIND: Kind = Kind::StagedGlobalNetworkPolicy;
    type Status = NoStatus;
}

impl Spec for StagedKubernetesNetworkPolicySpec {
    const KIND: Kind = Kind::StagedKubernetesNetworkPolicy;
    type Status = NoStatus;
}

impl Rules for StagedNetworkPolicySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        let action = *spec.staged_action.get_or_insert_default();
        let rules = (action != StagedAction::Delete).then_some((&spec.ingress[..], &spec.egress[..]));
        default_policy(&mut object.metadata, &mut spec.tier, &mut spec.types, rules);
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_policy_name(name, true, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (policy, at) = (policy_fields!(object.spec), at.field("spec"));
        check_policy(&policy, true, &at);
        check_staged_deletion(object.spec.staged_action, &policy, None, &at);
    }
}

impl Rules for StagedGlobalNetworkPolicySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        let action = *spec.staged_action.get_or_insert_default();
        let rules = (action != StagedAction::Delete).then_some((&spec.ingress[..], &spec.egress[..]));
        default_policy(&mut object.metadata, &mut spec.tier, &mut spec.types, rules);
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_policy_name(name, false, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (policy, global, at) =
            (policy_fields!(object.spec), global_fields!(object.spec), at.field("spec"));
        check_policy(&policy, false, &at);
        check_global(&global, &policy, &at);
        check_staged_deletion(object.spec.staged_action, &policy, Some(&global), &at);
    }
}

impl Rules for StagedKubernetesNetworkPolicySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        let action = *spec.staged_action.get_or_insert_default();
        if action != StagedAction::Delete && spec.policy_types.is_empty() {
            spec.policy_types = match spec.egress.is_empty() {
                true => vec![PolicyType::Ingress],
                false => vec![PolicyType::Ingress, PolicyType::Egress],
            };
        }
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        check_label_selector(&spec.pod_selector, &at.field("podSelector"));
        check_unique(&spec.policy_types, &at.field("policyTypes"));
        for (index, rule) in spec.ingress.iter().enumerate() {
            let at = at.field("ingress").index(index);
            check_kubernetes_rule(&rule.ports, (&rule.from, "from"), &at);
        }
        for (index, rule) in spec.egress.iter().enumerate() {
            let at = at.field("egress").index(index);
            check_kubernetes_rule(&rule.ports, (&rule.to, "to"), &at);
        }
        if spec.staged_action == Some(StagedAction::Delete) {
            check_kubernetes_deletion(spec, &at);
        }
    }
}

fn check_kubernetes_deletion(spec: &StagedKubernetesNetworkPolicySpec, at: &Place<'_>) {
    let fields = [
        ("podSelector", spec.pod_selector != LabelSelector::default()),
        ("ingress", !spec.ingress.is_empty()),
        ("egress", !spec.egress.is_empty()),
        ("policyTypes", !spec.policy_types.is_empty()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        at.field(field).refuse_all("has to be absent when stagedAction is Delete");
    }
}

fn check_kubernetes_rule(
    ports: &[StagedKubernetesPort],
    (peers, field): (&[StagedKubernetesPeer], &str),
    at: &Place<'_>,
) {
    for (index, port) in ports.iter().enumerate() {
        check_kubernetes_port(port, &at.field("ports").index(index));
    }
    for (index, peer) in peers.iter().enumerate() {
        check_kubernetes_peer(peer, &at.field(field).index(index));
    }
}

fn check_kubernetes_port(port: &StagedKubernetesPort, at: &Place<'_>) {
    if let Some(protocol) = port.protocol.filter(|protocol| !protocol.has_ports()) {
        at.field("protocol").refuse(protocol, "has no ports; only TCP, UDP and SCTP have");
    }
    match &port.port {
        Some(Port::Range(..)) => at.field("port").refuse_all("is a range; write port and endPort"),
        Some(Port::Number(0)) => at.field("port").refuse(0, "is not a port: 1..65535"),
        Some(Port::Named(name)) => check_port_name(name, &at.field("port")),
        _ => {}
    }
    match (&port.port, port.end_port) {
        (Some(Port::Number(first)), Some(last)) if last < *first => {
            at.field("endPort").refuse(last, format!("is below port {first}"));
        }
        (Some(Port::Number(_)), _) | (_, None) => {}
        (_, Some(last)) => at.field("endPort").refuse(last, "needs a number as port"),
    }
}

fn check_kubernetes_peer(peer: &StagedKubernetesPeer, at: &Place<'_>) {
    let has_selector = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
    match &peer.ip_block {
        Some(_) if has_selector => {
            at.field("ipBlock").refuse_all("cannot be combined with selectors; make two peers")
        }
        None if !has_selector => {
            at.refuse_all("has to have a podSelector, a namespaceSelector or an ipBlock")
        }
        Some(block) => check_ip_block(block, &at.field("ipBlock")),
        None => {}
    }
    for (selector, field) in
        [(&peer.pod_selector, "podSelector"), (&peer.namespace_selector, "namespaceSelector")]
    {
        if let Some(selector) = selector {
            check_label_selector(selector, &at.field(field));
        }
    }
}

fn check_ip_block(block: &IPBlock, at: &Place<'_>) {
    let range = block.cidr.net();
    for (index, hole) in block.except.iter().enumerate() {
        if !range.contains(&hole.net()) || hole.prefix_len() <= range.prefix_len() {
            let reason = format!("is not a smaller network inside {}", block.cidr);
            at.field("except").index(index).refuse(hole, reason);
        }
    }
}

fn check_label_selector(selector: &LabelSelector, at: &Place<'_>) {
    check_labels(&selector.match_labels, &at.field("matchLabels"));
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        let at = at.field("matchExpressions").index(index);
        let LabelSelectorRequirement { key, operator, values } = requirement;
        let takes_values = matches!(operator, LabelSelectorOperator::In | LabelSelectorOperator::NotIn);
        if takes_values == values.is_empty() {
            let reason = if takes_values { "are required" } else { "have to be absent" };
            at.field("values").refuse_all(format!("{reason} with operator {operator}"));
        }
        check_labels(&[(key.clone(), String::new())].into(), &at.field("key"));
    }
}
