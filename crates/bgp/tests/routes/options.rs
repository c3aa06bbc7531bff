//! Options of a peer: roles, local AS, policies that are required, prefix limits, TTL security, ranges.

use std::net::Ipv4Addr;
use std::time::Duration;

use bgp::config::{LocalAs, PeerRange, PrefixLimit, Role, RoleConfig};
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, Community, Origin};
use bgp::packet::capability::Capability;
use bgp::packet::update::Update;
use bgp::packet::{Context, Message, PeerKind};
use bgp::policy::{Match, Policy, Rule, Verdict};
use bgp::session::{Reason, SessionState};
use bgp::{Arrival, Asn, Endpoints, Family, Input, Output, PeerConfig, PeerId, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

fn with_role(last: u8, asn: u32, role: Role) -> PeerConfig {
    PeerConfig { role: Some(RoleConfig { role, strict: false }), ..peer(last, asn) }
}

/// A customer (e2), a provider (e3), an equal (e4), and one without a role (e5).
fn roles() -> Bench {
    let peers = [
        ("e2", with_role(2, 65002, Role::Provider)),
        ("e3", with_role(3, 65003, Role::Customer)),
        ("e4", with_role(4, 65004, Role::Peer)),
        ("e5", peer(5, 65005)),
    ];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    for (name, peer) in &peers {
        let theirs = peer.role.map(|role| role.role.counterpart() as u8);
        bench.up_with(name, |capabilities| capabilities.extend(theirs.map(Capability::Role)));
    }
    bench
}

fn otc(bench: &Bench, name: &str, prefix: &str) -> Option<Asn> {
    bench.told(name, prefix)?.find(|value| match value {
        AttributeValue::Otc(asn) => Some(*asn),
        _ => None,
    })
}

#[test]
fn what_comes_from_above_or_beside_goes_to_customers_only() {
    let mut bench = roles();
    bench.announce("e3", &["10.3.0.0/16"], &[65003], &[]);
    bench.announce("e4", &["10.4.0.0/16"], &[65004], &[]);
    assert_eq!(bench.has("e2"), ["10.3.0.0/16", "10.4.0.0/16"]);
    assert_eq!(otc(&bench, "e2", "10.3.0.0/16"), Some(Asn(65003)), "who it came from is noted");
    assert_eq!(bench.has("e3"), [""; 0], "nothing goes back up");
    assert_eq!(bench.has("e4"), [""; 0], "nothing goes across");
    assert_eq!(bench.has("e5").len(), 2, "without a role nothing is held back");
}

#[test]
fn what_comes_from_customers_goes_everywhere_and_is_marked_on_its_way_down_or_across() {
    let mut bench = roles();
    bench.announce("e2", &["10.2.0.0/16"], &[65002], &[]);
    for (name, mark) in [("e3", None), ("e4", Some(Asn(OUR_AS))), ("e5", None)] {
        assert!(bench.told(name, "10.2.0.0/16").is_some(), "{name}");
        assert_eq!(otc(&bench, name, "10.2.0.0/16"), mark, "{name}");
    }
}

#[test]
fn leaks_are_never_used() {
    let mut bench = roles();
    bench.announce("e2", &["10.2.0.0/16"], &[65002], &[AttributeValue::Otc(Asn(65009))]);
    assert!(bench.kernel.is_empty(), "a customer must not pass on what is for customers only");
    bench.announce("e4", &["10.4.0.0/16"], &[65004], &[AttributeValue::Otc(Asn(65009))]);
    assert!(bench.kernel.is_empty(), "an equal passes on its own only");
    bench.announce("e4", &["10.4.0.0/16"], &[65004], &[AttributeValue::Otc(Asn(65004))]);
    bench.announce("e3", &["10.3.0.0/16"], &[65003], &[AttributeValue::Otc(Asn(65009))]);
    let used: Vec<_> = bench.kernel.keys().copied().collect();
    assert_eq!(used, [net("10.3.0.0/16"), net("10.4.0.0/16")]);
}

#[test]
fn roles_that_do_not_fit_keep_the_session_down() {
    let strict = PeerConfig { role: Some(RoleConfig { role: Role::Peer, strict: true }), ..peer(3, 65003) };
    let peers = [("e2", with_role(2, 65002, Role::Provider)), ("e3", strict)];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up_with("e2", |capabilities| capabilities.push(Capability::Role(Role::Provider as u8)));
    bench.up("e3");
    for (index, name, theirs) in [(0, "e2", Some(0)), (1, "e3", None)] {
        let notification = bench.probes[name].notification.clone().expect("it is told");
        assert_eq!((notification.code, notification.subcode), (2, 11), "{name}");
        let status = &bench.speaker.status()[index];
        assert!(
            matches!(status.reason, Some(Reason::RoleMismatch { theirs: said, .. }) if said == theirs),
            "{:?}",
            status.reason
        );
    }
}

fn with_local_as(local: LocalAs) -> Bench {
    let special = PeerConfig { local_as: Some(local), ..peer(2, 65002) };
    let peers = [("e2", special), ("e3", peer(3, 65003))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up("e2");
    bench.up("e3");
    bench.announce("e2", &["10.2.0.0/16"], &[65002], &[]);
    bench.announce("e3", &["10.3.0.0/16"], &[65003], &[]);
    bench
}

#[test]
fn another_local_as_stands_in_place_of_ours_or_in_front_of_it() {
    let asn = Asn(65100);
    let variants = [
        (LocalAs::instead_of_ours(asn), "65100 65003", "64512 65002"),
        (LocalAs { asn, no_prepend: true, replace_as: false }, "65100 64512 65003", "64512 65002"),
        (LocalAs { asn, no_prepend: false, replace_as: false }, "65100 64512 65003", "64512 65100 65002"),
    ];
    for (local, sent, received) in variants {
        let bench = with_local_as(local);
        assert_eq!(bench.told("e2", "10.3.0.0/16").expect("told").path(), sent, "{local:?}");
        assert_eq!(bench.told("e3", "10.2.0.0/16").expect("told").path(), received, "{local:?}");
    }
}

#[test]
fn a_path_that_has_been_here_is_a_loop_by_the_name_that_the_peer_knows() {
    let mut bench = with_local_as(LocalAs::instead_of_ours(Asn(65100)));
    bench.announce("e2", &["10.20.0.0/16"], &[65002, 65100], &[]);
    bench.announce("e2", &["10.21.0.0/16"], &[65002, OUR_AS], &[]);
    assert!(!bench.kernel.contains_key(&net("10.20.0.0/16")));
    assert!(bench.kernel.contains_key(&net("10.21.0.0/16")), "the peer does not know our own number");
    let mut bench = with_local_as(LocalAs { replace_as: false, ..LocalAs::instead_of_ours(Asn(65100)) });
    bench.announce("e2", &["10.20.0.0/16"], &[65002, 65100], &[]);
    bench.announce("e2", &["10.21.0.0/16"], &[65002, OUR_AS], &[]);
    assert_eq!(bench.kernel.len(), 2, "only the two of the beginning");
}

#[test]
fn a_local_as_that_is_the_peers_makes_it_an_internal_one() {
    let local_as = Some(LocalAs::instead_of_ours(Asn(65002)));
    let mut bench = Bench::new(config(&[("i2", PeerConfig { local_as, ..peer(2, 65002) })]), Start::Fresh);
    bench.input(Input::Originate { prefix: net("10.65.0.0/26"), route: bgp::config::Origination::default() });
    bench.up("i2");
    assert_eq!(bench.told("i2", "10.65.0.0/26").expect("told").path(), "");
}

#[test]
fn an_external_peer_without_policy_exchanges_nothing_where_one_is_required() {
    let required = PeerConfig { require_policy: true, ..peer(2, 65002) };
    let inside = PeerConfig { require_policy: true, ..peer(4, OUR_AS) };
    let peers = [("e2", required.clone()), ("e3", peer(3, 65003)), ("i4", inside)];
    let mut configured = config(&peers);
    let mut bench = Bench::new(configured.clone(), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e2", &["10.2.0.0/16"], &[65002], &[]);
    bench.announce("e3", &["10.3.0.0/16"], &[65003], &[]);
    bench.announce("i4", &["10.4.0.0/16"], &[], &[]);
    assert_eq!(bench.has("e2"), [""; 0]);
    assert_eq!(bench.has("e3"), ["10.4.0.0/16"]);
    assert_eq!(bench.has("i4"), ["10.3.0.0/16"], "internal peers need none");
    // A rule that lets everything through is a policy.
    let everything = Rule::deciding("everything", Match::default(), Verdict::Accept);
    let policy = Policy::new(vec![everything], Verdict::Reject);
    let with_policy = PeerConfig { import: policy.clone(), export: policy, ..required };
    configured.peers.insert(PeerId::from("e2"), with_policy);
    bench.input(Input::Configure(configured));
    assert_eq!(bench.has("e2").len(), 2, "what it may have now");
    assert!(!bench.probes["e2"].refreshes.is_empty(), "its own routes are asked for");
    bench.announce("e2", &["10.2.0.0/16"], &[65002], &[]);
    assert!(bench.told("e3", "10.2.0.0/16").is_some());
}

fn limited(restart: Option<Duration>) -> (Bench, PeerConfig) {
    let limit = PrefixLimit { max: 10, warn_percent: 50, restart };
    let limited = PeerConfig { prefix_limit: Some(limit), ..peer(2, 65002) };
    let mut bench = Bench::new(config(&[("e2", limited.clone())]), Start::Fresh);
    bench.up("e2");
    (bench, limited)
}

fn prefixes(count: u8) -> Vec<String> {
    (0..count).map(|index| format!("10.{index}.0.0/16")).collect()
}

fn announce(bench: &mut Bench, count: u8) {
    let texts = prefixes(count);
    let list: Vec<&str> = texts.iter().map(String::as_str).collect();
    bench.announce("e2", &list, &[65002], &[]);
}

#[test]
fn a_peer_with_too_many_prefixes_is_closed_and_tried_again_after_a_while() {
    let (mut bench, _) = limited(Some(Duration::from_secs(60)));
    announce(&mut bench, 10);
    assert_eq!(bench.kernel.len(), 10, "as many as it may have");
    announce(&mut bench, 11);
    let notification = bench.probes["e2"].notification.clone().expect("it is told");
    assert_eq!((notification.code, notification.subcode), (6, 1));
    assert_eq!(notification.data, [0, 1, 1, 0, 0, 0, 10], "family and limit (RFC 4486)");
    assert!(bench.kernel.is_empty(), "its routes go");
    let status = bench.speaker.status().remove(0);
    assert_eq!(status.state, SessionState::Idle);
    assert!(status.reason.is_some_and(|reason| reason.to_string().contains("more than 10 of ipv4/unicast")));
    let from = Endpoints {
        local: (Ipv4Addr::new(10, 0, 0, 1), 179).into(),
        remote: (peer_address(2), 40_000).into(),
    };
    bench.wait(Duration::from_secs(59));
    assert_eq!(bench.speaker.accept(from, bench.now), None, "not yet");
    bench.wait(Duration::from_secs(1));
    bench.up("e2");
    announce(&mut bench, 10);
    assert_eq!(bench.kernel.len(), 10);
}

#[test]
fn without_restart_time_a_new_limit_brings_the_peer_back_and_a_lower_one_closes_it() {
    let (mut bench, limited) = limited(None);
    announce(&mut bench, 11);
    bench.wait(Duration::from_secs(3600));
    assert_eq!(bench.speaker.status()[0].state, SessionState::Idle);
    let with_max = |max| PeerConfig { prefix_limit: Some(PrefixLimit::new(max)), ..limited.clone() };
    bench.input(Input::Configure(config(&[("e2", with_max(20))])));
    bench.up("e2");
    announce(&mut bench, 11);
    assert_eq!(bench.kernel.len(), 11);
    bench.input(Input::Configure(config(&[("e2", with_max(5))])));
    assert!(bench.kernel.is_empty());
    assert_eq!(bench.probes["e2"].notification.as_ref().map(|n| (n.code, n.subcode)), Some((6, 1)));
}

#[test]
fn a_warning_comes_once_before_the_limit() {
    let (mut bench, _) = limited(None);
    let context = Context { as4: true, ..Context::initial(PeerKind::External) };
    let connection = bench.probes["e2"].connection;
    let mut warnings = Vec::new();
    for index in 0..10_u8 {
        let attributes = vec![
            Attribute::new(AttributeValue::Origin(Origin::Igp)),
            Attribute::new(AttributeValue::AsPath(AsPath::sequence([65002]))),
            Attribute::new(AttributeValue::NextHop([10, 0, 0, 2].into())),
        ];
        let nlri = vec![net(&format!("10.{index}.0.0/16")).into()];
        let bytes = Update { attributes, nlri, ..Update::default() }.encode(&context);
        bench.speaker.handle_input(Input::Received { connection, bytes: &bytes }, bench.now);
        while let Some(output) = bench.speaker.poll_output() {
            if let Output::PrefixWarning { family, prefixes, max, .. } = output {
                warnings.push((family, prefixes, max));
            }
        }
    }
    assert_eq!(warnings, [(Family::Ipv4Unicast, 5, 10)]);
}

#[test]
fn who_dials_from_too_far_away_is_turned_away_before_anything_is_read() {
    let near = PeerConfig { ttl_security: Some(2), ..peer(2, 65002) };
    let mut bench = Bench::new(config(&[("e2", near)]), Start::Fresh);
    let endpoints = Endpoints {
        local: (Ipv4Addr::new(10, 0, 0, 1), 179).into(),
        remote: (peer_address(2), 40_000).into(),
    };
    let arrival = |hop_limit| Arrival { endpoints, interface: None, hop_limit };
    assert_eq!(bench.speaker.accept_from(&arrival(Some(253)), bench.now), None);
    let reason = bench.speaker.status()[0].reason.clone();
    assert_eq!(reason, Some(Reason::TooFarAway { hop_limit: 253, least: 254 }));
    assert!(bench.speaker.accept_from(&arrival(Some(254)), bench.now).is_some());
}

#[test]
fn an_unnumbered_peer_is_whoever_comes_by_its_interface_with_a_link_local_address() {
    let unnumbered = PeerConfig {
        address: "::".parse().expect("an address"),
        interface: Some("fabric".into()),
        ..peer(2, 65002)
    };
    let mut bench = Bench::new(config(&[("e2", unnumbered)]), Start::Fresh);
    let mut accept = |from: &str, interface: Option<&str>| {
        let endpoints = Endpoints {
            local: ("fe80::1".parse::<std::net::IpAddr>().expect("an address"), 179).into(),
            remote: (from.parse::<std::net::IpAddr>().expect("an address"), 40_000).into(),
        };
        let interface = interface.map(str::to_owned);
        bench.speaker.accept_from(&Arrival { endpoints, interface, hop_limit: None }, bench.now).is_some()
    };
    assert!(!accept("fe80::2", Some("other")));
    assert!(!accept("fe80::2", None));
    assert!(!accept("2001:db8::2", Some("fabric")));
    assert!(accept("fe80::2", Some("fabric")));
}

/// A speaker that takes up to two peers of a prefix.
fn range() -> Bench {
    let template = PeerConfig { label: "range".into(), ..peer(0, 65002) };
    let range = PeerRange { prefix: net("10.0.0.0/24"), max_peers: 2, template };
    let mut configured = config(&[("e9", peer(9, 65009))]);
    configured.ranges.insert(PeerId::from("clients"), range);
    Bench::new(configured, Start::Fresh)
}

fn from(last: u8) -> Endpoints {
    Endpoints { local: (Ipv4Addr::new(10, 0, 0, 1), 179).into(), remote: (peer_address(last), 40_000).into() }
}

#[test]
fn peers_of_a_range_come_up_to_its_limit_and_are_forgotten_when_they_go() {
    let mut bench = range();
    let names = |bench: &Bench| bench.speaker.status().into_iter().map(|peer| peer.id.0).collect::<Vec<_>>();
    let first = bench.speaker.accept(from(20), bench.now).expect("the range has room");
    bench.speaker.accept(from(21), bench.now).expect("the range has room");
    assert_eq!(bench.speaker.accept(from(22), bench.now), None, "full");
    assert!(bench.speaker.accept(from(9), bench.now).is_some(), "peers by name do not count");
    assert_eq!(names(&bench), ["clients_10.0.0.20", "clients_10.0.0.21", "e9"]);
    bench.input(Input::Closed { connection: first, failure: bgp::TransportFailure::Reset });
    assert_eq!(names(&bench), ["clients_10.0.0.21", "e9"]);
    assert!(bench.speaker.accept(from(22), bench.now).is_some(), "there is room again");
}

#[test]
fn peers_of_a_range_go_with_it() {
    let mut bench = range();
    bench.speaker.accept(from(20), bench.now).expect("the range has room");
    let mut without = bench.speaker.config().clone();
    without.ranges.clear();
    bench.input(Input::Configure(without));
    assert_eq!(bench.speaker.status().len(), 1);
    assert_eq!(bench.speaker.accept(from(20), bench.now), None);
}

#[test]
fn long_messages_go_to_peers_that_take_them() {
    let peers = [("e2", peer(2, 65002)), ("e3", peer(3, 65003)), ("i4", peer(4, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up_with("e2", |capabilities| capabilities.push(Capability::ExtendedMessage));
    bench.up("e3");
    bench.up_with("i4", |capabilities| capabilities.push(Capability::ExtendedMessage));
    // 2,000 communities are 8,000 octets: more than a message of old holds.
    let communities = AttributeValue::Communities((0..2000).map(Community).collect());
    bench.announce("i4", &["10.4.0.0/16"], &[], &[]);
    assert!(bench.told("e3", "10.4.0.0/16").is_some());
    bench.announce("i4", &["10.4.0.0/16"], &[], &[communities]);
    assert!(bench.told("e2", "10.4.0.0/16").is_some_and(|told| told.attributes.len() == 4));
    assert!(bench.told("e3", "10.4.0.0/16").is_none(), "it does not fit");
}

#[test]
fn a_session_that_comes_up_and_goes_down_in_the_same_bytes_is_one_that_failed() {
    let mut bench = Bench::new(config(&[("e2", peer(2, 65002))]), Start::Fresh);
    bench.up("e2");
    bench.lose("e2");
    let connection = bench.speaker.accept(from(2), bench.now).expect("expected");
    let open = bgp::packet::open::Open {
        my_as: 65002,
        hold_time_secs: 90,
        router_id: bgp::RouterId([10, 0, 0, 2].into()),
        capabilities: vec![Capability::Multiprotocol(Family::Ipv4Unicast.into())],
        optional_parameters: 1,
        extended_optional_parameters: false,
    };
    let reset = bgp::packet::notification::Notification::new(6, 4);
    let bytes = [open.encode(), Message::keepalive(), reset.encode(), Message::keepalive()].concat();
    bench.input(Input::Received { connection, bytes: &bytes });
    let status = bench.speaker.status().remove(0);
    assert_eq!((status.state, status.established_count), (SessionState::Idle, 2));
    assert_eq!(status.reason, Some(Reason::Received(reset)));
}

#[test]
fn a_peer_that_asks_again_and_again_and_does_not_read_costs_no_more_than_its_limit() {
    let peers = [("e2", peer(2, 65002)), ("i4", peer(4, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up_with("e2", |capabilities| capabilities.push(Capability::EnhancedRouteRefresh));
    bench.up("i4");
    let texts: Vec<String> = (0..=255).map(|index| format!("10.4.{index}.0/24")).collect();
    for text in &texts {
        let communities = AttributeValue::Communities((0..500).map(Community).collect());
        bench.announce("i4", &[text.as_str()], &[], &[communities]);
    }
    bench.probes.get_mut("e2").expect("a peer").reads = false;
    let ask = bgp::packet::route_refresh::RouteRefresh::new(
        Family::Ipv4Unicast,
        bgp::packet::route_refresh::Subtype::Request,
    );
    for _ in 0..20_000 {
        bench.say("e2", &ask.encode());
    }
    let unread = bench.probes["e2"].unread;
    assert!((256 * 1024..1024 * 1024).contains(&unread), "{unread} octets wait");
    bench.probes.get_mut("e2").expect("a peer").reads = true;
    bench.read("e2");
    let marks = bench.probes["e2"].refreshes.clone();
    let last = marks.last().map(|refresh| refresh.subtype);
    assert_eq!(last, Some(bgp::packet::route_refresh::Subtype::End), "it is answered when it reads");
    assert_eq!(bench.has("e2").len(), texts.len());
}
