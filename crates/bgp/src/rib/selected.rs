//! What is selected of the routes for a prefix.

use super::best_path::SourceKind;
use super::interner::{AttributeId, Interner};
use super::table::PeerNumber;
use crate::types::RouterId;

/// The rank of routes that only peers get that want all.
pub(crate) const UNRANKED: u8 = u8::MAX;

/// A selected route at some moment. Whoever keeps one owns a use of its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best {
    /// Whose.
    pub peer: PeerNumber,
    /// Its attributes.
    pub attributes: AttributeId,
    /// What the peer was to us.
    pub kind: SourceKind,
    /// The peer's identifier.
    pub router_id: RouterId,
    /// Our path identifier for it (RFC 7911): unique among the routes for its prefix, and the same as long as the
    /// peer's route is there.
    pub path_id: u32,
    /// 1 for the best route, 2 for the best of the others, and so on.
    pub rank: u8,
    /// It is used together with the best one.
    pub multipath: bool,
    /// It is the best of those with its next hop; looked at only for peers that take one of each, like the next.
    pub leads: bool,
    /// The peer that it is for because that has sent the one that leads; [`PeerNumber::LOCAL`]: there is none.
    pub instead_for: PeerNumber,
}

/// The selected routes for a prefix at some moment: the best one, those used together with it, and those that only
/// add-path peers get. Mostly there is only the best.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selected {
    pub(super) best: Option<Best>,
    pub(super) others: Option<Box<[Best]>>,
}

impl Selected {
    /// The best route.
    pub fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }

    /// All of them, the best first.
    pub fn iter(&self) -> impl Iterator<Item = &Best> {
        self.best.iter().chain(self.others.iter().flatten())
    }

    /// The best route and those that are used together with it.
    pub fn used(&self) -> impl Iterator<Item = &Best> {
        self.best.iter().chain(self.others.iter().flatten().filter(|other| other.multipath))
    }

    /// Takes a use of everything.
    pub(crate) fn retain(&self, interner: &mut Interner) {
        self.iter().for_each(|route| interner.retain(route.attributes));
    }

    /// Gives the uses back.
    pub(crate) fn release(&self, interner: &mut Interner) {
        self.iter().for_each(|route| interner.release(route.attributes));
    }
}
