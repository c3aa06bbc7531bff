//! What a station has been told, and what it is still to be told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::{Ipv4Net, Ipv6Net};

use super::batch::{Batch, Table, form};
use super::headers::Scene;
use crate::config::{StationConfig, StationView};
use crate::observe::Timestamp;
use crate::observe::bmp::route_monitoring;
use crate::packet::update::end_of_rib;
use crate::rib::{AttributeId, Net, PeerNumber, Slot, Touched};
use crate::session::Ending;
use crate::speaker::family::FamilyRib;
use crate::types::Family;

/// Routes that are told at a time.
const PIECE: usize = 2048;
/// Places of a table that are looked at for them.
const PLACES: usize = 8192;

/// Of a connected station.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Peers whose sessions it knows to be up.
    known: BTreeSet<PeerNumber>,
    pub(super) ipv4: Progress<Ipv4Net>,
    pub(super) ipv6: Progress<Ipv6Net>,
    statistics_at: Option<Instant>,
}

/// Of one family.
#[derive(Debug)]
pub(super) struct Progress<N> {
    first: First<N>,
    /// Routes behind that place that have changed.
    changed: BTreeSet<Touched<N>>,
    /// Prefixes behind it for which something else is selected, perhaps.
    selected: BTreeSet<N>,
    /// Peers whose End-of-RIB is due when nothing of the above is left.
    ends: BTreeSet<PeerNumber>,
    loc_rib_ends: bool,
}

/// How far the first transfer has got.
#[derive(Debug, Clone, Copy)]
enum First<N> {
    /// Everything before this place of the table is told.
    Table(Slot),
    /// The table is told, and what the policy turned away up to this place.
    Rejected(Option<(PeerNumber, (N, u32))>),
    Done,
}

impl<N> Default for Progress<N> {
    fn default() -> Self {
        Self {
            first: First::Table(Slot::FIRST),
            changed: BTreeSet::new(),
            selected: BTreeSet::new(),
            ends: BTreeSet::new(),
            loc_rib_ends: false,
        }
    }
}

impl Feed {
    /// The connection has come up.
    pub(super) fn begin(&mut self, config: &StationConfig, now: Instant) {
        let has_loc_rib = config.views.contains(&StationView::LocRib);
        (self.ipv4.loc_rib_ends, self.ipv6.loc_rib_ends) = (has_loc_rib, has_loc_rib);
        self.statistics_at = config.statistics.map(|every| now + every);
    }

    /// How many changes wait.
    pub(super) fn waiting(&self) -> usize {
        self.ipv4.waiting() + self.ipv6.waiting()
    }

    pub(super) fn statistics_at(&self) -> Option<Instant> {
        self.statistics_at
    }

    /// Whether a report is due; the next is then, too.
    pub(super) fn statistics_due(&mut self, every: Option<Duration>, now: Instant) -> bool {
        let due = self.statistics_at.is_some_and(|at| at <= now);
        if due {
            self.statistics_at = every.map(|every| now + every);
        }
        due
    }

    /// The peers that are known to be up.
    pub(super) fn known(&self) -> impl Iterator<Item = PeerNumber> {
        self.known.iter().copied()
    }

    /// A session is up. `before`: it was when the station came, so its End-of-RIB is ours to say.
    pub(super) fn peer_up(&mut self, number: PeerNumber, before: bool, scene: &Scene<'_>, out: &mut Vec<u8>) {
        let Some(message) = scene.peer_up(number) else { return };
        message.encode(out);
        self.known.insert(number);
        if before {
            Family::ALL.into_iter().for_each(|family| self.end_of_rib(number, family));
        }
    }

    /// A session is down, and with it all its routes.
    pub(super) fn peer_down(
        &mut self,
        number: PeerNumber,
        ending: &Ending,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) {
        if !self.known.remove(&number) {
            return;
        }
        self.ipv4.forget(number);
        self.ipv6.forget(number);
        if let Some(message) = scene.peer_down(number, ending) {
            message.encode(out);
        }
    }

    /// A peer has said all its routes of a family.
    pub(super) fn end_of_rib(&mut self, number: PeerNumber, family: Family) {
        if self.known.contains(&number) {
            match family {
                Family::Ipv4Unicast => self.ipv4.ends.insert(number),
                Family::Ipv6Unicast => self.ipv6.ends.insert(number),
            };
        }
    }

    /// Appends a piece of what is to be told; false when there is nothing.
    pub(super) fn advance(
        &mut self,
        views: &BTreeSet<StationView>,
        scene: &Scene<'_>,
        ipv4: &FamilyRib<Ipv4Net>,
        ipv6: &FamilyRib<Ipv6Net>,
        out: &mut Vec<u8>,
    ) -> bool {
        let known = &self.known;
        let v4 = self.ipv4.advance(&Telling { family: ipv4, views, scene, known }, out);
        let v6 = self.ipv6.advance(&Telling { family: ipv6, views, scene, known }, out);
        v4 || v6
    }
}

/// What is told of a family, of whom, from what.
struct Telling<'a, N> {
    family: &'a FamilyRib<N>,
    views: &'a BTreeSet<StationView>,
    scene: &'a Scene<'a>,
    known: &'a BTreeSet<PeerNumber>,
}

impl<N: Net> Progress<N> {
    fn waiting(&self) -> usize {
        self.changed.len() + self.selected.len()
    }

    fn forget(&mut self, peer: PeerNumber) {
        self.changed.retain(|(_, other, _)| *other != peer);
        self.ends.remove(&peer);
    }

    /// Notes what has changed; what is still to be told of in any case needs no note.
    pub(super) fn note(&mut self, family: &FamilyRib<N>, (routes, selected): &(Vec<Touched<N>>, Vec<N>)) {
        let ahead = |slot: Slot| matches!(self.first, First::Table(next) if slot >= next);
        for (prefix, peer, path_id) in routes {
            let place = family.rib.path(*prefix, *peer, *path_id);
            if !place.is_some_and(|(slot, _)| ahead(slot)) {
                self.changed.insert((*prefix, *peer, *path_id));
            }
        }
        for prefix in selected {
            if !family.rib.slot(*prefix).is_some_and(ahead) {
                self.selected.insert(*prefix);
            }
        }
    }

    fn advance(&mut self, telling: &Telling<'_, N>, out: &mut Vec<u8>) -> bool {
        if self.waiting() > 0 {
            self.tell_changes(telling, out);
            return true;
        }
        match self.first {
            First::Table(from) => self.tell_table(from, telling, out),
            First::Rejected(from) => self.tell_rejected(from, telling, out),
            First::Done if self.ends.is_empty() && !self.loc_rib_ends => return false,
            First::Done => self.tell_ends(telling, out),
        }
        true
    }

    fn tell_changes(&mut self, telling: &Telling<'_, N>, out: &mut Vec<u8>) {
        let mut batch = Batch::default();
        while batch.len() < PIECE
            && let Some(route) = self.changed.pop_first()
        {
            telling.route(route, &mut batch);
        }
        while batch.len() < PIECE
            && let Some(prefix) = self.selected.pop_first()
        {
            telling.selected(prefix, &mut batch);
        }
        batch.encode(telling.scene, telling.scene.time, out);
    }

    /// The table's next piece. When its routes came is not known any more.
    fn tell_table(&mut self, from: Slot, telling: &Telling<'_, N>, out: &mut Vec<u8>) {
        let (mut batch, mut places) = (Batch::default(), 0);
        let mut table = telling.family.rib.prefixes_from(from);
        self.first = loop {
            let Some((slot, prefix)) = table.next() else { break First::Rejected(None) };
            if batch.len() >= PIECE || places >= PLACES {
                break First::Table(slot);
            }
            places += 1;
            telling.place(slot, prefix, &mut batch);
        };
        batch.encode(telling.scene, Timestamp::UNKNOWN, out);
    }

    fn tell_rejected(
        &mut self,
        from: Option<(PeerNumber, (N, u32))>,
        telling: &Telling<'_, N>,
        out: &mut Vec<u8>,
    ) {
        let mut batch = Batch::default();
        let originals = telling.family.originals.iter().flat_map(|all| all.rejected_after(from));
        self.first = First::Done;
        for (peer, (prefix, path_id), attributes) in originals.take(PIECE) {
            if telling.wants(peer, StationView::PrePolicy) {
                let table = Table::In { peer, post_policy: false };
                batch.add(table, prefix, path_id, Some(attributes));
            }
            self.first = First::Rejected(Some((peer, (prefix, path_id))));
        }
        batch.encode(telling.scene, Timestamp::UNKNOWN, out);
    }

    fn tell_ends(&mut self, telling: &Telling<'_, N>, out: &mut Vec<u8>) {
        let marker = end_of_rib(N::FAMILY);
        let mut end = |table: Table| {
            if let Some((header, _)) = form::<N>(table, telling.scene) {
                route_monitoring(&header, &marker, out);
            }
        };
        for peer in std::mem::take(&mut self.ends) {
            let agreed = telling.scene.peers.get(&peer).and_then(|peer| peer.agreed.as_ref());
            if !agreed.is_some_and(|agreed| agreed.context.families.contains(N::FAMILY)) {
                continue;
            }
            for (view, post_policy) in [(StationView::PrePolicy, false), (StationView::PostPolicy, true)] {
                if telling.wants(peer, view) {
                    end(Table::In { peer, post_policy });
                }
            }
        }
        if std::mem::take(&mut self.loc_rib_ends) {
            end(Table::Loc);
        }
    }
}

impl<N: Net> Telling<'_, N> {
    fn wants(&self, peer: PeerNumber, view: StationView) -> bool {
        self.views.contains(&view) && self.known.contains(&peer)
    }

    /// A route as it is now. One that is kept over a restart of its peer is not there before it is said again.
    fn route(&self, (prefix, peer, path_id): Touched<N>, batch: &mut Batch<N>) {
        let kept = self.family.rib.path(prefix, peer, path_id).map(|(_, path)| path);
        let kept = kept.filter(|path| !path.stale).map(|path| path.attributes);
        if self.wants(peer, StationView::PrePolicy) {
            let came = self.original(peer, prefix, path_id).or(kept);
            batch.add(Table::In { peer, post_policy: false }, prefix, path_id, came);
        }
        if self.wants(peer, StationView::PostPolicy) {
            batch.add(Table::In { peer, post_policy: true }, prefix, path_id, kept);
        }
    }

    fn original(&self, peer: PeerNumber, prefix: N, path_id: u32) -> Option<AttributeId> {
        let originals = self.family.originals.as_ref()?;
        originals.get(peer, (prefix, path_id)).map(|original| original.attributes)
    }

    /// All routes at a place of the table.
    fn place(&self, slot: Slot, prefix: N, batch: &mut Batch<N>) {
        for path in self.family.rib.paths_at(slot).into_iter().filter(|path| !path.stale) {
            self.route((prefix, path.peer, path.path_id), batch);
        }
        if self.views.contains(&StationView::LocRib) {
            let best = self.family.rib.best_at(slot);
            best.into_iter().for_each(|best| batch.add(Table::Loc, prefix, 0, Some(best)));
        }
    }

    fn selected(&self, prefix: N, batch: &mut Batch<N>) {
        if self.views.contains(&StationView::LocRib) {
            let best = self.family.rib.slot(prefix).and_then(|slot| self.family.rib.best_at(slot));
            batch.add(Table::Loc, prefix, 0, best);
        }
    }
}
