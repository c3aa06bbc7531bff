//! What goes into the kernel, and what depends on the host's interfaces.

use std::sync::Arc;

use bgp::config::Origination;
use bgp::packet::attribute::AttributeValue;
use bgp::policy::{Actions, Match, Policy, PrefixMatch, PriorityMatch, Rule, SourceMatch, Verdict, mirrored};
use bgp::{Input, PeerId, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer};

fn within(prefix: &str) -> Match {
    Match::prefix(PrefixMatch::within(net(prefix)))
}

fn in_kernel(bench: &Bench) -> Vec<String> {
    bench.kernel.keys().map(ToString::to_string).collect()
}

#[test]
fn routes_go_into_the_kernel_as_its_policy_says_and_anew_when_it_changes() {
    let peers = [("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS))];
    let mut first = config(&peers);
    first.kernel =
        Policy::new(vec![Rule::deciding("no", within("10.1.0.0/16"), Verdict::Reject)], Verdict::Accept);
    let mut bench = Bench::new(first, Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"], &[65004], &[]);
    assert_eq!(in_kernel(&bench), ["10.2.0.0/24", "10.3.0.0/24"]);
    assert_eq!(bench.has("i2").len(), 3, "peers are told all the same");

    let tunnelled = Rule {
        name: "tunnel".into(),
        when: within("10.3.0.0/16"),
        set: Actions { tunnel: Some("tunl0".into()), ..Actions::default() },
        verdict: Some(Verdict::Accept),
    };
    let mut second = config(&peers);
    second.kernel = Policy::new(
        vec![tunnelled, Rule::deciding("no", within("10.2.0.0/16"), Verdict::Reject)],
        Verdict::Accept,
    );
    bench.input(Input::Configure(second));
    assert_eq!(in_kernel(&bench), ["10.1.0.0/24", "10.3.0.0/24"]);
    assert_eq!(bench.kernel[&net("10.3.0.0/24")].tunnel.as_deref(), Some("tunl0"));
    assert_eq!(bench.kernel[&net("10.1.0.0/24")].tunnel, None);
    bench.withdraw("e4", &["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]);
    assert!(in_kernel(&bench).is_empty());
}

#[test]
fn export_depends_on_the_interface_of_the_next_hop_and_follows_it() {
    let mut to = peer(5, 65005);
    let tunnel = Match { interfaces: vec!["*.calico".into()], ..Match::default() };
    to.export = Policy::new(vec![Rule::deciding("tunnels", tunnel, Verdict::Reject)], Verdict::Accept);
    let peers = [("e4", peer(4, 65004)), ("e5", to)];
    let with = |device: &str| {
        let mut config = config(&peers);
        config.interfaces = [(net("10.0.0.0/24"), Arc::from(device))].into_iter().collect();
        config
    };
    let mut bench = Bench::new(with("vxlan.calico"), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["10.1.0.0/24"], &[65004], &[]);
    assert!(bench.has("e5").is_empty());
    bench.input(Input::Configure(with("eth0")));
    assert_eq!(bench.has("e5"), ["10.1.0.0/24"]);
    bench.input(Input::Configure(with("vxlan.calico")));
    assert!(bench.has("e5").is_empty());
    assert!(bench.probes.values().all(|probe| !probe.closed));
}

#[test]
fn import_and_what_we_originate_are_matched_by_interface_too() {
    let mut from = peer(4, 65004);
    let eth = Match { interfaces: vec!["eth*".into()], ..Match::default() };
    from.import = Policy::new(vec![Rule::deciding("eth", eth, Verdict::Accept)], Verdict::Reject);
    let mut to = peer(5, 65005);
    let pods =
        Match { interfaces: vec!["cali*".into()], source: Some(SourceMatch::Local), ..Match::default() };
    to.export = Policy::new(vec![Rule::deciding("pods", pods, Verdict::Accept)], Verdict::Reject);
    let peers = [("e4", from), ("e5", to)];
    let mut config = config(&peers);
    config.interfaces = [(net("10.0.0.0/24"), Arc::from("eth0"))].into_iter().collect();
    let of = |interface: &str| Origination { interface: Some(interface.into()), ..Origination::default() };
    config.originated = [(net("10.65.0.2/32"), of("cali12")), (net("10.65.0.3/32"), of("eth0"))].into();
    let mut bench = Bench::new(config, Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["10.1.0.0/24"], &[65004], &[]);
    assert_eq!(in_kernel(&bench), ["10.1.0.0/24"]);
    assert_eq!(bench.has("e5"), ["10.65.0.2/32"]);
    bench.announce("e4", &["10.2.0.0/24"], &[65004], &[AttributeValue::NextHop([10, 9, 0, 4].into())]);
    assert_eq!(in_kernel(&bench), ["10.1.0.0/24"], "a next hop beyond the known networks");
}

#[test]
fn a_learned_route_of_a_better_priority_takes_the_place_of_a_workload_but_not_of_a_block() {
    let mut i2 = peer(2, OUR_AS);
    i2.import = Policy::new(
        vec![Rule {
            name: "better".into(),
            when: Match { priority: Some(PriorityMatch::BetterThan(1024)), ..Match::default() },
            set: Actions { preference: Some(200), ..Actions::default() },
            verdict: None,
        }],
        Verdict::Accept,
    );
    let peers = [("i2", i2)];
    let mut config = config(&peers);
    let block = Origination { preference: 250, ..Origination::default() };
    config.originated = [(net("10.65.0.2/32"), Origination::default()), (net("10.65.0.0/26"), block)].into();
    let mut bench = Bench::new(config, Start::Fresh);
    bench.up("i2");
    let priority = |priority| [AttributeValue::LocalPref(mirrored(priority))];
    bench.announce("i2", &["10.65.0.2/32", "10.65.0.0/26"], &[], &priority(1024));
    assert!(in_kernel(&bench).is_empty());
    bench.announce("i2", &["10.65.0.2/32", "10.65.0.0/26"], &[], &priority(512));
    assert_eq!(in_kernel(&bench), ["10.65.0.2/32"]);
    assert_eq!(bench.kernel[&net("10.65.0.2/32")].peer, PeerId::from("i2"));
    bench.withdraw("i2", &["10.65.0.2/32", "10.65.0.0/26"]);
    assert!(in_kernel(&bench).is_empty());
}
