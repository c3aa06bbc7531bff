//! How many routes of each peer are best, and how many it has been told: counted over the whole table, page by page.

use std::collections::BTreeMap;

use super::EXAMINED;
use super::cursor::Cursor;
use crate::rib::{Audience, Belief, GroupKey, Net, PeerNumber, Selected, Slot, goes_to};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;
use crate::types::{Family, PeerId};

/// Counts by peer and family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    best: BTreeMap<(PeerNumber, Family), u64>,
    told: BTreeMap<(PeerNumber, Family), u64>,
}

impl Tally {
    /// Prefixes of a family whose best route is the peer's. It must have been counted for this peer.
    pub fn best(&self, speaker: &Speaker, peer: &PeerId, family: Family) -> u64 {
        count(&self.best, speaker, peer, family)
    }

    /// Prefixes of a family that the peer has been told.
    pub fn told(&self, speaker: &Speaker, peer: &PeerId, family: Family) -> u64 {
        count(&self.told, speaker, peer, family)
    }
}

fn count(
    counts: &BTreeMap<(PeerNumber, Family), u64>,
    speaker: &Speaker,
    peer: &PeerId,
    family: Family,
) -> u64 {
    let number = speaker.numbers.get(peer);
    number.and_then(|number| counts.get(&(*number, family))).copied().unwrap_or_default()
}

impl Speaker {
    /// Counts a page of the tables on top of what was counted so far; where the next page begins, or `None` when all is
    /// counted. Routes that change between two pages may be counted as they were or as they are.
    pub fn tally(&self, from: Cursor, tally: &mut Tally) -> Option<Cursor> {
        match from.family {
            Family::Ipv4Unicast => {
                self.tally_in(&self.ipv4, from, tally).or(Some(Cursor::start_of(Family::Ipv6Unicast)))
            }
            Family::Ipv6Unicast => self.tally_in(&self.ipv6, from, tally),
        }
    }

    fn tally_in<N: Net>(&self, family: &FamilyRib<N>, from: Cursor, tally: &mut Tally) -> Option<Cursor> {
        let groups: Vec<(&GroupKey, Vec<PeerNumber>)> =
            family.groups.iter().map(|(key, members)| (key, members.collect())).collect();
        // A page is work for each group; with many groups it has fewer prefixes.
        let room = (EXAMINED / groups.len().max(1)).max(64);
        let mut prefixes = family.rib.prefixes_from(from.slot);
        for (slot, prefix) in prefixes.by_ref().take(room) {
            let selected = family.rib.selected_at(slot, &self.sources);
            if let Some(best) = selected.best() {
                *tally.best.entry((best.peer, N::FAMILY)).or_default() += 1;
            }
            for (key, members) in &groups {
                let told = self.told_members(family, (slot, prefix), &selected, key, members);
                told.for_each(|member| *tally.told.entry((member, N::FAMILY)).or_default() += 1);
            }
        }
        prefixes.next().map(|(slot, _)| Cursor::at(N::FAMILY, slot, 0))
    }

    /// The members of a group that have been told of a prefix.
    fn told_members<'a, N: Net>(
        &'a self,
        family: &'a FamilyRib<N>,
        (slot, prefix): (Slot, N),
        selected: &'a Selected,
        key: &'a GroupKey,
        members: &'a [PeerNumber],
    ) -> impl Iterator<Item = PeerNumber> + 'a {
        // What goes to the group is worked out once, whose it is decides for each member.
        let audiences = move |selected: &Selected| -> Vec<Audience> {
            let going =
                key.routes(selected).filter(|best| goes_to(prefix, best, key, &self.interner).is_ok());
            going.map(|best| key.audience(best)).collect()
        };
        let current = audiences(selected);
        members.iter().copied().filter(move |member| match family.groups.belief(*member, prefix, slot) {
            Belief::NotYet => false,
            Belief::UpToDate => current.iter().any(|audience| audience.includes(*member)),
            Belief::Outdated(before) => audiences(before).iter().any(|audience| audience.includes(*member)),
        })
    }
}
