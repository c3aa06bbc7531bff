//! Events of the real kernel, and what the reconcilers make of them.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use kernel::monitor::{Event, Monitor, RouteNews, Subscriptions};
use kernel::netns::Netns;
use kernel::ownership::{ROUTE_BIRD, ROUTE_FELIX};
use kernel::route::{Route, RouteClass, RouteTable, RouteTableConfig};
use kernel::{InterfaceName, Rtnetlink};
use testkit::TestNamespace;

const DEADLINE: Duration = Duration::from_secs(10);

struct Bench {
    namespace: TestNamespace,
    netns: Netns,
    monitor: Monitor,
    events: Receiver<Vec<Event>>,
}

impl Bench {
    fn new() -> Self {
        let namespace = TestNamespace::new();
        Self::of(namespace, Subscriptions { neighbours: true, ..Subscriptions::default() })
    }

    fn of(namespace: TestNamespace, subscriptions: Subscriptions) -> Self {
        let netns = Netns::open(namespace.path()).unwrap();
        let (sender, events) = std::sync::mpsc::sync_channel(16);
        let monitor =
            Monitor::start(Some(&netns), subscriptions, move |batch| sender.try_send(batch)).unwrap();
        Self { namespace, netns, monitor, events }
    }

    /// The destination of the next route that is told of.
    fn next_route(&self) -> String {
        let is_ipv4 = |event: &Event| match event {
            Event::Route(route) | Event::RouteGone(route) => route.destination.addr().is_ipv4(),
            _ => false,
        };
        match self.expect("a route", is_ipv4) {
            Event::Route(route) => format!("{} is there", route.destination),
            Event::RouteGone(route) => format!("{} is gone", route.destination),
            other => panic!("{other:?}"),
        }
    }

    /// Waits for an event.
    fn expect(&self, what: &str, mut is_it: impl FnMut(&Event) -> bool) -> Event {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let batch = self.events.recv_timeout(left).unwrap_or_else(|error| panic!("{what}: {error}"));
            if let Some(event) = batch.into_iter().find(&mut is_it) {
                return event;
            }
        }
    }
}

#[test]
fn the_first_event_is_a_resync() {
    let bench = Bench::new();
    assert_eq!(bench.events.recv_timeout(DEADLINE).unwrap(), [Event::Resync]);
}

#[test]
fn links_addresses_routes_neighbours_and_settings_are_told() {
    let bench = Bench::new();
    let (run, index) = (|line: &str| bench.namespace.command(line), std::cell::Cell::new(0));
    run("ip link add cali1 type veth peer name peer1");
    bench.expect("a new link", |event| match event {
        Event::Link(link) if link.name.as_str() == "cali1" => {
            index.set(link.index);
            true
        }
        _ => false,
    });
    run("ip link set cali1 up");
    bench.expect(
        "a link that is up",
        |event| matches!(event, Event::Link(link) if link.index == index.get() && link.up),
    );
    run("ip address add 10.0.0.1/24 dev cali1");
    let is_ours = |address: &kernel::address::InterfaceAddress| address.address.to_string() == "10.0.0.1/24";
    bench.expect("a new address", |event| matches!(event, Event::Address(address) if is_ours(address)));
    run("ip route add 10.1.0.0/26 via 10.0.0.2 proto 80");
    let to_it = |route: &kernel::route::KernelRoute| route.destination.to_string() == "10.1.0.0/26";
    bench.expect("a new route", |event| matches!(event, Event::Route(route) if to_it(route)));
    run("ip route del 10.1.0.0/26");
    bench.expect("no route", |event| matches!(event, Event::RouteGone(route) if to_it(route)));
    run("ip -6 route add fd01::/64 dev cali1");
    bench.expect(
        "an IPv6 route",
        |event| matches!(event, Event::Route(route) if route.destination.to_string() == "fd01::/64"),
    );
    run("ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev cali1");
    bench.expect(
        "a new neighbour",
        |event| matches!(event, Event::Neighbour(neighbour) if neighbour.address.to_string() == "10.0.0.9"),
    );
    run("ip neigh del 10.0.0.9 dev cali1");
    bench.expect("no neighbour", |event| match event {
        Event::NeighbourGone { address, .. } => address.to_string() == "10.0.0.9",
        // The kernel tells first that it is no longer known.
        Event::Neighbour(_) => false,
        _ => false,
    });
    run("sysctl -qw net.ipv4.conf.cali1.proxy_arp=1");
    bench.expect("a setting", |event| *event == Event::Setting { index: Some(index.get()) });
    run("ip address del 10.0.0.1/24 dev cali1");
    bench.expect("no address", |event| matches!(event, Event::AddressGone(address) if is_ours(address)));
    run("ip link del cali1");
    bench.expect("no link", |event| {
        matches!(event, Event::LinkGone { index: gone, name } if *gone == index.get() && name.as_str() == "cali1")
    });
}

#[test]
fn what_a_socket_of_ours_has_done_is_not_told_and_what_others_do_to_it_is() {
    let namespace = TestNamespace::new();
    let netns = Netns::open(namespace.path()).unwrap();
    namespace.command("ip link set lo up");
    let kernel = Rtnetlink::open_in(&netns).unwrap();
    let routes = RouteNews::ByOthersThan(kernel.port().unwrap());
    let bench = Bench::of(namespace, Subscriptions { routes, ..Subscriptions::default() });
    let mut table = RouteTable::new(kernel, RouteTableConfig::default());
    let blackhole = |destination: &str| Route::blackhole(destination.parse().unwrap(), ROUTE_FELIX);
    let both = ["10.1.0.0/26", "10.2.0.0/26"].map(blackhole);
    table.set_routes(RouteClass::NoEncapsulationBlackhole, "test", both);
    table.allow_sweep(ROUTE_FELIX);
    assert_eq!(table.apply(Instant::now()).unwrap().added, 2);
    table.remove_route(RouteClass::NoEncapsulationBlackhole, "test", "10.2.0.0/26".parse().unwrap());
    assert_eq!(table.apply(Instant::now()).unwrap().deleted, 1);
    bench.namespace.command("ip route add blackhole 10.3.0.0/26");
    bench.namespace.command("ip route del blackhole 10.1.0.0/26");
    assert_eq!([bench.next_route(), bench.next_route()], ["10.3.0.0/26 is there", "10.1.0.0/26 is gone"]);
}

#[test]
fn routes_of_one_protocol_can_be_left_out() {
    let routes = RouteNews::OfOthersThan(ROUTE_BIRD);
    let bench = Bench::of(TestNamespace::new(), Subscriptions { routes, ..Subscriptions::default() });
    bench.namespace.command("ip route add blackhole 10.1.0.0/26 proto bird");
    bench.namespace.command("ip route del blackhole 10.1.0.0/26 proto bird");
    bench.namespace.command("ip route add blackhole 10.2.0.0/26 proto static");
    assert_eq!(bench.next_route(), "10.2.0.0/26 is there");
}

#[test]
fn a_route_that_is_deleted_by_hand_comes_back_at_its_event() {
    let bench = Bench::new();
    bench.namespace.command("ip link add cali1 type veth peer name peer1");
    bench.namespace.command("ip link set cali1 up");
    let mut table = RouteTable::new(Rtnetlink::open_in(&bench.netns).unwrap(), RouteTableConfig::default());
    let route =
        Route::device("10.65.0.1/32".parse().unwrap(), InterfaceName::new("cali1").unwrap(), ROUTE_FELIX);
    table.set_route(RouteClass::LocalWorkload, "cali1", route);
    assert_eq!(table.apply(Instant::now()).unwrap().added, 1);
    bench.namespace.command("ip route del 10.65.0.1");
    let event = bench
        .expect("the deletion", |event| matches!(event, Event::RouteGone(route) if route.protocol == 80));
    table.on_event(&event);
    assert_eq!(table.apply(Instant::now()).unwrap().added, 1);
    assert!(bench.namespace.command("ip route").contains("10.65.0.1 dev cali1 proto 80"));
}

#[test]
fn a_receiver_that_sleeps_gets_the_last_state_and_the_monitor_still_stops() {
    let bench = Bench::new();
    bench.namespace.command("ip link add cali1 type veth peer name peer1");
    for round in 0..60 {
        let state = if round % 2 == 0 { "up" } else { "down" };
        bench.namespace.command(&format!("ip link set cali1 {state}"));
        bench.namespace.command(&format!("ip link set cali1 mtu {}", 1300 + round));
    }
    let last = bench.expect("the last state", |event| matches!(event, Event::Link(link) if link.mtu == 1359));
    assert!(matches!(last, Event::Link(link) if !link.up));
    let Bench { monitor, events, .. } = bench;
    drop(monitor);
    assert!(std::iter::from_fn(|| events.recv().ok()).count() < 100, "the channel is closed");
}
