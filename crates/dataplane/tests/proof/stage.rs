//! A host with workloads and a network outside, each a network namespace of its own, that play one cluster after another.
//!
//! Nobody has to be asked for a hardware address: both ends of a link have the same, and none does ARP. So workloads can have
//! any address without having it configured, and a packet crosses the host within the sender's system call.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Resource, Row};
use calc::cluster::{Cluster, WorkloadPlace};
use calc::evaluator::Packet;
use calc::{Graph, GraphConfig};
use dataplane::{ApplyReport, DataplaneConfig, Kernel, RealDataplane};
use kernel::conntrack::{Conntrack, ConntrackKernel};
use kernel::link::{NewVeth, VethEnd};
use kernel::monitor::Event;
use kernel::netns::Netns;
use kernel::ownership::HOST_MAC;
use kernel::{InterfaceName, MacAddress, Rtnetlink};
use testkit::TestNamespace;
use testkit::clusters::{HOST_ADDRESSES, UPLINK};
use testkit::objects::{NODE, Rows};

use super::packets::{Receiver, Sender};

/// What enforces policy: its name, and the Felix parameters that choose it.
pub(crate) type Backend = (&'static str, &'static [(&'static str, &'static str)]);

/// All that there are.
pub(crate) const BACKENDS: [Backend; 1] = [("nftables", &[])];

/// How long a packet that has to come is waited for.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Where a packet is sent, or arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spot {
    /// The host itself.
    Host,
    /// Beyond the host's uplink.
    Outside,
    /// The workload behind `cali` and this number.
    Workload(usize),
}

/// A packet and its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) from: Spot,
    pub(crate) to: Spot,
    pub(crate) packet: Packet,
}

/// A network namespace, and what is sent and received there.
pub(crate) struct Place {
    /// None: the host's.
    _namespace: Option<TestNamespace>,
    sender: Sender,
    receiver: Receiver,
}

impl Place {
    pub(crate) fn send(&self, packet: &Packet, id: u32) {
        self.sender.send(packet, id);
    }

    pub(crate) fn drain(&self, seen: &mut BTreeSet<u32>) {
        self.receiver.drain(seen);
    }
}

/// The host, and the other ends of its links.
pub(crate) struct Places {
    host: Place,
    outside: Place,
    workloads: Vec<Place>,
}

impl Places {
    pub(crate) fn get(&self, spot: Spot) -> &Place {
        match spot {
            Spot::Host => &self.host,
            Spot::Outside => &self.outside,
            Spot::Workload(number) => &self.workloads[number],
        }
    }
}

/// The host. Made and used on a thread inside its namespace.
pub(crate) struct Stage {
    dataplane: RealDataplane,
    graph: Graph,
    cluster: Cluster,
    /// The numbers of the workloads' interfaces.
    numbers: BTreeMap<String, usize>,
    places: Arc<Places>,
    conntrack: Conntrack,
    /// Connections that have been tried since the last were forgotten, by protocol and ends in order.
    flows: BTreeSet<Flow>,
    last: u32,
    /// What must never arrive.
    denied: BTreeSet<u32>,
}

type Flow = (u8, [(std::net::IpAddr, u16); 2]);

/// Runs a test with so many workloads on a host of its own.
pub(crate) fn on_a_stage(backend: &Backend, workloads: usize, test: impl FnOnce(Stage) + Send) {
    println!("backend {}", backend.0);
    TestNamespace::new().run(|| test(Stage::new(backend, workloads)));
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().unwrap();
    assert!(status.success(), "ip {line}");
}

fn place(links: &mut Rtnetlink, interface: &str, number: usize) -> Place {
    let namespace = TestNamespace::new();
    let inside = Netns::open(namespace.path()).unwrap();
    let end = |name: &str| VethEnd {
        name: InterfaceName::new(name).unwrap(),
        mac: Some(MacAddress(HOST_MAC)),
        namespace: None,
    };
    let far = VethEnd { namespace: Some(&inside), ..end("eth0") };
    links.create_veth(&NewVeth { near: end(interface), far, mtu: None, queues: None }).unwrap();
    ip(&format!("link set {interface} arp off up"));
    namespace.run(|| {
        for line in [
            "link set lo up".to_owned(),
            "link set eth0 arp off up".to_owned(),
            // The kernel wants a source before it looks at ours.
            format!("address add 198.18.0.{number}/32 dev lo"),
            format!("-6 address add fd00:ffff::{number}/128 dev lo nodad"),
            "route add default dev eth0".to_owned(),
            "-6 route add default dev eth0".to_owned(),
        ] {
            ip(&line);
        }
    });
    let (sender, receiver) = namespace.run(|| (Sender::open(), Receiver::of_links()));
    Place { _namespace: Some(namespace), sender, receiver }
}

impl Stage {
    fn new(backend: &Backend, workloads: usize) -> Self {
        let mut links = Rtnetlink::open().unwrap();
        for scope in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"), "0").unwrap();
        }
        ip("link set lo up");
        let outside = place(&mut links, UPLINK, 1);
        ip(&format!("address add {}/32 dev {UPLINK}", HOST_ADDRESSES[0]));
        ip(&format!("-6 address add {}/128 dev {UPLINK} nodad", HOST_ADDRESSES[1]));
        ip(&format!("route add default dev {UPLINK}"));
        ip(&format!("-6 route add default dev {UPLINK}"));
        let workloads: Vec<Place> =
            (0..workloads).map(|number| place(&mut links, &interface(number), number + 2)).collect();
        let host = Place { _namespace: None, sender: Sender::open(), receiver: Receiver::of_the_host() };
        let local = backend.1.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = DataplaneConfig {
            node_name: NODE.to_owned(),
            local_parameters: local.collect(),
            ..DataplaneConfig::default()
        };
        Self {
            dataplane: started(&config),
            graph: graph(),
            cluster: Cluster::default(),
            numbers: BTreeMap::new(),
            places: Arc::new(Places { host, outside, workloads }),
            conntrack: Conntrack::open().unwrap(),
            flows: BTreeSet::new(),
            last: 0,
            denied: BTreeSet::new(),
        }
    }

    /// The cluster that is played, with the interfaces that its workloads have here.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Changes the datastore to hold exactly these rows, and the kernel accordingly.
    pub(crate) fn play(&mut self, rows: Rows) {
        let rows = self.on_our_interfaces(rows);
        let gone: Vec<_> =
            self.cluster.rows().keys().filter(|key| !rows.contains_key(key)).cloned().collect();
        for key in gone {
            self.graph.on_update(&key, None);
            self.cluster.set(key, None);
        }
        for (key, row) in rows {
            if self.cluster.rows().get(&key) != Some(&row) {
                self.graph.on_update(&key, Some(row.clone()));
                self.cluster.set(key, Some(row));
            }
        }
        self.graph.on_in_sync();
        self.flush();
    }

    fn flush(&mut self) {
        for change in self.graph.flush() {
            self.dataplane.on_change(change);
        }
        let report = self.apply();
        assert!(report.errors.is_empty() && report.next_apply.is_none(), "{report:?}");
    }

    fn apply(&mut self) -> ApplyReport {
        self.dataplane.apply(Instant::now())
    }

    /// Each workload is behind one of our interfaces, and stays there.
    fn on_our_interfaces(&mut self, rows: Rows) -> Rows {
        let name = |row: &Row| match row {
            Row::Resource(Resource::WorkloadEndpoint(endpoint)) => {
                WorkloadPlace::new(endpoint).map(|place| format!("{}/{}", place.namespace, place.name))
            }
            _ => None,
        };
        let names: BTreeSet<String> = rows.values().filter_map(|row| name(row)).collect();
        self.numbers.retain(|known, _| names.contains(known));
        let taken: BTreeSet<usize> = self.numbers.values().copied().collect();
        let mut free = (0..self.places.workloads.len()).filter(|number| !taken.contains(number));
        for new in names {
            self.numbers.entry(new).or_insert_with(|| free.next().expect("too many workloads"));
        }
        let moved = |row: Arc<Row>| match (&*row, name(&row)) {
            (Row::Resource(Resource::WorkloadEndpoint(endpoint)), Some(name)) => {
                let mut endpoint = endpoint.clone();
                endpoint.spec.interface_name = interface(self.numbers[&name]);
                Arc::new(Row::Resource(Resource::WorkloadEndpoint(endpoint)))
            }
            _ => row,
        };
        rows.into_iter().map(|(key, row)| (key, moved(row))).collect()
    }

    /// Where a workload is, and its addresses.
    pub(crate) fn workload(&self, name: &str) -> Option<(Spot, Vec<std::net::IpAddr>)> {
        let (namespace, pod) = name.split_once('/')?;
        let mut places = self.cluster.workloads().filter_map(WorkloadPlace::new);
        let place = places.find(|place| place.namespace == namespace && place.name == pod)?;
        Some((Spot::Workload(*self.numbers.get(name)?), place.addresses))
    }

    /// What traffic can be sent from, and to, while the stage changes.
    pub(crate) fn places(&self) -> Arc<Places> {
        self.places.clone()
    }

    /// Sends the packets, each as the first of its connection, and says which arrived. Those that have to are given time.
    pub(crate) fn send<'a>(&mut self, probes: impl IntoIterator<Item = &'a (Probe, bool)>) -> Vec<bool> {
        let mut sent = Vec::new();
        let mut seen = BTreeMap::new();
        for (probe, expected) in probes {
            self.begin(&probe.packet);
            self.last += 1;
            self.places.get(probe.from).send(&probe.packet, self.last);
            sent.push((self.last, probe.to, *expected));
            self.drain(probe.to, &mut seen);
        }
        let arrived = |seen: &BTreeMap<Spot, BTreeSet<u32>>, id, to| {
            seen.get(&to).is_some_and(|numbers| numbers.contains(&id))
        };
        let deadline = Instant::now() + ARRIVAL;
        for (id, to, expected) in &sent {
            while *expected && !arrived(&seen, *id, *to) && Instant::now() < deadline {
                std::thread::yield_now();
                self.drain(*to, &mut seen);
            }
        }
        for (_, to, _) in &sent {
            self.drain(*to, &mut seen);
        }
        let late: Vec<_> = seen.values().flatten().filter(|id| self.denied.contains(id)).collect();
        assert!(late.is_empty(), "packets that were taken for dropped arrived late: {late:?}");
        let result: Vec<bool> = sent.iter().map(|(id, to, _)| arrived(&seen, *id, *to)).collect();
        self.denied
            .extend(sent.iter().zip(&result).filter(|(_, arrived)| !**arrived).map(|((id, ..), _)| id));
        result
    }

    fn drain(&self, to: Spot, seen: &mut BTreeMap<Spot, BTreeSet<u32>>) {
        self.places.get(to).drain(seen.entry(to).or_default());
    }

    /// What is tracked between these ends is forgotten, so that the packet begins a connection.
    fn begin(&mut self, packet: &Packet) {
        let ports = match packet.protocol {
            6 | 17 | 132 | 136 => [packet.source_port, packet.destination_port],
            _ => [0; 2],
        };
        let mut ends = [(packet.source, ports[0]), (packet.destination, ports[1])];
        ends.sort();
        // Echoes have numbers of their own.
        if ![1, 58].contains(&packet.protocol) && !self.flows.insert((packet.protocol, ends)) {
            self.forget_connections();
            self.flows.insert((packet.protocol, ends));
        }
    }

    /// No connection is tracked any more.
    pub(crate) fn forget_connections(&mut self) {
        let tracked = self.conntrack.connections().unwrap();
        self.conntrack.delete_connections(&tracked).unwrap();
        self.flows.clear();
    }
}

/// The name of the host's end of a workload's link.
pub(crate) fn interface(number: usize) -> String {
    format!("cali{number}")
}

fn graph() -> Graph {
    Graph::new(GraphConfig::new(NODE))
}

/// A dataplane that knows the links and addresses of the calling thread's network namespace.
fn started(config: &DataplaneConfig) -> RealDataplane {
    let mut dataplane = RealDataplane::new(config.clone(), Kernel::open().unwrap());
    let mut links = Rtnetlink::open().unwrap();
    links.links().unwrap().iter().for_each(|link| dataplane.on_link(link));
    for address in links.addresses().unwrap() {
        dataplane.on_event(&Event::Address(address));
    }
    dataplane
}
