//! Rulesets and packets from a seed, with few different addresses and ports so that they meet.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use calc::contract::*;
use calc::evaluator::Packet;
use fastrand::Rng;
use ipnet::IpNet;

use crate::common::*;

const PROTOCOLS: [u8; 6] = [6, 6, 17, 17, 132, 253];
const PORTS: [u16; 6] = [79, 80, 81, 443, 8080, 65535];
const TIERS: [&str; 3] = ["first", "default", "last"];
const POLICIES: usize = 6;

pub(crate) struct Generator {
    random: Rng,
    version: IpVersion,
    ends: [IpAddr; 2],
    flows: BTreeSet<(u8, u16, u16)>,
}

impl Generator {
    pub(crate) fn new(seed: u64, version: IpVersion, ends: [IpAddr; 2]) -> Self {
        Self { random: Rng::with_seed(seed), version, ends, flows: BTreeSet::new() }
    }

    /// Sets, policies, profiles and both endpoints.
    pub(crate) fn ruleset(&mut self) -> Vec<Change> {
        let mut changes: Vec<Change> = (0..3).map(|number| self.net_set(number)).collect();
        changes.extend((0..2).map(|number| self.port_set(number)));
        for number in 0..POLICIES {
            let (inbound, outbound) = (self.rules(), self.rules());
            changes.push(policy(&format!("p{number}"), inbound, outbound));
        }
        for name in ["one", "two"] {
            let (inbound, outbound) = (self.rules(), self.rules());
            changes.push(profile(name, inbound, outbound));
        }
        changes.push(open_profile());
        for (index, (name, interface)) in [("a", "cali-a"), ("b", "cali-b")].into_iter().enumerate() {
            let ends = self.endpoint(interface, self.ends[index]);
            changes.push(endpoint(name, ends));
        }
        changes
    }

    /// From the first end to the second: one that belongs to no connection of an earlier one.
    pub(crate) fn packet(&mut self) -> Packet {
        loop {
            let packet = self.any_packet();
            let flow = (packet.protocol, packet.source_port, packet.destination_port);
            if ![6, 17, 132].contains(&packet.protocol) || self.flows.insert(flow) {
                return packet;
            }
        }
    }

    fn any_packet(&mut self) -> Packet {
        let icmp = if self.version == IpVersion::V4 { 1 } else { 58 };
        let protocol = if self.random.u8(..6) == 0 { icmp } else { self.random.choice(PROTOCOLS).unwrap() };
        let port = self.random.choice(PORTS).unwrap();
        let mut packet = Packet::new(self.ends[0], self.ends[1], protocol, port);
        packet.source_port =
            if self.random.bool() { self.random.choice(PORTS).unwrap() } else { self.random.u16(1024..) };
        let types: [u8; 2] = if icmp == 1 { [8, 13] } else { [128, 139] };
        packet.icmp = (self.random.choice(types).unwrap(), self.random.u8(..2));
        packet
    }

    fn endpoint(&mut self, interface: &str, address: IpAddr) -> WorkloadEndpoint {
        let mut endpoint = workload(interface, "192.0.2.1", Vec::new());
        endpoint.ipv4_nets.clear();
        match self.version {
            IpVersion::V4 => endpoint.ipv4_nets.push(address.into()),
            IpVersion::V6 => endpoint.ipv6_nets.push(address.into()),
        }
        for name in TIERS {
            if self.random.bool() {
                let default = if self.random.u8(..3) == 0 { TierDefault::Deny } else { TierDefault::Pass };
                let mut tier = tier(name, default, &[], &[]);
                tier.ingress = self.policies();
                tier.egress = self.policies();
                endpoint.tiers.push(tier);
            }
        }
        let last = if self.random.u8(..4) == 0 { "two" } else { "open" };
        endpoint.profiles = ["one", last].map(|name| ProfileId(name.into())).to_vec();
        endpoint
    }

    fn policies(&mut self) -> Vec<PolicyId> {
        (0..self.random.usize(..4))
            .map(|_| policy_id(&format!("p{}", self.random.usize(..POLICIES))))
            .collect()
    }

    fn rules(&mut self) -> Vec<Rule> {
        (0..self.random.usize(..5)).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> Rule {
        let action = self
            .random
            .choice([Action::Allow, Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log])
            .unwrap();
        let mut rule = rule(action);
        let icmp = if self.version == IpVersion::V4 { 1 } else { 58 };
        match self.random.u8(..8) {
            0..4 => {
                rule.protocol = self.random.choice([6, 17, 132]);
                self.ports(&mut rule);
            }
            4 => rule.not_protocol = self.random.choice([6, 17, 253]),
            5 => {
                rule.protocol = Some(icmp);
                let wanted = Some(self.icmp());
                if self.random.bool() { rule.icmp = wanted } else { rule.not_icmp = wanted }
            }
            6 => self.ports(&mut rule),
            _ => {}
        }
        if self.random.bool() {
            rule.source = self.addresses(rule.source);
        }
        if self.random.bool() {
            rule.destination = self.addresses(rule.destination);
        }
        rule
    }

    fn icmp(&mut self) -> IcmpMatch {
        let icmp_type = self.random.choice([8, 13, 128, 139]).unwrap();
        IcmpMatch { icmp_type, code: self.random.bool().then(|| self.random.u8(..2)) }
    }

    fn ports(&mut self, rule: &mut Rule) {
        let entity = if self.random.u8(..4) == 0 { &mut rule.source } else { &mut rule.destination };
        let random = &mut self.random;
        let ranges = |random: &mut Rng| {
            let range = |random: &mut Rng| {
                let min = random.choice(PORTS).unwrap();
                PortRange { min, max: min.saturating_add(random.u16(..2)) }
            };
            (0..random.usize(1..4)).map(|_| range(random)).collect::<Vec<_>>()
        };
        match random.u8(..5) {
            0..2 => entity.ports = ranges(random),
            2 => entity.not_ports = ranges(random),
            3 => {
                entity.named_port_sets = vec![IpSetId(format!("n:{}", random.u8(..2)).into())];
                if random.bool() {
                    entity.ports = ranges(random);
                }
            }
            _ => entity.not_named_port_sets = vec![IpSetId(format!("n:{}", random.u8(..2)).into())],
        }
    }

    fn addresses(&mut self, mut entity: EntityMatch) -> EntityMatch {
        let set = |random: &mut Rng| vec![IpSetId(format!("s:{}", random.u8(..3)).into())];
        match self.random.u8(..5) {
            0 => entity.nets = self.nets(),
            1 => entity.not_nets = self.nets(),
            2..4 => entity.ip_sets = set(&mut self.random),
            _ => entity.not_ip_sets = set(&mut self.random),
        }
        entity
    }

    fn nets(&mut self) -> Vec<IpNet> {
        (0..self.random.usize(1..4)).map(|_| self.net(false)).collect()
    }

    /// Around one of the ends.
    fn net(&mut self, single: bool) -> IpNet {
        let end = self.random.choice(self.ends).unwrap();
        let near = match end {
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) ^ self.random.u32(..2)).into()),
            IpAddr::V6(address) => {
                IpAddr::V6((u128::from(address) ^ u128::from(self.random.u32(..2))).into())
            }
        };
        let longest = if near.is_ipv4() { 32 } else { 128 };
        let length = if single { longest } else { longest - self.random.u8(..4) * self.random.u8(..8) };
        IpNet::new(near, length).unwrap().trunc()
    }

    fn net_set(&mut self, number: u8) -> Change {
        let single = self.random.bool();
        let members: BTreeSet<IpSetMember> =
            (0..self.random.usize(..4)).map(|_| IpSetMember::Net(self.net(single))).collect();
        Change::IpSetUpdate { id: IpSetId(format!("s:{number}").into()), kind: IpSetKind::Net, members }
    }

    fn port_set(&mut self, number: u8) -> Change {
        let single = self.random.u8(..4) != 0;
        let members: BTreeSet<IpSetMember> = (0..self.random.usize(1..6))
            .map(|_| IpSetMember::NetPort {
                net: self.net(single),
                protocol: self.random.choice([6, 17, 132]).unwrap(),
                port: self.random.choice(PORTS).unwrap(),
            })
            .collect();
        Change::IpSetUpdate { id: IpSetId(format!("n:{number}").into()), kind: IpSetKind::NetPort, members }
    }
}
