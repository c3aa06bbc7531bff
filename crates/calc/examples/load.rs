//! How long the graph takes, and how much memory: a host with 100 pods in a cluster of 10,000, under 1,000 policies.
//! Other sizes are given as numbers: nodes, pods, policies.
//!
//!     cargo run --release -p calc --example load
//!     cargo run --release -p calc --example load 5000 200000 10000

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Key, Kind, Row};
use calc::contract::Change;
use calc::{Graph, GraphConfig};
use serde_json::{Value, json};

const LOCAL_PODS: usize = 100;
const NAMESPACES: usize = 50;
const APPS: usize = 20;
const ROUNDS: usize = 200;

fn main() {
    let cluster = Cluster::from_arguments();
    let before = resident_kib();
    let mut graph = new_graph();
    cluster.rows_without_remote_pods().for_each(|(key, row)| graph.on_update(&key, Some(row)));
    graph.on_in_sync();
    summarise(&graph.flush());
    let local = resident_kib();
    println!("resident: {before} KiB before, {local} KiB without endpoints elsewhere");
    cluster.remote_pods().for_each(|(key, row)| graph.on_update(&key, row));
    let changes = graph.flush();
    println!("resident: {} KiB with the graph and its first changes", resident_kib());
    drop(changes);
    let all = resident_kib();
    let each = (all - local) * 1024 / cluster.pods;
    println!("resident: {all} KiB with the graph alone, {each} octets for each endpoint elsewhere");
    time_loading(&cluster);
    time("policy change", &mut graph, |round| network_policy(17, round));
    time("remote endpoint: labels change", &mut graph, |round| cluster.pod(4_321, round));
    time("remote endpoint comes or goes", &mut graph, |round| {
        let (key, row) = cluster.pod(4_322, 0);
        (key, row.filter(|_| round % 2 == 1))
    });
    time("local endpoint: labels change", &mut graph, |round| cluster.pod(5, round));
    time("namespace: labels change", &mut graph, |round| namespace(7, round));
}

/// How much there is.
struct Cluster {
    nodes: usize,
    pods: usize,
    policies: usize,
}

impl Cluster {
    fn from_arguments() -> Self {
        let mut given = std::env::args().skip(1);
        let mut next = |default| given.next().map_or(default, |text| text.parse().expect("a number"));
        Self { nodes: next(100), pods: next(10_000), policies: next(1_000) }
    }
}

fn new_graph() -> Graph {
    Graph::new(GraphConfig::new(node_name(0)))
}

/// Rows are made, and dropped, while the clock stands.
fn time_loading(cluster: &Cluster) {
    let mut graph = new_graph();
    let mut spent = Duration::ZERO;
    for (key, row) in cluster.rows() {
        let start = Instant::now();
        graph.on_update(&key, Some(row.clone()));
        spent += start.elapsed();
    }
    let start = Instant::now();
    graph.on_in_sync();
    let changes = graph.flush();
    spent += start.elapsed();
    println!("load: {spent:?} until {} changes are out", changes.len());
}

type Update = (Key, Option<Arc<Row>>);

fn time(what: &str, graph: &mut Graph, update: impl Fn(usize) -> Update) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let (key, row) = update(round);
            let start = Instant::now();
            graph.on_update(&key, row);
            let changes = graph.flush();
            let elapsed = start.elapsed();
            assert!(round == 0 || !changes.is_empty(), "{what}: nothing changed in round {round}");
            elapsed
        })
        .collect();
    times.sort_unstable();
    println!("{what}: p50 {:?}, p99 {:?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
}

fn summarise(changes: &[Change]) {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    let members: usize = changes
        .iter()
        .map(|change| match change {
            Change::IpSetUpdate { members, .. } => members.len(),
            _ => 0,
        })
        .sum();
    println!(
        "{} IP sets with {members} members, {} policies, {} endpoints, {} routes",
        count(|change| matches!(change, Change::IpSetUpdate { .. })),
        count(|change| matches!(change, Change::PolicyUpdate { .. })),
        count(|change| matches!(change, Change::WorkloadEndpointUpdate { .. })),
        count(|change| matches!(change, Change::RouteUpdate { .. })),
    );
}

impl Cluster {
    /// Every row of the cluster, made on the fly.
    fn rows(&self) -> impl Iterator<Item = (Key, Arc<Row>)> {
        let remote = self.remote_pods().filter_map(|(key, row)| Some((key, row?)));
        self.rows_without_remote_pods().chain(remote)
    }

    fn rows_without_remote_pods(&self) -> impl Iterator<Item = (Key, Arc<Row>)> {
        let pool = resource(Key::cluster(Kind::IPPool, "default"), json!({}), json!({"cidr": "10.0.0.0/8"}));
        let nodes = (0..self.nodes).map(|node| {
            let address = format!("172.{}.{}.{}/12", 16 + node / 40_000, node / 200 % 200, node % 200 + 1);
            resource(
                Key::cluster(Kind::Node, node_name(node)),
                json!({}),
                json!({"bgp": {"ipv4Address": address}}),
            )
        });
        let namespaces = (0..NAMESPACES).map(|number| namespace(number, 0));
        let pods = (0..LOCAL_PODS).map(|number| self.pod(number, 0));
        let policies = (0..self.policies).map(|number| network_policy(number, 0));
        let rows = [pool]
            .into_iter()
            .chain(nodes)
            .chain(self.blocks())
            .chain(namespaces)
            .chain(pods)
            .chain(policies);
        rows.filter_map(|(key, row)| Some((key, row?)))
    }

    /// In the order of their keys, as a datastore lists them.
    fn remote_pods(&self) -> impl Iterator<Item = Update> {
        let mut numbers: Vec<usize> = (LOCAL_PODS..LOCAL_PODS + self.pods).collect();
        numbers.sort_by_cached_key(|number| (namespace_name(*number), self.endpoint_name(*number)));
        numbers.into_iter().map(|number| self.pod(number, 0))
    }

    /// Each node has blocks of its own, and its pods have their addresses.
    fn blocks(&self) -> impl Iterator<Item = Update> {
        (0..2 * self.nodes).map(move |number| {
            let cidr = format!("{}/26", address(number % self.nodes, number / self.nodes * 64));
            let node = node_name(number % self.nodes);
            let allocations: Vec<Value> = (0..64).map(|ordinal| if ordinal < 50 { json!(0) } else { Value::Null }).collect();
            let attributes = json!([{"handle_id": "h", "secondary": {"node": node}}]);
            let block = json!({
                "cidr": cidr, "affinity": format!("host:{node}"), "allocations": allocations, "attributes": attributes,
            });
            decoded(Key::Block(cidr.parse().expect("a network")), block)
        })
    }

    /// The first pods are those of our node.
    fn node_of(&self, pod: usize) -> usize {
        if pod < LOCAL_PODS { 0 } else { 1 + pod % (self.nodes - 1) }
    }

    fn pod(&self, number: usize, round: usize) -> Update {
        let namespace = namespace_name(number);
        let app = (number / NAMESPACES + round) % APPS;
        let node = self.node_of(number);
        let name = format!("app-{app}-7d9c6b8f5d-{number:05}");
        let labels = json!({
            "app": format!("app-{app}"), "pod-template-hash": "7d9c6b8f5d", "version": format!("v{}", number % 3),
            "projectcalico.org/namespace": namespace, "projectcalico.org/orchestrator": "k8s",
            "projectcalico.org/serviceaccount": "default",
        });
        let spec = json!({
            "orchestrator": "k8s", "node": node_name(node), "pod": name, "endpoint": "eth0",
            "containerID": format!("{number:064x}"), "serviceAccountName": "default",
            "interfaceName": format!("cali{number:011x}"),
            "ipNetworks": [format!("{}/32", address(node, number / self.nodes))],
            "profiles": [format!("kns.{namespace}"), format!("ksa.{namespace}.default")],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        });
        let endpoint = self.endpoint_name(number);
        resource(Key::namespaced(Kind::WorkloadEndpoint, namespace, endpoint), labels, spec)
    }

    fn endpoint_name(&self, number: usize) -> String {
        format!("{}-k8s-pod--{number}-eth0", node_name(self.node_of(number)).replace('-', "--"))
    }
}

fn resource(key: Key, labels: Value, spec: Value) -> Update {
    let Key::Resource { namespace, name, .. } = &key else { panic!("{key}") };
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    decoded(key, json!({"metadata": metadata, "spec": spec}))
}

fn decoded(key: Key, document: Value) -> Update {
    let row = Row::decode(&key, &document.to_string()).expect("the benchmark's rows are well-formed");
    (key, Some(Arc::new(row)))
}

fn node_name(node: usize) -> String {
    format!("node-{node}.cluster.example")
}

fn namespace_name(number: usize) -> String {
    format!("namespace-{}", number % NAMESPACES)
}

/// Local pods are of the first apps, which all policies are about.
const LOCAL_APPS: usize = LOCAL_PODS / NAMESPACES;

/// The address of a number of a node, which has 128 of them.
fn address(node: usize, number: usize) -> Ipv4Addr {
    let offset = u32::try_from(node * 128 + number % 128).expect("so many addresses are in the pool");
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + offset)
}

fn namespace(number: usize, round: usize) -> Update {
    let name = namespace_name(number);
    let labels = json!({
        "pcns.projectcalico.org/name": name, "pcns.kubernetes.io/metadata.name": name,
        "pcns.team": format!("team-{}", (number + round) % 10),
    });
    let allow = json!([{"action": "Allow"}]);
    let spec = json!({"ingress": allow, "egress": allow, "labelsToApply": labels});
    resource(Key::cluster(Kind::Profile, format!("kns.{name}")), json!({}), spec)
}

fn network_policy(number: usize, round: usize) -> Update {
    let name = format!("knp.default.policy-{number}");
    let app = |number: usize| format!("app == 'app-{}'", number % APPS);
    let place = number / NAMESPACES;
    let ports = json!([8080 + round % 100, 9090]);
    let rule = |peer: Value| json!({"action": "Allow", "protocol": "TCP", "source": peer, "destination": {"ports": ports}});
    let team = format!("team == 'team-{}'", number % 10);
    let spec = json!({
        "order": 1000.0,
        "selector": format!("projectcalico.org/orchestrator == 'k8s' && {}", app(place % LOCAL_APPS)),
        "types": ["Ingress"],
        "ingress": [
            rule(json!({"selector": app(place)})),
            rule(json!({"selector": app(place + 1), "namespaceSelector": team})),
            rule(json!({"nets": ["192.168.0.0/16"]})),
        ],
    });
    resource(Key::namespaced(Kind::NetworkPolicy, namespace_name(number), name), json!({}), spec)
}

/// Resident memory of this process, from /proc.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
