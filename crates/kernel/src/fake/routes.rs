use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::link::Link;
use crate::netlink::Errno;
use crate::route::{Hop, IPV6_DEFAULT_METRIC, KernelRoute, MAIN_TABLE, RouteChange, RouteKind};

/// The main table.
#[derive(Debug, Default)]
pub(super) struct Routes {
    routes: Vec<KernelRoute>,
    networks: Vec<(u32, IpNet)>,
    guarded: BTreeSet<IpNet>,
    gaps: Vec<IpNet>,
    trespasses: Vec<KernelRoute>,
}

impl Routes {
    pub(super) fn list(&self) -> &[KernelRoute] {
        &self.routes
    }

    pub(super) fn connect(&mut self, index: u32, network: IpNet) {
        self.networks.push((index, network));
    }

    pub(super) fn insert(&mut self, route: KernelRoute) {
        self.routes.push(route);
    }

    pub(super) fn remove(&mut self, route: &KernelRoute) -> bool {
        let position = self.routes.iter().position(|other| other == route);
        position.map(|position| self.routes.remove(position)).is_some()
    }

    pub(super) fn drop_device(&mut self, index: u32) {
        for route in &mut self.routes {
            route.hops.retain(|hop| hop.device != Some(index));
        }
        self.routes.retain(|route| route.kind != RouteKind::Unicast || !route.hops.is_empty());
    }

    pub(super) fn drop_ipv4(&mut self, index: u32) {
        let goes = |route: &KernelRoute| {
            route.destination.addr().is_ipv4() && route.hops.iter().any(|hop| hop.device == Some(index))
        };
        self.routes.retain(|route| !goes(route));
    }

    pub(super) fn guard(&mut self, destination: IpNet) {
        self.guarded.insert(destination);
    }

    pub(super) fn gaps(&self) -> &[IpNet] {
        &self.gaps
    }

    pub(super) fn trespasses(&self) -> &[KernelRoute] {
        &self.trespasses
    }

    pub(super) fn change(
        &mut self,
        change: &RouteChange,
        links: &BTreeMap<u32, Link>,
        is_ours: impl Fn(&KernelRoute) -> bool,
    ) -> Result<(), Errno> {
        let hit = match change {
            RouteChange::Add(route) => self.add(route, links, false)?,
            RouteChange::Replace(route) => self.add(route, links, true)?,
            RouteChange::Delete(route) => Some(self.delete(route)?),
        };
        self.trespasses.extend(hit.filter(|route| !is_ours(route)));
        for destination in &self.guarded {
            if !self.routes.iter().any(|route| route.destination == *destination && is_ours(route)) {
                self.gaps.push(*destination);
            }
        }
        Ok(())
    }

    /// Gives the route that was replaced.
    fn add(
        &mut self,
        route: &KernelRoute,
        links: &BTreeMap<u32, Link>,
        replace: bool,
    ) -> Result<Option<KernelRoute>, Errno> {
        let route = self.check(route, links)?;
        match self.routes.iter().position(|other| other.key() == route.key()) {
            Some(_) if !replace => Err(Errno::EXIST),
            Some(position) => Ok(Some(std::mem::replace(&mut self.routes[position], route))),
            None => {
                self.routes.push(route);
                Ok(None)
            }
        }
    }

    fn delete(&mut self, route: &KernelRoute) -> Result<KernelRoute, Errno> {
        let same_hop = |want: &Hop, have: &Hop| {
            want.gateway == have.gateway && (want.device.is_none() || want.device == have.device)
        };
        let matches = |other: &KernelRoute| {
            other.key() == route.key()
                && other.protocol == route.protocol
                && other.kind == route.kind
                && other.hops.len() == route.hops.len()
                && route.hops.iter().zip(&other.hops).all(|(want, have)| same_hop(want, have))
        };
        let position = self.routes.iter().position(matches).ok_or(Errno::SRCH)?;
        Ok(self.routes.remove(position))
    }

    /// The route as it would be stored, or why it would be refused.
    fn check(&self, route: &KernelRoute, links: &BTreeMap<u32, Link>) -> Result<KernelRoute, Errno> {
        let mut route = route.clone();
        let hops_fit = (route.kind == RouteKind::Unicast) != route.hops.is_empty();
        if route.destination != route.destination.trunc() || route.table != MAIN_TABLE || !hops_fit {
            return Err(Errno::INVAL);
        }
        if route.metric == 0 && route.destination.addr().is_ipv6() {
            route.metric = IPV6_DEFAULT_METRIC;
        }
        for hop in &mut route.hops {
            hop.device = Some(self.device(hop, links)?);
        }
        route.hops.sort_unstable();
        Ok(route)
    }

    fn device(&self, hop: &Hop, links: &BTreeMap<u32, Link>) -> Result<u32, Errno> {
        let reaches = |index: u32, gateway: IpAddr| {
            self.networks.iter().any(|(device, network)| *device == index && network.contains(&gateway))
        };
        let (index, reachable) = match (hop.device, hop.gateway) {
            (Some(index), None) => (index, true),
            (Some(index), Some(gateway)) => (index, hop.onlink || reaches(index, gateway)),
            (None, Some(gateway)) => {
                let up = |index: &u32| links.get(index).is_some_and(|link| link.up);
                let found = links.keys().copied().find(|index| up(index) && reaches(*index, gateway));
                (found.ok_or(Errno::NETUNREACH)?, true)
            }
            (None, None) => return Err(Errno::NODEV),
        };
        match links.get(&index) {
            None => Err(Errno::NODEV),
            Some(link) if !link.up => Err(Errno::NETDOWN),
            Some(_) if !reachable => Err(Errno::NETUNREACH),
            Some(_) => Ok(index),
        }
    }
}
