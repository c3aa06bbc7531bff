//! Adj-RIBs-In and Loc-RIB of one family in one table: for each prefix the routes of all peers, and which is best.
//!
//! A route is twelve octets: peer, attributes, flags. Most prefixes have one route; it lies in the table itself.
//! What a change makes of a prefix is noted once per round ([`Rib::take_changes`]) together with what was best
//! before, so that nobody downstream has to remember it.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::attributes::{AttributeId, Interner};
use super::best_path::{self, Candidate, Source, SourceKind};
use super::net::Net;
use crate::types::RouterId;

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
    /// Its attributes.
    pub attributes: AttributeId,
    /// Well-formed, but never selected: a loop, or a next hop that is our own address.
    pub ineligible: bool,
    /// From before the peer's restart, or before its route refresh.
    pub stale: bool,
}

/// The routes for a prefix. There is at least one.
#[derive(Debug)]
enum Paths {
    One { path: Path, best: bool },
    Many(Box<Many>),
}

#[derive(Debug)]
struct Many {
    paths: Vec<Path>,
    best: Option<usize>,
}

impl Paths {
    fn as_slice(&self) -> &[Path] {
        match self {
            Self::One { path, .. } => std::slice::from_ref(path),
            Self::Many(many) => &many.paths,
        }
    }

    fn best(&self) -> Option<&Path> {
        match self {
            Self::One { path, best } => best.then_some(path),
            Self::Many(many) => many.best.map(|index| &many.paths[index]),
        }
    }
}

/// The best route for a prefix at some moment. Whoever keeps one owns a use of its attributes.
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
}

/// How many routes a peer has in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All.
    pub routes: usize,
    /// The stale ones among them.
    pub stale: usize,
}

/// The routes of one family.
#[derive(Debug)]
pub struct Rib<N> {
    table: BTreeMap<N, Paths>,
    /// What has changed in this round, and what was best before.
    changes: BTreeMap<N, Option<Best>>,
    counts: BTreeMap<PeerNumber, Count>,
    /// Learned routes are not selected yet (RFC 4724, section 4.1).
    deferred: bool,
}

impl<N: Net> Rib<N> {
    /// An empty table; `deferred`: only routes of our own are selected until [`Rib::end_deferral`].
    pub fn new(deferred: bool) -> Self {
        Self { table: BTreeMap::new(), changes: BTreeMap::new(), counts: BTreeMap::new(), deferred }
    }

    /// How many prefixes have routes.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no prefix has a route.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many routes a peer has.
    pub fn count(&self, peer: PeerNumber) -> Count {
        self.counts.get(&peer).copied().unwrap_or_default()
    }

    /// The routes for a prefix, and the best of them.
    pub fn routes(&self, prefix: N) -> (&[Path], Option<&Path>) {
        self.table.get(&prefix).map_or((&[], None), |paths| (paths.as_slice(), paths.best()))
    }

    /// The best routes, from a prefix on (exclusive), in order.
    pub fn best_after<'a>(
        &'a self,
        after: Option<N>,
        sources: &'a Sources,
    ) -> impl Iterator<Item = (N, Option<Best>)> + 'a {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = self.table.range((from, std::ops::Bound::Unbounded));
        range.map(move |(net, paths)| (*net, paths.best().map(|path| to_best(path, sources))))
    }

    /// The best route for a prefix.
    pub fn best(&self, prefix: N, sources: &Sources) -> Option<Best> {
        self.table.get(&prefix).and_then(Paths::best).map(|path| to_best(path, sources))
    }

    /// A peer announces a route, in place of what it had. The route's use of its attributes becomes the table's.
    pub fn insert(&mut self, prefix: N, path: Path, sources: &Sources, interner: &mut Interner) {
        let old = match self.table.get(&prefix) {
            Some(paths) => paths.as_slice().iter().find(|old| old.peer == path.peer).copied(),
            None => None,
        };
        if let Some(old) = old {
            if (Path { stale: path.stale, ..old }) == path {
                // The same again: at most it is no longer stale.
                interner.release(path.attributes);
                self.set_stale(prefix, path.peer, path.stale);
                return;
            }
            self.recount(path.peer, old.stale, -1);
        }
        self.note(prefix, sources, interner);
        self.recount(path.peer, path.stale, 1);
        match self.table.get_mut(&prefix) {
            None => {
                self.table.insert(prefix, Paths::One { path, best: false });
            }
            Some(paths) => replace(paths, path),
        }
        if let Some(old) = old {
            interner.release(old.attributes);
        }
        self.select(prefix, sources, interner);
    }

    /// A peer withdraws its route. Nothing happens when it has none.
    pub fn remove(&mut self, prefix: N, peer: PeerNumber, sources: &Sources, interner: &mut Interner) {
        let Some(paths) = self.table.get(&prefix) else { return };
        let Some(old) = paths.as_slice().iter().find(|path| path.peer == peer).copied() else { return };
        self.note(prefix, sources, interner);
        self.recount(peer, old.stale, -1);
        interner.release(old.attributes);
        let paths = self.table.get_mut(&prefix).expect("it was there");
        let gone = match paths {
            Paths::One { .. } => true,
            Paths::Many(many) => {
                many.paths.retain(|path| path.peer != peer);
                many.best = None;
                if let [path] = many.paths[..] {
                    *paths = Paths::One { path, best: false };
                }
                false
            }
        };
        if gone {
            self.table.remove(&prefix);
        } else {
            self.select(prefix, sources, interner);
        }
    }

    /// All routes of a peer go.
    pub fn remove_peer(&mut self, peer: PeerNumber, sources: &Sources, interner: &mut Interner) {
        self.remove_where(|path| path.peer == peer, peer, sources, interner);
    }

    /// The stale routes of a peer go.
    pub fn sweep(&mut self, peer: PeerNumber, sources: &Sources, interner: &mut Interner) {
        if self.count(peer).stale > 0 {
            self.remove_where(|path| path.peer == peer && path.stale, peer, sources, interner);
        }
    }

    fn remove_where(
        &mut self,
        goes: impl Fn(&Path) -> bool,
        peer: PeerNumber,
        sources: &Sources,
        interner: &mut Interner,
    ) {
        if self.count(peer).routes == 0 {
            return;
        }
        let of_it = self.table.iter().filter(|(_, paths)| paths.as_slice().iter().any(&goes));
        let prefixes: Vec<N> = of_it.map(|(net, _)| *net).collect();
        prefixes.into_iter().for_each(|prefix| self.remove(prefix, peer, sources, interner));
    }

    /// All routes of a peer become stale: they are still used, until they are announced again or swept.
    pub fn mark_stale(&mut self, peer: PeerNumber) {
        let Some(count) = self.counts.get_mut(&peer) else { return };
        count.stale = count.routes;
        for paths in self.table.values_mut() {
            let path = match paths {
                Paths::One { path, .. } => Some(path),
                Paths::Many(many) => many.paths.iter_mut().find(|path| path.peer == peer),
            };
            if let Some(path) = path.filter(|path| path.peer == peer) {
                path.stale = true;
            }
        }
    }

    /// The stale routes of a peer.
    pub fn stale_paths(&self, peer: PeerNumber) -> Vec<(N, Path)> {
        if self.count(peer).stale == 0 {
            return Vec::new();
        }
        let stale = |path: &&Path| path.peer == peer && path.stale;
        let of = |(net, paths): (&N, &Paths)| {
            paths.as_slice().iter().filter(stale).map(|path| (*net, *path)).collect::<Vec<_>>()
        };
        self.table.iter().flat_map(of).collect()
    }

    /// Whether learned routes are still left out of selection.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Learned routes take part in selection from now on.
    pub fn end_deferral(&mut self, sources: &Sources, interner: &mut Interner) {
        self.deferred = false;
        let prefixes: Vec<N> = self.table.keys().copied().collect();
        for prefix in prefixes {
            self.note(prefix, sources, interner);
            self.select(prefix, sources, interner);
        }
    }

    /// What has changed since the last call, with what was best before. The uses of attributes go to the caller.
    pub fn take_changes(&mut self) -> BTreeMap<N, Option<Best>> {
        std::mem::take(&mut self.changes)
    }

    /// Whether there is something to take.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Notes that a prefix is about to change.
    fn note(&mut self, prefix: N, sources: &Sources, interner: &mut Interner) {
        let best = self.table.get(&prefix).and_then(Paths::best);
        self.changes.entry(prefix).or_insert_with(|| {
            best.map(|path| {
                interner.retain(path.attributes);
                to_best(path, sources)
            })
        });
    }

    fn select(&mut self, prefix: N, sources: &Sources, interner: &Interner) {
        let deferred = self.deferred;
        let eligible = |path: &Path| !path.ineligible && (!deferred || path.peer == PeerNumber::LOCAL);
        match self.table.get_mut(&prefix) {
            None => {}
            Some(Paths::One { path, best }) => *best = eligible(path),
            Some(Paths::Many(many)) => {
                let indexes: Vec<usize> =
                    (0..many.paths.len()).filter(|i| eligible(&many.paths[*i])).collect();
                let candidates: Vec<Candidate<'_>> = indexes
                    .iter()
                    .map(|index| {
                        let path = &many.paths[*index];
                        let attributes = interner.get(path.attributes);
                        Candidate { attributes, source: &sources[&path.peer] }
                    })
                    .collect();
                many.best = best_path::select(&candidates).map(|winner| indexes[winner]);
            }
        }
    }

    fn set_stale(&mut self, prefix: N, peer: PeerNumber, stale: bool) {
        let path = match self.table.get_mut(&prefix) {
            Some(Paths::One { path, .. }) => Some(path),
            Some(Paths::Many(many)) => many.paths.iter_mut().find(|path| path.peer == peer),
            None => None,
        };
        let Some(path) = path else { return };
        let was = std::mem::replace(&mut path.stale, stale);
        self.recount(peer, was, -1);
        self.recount(peer, stale, 1);
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

fn to_best(path: &Path, sources: &Sources) -> Best {
    let source = &sources[&path.peer];
    Best { peer: path.peer, attributes: path.attributes, kind: source.kind, router_id: source.router_id }
}

/// Puts a path in the place of its peer's, in the order of peers.
fn replace(paths: &mut Paths, path: Path) {
    match paths {
        Paths::One { path: old, .. } if old.peer == path.peer => *paths = Paths::One { path, best: false },
        Paths::One { path: old, .. } => {
            let mut list = vec![*old, path];
            list.sort_by_key(|path| path.peer);
            *paths = Paths::Many(Box::new(Many { paths: list, best: None }));
        }
        Paths::Many(many) => {
            match many.paths.binary_search_by_key(&path.peer, |path| path.peer) {
                Ok(index) => many.paths[index] = path,
                Err(index) => many.paths.insert(index, path),
            }
            many.best = None;
        }
    }
}

/// A prefix in the family of a table.
pub(crate) fn key<N: Net>(prefix: IpNet) -> Option<N> {
    N::from_prefix(prefix.trunc())
}
