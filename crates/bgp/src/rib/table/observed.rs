//! What monitoring stations are to be told of, while there are any.

use std::collections::BTreeSet;

use super::{PeerNumber, Rib};
use crate::rib::net::Net;

/// What observers are to be told of: changes of the routes of some peers, and of what is selected.
#[derive(Debug)]
pub(super) struct Observed<N> {
    /// Whose routes are looked at.
    pub(super) peers: BTreeSet<PeerNumber>,
    pub(super) routes: Vec<Touched<N>>,
    /// Prefixes for which something else may be selected.
    pub(super) selected: Vec<N>,
}

/// A route that has come, changed or gone: its prefix, peer and path identifier.
pub(crate) type Touched<N> = (N, PeerNumber, u32);

impl<N> Default for Observed<N> {
    fn default() -> Self {
        Self { peers: BTreeSet::new(), routes: Vec::new(), selected: Vec::new() }
    }
}

impl<N: Net> Rib<N> {
    /// Whether changes of a peer's routes are noted for observers, while there are any.
    pub(crate) fn observe_peer(&mut self, peer: PeerNumber, observes: bool) {
        if let Some(observed) = &mut self.observed {
            match observes {
                true => observed.peers.insert(peer),
                false => observed.peers.remove(&peer),
            };
        }
    }

    /// What observers are to be told of since the last call: routes, of which the same may be there often, and prefixes
    /// for which something else may be selected.
    pub(crate) fn take_observed(&mut self) -> (Vec<Touched<N>>, Vec<N>) {
        let taken = |observed: &mut Box<Observed<N>>| {
            (std::mem::take(&mut observed.routes), std::mem::take(&mut observed.selected))
        };
        self.observed.as_mut().map(taken).unwrap_or_default()
    }

    /// Somebody observes from now on, or nobody does any more.
    pub(crate) fn observe(&mut self, observes: bool) {
        match observes {
            true => drop(self.observed.get_or_insert_default()),
            false => self.observed = None,
        }
    }

    /// Has observers told of a route.
    pub(crate) fn touch(&mut self, prefix: N, peer: PeerNumber, path_id: u32) {
        if let Some(observed) = &mut self.observed
            && observed.peers.contains(&peer)
        {
            observed.routes.push((prefix, peer, path_id));
        }
    }
}
