//! Routes as they came, where what is kept of them in the table is something else.
//!
//! The table has routes as the import policy leaves them, and none that it turns away. Whoever wants Adj-RIB-In before the
//! policy gets it from the table and from here: only the differences are kept, and only while a station asks for them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::rib::{AttributeId, Interner, Net, PeerNumber};

/// A route as it came. Owns a use of its attributes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Original {
    pub(super) attributes: AttributeId,
    /// The table has none of the peer with this name: the policy has turned it away.
    pub(super) rejected: bool,
    /// From before the peer's route refresh.
    stale: bool,
}

/// The routes of a family.
#[derive(Debug)]
pub(super) struct Originals<N> {
    of: BTreeMap<PeerNumber, OfPeer<N>>,
}

#[derive(Debug)]
struct OfPeer<N> {
    /// By prefix and path identifier.
    routes: BTreeMap<(N, u32), Original>,
    rejected: usize,
}

impl<N> Default for OfPeer<N> {
    fn default() -> Self {
        Self { routes: BTreeMap::new(), rejected: 0 }
    }
}

impl<N> Default for Originals<N> {
    fn default() -> Self {
        Self { of: BTreeMap::new() }
    }
}

impl<N: Net> Originals<N> {
    /// A route differs from what came. The caller keeps its own use of the attributes.
    pub(super) fn put(
        &mut self,
        peer: PeerNumber,
        name: (N, u32),
        attributes: AttributeId,
        rejected: bool,
        interner: &mut Interner,
    ) {
        interner.retain(attributes);
        let of_peer = self.of.entry(peer).or_default();
        of_peer.rejected += usize::from(rejected);
        if let Some(old) = of_peer.routes.insert(name, Original { attributes, rejected, stale: false }) {
            of_peer.rejected -= usize::from(old.rejected);
            interner.release(old.attributes);
        }
    }

    /// A route is what it came as, or is gone. Whether there was a difference.
    pub(super) fn remove(&mut self, peer: PeerNumber, name: (N, u32), interner: &mut Interner) -> bool {
        let Some(of_peer) = self.of.get_mut(&peer) else { return false };
        let Some(old) = of_peer.routes.remove(&name) else { return false };
        of_peer.rejected -= usize::from(old.rejected);
        interner.release(old.attributes);
        if of_peer.routes.is_empty() {
            self.of.remove(&peer);
        }
        true
    }

    /// The peer's session is over.
    pub(super) fn forget_peer(&mut self, peer: PeerNumber, interner: &mut Interner) {
        let of_peer = self.of.remove(&peer).unwrap_or_default();
        of_peer.routes.values().for_each(|original| interner.release(original.attributes));
    }

    /// Nobody asks any more.
    pub(super) fn clear(&mut self, interner: &mut Interner) {
        let peers: Vec<PeerNumber> = self.of.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.forget_peer(peer, interner));
    }

    /// The peer begins to say its routes again.
    pub(super) fn mark_stale(&mut self, peer: PeerNumber) {
        let routes = self.of.get_mut(&peer).into_iter().flat_map(|of_peer| of_peer.routes.values_mut());
        routes.for_each(|original| original.stale = true);
    }

    /// The peer has said all its routes again: what it has not said is gone. Their names.
    pub(super) fn sweep(&mut self, peer: PeerNumber, interner: &mut Interner) -> Vec<(N, u32)> {
        let routes = self.of.get(&peer).into_iter().flat_map(|of_peer| &of_peer.routes);
        let gone: Vec<(N, u32)> =
            routes.filter(|(_, original)| original.stale).map(|(name, _)| *name).collect();
        for name in &gone {
            self.remove(peer, *name, interner);
        }
        gone
    }

    /// A route as it came, if that is not what the table has.
    pub(super) fn get(&self, peer: PeerNumber, name: (N, u32)) -> Option<&Original> {
        self.of.get(&peer)?.routes.get(&name)
    }

    /// How many routes of a peer the table does not have.
    pub(super) fn rejected(&self, peer: PeerNumber) -> usize {
        self.of.get(&peer).map_or(0, |of_peer| of_peer.rejected)
    }

    /// Routes that the table does not have, behind a place.
    pub(super) fn rejected_after(
        &self,
        place: Option<(PeerNumber, (N, u32))>,
    ) -> impl Iterator<Item = (PeerNumber, (N, u32), AttributeId)> {
        let first = place.map_or(Bound::Unbounded, |(peer, _)| Bound::Included(peer));
        let of_peers = self.of.range::<PeerNumber, _>((first, Bound::Unbounded));
        let all = of_peers.flat_map(move |(peer, of_peer)| {
            let from = place.filter(|(other, _)| other == peer);
            let from = from.map_or(Bound::Unbounded, |(_, name)| Bound::Excluded(name));
            let routes = of_peer.routes.range::<(N, u32), _>((from, Bound::Unbounded));
            routes.map(move |(name, original)| (*peer, *name, original))
        });
        let rejected = all.filter(|(.., original)| original.rejected);
        rejected.map(|(peer, name, original)| (peer, name, original.attributes))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::Ipv4Net;

    use super::*;
    use crate::rib::AttributeSet;

    fn name(last: u8) -> (Ipv4Net, u32) {
        (Ipv4Net::new([10, 0, last, 0].into(), 24).unwrap(), 0)
    }

    #[test]
    fn uses_of_attributes_are_given_back() {
        let (mut originals, mut interner) = (Originals::default(), Interner::new(1));
        let set = AttributeSet::new(Vec::new(), IpAddr::from([10, 0, 0, 2]), None);
        let (id, one, two) = (interner.intern(set), PeerNumber(1), PeerNumber(2));
        for (peer, last, rejected) in
            [(one, 1, true), (one, 2, false), (one, 1, true), (one, 3, true), (two, 1, true)]
        {
            originals.put(peer, name(last), id, rejected, &mut interner);
        }
        interner.release(id);
        assert_eq!((originals.rejected(one), originals.rejected(two)), (2, 1));
        let names =
            |place| originals.rejected_after(place).map(|(peer, name, _)| (peer, name)).collect::<Vec<_>>();
        assert_eq!(names(None), [(one, name(1)), (one, name(3)), (two, name(1))]);
        assert_eq!(names(Some((one, name(1)))), [(one, name(3)), (two, name(1))]);
        assert_eq!(names(Some((one, name(9)))), [(two, name(1))]);
        originals.mark_stale(one);
        originals.put(one, name(3), id, false, &mut interner);
        assert_eq!(originals.sweep(one, &mut interner), [name(1), name(2)]);
        assert_eq!(originals.rejected(one), 0);
        assert!(
            originals.remove(one, name(3), &mut interner) && !originals.remove(one, name(3), &mut interner)
        );
        assert_eq!(interner.len(), 1);
        originals.clear(&mut interner);
        assert!(interner.is_empty());
    }
}
