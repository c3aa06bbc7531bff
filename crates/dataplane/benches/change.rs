//! From a changed row to the kernel, on a host with 100 workloads, 1,000 policies and 10,000 workloads elsewhere.
//!
//! A row goes through the calculation graph and the dataplane to one committed transaction; what is not in the figures is the
//! datastore's watch. Run as root: `cargo bench -p dataplane`. Works in a network namespace of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Key, Kind, Row};
use calc::{Graph, GraphConfig};
use dataplane::{DataplaneConfig, Kernel, RealDataplane};
use kernel::link::{LinkChange, NewVeth, VethEnd};
use kernel::{InterfaceName, Rtnetlink};
use serde_json::{Value, json};

const PODS: usize = 100;
const POLICIES: usize = 1000;
const REMOTE: usize = 10_000;
/// A policy is for the pods of one of these.
const APPS: usize = 50;
const ROUNDS: usize = 300;

fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 3 };
    let namespace = testkit::TestNamespace::new();
    namespace.run(|| Host::new().measure(rounds));
}

struct Host {
    graph: Graph,
    dataplane: RealDataplane,
    links: Rtnetlink,
}

impl Host {
    fn new() -> Self {
        let mut links = Rtnetlink::open().expect("a netlink socket");
        links.change_link(&name("lo"), &LinkChange::up()).expect("the loopback");
        let config = DataplaneConfig { node_name: "node".to_owned(), ..DataplaneConfig::default() };
        let dataplane = RealDataplane::new(config, Kernel::open().expect("nf_tables"));
        Self { graph: Graph::new(GraphConfig::new("node")), dataplane, links }
    }

    fn measure(mut self, rounds: usize) {
        (0..=PODS).for_each(|number| self.interface(number));
        for number in 0..PODS {
            self.put(pod(number, "node", number % APPS));
        }
        for number in 0..REMOTE {
            self.put(pod(1000 + number, "elsewhere", number % (2 * APPS)));
        }
        for number in 0..POLICIES {
            self.put(policy(number, 80));
        }
        self.graph.on_in_sync();
        let load = self.commit();
        println!("{PODS} pods, {POLICIES} policies, {REMOTE} endpoints elsewhere: first program {load:.1?}");
        println!("{:40} {:>9} {:>9} {:>9}", "change", "p50", "p99", "max");
        self.row("a remote pod gets another label", rounds, |host, round| {
            host.put(pod(1000 + round, "elsewhere", (round + 1) % APPS));
        });
        self.row("a policy's port changes", rounds, |host, round| {
            host.put(policy(round % POLICIES, 1000 + u16::try_from(round).expect("few rounds")));
        });
        self.row("a policy appears", rounds, |host, round| host.put(policy(POLICIES + round, 80)));
        self.row("a policy goes", rounds, |host, round| host.delete(policy(POLICIES + round, 80)));
        self.row("a pod appears", rounds, |host, round| {
            if round % 2 == 0 { host.put(pod(PODS, "node", 0)) } else { host.delete(pod(PODS, "node", 0)) }
        });
        self.row("nothing", rounds, |_, _| {});
    }

    fn row(&mut self, what: &str, rounds: usize, change: impl Fn(&mut Self, usize)) {
        let mut times: Vec<Duration> = (0..rounds)
            .map(|round| {
                let start = Instant::now();
                change(self, round);
                self.commit();
                start.elapsed()
            })
            .collect();
        times.sort();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!("{what:40} {:>9.1?} {:>9.1?} {:>9.1?}", at(50), at(99), at(100));
    }

    fn commit(&mut self) -> Duration {
        let start = Instant::now();
        for change in self.graph.flush() {
            self.dataplane.on_change(change);
        }
        let report = self.dataplane.apply(Instant::now());
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        start.elapsed()
    }

    fn put(&mut self, (key, value): (Key, Value)) {
        let row = Row::decode(&key, &value.to_string()).expect("a well-formed row");
        self.graph.on_update(&key, Some(Arc::new(row)));
    }

    fn delete(&mut self, (key, _): (Key, Value)) {
        self.graph.on_update(&key, None);
    }

    fn interface(&mut self, number: usize) {
        let end = |name| VethEnd { name, mac: None, namespace: None };
        let near = name(&format!("cali{number}"));
        let veth = NewVeth {
            near: end(near.clone()),
            far: end(name(&format!("far{number}"))),
            mtu: None,
            queues: None,
        };
        self.links.create_veth(&veth).expect("a veth pair");
        self.links.change_link(&near, &LinkChange::up()).expect("a link that comes up");
    }
}

fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).expect("a short name")
}

fn pod(number: usize, node: &str, app: usize) -> (Key, Value) {
    let resource = format!("{node}-k8s-pod--{number}-eth0");
    let key = Key::namespaced(Kind::WorkloadEndpoint, "default", &resource);
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {
            "name": resource, "namespace": "default",
            "labels": {
                "app": format!("app-{app}"), "projectcalico.org/namespace": "default",
                "projectcalico.org/orchestrator": "k8s",
            },
        },
        "spec": {
            "orchestrator": "k8s", "node": node, "pod": format!("pod-{number}"), "endpoint": "eth0",
            "interfaceName": format!("cali{number}"), "profiles": ["kns.default"],
            "ipNetworks": [format!("10.{}.{}.{}/32", 65 + number / 65536, number / 256 % 256, number % 256)],
        },
    });
    (key, value)
}

fn policy(number: usize, port: u16) -> (Key, Value) {
    let name = format!("policy-{number}");
    let key = Key::cluster(Kind::GlobalNetworkPolicy, &name);
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name},
        "spec": {
            "order": number, "selector": format!("app == 'app-{}'", number % APPS), "types": ["Ingress", "Egress"],
            "ingress": [{
                "action": "Allow", "protocol": "TCP",
                "source": {"selector": format!("app == 'app-{}'", (number + 1) % (2 * APPS))},
                "destination": {"ports": [port]},
            }],
            "egress": [{
                "action": "Allow", "protocol": "UDP",
                "destination": {"selector": format!("app == 'app-{}'", (number + 7) % (2 * APPS)), "ports": [53]},
            }],
        },
    });
    (key, value)
}
