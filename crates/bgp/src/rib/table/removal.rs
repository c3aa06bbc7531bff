//! Routes of peers that go, piece by piece.

use super::{Paths, PeerNumber, Rib, Sources};
use crate::rib::interner::Interner;
use crate::rib::net::Net;

/// The routes of a peer are on their way out.
#[derive(Debug)]
pub(super) struct Removal {
    peer: PeerNumber,
    stale_only: bool,
    next: u32,
}

impl<N: Net> Rib<N> {
    /// All routes of a peer go, or the stale ones: piece by piece, with [`Rib::advance_removals`].
    pub fn begin_removal(&mut self, peer: PeerNumber, stale_only: bool) {
        let count = self.count(peer);
        if (if stale_only { count.stale } else { count.routes }) > 0 {
            self.removals.push_back(Removal { peer, stale_only, next: 0 });
        }
    }

    /// Looks at so many places for routes that are on their way out.
    pub fn advance_removals(&mut self, places: u32, sources: &Sources, interner: &mut Interner) {
        let Some(mut removal) = self.removals.pop_front() else { return };
        let end = u32::try_from(self.entries.len()).expect("fewer than 2^32 prefixes");
        let until = end.min(removal.next.saturating_add(places));
        for slot in removal.next..until {
            self.remove_of_peer(slot, &removal, sources, interner);
        }
        removal.next = until;
        let count = self.count(removal.peer);
        let left = if removal.stale_only { count.stale } else { count.routes };
        if until < end && left > 0 {
            self.removals.push_front(removal);
        }
    }

    fn remove_of_peer(&mut self, slot: u32, removal: &Removal, sources: &Sources, interner: &mut Interner) {
        let goes = |peer: PeerNumber, stale: bool| peer == removal.peer && (stale || !removal.stale_only);
        match self.entries[slot as usize].paths {
            Paths::None => {}
            Paths::One { peer, stale, .. } => {
                if goes(peer, stale) {
                    self.remove_at(slot, (peer, 0), sources, interner);
                }
            }
            Paths::Many(many) => {
                let routes = self.many[many as usize].routes().paths;
                for path in routes.into_iter().filter(|path| goes(path.peer, path.stale)) {
                    self.remove_at(slot, (path.peer, path.path_id), sources, interner);
                }
            }
        }
    }

    /// Whether routes are on their way out.
    pub fn has_removals(&self) -> bool {
        !self.removals.is_empty()
    }

    /// Removes at once what is on its way out of a peer's routes.
    pub fn finish_removals(&mut self, peer: PeerNumber, sources: &Sources, interner: &mut Interner) {
        let (of_peer, others) = std::mem::take(&mut self.removals).into_iter().partition(|r| r.peer == peer);
        self.removals = of_peer;
        while self.has_removals() {
            self.advance_removals(u32::MAX, sources, interner);
        }
        self.removals = others;
    }
}
