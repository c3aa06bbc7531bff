//! How next hops are reached: the host's routing table, followed by its events, for a speaker that must know
//! (RFC 4271, section 9.1.2.1).
//!
//! A thread keeps the main table's routes but those that BGP itself has put there: a next hop must not be reached by a
//! route that depends on it. It reads them once, and again when the kernel says that events were lost; in between it
//! follows events. A link that goes down or away takes its routes along without an event of their own.
//!
//! The kernel takes only gateways that are on a link. So a next hop that is further away is resolved to the gateways of
//! the route to it, and a route may well change its gateways while its next hop stays.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TrySendError, channel};
use std::time::Duration;

use bgp::Resolution;
use ipnet::IpNet;
use kernel::Rtnetlink;
use kernel::monitor::{self, Monitor, RouteNews, Subscriptions};
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{KernelRoute, MAIN_TABLE, RouteKind};

/// How soon routes that could not be read are read again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
enum Input {
    Watch(IpAddr),
    Forget(IpAddr),
    Kernel(Vec<monitor::Event>),
    Stop,
}

/// The running thread; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Resolver(Sender<Input>);

impl Resolver {
    /// Starts it. `tell` gets what is found out, each time it changes, and says whether anyone still listens.
    pub(super) fn start(
        tell: impl FnMut(IpAddr, Option<Resolution>) -> bool + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, inputs) = channel();
        let events = sender.clone();
        let wanted = Subscriptions {
            routes: RouteNews::OfOthersThan(ROUTE_BIRD),
            settings: false,
            ..Default::default()
        };
        let monitor = Monitor::start(None, wanted, move |news| {
            events.send(Input::Kernel(news)).map_err(|_| TrySendError::Disconnected(Vec::new()))
        })?;
        let mut worker = Worker {
            socket: Rtnetlink::open()?,
            table: Table::default(),
            complete: false,
            told: BTreeMap::new(),
            tell,
        };
        std::thread::Builder::new().name("bgp-hops".to_owned()).spawn(move || {
            worker.run(&inputs);
            drop(monitor);
        })?;
        Ok(Self(sender))
    }

    /// Says how a next hop is reached, as soon as possible and whenever that changes.
    pub(super) fn watch(&self, address: IpAddr) {
        // A thread that has ended has said why.
        let _ = self.0.send(Input::Watch(address));
    }

    /// No longer.
    pub(super) fn forget(&self, address: IpAddr) {
        let _ = self.0.send(Input::Forget(address));
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.0.send(Input::Stop);
    }
}

struct Worker<F> {
    socket: Rtnetlink,
    table: Table,
    /// The table is what the kernel has.
    complete: bool,
    /// What was said last about each next hop that is watched; `None`: nothing yet.
    told: BTreeMap<IpAddr, Option<Option<Resolution>>>,
    tell: F,
}

impl<F: FnMut(IpAddr, Option<Resolution>) -> bool> Worker<F> {
    fn run(&mut self, inputs: &Receiver<Input>) {
        loop {
            let wait = if self.complete { Duration::MAX } else { RETRY };
            let first = match inputs.recv_timeout(wait) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for input in first.into_iter().chain(inputs.try_iter()) {
                match input {
                    Input::Watch(address) => drop(self.told.entry(address).or_default()),
                    Input::Forget(address) => drop(self.told.remove(&address)),
                    Input::Kernel(events) => events.iter().for_each(|event| self.on_event(event)),
                    Input::Stop => return,
                }
            }
            if !self.complete {
                self.read();
            }
            if self.complete && !self.say() {
                return;
            }
        }
    }

    fn on_event(&mut self, event: &monitor::Event) {
        match event {
            monitor::Event::Resync => self.complete = false,
            monitor::Event::Route(route) => self.table.add(route),
            monitor::Event::RouteGone(route) => self.table.remove(route),
            monitor::Event::Link(link) if !link.up => self.table.link_gone(link.index),
            monitor::Event::LinkGone { index, .. } => self.table.link_gone(*index),
            _ => {}
        }
    }

    fn read(&mut self) {
        match self.socket.main_routes() {
            Ok(routes) => {
                self.table = Table::default();
                routes.iter().for_each(|route| self.table.add(route));
                self.complete = true;
            }
            Err(error) => tracing::error!(%error, "cannot read the routes to BGP's next hops; trying again"),
        }
    }

    /// Tells what is new; false when nobody listens any more.
    fn say(&mut self) -> bool {
        for (address, told) in &mut self.told {
            let now = self.table.resolve(*address);
            if told.as_ref() != Some(&now) {
                tracing::debug!(next_hop = %address, resolution = ?now, "next hop");
                if !(self.tell)(*address, now.clone()) {
                    return false;
                }
                *told = Some(now);
            }
        }
        true
    }
}

/// Routes of the main table that BGP has not made, by destination.
#[derive(Debug, Default)]
struct Table(BTreeMap<IpNet, Vec<KernelRoute>>);

impl Table {
    fn add(&mut self, route: &KernelRoute) {
        if route.table != MAIN_TABLE || route.protocol == ROUTE_BIRD {
            return;
        }
        let routes = self.0.entry(route.destination).or_default();
        routes.retain(|other| other.key() != route.key());
        routes.push(route.clone());
    }

    fn remove(&mut self, route: &KernelRoute) {
        if let Some(routes) = self.0.get_mut(&route.destination) {
            routes.retain(|other| other.key() != route.key() || other.protocol != route.protocol);
        }
        self.0.retain(|_, routes| !routes.is_empty());
    }

    /// The kernel deletes the routes by a link, and next hops by it, without saying so for each.
    fn link_gone(&mut self, index: u32) {
        for routes in self.0.values_mut() {
            for route in routes.iter_mut() {
                route.hops.retain(|hop| hop.device != Some(index));
            }
            routes.retain(|route| route.kind != RouteKind::Unicast || !route.hops.is_empty());
        }
        self.0.retain(|_, routes| !routes.is_empty());
    }

    /// The most specific route to an address decides, and of equally specific ones the one with the lowest metric.
    fn resolve(&self, address: IpAddr) -> Option<Resolution> {
        let longest = IpNet::from(address).max_prefix_len();
        let prefixes = (0..=longest).rev().filter_map(|length| IpNet::new(address, length).ok());
        let routes = prefixes.map(|prefix| prefix.trunc()).find_map(|prefix| self.0.get(&prefix))?;
        let route = routes.iter().min_by_key(|route| (route.metric, route.tos))?;
        if route.kind != RouteKind::Unicast {
            return None;
        }
        // A hop without a gateway: the address is on that link.
        if route.hops.iter().any(|hop| hop.gateway.is_none()) {
            return Some(Resolution { cost: 0, gateways: vec![address] });
        }
        let gateways: BTreeSet<IpAddr> = route.hops.iter().filter_map(|hop| hop.gateway).collect();
        let found = !gateways.is_empty();
        // Behind a router: further away than any link of ours, whatever the metric.
        let cost = route.metric.saturating_add(1);
        found.then(|| Resolution { cost, gateways: gateways.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use kernel::route::Hop;

    use super::*;

    fn route(destination: &str, metric: u32, hops: &[(Option<&str>, u32)]) -> KernelRoute {
        let hop = |(gateway, device): &(Option<&str>, u32)| Hop {
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            device: Some(*device),
            onlink: false,
            weight: 1,
        };
        KernelRoute {
            destination: destination.parse().unwrap(),
            table: MAIN_TABLE,
            metric,
            tos: 0,
            protocol: 2,
            kind: RouteKind::Unicast,
            hops: hops.iter().map(hop).collect(),
            source: None,
        }
    }

    fn table() -> Table {
        let mut table = Table::default();
        table.add(&route("10.0.0.0/24", 0, &[(None, 2)]));
        table.add(&route("10.1.0.0/16", 20, &[(Some("10.0.0.254"), 2), (Some("10.0.0.253"), 2)]));
        table.add(&route("10.1.0.0/16", 30, &[(Some("10.0.0.9"), 2)]));
        table.add(&route("fd00::/64", 256, &[(None, 3)]));
        table
    }

    fn found(cost: u32, gateways: &[&str]) -> Option<Resolution> {
        Some(Resolution { cost, gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect() })
    }

    fn resolve(table: &Table, address: &str) -> Option<Resolution> {
        table.resolve(address.parse().unwrap())
    }

    #[test]
    fn a_neighbour_costs_nothing_and_what_is_behind_routers_their_metric() {
        let table = table();
        assert_eq!(resolve(&table, "10.0.0.7"), found(0, &["10.0.0.7"]));
        assert_eq!(resolve(&table, "10.1.2.3"), found(21, &["10.0.0.253", "10.0.0.254"]));
        assert_eq!(resolve(&table, "fd00::7"), found(0, &["fd00::7"]));
        assert_eq!(resolve(&table, "192.0.2.1"), None);
    }

    #[test]
    fn the_most_specific_route_decides_even_if_it_drops() {
        let mut table = table();
        table.add(&KernelRoute {
            kind: RouteKind::Blackhole,
            hops: Vec::new(),
            ..route("10.1.2.0/24", 0, &[])
        });
        assert_eq!(resolve(&table, "10.1.2.3"), None);
        assert_eq!(resolve(&table, "10.1.3.3").map(|found| found.cost), Some(21));
    }

    #[test]
    fn what_bgp_has_put_into_the_kernel_resolves_nothing() {
        let mut table = table();
        table
            .add(&KernelRoute { protocol: ROUTE_BIRD, ..route("192.0.2.0/24", 0, &[(Some("10.0.0.5"), 2)]) });
        assert_eq!(resolve(&table, "192.0.2.1"), None);
    }

    #[test]
    fn routes_go_with_an_event_or_with_their_link() {
        let mut table = table();
        table.remove(&route("10.1.0.0/16", 20, &[]));
        assert_eq!(resolve(&table, "10.1.2.3"), found(31, &["10.0.0.9"]));
        table.link_gone(2);
        assert_eq!(resolve(&table, "10.0.0.7"), None);
        assert_eq!(resolve(&table, "10.1.2.3"), None);
        assert_eq!(resolve(&table, "fd00::7"), found(0, &["fd00::7"]));
        table.add(&route("10.0.0.0/24", 0, &[(None, 2)]));
        assert_eq!(resolve(&table, "10.0.0.7"), found(0, &["10.0.0.7"]));
    }

    #[test]
    fn it_follows_the_kernel() {
        testkit::require_root();
        let host = testkit::TestNamespace::new();
        host.command("ip link add fabric type veth peer name other");
        host.command("ip link set other up");
        let (sender, said) = channel();
        let tell = move |address, resolution| sender.send((address, resolution)).is_ok();
        let resolver = host.run(|| Resolver::start(tell)).expect("netlink and a thread");
        let next = || said.recv_timeout(Duration::from_secs(20)).expect("news");
        let (near, far): (IpAddr, IpAddr) = ("10.0.0.7".parse().unwrap(), "10.1.2.3".parse().unwrap());
        resolver.watch(near);
        assert_eq!(next(), (near, None));
        host.command("ip address add 10.0.0.1/24 dev fabric");
        host.command("ip link set fabric up");
        assert_eq!(next(), (near, found(0, &["10.0.0.7"])));
        resolver.watch(far);
        assert_eq!(next(), (far, None));
        host.command("ip route add 10.1.0.0/16 via 10.0.0.254 metric 20");
        assert_eq!(next(), (far, found(21, &["10.0.0.254"])));
        host.command("ip route replace 10.1.0.0/16 via 10.0.0.253 metric 20");
        assert_eq!(next(), (far, found(21, &["10.0.0.253"])));
        host.command("ip route add 10.1.2.0/24 via 10.0.0.252 proto bird");
        host.command("ip link set fabric down");
        assert_eq!(BTreeSet::from([next(), next()]), [(near, None), (far, None)].into());
        resolver.forget(near);
        resolver.forget(far);
        host.command("ip link set fabric up");
        // The kernel's news come when they come; another address on the link says when.
        let other: IpAddr = "10.0.0.9".parse().unwrap();
        resolver.watch(other);
        let mut answers = std::iter::repeat_with(next).inspect(|(about, _)| assert_eq!(*about, other));
        assert!(answers.any(|(_, resolution)| resolution.is_some()));
        resolver.watch(near);
        assert_eq!(next(), (near, found(0, &["10.0.0.7"])), "what is forgotten is not spoken of");
    }
}
