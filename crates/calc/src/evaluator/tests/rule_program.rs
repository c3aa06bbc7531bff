//! From the vectors' JSON to contract types, and back to verdicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use testkit::vectors::Case;

use super::super::{Decision, Evaluator, IpSets, Packet};
use crate::contract::*;
use crate::program::{Conntrack, HostHook, Program};

pub(super) fn check(case: &Case) -> Result<(), String> {
    let version = if case.given["ip_version"] == 6 { IpVersion::V6 } else { IpVersion::V4 };
    let scene = Scene::new(&case.given["program"], version);
    let sets = ip_sets(&case.given["ip_sets"]);
    let evaluator = Evaluator::new(&scene.program, &sets);
    let mut wrong = Vec::new();
    for (index, packet) in list(&case.when["packets"]).iter().enumerate() {
        let verdict = scene.judge(&evaluator, packet);
        if case.then["verdicts"][index] != verdict {
            wrong.push(format!("packet {packet} expected {}, got {verdict}", case.then["verdicts"][index]));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

pub(super) fn workload(tiers: Vec<Tier>) -> WorkloadEndpoint {
    WorkloadEndpoint {
        active: true,
        interface: "cali1".into(),
        mac: None,
        ipv4_nets: Vec::new(),
        ipv6_nets: Vec::new(),
        tiers,
        profiles: Vec::new(),
        allow_spoofed_source_prefixes: Vec::new(),
        qos: Qos::default(),
    }
}

/// A program of the vectors: a workload's, or that of an interface of the host.
struct Scene {
    program: Program,
    kind: String,
    for_host_interface: bool,
    has_workload: bool,
    normal_applies: bool,
}

impl Scene {
    fn new(given: &Value, version: IpVersion) -> Self {
        let mut scene = Self {
            program: Program::new(version),
            kind: given["kind"].as_str().unwrap_or("workload").to_owned(),
            for_host_interface: given["for_host_interface"] == true,
            has_workload: given["tiers"].is_array() || given["kind"] == "workload",
            normal_applies: given["suppress_normal_host_policy"] != true,
        };
        let workload = workload(scene.tiers("tiers", given));
        let endpoint = HostEndpoint {
            interface: Some("eth0".into()),
            expected_ips: Vec::new(),
            tiers: scene.tiers("host_normal_tiers", given),
            untracked_tiers: if scene.kind == "xdp" {
                scene.tiers("host_normal_tiers", given)
            } else {
                Vec::new()
            },
            pre_dnat_tiers: scene.tiers("host_pre_dnat_tiers", given),
            forward_tiers: scene.tiers("host_forward_tiers", given),
            profiles: scene.profiles(given),
        };
        scene.program.set_workload(&workload);
        scene.program.set_host(&"eth0".into(), &endpoint);
        scene
    }

    fn tiers(&mut self, field: &str, given: &Value) -> Vec<Tier> {
        list(&given[field]).iter().map(|tier| self.tier(field, tier)).collect()
    }

    fn tier(&mut self, field: &str, tier: &Value) -> Tier {
        let name: Arc<str> = tier["name"].as_str().unwrap().into();
        let mut ids = Vec::new();
        for policy in list(&tier["policies"]) {
            let text = format!("{field}/{name}/{}", policy["name"].as_str().unwrap());
            let id = PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: text.into() };
            let owner = RuleOwner::Policy(id.clone());
            let policy = Policy {
                tier: name.clone(),
                inbound: rules(&policy["rules"], &owner),
                outbound: Vec::new(),
                untracked: false,
                pre_dnat: field == "host_pre_dnat_tiers",
                apply_on_forward: field == "host_forward_tiers",
                rechecks: false,
            };
            self.program.set_policy(&id, &policy);
            ids.push(id);
        }
        let default_action = match tier["end_action"].as_str() {
            Some("pass") => TierDefault::Pass,
            _ => TierDefault::Deny,
        };
        Tier { name, default_action, ingress: ids, egress: Vec::new() }
    }

    fn profiles(&mut self, given: &Value) -> Vec<ProfileId> {
        let mut ids = Vec::new();
        for profile in list(&given["host_profiles"]) {
            let id = ProfileId(profile["name"].as_str().unwrap().into());
            let inbound = rules(&profile["rules"], &RuleOwner::Profile(id.clone()));
            self.program.set_profile(&id, &Profile { inbound, outbound: Vec::new() });
            ids.push(id);
        }
        ids
    }

    fn judge(&self, evaluator: &Evaluator<'_>, packet: &Value) -> &'static str {
        let after = read_packet(packet, false);
        let verdict = match self.kind.as_str() {
            "workload" => evaluator.workload("cali1", Direction::Ingress, &after).decision,
            "xdp" => evaluator.host("eth0", HostHook::Untracked, Direction::Ingress, &after).decision,
            "host" => self.judge_host(evaluator, packet, &after),
            other => panic!("program kind {other:?}"),
        };
        match verdict {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
            Decision::NoMatch => "no-match",
        }
    }

    /// The order of hooks on a packet's path through an interface of the host.
    fn judge_host(&self, evaluator: &Evaluator<'_>, packet: &Value, after: &Packet) -> Decision {
        let host = |hook, packet: &Packet| evaluator.host("eth0", hook, Direction::Ingress, packet).decision;
        match host(HostHook::PreDnat, &read_packet(packet, true)) {
            Decision::Deny => return Decision::Deny,
            Decision::Allow if self.for_host_interface => return Decision::Allow,
            Decision::Allow | Decision::NoMatch => {}
        }
        let ends_here = packet["from_host"] == true || packet["to_host"] == true;
        let own = match ends_here {
            true if self.normal_applies => host(HostHook::Normal, after),
            true => Decision::Allow,
            false => host(HostHook::Forward, after),
        };
        if own == Decision::Allow && self.has_workload {
            return evaluator.workload("cali1", Direction::Ingress, after).decision;
        }
        own
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn read_packet(packet: &Value, before_dnat: bool) -> Packet {
    let address = |name: &str| packet[name].as_str().map(|text| text.parse::<IpAddr>().unwrap());
    let number = |name: &str| packet[name].as_u64().map(|number| u16::try_from(number).unwrap());
    let original = address("pre_dnat_dst").filter(|_| before_dnat);
    let original_port = number("pre_dnat_dport").filter(|_| before_dnat);
    let byte = |name: &str| u8::try_from(number(name).unwrap_or(0)).unwrap();
    Packet {
        source: address("src").unwrap(),
        destination: original.unwrap_or_else(|| address("dst").unwrap()),
        protocol: byte("protocol"),
        source_port: number("sport").unwrap_or(0),
        destination_port: original_port.or(number("dport")).unwrap_or(0),
        icmp: (byte("icmp_type"), byte("icmp_code")),
        conntrack: Conntrack::New,
        is_reply: false,
    }
}

fn rules(given: &Value, owner: &RuleOwner) -> Vec<Rule> {
    list(given).iter().enumerate().map(|(index, rule)| read_rule(rule, owner, index)).collect()
}

fn read_rule(rule: &Value, owner: &RuleOwner, index: usize) -> Rule {
    let index = u32::try_from(index).unwrap();
    Rule {
        id: RuleId { owner: owner.clone(), direction: Direction::Ingress, index },
        action: match rule["action"].as_str().unwrap() {
            "Allow" => Action::Allow,
            "Deny" => Action::Deny,
            "Pass" => Action::Pass,
            "Log" => Action::Log,
            other => panic!("action {other:?}"),
        },
        ip_version: None,
        protocol: protocol(&rule["protocol"]),
        not_protocol: protocol(&rule["notProtocol"]),
        icmp: icmp(&rule["icmp"]),
        not_icmp: icmp(&rule["notICMP"]),
        source: entity(&rule["source"]),
        destination: entity(&rule["destination"]),
        annotations: BTreeMap::new(),
    }
}

fn protocol(value: &Value) -> Option<u8> {
    match value {
        Value::Null => None,
        Value::Number(number) => Some(u8::try_from(number.as_u64().unwrap()).unwrap()),
        other => Some(match other.as_str().unwrap().to_ascii_lowercase().as_str() {
            "icmp" => 1,
            "tcp" => 6,
            "udp" => 17,
            "icmpv6" => 58,
            "sctp" => 132,
            "udplite" => 136,
            text => text.parse().unwrap(),
        }),
    }
}

fn icmp(value: &Value) -> Option<IcmpMatch> {
    let byte = |name: &str| value[name].as_u64().map(|number| u8::try_from(number).unwrap());
    byte("type").map(|icmp_type| IcmpMatch { icmp_type, code: byte("code") })
}

fn entity(value: &Value) -> EntityMatch {
    let known = ["nets", "notNets", "ports", "notPorts", "ipSets", "notIPSets", "namedPortSets"];
    let stray = value.as_object().into_iter().flatten().find(|(name, _)| !known.contains(&name.as_str()));
    assert!(stray.is_none(), "unknown field {stray:?}");
    EntityMatch {
        nets: nets(&value["nets"]),
        not_nets: nets(&value["notNets"]),
        ports: list(&value["ports"]).iter().map(port_range).collect(),
        not_ports: list(&value["notPorts"]).iter().map(port_range).collect(),
        named_port_sets: ids(&value["namedPortSets"]),
        ip_sets: ids(&value["ipSets"]),
        not_ip_sets: ids(&value["notIPSets"]),
        ..EntityMatch::default()
    }
}

fn nets(value: &Value) -> Vec<IpNet> {
    list(value).iter().map(|net| net.as_str().unwrap().parse().unwrap()).collect()
}

fn ids(value: &Value) -> Vec<IpSetId> {
    list(value).iter().map(|id| IpSetId(id.as_str().unwrap().into())).collect()
}

fn port_range(value: &Value) -> PortRange {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (min, max) = text.split_once(':').unwrap_or((&text, &text));
    PortRange { min: min.parse().unwrap(), max: max.parse().unwrap() }
}

fn ip_sets(value: &Value) -> IpSets {
    let mut sets = IpSets::default();
    for (id, members) in value.as_object().into_iter().flatten() {
        let members: BTreeSet<IpSetMember> = list(members).iter().map(member).collect();
        sets.set(IpSetId(id.as_str().into()), members);
    }
    sets
}

/// `cidr`, or `cidr,protocol:port`.
fn member(value: &Value) -> IpSetMember {
    let text = value.as_str().unwrap();
    let net = |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).unwrap();
    match text.split_once(',') {
        None => IpSetMember::Net(net(text)),
        Some((cidr, rest)) => {
            let (name, port) = rest.split_once(':').unwrap();
            let protocol = protocol(&Value::from(name)).unwrap();
            IpSetMember::NetPort { net: net(cidr), protocol, port: port.parse().unwrap() }
        }
    }
}
