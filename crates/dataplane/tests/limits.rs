//! What is at the limit of its size, on the real kernel: it holds, and nothing else is affected.

mod common;
#[path = "common/net.rs"]
mod net;

use std::net::Ipv4Addr;

use calc::contract::*;
use common::*;
use net::{ANSWER, SILENCE, on_a_host};

/// Members of a set that is large.
const MANY: u32 = 100_000;

/// So many networks of this length, none inside another, none with a pod in it.
fn networks(length: u8) -> impl Iterator<Item = IpSetMember> {
    let size = 1 << (32 - length);
    let first = u32::from(Ipv4Addr::new(20, 0, 0, 0));
    (0..MANY).map(move |number| {
        let address = Ipv4Addr::from(first + number * size);
        IpSetMember::Net(ipnet::Ipv4Net::new(address, length).expect("a length of IPv4").into())
    })
}

#[test]
fn sets_of_100_000_members_hold_and_change_member_by_member() {
    on_a_host(|mut host| {
        let set = |id: &str, length, pod: &str| Change::IpSetUpdate {
            id: IpSetId(id.into()),
            kind: IpSetKind::Net,
            members: networks(length).chain([net_member(pod)]).collect(),
        };
        let open = |set, port| Rule {
            source: from_set(Action::Allow, set).source,
            ..to_port(Action::Allow, 6, port)
        };
        let tiers = vec![tier("default", TierDefault::Deny, &["p"], &[])];
        let (a, b) = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
        host.play([
            open_profile(),
            set("s:addresses", 32, "10.65.0.2/32"),
            set("s:networks", 30, "10.65.0.0/30"),
            policy("p", vec![open("s:addresses", 80), open("s:networks", 81)], vec![]),
            endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
            endpoint("b", workload("cali-b", "10.65.0.3", tiers)),
            Change::InSync,
        ]);
        let _open = (b.listen(80), b.listen(81), b.listen(82));
        for (port, is_open) in [(80, true), (81, true), (82, false)] {
            let patience = if is_open { ANSWER } else { SILENCE };
            assert_eq!(a.connects(b.v4(), port, patience), is_open, "port {port}");
        }
        host.play([
            delta("s:addresses", &["10.65.0.2/32"], &[]),
            delta("s:networks", &["10.65.0.0/30"], &["10.65.0.8/30"]),
        ]);
        assert!(!a.connects(b.v4(), 80, SILENCE) && !a.connects(b.v4(), 81, SILENCE));
    });
}

#[test]
fn names_at_their_limits_are_told_apart_and_found_again() {
    let long = |end: &str| format!("{}{end}", "n".repeat(253 - end.len()));
    let (first, second) = (long("a"), long("b"));
    on_a_host(|mut host| {
        let annotated = |port| {
            let mut rule = to_port(Action::Allow, 6, port);
            rule.annotations.insert("note".repeat(16), "\"quoted\" ".repeat(100));
            rule
        };
        let guarded_by = |tiers: &[&str]| {
            let tier_name = "t".repeat(63);
            let guarded =
                Tier { name: tier_name.as_str().into(), ..tier("default", TierDefault::Deny, tiers, &[]) };
            let mut b = workload("cali-fifteenchr", "10.65.0.3", vec![guarded]);
            b.profiles = vec![ProfileId(long("p").as_str().into())];
            endpoint(&long("e"), b)
        };
        let changes = || {
            [
                open_profile(),
                profile(&long("p"), vec![rule(Action::Allow)], vec![rule(Action::Allow)]),
                policy(&first, vec![annotated(80)], vec![]),
                policy(&second, vec![annotated(81)], vec![]),
                endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
                guarded_by(&[&first, &second]),
                Change::InSync,
            ]
        };
        let a = host.add_pod("cali-a", &["10.65.0.2"]);
        let b = host.add_pod("cali-fifteenchr", &["10.65.0.3"]);
        host.play(changes());
        let _open = (b.listen(80), b.listen(81), b.listen(82));
        assert!(a.connects(b.v4(), 80, ANSWER) && a.connects(b.v4(), 81, ANSWER));
        assert!(!a.connects(b.v4(), 82, SILENCE));
        let before = host.generation();
        host.restart();
        host.play(changes());
        assert_eq!(host.generation(), before, "what was there was written again");
        host.play([guarded_by(&[&second]), Change::PolicyRemove { id: policy_id(&first) }]);
        assert!(!a.connects(b.v4(), 80, SILENCE) && a.connects(b.v4(), 81, ANSWER));
    });
}
