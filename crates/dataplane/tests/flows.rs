//! What the kernel logs of packets between workloads, and which rules are said to have decided.

mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::BTreeSet;
use std::sync::Arc;

use calc::contract::*;
use calc::evaluator::Packet;
use common::*;
use dataplane::judge::{Hook, Judged, Side, Sight};
use kernel::nflog::{Group, Logged};
use kernel::ownership::{NFLOG_ALLOWED, NFLOG_DENIED};
use net::{ANSWER, Host, Pod, SILENCE, on_a_host};
use testkit::eventually;

/// Two workloads; the second one's policy `web` allows TCP to port 80 and denies that to 82.
fn web(host: &mut Host) -> (Pod, Pod) {
    let (a, b) = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
    let tiers = vec![tier("default", TierDefault::Deny, &["web"], &[])];
    host.play([
        open_profile(),
        policy("web", vec![to_port(Action::Allow, 6, 80), to_port(Action::Deny, 6, 82)], vec![]),
        endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
        endpoint("b", workload("cali-b", "10.65.0.3", tiers)),
        Change::InSync,
    ]);
    (a, b)
}

/// The next packet that comes to a group.
fn next(group: &mut Group) -> Logged {
    let mut seen = None;
    eventually("a packet is logged", || {
        group.receive(1, |logged| seen = seen.take().or(Some(logged))).unwrap();
        seen.is_some()
    });
    seen.unwrap()
}

fn judged(host: &mut Host, logged: &Logged, denied: bool, replaced: &BTreeSet<PolicyId>) -> Judged {
    let links = host.links.links().unwrap();
    let name = |index: Option<u32>| -> Option<Arc<str>> {
        links.iter().find(|link| Some(link.index) == index).map(|link| link.name.as_str().into())
    };
    let headers = logged.headers;
    let sight = Sight {
        packet: Packet {
            source_port: headers.source_port,
            ..Packet::new(headers.source, headers.destination, headers.protocol, headers.destination_port)
        },
        hook: Hook::from_number(logged.hook).unwrap(),
        input: name(logged.input),
        output: name(logged.output),
        denied: denied.then(|| logged.prefix.as_str().into()),
    };
    host.dataplane.judge(&[sight], replaced).remove(0)
}

fn said(side: Option<&Side>) -> (bool, String) {
    let side = side.expect("the endpoint had a say");
    (side.allowed, side.rule.as_ref().map(ToString::to_string).unwrap_or_default())
}

#[test]
fn a_denied_packet_is_logged_with_the_rule_that_denied_it() {
    on_a_host(|mut host| {
        let (a, b) = web(&mut host);
        let mut group = Group::open(NFLOG_DENIED).unwrap();
        for (port, rule) in [(81, "end of tier default ingress"), (82, "GlobalNetworkPolicy/web ingress 1")] {
            assert!(!a.connects(b.v4(), port, SILENCE));
            let logged = next(&mut group);
            assert_eq!(logged.prefix, rule);
            let headers = logged.headers;
            assert_eq!((headers.source, headers.destination), (a.v4(), b.v4()));
            assert_eq!((headers.protocol, headers.destination_port), (6, port));
            let judged = judged(&mut host, &logged, true, &BTreeSet::new());
            assert_eq!(said(judged.from.as_ref()), (true, "Profile/open egress 0".to_owned()));
            assert_eq!(said(judged.to.as_ref()), (false, rule.to_owned()));
            assert_eq!(judged.to.unwrap().endpoint.as_ref(), "b");
        }
    });
}

#[test]
fn who_was_denied_by_the_senders_policy_is_not_judged_by_the_receivers() {
    on_a_host(|mut host| {
        let (a, b) = web(&mut host);
        let closed = vec![tier("default", TierDefault::Deny, &[], &["closed"])];
        host.play([policy("closed", vec![], vec![]), endpoint("a", workload("cali-a", "10.65.0.2", closed))]);
        let mut group = Group::open(NFLOG_DENIED).unwrap();
        assert!(!a.connects(b.v4(), 80, SILENCE));
        let logged = next(&mut group);
        let judged = judged(&mut host, &logged, true, &BTreeSet::new());
        assert_eq!(said(judged.from.as_ref()), (false, "end of tier default egress".to_owned()));
        assert_eq!(judged.to, None);
    });
}

#[test]
fn the_first_packets_of_what_is_allowed_are_logged_only_while_somebody_wants_to_know() {
    on_a_host(|mut host| {
        let (a, b) = web(&mut host);
        let _open = b.listen(80);
        let mut group = Group::open(NFLOG_ALLOWED).unwrap();
        assert!(a.connects(b.v4(), 80, ANSWER));
        host.dataplane.want_flows(true);
        host.play([]);
        assert!(a.connects(b.v4(), 80, ANSWER));
        let logged = next(&mut group);
        let first = judged(&mut host, &logged, false, &BTreeSet::new());
        assert_eq!(said(first.from.as_ref()), (true, "Profile/open egress 0".to_owned()));
        assert_eq!(said(first.to.as_ref()), (true, "GlobalNetworkPolicy/web ingress 0".to_owned()));
        host.dataplane.want_flows(false);
        host.play([]);
        let before = host.generation();
        assert!(a.connects(b.v4(), 80, ANSWER));
        assert_eq!(host.generation(), before);
        assert_eq!(group.receive(1, |logged| panic!("{logged:?}")).unwrap().packets, 0);
    });
}

#[test]
fn it_is_said_what_a_staged_policy_would_have_done_and_it_does_nothing() {
    on_a_host(|mut host| {
        let (a, b) = web(&mut host);
        let _open = b.listen(80);
        let id = PolicyId { kind: PolicyKind::StagedGlobalNetworkPolicy, ..policy_id("web") };
        let draft = Policy {
            tier: "default".into(),
            inbound: vec![],
            outbound: vec![],
            untracked: false,
            pre_dnat: false,
            apply_on_forward: false,
            rechecks: false,
        };
        let mut tier = tier("default", TierDefault::Deny, &["web"], &[]);
        tier.ingress.push(id.clone());
        host.dataplane.want_flows(true);
        host.play([
            Change::PolicyUpdate { id: id.clone(), policy: Arc::new(draft) },
            endpoint("b", workload("cali-b", "10.65.0.3", vec![tier])),
        ]);
        assert!(host.dataplane.has_drafts(&BTreeSet::new()));
        let mut group = Group::open(NFLOG_ALLOWED).unwrap();
        assert!(a.connects(b.v4(), 80, ANSWER));
        let logged = next(&mut group);
        let replaced = id.stands_for().into_iter().collect();
        let to = judged(&mut host, &logged, false, &replaced).to.unwrap();
        assert!(to.allowed);
        let staged = to.staged.expect("something is staged here");
        assert!(!staged.allowed);
        assert_eq!(staged.rule.unwrap().to_string(), "end of tier default ingress");
    });
}

#[test]
fn a_host_endpoint_that_denies_is_named_too() {
    on_a_host(|mut host| {
        let endpoint = HostEndpoint {
            interface: Some("lo".into()),
            expected_ips: vec![],
            tiers: vec![],
            untracked_tiers: vec![],
            pre_dnat_tiers: vec![],
            forward_tiers: vec![],
            profiles: vec![],
        };
        host.play([
            Change::HostEndpointUpdate { name: "loop".into(), endpoint: Arc::new(endpoint) },
            Change::InSync,
        ]);
        let mut group = Group::open(NFLOG_DENIED).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:4000").unwrap();
        assert!(socket.send_to(b"x", "127.0.0.1:9").is_err(), "dropped on its way out");
        let logged = next(&mut group);
        assert_eq!(logged.hook, 3);
        let judged = judged(&mut host, &logged, true, &BTreeSet::new());
        assert_eq!(said(judged.to.as_ref()), (false, "no profile matched egress".to_owned()));
        let side = judged.to.unwrap();
        assert_eq!((side.endpoint.as_ref(), side.is_host, judged.from), ("loop", true, None));
        assert!(host.dataplane.denied_packets().unwrap() >= 1);
    });
}
