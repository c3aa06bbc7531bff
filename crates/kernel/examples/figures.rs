//! Figures of the kernel part, in namespaces of its own: `cargo run --release -p kernel --example figures` (as root).
//!
//! Workloads: 100 ADDs, one after another; then as many removals, alone, 16 at once, and in the background. Routes:
//! 100,000 added, read back, and deleted.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use kernel::netns::Netns;
use kernel::pod::{HostRoutes, PodSpec, Removal, Remover};
use kernel::route::{Gateway, Route, RouteClass, RouteTable, RouteTableConfig};
use kernel::{InterfaceName, Rtnetlink, ownership};
use testkit::TestNamespace;

const PODS: u8 = 100;
const AT_ONCE: usize = 16;
const ROUTES: u32 = 100_000;

fn main() {
    let host = TestNamespace::new();
    let pods: Vec<_> = (0..PODS).map(|_| TestNamespace::new()).collect();
    host.run(|| {
        for dual_stack in [false, true] {
            let families = if dual_stack { "IPv4 and IPv6" } else { "IPv4" };
            add_all(&pods, dual_stack, families);
            remove_one_by_one(families);
            add_all(&pods, dual_stack, families);
            remove_at_once(families);
            add_all(&pods, dual_stack, families);
            condemn(families);
        }
    });
    let router = TestNamespace::new();
    router.command("ip link add up0 type veth peer name up1");
    router.command("ip link set up0 up");
    router.command("ip link set up1 up");
    router.command("ip address add 172.16.0.1/16 dev up0");
    router.run(routes);
}

fn host_interface(pod: u8) -> InterfaceName {
    InterfaceName::new(&format!("cali{pod}")).expect("a short name of letters and digits")
}

fn add_all(pods: &[TestNamespace], dual_stack: bool, families: &str) {
    let mut host = Rtnetlink::open().expect("a socket");
    let mut times = Vec::new();
    for (pod, namespace) in (0..PODS).zip(pods) {
        let namespace = Netns::open(namespace.path()).expect("the namespace exists");
        let mut addresses = vec![Ipv4Addr::new(10, 65, 0, pod + 1).into()];
        if dual_stack {
            addresses.push(format!("fd00::{:x}", pod + 1).parse().expect("an IPv6 address"));
        }
        let spec = PodSpec {
            namespace: &namespace,
            interface: InterfaceName::new("eth0").expect("a name"),
            host_interface: host_interface(pod),
            addresses,
            routes: PodSpec::default_routes(),
            mac: None,
            mtu: Some(1440),
            queues: None,
            allow_ip_forwarding: false,
            host_routes: Some(HostRoutes { protocol: ownership::ROUTE_FELIX, metric: 0 }),
        };
        let start = Instant::now();
        spec.add(&mut host).expect("a workload");
        times.push(start.elapsed());
    }
    print(&format!("{families}: add"), times);
}

fn remove_one_by_one(families: &str) {
    let mut host = Rtnetlink::open().expect("a socket");
    let times = (0..PODS).map(|pod| {
        let start = Instant::now();
        Removal { host_interface: host_interface(pod), inside: None }.run(&mut host).expect("a removal");
        start.elapsed()
    });
    print(&format!("{families}: remove, one by one"), times.collect());
}

fn remove_at_once(families: &str) {
    let remover = Remover::start(Rtnetlink::open().expect("a socket")).expect("a thread");
    let start = Instant::now();
    let pods: Vec<_> = (0..PODS).collect();
    let times = std::thread::scope(|scope| {
        let workers: Vec<_> = pods
            .chunks(usize::from(PODS).div_ceil(AT_ONCE))
            .map(|chunk| scope.spawn(|| chunk.iter().map(|pod| remove(&remover, *pod)).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    let rate = f64::from(PODS) / start.elapsed().as_secs_f64();
    print(&format!("{families}: remove, {AT_ONCE} at once ({rate:.0}/s)"), times);
}

fn condemn(families: &str) {
    let mut host = Rtnetlink::open().expect("a socket");
    let remover = Remover::start(Rtnetlink::open().expect("a socket")).expect("a thread");
    let start = Instant::now();
    let times = (0..PODS).map(|pod| {
        let start = Instant::now();
        let removal = Removal { host_interface: host_interface(pod), inside: None };
        remover.condemn(&mut host, &removal).expect("a removal");
        start.elapsed()
    });
    print(&format!("{families}: condemn, one by one"), times.collect());
    drop(remover);
    println!("{families}: all {PODS} deleted after {:?}", start.elapsed());
}

fn remove(remover: &Remover, pod: u8) -> Duration {
    let start = Instant::now();
    remover.remove(&Removal { host_interface: host_interface(pod), inside: None }).expect("a removal");
    start.elapsed()
}

fn routes() {
    let mut table = RouteTable::new(Rtnetlink::open().expect("a socket"), RouteTableConfig::default());
    table.apply(Instant::now()).expect("an empty table");
    let routes = (0..ROUTES).map(|index| {
        let network = Ipv4Addr::from_bits(0x0a00_0000 + index * 64);
        let gateway = Ipv4Addr::new(172, 16, 1, u8::try_from(1 + index % 200).expect("below 256"));
        let destination = ipnet::Ipv4Net::new(network, 26).expect("a length");
        Route::via(destination.into(), Gateway::new(gateway.into()), ownership::ROUTE_BIRD)
    });
    let time = |what: &str, table: &mut RouteTable<Rtnetlink>| {
        let start = Instant::now();
        let report = table.apply(Instant::now()).expect("it applies");
        println!("{ROUTES} routes: {what}: {:?} {report:?}", start.elapsed());
    };
    let start = Instant::now();
    table.set_routes(RouteClass::Bgp, "bgp", routes);
    println!("{ROUTES} routes: set in memory: {:?}", start.elapsed());
    time("add", &mut table);
    time("nothing to do", &mut table);
    table.queue_resync();
    time("read back and compare", &mut table);
    table.set_routes(RouteClass::Bgp, "bgp", []);
    time("delete", &mut table);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!("{what}: p50 {:?} p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
}
