use super::{global_policy_spec, object, policy_spec};
use crate::scalars::words;
use crate::{Kind, NoStatus, Object, Spec};
use std::collections::BTreeMap;

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
