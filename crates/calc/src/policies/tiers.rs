//! The tiers of one endpoint.

use std::sync::Arc;

use super::CompiledPolicy;
use crate::contract::{Direction, PolicyId, Tier, TierDefault};

/// The policies that match an endpoint, by tier, for each place where they are enforced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EndpointTiers {
    /// On traffic of the endpoint itself.
    pub(crate) normal: Vec<Tier>,
    /// Before connection tracking.
    pub(crate) untracked: Vec<Tier>,
    /// Before destination NAT.
    pub(crate) pre_dnat: Vec<Tier>,
    /// On forwarded traffic.
    pub(crate) forward: Vec<Tier>,
}

impl EndpointTiers {
    /// Adds the next policy in order.
    pub(super) fn add(&mut self, id: &PolicyId, compiled: &CompiledPolicy, default_action: TierDefault) {
        let policy = &compiled.policy;
        let add = |tiers: &mut Vec<Tier>| add_to(tiers, id, compiled, default_action);
        if policy.untracked {
            add(&mut self.untracked);
        } else if policy.pre_dnat {
            add(&mut self.pre_dnat);
        } else {
            add(&mut self.normal);
            if policy.apply_on_forward {
                add(&mut self.forward);
            }
        }
    }
}

fn add_to(tiers: &mut Vec<Tier>, id: &PolicyId, compiled: &CompiledPolicy, default_action: TierDefault) {
    let name: &Arc<str> = &compiled.policy.tier;
    if tiers.last().is_none_or(|tier| tier.name != *name) {
        tiers.push(Tier { name: name.clone(), default_action, ingress: Vec::new(), egress: Vec::new() });
    }
    let Some(tier) = tiers.last_mut() else { return };
    if compiled.types.contains(&Direction::Ingress) {
        tier.ingress.push(id.clone());
    }
    if compiled.types.contains(&Direction::Egress) {
        tier.egress.push(id.clone());
    }
}
