//! Questions to a speaker: routes page by page, why a route is not used, what would change.

use std::collections::BTreeSet;

use bgp::config::Origination;
use bgp::packet::attribute::{AttributeValue, Community};
use bgp::policy::{Match, Policy, PrefixMatch, Rule, StepOutcome, Verdict};
use bgp::query::{
    Cursor, Explanation, Hypothesis, NotTold, RouteFilter, RouteView, SessionEvent, Tally, ToldChange,
    Unusable, View, WhatIfPage,
};
use bgp::rib::Refusal;
use bgp::rib::best_path::Step;
use bgp::{Family, PeerId, Speaker, SpeakerConfig, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

fn peers() -> SpeakerConfig {
    config(&[
        ("e4", peer(4, 65004)),
        ("e5", peer(5, 65005)),
        ("i2", peer(2, OUR_AS)),
        ("i3", peer(3, OUR_AS)),
    ])
}

fn started(config: SpeakerConfig) -> Bench {
    let names: Vec<String> = config.peers.keys().map(ToString::to_string).collect();
    let mut bench = Bench::new(config, Start::Fresh);
    names.iter().for_each(|name| bench.up(name));
    bench
}

fn all() -> RouteFilter {
    RouteFilter { view: View::All, prefix: None, longer: false }
}

/// All pages, and how many there were.
fn pages(speaker: &Speaker, filter: &RouteFilter) -> (Vec<RouteView>, usize) {
    let (mut routes, mut count, mut from) = (Vec::new(), 0, Some(Cursor::START));
    while let Some(cursor) = from {
        let page = speaker.routes(filter, cursor);
        routes.extend(page.routes);
        count += 1;
        // As a client hands it back.
        from = page.next.map(|next| next.to_string().parse().expect("a cursor"));
        assert!(count < 1000, "pages without end");
    }
    (routes, count)
}

fn shown(routes: &[RouteView]) -> Vec<String> {
    let line = |route: &RouteView| {
        let peer = route.peer.as_ref().map_or("self", |peer| peer.0.as_str());
        format!("{} {peer}{}", route.prefix, if route.best { " *" } else { "" })
    };
    routes.iter().map(line).collect()
}

fn explain(bench: &Bench, prefix: &str) -> Explanation {
    bench.speaker.explain(net(prefix), None).expect("no peer is asked for")
}

fn what_if(speaker: &Speaker, hypothesis: &Hypothesis) -> WhatIfPage {
    let mut page = speaker.what_if(hypothesis, Cursor::START).expect("known peers");
    while let Some(next) = page.next {
        let more = speaker.what_if(hypothesis, next).expect("known peers");
        page.changes.extend(more.changes);
        page.examined += more.examined;
        for (peer, told) in more.told {
            let sum = page.told.entry(peer).or_default();
            sum.announced += told.announced;
            sum.changed += told.changed;
            sum.withdrawn += told.withdrawn;
        }
        page.next = more.next;
    }
    page
}

#[test]
fn routes_are_shown_from_each_side() {
    let mut config = peers();
    config.originated.insert(net("10.65.1.0/26"), Origination::default());
    let mut bench = started(config);
    bench.announce("i2", &["10.65.2.0/26", "2001:db8:2::/64"], &[], &[]);
    bench.announce("e4", &["10.65.2.0/26", "203.0.113.0/24"], &[65004], &[]);
    let speaker = &bench.speaker;
    assert_eq!(
        shown(&pages(speaker, &all()).0),
        [
            "10.65.1.0/26 self *",
            "10.65.2.0/26 i2 *",
            "10.65.2.0/26 e4",
            "203.0.113.0/24 e4 *",
            "2001:db8:2::/64 i2 *"
        ]
    );
    let received = RouteFilter { view: View::Received("e4".into()), ..all() };
    assert_eq!(shown(&pages(speaker, &received).0), ["10.65.2.0/26 e4", "203.0.113.0/24 e4 *"]);
    let inside = RouteFilter { prefix: Some(net("10.65.0.0/16")), longer: true, ..all() };
    assert_eq!(pages(speaker, &inside).0.len(), 3);
    assert_eq!(pages(speaker, &RouteFilter { longer: false, ..inside }).0.len(), 0);
    let exact = RouteFilter { prefix: Some(net("10.65.2.0/26")), ..all() };
    assert_eq!(pages(speaker, &exact).0.len(), 2);
}

#[test]
fn what_is_advertised_is_what_the_peer_has_heard() {
    let mut config = peers();
    config.originated.insert(net("10.65.1.0/26"), Origination::default());
    let mut bench = started(config);
    bench.announce("i2", &["10.65.2.0/26", "2001:db8:2::/64"], &[], &[]);
    bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24"], &[65004], &[]);
    bench.withdraw("e4", &["198.51.100.0/24"]);
    for name in ["e4", "e5", "i2", "i3"] {
        let filter = RouteFilter { view: View::Advertised(name.into()), ..all() };
        let routes = pages(&bench.speaker, &filter).0;
        let probe = &bench.probes[name];
        assert_eq!(routes.len(), probe.routes.len(), "{name}");
        for route in routes {
            let heard = &probe.routes[&route.prefix];
            assert_eq!(route.attributes.next_hop, heard.next_hop(), "{name} {}", route.prefix);
            let kept = |code: u8| !matches!(code, 3 | 14);
            let heard: Vec<_> = heard.attributes.iter().filter(|a| kept(a.value.code())).cloned().collect();
            let mut shown = route.attributes.decode();
            shown.retain(|attribute| kept(attribute.value.code()));
            let sorted = |mut list: Vec<bgp::packet::attribute::Attribute>| {
                list.sort_by_key(|attribute| attribute.value.code());
                list
            };
            assert_eq!(sorted(shown), sorted(heard), "{name} {}", route.prefix);
        }
    }
}

#[test]
fn a_large_table_comes_in_pages_and_every_route_once() {
    let mut bench = started(peers());
    let prefixes: Vec<String> = (0..20_000u32).map(|n| format!("10.{}.{}.0/24", n >> 8, n & 255)).collect();
    for name in ["i2", "i3"] {
        for chunk in prefixes.chunks(500) {
            bench.announce(name, &chunk.iter().map(String::as_str).collect::<Vec<_>>(), &[], &[]);
        }
    }
    let (routes, count) = pages(&bench.speaker, &all());
    assert!(count > 10, "{count} pages");
    let seen: BTreeSet<_> = routes.iter().map(|route| (route.prefix, route.peer.clone())).collect();
    assert_eq!((routes.len(), seen.len()), (40_000, 40_000));
    let mut tally = Tally::default();
    let mut from = Some(Cursor::START);
    while let Some(cursor) = from {
        from = bench.speaker.tally(cursor, &mut tally);
    }
    let (best, told) = (
        |peer: &str| tally.best(&bench.speaker, &PeerId::from(peer), Family::Ipv4Unicast),
        |peer: &str| tally.told(&bench.speaker, &PeerId::from(peer), Family::Ipv4Unicast),
    );
    assert_eq!(best("i2") + best("i3"), 20_000);
    assert_eq!([told("e4"), told("e5"), told("i2"), told("i3")], [20_000, 20_000, 0, 0]);
}

#[test]
fn every_loser_is_told_the_step_that_decided() {
    let mut bench = started(peers());
    bench.announce("i2", &["203.0.113.0/24"], &[7, 9], &[AttributeValue::LocalPref(200)]);
    bench.announce("i3", &["203.0.113.0/24"], &[7], &[AttributeValue::LocalPref(200)]);
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    bench.announce("e5", &["203.0.113.0/24"], &[65005, OUR_AS], &[]);
    let why = explain(&bench, "203.0.113.0/24");
    let fate: Vec<_> = why
        .paths
        .iter()
        .map(|path| {
            let peer = path.route.peer.clone().unwrap().0;
            let defeat = path.defeat.as_ref();
            (peer, defeat.map(|d| (d.step, d.this.clone(), d.better.clone(), d.beaten_by.clone().unwrap().0)))
        })
        .collect();
    let lost =
        |step, this: &str, better: &str| Some((step, this.to_owned(), better.to_owned(), "i3".to_owned()));
    assert_eq!(
        fate,
        [
            ("i3".to_owned(), None),
            ("i2".to_owned(), lost(Step::PathLength, "2", "1")),
            ("e4".to_owned(), lost(Step::LocalPref, "100", "200")),
            ("e5".to_owned(), None),
        ]
    );
    let asn = bgp::Asn(OUR_AS);
    assert_eq!(why.paths[3].route.unusable, Some(Unusable::OwnAs { asn, times: 1, allowed: 0 }));
}

#[test]
fn a_med_is_beaten_only_by_a_route_of_the_same_neighbour() {
    let mut bench = started(peers());
    bench.announce("i2", &["203.0.113.0/24"], &[7], &[AttributeValue::Med(20)]);
    bench.announce("i3", &["203.0.113.0/24"], &[7], &[AttributeValue::Med(10)]);
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    let why = explain(&bench, "203.0.113.0/24");
    let defeat = |peer: &str| {
        let path = why.paths.iter().find(|path| path.route.peer == Some(peer.into())).unwrap();
        path.defeat.as_ref().map(|defeat| (defeat.step, defeat.beaten_by.clone().unwrap().0))
    };
    assert_eq!(defeat("e4"), None);
    assert_eq!(defeat("i2"), Some((Step::Med, "i3".to_owned())));
    assert_eq!(defeat("i3"), Some((Step::External, "e4".to_owned())));
}

fn rejecting(prefix: &str) -> Policy {
    let when = Match::prefix(PrefixMatch::within(net(prefix)));
    Policy::new(vec![Rule::deciding("no-bogons", when, Verdict::Reject)], Verdict::Accept)
}

#[test]
fn what_a_filter_turned_away_is_remembered_with_the_rule() {
    let mut config = peers();
    config.peers.get_mut(&PeerId::from("e4")).unwrap().import = rejecting("10.0.0.0/8");
    let mut bench = started(config);
    bench.announce("e4", &["10.1.0.0/16", "203.0.113.0/24"], &[65004], &[]);
    let why = explain(&bench, "10.1.0.0/16");
    assert_eq!((why.paths.len(), why.rejected.len()), (0, 1));
    let rejected = &why.rejected[0];
    assert_eq!(rejected.route.peer, Some("e4".into()));
    assert_eq!(
        (&*rejected.import.steps[0].name, &rejected.import.steps[0].outcome),
        ("no-bogons", &StepOutcome::Rejected)
    );
    let accepted = explain(&bench, "203.0.113.0/24");
    let import = accepted.paths[0].import.as_ref().unwrap();
    assert!(import.exact && import.trace.decided_by.is_none(), "{import:?}");
    bench.withdraw("e4", &["10.1.0.0/16"]);
    assert!(explain(&bench, "10.1.0.0/16").rejected.is_empty());
    bench.announce("e4", &["10.1.0.0/16"], &[65004], &[]);
    bench.lose("e4");
    assert!(explain(&bench, "10.1.0.0/16").rejected.is_empty());
}

#[test]
fn each_peer_is_told_or_it_is_said_why_not() {
    let mut config = peers();
    config.peers.get_mut(&PeerId::from("e5")).unwrap().export = rejecting("10.65.0.0/16");
    let mut bench = started(config);
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    let fate = |bench: &Bench, prefix: &str| -> Vec<_> {
        let told = explain(bench, prefix).told;
        told.into_iter()
            .map(|told| (told.peer.0.clone(), told.route.map(|routes| routes[0].attributes.next_hop)))
            .collect()
    };
    assert_eq!(
        fate(&bench, "10.65.2.0/26"),
        [
            ("e4".to_owned(), Ok(peer_address(1))),
            ("e5".to_owned(), Err(NotTold::Refused(Refusal::Policy))),
            ("i2".to_owned(), Err(NotTold::Source)),
            ("i3".to_owned(), Err(NotTold::Refused(Refusal::Internal))),
        ]
    );
    let export = explain(&bench, "10.65.2.0/26").told[1].export.clone().unwrap();
    assert_eq!((export.verdict, export.decided_by), (Verdict::Reject, Some(0)));
    bench.announce("i2", &["10.66.2.0/26"], &[], &[AttributeValue::Communities(vec![Community::NO_EXPORT])]);
    assert_eq!(fate(&bench, "10.66.2.0/26")[0].1, Err(NotTold::Refused(Refusal::NoExport)));
    assert_eq!(fate(&bench, "10.67.0.0/26")[0].1, Err(NotTold::NoRoute));
    let only = bench.speaker.explain(net("10.65.2.0/26"), Some("10.0.0.5")).unwrap();
    assert_eq!((only.told.len(), only.told[0].peer.0.as_str()), (1, "e5"));
    assert!(bench.speaker.explain(net("10.65.2.0/26"), Some("10.0.0.77")).is_err());
}

#[test]
fn an_address_finds_its_longest_prefix() {
    let mut bench = started(peers());
    bench.announce("i2", &["10.0.0.0/8", "10.65.0.0/16", "2001:db8::/32"], &[], &[]);
    let longest = |text: &str| bench.speaker.longest_match(text.parse().unwrap()).map(|net| net.to_string());
    assert_eq!(longest("10.65.1.1").as_deref(), Some("10.65.0.0/16"));
    assert_eq!(longest("10.66.1.1").as_deref(), Some("10.0.0.0/8"));
    assert_eq!(longest("2001:db8::1").as_deref(), Some("2001:db8::/32"));
    assert_eq!(longest("192.0.2.1"), None);
}

fn told(page: &WhatIfPage, peer: &str) -> ToldChange {
    page.told.get(&PeerId::from(peer)).copied().unwrap_or_default()
}

/// What comes true must be what was foretold: best routes, and what each peer hears.
fn assert_foretold(bench: &Bench, before: &Bench, page: &WhatIfPage, except: &str) {
    for change in &page.changes {
        let now = bench.speaker.explain(change.prefix, None).unwrap();
        let used = now.paths.into_iter().map(|path| path.route).filter(|route| route.best || route.multipath);
        assert_eq!(used.collect::<Vec<_>>(), change.after, "{}", change.prefix);
    }
    for (name, probe) in before.probes.iter().filter(|(name, _)| *name != except) {
        let after = &bench.probes[name].routes;
        let withdrawn = probe.routes.keys().filter(|prefix| !after.contains_key(*prefix)).count();
        let announced = after.keys().filter(|prefix| !probe.routes.contains_key(*prefix)).count();
        let changed =
            after.iter().filter(|(prefix, told)| probe.routes.get(*prefix).is_some_and(|old| old != *told));
        let expected = ToldChange {
            announced: announced as u64,
            changed: changed.count() as u64,
            withdrawn: withdrawn as u64,
        };
        assert_eq!(told(page, name), expected, "{name}");
    }
}

fn scenario(config: &SpeakerConfig) -> Bench {
    let mut bench = started(config.clone());
    bench.announce("i2", &["10.65.2.0/26", "203.0.113.0/24"], &[], &[]);
    bench.announce("i3", &["10.65.3.0/26", "203.0.113.0/24"], &[], &[]);
    bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24", "2001:db8:4::/64"], &[65004], &[]);
    bench.announce("e5", &["198.51.100.0/24"], &[65005, 7], &[]);
    bench
}

#[test]
fn a_lost_peer_changes_what_was_foretold_and_asking_changes_nothing() {
    for name in ["i2", "i3", "e4", "e5"] {
        let config = peers();
        let (before, mut bench) = (scenario(&config), scenario(&config));
        let hypothesis = Hypothesis::Down([PeerId::from(name)].into());
        let page = what_if(&bench.speaker, &hypothesis);
        assert_eq!(page.sessions[0].events, [SessionEvent::Lost]);
        assert_eq!(page, what_if(&bench.speaker, &hypothesis), "asking twice");
        assert_eq!(bench.kernel, before.kernel);
        // Gone for good, as nobody waits for it.
        let mut without = config.clone();
        without.peers.remove(&PeerId::from(name));
        bench.input(bgp::Input::Configure(without));
        assert_foretold(&bench, &before, &page, name);
    }
    let bench = scenario(&peers());
    let page = what_if(&bench.speaker, &Hypothesis::Down([PeerId::from("i2")].into()));
    let changed: Vec<_> =
        page.changes.iter().map(|change| (change.prefix.to_string(), change.after.len())).collect();
    assert_eq!(changed, [("10.65.2.0/26".to_owned(), 0), ("203.0.113.0/24".to_owned(), 1)]);
}

#[test]
fn a_configuration_changes_what_was_foretold() {
    let old = peers();
    let mut new = old.clone();
    new.originated.insert(net("10.65.1.0/26"), Origination::default());
    new.peers.get_mut(&PeerId::from("e5")).unwrap().export = rejecting("10.65.0.0/16");
    new.peers.get_mut(&PeerId::from("i3")).unwrap().import = rejecting("10.65.0.0/16");
    let (before, mut bench) = (scenario(&old), scenario(&old));
    let page = what_if(&bench.speaker, &Hypothesis::Configured(Box::new(new.clone())));
    let events: Vec<_> =
        page.sessions.iter().map(|change| (change.peer.0.as_str(), change.events.clone())).collect();
    assert_eq!(
        events,
        [("e5", vec![SessionEvent::ExportChanged]), ("i3", vec![SessionEvent::ImportChanged])]
    );
    bench.input(bgp::Input::Configure(new));
    // The peer is asked for its routes, and says them again.
    bench.announce("i3", &["10.65.3.0/26", "203.0.113.0/24"], &[], &[]);
    assert_foretold(&bench, &before, &page, "");
    assert!(
        page.changes.iter().any(|change| change.prefix == net("10.65.1.0/26") && change.before.is_empty())
    );
    assert!(
        page.changes.iter().any(|change| change.prefix == net("10.65.3.0/26") && change.after.is_empty())
    );
}

#[test]
fn a_filter_that_goes_lets_in_what_it_turned_away() {
    let mut old = peers();
    old.peers.get_mut(&PeerId::from("e4")).unwrap().import = rejecting("198.51.100.0/24");
    let (before, mut bench) = (scenario(&old), scenario(&old));
    let page = what_if(&bench.speaker, &Hypothesis::Configured(Box::new(peers())));
    bench.input(bgp::Input::Configure(peers()));
    bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24", "2001:db8:4::/64"], &[65004], &[]);
    assert_foretold(&bench, &before, &page, "");
    assert_eq!(page.changes.len(), 1);
}

#[test]
fn a_hypothesis_about_nobody_is_refused() {
    let bench = scenario(&peers());
    let hypothesis = Hypothesis::Down([PeerId::from("x9")].into());
    let error = bench.speaker.what_if(&hypothesis, Cursor::START).unwrap_err().to_string();
    assert!(error.contains("x9"), "{error}");
}

#[test]
fn capabilities_of_both_ends_stand_side_by_side() {
    let bench = started(peers());
    let pairs = bench.speaker.capabilities(&"e4".into());
    let find =
        |name: &str| pairs.iter().find(|pair| pair.name == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(find("families").theirs.as_deref(), Some("ipv4/unicast, ipv6/unicast"));
    assert_eq!(find("four-octet AS").ours.as_deref(), Some("64512"));
    assert_eq!(find("four-octet AS").theirs.as_deref(), Some("65004"));
    assert_eq!(
        (find("extended messages").ours.as_deref(), &find("extended messages").theirs),
        (Some("yes"), &None)
    );
    assert!(bench.speaker.capabilities(&"nobody".into()).is_empty());
}
