use std::net::IpAddr;

use ipnet::IpNet;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn route<'a>(prefix: &str, attributes: &'a RouteAttributes) -> Route<'a> {
    Route {
        prefix: net(prefix),
        source: SourceMatch::Learned,
        peer: Some(PeerKind::External),
        next_hop: Some(IpAddr::from([10, 0, 0, 2])),
        interface: Some("eth0"),
        attributes,
    }
}

fn matches(when: &Match, route: &Route<'_>) -> bool {
    let policy = Policy::new(vec![Rule::deciding("r", when.clone(), Verdict::Accept)], Verdict::Reject);
    let verdict = policy.evaluate(route).is_some();
    assert_eq!(policy.trace(route).verdict == Verdict::Accept, verdict);
    verdict
}

#[test]
fn every_condition_holds_or_not_by_itself() {
    let attributes = RouteAttributes {
        local_pref: Some(mirrored(512)),
        communities: [Community(7)].into(),
        large_communities: [LargeCommunity(1, 2, 3)].into(),
        as_path: vec![Asn(65001), Asn(65002)],
        ..RouteAttributes::default()
    };
    let route = route("10.1.2.0/24", &attributes);
    let prefix = |set: PrefixMatch, is_negated| Match {
        prefix: Some(PrefixCondition { set: set.into(), is_negated }),
        ..Match::default()
    };
    let next_hop = |text: &str| Match {
        next_hop: prefix(PrefixMatch::within(net(text)), false).prefix,
        ..Match::default()
    };
    let within = PrefixMatch::within(net("10.0.0.0/8"));
    let long = PrefixMatch { min_len: 25, ..within };
    let of = |family| Match { family: Some(family), ..Match::default() };
    let cases = [
        (of(Family::Ipv4Unicast), of(Family::Ipv6Unicast)),
        (prefix(within, false), prefix(long, false)),
        (prefix(PrefixMatch::exactly(net("10.1.2.0/24")), false), prefix(within, true)),
        (
            Match { peer: Some(PeerKind::External), ..Match::default() },
            Match { peer: Some(PeerKind::Internal), ..Match::default() },
        ),
        (
            Match { source: Some(SourceMatch::Learned), ..Match::default() },
            Match { source: Some(SourceMatch::Local), ..Match::default() },
        ),
        (
            Match { interfaces: vec!["lo".into(), "e*0".into()], ..Match::default() },
            Match { interfaces: vec!["eth".into()], ..Match::default() },
        ),
        (
            Match { community: Some(AnyCommunity::Standard(Community(7))), ..Match::default() },
            Match { community: Some(AnyCommunity::Standard(Community(8))), ..Match::default() },
        ),
        (
            Match { community: Some(AnyCommunity::Large(LargeCommunity(1, 2, 3))), ..Match::default() },
            Match { community: Some(AnyCommunity::Large(LargeCommunity(1, 2, 4))), ..Match::default() },
        ),
        (
            Match { as_path_prefix: vec![Asn(65001)], ..Match::default() },
            Match { as_path_prefix: vec![Asn(65002)], ..Match::default() },
        ),
        (
            Match { priority: Some(PriorityMatch::Exactly(512)), ..Match::default() },
            Match { priority: Some(PriorityMatch::BetterThan(512)), ..Match::default() },
        ),
        (next_hop("10.0.0.0/24"), next_hop("10.0.1.0/24")),
    ];
    for (holds, does_not) in cases {
        assert!(matches(&holds, &route), "{holds}");
        assert!(!matches(&does_not, &route), "{does_not}");
    }
}

#[test]
fn what_a_route_does_not_have_does_not_match() {
    let attributes = RouteAttributes::default();
    let route = Route { next_hop: None, interface: None, ..route("10.1.2.0/24", &attributes) };
    let all = PrefixMatch::within(net("0.0.0.0/0"));
    for when in [
        Match { interfaces: vec!["eth*".into()], ..Match::default() },
        Match { priority: Some(PriorityMatch::BetterThan(u32::MAX)), ..Match::default() },
        Match { next_hop: Match::prefix(all).prefix, ..Match::default() },
        Match { as_path_prefix: vec![Asn(1)], ..Match::default() },
    ] {
        assert!(!matches(&when, &route), "{when}");
    }
    assert!(matches(&Match { interfaces: vec!["*".into()], ..Match::default() }, &route));
}

#[test]
fn names_of_interfaces_match_with_any_number_of_stars() {
    for (pattern, name, expected) in [
        ("eth0", "eth0", true),
        ("eth0", "eth01", false),
        ("eth*", "eth", true),
        ("*.calico", "vxlan.calico", true),
        ("*.calico", "vxlan.calico1", false),
        ("bpf*.cali", "bpfin.cali", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("ab*ba", "aba", false),
        ("*", "", true),
    ] {
        assert_eq!(InterfacePattern::from(pattern).matches(name), expected, "{pattern} {name}");
    }
}

#[test]
fn a_rule_may_change_and_leave_the_decision_to_those_that_see_the_change() {
    let mark = |number: u32, prepend: u32, when: Match| Rule {
        name: format!("mark {number}").into(),
        when,
        set: Actions {
            local_pref: Some(mirrored(number)),
            add_communities: [Community(number)].into(),
            prepend: vec![Asn(prepend)],
            ..Actions::default()
        },
        verdict: None,
    };
    let seen = Match {
        community: Some(AnyCommunity::Standard(Community(1))),
        priority: Some(PriorityMatch::Exactly(1)),
        as_path_prefix: vec![Asn(11), Asn(65001)],
        ..Match::default()
    };
    let both = Match {
        community: Some(AnyCommunity::Standard(Community(1))),
        priority: Some(PriorityMatch::Exactly(2)),
        as_path_prefix: vec![Asn(22), Asn(11), Asn(65001)],
        ..Match::default()
    };
    let rules = vec![
        mark(1, 11, Match::any()),
        mark(2, 22, seen),
        Rule::deciding("both", both, Verdict::Accept),
        Rule::deciding("never", Match::any(), Verdict::Reject),
    ];
    let policy = Policy::new(rules, Verdict::Reject);
    let attributes = RouteAttributes { as_path: vec![Asn(65001)], ..RouteAttributes::default() };
    let route = route("10.0.0.0/8", &attributes);
    let changes = policy.changes(&policy.evaluate(&route).unwrap());
    assert_eq!((changes.local_pref, &changes.prepend[..]), (Some(mirrored(2)), &[Asn(22), Asn(11)][..]));
    let trace = policy.trace(&route);
    assert_eq!((trace.steps.len(), trace.decided_by, &trace.changes), (3, Some(2), &changes));
    let mut changed = attributes.clone();
    changed.apply(&changes);
    assert_eq!(changed.as_path, [Asn(22), Asn(11), Asn(65001)]);
}

#[test]
fn a_trace_says_for_each_rule_why_it_does_not_match() {
    let attributes = RouteAttributes { local_pref: Some(100), ..RouteAttributes::default() };
    let elsewhere = Match::prefix(PrefixMatch::within(net("10.0.0.0/8")));
    let internal = Match { peer: Some(PeerKind::Internal), ..Match::default() };
    let rules = vec![
        Rule::deciding("first", elsewhere, Verdict::Accept),
        Rule::deciding("second", internal, Verdict::Accept),
    ];
    let trace = Policy::new(rules, Verdict::Reject).trace(&route("192.0.2.0/24", &attributes));
    let lines: Vec<String> = trace
        .steps
        .iter()
        .map(|step| match &step.outcome {
            StepOutcome::NotMatched(mismatch) => format!("{}: {}: {mismatch}", step.name, step.condition),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        lines,
        [
            "first: prefix in 10.0.0.0/8 (8..32): another prefix",
            "second: internal peer: the peer is external"
        ]
    );
    assert_eq!((trace.verdict, trace.decided_by), (Verdict::Reject, None));
}

#[test]
fn a_large_set_of_prefixes_is_searched_as_a_list_would_be() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut random = |lengths: std::ops::Range<u8>| {
        let length = rng.u8(lengths);
        let octets = [10, rng.u8(0..4), rng.u8(0..4), rng.u8(..)];
        (IpNet::new(octets.into(), length).unwrap().trunc(), rng.u8(length..=32))
    };
    let ranges: Vec<PrefixMatch> = (0..300)
        .map(|_| {
            let (within, max_len) = random(8..32);
            PrefixMatch { within, min_len: within.prefix_len(), max_len }
        })
        .collect();
    let set: PrefixSet = ranges.iter().copied().collect();
    for _ in 0..5_000 {
        let (prefix, _) = random(6..33);
        assert_eq!(set.matches(&prefix), ranges.iter().any(|range| range.matches(&prefix)), "{prefix}");
    }
    assert!(!set.matches(&net("fd00::/64")));
}
