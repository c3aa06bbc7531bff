//! What a policy makes of a route.

use ipnet::IpNet;

use super::trace::Mismatch;
use super::{
    Actions, AnyCommunity, InterfacePattern, Match, Policy, PriorityMatch, Route, Verdict, mirrored,
};
use crate::types::Family;

/// The rules that change a route, in order: indexes into [`Policy::rules`]. Small, and empty for most routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Applied(Vec<u16>);

impl Applied {
    /// Whether the route passes unchanged.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Policy {
    /// What becomes of a route: `None` when it is rejected, else the rules whose changes it gets.
    pub fn evaluate(&self, route: &Route<'_>) -> Option<Applied> {
        let mut applied = Applied::default();
        for (index, rule) in self.rules.iter().enumerate() {
            if self.mismatch(&rule.when, route, &applied).is_some() {
                continue;
            }
            if rule.verdict == Some(Verdict::Reject) {
                return None;
            }
            self.note(index, &mut applied);
            if rule.verdict.is_some() {
                return Some(applied);
            }
        }
        (self.otherwise == Verdict::Accept).then_some(applied)
    }

    /// The changes of some rules as one.
    pub fn changes(&self, applied: &Applied) -> Actions {
        let mut changes = Actions::default();
        applied.0.iter().for_each(|index| changes.extend(&self.rules[usize::from(*index)].set));
        changes
    }

    /// Notes that a rule's changes are made. (A policy has fewer rules than a `u16` counts: resources are far smaller.)
    pub(super) fn note(&self, index: usize, applied: &mut Applied) {
        if let (false, Ok(index)) = (self.rules[index].set.is_empty(), u16::try_from(index)) {
            applied.0.push(index);
        }
    }

    /// Why a route, changed by some rules, does not match; `None`: it does.
    pub(super) fn mismatch(&self, when: &Match, route: &Route<'_>, applied: &Applied) -> Option<Mismatch> {
        if when.family.is_some_and(|family| family != Family::of(&route.prefix)) {
            return Some(Mismatch::Family);
        }
        if when.prefix.as_ref().is_some_and(|condition| !condition.matches(&route.prefix)) {
            return Some(Mismatch::Prefix);
        }
        if when.peer.is_some_and(|kind| route.peer != Some(kind)) {
            return Some(Mismatch::PeerType(route.peer));
        }
        if when.source.is_some_and(|source| source != route.source) {
            return Some(Mismatch::Source);
        }
        if !when.interfaces.is_empty() && !is_one_of(route.interface.unwrap_or_default(), &when.interfaces) {
            return Some(Mismatch::Interface);
        }
        if when.next_hop.is_some() && !has_next_hop(when, route) {
            return Some(Mismatch::NextHop(route.next_hop));
        }
        if let Some(wanted) = when.priority {
            let priority = self.priority(route, applied);
            if !priority.is_some_and(|priority| wanted.matches(priority)) {
                return Some(Mismatch::Priority(priority));
            }
        }
        if when.community.is_some_and(|community| !self.has_community(community, route, applied)) {
            return Some(Mismatch::Community);
        }
        let begins = || self.as_path_begins(&when.as_path_prefix, route, applied);
        (!when.as_path_prefix.is_empty() && !begins()).then_some(Mismatch::AsPath)
    }

    fn priority(&self, route: &Route<'_>, applied: &Applied) -> Option<u32> {
        let mut changed = applied.0.iter().rev().map(|index| self.rules[usize::from(*index)].set.local_pref);
        changed.find_map(|change| change).or_else(|| route.attributes.local_pref()).map(mirrored)
    }

    fn has_community(&self, wanted: AnyCommunity, route: &Route<'_>, applied: &Applied) -> bool {
        let mut changes = applied.0.iter().map(|index| &self.rules[usize::from(*index)].set);
        match wanted {
            AnyCommunity::Standard(community) => {
                changes.any(|set| set.add_communities.contains(&community))
                    || route.attributes.communities().contains(&community)
            }
            AnyCommunity::Large(community) => {
                changes.any(|set| set.add_large_communities.contains(&community))
                    || route.attributes.large_communities().contains(&community)
            }
        }
    }

    fn as_path_begins(&self, wanted: &[crate::types::Asn], route: &Route<'_>, applied: &Applied) -> bool {
        let mut path = self.changes(applied).prepend;
        path.extend(route.attributes.as_path());
        path.starts_with(wanted)
    }
}

fn has_next_hop(when: &Match, route: &Route<'_>) -> bool {
    let Some(condition) = &when.next_hop else { return true };
    route.next_hop.is_some_and(|address| condition.matches(&IpNet::from(address)))
}

fn is_one_of(name: &str, patterns: &[InterfacePattern]) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

impl PriorityMatch {
    /// Whether a priority matches.
    pub fn matches(self, priority: u32) -> bool {
        match self {
            Self::Exactly(wanted) => priority == wanted,
            Self::BetterThan(limit) => priority < limit,
        }
    }
}

impl InterfacePattern {
    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let parts: Vec<&str> = parts.collect();
        let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
        for part in middle {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl From<&str> for InterfacePattern {
    fn from(pattern: &str) -> Self {
        Self(pattern.into())
    }
}
