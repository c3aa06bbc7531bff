//! Routes that import policies turned away: remembered so that it can be said why a route is not used.
//!
//! They take no part in anything. Only the first so many of each peer are kept, so that a peer that sends a full table
//! into a filter costs nothing to speak of.

use std::collections::BTreeMap;

use crate::rib::{AttributeSet, Net, PeerNumber};

/// How many are remembered of each peer.
const REMEMBERED: usize = 256;

/// What was turned away in one family.
#[derive(Debug)]
pub(super) struct Rejected<N> {
    routes: BTreeMap<(N, PeerNumber), AttributeSet>,
    counts: BTreeMap<PeerNumber, usize>,
}

impl<N: Net> Default for Rejected<N> {
    fn default() -> Self {
        Self { routes: BTreeMap::new(), counts: BTreeMap::new() }
    }
}

impl<N: Net> Rejected<N> {
    /// A route is turned away, as it came.
    pub(super) fn note(&mut self, prefix: Option<N>, peer: PeerNumber, set: &AttributeSet) {
        let Some(prefix) = prefix else { return };
        let count = self.counts.entry(peer).or_default();
        if let Some(old) = self.routes.get_mut(&(prefix, peer)) {
            *old = set.clone();
        } else if *count < REMEMBERED {
            *count += 1;
            self.routes.insert((prefix, peer), set.clone());
        }
    }

    /// The peer has another route for the prefix, or none.
    pub(super) fn forget(&mut self, prefix: N, peer: PeerNumber) {
        if !self.routes.is_empty() && self.routes.remove(&(prefix, peer)).is_some() {
            self.less(peer);
        }
    }

    /// The peer's session is over.
    pub(super) fn forget_peer(&mut self, peer: PeerNumber) {
        if self.counts.remove(&peer).is_some() {
            self.routes.retain(|(_, other), _| *other != peer);
        }
    }

    fn less(&mut self, peer: PeerNumber) {
        let count = self.counts.entry(peer).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.counts.remove(&peer);
        }
    }

    /// What was turned away for a prefix.
    pub(super) fn of_prefix(&self, prefix: N) -> impl Iterator<Item = (PeerNumber, &AttributeSet)> {
        let range = self.routes.range((prefix, PeerNumber(0))..=(prefix, PeerNumber(u32::MAX)));
        range.map(|((_, peer), set)| (*peer, set))
    }

    /// The prefixes of which something was turned away, in order.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = N> {
        let mut last = None;
        self.routes
            .keys()
            .filter_map(move |(prefix, _)| (last.replace(*prefix) != Some(*prefix)).then_some(*prefix))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::Ipv4Net;

    use super::*;

    fn set() -> AttributeSet {
        AttributeSet::new(Vec::new(), IpAddr::from([10, 0, 0, 2]), None)
    }

    fn prefix(number: usize) -> Ipv4Net {
        Ipv4Net::new(u32::try_from(number << 8).unwrap().into(), 24).unwrap()
    }

    #[test]
    fn a_peer_costs_no_more_than_its_share() {
        let mut rejected = Rejected::default();
        let (one, two) = (PeerNumber(1), PeerNumber(2));
        (0..REMEMBERED * 2).for_each(|number| rejected.note(Some(prefix(number)), one, &set()));
        rejected.note(Some(prefix(0)), two, &set());
        assert_eq!(rejected.routes.len(), REMEMBERED + 1);
        assert_eq!(rejected.of_prefix(prefix(0)).map(|(peer, _)| peer).collect::<Vec<_>>(), [one, two]);
        assert_eq!(rejected.prefixes().count(), REMEMBERED);
        rejected.forget(prefix(0), one);
        rejected.note(Some(prefix(REMEMBERED)), one, &set());
        assert_eq!(rejected.of_prefix(prefix(REMEMBERED)).count(), 1);
        rejected.forget_peer(one);
        rejected.forget(prefix(0), two);
        assert!(rejected.routes.is_empty() && rejected.counts.is_empty());
    }
}
