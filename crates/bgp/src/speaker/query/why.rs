//! Everything about one prefix.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PeerError;
use super::selection::{Contest, Defeat};
use super::told::ToldPeer;
use super::view::{RouteView, Use};
use crate::config::Aggregate;
use crate::policy::{Policy, Route, SourceMatch, Trace, Verdict};
use crate::rib::best_path::Candidate;
use crate::rib::{AttributeSet, Net, Parts, Path, PeerNumber};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;

/// Routes that are explained.
const PATHS: usize = 50;
/// Routes of an aggregate that are named.
const PARTS: usize = 10;
/// Peers of which it is said whether they were told.
const TOLD: usize = 32;

/// Everything about one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The prefix.
    pub prefix: IpNet,
    /// Its routes: the best one first, then those that got furthest in selection.
    pub paths: Vec<PathExplanation>,
    /// How many more there are.
    pub more_paths: usize,
    /// What it is made of, if an aggregate is configured for it, whether that is there now or not.
    pub aggregate: Option<AggregateView>,
    /// Routes that import policies turned away, as far as they are remembered.
    pub rejected: Vec<RejectedRoute>,
    /// Established peers, and whether they were told.
    pub told: Vec<ToldPeer>,
    /// How many more there are.
    pub more_peers: usize,
}

/// What an aggregate is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateView {
    /// How it is configured.
    pub config: Aggregate,
    /// How many routes it is made of.
    pub count: usize,
    /// The first of them.
    pub first: Vec<IpNet>,
}

/// A route, and how it fared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathExplanation {
    /// The route.
    pub route: RouteView,
    /// Where it lost; none for the best one, and for what did not take part. What is used beside the best one lost to it,
    /// too, at a step that does not keep it from being used.
    pub defeat: Option<Defeat>,
    /// The import policy; none for routes of our own.
    pub import: Option<ImportTrace>,
}

/// What an import policy makes of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportTrace {
    /// The steps.
    pub trace: Trace,
    /// Whether they are those that it took when it came. Of a route that was changed only the changed form is kept, so
    /// conditions on what the policy itself changes may have seen other values.
    pub exact: bool,
}

/// A route that an import policy turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRoute {
    /// The route, as it came.
    pub route: RouteView,
    /// The steps.
    pub import: Trace,
}

impl Speaker {
    /// The longest prefix with a route that has an address; `None`: there is none.
    pub fn longest_match(&self, address: IpAddr) -> Option<IpNet> {
        let whole = IpNet::from(address);
        let lengths = (0..=whole.prefix_len()).rev();
        let mut candidates =
            lengths.filter_map(|length| IpNet::new(address, length).ok()).map(|net| net.trunc());
        candidates.find(|prefix| self.has_routes(*prefix))
    }

    fn has_routes(&self, prefix: IpNet) -> bool {
        match prefix {
            IpNet::V4(net) => self.ipv4.rib.slot(net).is_some(),
            IpNet::V6(net) => self.ipv6.rib.slot(net).is_some(),
        }
    }

    /// Explains a prefix: every route, and to whom the best one goes. With `to`, only whether that peer was told.
    ///
    /// # Errors
    /// There is no such peer.
    pub fn explain(&self, prefix: IpNet, to: Option<&str>) -> Result<Explanation, PeerError> {
        let to = to.map(|text| self.number(text)).transpose()?;
        Ok(match prefix.trunc() {
            IpNet::V4(net) => self.explain_in(&self.ipv4, net, to),
            IpNet::V6(net) => self.explain_in(&self.ipv6, net, to),
        })
    }

    fn explain_in<N: Net>(&self, family: &FamilyRib<N>, prefix: N, to: Option<PeerNumber>) -> Explanation {
        let mut paths = self.paths(family, prefix);
        let all = paths.len();
        paths.truncate(PATHS);
        let peers: Vec<PeerNumber> = match to {
            Some(number) => vec![number],
            None => self
                .numbers
                .values()
                .copied()
                .filter(|number| family.groups.key_of(*number).is_some())
                .collect(),
        };
        Explanation {
            prefix: prefix.into(),
            more_paths: all - paths.len(),
            paths,
            aggregate: family
                .aggregates
                .parts(prefix, PARTS)
                .map(|Parts { config, count, first }| AggregateView { config, count, first }),
            rejected: self.rejected(family, prefix),
            more_peers: peers.len().saturating_sub(TOLD),
            told: peers.into_iter().take(TOLD).map(|number| self.told_peer(family, number, prefix)).collect(),
        }
    }

    fn paths<N: Net>(&self, family: &FamilyRib<N>, prefix: N) -> Vec<PathExplanation> {
        let routes = family.rib.routes(prefix);
        let views: Vec<RouteView> = (routes.paths.iter().enumerate())
            .map(|(index, path)| self.view(prefix.into(), path, Use::of(index, &routes)))
            .collect();
        let usable = routes.paths.iter().zip(&views).filter(|(_, view)| view.unusable.is_none());
        let entrants = usable.map(|(path, _)| {
            let (attributes, source) = (self.interner.get(path.attributes), &self.sources[&path.peer]);
            let cost = self.interner.cost(path.attributes).unwrap_or(u32::MAX);
            (path.peer, Candidate { attributes, source, cost, path_id: path.path_id })
        });
        let contest = Contest { entrants: entrants.collect(), rules: family.rib.rules().best_path };
        let mut defeats =
            contest.defeats(|number| self.peers.get(&number).map(|peer| peer.id.clone())).into_iter();
        let mut explained: Vec<PathExplanation> = views
            .into_iter()
            .zip(&routes.paths)
            .map(|(route, path)| PathExplanation {
                defeat: if route.unusable.is_none() { defeats.next().flatten() } else { None },
                import: self.import_trace(prefix.into(), path),
                route,
            })
            .collect();
        let distance = |path: &PathExplanation| {
            let lost = path.defeat.as_ref().map(|defeat| std::cmp::Reverse(defeat.step));
            (!path.route.best, !path.route.multipath, path.route.unusable.is_some(), lost)
        };
        explained.sort_by_key(distance);
        explained
    }

    fn import_trace(&self, prefix: IpNet, path: &Path) -> Option<ImportTrace> {
        let policy = self.import_policy(path.peer)?;
        let set = self.interner.get(path.attributes);
        let trace = self.trace_import(policy, path.peer, prefix, set)?;
        let exact = trace.verdict == Verdict::Accept && trace.changes.is_empty();
        Some(ImportTrace { trace, exact })
    }

    fn import_policy(&self, number: PeerNumber) -> Option<&Policy> {
        self.peers.get(&number).map(|peer| peer.in_force(&peer.config.import))
    }

    fn trace_import(
        &self,
        policy: &Policy,
        number: PeerNumber,
        prefix: IpNet,
        set: &AttributeSet,
    ) -> Option<Trace> {
        let kind = self.peers.get(&number)?.kind();
        Some(policy.trace(&Route {
            prefix,
            source: SourceMatch::Learned,
            peer: Some(kind),
            next_hop: Some(set.next_hop),
            interface: self.config.interfaces.of(set.next_hop),
            attributes: set,
        }))
    }

    fn rejected<N: Net>(&self, family: &FamilyRib<N>, prefix: N) -> Vec<RejectedRoute> {
        let found = family.rejected.of_prefix(prefix).filter_map(|(number, set)| {
            let peer = self.peers.get(&number)?;
            let route = RouteView {
                prefix: prefix.into(),
                peer: Some(peer.id.clone()),
                from: Some(peer.config.address),
                path_id: None,
                attributes: set.clone(),
                best: false,
                multipath: false,
                stale: false,
                unusable: None,
            };
            Some(RejectedRoute {
                route,
                import: self.trace_import(self.import_policy(number)?, number, prefix.into(), set)?,
            })
        });
        found.take(PATHS).collect()
    }
}
