//! A speaker that another process goes on with: peers notice what has changed in its configuration, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use bgp::config::{Origination, PeerRange, PrefixLimit};
use bgp::handover::{Handover, HandoverError, Octets, ToldRoute, VERSION};
use bgp::packet::attribute::{AttributeValue, Community};
use bgp::packet::capability::{Capability, GracefulRestartCapability};
use bgp::packet::route_refresh::{RouteRefresh, Subtype};
use bgp::packet::update::{Update, end_of_rib};
use bgp::packet::{Context, Message, PeerKind};
use bgp::policy::{Match, Policy, PrefixMatch, Rule, Verdict};
use bgp::session::SessionState;
use bgp::{
    Arrival, Asn, Endpoints, Family, Input, Output, PeerConfig, PeerId, Resolution, Speaker, SpeakerConfig,
    Start,
};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

const PEERS: [&str; 5] = ["e4", "e5", "i2", "i3", "c6"];

/// Two external peers, two internal ones, a reflection client; the client is the only one that does not refresh.
fn peers() -> SpeakerConfig {
    let client = PeerConfig { reflector_client: true, ..peer(6, OUR_AS) };
    let mut config = config(&[
        ("e4", peer(4, 65004)),
        ("e5", peer(5, 65005)),
        ("i2", peer(2, OUR_AS)),
        ("i3", peer(3, OUR_AS)),
        ("c6", client),
    ]);
    config.originated.insert(net("10.65.1.0/26"), Origination::default());
    config.originated.insert(net("2001:db8:1::/64"), Origination::default());
    config
}

fn bench() -> Bench {
    let mut bench = Bench::new(peers(), Start::Fresh);
    for name in PEERS {
        bench.up_with(name, |capabilities| {
            if name == "c6" {
                capabilities.retain(|capability| *capability != Capability::RouteRefresh);
            }
        });
    }
    bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24", "2001:db8:4::/64"], &[65004], &[]);
    bench.announce("e5", &["203.0.113.0/24", "192.0.2.0/24"], &[65005, 7], &[]);
    bench.announce("c6", &["10.65.6.0/26"], &[], &[]);
    bench
}

/// The same again, without a change of configuration.
fn take_over(bench: &mut Bench) {
    bench.take_over(bench.speaker.config().clone());
}

fn is_up(bench: &Bench, name: &str) -> bool {
    let status = bench.speaker.status_of(&PeerId::from(name)).expect("a peer");
    status.state == SessionState::Established
}

fn reject(prefix: &str) -> Policy {
    let when =
        Match::prefix([PrefixMatch::within(net(prefix))].into_iter().collect::<bgp::policy::PrefixSet>());
    Policy { rules: [Rule::deciding("test", when, Verdict::Reject)].into(), ..Policy::accept_all() }
}

#[test]
fn nobody_is_told_anything_and_the_kernels_routes_are_named_again() {
    let mut bench = bench();
    PEERS.iter().for_each(|name| bench.end_of_rib(name));
    bench.wait(Duration::from_secs(100));
    let (kernel, status) = (bench.kernel.clone(), bench.speaker.status());
    let (messages, routes) = (bench.messages(), bench.speaker.prefixes(Family::Ipv4Unicast));
    take_over(&mut bench);
    assert_eq!(bench.messages(), messages);
    assert_eq!(bench.kernel, kernel);
    assert_eq!(bench.complete, Family::ALL, "what the kernel has otherwise may go");
    assert_eq!(bench.speaker.status(), status, "uptime, counters, families and timers");
    assert_eq!(bench.speaker.prefixes(Family::Ipv4Unicast), routes);
    bench.announce("e4", &["203.0.113.0/24"], &[65004, 9, 9], &[]);
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65005 7", "and it goes on");
    bench.withdraw("e5", &["203.0.113.0/24", "192.0.2.0/24"]);
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65004 9 9");
    assert!(bench.told("c6", "192.0.2.0/24").is_none());
}

#[test]
fn a_message_that_has_come_in_part_is_read_on() {
    let mut bench = bench();
    let prefix = net("10.99.0.0/16");
    let context = Context { as4: true, ..Context::initial(PeerKind::External) };
    let mut update = Update { withdrawn: vec![net("203.0.113.0/24").into()], ..Update::default() };
    update.withdrawn.push(net("198.51.100.0/24").into());
    let bytes = update.encode(&context);
    for cut in 1..bytes.len() {
        bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24"], &[65004], &[]);
        bench.say("e4", &bytes[..cut]);
        assert_eq!(bench.told("i2", "198.51.100.0/24").is_some(), cut < bytes.len());
        take_over(&mut bench);
        bench.say("e4", &bytes[cut..]);
        assert!(bench.told("i2", "198.51.100.0/24").is_none(), "cut at {cut}");
        assert!(is_up(&bench, "e4") && bench.told("i2", &prefix.to_string()).is_none());
    }
}

#[test]
fn timers_run_on() {
    let mut bench = bench();
    let mut last = BTreeMap::new();
    for second in 0..89 {
        bench.now += Duration::from_secs(1);
        if second % 13 == 0 {
            take_over(&mut bench);
        }
        let sent = |bench: &Bench, name: &str| {
            bench.speaker.status_of(&PeerId::from(name)).expect("a peer").messages.sent
        };
        bench.input(Input::UnsignedDropped);
        bench.speaker.handle_timeout(bench.now);
        while let Some(output) = bench.speaker.poll_output() {
            assert!(matches!(output, Output::Send { .. }), "second {second}: {output:?}");
        }
        let now = sent(&bench, "i2");
        let (before, at) = last.entry("i2").or_insert((now, second));
        if now != *before {
            assert!(second - *at <= 31, "a KEEPALIVE came {} s late", second - *at);
            (*before, *at) = (now, second);
        }
        assert!(is_up(&bench, "i2"), "second {second}");
    }
    bench.now += Duration::from_secs(1);
    bench.speaker.handle_timeout(bench.now);
    assert!(!is_up(&bench, "i2"), "the hold timer of 90 s has been running all the time");
}

#[test]
fn a_changed_configuration_does_what_it_does_to_a_speaker_that_is_reconfigured() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut ours, mut twin) = (bench(), bench());
        let mut new = peers();
        for _ in 0..rng.usize(1..4) {
            change(&mut new, &mut rng);
        }
        let before = ours.messages();
        ours.take_over(new.clone());
        twin.input(Input::Configure(new));
        for name in PEERS {
            let (a, b) = (&ours.probes[name], &twin.probes[name]);
            // One that is reset may have heard of the others' fate before.
            assert!(a.closed || a.routes == b.routes, "seed {seed}: what {name} believes");
            assert_eq!(a.closed, b.closed, "seed {seed}: whether {name} is reset");
            assert_eq!(a.notification, b.notification, "seed {seed}: why {name} is reset");
            assert_eq!(a.refreshes.len(), b.refreshes.len(), "seed {seed}: what {name} is asked");
            let told = ours.messages()[name].0 - before[name].0;
            assert!(told <= 12, "seed {seed}: {told} UPDATEs to {name}, which are more than the difference");
        }
        assert_eq!(ours.kernel, twin.kernel, "seed {seed}: the kernel's routes");
        ours.announce("e5", &["192.0.2.0/25", "2001:db8:5::/64"], &[65005], &[]);
        twin.announce("e5", &["192.0.2.0/25", "2001:db8:5::/64"], &[65005], &[]);
        ours.withdraw("e5", &["203.0.113.0/24"]);
        twin.withdraw("e5", &["203.0.113.0/24"]);
        for name in PEERS {
            let (a, b) = (&ours.probes[name], &twin.probes[name]);
            assert!(a.closed || a.routes == b.routes, "seed {seed}: what {name} believes later");
        }
    }
}

/// Some change that an operator could make while one process takes over from another.
fn change(config: &mut SpeakerConfig, rng: &mut fastrand::Rng) {
    let id = PeerId::from(PEERS[rng.usize(0..PEERS.len())]);
    let Some(peer) = config.peers.get_mut(&id) else { return };
    match rng.u8(0..16) {
        0 => peer.export = reject("203.0.113.0/24"),
        1 => peer.export = Policy::reject_all(),
        2 => peer.import = reject("203.0.113.0/24"),
        3 => peer.next_hop = bgp::config::NextHopMode::OurSelf,
        4 => peer.reflector_client = !peer.reflector_client,
        5 => peer.allow_local_as = 1,
        6 => peer.timers.hold *= 2,
        7 => peer.remote_as = Asn(65009),
        8 => peer.prefix_limit = Some(PrefixLimit::new(1)),
        9 => drop(config.peers.remove(&id)),
        10 => drop(config.originated.remove(&net("10.65.1.0/26"))),
        11 => {
            let med = Origination { med: Some(7), ..Origination::default() };
            config.originated.insert(net("10.65.1.0/26"), med);
        }
        12 => drop(config.originated.insert(net("203.0.113.0/24"), Origination::default())),
        13 => config.cluster_id = Some([9, 9, 9, 9].into()),
        14 => config.kernel = reject("198.51.100.0/24"),
        _ => config.addresses.ipv4 = Some([10, 0, 0, 99].into()),
    }
}

#[test]
fn a_peer_that_does_not_read_gets_the_outcome_only_and_costs_no_more_than_its_limit() {
    let list: Vec<String> = (0..9000).map(|n| format!("10.{}.{}.0/24", 64 + n / 256, n % 256)).collect();
    let mut bench = bench();
    bench.probes.get_mut("i2").unwrap().reads = false;
    for turn in 0..20u32 {
        for piece in list.chunks(400) {
            let names: Vec<&str> = piece.iter().map(String::as_str).collect();
            bench.announce("e4", &names, &[65004, 1000 + turn], &[]);
        }
        if turn % 5 == 2 {
            take_over(&mut bench);
        }
        if turn == 13 {
            for piece in list[..4500].chunks(400) {
                bench.withdraw("e4", &piece.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }
    // What it has been told is a list of its own, which goes when it is in step again.
    let size = bench.speaker.handover_size();
    let unread = bench.probes["i2"].unread;
    assert!(unread < 600_000, "{unread} octets for a peer that does not read");
    bench.probes.get_mut("i2").unwrap().reads = true;
    bench.read("i2");
    let routes = bench.speaker.prefixes(Family::Ipv4Unicast);
    assert_eq!(bench.speaker.handover_size() + routes, size);
    assert_eq!(bench.probes["i2"].routes, bench.probes["i3"].routes);
    assert_eq!(bench.probes["i2"].end_of_ribs.len(), 2);
}

#[test]
fn a_refresh_that_is_under_way_comes_to_its_end() {
    let mut bench = bench();
    bench.lose("i2");
    bench.up_with("i2", |capabilities| capabilities.push(Capability::EnhancedRouteRefresh));
    bench.probes.get_mut("i2").unwrap().reads = false;
    let list: Vec<String> = (0..9000).map(|n| format!("10.{}.{}.0/24", 64 + n / 256, n % 256)).collect();
    for (turn, piece) in list.chunks(40).enumerate() {
        let names: Vec<&str> = piece.iter().map(String::as_str).collect();
        bench.announce(
            "e4",
            &names,
            &[65004, turn as u32],
            &[AttributeValue::Communities(vec![Community(7); 50])],
        );
    }
    bench.say("i2", &RouteRefresh::new(Family::Ipv4Unicast, Subtype::Request).encode());
    let unread = bench.probes["i2"].unread;
    take_over(&mut bench);
    assert_eq!(bench.probes["i2"].unread, unread, "it does not read yet");
    bench.probes.get_mut("i2").unwrap().reads = true;
    bench.read("i2");
    assert_eq!(bench.probes["i2"].routes, bench.probes["i3"].routes);
    let before = bench.probes["i2"].updates;
    bench.say("i2", &RouteRefresh::new(Family::Ipv4Unicast, Subtype::Request).encode());
    assert!(bench.probes["i2"].updates > before + 100);
    let marks: Vec<Subtype> = bench.probes["i2"].refreshes.iter().map(|mark| mark.subtype).collect();
    assert_eq!(marks.last(), Some(&Subtype::End), "{marks:?}");
}

#[test]
fn stale_routes_stay_until_their_time_is_over() {
    let mut bench = bench();
    bench.lose("e4");
    bench.wait(Duration::from_secs(60));
    let messages = bench.messages();
    take_over(&mut bench);
    assert_eq!(bench.messages(), messages);
    assert_eq!(bench.told("i2", "198.51.100.0/24").unwrap().path(), "65004");
    bench.wait(Duration::from_secs(57));
    assert!(bench.told("i2", "198.51.100.0/24").is_some(), "the restart time of 120 s is not over");
    bench.wait(Duration::from_secs(6));
    assert!(bench.told("i2", "198.51.100.0/24").is_none());
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65005 7");
}

#[test]
fn stale_routes_are_swept_when_their_peer_is_back() {
    let mut bench = bench();
    bench.lose("e4");
    take_over(&mut bench);
    bench.up_with("e4", |capabilities| {
        let families = Family::ALL.into_iter().map(|family| (family.into(), true)).collect();
        let restarting = GracefulRestartCapability { restarting: true, families, ..Default::default() };
        capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
        capabilities.push(Capability::GracefulRestart(restarting));
    });
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    take_over(&mut bench);
    assert!(bench.told("i2", "198.51.100.0/24").is_some());
    bench.end_of_rib("e4");
    bench.wait(Duration::from_secs(1));
    assert!(bench.told("i2", "198.51.100.0/24").is_none());
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65004");
}

#[test]
fn a_speaker_that_is_still_restarting_goes_on_waiting() {
    let mut bench = Bench::new(peers(), Start::Restarting);
    ["e4", "i2"].iter().for_each(|name| bench.up(name));
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    bench.wait(Duration::from_secs(60));
    take_over(&mut bench);
    assert!(
        bench.kernel.is_empty() && bench.complete.is_empty() && bench.told("i2", "203.0.113.0/24").is_none()
    );
    bench.say("e4", &end_of_rib(Family::Ipv4Unicast));
    bench.wait(Duration::from_secs(58));
    assert!(bench.complete.is_empty());
    bench.wait(Duration::from_secs(4));
    assert_eq!(bench.complete, Family::ALL, "120 s after the start");
    assert!(bench.told("i2", "203.0.113.0/24").is_some());
    assert_eq!(bench.probes["i2"].end_of_ribs, Family::ALL);
}

#[test]
fn next_hops_stay_resolved() {
    let mut config = peers();
    config.resolve_next_hops = true;
    let mut bench = Bench::new(config, Start::Fresh);
    PEERS.iter().for_each(|name| bench.up(name));
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    bench.announce("e5", &["192.0.2.0/24"], &[65005], &[]);
    let via = |last| Some(Resolution { cost: 5, gateways: vec![peer_address(last)] });
    bench.input(Input::NextHop { address: peer_address(4), resolution: via(77) });
    assert!(bench.told("i2", "203.0.113.0/24").is_some() && bench.told("i2", "192.0.2.0/24").is_none());
    let (messages, kernel) = (bench.messages(), bench.kernel.clone());
    take_over(&mut bench);
    assert_eq!((bench.messages(), &bench.kernel), (messages.clone(), &kernel));
    assert_eq!(bench.watched.len(), 2, "what is found out from now on counts");
    bench.input(Input::NextHop { address: peer_address(4), resolution: via(77) });
    assert_eq!((bench.messages(), &bench.kernel), (messages, &kernel));
    bench.input(Input::NextHop { address: peer_address(4), resolution: None });
    assert!(bench.told("i2", "203.0.113.0/24").is_none());
}

#[test]
fn members_of_ranges_stay_members() {
    let mut config = peers();
    let range = PeerRange { prefix: net("10.7.0.0/16"), max_peers: 5, template: peer(0, 65007) };
    config.ranges.insert(PeerId::from("range"), range);
    let mut bench = Bench::new(config.clone(), Start::Fresh);
    let remote = ([10, 7, 0, 9], 4000).into();
    let endpoints = Endpoints { local: ([10, 0, 0, 1], 179).into(), remote };
    let arrival = Arrival { endpoints, interface: None, hop_limit: None };
    let connection = bench.speaker.accept_from(&arrival, bench.now).expect("it is expected");
    let open = bgp::packet::open::Open {
        my_as: 65007,
        hold_time_secs: 90,
        router_id: bgp::RouterId([10, 7, 0, 9].into()),
        capabilities: Vec::new(),
        optional_parameters: 0,
        extended_optional_parameters: false,
    };
    for bytes in [open.encode(), Message::keepalive()] {
        bench.input(Input::Received { connection, bytes: &bytes });
    }
    let member = PeerId::from("range_10.7.0.9");
    assert_eq!(bench.speaker.status_of(&member).unwrap().state, SessionState::Established);
    take_over(&mut bench);
    assert_eq!(bench.speaker.status_of(&member).unwrap().state, SessionState::Established);
    let handover = bench.speaker.hand_over(bench.now);
    for (change, stays) in [(None, true), (Some(Asn(65008)), false)] {
        let mut config = config.clone();
        let template = &mut config.ranges.get_mut(&PeerId::from("range")).unwrap().template;
        template.local_as = change.map(bgp::config::LocalAs::instead_of_ours);
        let (speaker, _) = Speaker::take_over(config, &handover, 1, bench.now).unwrap();
        assert_eq!(speaker.status_of(&member).is_some(), stays);
    }
    config.ranges.clear();
    let (mut speaker, names) = Speaker::take_over(config, &handover, 1, bench.now).unwrap();
    assert!(speaker.status_of(&member).is_none());
    let closed = std::iter::from_fn(|| speaker.poll_output()).filter_map(|output| match output {
        Output::Close { connection } => Some(connection),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), names.values().copied().collect::<Vec<_>>());
}

#[test]
fn an_announcement_to_a_peer_that_is_not_there_is_refused() {
    let bench = bench();
    let handover = bench.speaker.hand_over(bench.now);
    let nobody = Some(u32::try_from(handover.peers.len()).expect("a few peers"));
    let announcement = |change: fn(&mut ToldRoute, Option<u32>)| {
        let mut changed = handover.clone();
        let told = changed.told.iter_mut().find(|told| !told.routes.is_empty()).expect("somebody was told");
        change(&mut told.routes[0], nobody);
        Handover::decode(&changed.encode())
    };
    let refused = Err(HandoverError::Invalid("announcement"));
    assert_eq!(announcement(|route, nobody| route.only = nobody), refused);
    assert_eq!(announcement(|route, nobody| route.source = nobody), refused);
    assert_eq!(announcement(|_, _| {}), Ok(handover.clone()));
}

#[test]
fn attributes_that_no_route_can_have_are_refused() {
    let bench = bench();
    let handover = bench.speaker.hand_over(bench.now);
    let refused = Err(HandoverError::Invalid("set of attributes"));
    for at in 0..handover.attributes.len() {
        for octets in [&[0x40][..], &[0x40, 1, 1, 9], &[0x40, 2, 4, 2, 1, 0, 7]] {
            let mut changed = handover.clone();
            changed.attributes[at].octets = Octets(octets.to_vec());
            assert_eq!(Handover::decode(&changed.encode()), refused, "{octets:?}");
        }
    }
}

#[test]
fn what_is_no_hand_over_is_refused_and_nothing_worse() {
    let mut bench = bench();
    bench.lose("e5");
    let octets = bench.speaker.hand_over(bench.now).encode();
    let mut other = octets.clone();
    other[1] += 1;
    assert_eq!(Handover::decode(&other), Err(HandoverError::Version(VERSION + 1)));
    assert_eq!(Handover::decode(&octets[..octets.len() - 1]), Err(HandoverError::Short));
    assert_eq!(Handover::decode(&[&octets[..], &[0]].concat()), Err(HandoverError::TooLong));
    let mut rng = fastrand::Rng::with_seed(5);
    let mut refused = 0;
    for _ in 0..5000 {
        let mut changed = octets.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(2..changed.len());
            changed[at] = rng.u8(..);
        }
        match Handover::decode(&changed) {
            Err(_) => refused += 1,
            Ok(handover) => {
                // What still means something may mean anything; it must not end the process.
                drop(Speaker::take_over(peers(), &handover, 1, bench.now));
            }
        }
    }
    assert!(refused > 1000, "{refused} refused");
}
