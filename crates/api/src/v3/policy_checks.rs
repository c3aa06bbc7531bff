//! Rules that all kinds of policy share.

use super::rule_checks::check_rules;
use super::{PolicyPerformanceHint, PolicyType, Rule, StagedAction, default_types};
use crate::Metadata;
use crate::rules::{Place, check_label_name, check_selector, check_unique};

/// The label that says which tier a policy is in.
pub(crate) const TIER_LABEL: &str = "projectcalico.org/tier";

/// The fields that all kinds of policy have.
pub(crate) struct PolicyFields<'a> {
    pub(crate) tier: &'a str,
    pub(crate) order: Option<f64>,
    pub(crate) ingress: &'a [Rule],
    pub(crate) egress: &'a [Rule],
    pub(crate) selector: &'a str,
    pub(crate) types: &'a [PolicyType],
    pub(crate) service_account_selector: &'a str,
    pub(crate) performance_hints: &'a [PolicyPerformanceHint],
}

/// The fields that global kinds of policy have besides.
pub(crate) struct GlobalFields<'a> {
    pub(crate) namespace_selector: &'a str,
    pub(crate) do_not_track: bool,
    pub(crate) pre_dnat: bool,
    pub(crate) apply_on_forward: bool,
}

macro_rules! policy_fields {
    ($spec:expr) => {
        $crate::v3::policy_checks::PolicyFields {
            tier: &$spec.tier,
            order: $spec.order,
            ingress: &$spec.ingress,
            egress: &$spec.egress,
            selector: &$spec.selector,
            types: &$spec.types,
            service_account_selector: &$spec.service_account_selector,
            performance_hints: &$spec.performance_hints,
        }
    };
}

macro_rules! global_fields {
    ($spec:expr) => {
        $crate::v3::policy_checks::GlobalFields {
            namespace_selector: &$spec.namespace_selector,
            do_not_track: $spec.do_not_track,
            pre_dnat: $spec.pre_dnat,
            apply_on_forward: $spec.apply_on_forward,
        }
    };
}

pub(crate) use {global_fields, policy_fields};

/// Fills in the tier and its label; and the directions, unless the policy only stands for a deletion.
pub(crate) fn default_policy(
    metadata: &mut Metadata,
    tier: &mut String,
    types: &mut Vec<PolicyType>,
    rules: Option<(&[Rule], &[Rule])>,
) {
    if tier.is_empty() {
        super::DEFAULT_TIER.clone_into(tier);
    }
    metadata.labels.insert(TIER_LABEL.to_owned(), tier.clone());
    if let Some((ingress, egress)) = rules.filter(|_| types.is_empty()) {
        *types = default_types(ingress, egress);
    }
}

/// Checks what all kinds of policy have.
pub(crate) fn check_policy(policy: &PolicyFields<'_>, is_namespaced: bool, at: &Place<'_>) {
    if !policy.tier.is_empty() {
        check_label_name(policy.tier, &at.field("tier"));
    }
    if let Some(order) = policy.order.filter(|order| !order.is_finite()) {
        at.field("order").refuse(order, "is no finite number; leave it out for the last place");
    }
    check_selector(policy.selector, &at.field("selector"));
    check_selector(policy.service_account_selector, &at.field("serviceAccountSelector"));
    check_unique(policy.types, &at.field("types"));
    check_unique(policy.performance_hints, &at.field("performanceHints"));
    check_rules(policy.ingress, policy.egress, is_namespaced, at);
}

/// Checks what global kinds of policy have.
pub(crate) fn check_global(global: &GlobalFields<'_>, policy: &PolicyFields<'_>, at: &Place<'_>) {
    check_selector(global.namespace_selector, &at.field("namespaceSelector"));
    if global.do_not_track && global.pre_dnat {
        at.field("preDNAT").refuse(true, "cannot be combined with doNotTrack; make two policies");
    }
    for (is_set, field) in [(global.do_not_track, "doNotTrack"), (global.pre_dnat, "preDNAT")] {
        if is_set && !global.apply_on_forward {
            at.field(field).refuse(true, "needs applyOnForward: true");
        }
    }
    if global.pre_dnat {
        check_pre_dnat(policy, at);
    }
}

/// Before destination NAT, packets only come in.
fn check_pre_dnat(policy: &PolicyFields<'_>, at: &Place<'_>) {
    if !policy.egress.is_empty() {
        at.field("egress").refuse_all("is not possible in a policy with preDNAT: true");
    }
    if let Some(index) = policy.types.iter().position(|direction| *direction == PolicyType::Egress) {
        at.field("types")
            .index(index)
            .refuse(PolicyType::Egress, "is not possible in a policy with preDNAT: true");
    }
}

/// Checks that a staged deletion says nothing else: only the tier may be there.
pub(crate) fn check_staged_deletion(
    action: Option<StagedAction>,
    policy: &PolicyFields<'_>,
    global: Option<&GlobalFields<'_>>,
    at: &Place<'_>,
) {
    if action != Some(StagedAction::Delete) {
        return;
    }
    let mut fields = vec![
        ("order", policy.order.is_some()),
        ("ingress", !policy.ingress.is_empty()),
        ("egress", !policy.egress.is_empty()),
        ("selector", !policy.selector.is_empty()),
        ("types", !policy.types.is_empty()),
        ("serviceAccountSelector", !policy.service_account_selector.is_empty()),
        ("performanceHints", !policy.performance_hints.is_empty()),
    ];
    if let Some(global) = global {
        fields.extend([
            ("namespaceSelector", !global.namespace_selector.is_empty()),
            ("doNotTrack", global.do_not_track),
            ("preDNAT", global.pre_dnat),
            ("applyOnForward", global.apply_on_forward),
        ]);
    }
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        at.field(field).refuse_all("has to be absent when stagedAction is Delete");
    }
}
