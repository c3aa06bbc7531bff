//! A kernel in memory, for tests of whatever is built on this crate: strict where Linux is, with faults on order.
//!
//! A [`FakeKernel`] is a handle; its clones are the same kernel. The reconciler under test holds one, the test another,
//! by which it plays the rest of the world: links come and go, someone adds a route, someone changes a setting.
//!
//! Like Linux it refuses routes whose device is absent or down or whose gateway cannot be reached, drops routes with
//! their device, and lets a replacement hit whatever has the same key, whoever's it is. Unlike Linux it remembers when
//! that hit a foreign route ([`FakeKernel::trespasses`]), and when a destination that it was told to guard had no route
//! for a moment ([`FakeKernel::gaps`]), and when an address was routed to another device while connections of it were
//! still tracked ([`FakeKernel::inherited`]).

mod connections;
mod faults;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::address::InterfaceAddress;
use crate::conntrack::{Connection, ConntrackKernel};
use crate::interface::InterfaceKernel;
use crate::link::{Link, LinkChange};
use crate::netlink::{Errno, Error, Refusal};
use crate::route::{KernelRoute, RouteChange, RouteKernel};
use crate::shaping::Shaping;
use crate::sysctl::{self, Family, Sysctl, Sysctls};
use crate::{InterfaceName, ownership};

use connections::Connections;
pub use faults::Fault;
use faults::Faults;
use routes::Routes;

/// A handle on a kernel in memory.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    links: BTreeMap<u32, Link>,
    last_index: u32,
    addresses: BTreeSet<(u32, IpNet)>,
    routes: Routes,
    connections: Connections,
    sysctls: BTreeMap<String, String>,
    shaping: BTreeMap<u32, Shaping>,
    faults: Faults,
}

/// The settings that a new interface has.
const SETTINGS: [(Family, &str, &str); 11] = [
    (Family::V4, "conf/*/route_localnet", "0"),
    (Family::V4, "conf/*/proxy_arp", "0"),
    (Family::V4, "conf/*/forwarding", "0"),
    (Family::V4, "conf/*/rp_filter", "0"),
    (Family::V4, "neigh/*/proxy_delay", "80"),
    (Family::V6, "conf/*/proxy_ndp", "0"),
    (Family::V6, "conf/*/forwarding", "0"),
    (Family::V6, "conf/*/accept_ra", "1"),
    (Family::V6, "conf/*/accept_dad", "1"),
    (Family::V6, "conf/*/disable_ipv6", "0"),
    (Family::V6, "neigh/*/proxy_delay", "80"),
];

impl FakeKernel {
    /// A kernel without links, routes and settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Someone makes a link (Ethernet, MTU 1500). Gives its number.
    pub fn add_link(&self, name: &str, up: bool) -> u32 {
        let mut state = self.state();
        state.last_index += 1;
        let index = state.last_index;
        for (family, setting, value) in SETTINGS {
            let path = format!("net/{family}/{}", setting.replace('*', name));
            state.sysctls.insert(path, value.to_owned());
        }
        state.links.insert(index, new_link(index, name, up));
        index
    }

    /// Someone deletes a link; its routes and settings go with it.
    pub fn remove_link(&self, index: u32) {
        let mut state = self.state();
        if let Some(link) = state.links.remove(&index) {
            let of_link = format!("/{}/", link.name);
            state.sysctls.retain(|path, _| !path.contains(&of_link));
        }
        state.addresses.retain(|(link, _)| *link != index);
        state.shaping.remove(&index);
        state.routes.drop_device(index);
    }

    /// The limits on the bandwidth of a link.
    pub fn shaping(&self, index: u32) -> Shaping {
        self.state().shaping.get(&index).copied().unwrap_or_default()
    }

    /// Someone adds an address to a link, which has to be there.
    pub fn add_address(&self, index: u32, address: IpNet) {
        self.state().addresses.insert((index, address));
    }

    /// Someone takes an address from a link.
    pub fn remove_address(&self, index: u32, address: IpNet) {
        self.state().remove_address((index, address));
    }

    /// All addresses, by the number of their link.
    pub fn current_addresses(&self) -> Vec<(u32, IpNet)> {
        self.state().addresses.iter().copied().collect()
    }

    /// Someone sets a link up or down; down drops its routes.
    pub fn set_link_up(&self, index: u32, up: bool) {
        let mut state = self.state();
        if let Some(link) = state.links.get_mut(&index) {
            link.up = up;
        }
        if !up {
            state.routes.drop_device(index);
        }
    }

    /// Gateways in this network can be reached by this link.
    pub fn connect(&self, index: u32, network: IpNet) {
        self.state().routes.connect(index, network);
    }

    /// Someone adds a route, without any check.
    pub fn insert_route(&self, route: KernelRoute) {
        let mut state = self.state();
        state.connections.on_route(&route);
        state.routes.insert(route);
    }

    /// Someone deletes a route. Gives whether it was there.
    pub fn remove_route(&self, route: &KernelRoute) -> bool {
        self.state().routes.remove(route)
    }

    /// All routes, in the order in which they were added.
    pub fn current_routes(&self) -> Vec<KernelRoute> {
        self.state().routes.list().to_vec()
    }

    /// All links, by number.
    pub fn current_links(&self) -> Vec<Link> {
        self.state().links.values().cloned().collect()
    }

    /// Someone makes or changes a setting.
    pub fn put_sysctl(&self, path: &str, value: &str) {
        self.state().sysctls.insert(path.to_owned(), value.to_owned());
    }

    /// A setting's value.
    pub fn sysctl(&self, path: &str) -> Option<String> {
        self.state().sysctls.get(path).cloned()
    }

    /// How many calls were made so far: each listing, each single change, each setting read or set.
    pub fn calls(&self) -> u64 {
        self.state().faults.calls()
    }

    /// The call after so many others from now (0: the next) goes wrong.
    pub fn fail_after(&self, calls: u64, fault: Fault) {
        self.state().faults.schedule(calls, fault);
    }

    /// From now on about one call in so many goes wrong, as this seed decides; 0 ends it.
    pub fn fail_randomly(&self, seed: u64, one_in: u64) {
        self.state().faults.set_random(seed, one_in);
    }

    /// Watches that a destination always has a route of ours.
    pub fn guard(&self, destination: IpNet) {
        self.state().routes.guard(destination);
    }

    /// Guarded destinations that had no route of ours after some change.
    pub fn gaps(&self) -> Vec<IpNet> {
        self.state().routes.gaps().to_vec()
    }

    /// Foreign routes that a change replaced or deleted.
    pub fn trespasses(&self) -> Vec<KernelRoute> {
        self.state().routes.trespasses().to_vec()
    }

    /// A connection is tracked from now on, in place of one with the same number.
    pub fn add_connection(&self, connection: Connection) {
        self.state().connections.add(connection);
    }

    /// The tracked connections, by number.
    pub fn current_connections(&self) -> Vec<Connection> {
        self.state().connections.list().cloned().collect()
    }

    /// Addresses that a change routed to another device than before (or to a first one) while connections of them were
    /// tracked.
    pub fn inherited(&self) -> Vec<IpNet> {
        self.state().connections.inherited().to_vec()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The name of a route's first device decides, for some protocols, whose it is.
    fn is_ours(links: &BTreeMap<u32, Link>, route: &KernelRoute) -> bool {
        let device = route.hops.first().and_then(|hop| hop.device).and_then(|index| links.get(&index));
        ownership::is_our_route(route.protocol, device.map(|link| link.name.as_str()))
    }

    fn list<T>(&mut self, object: &str, list: impl FnOnce(&Self) -> T) -> Result<T, Error> {
        match self.faults.next() {
            None => Ok(list(self)),
            Some(Fault::Refuse(errno)) => Err(Error::refused(object, Refusal::new(errno))),
            Some(Fault::Lose) => Err(Error::Overrun { object: object.to_owned() }),
        }
    }

    fn change_route(&mut self, change: &RouteChange) -> Result<Result<(), Refusal>, Error> {
        let fault = self.faults.next();
        if let Some(Fault::Refuse(errno)) = fault {
            return Ok(Err(Refusal::new(errno)));
        }
        let Self { links, routes, connections, .. } = self;
        let outcome = routes.change(change, links, |route| Self::is_ours(links, route));
        if outcome.is_ok() {
            connections.on_change(change);
        }
        match fault {
            Some(_) => Err(Error::Overrun { object: change.to_string() }),
            None => Ok(outcome.map_err(Refusal::new)),
        }
    }

    fn access_sysctl<T>(
        &mut self,
        setting: &Sysctl,
        access: impl FnOnce(&mut String) -> Result<T, Errno>,
    ) -> Result<T, sysctl::Error> {
        let fault = self.faults.next();
        let failed = |errno: Errno| sysctl::Error {
            setting: setting.clone(),
            action: "access it".to_owned(),
            source: io::Error::from_raw_os_error(errno.raw_os_error()),
        };
        if let Some(Fault::Refuse(errno)) = fault {
            return Err(failed(errno));
        }
        let value = self.sysctls.get_mut(setting.path()).ok_or_else(|| failed(Errno::NOENT))?;
        let outcome = access(value).map_err(failed);
        if fault.is_some() { Err(failed(Errno::INTR)) } else { outcome }
    }
}

impl State {
    /// A change of addresses of a link.
    fn change_addresses(
        &mut self,
        (index, address): (u32, IpAddr),
        change: impl FnOnce(&mut Self, (u32, IpNet)) -> bool,
    ) -> Result<(), Error> {
        let object = format!("address {address} on link number {index}");
        let fault = self.faults.next();
        if let Some(Fault::Refuse(errno)) = fault {
            return Err(Error::refused(object, Refusal::new(errno)));
        }
        if !self.links.contains_key(&index) {
            return Err(Error::refused(object, Refusal::new(Errno::NODEV)));
        }
        change(self, (index, address.into()));
        if fault.is_some() { Err(Error::Overrun { object }) } else { Ok(()) }
    }

    /// As in Linux (`fib_disable_ip`), a link's IPv4 routes go with its last IPv4 address.
    fn remove_address(&mut self, gone: (u32, IpNet)) -> bool {
        let was_there = self.addresses.remove(&gone);
        let is_ipv4 = |net: &IpNet| matches!(net, IpNet::V4(_));
        let has_another = self.addresses.iter().any(|(index, net)| *index == gone.0 && is_ipv4(net));
        if was_there && is_ipv4(&gone.1) && !has_another {
            self.routes.drop_ipv4(gone.0);
        }
        was_there
    }
}

impl RouteKernel for FakeKernel {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        self.state().list("links", |state| state.links.values().cloned().collect())
    }

    fn routes(&mut self) -> Result<Vec<KernelRoute>, Error> {
        self.state().list("routes of the main table", |state| state.routes.list().to_vec())
    }

    fn change_routes(&mut self, changes: &[RouteChange]) -> Result<Vec<Result<(), Refusal>>, Error> {
        changes.iter().map(|change| self.state().change_route(change)).collect()
    }
}

impl ConntrackKernel for FakeKernel {
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error> {
        self.state().list("tracked connections", |state| state.connections.of(addresses))
    }

    fn connected_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        let addresses = |state: &State| state.connections.list().flat_map(Connection::addresses).collect();
        self.state().list("tracked connections", addresses)
    }

    fn delete_connections(&mut self, connections: &[Connection]) -> Result<Vec<Result<(), Refusal>>, Error> {
        let delete = |connection: &Connection| {
            let mut state = self.state();
            let fault = state.faults.next();
            if let Some(Fault::Refuse(errno)) = fault {
                return Ok(Err(Refusal::new(errno)));
            }
            let outcome = state.connections.delete(connection).map_err(Refusal::new);
            match fault {
                Some(_) => Err(Error::Overrun { object: connection.to_string() }),
                None => Ok(outcome),
            }
        };
        connections.iter().map(delete).collect()
    }
}

impl Sysctls for FakeKernel {
    fn read(&mut self, setting: &Sysctl) -> Result<String, sysctl::Error> {
        self.state().access_sysctl(setting, |value| Ok(value.clone()))
    }

    fn set(&mut self, setting: &Sysctl, value: &str) -> Result<bool, sysctl::Error> {
        self.state().access_sysctl(setting, |present| {
            if value.parse::<i64>().is_err() {
                return Err(Errno::INVAL);
            }
            let differs = *present != value;
            value.clone_into(present);
            Ok(differs)
        })
    }
}

impl InterfaceKernel for FakeKernel {
    fn list_links(&mut self) -> Result<Vec<Link>, Error> {
        RouteKernel::links(self)
    }

    fn list_addresses(&mut self) -> Result<Vec<InterfaceAddress>, Error> {
        let read = |(index, address): &(u32, IpNet)| InterfaceAddress {
            index: *index,
            address: *address,
            scope: 0,
            tentative: false,
        };
        self.state().list("addresses", |state| state.addresses.iter().map(read).collect())
    }

    fn shaped_links(&mut self) -> Result<BTreeSet<u32>, Error> {
        self.state().list("queueing disciplines", |state| state.shaping.keys().copied().collect())
    }

    fn shape(&mut self, link: &Link, wanted: &Shaping) -> Result<usize, Error> {
        let object = format!("link {}", link.name);
        let mut state = self.state();
        let fault = state.faults.next();
        if let Some(Fault::Refuse(errno)) = fault {
            return Err(Error::refused(object, Refusal::new(errno)));
        }
        if !state.links.contains_key(&link.index) {
            return Err(Error::refused(object, Refusal::new(Errno::NODEV)));
        }
        let before = match wanted.is_unlimited() {
            true => state.shaping.remove(&link.index),
            false => state.shaping.insert(link.index, *wanted),
        };
        if fault.is_some() {
            return Err(Error::Overrun { object });
        }
        Ok(usize::from(before.unwrap_or_default() != *wanted))
    }

    /// Limits go with their link here.
    fn delete_shaper(&mut self, _: &InterfaceName) -> Result<bool, Error> {
        Ok(false)
    }

    fn add_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        self.state().change_addresses((index, address), |state, new| state.addresses.insert(new))
    }

    fn delete_host_address(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        self.state().change_addresses((index, address), State::remove_address)
    }

    fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), Error> {
        let object = format!("link number {index}");
        let mut state = self.state();
        let fault = state.faults.next();
        if let Some(Fault::Refuse(errno)) = fault {
            return Err(Error::refused(object, Refusal::new(errno)));
        }
        let Some(link) = state.links.get_mut(&index) else {
            return Err(Error::refused(object, Refusal::new(Errno::NODEV)));
        };
        link.up = change.up.unwrap_or(link.up);
        link.mtu = change.mtu.unwrap_or(link.mtu);
        link.mac = change.mac.or(link.mac);
        link.group = change.group.unwrap_or(link.group);
        if fault.is_some() { Err(Error::Overrun { object }) } else { Ok(()) }
    }
}

fn new_link(index: u32, name: &str, up: bool) -> Link {
    Link {
        index,
        name: InterfaceName::from_kernel(name.to_owned()),
        mac: None,
        mtu: 1500,
        up,
        carrier: up,
        running: up,
        loopback: name == "lo",
        kind: None,
        master: None,
        group: 0,
        peer: None,
        queues: (1, 1),
    }
}
