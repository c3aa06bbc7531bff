//! Policies and profiles as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use api as v3;
use api::Resource;
use api::selector::policy_selector;

use super::{CompileError, RuleCompiler, selector};
use crate::contract::{Direction, Policy, PolicyId, PolicyKind, Profile, ProfileId, RuleOwner};
use crate::policies::CompiledPolicy;
use crate::profiles::CompiledProfile;

/// What the kinds of policy have in common.
struct Source<'a> {
    tier: &'a str,
    order: Option<f64>,
    selector: &'a str,
    namespace_selector: &'a str,
    service_account_selector: &'a str,
    types: Vec<v3::PolicyType>,
    ingress: &'a [v3::Rule],
    egress: &'a [v3::Rule],
    is_always_active: bool,
    untracked: bool,
    pre_dnat: bool,
    apply_on_forward: bool,
}

macro_rules! source {
    ($spec:expr) => {
        Source {
            tier: $spec.tier_name(),
            order: $spec.order,
            selector: &$spec.selector,
            namespace_selector: "",
            service_account_selector: &$spec.service_account_selector,
            types: $spec.effective_types(),
            ingress: &$spec.ingress,
            egress: &$spec.egress,
            is_always_active: $spec
                .performance_hints
                .contains(&v3::PolicyPerformanceHint::AssumeNeededOnEveryNode),
            untracked: false,
            pre_dnat: false,
            apply_on_forward: false,
        }
    };
}

macro_rules! global_source {
    ($spec:expr) => {
        Source {
            namespace_selector: &$spec.namespace_selector,
            untracked: $spec.do_not_track,
            pre_dnat: $spec.pre_dnat,
            apply_on_forward: $spec.apply_on_forward,
            ..source!($spec)
        }
    };
}

/// The kind of policy that a kind of resource is.
pub(crate) fn policy_kind(kind: api::Kind) -> Option<PolicyKind> {
    Some(match kind {
        api::Kind::NetworkPolicy => PolicyKind::NetworkPolicy,
        api::Kind::GlobalNetworkPolicy => PolicyKind::GlobalNetworkPolicy,
        api::Kind::StagedNetworkPolicy => PolicyKind::StagedNetworkPolicy,
        api::Kind::StagedGlobalNetworkPolicy => PolicyKind::StagedGlobalNetworkPolicy,
        api::Kind::StagedKubernetesNetworkPolicy => PolicyKind::StagedKubernetesNetworkPolicy,
        _ => return None,
    })
}

/// Compiles a policy of any kind. `None`: it is none, or it is staged to be deleted (or ignored) and so has no rules of its
/// own; or its selector cannot be read. Errors in rules leave the rest of the policy as it is.
pub(crate) fn compile_policy(
    id: &PolicyId,
    resource: &Resource,
    errors: &mut Vec<CompileError>,
) -> Option<CompiledPolicy> {
    let compiled = match resource {
        Resource::NetworkPolicy(policy) => compile(id, &policy.metadata, source!(policy.spec), errors),
        Resource::GlobalNetworkPolicy(policy) => {
            compile(id, &policy.metadata, global_source!(policy.spec), errors)
        }
        Resource::StagedNetworkPolicy(policy) if is_set(policy.spec.staged_action) => {
            compile(id, &policy.metadata, source!(policy.spec), errors)
        }
        Resource::StagedGlobalNetworkPolicy(policy) if is_set(policy.spec.staged_action) => {
            compile(id, &policy.metadata, global_source!(policy.spec), errors)
        }
        Resource::StagedKubernetesNetworkPolicy(policy) if is_set(policy.spec.staged_action) => {
            let converted = convert(&policy.metadata, &policy.spec, errors);
            converted.and_then(|policy| compile(id, &policy.metadata, source!(policy.spec), errors))
        }
        _ => return None,
    };
    compiled.map_err(|error| errors.push(error)).ok()
}

/// Compiles a profile.
pub(crate) fn compile_profile(
    id: &ProfileId,
    profile: &v3::Profile,
    errors: &mut Vec<CompileError>,
) -> CompiledProfile {
    let owner = RuleOwner::Profile(id.clone());
    let mut rules = RuleCompiler::new(&owner, None);
    let inbound = rules.rules(Direction::Ingress, &profile.spec.ingress);
    let outbound = rules.rules(Direction::Egress, &profile.spec.egress);
    errors.append(&mut rules.errors);
    CompiledProfile { profile: Arc::new(Profile { inbound, outbound }), sets: rules.sets }
}

fn is_set(action: Option<v3::StagedAction>) -> bool {
    action.unwrap_or_default() == v3::StagedAction::Set
}

/// The staged spec is that of a Kubernetes policy, under the same names.
fn convert(
    metadata: &api::Metadata,
    spec: &v3::StagedKubernetesNetworkPolicySpec,
    errors: &mut Vec<CompileError>,
) -> Result<v3::NetworkPolicy, CompileError> {
    let failed = |reason: String| CompileError::Conversion { reason };
    let text = serde_json::to_value(spec).map_err(|error| failed(error.to_string()))?;
    let spec = serde_json::from_value(text).map_err(|error| failed(error.to_string()))?;
    let metadata = api::Metadata {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        ..Default::default()
    };
    let policy = api::kubernetes::NetworkPolicy { metadata, spec };
    let converted = api::kubernetes::network_policy(&policy).map_err(|error| failed(error.to_string()))?;
    errors.extend(
        converted
            .dropped_rules
            .iter()
            .map(|rule| failed(format!("rule {} is left out: {}", rule.index, rule.error))),
    );
    Ok(converted.policy)
}

fn compile(
    id: &PolicyId,
    metadata: &api::Metadata,
    source: Source<'_>,
    errors: &mut Vec<CompileError>,
) -> Result<CompiledPolicy, CompileError> {
    let namespace = id.namespace.as_deref();
    let selector = policy_selector(
        namespace,
        selector("selector", source.selector)?.as_ref(),
        selector("namespaceSelector", source.namespace_selector)?.as_ref(),
        selector("serviceAccountSelector", source.service_account_selector)?.as_ref(),
    );
    let types: BTreeSet<Direction> = source.types.iter().copied().map(direction).collect();
    let owner = RuleOwner::Policy(id.clone());
    let mut compiler = RuleCompiler::new(&owner, namespace);
    let mut rules = |direction, rules| match types.contains(&direction) {
        true => compiler.rules(direction, rules),
        false => Vec::new(),
    };
    let policy = Policy {
        tier: source.tier.into(),
        inbound: rules(Direction::Ingress, source.ingress),
        outbound: rules(Direction::Egress, source.egress),
        untracked: source.untracked,
        pre_dnat: source.pre_dnat,
        apply_on_forward: source.apply_on_forward,
        rechecks: rechecks(metadata, errors),
    };
    errors.append(&mut compiler.errors);
    Ok(CompiledPolicy {
        order: source.order,
        selector,
        types,
        is_always_active: source.is_always_active,
        policy: Arc::new(policy),
        sets: compiler.sets,
    })
}

/// A word that is none is reported, and keeps connections: cutting them is what has to be asked for.
fn rechecks(metadata: &api::Metadata, errors: &mut Vec<CompileError>) -> bool {
    let established = metadata.established().unwrap_or_else(|source| {
        let value = metadata.annotations.get(api::ESTABLISHED_ANNOTATION).cloned().unwrap_or_default();
        errors.push(CompileError::Established { value, source });
        api::Established::Keep
    });
    established == api::Established::Recheck
}

fn direction(policy_type: v3::PolicyType) -> Direction {
    match policy_type {
        v3::PolicyType::Ingress => Direction::Ingress,
        v3::PolicyType::Egress => Direction::Egress,
    }
}
