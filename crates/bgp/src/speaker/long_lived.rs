//! Long-lived graceful restart (RFC 9494): what is kept when graceful restart has waited in vain.
//!
//! ```text
//!   up ──session ends──▶ stale ──restart time──▶ long-lived stale ──stale time──▶ gone
//!    ▲                     │                             │
//!    └────── End-of-RIB ───┴──────── session back ───────┘
//! ```
//!
//! The stale time of a family runs on when the peer comes back, and ends with its End-of-RIB. When the session fails
//! again in between, the time that runs counts for all that is kept.

use std::time::Duration;

use super::family::{FamilyRib, Shared};
use super::{Loss, Peer, PeerNumber, Speaker};
use crate::packet::attribute::Community;
use crate::policy::Attributes;
use crate::rib::{Net, Path};
use crate::session::Ending;
use crate::types::{Family, FamilySet};

impl<N: Net> FamilyRib<N> {
    /// Stale routes of a peer become long-lived stale; those that must not be kept so go.
    fn retire(&mut self, peer: PeerNumber, shared: &mut Shared<'_>) {
        self.finish_removals(peer, shared);
        for (prefix, path) in self.rib.stale_paths(peer) {
            let set = shared.interner.get(path.attributes);
            if set.communities().contains(&Community::NO_LLGR) {
                self.rib.remove(prefix, (peer, path.path_id), shared.sources, shared.interner);
            } else if !set.long_lived_stale {
                let set = set.with_community(Community::LLGR_STALE);
                let attributes = shared.interner.intern(set);
                self.rib.insert(prefix, Path { attributes, ..path }, shared.sources, shared.interner);
            }
        }
    }
}

impl Peer {
    /// How long routes of a family are kept beyond graceful restart; `None`: not at all.
    fn stale_time(&self, family: Family) -> Option<Duration> {
        let asked = *self.agreed.as_ref()?.long_lived.as_ref()?.stale_times.get(&family)?;
        Some(asked.min(self.config.long_lived?.stale_time))
    }

    /// Families whose routes are kept beyond graceful restart.
    fn long_lived_families(&self) -> FamilySet {
        Family::ALL.into_iter().filter(|family| self.stale_time(*family).is_some()).collect()
    }
}

impl Speaker {
    /// A session is down: its routes go, or are kept as stale.
    pub(super) fn down(&mut self, number: PeerNumber, loss: Loss, ending: Ending) {
        self.observe_down(number, ending);
        if self.stopped {
            return;
        }
        let peer = self.peers.get_mut(&number).expect("its session has just acted");
        peer.local = None;
        peer.doubts.clear();
        peer.warned = FamilySet::EMPTY;
        let restart = peer.agreed.as_ref().and_then(|agreed| agreed.graceful_restart.clone());
        let restart = restart.filter(|_| loss != Loss::ForGood);
        let short = restart.as_ref().map(|restart| restart.families).unwrap_or_default();
        let long = restart.as_ref().map(|_| peer.long_lived_families()).unwrap_or_default();
        peer.stale_until = restart.as_ref().map(|restart| self.now + restart.restart_time);
        let mut losses = [Loss::ForGood; 2];
        for (family, loss_of) in Family::ALL.into_iter().zip(&mut losses) {
            // What is kept for long already is not swept because the session came up for a moment.
            let runs = peer.long_lived_until.contains_key(&family);
            *loss_of = match short.contains(family) || long.contains(family) {
                true if runs => Loss::Collision,
                true => loss,
                false => Loss::ForGood,
            };
            if *loss_of == Loss::ForGood {
                peer.long_lived_until.remove(&family);
            }
        }
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.end_session(number, losses[0], shared);
        self.ipv6.end_session(number, losses[1], shared);
        // RFC 9494, section 4.2: without a restart time, for all or for a family, the long time begins at once.
        let at_once = restart.is_some_and(|restart| restart.restart_time.is_zero());
        for family in long.iter().filter(|family| at_once || !short.contains(*family)) {
            self.retire(number, family);
        }
    }

    /// The time for which stale routes were to be kept is over: they go, or become long-lived stale.
    pub(super) fn stale_time_over(&mut self, number: PeerNumber) {
        let peer = self.peers.get_mut(&number).expect("the caller has it");
        peer.stale_until = None;
        let is_back = peer.session.negotiated().is_some();
        let long = if is_back { FamilySet::EMPTY } else { peer.long_lived_families() };
        for family in Family::ALL {
            match long.contains(family) {
                true => self.retire(number, family),
                false => self.sweep(number, &[family]),
            }
        }
    }

    fn retire(&mut self, number: PeerNumber, family: Family) {
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        match family {
            Family::Ipv4Unicast => self.ipv4.retire(number, shared),
            Family::Ipv6Unicast => self.ipv6.retire(number, shared),
        }
        let peer = self.peers.get_mut(&number).expect("the caller has it");
        let time = peer.stale_time(family).expect("only such families retire");
        peer.long_lived_until.entry(family).or_insert(self.now + time);
    }

    /// Long-lived stale routes whose time is over go.
    pub(super) fn check_long_lived(&mut self, number: PeerNumber) {
        let peer = self.peers.get_mut(&number).expect("the caller has it");
        let due = |until: &std::time::Instant| *until <= self.now;
        let over: Vec<Family> =
            peer.long_lived_until.iter().filter(|(_, until)| due(until)).map(|(family, _)| *family).collect();
        peer.long_lived_until.retain(|family, _| !over.contains(family));
        self.sweep(number, &over);
    }
}
