//! The routes for a prefix that has several, and selection among them.

use super::best_path::{self, Candidate, Merit, Source, SourceKind, keep_equal};
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
    /// An add-path peer wants the best of each next hop.
    pub each_next_hop: bool,
}

impl Default for SelectionRules {
    fn default() -> Self {
        Self {
            best_path: best_path::Rules::default(),
            multipath: Multipath::OFF,
            ranked: 1,
            all: false,
            each_next_hop: false,
        }
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
            SendPaths::EachNextHop => Self { each_next_hop: true, ..self },
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
    /// The best of those with its next hop, if somebody asks for them.
    pub(super) leads: bool,
    /// The best one for the peer that the one that leads comes from; [`PeerNumber::LOCAL`]: for nobody.
    pub(super) instead_for: PeerNumber,
}

impl Held {
    fn unselected(path: Path, ours: u32) -> Self {
        Self { path, ours, rank: 0, multipath: false, leads: false, instead_for: PeerNumber::LOCAL }
    }

    /// Somebody may get it.
    fn is_selected(&self) -> bool {
        self.rank > 0 || self.multipath || self.leads || self.instead_for != PeerNumber::LOCAL
    }
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
            SourceKind::External | SourceKind::Behind => self.rules.multipath.external,
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

    pub(super) fn best(&self) -> Option<usize> {
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
                leads: held.leads,
                instead_for: held.instead_for,
            }
        };
        let is_other = |held: &&Held| held.rank != 1 && held.is_selected();
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
        let rules = &selecting.rules;
        if old == Some(best) || rules.all || rules.each_next_hop || rules.ranked > 1 {
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
                self.held[index] = Held::unselected(path, ours);
            }
            Err(index) => {
                let ours = self.free_identifier();
                self.held.insert(index, Held::unselected(path, ours));
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
            *held = Held::unselected(held.path, held.ours);
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
        if selecting.rules.each_next_hop {
            for (leader, second) in leaders(&candidates, selecting.rules.best_path) {
                let source = self.held[candidates[leader].0].path.peer;
                self.held[candidates[leader].0].leads = true;
                if let Some(second) = second {
                    self.held[candidates[second].0].instead_for = source;
                }
            }
        }
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

/// The best of each next hop, by their places among the candidates, each with the best one that its source does not know.
fn leaders(candidates: &[(usize, Candidate<'_>)], rules: best_path::Rules) -> Vec<(usize, Option<usize>)> {
    let best_of = |places: &[usize]| {
        let mut routes: Vec<_> = places.iter().map(|at| (*at, candidates[*at].1.merit())).collect();
        keep_equal(&mut routes, rules);
        routes.into_iter().map(|(at, _)| at).min_by_key(|at| candidates[*at].1.tie_break())
    };
    let next_hop = |at: &usize| candidates[*at].1.attributes.next_hop;
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    places.sort_by_key(next_hop);
    let same = places.chunk_by(|a, b| next_hop(a) == next_hop(b));
    let leader = |same: &[usize]| {
        let leader = best_of(same)?;
        let source = candidates[leader].1.source;
        let others = same.iter().copied().filter(|at| is_news_to(source, &candidates[*at].1));
        Some((leader, best_of(&others.collect::<Vec<_>>())))
    };
    same.filter_map(leader).collect()
}

/// Whether a peer that told us of a route would use another one: it does not come from it, nor has it gone through it
/// (RFC 4456, section 8).
fn is_news_to(peer: &Source, route: &Candidate<'_>) -> bool {
    let ours = std::ptr::eq(peer, route.source);
    !ours
        && route.attributes.originator != Some(peer.router_id.0)
        && !route.attributes.went_through(peer.router_id.0)
}
