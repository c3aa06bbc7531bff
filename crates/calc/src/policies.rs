//! Policies: which are active on this node, in what order, and what that means for each local endpoint.
//!
//! A policy is *active* when its selector matches a local endpoint (or when it asks to be kept everywhere). Only active
//! policies are handed on, and only their rules hold references to IP sets. An endpoint's tiers follow from the
//! policies that match it, their order, and the tiers' order; they are worked out again, whole, when any of those
//! changes for the endpoint, and compared with what they were.

mod order;
mod tiers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::Selector;

use crate::contract::{Direction, Policy, PolicyId};
use crate::ip_sets::{Definition, IpSets};
use crate::label_index::{LabelIndex, SelectorId};
use crate::published::{Differences, Published};
pub(crate) use order::{TierFact, Tiers};
pub(crate) use tiers::EndpointTiers;

/// A policy after compilation.
#[derive(Debug, Clone)]
pub(crate) struct CompiledPolicy {
    /// Lower first; none: last.
    pub(crate) order: Option<f64>,
    /// Which endpoints it applies to, over flat labels.
    pub(crate) selector: Selector,
    /// The directions that it governs.
    pub(crate) types: BTreeSet<Direction>,
    /// Whether it is handed on even if it matches nothing here.
    pub(crate) is_always_active: bool,
    /// Its rules and flags.
    pub(crate) policy: Arc<Policy>,
    /// What its rules refer to, one entry for each reference.
    pub(crate) sets: Vec<Definition>,
}

#[derive(Debug)]
struct Entry {
    id: PolicyId,
    compiled: CompiledPolicy,
    is_active: bool,
    /// Place among all policies; valid while the order is not stale.
    rank: u32,
}

/// All policies of the cluster, and the labels of the endpoints of this node.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    index: LabelIndex,
    entries: BTreeMap<SelectorId, Entry>,
    by_id: BTreeMap<PolicyId, SelectorId>,
    tiers: Tiers,
    order_is_stale: bool,
    /// Local endpoints whose tiers may have changed.
    dirty_endpoints: BTreeSet<u32>,
    published: Published<PolicyId, Arc<Policy>>,
}

impl Policies {
    /// Adds, replaces or removes a policy.
    pub(crate) fn set_policy(&mut self, id: PolicyId, policy: Option<CompiledPolicy>, sets: &mut IpSets) {
        let known = self.by_id.get(&id).copied();
        match (known, policy) {
            (Some(known), Some(policy)) if self.entries[&known].compiled.selector == policy.selector => {
                self.replace(known, policy, sets);
            }
            (known, policy) => {
                if let Some(known) = known {
                    self.remove(known, sets);
                }
                if let Some(policy) = policy {
                    self.add(id, policy, sets);
                }
            }
        }
    }

    /// Adds, replaces or removes a tier.
    pub(crate) fn set_tier(&mut self, name: &str, tier: Option<TierFact>) {
        if self.tiers.set(name, tier) {
            self.order_is_stale = true;
            let in_tier = self.entries.iter().filter(|(_, entry)| &*entry.compiled.policy.tier == name);
            let endpoints: Vec<u32> =
                in_tier.flat_map(|(selector, _)| self.index.items_of(*selector)).collect();
            self.dirty_endpoints.extend(endpoints);
        }
    }

    /// Adds or changes a local endpoint.
    pub(crate) fn set_endpoint<'l, 'p>(
        &mut self,
        number: u32,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        profiles: impl IntoIterator<Item = &'p str>,
        sets: &mut IpSets,
    ) {
        let moved = self.index.set_item(number, labels, profiles);
        if moved.before != moved.after {
            self.reconsider(moved.before.into_iter().chain(moved.after), sets);
        }
        self.dirty_endpoints.insert(number);
    }

    /// Removes a local endpoint.
    pub(crate) fn remove_endpoint(&mut self, number: u32, sets: &mut IpSets) {
        let before = self.index.remove_item(number);
        self.reconsider(before, sets);
        self.dirty_endpoints.remove(&number);
    }

    /// Says what labels a profile lends to the endpoints that name it.
    pub(crate) fn set_profile_labels<'a>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        sets: &mut IpSets,
    ) {
        for change in self.index.set_parent(name, labels) {
            self.dirty_endpoints.extend(change.items);
            self.reconsider([change.selector], sets);
        }
    }

    /// The endpoints whose tiers may have changed, each with its tiers as they are now.
    pub(crate) fn take_dirty_endpoints(&mut self) -> Vec<(u32, EndpointTiers)> {
        if std::mem::take(&mut self.order_is_stale) {
            self.sort();
        }
        let dirty = std::mem::take(&mut self.dirty_endpoints);
        dirty.into_iter().map(|number| (number, self.endpoint_tiers(number))).collect()
    }

    /// Policies that changed, and those that are no longer active.
    pub(crate) fn flush(&mut self) -> Differences<PolicyId, Arc<Policy>> {
        self.published.drain()
    }

    /// How much it holds, all indexes counted: 0 when everything has been removed and flushed.
    pub(crate) fn size(&self) -> usize {
        let policies = self.entries.len() + self.by_id.len() + self.tiers.len();
        self.index.size() + policies + self.dirty_endpoints.len() + self.published.len()
    }

    fn add(&mut self, id: PolicyId, compiled: CompiledPolicy, sets: &mut IpSets) {
        let selector = self.index.add_selector(&compiled.selector);
        self.by_id.insert(id.clone(), selector);
        self.entries.insert(selector, Entry { id, compiled, is_active: false, rank: 0 });
        self.order_is_stale = true;
        self.dirty_endpoints.extend(self.index.items_of(selector));
        self.reconsider([selector], sets);
    }

    fn remove(&mut self, selector: SelectorId, sets: &mut IpSets) {
        let Some(entry) = self.entries.remove(&selector) else { return };
        self.by_id.remove(&entry.id);
        self.dirty_endpoints.extend(self.index.remove_selector(selector));
        if entry.is_active {
            entry.compiled.sets.iter().for_each(|set| sets.release(set));
            self.published.set(entry.id, None);
        }
    }

    /// The same policy with the same selector, but other rules or another place.
    fn replace(&mut self, selector: SelectorId, policy: CompiledPolicy, sets: &mut IpSets) {
        let Some(entry) = self.entries.get_mut(&selector) else { return };
        let old = std::mem::replace(&mut entry.compiled, policy);
        let new = &entry.compiled;
        if entry.is_active {
            new.sets.iter().for_each(|set| sets.acquire(set));
            old.sets.iter().for_each(|set| sets.release(set));
            self.published.set(entry.id.clone(), Some(new.policy.clone()));
        }
        if place(&old) != place(new) {
            self.order_is_stale = true;
            self.dirty_endpoints.extend(self.index.items_of(selector));
        }
        self.reconsider([selector], sets);
    }

    /// Makes policies active or inactive as their matches demand.
    fn reconsider(&mut self, selectors: impl IntoIterator<Item = SelectorId>, sets: &mut IpSets) {
        for selector in selectors {
            let Some(entry) = self.entries.get_mut(&selector) else { continue };
            let is_active = entry.compiled.is_always_active || self.index.has_items(selector);
            if std::mem::replace(&mut entry.is_active, is_active) == is_active {
                continue;
            }
            let references = entry.compiled.sets.iter();
            match is_active {
                true => references.for_each(|set| sets.acquire(set)),
                false => references.for_each(|set| sets.release(set)),
            }
            self.published.set(entry.id.clone(), is_active.then(|| entry.compiled.policy.clone()));
        }
    }

    fn sort(&mut self) {
        let tiers = &self.tiers;
        let mut sorted: Vec<&mut Entry> = self.entries.values_mut().collect();
        sorted.sort_by_cached_key(|entry| {
            let tier = tiers.place(&entry.compiled.policy.tier);
            (tier, order::policy_place(entry.compiled.order, &entry.id))
        });
        for (rank, entry) in (0..).zip(sorted) {
            entry.rank = rank;
        }
    }

    fn endpoint_tiers(&self, number: u32) -> EndpointTiers {
        let mut matching: Vec<&Entry> =
            self.index.selectors_of(number).filter_map(|selector| self.entries.get(&selector)).collect();
        matching.sort_unstable_by_key(|entry| entry.rank);
        let mut tiers = EndpointTiers::default();
        for entry in matching {
            let tier = &entry.compiled.policy.tier;
            tiers.add(&entry.id, &entry.compiled, self.tiers.default_action(tier));
        }
        tiers
    }
}

/// What of a policy decides where it stands in an endpoint's tiers.
fn place(compiled: &CompiledPolicy) -> (&str, Option<f64>, &BTreeSet<Direction>, [bool; 3]) {
    let policy = &compiled.policy;
    let flags = [policy.untracked, policy.pre_dnat, policy.apply_on_forward];
    (&policy.tier, compiled.order, &compiled.types, flags)
}

#[cfg(test)]
mod tests;
