//! The routes for a prefix that has several, and selection among them.

use super::best_path::{self, Candidate, Merit, SourceKind, keep_equal};
use super::interner::{AttributeId, Interner};
use super::selected::{Best, Selected, UNRANKED};
use super::table::{Path, PeerNumber, Routes, Sources};
use crate::config::{Multipath, SendPaths};

/// What is selected of the routes for a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectionRules {
    /// How the best one is found.
    pub best_path: best_path::Rules,
    /// How many are used together.
    pub multipath: Multipath,
    /// The most that an add-path peer wants, best first; 1 without such peers.
    pub ranked: u8,
    /// An add-path peer wants all.
    pub all: bool,
}

impl Default for SelectionRules {
    fn default() -> Self {
        Self { best_path: best_path::Rules::default(), multipath: Multipath::OFF, ranked: 1, all: false }
    }
}

impl SelectionRules {
    /// Takes what add-path peers want into account.
    #[must_use]
    pub fn wanted_by(self, paths: SendPaths) -> Self {
        match paths {
            SendPaths::None => self,
            SendPaths::All => Self { all: true, ..self },
            SendPaths::Best(count) => Self { ranked: self.ranked.max(count.min(UNRANKED - 1)), ..self },
        }
    }

    /// The interior cost to the next hop of a route that may be selected; `None`: it may not.
    pub(super) fn admits(&self, path: &Path, deferred: bool, interner: &Interner) -> Option<u32> {
        if path.ineligible || deferred && path.peer != PeerNumber::LOCAL {
            return None;
        }
        interner.cost(path.attributes)
    }
}

/// A route in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) path: Path,
    /// Our path identifier: the lowest that was free when the route came.
    pub(super) ours: u32,
    /// 1 for the best, 0 for what is not selected.
    pub(super) rank: u8,
    /// Used together with the best.
    pub(super) multipath: bool,
}

/// What a change of one route does to the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: it was not, and is not, among the best.
    Nothing,
    /// It alone is the best.
    Wins,
    /// Only a selection can tell.
    Unknown,
}

/// The circumstances of a selection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selecting<'a> {
    pub(super) rules: SelectionRules,
    pub(super) deferred: bool,
    pub(super) sources: &'a Sources,
    pub(super) interner: &'a Interner,
}

impl Selecting<'_> {
    /// `None` when the route may not be selected.
    fn candidate(&self, path: &Path) -> Option<Candidate<'_>> {
        let cost = self.rules.admits(path, self.deferred, self.interner)?;
        let (attributes, source) = (self.interner.get(path.attributes), &self.sources[&path.peer]);
        Some(Candidate { attributes, source, cost, path_id: path.path_id })
    }

    fn before_med(&self, path: &Path) -> Option<u128> {
        self.candidate(path).map(|candidate| candidate.merit().before_med())
    }

    /// How many may be used together, of which this is the best.
    fn limit(&self, best: &Path) -> usize {
        let limit = match self.sources[&best.peer].kind {
            SourceKind::Local => 1,
            SourceKind::External => self.rules.multipath.external,
            SourceKind::Internal | SourceKind::Client => self.rules.multipath.internal,
        };
        usize::from(limit.max(1))
    }
}

/// Several routes for a prefix, or one with a path identifier.
#[derive(Debug, Default)]
pub(super) struct Many {
    /// By peer and path identifier.
    held: Vec<Held>,
}

impl Many {
    pub(super) fn new(first: Option<Held>) -> Self {
        Self { held: first.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The only route, when it needs no list.
    pub(super) fn alone(&self) -> Option<Held> {
        match self.held[..] {
            [held] if held.path.path_id == 0 && held.ours == 1 => Some(held),
            _ => None,
        }
    }

    pub(super) fn find(&self, peer: PeerNumber, path_id: u32) -> Option<usize> {
        self.position(peer, path_id).ok()
    }

    fn position(&self, peer: PeerNumber, path_id: u32) -> Result<usize, usize> {
        self.held.binary_search_by_key(&(peer, path_id), |held| (held.path.peer, held.path.path_id))
    }

    pub(super) fn path(&self, index: usize) -> Path {
        self.held[index].path
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = AttributeId> + '_ {
        self.held.iter().map(|held| held.path.attributes)
    }

    fn best(&self) -> Option<usize> {
        self.held.iter().position(|held| held.rank == 1)
    }

    pub(super) fn routes(&self) -> Routes {
        let multipath = (0..self.held.len()).filter(|index| self.held[*index].multipath);
        Routes {
            paths: self.held.iter().map(|held| held.path).collect(),
            best: self.best(),
            multipath: multipath.collect(),
        }
    }

    pub(super) fn selected(&self, sources: &Sources) -> Selected {
        let Some(best) = self.best() else { return Selected::default() };
        let to_best = |held: &Held| {
            let source = &sources[&held.path.peer];
            Best {
                peer: held.path.peer,
                attributes: held.path.attributes,
                kind: source.kind,
                router_id: source.router_id,
                path_id: held.ours,
                rank: held.rank,
                multipath: held.multipath,
            }
        };
        let is_other = |held: &&Held| held.rank != 1 && (held.rank > 0 || held.multipath);
        let others = self.held.iter().any(|held| is_other(&held));
        let others = others.then(|| self.held.iter().filter(is_other).map(to_best).collect());
        Selected { best: Some(to_best(&self.held[best])), others }
    }

    pub(super) fn mark_stale(&mut self, peer: PeerNumber) {
        let of_peer = self.held.iter_mut().filter(|held| held.path.peer == peer);
        of_peer.for_each(|held| held.path.stale = true);
    }

    /// Takes over whether a route is stale; gives whether it was.
    pub(super) fn set_stale(&mut self, path: &Path) -> bool {
        match self.find(path.peer, path.path_id) {
            Some(index) => std::mem::replace(&mut self.held[index].path.stale, path.stale),
            None => path.stale,
        }
    }

    /// What it will do to the selection when a route comes, goes, or (with both) is replaced.
    pub(super) fn foresee(
        &self,
        old: Option<usize>,
        new: Option<&Path>,
        selecting: &Selecting<'_>,
    ) -> Effect {
        let Some(best) = self.best() else { return Effect::Unknown };
        if old == Some(best) || selecting.rules.all || selecting.rules.ranked > 1 {
            return Effect::Unknown;
        }
        let Some(least) = selecting.before_med(&self.held[best].path) else { return Effect::Unknown };
        let merit = |path: &Path| selecting.before_med(path);
        let was_behind = old.and_then(|old| merit(&self.held[old].path)).is_none_or(|merit| merit > least);
        match new.and_then(merit) {
            _ if !was_behind => Effect::Unknown,
            Some(merit) if merit < least => Effect::Wins,
            Some(merit) if merit == least => Effect::Unknown,
            Some(_) | None => Effect::Nothing,
        }
    }

    /// Puts a route in, in place of the one with the same name. Nothing is selected by that.
    pub(super) fn put(&mut self, path: Path) {
        match self.position(path.peer, path.path_id) {
            Ok(index) => {
                let ours = self.held[index].ours;
                self.held[index] = Held { path, ours, rank: 0, multipath: false };
            }
            Err(index) => {
                let ours = self.free_identifier();
                self.held.insert(index, Held { path, ours, rank: 0, multipath: false });
            }
        }
    }

    /// The routes with our identifiers of them.
    pub(super) fn identified(&self) -> impl Iterator<Item = (Path, u32)> + '_ {
        self.held.iter().map(|held| (held.path, held.ours))
    }

    /// Gives a route an identifier that it had elsewhere.
    pub(super) fn identify(&mut self, peer: PeerNumber, path_id: u32, ours: u32) {
        if let Some(index) = self.find(peer, path_id) {
            self.held[index].ours = ours;
        }
    }

    fn free_identifier(&self) -> u32 {
        let mut taken: Vec<u32> = self.held.iter().map(|held| held.ours).collect();
        taken.sort_unstable();
        (1..).zip(&taken).find(|(number, taken)| number != *taken).map_or_else(
            || u32::try_from(taken.len() + 1).expect("fewer than 2^32 routes"),
            |(number, _)| number,
        )
    }

    pub(super) fn take(&mut self, peer: PeerNumber, path_id: u32) {
        if let Some(index) = self.find(peer, path_id) {
            self.held.remove(index);
        }
    }

    /// Brings the selection up to date with a route that has changed.
    pub(super) fn settle(&mut self, effect: Effect, path: &Path, selecting: &Selecting<'_>) {
        match effect {
            Effect::Nothing => {}
            Effect::Wins => {
                self.clear();
                if let Some(index) = self.find(path.peer, path.path_id) {
                    self.held[index].rank = 1;
                }
            }
            Effect::Unknown => self.select(selecting),
        }
    }

    fn clear(&mut self) {
        for held in &mut self.held {
            (held.rank, held.multipath) = (0, false);
        }
    }

    pub(super) fn select(&mut self, selecting: &Selecting<'_>) {
        self.clear();
        let candidates: Vec<(usize, Candidate<'_>)> = self
            .held
            .iter()
            .enumerate()
            .filter_map(|(index, held)| Some((index, selecting.candidate(&held.path)?)))
            .collect();
        let mut equal: Vec<(usize, Merit)> =
            candidates.iter().enumerate().map(|(at, (_, candidate))| (at, candidate.merit())).collect();
        let mut rest = if selecting.rules.ranked > 1 { equal.clone() } else { Vec::new() };
        keep_equal(&mut equal, selecting.rules.best_path);
        if equal.len() > 1 {
            equal.sort_by_key(|(at, _)| candidates[*at].1.tie_break());
        }
        let Some((first, _)) = equal.first().copied() else { return };
        let best = candidates[first].0;
        if selecting.rules.all {
            candidates.iter().for_each(|(index, _)| self.held[*index].rank = UNRANKED);
        }
        self.held[best].rank = 1;
        let limit = selecting.limit(&self.held[best].path);
        if equal.len() > 1 && limit > 1 {
            let used = equal.iter().take(limit);
            used.for_each(|(at, _)| self.held[candidates[*at].0].multipath = true);
        }
        let mut last = first;
        for rank in 2..=selecting.rules.ranked {
            rest.retain(|(at, _)| *at != last);
            let mut equal = rest.clone();
            keep_equal(&mut equal, selecting.rules.best_path);
            let next = equal.iter().map(|(at, _)| *at).min_by_key(|at| candidates[*at].1.tie_break());
            let Some(next) = next else { break };
            self.held[candidates[next].0].rank = rank;
            last = next;
        }
    }
}
