use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::conntrack::Connection;
use crate::netlink::Errno;
use crate::route::{KernelRoute, RouteChange, RouteKind};

/// The table of tracked connections, and what became of addresses that have some.
#[derive(Debug, Default)]
pub(super) struct Connections {
    table: BTreeMap<u32, Connection>,
    /// Which device each address was last routed to.
    last_device: BTreeMap<IpNet, u32>,
    inherited: Vec<IpNet>,
}

impl Connections {
    pub(super) fn add(&mut self, connection: Connection) {
        self.table.insert(connection.id, connection);
    }

    pub(super) fn list(&self) -> impl Iterator<Item = &Connection> {
        self.table.values()
    }

    pub(super) fn of(&self, addresses: &BTreeSet<IpAddr>) -> Vec<Connection> {
        self.list().filter(|connection| connection.concerns(addresses)).cloned().collect()
    }

    /// Like Linux, by tuple and number.
    pub(super) fn delete(&mut self, connection: &Connection) -> Result<(), Errno> {
        if self.table.get(&connection.id) != Some(connection) {
            return Err(Errno::NOENT);
        }
        self.table.remove(&connection.id);
        Ok(())
    }

    /// Somebody put a route there without a change of ours.
    pub(super) fn on_route(&mut self, route: &KernelRoute) {
        let device = route.hops.first().filter(|hop| hop.gateway.is_none()).and_then(|hop| hop.device);
        if let (Some(device), RouteKind::Unicast) = (device, route.kind) {
            self.last_device.insert(route.destination, device);
        }
    }

    /// Notes when an address with connections goes to another device.
    pub(super) fn on_change(&mut self, change: &RouteChange) {
        let (RouteChange::Add(route) | RouteChange::Replace(route)) = change else { return };
        let destination = route.destination;
        let before = self.last_device.get(&destination).copied();
        self.on_route(route);
        let host = destination.prefix_len() == destination.max_prefix_len();
        if host && before != self.last_device.get(&destination).copied() {
            let has_some = self.list().any(|connection| connection.addresses().contains(&destination.addr()));
            self.inherited.extend(has_some.then_some(destination));
        }
    }

    pub(super) fn inherited(&self) -> &[IpNet] {
        &self.inherited
    }
}
