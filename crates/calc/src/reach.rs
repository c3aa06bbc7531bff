//! Who can reach an endpoint, over all packets.
//!
//! A packet to one address, of one protocol and destination port, is still one of 2^32 (or 2^128) sources times 65,536 source
//! ports. But rules only ask whether a source lies in some networks, sets and port ranges. So the sources fall into *classes*:
//! all addresses for which every condition of every chain on the way has the same answer ([`regions::classes`]), and all
//! ports between two bounds of any range. Nothing tells two packets of one class apart, so one of them, judged by
//! the reference evaluator, stands for all: the answer is exact, and it is the evaluator's.
//!
//! Workloads and nodes are judged one by one, since their own egress policy is on the way. What is left of the address space is
//! outside, and is given as networks.

mod regions;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::selector::Selector;
use ipnet::IpNet;
use serde::Serialize;

use crate::cluster::{Cluster, HostPlace, NodeModel, Place, WorkloadPlace};
use crate::contract::{IpSetId, IpSetMember, IpVersion, PortRange};
use crate::evaluator::Packet;
use crate::explain::{Ruling, Sites};
use crate::program::{ChainId, Match, Program, Side, Verdict};
use regions::{Interval, Intervals};

/// What is asked.
#[derive(Debug, Clone)]
pub struct ReachQuestion {
    /// Who is to be reached.
    pub targets: Vec<WorkloadPlace>,
    /// TCP, UDP or SCTP, by number.
    pub protocol: u8,
    /// Destination port.
    pub port: u16,
    /// Only which of these workloads can; everyone, if absent.
    pub from: Option<Selector>,
}

/// Who reaches one address of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetReach {
    /// Who is reached.
    pub target: WorkloadPlace,
    /// At which of its addresses.
    pub address: IpAddr,
    /// Workloads that can.
    pub pods: Vec<Reacher<WorkloadPlace>>,
    /// Workloads that cannot.
    pub pods_denied: usize,
    /// Nodes that can.
    pub nodes: Vec<Reacher<HostPlace>>,
    /// Networks of addresses outside the cluster that can. Addresses of pods and nodes may lie in them and say nothing: those
    /// that can are listed by themselves.
    pub networks: Vec<Reacher<IpNet>>,
}

/// Someone who can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reacher<T> {
    /// Who.
    pub from: T,
    /// From these source ports only, as first and last; empty: from all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ports: Vec<(u16, u16)>,
}

/// All ports.
const ALL: (u16, u16) = (0, u16::MAX);

/// Answers for every target and each of its addresses.
pub fn reach(cluster: &Cluster, question: &ReachQuestion) -> Vec<TargetReach> {
    let sites = Sites::many(cluster);
    let all: Vec<WorkloadPlace> = cluster.workloads().filter_map(WorkloadPlace::new).collect();
    let senders = question.from.as_ref().map(|selector| cluster.selected(selector));
    let known = known(cluster, &all);
    let senders = senders.unwrap_or(all);
    let asked = Asked { cluster, sites: &sites, question, senders, known };
    let targets = question.targets.iter();
    targets.flat_map(|target| target.addresses.iter().map(|address| asked.target(target, *address))).collect()
}

struct Asked<'a> {
    cluster: &'a Cluster,
    sites: &'a Sites,
    question: &'a ReachQuestion,
    senders: Vec<WorkloadPlace>,
    /// The addresses of workloads and nodes, IPv4 and IPv6.
    known: [BTreeSet<u128>; 2],
}

impl Asked<'_> {
    fn target(&self, target: &WorkloadPlace, address: IpAddr) -> TargetReach {
        let version = IpVersion::of(address);
        let at = Place::Workload(WorkloadPlace { addresses: vec![address], ..target.clone() });
        let ports = self.source_port_classes(version);
        let everyone = self.question.from.is_none();
        let (mut pods, mut pods_denied) = (Vec::new(), 0);
        for workload in self.senders.iter().filter(|workload| workload.id != target.id) {
            let of_family = workload.addresses.iter().filter(|own| IpVersion::of(**own) == version);
            let from = |own: &IpAddr| WorkloadPlace { addresses: vec![*own], ..workload.clone() };
            for from in of_family.map(from) {
                match self.ports_from(Place::Workload(from.clone()), &at, &ports) {
                    Some(source_ports) => pods.push(Reacher { from, source_ports }),
                    None => pods_denied += 1,
                }
            }
        }
        let nodes = if everyone { self.nodes(&at, version, &ports) } else { Vec::new() };
        let networks = if everyone { self.networks(&at, version, &ports) } else { Vec::new() };
        TargetReach { target: target.clone(), address, pods, pods_denied, nodes, networks }
    }

    /// From which ports a place can; `None`: from none.
    fn ports_from(&self, from: Place, to: &Place, ports: &[(u16, u16)]) -> Option<Vec<(u16, u16)>> {
        let can = ports.iter().filter(|(first, _)| self.passes(&from, to, *first)).copied();
        ports_text(can.collect())
    }

    fn passes(&self, from: &Place, to: &Place, source_port: u16) -> bool {
        let (Some(source), Some(destination)) = (from.addresses().first(), to.addresses().first()) else {
            return false;
        };
        let mut packet = Packet::new(*source, *destination, self.question.protocol, self.question.port);
        packet.source_port = source_port;
        self.sites.verdict(self.cluster, (from, to), &packet) != Ruling::Deny
    }

    fn nodes(&self, to: &Place, version: IpVersion, ports: &[(u16, u16)]) -> Vec<Reacher<HostPlace>> {
        let mut nodes = Vec::new();
        for (node, addresses) in self.cluster.nodes() {
            for address in addresses.into_iter().filter(|address| IpVersion::of(*address) == version) {
                let from = HostPlace { node: node.to_owned(), addresses: vec![address] };
                if let Some(source_ports) = self.ports_from(Place::Host(from.clone()), to, ports) {
                    nodes.push(Reacher { from, source_ports });
                }
            }
        }
        nodes
    }

    /// The address space but for workloads and nodes.
    fn networks(&self, to: &Place, version: IpVersion, ports: &[(u16, u16)]) -> Vec<Reacher<IpNet>> {
        let known = &self.known[usize::from(version == IpVersion::V6)];
        let mut by_port: Vec<((u16, u16), Intervals)> = Vec::new();
        for port in ports {
            let conditions = self.conditions(to, version, port.0);
            let mut allowed = Intervals::default();
            for class in regions::classes(&conditions, version) {
                let from = Place::Outside { address: regions::address(class.first(), version) };
                if self.passes(&from, to, port.0) {
                    allowed.extend(class);
                }
            }
            match by_port.last_mut() {
                Some((last, same)) if *same == allowed => last.1 = port.1,
                _ => by_port.push((*port, allowed)),
            }
        }
        let whole = by_port.len() == 1;
        let reacher = |ports: (u16, u16), from| {
            let source_ports = if whole { Vec::new() } else { vec![ports] };
            Reacher { from, source_ports }
        };
        by_port
            .into_iter()
            .flat_map(|(ports, allowed)| {
                let networks = allowed.networks(known, version);
                networks.into_iter().map(move |network| (ports, network))
            })
            .map(|(ports, network)| reacher(ports, network))
            .collect()
    }

    /// What the chains on the way of a packet from outside ask of its source address; with this source port.
    fn conditions(&self, to: &Place, version: IpVersion, source_port: u16) -> Vec<Vec<Interval>> {
        let Place::Workload(workload) = to else { return Vec::new() };
        let Some((model, program)) = self.sites.site(&workload.node, version) else { return Vec::new() };
        let mut asked = BTreeSet::new();
        for chain in self.sites.arrival(&workload.node, &workload.id) {
            visit(program, &chain, &mut BTreeSet::new(), &mut |condition| match condition {
                Match::Net { side: Side::Source, nets, .. } => drop(asked.insert(Source::Nets(nets.clone()))),
                Match::IpSet { side: Side::Source, set, .. } => drop(asked.insert(Source::Set(set.clone()))),
                Match::PortSet { side: Side::Source, set, .. } => {
                    asked.insert(Source::PortSet(set.clone()));
                }
                _ => {}
            });
        }
        asked
            .iter()
            .map(|source| source.intervals(model, version, self.question.protocol, source_port))
            .collect()
    }

    /// Source ports between which no rule makes a difference.
    fn source_port_classes(&self, version: IpVersion) -> Vec<(u16, u16)> {
        let mut bounds = BTreeSet::from([0_u32]);
        for (model, program) in self.sites.all(version) {
            for rule in program.chains().values().flat_map(|chain| &chain.rules) {
                for condition in &rule.matches {
                    port_bounds(condition, model, &mut bounds);
                }
            }
        }
        let firsts: Vec<u32> = bounds.into_iter().filter(|bound| *bound <= u32::from(u16::MAX)).collect();
        let after = firsts.iter().skip(1).copied().chain([u32::from(u16::MAX) + 1]);
        let class =
            |(first, next): (&u32, u32)| Some((u16::try_from(*first).ok()?, u16::try_from(next - 1).ok()?));
        firsts.iter().zip(after).filter_map(class).collect()
    }
}

/// The addresses of workloads and nodes, IPv4 and IPv6.
fn known(cluster: &Cluster, workloads: &[WorkloadPlace]) -> [BTreeSet<u128>; 2] {
    let nodes = cluster.nodes().flat_map(|(_, addresses)| addresses);
    let all = workloads.iter().flat_map(|workload| workload.addresses.iter().copied()).chain(nodes);
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = all.partition(IpAddr::is_ipv4);
    [v4, v6].map(|addresses| addresses.into_iter().map(regions::number).collect())
}

/// `None`: no port; empty: all of them; ranges that touch are joined.
fn ports_text(ranges: Vec<(u16, u16)>) -> Option<Vec<(u16, u16)>> {
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(before) if u32::from(before.1) + 1 == u32::from(first) => before.1 = last,
            _ => joined.push((first, last)),
        }
    }
    match joined[..] {
        [] => None,
        [ALL] => Some(Vec::new()),
        _ => Some(joined),
    }
}

/// What is asked of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Nets(Vec<IpNet>),
    Set(IpSetId),
    PortSet(IpSetId),
}

impl Source {
    /// The addresses for which the answer is yes.
    fn intervals(&self, model: &NodeModel, version: IpVersion, protocol: u8, port: u16) -> Vec<Interval> {
        let members = |set: &IpSetId| model.sets.members(set).into_iter().flatten().copied();
        let nets: Vec<IpNet> = match self {
            Self::Nets(nets) => nets.clone(),
            Self::Set(set) => members(set)
                .filter_map(|member| match member {
                    IpSetMember::Net(net) => Some(net),
                    IpSetMember::NetPort { .. } => None,
                })
                .collect(),
            Self::PortSet(set) => members(set)
                .filter_map(|member| match member {
                    IpSetMember::NetPort { net, protocol: of, port: at } => {
                        (of == protocol && at == port).then_some(net)
                    }
                    IpSetMember::Net(_) => None,
                })
                .collect(),
        };
        regions::intervals(nets.into_iter().filter(|net| IpVersion::of(net.addr()) == version))
    }
}

/// The first ports of ranges, and those after them.
fn port_bounds(condition: &Match, model: &NodeModel, bounds: &mut BTreeSet<u32>) {
    let mut range = |PortRange { min, max }: PortRange| {
        bounds.insert(u32::from(min));
        bounds.insert(u32::from(max) + 1);
    };
    match condition {
        Match::Ports { side: Side::Source, ranges, .. } => ranges.iter().copied().for_each(range),
        Match::PortSet { side: Side::Source, set, .. } => {
            for member in model.sets.members(set).into_iter().flatten() {
                if let IpSetMember::NetPort { port, .. } = member {
                    range(PortRange { min: *port, max: *port });
                }
            }
        }
        _ => {}
    }
}

/// Every condition of a chain and of those that it leads to.
fn visit(program: &Program, id: &ChainId, seen: &mut BTreeSet<ChainId>, each: &mut impl FnMut(&Match)) {
    if !seen.insert(id.clone()) {
        return;
    }
    for rule in program.chain(id).into_iter().flat_map(|chain| &chain.rules) {
        rule.matches.iter().for_each(&mut *each);
        if let Verdict::Jump(target) = &rule.verdict {
            visit(program, target, seen, each);
        }
    }
}
