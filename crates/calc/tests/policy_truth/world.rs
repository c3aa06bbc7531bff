//! One graph, what its changes add up to, and probes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calc::contract::*;
use calc::evaluator::{Decision, Evaluator, IpSets, Outcome, Packet};
use calc::program::{Origin, Program};
use calc::{Graph, GraphConfig};
use serde_json::Value;
use testkit::objects::{NODE, Rows};
use testkit::vectors::Case;

/// A graph and a dataplane's view of it.
pub(crate) struct World {
    graph: Graph,
    rows: Rows,
    policies: BTreeMap<PolicyId, Arc<Policy>>,
    profiles: BTreeMap<ProfileId, Arc<Profile>>,
    workloads: BTreeMap<Arc<str>, Arc<WorkloadEndpoint>>,
    sets: IpSets,
    known_sets: BTreeSet<IpSetId>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            graph: Graph::new(GraphConfig::new(NODE)),
            rows: Rows::new(),
            policies: BTreeMap::new(),
            profiles: BTreeMap::new(),
            workloads: BTreeMap::new(),
            sets: IpSets::default(),
            known_sets: BTreeSet::new(),
        }
    }
}

impl World {
    /// Changes the datastore to hold exactly these rows.
    pub(crate) fn become_(&mut self, rows: &Rows) {
        let gone: Vec<_> = self.rows.keys().filter(|key| !rows.contains_key(key)).cloned().collect();
        for key in &gone {
            self.graph.on_update(key, None);
        }
        for (key, row) in rows.iter().filter(|(key, row)| self.rows.get(key) != Some(row)) {
            self.graph.on_update(key, Some(row.clone()));
        }
        self.graph.on_in_sync();
        for change in self.graph.flush() {
            self.take(change);
        }
        self.rows = rows.clone();
    }

    fn take(&mut self, change: Change) {
        self.sets.on_change(&change);
        match change {
            Change::IpSetUpdate { id, .. } => drop(self.known_sets.insert(id)),
            Change::IpSetDelta { id, .. } => {
                assert!(self.known_sets.contains(&id), "delta of unknown set {id}")
            }
            Change::IpSetRemove { id } => assert!(self.known_sets.remove(&id), "removal of unknown set {id}"),
            Change::PolicyUpdate { id, policy } => drop(self.policies.insert(id, policy)),
            Change::PolicyRemove { id } => assert!(self.policies.remove(&id).is_some()),
            Change::ProfileUpdate { id, profile } => drop(self.profiles.insert(id, profile)),
            Change::ProfileRemove { id } => assert!(self.profiles.remove(&id).is_some()),
            Change::WorkloadEndpointUpdate { id, endpoint } => {
                self.workloads.insert(id.workload, endpoint);
            }
            Change::WorkloadEndpointRemove { id } => drop(self.workloads.remove(&id.workload)),
            _ => {}
        }
    }

    fn program(&self, version: IpVersion) -> Program {
        let mut program = Program::new(version);
        self.policies.iter().for_each(|(id, policy)| program.set_policy(id, policy));
        self.profiles.iter().for_each(|(id, profile)| program.set_profile(id, profile));
        self.workloads.values().for_each(|endpoint| program.set_workload(endpoint));
        for chain in program.chains().values() {
            let unknown = chain.ip_sets().into_iter().find(|set| !self.known_sets.contains(set));
            assert!(unknown.is_none(), "a rule looks into {unknown:?}, which was never sent");
        }
        program
    }

    /// Sends the probes of a case.
    pub(crate) fn check(&self, case: &Case) -> Result<(), String> {
        let programs = [IpVersion::V4, IpVersion::V6].map(|version| self.program(version));
        let probes = case.when["probes"].as_array().ok_or("no probes")?;
        let mut wrong = Vec::new();
        for (index, probe) in probes.iter().enumerate() {
            let (verdict, deciding) = self.probe(probe, &programs);
            let expected = &case.then["verdicts"][index];
            if *expected != verdict {
                wrong.push(format!("probe {probe}: expected {expected}, got {verdict} by {deciding:?}"));
            }
            if let Some(name) = case.then["deciding"][index].as_str()
                && !deciding.contains(name)
            {
                wrong.push(format!("probe {probe}: expected {name} to decide, got {deciding:?}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
    }

    /// The verdict, and who decided on either side.
    fn probe(&self, probe: &Value, programs: &[Program; 2]) -> (&'static str, BTreeSet<String>) {
        let end = |name: &str| probe[name].as_str().expect("an end");
        let packet = self.packet(probe);
        let program = if packet.source.is_ipv4() { &programs[0] } else { &programs[1] };
        let evaluator = Evaluator::new(program, &self.sets);
        let mut deciding = BTreeSet::new();
        for (name, direction) in [("from", Direction::Egress), ("to", Direction::Ingress)] {
            let Some(endpoint) = self.workloads.get(end(name)) else { continue };
            let outcome = evaluator.workload(&endpoint.interface, direction, &packet);
            let explained = evaluator.explain_workload(&endpoint.interface, direction, &packet);
            assert_eq!(explained.outcome, outcome, "an explanation is of another verdict");
            let matched = explained.considered.iter().filter(|entry| entry.failed.is_empty()).count();
            assert_eq!(matched, outcome.trace.len(), "what matched is what had no failed condition");
            if outcome.decision != Decision::Allow {
                return ("deny", owner(&outcome).into_iter().collect());
            }
            deciding.extend(owner(&outcome));
        }
        ("allow", deciding)
    }

    fn packet(&self, probe: &Value) -> Packet {
        let number = |name: &str| probe[name].as_u64().map(|number| u16::try_from(number).unwrap());
        let protocol = match &probe["protocol"] {
            Value::Number(number) => u8::try_from(number.as_u64().unwrap()).unwrap(),
            name => match name.as_str().unwrap() {
                "TCP" => 6,
                "UDP" => 17,
                "SCTP" => 132,
                "ICMP" => 1,
                "ICMPv6" => 58,
                "UDPLite" => 136,
                other => panic!("protocol {other:?}"),
            },
        };
        let to = self.address(&probe["to"], None);
        let from = self.address(&probe["from"], Some(to));
        let to = self.address(&probe["to"], Some(from));
        let mut packet = Packet::new(from, to, protocol, number("port").unwrap_or(0));
        packet.source_port = number("sport").unwrap_or(packet.source_port);
        let byte = |name: &str| number(name).map(|number| u8::try_from(number).unwrap());
        packet.icmp = (byte("icmpType").unwrap_or(packet.icmp.0), byte("icmpCode").unwrap_or(packet.icmp.1));
        packet
    }

    /// The address of an end, of the other end's family where it has both.
    fn address(&self, end: &Value, like: Option<IpAddr>) -> IpAddr {
        let name = end.as_str().expect("a name or an address");
        if let Ok(address) = name.parse() {
            return address;
        }
        let endpoint = self.workloads.get(name).unwrap_or_else(|| panic!("no pod {name}"));
        let mut nets = endpoint.ipv4_nets.iter().chain(&endpoint.ipv6_nets);
        let fits = |net: &&ipnet::IpNet| like.is_none_or(|like| like.is_ipv4() == net.addr().is_ipv4());
        nets.find(fits).unwrap_or_else(|| panic!("pod {name} has no address for {like:?}")).addr()
    }
}

/// `namespace/name` or `name` of the policy, with Kubernetes' own names; `profile`; nothing for the end of a tier.
fn owner(outcome: &Outcome) -> Option<String> {
    match outcome.deciding.as_ref()? {
        Origin::Rule(id) => Some(match &id.owner {
            RuleOwner::Profile(_) => "profile".to_owned(),
            RuleOwner::Policy(policy) => {
                let name = policy.name.strip_prefix("knp.default.").unwrap_or(&policy.name);
                match &policy.namespace {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name.to_owned(),
                }
            }
        }),
        _ => None,
    }
}
