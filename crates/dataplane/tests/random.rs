//! Random policies: the reference evaluator and the kernel must agree on every packet.
//!
//! A run makes policies, sets and endpoints from a seed, programs them, and sends packets of several protocols with raw sockets from
//! one workload to the other. A packet crosses the host within the sender's system call, so what did not arrive then was dropped; that
//! nothing arrives late is checked at the end.

mod common;
#[path = "common/net.rs"]
mod net;
#[path = "common/random_policy.rs"]
mod random_policy;
#[path = "common/raw.rs"]
mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calc::contract::*;
use calc::evaluator::{Decision, Evaluator, IpSets, Packet};
use calc::program::Program;
use common::*;
use net::{Host, IPTABLES_LEGACY, IPTABLES_NFT, NFT, Pod, on_a_host_with};
use random_policy::Generator;

const RULESETS: usize = 30;
const PACKETS: usize = 120;

const V4: (IpVersion, [&str; 2]) = (IpVersion::V4, ["10.65.0.2", "10.65.0.3"]);
const V6: (IpVersion, [&str; 2]) = (IpVersion::V6, ["fd00:65::2", "fd00:65::3"]);

#[test]
fn nf_tables_and_the_evaluator_agree_on_ipv4() {
    on_a_host_with(NFT, |host| agree(host, V4));
}

#[test]
fn nf_tables_and_the_evaluator_agree_on_ipv6() {
    on_a_host_with(NFT, |host| agree(host, V6));
}

#[test]
fn iptables_nft_and_the_evaluator_agree_on_ipv4() {
    on_a_host_with(IPTABLES_NFT, |host| agree(host, V4));
}

#[test]
fn iptables_nft_and_the_evaluator_agree_on_ipv6() {
    on_a_host_with(IPTABLES_NFT, |host| agree(host, V6));
}

#[test]
fn iptables_legacy_and_the_evaluator_agree_on_ipv4() {
    on_a_host_with(IPTABLES_LEGACY, |host| agree(host, V4));
}

#[test]
fn iptables_legacy_and_the_evaluator_agree_on_ipv6() {
    on_a_host_with(IPTABLES_LEGACY, |host| agree(host, V6));
}

fn agree(mut host: Host, (version, addresses): (IpVersion, [&str; 2])) {
    let given = std::env::var("TORTIE_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("seed {seed} (repeat with TORTIE_SEED={seed})");
    let a = host.add_pod("cali-a", &addresses[..1]);
    let b = host.add_pod("cali-b", &addresses[1..]);
    host.play([Change::InSync]);
    warm_up(&mut host, version, (&a, &b));
    let mut generator = Generator::new(seed, version, [a.addresses[0], b.addresses[0]]);
    let mut decisions = BTreeMap::new();
    for round in 0..RULESETS {
        let changes = generator.ruleset();
        let view = View::of(&changes, version);
        host.play(changes);
        for (decision, count) in compare(&view, &mut generator, round, (&a, &b)) {
            *decisions.entry(decision).or_insert(0) += count;
        }
        let removals = view.removals();
        host.play(removals);
    }
    println!("{version:?}: {decisions:?}");
    // A generator that only makes closed (or open) rulesets would prove nothing.
    assert!(decisions.values().all(|count| *count > RULESETS * PACKETS / 20), "{decisions:?}");
}

/// Neighbours find each other before packets are counted.
fn warm_up(host: &mut Host, version: IpVersion, (a, b): (&Pod, &Pod)) {
    let open = |interface: &str, address: IpAddr| {
        let mut endpoint = workload(interface, "192.0.2.1", vec![]);
        endpoint.ipv4_nets.clear();
        match version {
            IpVersion::V4 => endpoint.ipv4_nets.push(address.into()),
            IpVersion::V6 => endpoint.ipv6_nets.push(address.into()),
        }
        endpoint
    };
    host.play([
        open_profile(),
        endpoint("a", open("cali-a", a.addresses[0])),
        endpoint("b", open("cali-b", b.addresses[0])),
    ]);
    let (from, to) = (udp(a), udp(b));
    assert!(net::datagram_arrives(&from, &to, true), "the workloads do not reach each other");
    assert!(net::datagram_arrives(&to, &from, true), "the workloads do not reach each other");
}

fn udp(pod: &Pod) -> std::net::UdpSocket {
    let address = std::net::SocketAddr::new(pod.addresses[0], 9);
    pod.namespace.run(|| std::net::UdpSocket::bind(address).unwrap()).unwrap()
}

/// Sends random packets; how many were allowed and denied.
fn compare(
    view: &View,
    generator: &mut Generator,
    round: usize,
    (a, b): (&Pod, &Pod),
) -> BTreeMap<bool, usize> {
    let sender = a.namespace.run(|| raw::Sender::new(a.addresses[0])).unwrap();
    let mut receiver = b.namespace.run(|| raw::Receiver::new(b.addresses[0])).unwrap();
    let mut counts = BTreeMap::from([(true, 0), (false, 0)]);
    let mut expected_all = BTreeSet::new();
    for number in 0..PACKETS {
        let packet = generator.packet();
        let expected = view.allows(&packet);
        let id = u32::try_from(round * PACKETS + number).unwrap();
        sender.send(&packet, id);
        let arrived = receiver.arrived(id, expected);
        assert_eq!(arrived, expected, "{packet:?}\n{}", view.explain(&packet));
        *counts.entry(expected).or_insert(0) += 1;
        if expected {
            expected_all.insert(id);
        }
    }
    assert_eq!(receiver.all(), expected_all, "packets arrived late");
    counts
}

/// The evaluator's view of a ruleset.
struct View {
    program: Program,
    sets: IpSets,
    removals: Vec<Change>,
}

impl View {
    fn of(changes: &[Change], version: IpVersion) -> Self {
        let (mut program, mut sets, mut removals) = (Program::new(version), IpSets::default(), Vec::new());
        for change in changes {
            sets.on_change(change);
            match change {
                Change::PolicyUpdate { id, policy } => {
                    program.set_policy(id, policy);
                    removals.push(Change::PolicyRemove { id: id.clone() });
                }
                Change::ProfileUpdate { id, profile } => {
                    program.set_profile(id, profile);
                    removals.push(Change::ProfileRemove { id: id.clone() });
                }
                Change::WorkloadEndpointUpdate { endpoint, .. } => program.set_workload(endpoint),
                Change::IpSetUpdate { id, .. } => removals.insert(0, Change::IpSetRemove { id: id.clone() }),
                _ => {}
            }
        }
        removals.reverse();
        Self { program, sets, removals }
    }

    /// Everything but the endpoints, which then have policies and profiles that are not known.
    fn removals(&self) -> Vec<Change> {
        self.removals.clone()
    }

    fn allows(&self, packet: &Packet) -> bool {
        let evaluator = Evaluator::new(&self.program, &self.sets);
        let side = |interface, direction| {
            evaluator.workload(interface, direction, packet).decision == Decision::Allow
        };
        side("cali-a", Direction::Egress) && side("cali-b", Direction::Ingress)
    }

    fn explain(&self, packet: &Packet) -> String {
        let evaluator = Evaluator::new(&self.program, &self.sets);
        let out = evaluator.workload("cali-a", Direction::Egress, packet);
        let into = evaluator.workload("cali-b", Direction::Ingress, packet);
        let chains: Vec<String> = self
            .program
            .chains()
            .iter()
            .map(|(id, chain)| {
                let rules: Vec<String> = chain
                    .rules
                    .iter()
                    .map(|rule| format!("    {:?} {:?}", rule.matches, rule.verdict))
                    .collect();
                format!("  {id}:\n{}", rules.join("\n"))
            })
            .collect();
        format!("egress {:#?}\ningress {:#?}\n{}\n{:?}", out.trace, into.trace, chains.join("\n"), self.sets)
    }
}
