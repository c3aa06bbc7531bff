//! Adj-RIBs-In and Loc-RIB of one family in one table: for each prefix the routes of all peers, and what is selected
//! of them.
//!
//! A prefix has a slot as long as it has routes: a place in a list, found by hash. Most prefixes have one route; it lies
//! in the slot itself, all in all twenty octets for IPv4. The order of slots is the order in which prefixes came, the
//! same on every run, and a number is enough to remember how far a peer has been told. What a change makes of a prefix
//! is noted once per round ([`Rib::take_changes`]) together with what was selected before, so that nobody downstream
//! has to remember it.

mod changes;
mod observed;
mod removal;

use std::collections::{BTreeMap, VecDeque};

use ipnet::IpNet;

use super::best_path::Source;
use super::index::Index;
use super::interner::{AttributeId, Interner};
use super::net::Net;
use super::selected::{Best, Selected};
use super::selection::{Effect, Held, Many, Selecting, SelectionRules};
pub(crate) use changes::Change;
use observed::Observed;
pub(crate) use observed::Touched;
use removal::Removal;

/// A peer's number in the speaker; never used for another peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerNumber(pub u32);

impl PeerNumber {
    /// The source of what we originate.
    pub const LOCAL: Self = Self(0);
}

/// The peers that routes come from.
pub type Sources = BTreeMap<PeerNumber, Source>;

/// A route of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Whose.
    pub peer: PeerNumber,
    /// The identifier that the peer gave it (RFC 7911); 0 without. Together with the peer it names the route.
    pub path_id: u32,
    /// Its attributes.
    pub attributes: AttributeId,
    /// Well-formed, but never selected: a loop, or a next hop that is our own address.
    pub ineligible: bool,
    /// From before the peer's restart, or before its route refresh.
    pub stale: bool,
}

/// The number of a prefix' place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Slot(pub(super) u32);

impl Slot {
    /// The first place of a table.
    pub(crate) const FIRST: Self = Self(0);

    /// As a number.
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

impl From<u32> for Slot {
    fn from(number: u32) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Entry<N> {
    prefix: N,
    /// It has a change in this round.
    noted: bool,
    /// It is among those that have lost their last route.
    emptied: bool,
    paths: Paths,
}

/// The routes for a prefix.
#[derive(Debug, Clone, Copy)]
enum Paths {
    /// None (any more): the slot is free once the changes that wait are told.
    None,
    /// One, without path identifiers.
    One { peer: PeerNumber, attributes: AttributeId, ineligible: bool, stale: bool, best: bool },
    /// Others.
    Many(u32),
}

/// How many routes a peer has in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All.
    pub routes: usize,
    /// The stale ones among them.
    pub stale: usize,
}

/// The routes for a prefix, and what is selected of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    /// By peer and path identifier.
    pub paths: Vec<Path>,
    /// Which of them is the best.
    pub best: Option<usize>,
    /// Which are used together with it, itself included; empty when it is alone.
    pub multipath: Vec<usize>,
}

/// The routes of one family.
#[derive(Debug)]
pub struct Rib<N> {
    entries: Vec<Entry<N>>,
    index: Index,
    /// Keys the hashes.
    key: u64,
    /// Free slots.
    free: Vec<u32>,
    /// Slots that have lost their last route, and are free as soon as nothing more is to be told; they may have routes again.
    emptied: Vec<u32>,
    many: Vec<Many>,
    free_many: Vec<u32>,
    /// What has changed in this round, in the order of first changes.
    changes: VecDeque<Change<N>>,
    removals: VecDeque<Removal>,
    counts: BTreeMap<PeerNumber, Count>,
    /// Prefixes that have routes.
    used: usize,
    /// Learned routes are not selected yet (RFC 4724, section 4.1).
    deferred: bool,
    rules: SelectionRules,
    /// Only while somebody observes.
    observed: Option<Box<Observed<N>>>,
}

impl<N: Net> Rib<N> {
    /// An empty table; `deferred`: only routes of our own are selected until [`Rib::end_deferral`]. `key` keys its
    /// hashes; nothing that comes out depends on it.
    pub fn new(deferred: bool, key: u64) -> Self {
        Self {
            entries: Vec::new(),
            index: Index::default(),
            key,
            free: Vec::new(),
            emptied: Vec::new(),
            many: Vec::new(),
            free_many: Vec::new(),
            changes: VecDeque::new(),
            removals: VecDeque::new(),
            counts: BTreeMap::new(),
            used: 0,
            deferred,
            rules: SelectionRules::default(),
            observed: None,
        }
    }

    /// How many prefixes have routes.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no prefix has a route.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many routes a peer has.
    pub fn count(&self, peer: PeerNumber) -> Count {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// The prefixes that have routes, in no particular order (but the same on every run).
    pub fn prefixes(&self) -> impl Iterator<Item = N> + '_ {
        self.entries.iter().filter(|entry| !matches!(entry.paths, Paths::None)).map(|entry| entry.prefix)
    }

    /// The routes for a prefix.
    pub fn routes(&self, prefix: N) -> Routes {
        let Some(slot) = self.find(prefix) else { return Routes::default() };
        match self.entries[slot as usize].paths {
            Paths::None => Routes::default(),
            Paths::One { peer, attributes, ineligible, stale, best } => {
                let path = Path { peer, path_id: 0, attributes, ineligible, stale };
                Routes { paths: vec![path], best: best.then_some(0), multipath: Vec::new() }
            }
            Paths::Many(many) => self.many[many as usize].routes(),
        }
    }

    /// The prefixes that have routes, from a place on, in the order of places.
    pub(crate) fn prefixes_from(&self, from: Slot) -> impl Iterator<Item = (Slot, N)> + '_ {
        let slots = (from.0..).zip(self.entries.get(from.0 as usize..).unwrap_or_default());
        let used = slots.filter(|(_, entry)| !matches!(entry.paths, Paths::None));
        used.map(|(slot, entry)| (Slot(slot), entry.prefix))
    }

    /// The routes at a place.
    pub(crate) fn paths_at(&self, slot: Slot) -> Vec<Path> {
        self.entries.get(slot.0 as usize).map(|entry| self.paths_of(entry)).unwrap_or_default()
    }

    /// The attributes of the best route at a place.
    pub(crate) fn best_at(&self, slot: Slot) -> Option<AttributeId> {
        match self.entries.get(slot.0 as usize)?.paths {
            Paths::One { attributes, best, .. } => best.then_some(attributes),
            Paths::Many(many) => {
                let many = &self.many[many as usize];
                many.best().map(|index| many.path(index).attributes)
            }
            Paths::None => None,
        }
    }

    /// A route, and its prefix' place.
    pub(crate) fn path(&self, prefix: N, peer: PeerNumber, path_id: u32) -> Option<(Slot, Path)> {
        let slot = self.find(prefix)?;
        self.path_at(slot, peer, path_id).map(|path| (Slot(slot), path))
    }

    /// The place of a prefix that has routes.
    pub(crate) fn slot(&self, prefix: N) -> Option<Slot> {
        let slot = self.find(prefix)?;
        (!matches!(self.entries[slot as usize].paths, Paths::None)).then_some(Slot(slot))
    }

    /// How routes are selected.
    pub fn rules(&self) -> &SelectionRules {
        &self.rules
    }

    /// What is selected for a prefix.
    pub fn selected(&self, prefix: N, sources: &Sources) -> Selected {
        self.find(prefix).map(|slot| self.selected_at(Slot(slot), sources)).unwrap_or_default()
    }

    /// What is selected for the prefix at a place.
    pub(crate) fn selected_at(&self, slot: Slot, sources: &Sources) -> Selected {
        // A table that has become empty has given its places back.
        let Some(entry) = self.entries.get(slot.0 as usize) else { return Selected::default() };
        match entry.paths {
            Paths::One { peer, attributes, best: true, .. } => {
                let source = &sources[&peer];
                let (kind, router_id) = (source.kind, source.router_id);
                let best = Best {
                    peer,
                    attributes,
                    kind,
                    router_id,
                    path_id: 1,
                    rank: 1,
                    multipath: false,
                    leads: true,
                    instead_for: PeerNumber::LOCAL,
                };
                Selected { best: Some(best), others: None }
            }
            Paths::Many(many) => self.many[many as usize].selected(sources),
            Paths::None | Paths::One { .. } => Selected::default(),
        }
    }

    /// The prefixes with something selected, from a place on.
    pub(crate) fn selected_from<'a>(
        &'a self,
        from: Slot,
        sources: &'a Sources,
    ) -> impl Iterator<Item = (Slot, N, Selected)> + 'a {
        let slots = (from.0..).zip(self.entries.get(from.0 as usize..).unwrap_or_default());
        slots.filter_map(move |(slot, entry)| {
            let selected = self.selected_at(Slot(slot), sources);
            selected.best.is_some().then_some((Slot(slot), entry.prefix, selected))
        })
    }

    fn find(&self, prefix: N) -> Option<u32> {
        let is_it = |slot: u32| self.entries[slot as usize].prefix == prefix;
        self.index.find(prefix.hash(self.key), is_it)
    }

    fn find_or_add(&mut self, prefix: N) -> u32 {
        if let Some(slot) = self.find(prefix) {
            return slot;
        }
        let entry = Entry { prefix, noted: false, emptied: false, paths: Paths::None };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot as usize] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 prefixes fit into memory")
            }
        };
        self.index.insert(prefix.hash(self.key), slot);
        slot
    }

    /// A peer announces a route, in place of what it had. The route's use of its attributes becomes the table's.
    pub fn insert(&mut self, prefix: N, path: Path, sources: &Sources, interner: &mut Interner) {
        self.touch(prefix, path.peer, path.path_id);
        let slot = self.find_or_add(prefix);
        let old = self.path_at(slot, path.peer, path.path_id);
        if let Some(old) = old {
            if (Path { stale: path.stale, ..old }) == path {
                // The same again: at most it is no longer stale.
                interner.release(path.attributes);
                return self.set_stale(slot, path);
            }
            self.recount(path.peer, old.stale, -1);
        }
        self.recount(path.peer, path.stale, 1);
        match self.entries[slot as usize].paths {
            Paths::None if path.path_id == 0 => {
                self.used += 1;
                self.note(slot, sources, interner);
                self.put_one(slot, path, interner);
            }
            Paths::One { .. } if path.path_id == 0 && old.is_some() => {
                self.note(slot, sources, interner);
                self.put_one(slot, path, interner);
            }
            _ => self.insert_inlist_at(slot, path, sources, interner),
        }
        if let Some(old) = old {
            interner.release(old.attributes);
        }
    }

    fn selecting<'a>(&self, sources: &'a Sources, interner: &'a Interner) -> Selecting<'a> {
        Selecting { rules: self.rules, deferred: self.deferred, sources, interner }
    }

    fn put_one(&mut self, slot: u32, path: Path, interner: &Interner) {
        let Path { peer, attributes, ineligible, stale, .. } = path;
        let best = self.rules.admits(&path, self.deferred, interner).is_some();
        self.entries[slot as usize].paths = Paths::One { peer, attributes, ineligible, stale, best };
    }

    fn insert_inlist_at(&mut self, slot: u32, path: Path, sources: &Sources, interner: &mut Interner) {
        let number = self.list_at(slot);
        let many = &self.many[number];
        let old = many.find(path.peer, path.path_id);
        let effect = many.foresee(old, Some(&path), &self.selecting(sources, interner));
        if effect != Effect::Nothing {
            self.note(slot, sources, interner);
        }
        let selecting = self.selecting(sources, interner);
        self.many[number].put(path);
        self.many[number].settle(effect, &path, &selecting);
    }

    /// The routes of a prefix as a list, whatever they are now.
    fn list_at(&mut self, slot: u32) -> usize {
        let first = match self.entries[slot as usize].paths {
            Paths::Many(many) => return many as usize,
            Paths::None => {
                self.used += 1;
                None
            }
            Paths::One { peer, attributes, ineligible, stale, best } => {
                let path = Path { peer, path_id: 0, attributes, ineligible, stale };
                Some(Held {
                    path,
                    ours: 1,
                    rank: u8::from(best),
                    multipath: false,
                    leads: best,
                    instead_for: PeerNumber::LOCAL,
                })
            }
        };
        let many = Many::new(first);
        let number = match self.free_many.pop() {
            Some(number) => {
                self.many[number as usize] = many;
                number
            }
            None => {
                self.many.push(many);
                u32::try_from(self.many.len() - 1).expect("fewer than slots")
            }
        };
        self.entries[slot as usize].paths = Paths::Many(number);
        number as usize
    }

    /// A route as another table had it, with our identifier of it.
    pub(crate) fn restore(
        &mut self,
        prefix: N,
        (path, ours): (Path, u32),
        sources: &Sources,
        interner: &mut Interner,
    ) {
        self.insert(prefix, path, sources, interner);
        let slot = self.find(prefix).expect("just inserted");
        if ours != 1 || matches!(self.entries[slot as usize].paths, Paths::Many(_)) {
            let number = self.list_at(slot);
            self.many[number].identify(path.peer, path.path_id, ours);
        }
    }

    /// Every route, with our identifier of it.
    pub(crate) fn all_routes(&self) -> impl Iterator<Item = (N, Path, u32)> + '_ {
        self.entries.iter().flat_map(|entry| {
            let held: Vec<(Path, u32)> = match entry.paths {
                Paths::None => Vec::new(),
                Paths::One { peer, attributes, ineligible, stale, .. } => {
                    vec![(Path { peer, path_id: 0, attributes, ineligible, stale }, 1)]
                }
                Paths::Many(many) => self.many[many as usize].identified().collect(),
            };
            held.into_iter().map(|(path, ours)| (entry.prefix, path, ours))
        })
    }

    /// A peer withdraws its route. Nothing happens when it has none.
    pub fn remove(
        &mut self,
        prefix: N,
        (peer, path_id): (PeerNumber, u32),
        sources: &Sources,
        interner: &mut Interner,
    ) {
        if let Some(slot) = self.find(prefix) {
            self.remove_at(slot, (peer, path_id), sources, interner);
        }
    }

    fn remove_at(
        &mut self,
        slot: u32,
        (peer, path_id): (PeerNumber, u32),
        sources: &Sources,
        interner: &mut Interner,
    ) {
        let Some(old) = self.path_at(slot, peer, path_id) else { return };
        self.touch(self.entries[slot as usize].prefix, peer, path_id);
        self.recount(peer, old.stale, -1);
        match self.entries[slot as usize].paths {
            Paths::None => {}
            Paths::One { .. } => {
                self.note(slot, sources, interner);
                self.vacate(slot);
            }
            Paths::Many(number) => {
                let many = &self.many[number as usize];
                let index = many.find(peer, path_id);
                let effect = many.foresee(index, None, &self.selecting(sources, interner));
                if effect != Effect::Nothing {
                    self.note(slot, sources, interner);
                }
                self.remove_from_many(slot, number, (peer, path_id));
                let selecting = self.selecting(sources, interner);
                match self.entries[slot as usize].paths {
                    Paths::Many(number) => self.many[number as usize].settle(effect, &old, &selecting),
                    Paths::None | Paths::One { .. } => self.reselect_one(slot, interner),
                }
            }
        }
        interner.release(old.attributes);
    }

    /// Takes a route out of a list; one that is left alone moves into its slot.
    fn remove_from_many(&mut self, slot: u32, number: u32, (peer, path_id): (PeerNumber, u32)) {
        let many = &mut self.many[number as usize];
        many.take(peer, path_id);
        match many.alone() {
            None if many.is_empty() => self.vacate(slot),
            None => return,
            Some(held) => {
                let Path { peer, attributes, ineligible, stale, .. } = held.path;
                let best = held.rank == 1;
                self.entries[slot as usize].paths = Paths::One { peer, attributes, ineligible, stale, best };
            }
        }
        self.many[number as usize] = Many::new(None);
        self.free_many.push(number);
    }

    fn vacate(&mut self, slot: u32) {
        self.entries[slot as usize].paths = Paths::None;
        self.used -= 1;
    }

    /// All routes of a peer become stale: they are still used, until they are announced again or removed. None of them
    /// may be on their way out.
    pub fn mark_stale(&mut self, peer: PeerNumber) {
        let Some(count) = self.counts.get_mut(&peer) else { return };
        count.stale = count.routes;
        for entry in &mut self.entries {
            match &mut entry.paths {
                Paths::One { peer: of, stale, .. } if *of == peer => *stale = true,
                Paths::None | Paths::One { .. } => {}
                Paths::Many(many) => self.many[*many as usize].mark_stale(peer),
            }
        }
    }

    /// The stale routes of a peer.
    pub fn stale_paths(&self, peer: PeerNumber) -> Vec<(N, Path)> {
        if self.count(peer).stale == 0 {
            return Vec::new();
        }
        let of_entry = |entry: &Entry<N>| {
            let paths = self.paths_of(entry).into_iter().filter(|path| path.peer == peer && path.stale);
            paths.map(|path| (entry.prefix, path)).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of_entry).collect()
    }

    fn paths_of(&self, entry: &Entry<N>) -> Vec<Path> {
        match entry.paths {
            Paths::None => Vec::new(),
            Paths::One { peer, attributes, ineligible, stale, .. } => {
                vec![Path { peer, path_id: 0, attributes, ineligible, stale }]
            }
            Paths::Many(many) => self.many[many as usize].routes().paths,
        }
    }

    /// Whether learned routes are still left out of selection.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Whether an empty table leaves learned routes out of selection.
    pub(crate) fn set_deferred(&mut self, deferred: bool) {
        self.deferred = deferred;
    }

    fn path_at(&self, slot: u32, peer: PeerNumber, path_id: u32) -> Option<Path> {
        match self.entries[slot as usize].paths {
            Paths::One { peer: of, attributes, ineligible, stale, .. } if of == peer && path_id == 0 => {
                Some(Path { peer, path_id, attributes, ineligible, stale })
            }
            Paths::None | Paths::One { .. } => None,
            Paths::Many(many) => {
                let many = &self.many[many as usize];
                many.find(peer, path_id).map(|index| many.path(index))
            }
        }
    }

    fn set_stale(&mut self, slot: u32, path: Path) {
        let was = match &mut self.entries[slot as usize].paths {
            Paths::None => return,
            Paths::One { stale, .. } => std::mem::replace(stale, path.stale),
            Paths::Many(many) => self.many[*many as usize].set_stale(&path),
        };
        if was != path.stale {
            self.recount(path.peer, was, -1);
            self.recount(path.peer, path.stale, 1);
        }
    }

    fn recount(&mut self, peer: PeerNumber, stale: bool, by: isize) {
        let count = self.counts.entry(peer).or_default();
        count.routes = count.routes.saturating_add_signed(by);
        if stale {
            count.stale = count.stale.saturating_add_signed(by);
        }
        if count.routes == 0 {
            self.counts.remove(&peer);
        }
    }
}

/// A prefix in the family of a table.
pub(crate) fn key<N: Net>(prefix: IpNet) -> Option<N> {
    N::from_prefix(prefix.trunc())
}
