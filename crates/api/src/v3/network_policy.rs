use super::policy_checks::{check_global, check_policy, default_policy, global_fields, policy_fields};
use super::{Rule, object};
use crate::rules::{Place, Rules, check_policy_name};
use crate::scalars::words;
use crate::{Kind, NoStatus, Object, Spec};

/// Policy of one namespace.
pub type NetworkPolicy = Object<NetworkPolicySpec>;
/// Policy for all namespaces and hosts.
pub type GlobalNetworkPolicy = Object<GlobalNetworkPolicySpec>;

/// The tier of policies that name none.
pub const DEFAULT_TIER: &str = "default";

/// Declares the spec of a kind of policy: the fields that all of them have, and its own.
macro_rules! policy_spec {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $crate::v3::object! {
            $(#[$meta])*
            #[derive(Default)]
            pub struct $name {
                $($own)*
                /// Which tier it is in; `default` if empty.
                tier: String,
                /// Lower first in the tier; last if absent. Ties by `name/namespace/kind`.
                #[serde(serialize_with = "crate::v3::go_number::serialize")]
                order: Option<f64>,
                /// Rules for traffic to the selected endpoints, in order.
                ingress: Vec<$crate::v3::Rule>,
                /// Rules for traffic from the selected endpoints, in order.
                egress: Vec<$crate::v3::Rule>,
                /// Which endpoints; all (of the namespace, for a namespaced kind) if empty.
                selector: String,
                /// Which directions it decides; empty until defaults are applied: see [`crate::default_types`].
                types: Vec<$crate::v3::PolicyType>,
                /// Of these endpoints, those whose service account this selector matches; unset if empty.
                service_account_selector: String,
                /// Hints for the node agent.
                performance_hints: Vec<$crate::v3::PolicyPerformanceHint>,
            }
        }

        impl $name {
            /// The tier's name, the default filled in.
            pub fn tier_name(&self) -> &str {
                if self.tier.is_empty() { $crate::v3::DEFAULT_TIER } else { &self.tier }
            }

            /// The directions that it decides, the default filled in.
            pub fn effective_types(&self) -> Vec<$crate::v3::PolicyType> {
                match self.types.is_empty() {
                    true => $crate::v3::default_types(&self.ingress, &self.egress),
                    false => self.types.clone(),
                }
            }
        }
    };
}

/// Declares the spec of a global kind of policy.
macro_rules! global_policy_spec {
    ($(#[$meta:meta])* $name:ident { $($own:tt)* }) => {
        $crate::v3::policy_spec! {
            $(#[$meta])*
            $name {
                $($own)*
                /// Only endpoints in namespaces that this selector matches; unset if empty.
                namespace_selector: String,
                /// Whether it acts before connection tracking; needs `apply_on_forward`.
                do_not_track: bool,
                /// Whether it acts before destination NAT; needs `apply_on_forward`, ingress only.
                #[serde(rename = "preDNAT")]
                pre_dnat: bool,
                /// Whether it also holds for traffic that a host endpoint forwards.
                apply_on_forward: bool,
            }
        }
    };
}

pub(crate) use {global_policy_spec, policy_spec};

policy_spec! {
    /// `spec` of a [`NetworkPolicy`].
    NetworkPolicySpec {}
}

global_policy_spec! {
    /// `spec` of a [`GlobalNetworkPolicy`].
    GlobalNetworkPolicySpec {}
}

words! {
    /// A direction, as the endpoint sees it.
    PolicyType {
        /// To the endpoint.
        Ingress = "Ingress",
        /// From the endpoint.
        Egress = "Egress",
    }
}

words! {
    /// A hint for the node agent.
    PolicyPerformanceHint {
        /// Keep the policy programmed on every node, selected endpoints there or not.
        AssumeNeededOnEveryNode = "AssumeNeededOnEveryNode",
    }
}

/// What `types` is when a policy says nothing: the directions that it has rules for; ingress if it has none at all.
pub fn default_types(ingress: &[Rule], egress: &[Rule]) -> Vec<PolicyType> {
    match (ingress.is_empty(), egress.is_empty()) {
        (_, true) => vec![PolicyType::Ingress],
        (true, false) => vec![PolicyType::Egress],
        (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
    }
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
    type Status = NoStatus;
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
    type Status = NoStatus;
}

impl Rules for NetworkPolicySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        let rules = Some((&spec.ingress[..], &spec.egress[..]));
        default_policy(&mut object.metadata, &mut spec.tier, &mut spec.types, rules);
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_policy_name(name, true, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        check_policy(&policy_fields!(object.spec), true, &at.field("spec"));
    }
}

impl Rules for GlobalNetworkPolicySpec {
    fn apply_defaults(object: &mut Object<Self>) {
        let spec = &mut object.spec;
        let rules = Some((&spec.ingress[..], &spec.egress[..]));
        default_policy(&mut object.metadata, &mut spec.tier, &mut spec.types, rules);
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_policy_name(name, false, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (policy, global) = (policy_fields!(object.spec), global_fields!(object.spec));
        check_policy(&policy, false, &at.field("spec"));
        check_global(&global, &policy, &at.field("spec"));
    }
}
