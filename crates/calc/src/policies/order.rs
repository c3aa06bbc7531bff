//! The order of tiers, and of policies within a tier.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contract::{PolicyId, TierDefault};
use crate::convert;

/// What counts of a tier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TierFact {
    /// Lower first.
    pub(crate) order: Option<f64>,
    pub(crate) default_action: TierDefault,
}

/// The tiers of the cluster. Calico's own are there even when the datastore does not have them (yet). A policy may
/// name a tier that does not exist: it still applies, after all that do, and its tier denies.
#[derive(Debug, Default)]
pub(crate) struct Tiers(BTreeMap<Arc<str>, TierFact>);

/// An order that sorts like the number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order(f64);

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        // Adding zero makes -0 the same as 0.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl Tiers {
    /// Replaces a tier; says whether that changed anything.
    pub(super) fn set(&mut self, name: &str, tier: Option<TierFact>) -> bool {
        let old = match tier {
            Some(tier) => self.0.insert(name.into(), tier),
            None => self.0.remove(name),
        };
        old != tier
    }

    /// Where a tier stands: by order, then by name.
    pub(super) fn place(&self, name: &Arc<str>) -> (Order, Arc<str>) {
        let order =
            self.find(name).map_or(f64::INFINITY, |tier| tier.order.unwrap_or(api::DEFAULT_TIER_ORDER));
        (Order(order), name.clone())
    }

    pub(super) fn default_action(&self, name: &str) -> TierDefault {
        self.find(name).map_or(TierDefault::Deny, |tier| tier.default_action)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn find(&self, name: &str) -> Option<TierFact> {
        self.0.get(name).copied().or_else(|| api::TierSpec::well_known(name).as_ref().map(convert::tier))
    }
}

/// Where a policy stands in its tier: by order, those without last, then by the text `name/namespace/kind`.
pub(super) fn policy_place(order: Option<f64>, id: &PolicyId) -> (Order, String) {
    let namespace = id.namespace.as_deref().unwrap_or_default();
    (Order(order.unwrap_or(f64::INFINITY)), format!("{}/{namespace}/{}", id.name, id.kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_tiers_have_their_place_without_a_row() {
        let tiers = Tiers::default();
        let mut names =
            ["kube-baseline", "default", "nowhere", "kube-admin", "adminnetworkpolicy"].map(Arc::from);
        names.sort_by_key(|name| tiers.place(name));
        let names = names.map(|name| name.to_string());
        assert_eq!(names, ["adminnetworkpolicy", "kube-admin", "default", "kube-baseline", "nowhere"]);
        assert_eq!(tiers.default_action("adminnetworkpolicy"), TierDefault::Pass);
        assert_eq!(tiers.default_action("nowhere"), TierDefault::Deny);
    }

    #[test]
    fn negative_zero_is_zero() {
        assert_eq!(Order(-0.0), Order(0.0));
        assert!(Order(-1.0) < Order(-0.0) && Order(5.0) < Order(f64::INFINITY));
    }
}
