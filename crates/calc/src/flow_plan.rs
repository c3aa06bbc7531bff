//! What a change of policy does to flows that were seen: for each, what becomes of its next first packet, before and after.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::cluster::{Cluster, HostPlace, Place, WorkloadPlace};
use crate::evaluator::Packet;
use crate::explain::{Explainer, Question, Ruling};

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FlowEffect {
    /// It passed, and does so no longer.
    Cut,
    /// It did not pass, and now does.
    NewlyAllowed,
    /// As before.
    Unchanged,
}

/// A flow before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowChange {
    /// What the change does.
    pub effect: FlowEffect,
    /// Whether it passes before.
    pub allowed_before: bool,
    /// What decides before.
    pub before: String,
    /// What decides after.
    pub after: String,
}

/// Compares two clusters, flow by flow.
#[derive(Debug)]
pub struct FlowPlan<'a> {
    before: Judge<'a>,
    after: Judge<'a>,
}

impl<'a> FlowPlan<'a> {
    /// For a cluster as it is and as it would be.
    pub fn new(before: &'a Cluster, after: &'a Cluster) -> Self {
        Self { before: Judge::new(before), after: Judge::new(after) }
    }

    /// A flow, by its first packet as it leaves its sender (after translation of the destination). `None`: no policy has a say
    /// about it, before or after.
    pub fn compare(&mut self, packet: &Packet) -> Option<FlowChange> {
        let (before, after) = (self.before.judge(packet), self.after.judge(packet));
        if !before.is_judged && !after.is_judged {
            return None;
        }
        let effect = match (before.allowed, after.allowed) {
            (true, false) => FlowEffect::Cut,
            (false, true) => FlowEffect::NewlyAllowed,
            (true, true) | (false, false) => FlowEffect::Unchanged,
        };
        let (allowed_before, before, after) = (before.allowed, before.because, after.because);
        Some(FlowChange { effect, allowed_before, before, after })
    }

    /// Who has an address, before.
    pub fn name(&self, address: IpAddr) -> Option<String> {
        match self.before.places.get(&address)? {
            Place::Workload(workload) => Some(format!("{}/{}", workload.namespace, workload.name)),
            Place::Host(host) => Some(host.node.clone()),
            Place::Outside { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Judge<'a> {
    explainer: Explainer<'a>,
    places: BTreeMap<IpAddr, Place>,
}

struct Judged {
    is_judged: bool,
    allowed: bool,
    because: String,
}

impl<'a> Judge<'a> {
    fn new(cluster: &'a Cluster) -> Self {
        let mut places = BTreeMap::new();
        for (node, addresses) in cluster.nodes() {
            let place = Place::Host(HostPlace { node: node.to_owned(), addresses: addresses.clone() });
            places.extend(addresses.into_iter().map(|address| (address, place.clone())));
        }
        for workload in cluster.workloads().filter_map(WorkloadPlace::new) {
            let addresses = workload.addresses.clone();
            let place = Place::Workload(workload);
            places.extend(addresses.into_iter().map(|address| (address, place.clone())));
        }
        Self { explainer: Explainer::new(cluster), places }
    }

    fn judge(&mut self, packet: &Packet) -> Judged {
        let place = |address| self.places.get(&address).cloned().unwrap_or(Place::Outside { address });
        let (from, to) = (place(packet.source), place(packet.destination));
        let answer = self.explainer.explain(&Question { from, to, packet: packet.clone() });
        Judged {
            is_judged: !answer.stages.is_empty(),
            allowed: answer.verdict != Ruling::Deny,
            because: answer.because,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::tests::{cluster, resource};

    /// `prod/db` takes TCP to this port from `prod/web`, and nothing else.
    fn with_policy(port: u16) -> Cluster {
        let mut cluster = cluster();
        cluster.put(resource(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": {"name": "db", "namespace": "prod"},
            "spec": {"selector": "app == 'db'", "types": ["Ingress"], "ingress": [
                {"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'web'"},
                 "destination": {"ports": [port]}},
            ]},
        })));
        cluster
    }

    fn packet(from: &str, to: &str, port: u16) -> Packet {
        Packet::tcp(from.parse().unwrap(), to.parse().unwrap(), port)
    }

    const WEB: &str = "10.65.1.1";
    const DB: &str = "10.65.2.1";

    #[test]
    fn a_flow_is_cut_opened_or_left_alone_and_what_decides_is_named() {
        let (before, after) = (with_policy(5432), with_policy(5433));
        let mut plan = FlowPlan::new(&before, &after);
        let cut = plan.compare(&packet(WEB, DB, 5432)).unwrap();
        assert_eq!((cut.effect, cut.allowed_before), (FlowEffect::Cut, true));
        assert!(cut.before.contains("NetworkPolicy prod/db, spec.ingress[0]"), "{}", cut.before);
        assert!(cut.after.contains("tier default"), "{}", cut.after);
        let opened = plan.compare(&packet(WEB, DB, 5433)).unwrap();
        assert_eq!((opened.effect, opened.allowed_before), (FlowEffect::NewlyAllowed, false));
        let denied = plan.compare(&packet("192.0.2.1", DB, 5433)).unwrap();
        assert_eq!((denied.effect, denied.allowed_before), (FlowEffect::Unchanged, false));
        let open = plan.compare(&packet(DB, WEB, 80)).unwrap();
        assert_eq!((open.effect, open.allowed_before), (FlowEffect::Unchanged, true));
    }

    #[test]
    fn what_no_policy_judges_is_not_spoken_of() {
        let (before, after) = (cluster(), with_policy(1));
        let mut plan = FlowPlan::new(&before, &after);
        assert_eq!(plan.compare(&packet("192.0.2.1", "192.0.2.2", 80)), None);
        assert_eq!(plan.name(DB.parse().unwrap()).as_deref(), Some("prod/db"));
        assert_eq!(plan.name("192.0.2.1".parse().unwrap()), None);
    }
}
