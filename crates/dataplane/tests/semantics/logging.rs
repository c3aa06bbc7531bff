//! Log rules: their prefix and how much they write. What is written is counted behind the limit.

use calc::contract::*;

use crate::common::*;
use crate::net::{Host, Pod, on_a_host};
use crate::two_pods;

const DATAGRAMS: u64 = 20;

/// Policy `logged`, which logs what it allows, on endpoint `b`.
fn logged() -> [Change; 2] {
    let rules = vec![rule(Action::Log), rule(Action::Allow)];
    let tiers = vec![tier("default", TierDefault::Deny, &["logged"], &[])];
    [policy("logged", rules, vec![]), endpoint("b", workload("cali-b", "10.65.0.3", tiers))]
}

/// Sends datagrams that each begin a flow; how many the Log rule wrote of them.
fn written(host: &mut Host, a: &Pod, b: &Pod) -> u64 {
    let count = |host: &mut Host| {
        let counters = host.dataplane.counters().unwrap();
        let of_rule = counters
            .into_iter()
            .filter(|(_, rule)| rule.comment.as_deref() == Some("GlobalNetworkPolicy/logged ingress 0"));
        of_rule.map(|(_, rule)| rule.count.packets).sum::<u64>()
    };
    let before = count(host);
    for number in 0..DATAGRAMS {
        let port = 1000 + u16::try_from(number).unwrap();
        a.udp(4000).send_to(b"x", (b.v4(), port)).unwrap();
    }
    count(host) - before
}

#[test]
fn a_log_rule_writes_as_much_as_its_limit_lets_it() {
    on_a_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        host.play(logged());
        assert!(crate::net::datagram_arrives(&a.udp(5000), &b.udp(53), true));
        assert_eq!(written(&mut host, &a, &b), DATAGRAMS, "no limit");
        let limit = [("LogActionRateLimit", "1/hour"), ("LogActionRateLimitBurst", "7")];
        host.play([parameters(&limit)]);
        assert_eq!(written(&mut host, &a, &b), 7, "the burst, and no more within the hour");
        host.play([parameters(&limit[..1])]);
        assert_eq!(written(&mut host, &a, &b), 5, "the default burst");
        host.play([parameters(&[])]);
        assert_eq!(written(&mut host, &a, &b), DATAGRAMS);
    });
}

#[test]
fn a_second_apply_of_a_limited_rule_writes_nothing() {
    on_a_host(|mut host| {
        let _pods = two_pods(&mut host);
        host.play(logged());
        host.play([parameters(&[("LogActionRateLimit", "1/day"), ("LogActionRateLimitBurst", "0")])]);
        let generation = host.generation();
        host.dataplane.resync();
        host.play([]);
        assert_eq!(host.generation(), generation);
    });
}
