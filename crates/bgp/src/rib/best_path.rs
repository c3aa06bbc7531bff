//! Route selection (RFC 4271, section 9.1; RFC 4456, section 9).

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr};

use super::attributes::AttributeSet;
use crate::types::{Asn, RouterId};

/// Where a route comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// We originate it.
    Local,
    /// An external peer.
    External,
    /// An external peer that only we can reach.
    Behind,
    /// An internal peer.
    Internal,
    /// An internal peer that is our reflection client.
    Client,
}

impl SourceKind {
    /// Whether it comes from our AS but not from ourselves.
    pub fn is_internal(self) -> bool {
        matches!(self, Self::Internal | Self::Client)
    }
}

/// The peer that a route comes from, as selection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// What it is to us.
    pub kind: SourceKind,
    /// Its identifier.
    pub router_id: RouterId,
    /// Its address.
    pub address: IpAddr,
}

/// A route that takes part in selection.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its attributes.
    pub attributes: &'a AttributeSet,
    /// Its source.
    pub source: &'a Source,
    /// The interior cost to its next hop.
    pub cost: u32,
    /// The path identifier that the peer gave it (RFC 7911); 0 without.
    pub path_id: u32,
}

/// What of route selection is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// MEDs of different neighbouring ASes are compared, too.
    pub always_compare_med: bool,
}

/// The steps of route selection, in order. Routes that only the steps after [`Step::InteriorCost`] tell apart from the
/// best one can be used together with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Highest preference: what we originate is better than what we learn, unless an import policy says otherwise.
    Preference,
    /// Highest LOCAL_PREF.
    LocalPref,
    /// Shortest AS_PATH.
    PathLength,
    /// Lowest ORIGIN.
    Origin,
    /// Lowest MED among routes of the same neighbouring AS.
    Med,
    /// External before internal.
    External,
    /// Lowest interior cost to the next hop.
    InteriorCost,
    /// Lowest identifier: ORIGINATOR_ID, or that of the peer.
    RouterId,
    /// Shortest CLUSTER_LIST.
    ClusterLength,
    /// Lowest peer address.
    PeerAddress,
    /// Lowest path identifier, among the routes of one peer.
    PathId,
}

/// Every step, in order.
pub const STEPS: [Step; 11] = [
    Step::Preference,
    Step::LocalPref,
    Step::PathLength,
    Step::Origin,
    Step::Med,
    Step::External,
    Step::InteriorCost,
    Step::RouterId,
    Step::ClusterLength,
    Step::PeerAddress,
    Step::PathId,
];

/// What the steps before the identifiers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merit {
    /// The smaller the better.
    before_med: u128,
    neighbour: Option<Asn>,
    med: u32,
    /// The smaller the better.
    after_med: u64,
}

/// What tells apart routes of equal merit; the smaller the better.
pub(crate) type TieBreak = (Ipv4Addr, u32, IpAddr, u32);

impl Candidate<'_> {
    pub(crate) fn merit(&self) -> Merit {
        let attributes = self.attributes;
        let ranked = [
            u32::MAX - attributes.preference,
            u32::MAX - attributes.local_pref,
            attributes.path_length,
            attributes.origin as u32,
        ];
        Merit {
            before_med: ranked.iter().fold(0, |merit, part| merit << 32 | u128::from(*part)),
            neighbour: attributes.neighbour,
            med: attributes.med.unwrap_or(0),
            after_med: u64::from(self.source.kind.is_internal()) << 32 | u64::from(self.cost),
        }
    }

    pub(crate) fn tie_break(&self) -> TieBreak {
        (identifier(self), self.attributes.cluster_length, self.source.address, self.path_id)
    }
}

impl Merit {
    /// How it compares before MEDs are looked at: these steps do not depend on third routes.
    pub(crate) fn before_med(&self) -> u128 {
        self.before_med
    }
}

/// Leaves those that no step before the identifiers tells apart from the best.
pub(crate) fn keep_equal<T: Copy>(routes: &mut Vec<(T, Merit)>, rules: Rules) {
    let Some(least) = routes.iter().map(|(_, merit)| merit.before_med).min() else { return };
    routes.retain(|(_, merit)| merit.before_med == least);
    if routes.len() > 1 {
        keep_lowest_med(routes, rules);
    }
    if let Some(least) = routes.iter().map(|(_, merit)| merit.after_med).min() {
        routes.retain(|(_, merit)| merit.after_med == least);
    }
}

/// RFC 4271, section 9.1.2.2 c: a route goes when another one of the same neighbouring AS has a lower MED. Which
/// routes go depends on all that are left, so this is not an order of pairs.
fn keep_lowest_med<T: Copy>(routes: &mut Vec<(T, Merit)>, rules: Rules) {
    let Some((_, first)) = routes.first().copied() else { return };
    if routes.iter().all(|(_, merit)| merit.med == first.med) {
        return;
    }
    let comparable = |a: &Merit, b: &Merit| rules.always_compare_med || a.neighbour == b.neighbour;
    let merits: Vec<Merit> = routes.iter().map(|(_, merit)| *merit).collect();
    routes.retain(|(_, merit)| !merits.iter().any(|other| comparable(merit, other) && other.med < merit.med));
}

/// The best of some candidates: its index. `None` when there is none. Of routes that nothing tells apart, the first.
pub fn select(candidates: &[Candidate<'_>], rules: Rules) -> Option<usize> {
    equally_good(candidates, rules).first().copied()
}

/// The best of some candidates and those that can be used together with it, the best first.
pub fn equally_good(candidates: &[Candidate<'_>], rules: Rules) -> Vec<usize> {
    let mut routes: Vec<(usize, Merit)> = candidates.iter().map(Candidate::merit).enumerate().collect();
    keep_equal(&mut routes, rules);
    routes.sort_by_key(|(index, _)| candidates[*index].tie_break());
    routes.into_iter().map(|(index, _)| index).collect()
}

/// The step at which each candidate lost; `None` for the best, and for what nothing tells apart from it.
pub fn explain(candidates: &[Candidate<'_>], rules: Rules) -> Vec<Option<Step>> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut lost = vec![None; candidates.len()];
    for step in STEPS {
        let next = survivors(step, &left, candidates, rules);
        left.iter().filter(|index| !next.contains(index)).for_each(|index| lost[*index] = Some(step));
        left = next;
    }
    lost
}

/// One step, by the letter: [`select`] does several at once, and must come to the same result.
fn survivors(step: Step, left: &[usize], candidates: &[Candidate<'_>], rules: Rules) -> Vec<usize> {
    let lowest = |key: &dyn Fn(&Candidate<'_>) -> (u64, u128)| {
        let best = left.iter().map(|index| key(&candidates[*index])).min();
        left.iter().copied().filter(|index| Some(key(&candidates[*index])) == best).collect()
    };
    match step {
        Step::Preference => lowest(&|c| (u64::from(u32::MAX - c.attributes.preference), 0)),
        Step::LocalPref => lowest(&|c| (u64::from(u32::MAX - c.attributes.local_pref), 0)),
        Step::PathLength => lowest(&|c| (u64::from(c.attributes.path_length), 0)),
        Step::Origin => lowest(&|c| (c.attributes.origin as u64, 0)),
        Step::Med => {
            let mut routes = left.iter().map(|index| (*index, candidates[*index].merit())).collect();
            keep_lowest_med(&mut routes, rules);
            routes.into_iter().map(|(index, _)| index).collect()
        }
        Step::External => lowest(&|c| (u64::from(c.source.kind.is_internal()), 0)),
        Step::InteriorCost => lowest(&|c| (u64::from(c.cost), 0)),
        Step::RouterId => lowest(&|c| (u64::from(u32::from(identifier(c))), 0)),
        Step::ClusterLength => lowest(&|c| (u64::from(c.attributes.cluster_length), 0)),
        Step::PeerAddress => lowest(&|c| match c.source.address {
            IpAddr::V4(address) => (0, u128::from(u32::from(address))),
            IpAddr::V6(address) => (1, u128::from(address)),
        }),
        Step::PathId => lowest(&|c| (u64::from(c.path_id), 0)),
    }
}

fn identifier(candidate: &Candidate<'_>) -> Ipv4Addr {
    candidate.attributes.originator.unwrap_or(candidate.source.router_id.0)
}

/// For sorting whole lists best first, as `bgp routes` prints them. Not the selection itself: MEDs of different
/// neighbours are not compared.
pub fn rank(candidate: &Candidate<'_>) -> impl Ord + use<> {
    let attributes = candidate.attributes;
    (
        Reverse(attributes.preference),
        Reverse(attributes.local_pref),
        attributes.path_length,
        attributes.origin,
        candidate.source.kind.is_internal(),
        identifier(candidate),
    )
}

#[cfg(test)]
mod tests {
    use super::super::attributes::DEFAULT_PREFERENCE;
    use super::*;
    use crate::config::Origination;
    use crate::packet::attribute::{AsPath, Attribute, AttributeValue, Origin};

    struct Route {
        attributes: Vec<AttributeValue>,
        source: Source,
        preference: u32,
        cost: u32,
        path_id: u32,
    }

    fn route(last: u8, path: &[u32]) -> Route {
        let source = Source {
            kind: SourceKind::External,
            router_id: RouterId([192, 0, 2, last].into()),
            address: IpAddr::from([10, 0, 0, last]),
        };
        let path = AsPath::sequence(path.iter().copied());
        let attributes = vec![AttributeValue::Origin(Origin::Igp), AttributeValue::AsPath(path)];
        Route { attributes, source, preference: DEFAULT_PREFERENCE, cost: 0, path_id: 0 }
    }

    impl Route {
        fn with(mut self, value: AttributeValue) -> Self {
            self.attributes.retain(|old| old.code() != value.code());
            self.attributes.push(value);
            self
        }

        fn kind(mut self, kind: SourceKind) -> Self {
            self.source.kind = kind;
            self
        }
    }

    fn decide(routes: &[Route]) -> (Option<usize>, Vec<Option<Step>>) {
        decide_by(routes, Rules::default())
    }

    fn decide_by(routes: &[Route], rules: Rules) -> (Option<usize>, Vec<Option<Step>>) {
        let sets: Vec<AttributeSet> = routes
            .iter()
            .map(|route| {
                let attributes = route.attributes.iter().cloned().map(Attribute::new).collect();
                let mut set = AttributeSet::new(attributes, IpAddr::from([10, 0, 0, 1]), None);
                set.preference = route.preference;
                set
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = sets
            .iter()
            .zip(routes)
            .map(|(attributes, route)| Candidate {
                attributes,
                source: &route.source,
                cost: route.cost,
                path_id: route.path_id,
            })
            .collect();
        let lost = explain(&candidates, rules);
        let equal: Vec<usize> = equally_good(&candidates, rules);
        let mut expected: Vec<usize> = (0..routes.len())
            .filter(|index| lost[*index].is_none_or(|step| step > Step::InteriorCost))
            .collect();
        expected.sort_by_key(|index| equal.iter().position(|other| other == index));
        assert_eq!(equal, expected, "the steps one by one come to the same result");
        (select(&candidates, rules), lost)
    }

    fn assert_lost(routes: &[Route], winner: usize, step: Step) {
        let (best, lost) = decide(routes);
        assert_eq!(best, Some(winner));
        assert_eq!(lost[1 - winner], Some(step));
        assert_eq!(lost[winner], None);
    }

    #[test]
    fn each_step_decides_when_those_before_it_do_not() {
        let one = || route(1, &[1, 2]);
        let two = || route(2, &[1, 2]);
        assert_lost(&[one(), Route { preference: 101, ..two() }], 1, Step::Preference);
        assert_lost(&[one(), two().with(AttributeValue::LocalPref(101))], 1, Step::LocalPref);
        assert_lost(&[one(), route(2, &[1])], 1, Step::PathLength);
        assert_lost(&[one().with(AttributeValue::Origin(Origin::Egp)), two()], 1, Step::Origin);
        assert_lost(&[one().with(AttributeValue::Med(1)), two()], 1, Step::Med);
        assert_lost(&[one().kind(SourceKind::Internal), two()], 1, Step::External);
        assert_lost(&[Route { cost: 5, ..one() }, Route { cost: 4, ..two() }], 1, Step::InteriorCost);
        assert_lost(&[one(), two()], 0, Step::RouterId);
        assert_lost(&[Route { path_id: 2, ..one() }, Route { path_id: 1, ..one() }], 1, Step::PathId);
        let reflected = |last: u8, clusters: usize| {
            route(last, &[1])
                .kind(SourceKind::Internal)
                .with(AttributeValue::OriginatorId([9, 9, 9, 9].into()))
                .with(AttributeValue::ClusterList(vec![[1, 1, 1, 1].into(); clusters]))
        };
        assert_lost(&[reflected(1, 2), reflected(2, 1)], 1, Step::ClusterLength);
        assert_lost(&[reflected(1, 1), reflected(2, 1)], 0, Step::PeerAddress);
    }

    #[test]
    fn meds_of_different_neighbours_are_not_compared() {
        let routes = [
            route(2, &[7, 9]).with(AttributeValue::Med(50)),
            route(1, &[8, 9]).with(AttributeValue::Med(90)),
        ];
        assert_lost(&routes, 1, Step::RouterId);
    }

    #[test]
    fn a_route_beaten_by_its_neighbours_med_does_not_beat_others() {
        // a and b are of AS 7, c of AS 8. Pairwise: a beats c, c beats b, b beats a. As a set: a goes by MED, then
        // c's identifier is lower than b's.
        let a = route(1, &[7, 9]).with(AttributeValue::Med(20));
        let b = route(3, &[7, 9]).with(AttributeValue::Med(10));
        let c = route(2, &[8, 9]);
        let (best, lost) = decide(&[a, b, c]);
        assert_eq!(best, Some(2));
        assert_eq!(lost, [Some(Step::Med), Some(Step::RouterId), None]);
    }

    #[test]
    fn meds_of_all_neighbours_are_compared_on_request() {
        let routes = [
            route(2, &[7, 9]).with(AttributeValue::Med(50)),
            route(1, &[8, 9]).with(AttributeValue::Med(90)),
        ];
        let (best, lost) = decide_by(&routes, Rules { always_compare_med: true });
        assert_eq!((best, lost), (Some(0), vec![None, Some(Step::Med)]));
    }

    #[test]
    fn selection_does_not_depend_on_the_order_of_routes() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let mut routes: Vec<Route> = (0..6u8)
                .map(|last| {
                    let path = [rng.u32(7..9), 9];
                    let route = route(last, &path[..rng.usize(1..3)])
                        .with(AttributeValue::Med(rng.u32(0..3)))
                        .with(AttributeValue::LocalPref(rng.u32(100..102)));
                    let kinds = [SourceKind::External, SourceKind::Internal];
                    Route { cost: rng.u32(0..2), ..route }.kind(kinds[rng.usize(0..2)])
                })
                .collect();
            let best = decide(&routes).0.map(|index| routes[index].source.address);
            rng.shuffle(&mut routes);
            assert_eq!(decide(&routes).0.map(|index| routes[index].source.address), best);
        }
    }

    #[test]
    fn an_originated_route_has_the_default_preference() {
        let set = AttributeSet::originated(&Origination::default());
        assert_eq!(set.local_pref, 100);
        assert!(set.preference > DEFAULT_PREFERENCE);
    }
}
