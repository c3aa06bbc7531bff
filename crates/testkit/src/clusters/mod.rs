//! Random clusters and packets from a seed, with few different labels, networks and ports so that they meet.
//!
//! A cluster is a set of objects as users write them, each in a slot of its own: [`Generator::cluster`] fills the slots,
//! [`Generator::mutate`] changes some, [`Generator::probe`] says which packet is sent from where to where. What becomes of it is
//! for the test to find out, in two ways. If they differ, [`Case::shrink`] takes away whatever the difference does not need.

mod objects;
mod rules;
mod shrink;

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

pub use shrink::Case;

/// The name that a probe has for the node itself.
pub const HOST: &str = "host";
/// Addresses of the node, IPv4 and IPv6; its uplink is `eth0`.
pub const HOST_ADDRESSES: [&str; 2] = ["10.99.0.1", "fd00:99::1"];
/// The node's interface towards everything outside.
pub const UPLINK: &str = "eth0";

const OUTSIDE: [[&str; 2]; 3] =
    [["192.0.2.1", "2001:db8::1"], ["192.0.2.9", "2001:db8::9"], ["10.65.0.200", "fd00:65::c8"]];
const PORTS: [u16; 7] = [22, 53, 79, 80, 81, 8080, 65535];
const PODS: usize = 5;

/// What can stand in a slot.
type Make = fn(&mut Generator, &str) -> Value;

/// Names of slots, what is in them, and how many of ten clusters have it.
const SLOTS: [(&str, Make, u8); 32] = [
    ("Namespace n1", Generator::namespace, 9),
    ("Namespace n2", Generator::namespace, 9),
    ("ServiceAccount n1/robot", Generator::account, 8),
    ("ServiceAccount n2/robot", Generator::account, 8),
    ("Pod n1/p0", Generator::pod, 10),
    ("Pod n1/p1", Generator::pod, 10),
    ("Pod n2/p2", Generator::pod, 10),
    ("Pod n2/p3", Generator::pod, 8),
    ("Pod n2/p4", Generator::pod, 5),
    ("Tier first", Generator::tier, 8),
    ("Tier second", Generator::tier, 6),
    ("GlobalNetworkSet wide", Generator::network_set, 8),
    ("GlobalNetworkSet narrow", Generator::network_set, 8),
    ("NetworkSet n1/set", Generator::network_set, 8),
    ("NetworkSet n2/set", Generator::network_set, 6),
    ("GlobalNetworkPolicy g0", Generator::global_policy, 7),
    ("GlobalNetworkPolicy g1", Generator::global_policy, 7),
    ("GlobalNetworkPolicy g2", Generator::global_policy, 5),
    ("GlobalNetworkPolicy g3", Generator::global_policy, 4),
    ("GlobalNetworkPolicy h0", Generator::host_policy, 6),
    ("GlobalNetworkPolicy h1", Generator::host_policy, 6),
    ("NetworkPolicy n1/a", Generator::policy, 6),
    ("NetworkPolicy n1/b", Generator::policy, 4),
    ("NetworkPolicy n2/a", Generator::policy, 6),
    ("NetworkPolicy n1/kube", Generator::kubernetes_policy, 4),
    ("NetworkPolicy n2/kube", Generator::kubernetes_policy, 4),
    ("ClusterNetworkPolicy admin", Generator::cluster_policy, 4),
    ("ClusterNetworkPolicy baseline", Generator::cluster_policy, 4),
    ("StagedGlobalNetworkPolicy staged", Generator::global_policy, 5),
    ("HostEndpoint any", Generator::host_endpoint, 3),
    ("HostEndpoint uplink", Generator::host_endpoint, 4),
    ("FelixConfiguration default", Generator::felix, 6),
];

/// The objects of a cluster, by slot. The node is not among them: see [`node`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cluster {
    slots: BTreeMap<&'static str, Value>,
}

impl Cluster {
    /// Every object, as a list.
    pub fn objects(&self) -> Vec<Value> {
        self.slots.values().cloned().collect()
    }

    /// The pods that there are, with their addresses.
    fn pods(&self) -> Vec<(String, Vec<String>)> {
        let pods = self.slots.iter().filter(|(slot, _)| slot.starts_with("Pod "));
        pods.map(|(slot, pod)| {
            let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
            let ips = ips.filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect();
            (slot["Pod ".len()..].to_owned(), ips)
        })
        .collect()
    }
}

/// The node that all pods are on.
pub fn node() -> Value {
    let [v4, v6] = HOST_ADDRESSES;
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": crate::objects::NODE},
        "spec": {"bgp": {"ipv4Address": format!("{v4}/32"), "ipv6Address": format!("{v6}/128")}},
    })
}

/// Makes clusters, changes and probes; equal seeds make equal ones.
#[derive(Debug)]
pub struct Generator {
    random: Rng,
}

impl Generator {
    /// A generator that begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed) }
    }

    /// Chance, for what else the test decides.
    pub fn random(&mut self) -> &mut Rng {
        &mut self.random
    }

    /// A cluster.
    pub fn cluster(&mut self) -> Cluster {
        let mut cluster = Cluster::default();
        // Half of them without host endpoints, which would close most of what comes from outside.
        let hosts = self.random.bool();
        for (slot, make, often) in SLOTS {
            let is_host = slot.starts_with("HostEndpoint");
            if self.random.u8(..10) < often && (hosts || !is_host) {
                cluster.slots.insert(slot, make(self, slot));
            }
        }
        cluster
    }

    /// Changes, adds or takes away one to three objects.
    pub fn mutate(&mut self, cluster: &mut Cluster) {
        for _ in 0..self.random.usize(1..4) {
            let (slot, make, often) = self.random.choice(SLOTS).expect("there are slots");
            if self.random.u8(..10) < often {
                cluster.slots.insert(slot, make(self, slot));
            } else {
                cluster.slots.remove(slot);
            }
        }
    }

    /// The first packet of a connection: `from` and `to` (a pod, [`HOST`], or an address outside), `source` and `destination`
    /// (addresses of one family), `protocol` (its number), `sport`, `port`, `icmpType` and `icmpCode`.
    pub fn probe(&mut self, cluster: &Cluster) -> Value {
        loop {
            let (from, to) = (self.end(cluster), self.end(cluster));
            let outside = |end: &(String, Vec<String>)| end.0.contains(['.', ':']);
            if from.0 == to.0 || outside(&from) && outside(&to) {
                continue;
            }
            let is_ipv4 = self.random.bool();
            let address = |end: &(String, Vec<String>)| {
                end.1.iter().find(|address| address.contains('.') == is_ipv4).cloned()
            };
            let (Some(source), Some(destination)) = (address(&from), address(&to)) else { continue };
            let name = |end: (String, Vec<String>), address: &str| {
                if outside(&end) { address.to_owned() } else { end.0 }
            };
            let (from, to) = (name(from, &source), name(to, &destination));
            let mut probe = self.packet(is_ipv4);
            for (field, value) in
                [("from", from), ("to", to), ("source", source), ("destination", destination)]
            {
                probe[field] = value.into();
            }
            return probe;
        }
    }

    /// A name, and the addresses that go with it.
    fn end(&mut self, cluster: &Cluster) -> (String, Vec<String>) {
        let owned = |addresses: [&str; 2]| addresses.map(str::to_owned).to_vec();
        let pods = cluster.pods();
        match self.random.u8(..8) {
            0 => (HOST.to_owned(), owned(HOST_ADDRESSES)),
            1 | 2 => {
                let outside = self.random.choice(OUTSIDE).expect("there are some");
                (outside[0].to_owned(), owned(outside))
            }
            _ => self.random.choice(pods).unwrap_or_else(|| (HOST.to_owned(), owned(HOST_ADDRESSES))),
        }
    }

    fn packet(&mut self, is_ipv4: bool) -> Value {
        let (icmp, types) = if is_ipv4 { (1, [8, 13]) } else { (58, [128, 139]) };
        let protocol = self.random.choice([6, 6, 6, 17, 17, 17, 132, icmp, icmp, 253]).expect("not empty");
        let random = self.random.u16(1024..);
        json!({
            "protocol": protocol,
            "sport": if self.random.bool() { self.port() } else { random },
            "port": self.port(),
            "icmpType": self.random.choice(types).expect("not empty"),
            "icmpCode": self.random.u8(..2),
        })
    }

    fn port(&mut self) -> u16 {
        self.random.choice(PORTS).expect("not empty")
    }

    fn chance(&mut self, one_in: u8) -> bool {
        self.random.u8(..one_in) == 0
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.usize(..list.len())]
    }
}
