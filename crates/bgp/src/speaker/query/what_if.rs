//! What would change, if: worked out prefix by prefix on copies of its routes. The speaker itself is not touched.
//!
//! A [`Future`] has the peers, sources and policies as they would be. For each prefix that this concerns, the routes that
//! there would be are put together and selected among as the tables do it, and what each update group would be told is
//! exported as the groups do it. Restarts are left out: it is the state in which everything ends that is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::cursor::Cursor;
use super::future::{Audiences, Future, Outcome};
use super::view::RouteView;
use super::{EXAMINED, PeerError, WEIGHT};
use crate::config::SpeakerConfig;
use crate::rib::{
    AttributeSet, Audience, Best, GroupKey, Interner, Net, PeerNumber, Selected, Slot, exported,
};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;
use crate::types::{Family, PeerId};

/// Something that could happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hypothesis {
    /// The sessions with these peers are lost for good.
    Down(BTreeSet<PeerId>),
    /// The speaker is configured so.
    Configured(Box<SpeakerConfig>),
}

/// A page of what would change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WhatIfPage {
    /// What would happen to sessions; on the first page.
    pub sessions: Vec<SessionChange>,
    /// Prefixes for which other routes would be used.
    pub changes: Vec<RouteChange>,
    /// What each established or new peer would be told, as far as this page goes.
    pub told: BTreeMap<PeerId, ToldChange>,
    /// Prefixes that were looked at.
    pub examined: usize,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// What would happen to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionChange {
    /// The peer.
    pub peer: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// What, in order.
    pub events: Vec<SessionEvent>,
}

/// Something that would happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionEvent {
    /// It is lost.
    Lost,
    /// The peer is new.
    Added,
    /// The peer is gone from the configuration.
    Removed,
    /// It is closed and opened again.
    Reset,
    /// The peer is asked for its routes again, because import changes.
    ImportChanged,
    /// The peer is told the difference, because export changes.
    ExportChanged,
}

impl std::fmt::Display for SessionEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Added => "new",
            Self::Removed => "removed",
            Self::Reset => "reset",
            Self::ImportChanged => "import changes",
            Self::ExportChanged => "export changes",
        })
    }
}

/// What would happen to the routes that are used for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// The prefix.
    pub prefix: IpNet,
    /// What is used now: the best route, and those beside it.
    pub before: Vec<RouteView>,
    /// What would be.
    pub after: Vec<RouteView>,
}

/// Of how many prefixes a peer would be told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToldChange {
    /// It would get them.
    pub announced: u64,
    /// It would get them with other attributes.
    pub changed: u64,
    /// They would be withdrawn from it.
    pub withdrawn: u64,
}

impl Speaker {
    /// What would change, from a place on.
    ///
    /// # Errors
    /// A peer that is to go down does not exist.
    pub fn what_if(&self, hypothesis: &Hypothesis, from: Cursor) -> Result<WhatIfPage, PeerError> {
        if let Hypothesis::Down(peers) = hypothesis {
            for peer in peers {
                self.number(&peer.0)?;
            }
        }
        let future = Future::new(self, hypothesis);
        let mut page = WhatIfPage::default();
        if from == Cursor::START {
            page.sessions = future.session_changes();
        }
        let mut work = Work { speaker: self, future: &future, page: &mut page, weight: 0 };
        let next = work.run(from);
        page.next = next;
        Ok(page)
    }
}

struct Work<'a, 'b> {
    speaker: &'a Speaker,
    future: &'b Future<'a>,
    page: &'b mut WhatIfPage,
    weight: usize,
}

impl Work<'_, '_> {
    fn run(&mut self, from: Cursor) -> Option<Cursor> {
        let (ipv4, ipv6) = (&self.speaker.ipv4, &self.speaker.ipv6);
        let (told4, told6) = (self.future.audiences(ipv4), self.future.audiences(ipv6));
        if (from.family, from.slot) == (Family::Ipv4Unicast, Slot::FIRST) {
            let additional = self.future.additional_prefixes();
            for (index, prefix) in additional.iter().enumerate().skip(from.skip) {
                if self.is_full() {
                    return Some(Cursor::at(Family::Ipv4Unicast, Slot::FIRST, index));
                }
                match prefix {
                    IpNet::V4(net) => self.examine(ipv4, *net, &told4),
                    IpNet::V6(net) => self.examine(ipv6, *net, &told6),
                }
            }
        }
        if from.family == Family::Ipv4Unicast {
            let next = self.table(ipv4, from.slot, &told4);
            if next.is_some() {
                return next;
            }
        }
        self.table(ipv6, from.slot_in(Family::Ipv6Unicast), &told6)
    }

    fn is_full(&self) -> bool {
        self.page.examined >= EXAMINED || self.weight >= WEIGHT / 2
    }

    fn table<N: Net>(&mut self, family: &FamilyRib<N>, from: Slot, audiences: &Audiences) -> Option<Cursor> {
        for (slot, prefix) in family.rib.prefixes_from(from) {
            if self.is_full() {
                // At the very first place, what is not in the table has been looked at.
                return Some(Cursor::at(N::FAMILY, slot, if slot == Slot::FIRST { usize::MAX } else { 0 }));
            }
            self.examine(family, prefix, audiences);
        }
        None
    }

    fn examine<N: Net>(&mut self, family: &FamilyRib<N>, prefix: N, audiences: &Audiences) {
        self.page.examined += 1;
        let concerned = self.future.concerns(prefix.into(), &family.rib.routes(prefix).paths);
        let exports_change = || audiences.iter().any(|((old, new), _)| old != new);
        if !concerned && !exports_change() {
            return;
        }
        let before = family.rib.selected(prefix, &self.speaker.sources);
        let after = self.future.outcome(family, prefix);
        self.compare_used(prefix.into(), &before, &after);
        self.compare_told(prefix, &before, &after, audiences);
    }

    fn compare_used<N: Net>(&mut self, prefix: IpNet, before: &Selected, after: &Outcome<N>) {
        let view =
            |best: &Best, interner: &Interner| self.future.view(prefix, best, interner.get(best.attributes));
        let before: Vec<RouteView> = before.used().map(|best| view(best, &self.speaker.interner)).collect();
        let after: Vec<RouteView> = after.selected.used().map(|best| view(best, &after.interner)).collect();
        if before == after {
            return;
        }
        self.weight += before.iter().chain(&after).map(RouteView::weight).sum::<usize>();
        self.page.changes.push(RouteChange { prefix, before, after });
    }

    fn compare_told<N: Net>(
        &mut self,
        prefix: N,
        before: &Selected,
        after: &Outcome<N>,
        audiences: &Audiences,
    ) {
        for ((old, new), members) in audiences {
            let had = going(prefix, before, old.as_ref(), &self.speaker.interner);
            let gets = going(prefix, &after.selected, new.as_ref(), &after.interner);
            for member in members {
                self.note(*member, &had, &gets);
            }
        }
    }

    fn note(
        &mut self,
        member: PeerNumber,
        had: &[(Audience, AttributeSet)],
        gets: &[(Audience, AttributeSet)],
    ) {
        let for_it = |routes: &[(Audience, AttributeSet)]| -> Vec<AttributeSet> {
            routes
                .iter()
                .filter(|(audience, _)| audience.includes(member))
                .map(|(_, set)| set.clone())
                .collect()
        };
        let (had, gets) = (for_it(had), for_it(gets));
        if had == gets {
            return;
        }
        let Some(peer) = self.future.peers.get(&member) else { return };
        let told = self.page.told.entry(peer.id.clone()).or_default();
        match (had.is_empty(), gets.is_empty()) {
            (true, _) => told.announced += 1,
            (_, true) => told.withdrawn += 1,
            _ => told.changed += 1,
        }
    }
}

/// The routes that go to a group, with whom they are for.
fn going<N: Net>(
    prefix: N,
    selected: &Selected,
    key: Option<&GroupKey>,
    interner: &Interner,
) -> Vec<(Audience, AttributeSet)> {
    let Some(key) = key else { return Vec::new() };
    let routes = key.routes(selected);
    routes
        .filter_map(|best| Some((key.audience(best), exported(prefix, best, key, interner).ok()?)))
        .collect()
}
