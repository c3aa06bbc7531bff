//! What everyone wants, and who wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::InterfaceName;
use crate::route::{
    Gateway, Hop, IPV6_DEFAULT_METRIC, KernelRoute, MAIN_TABLE, Route, RouteClass, RouteKind, Target,
};

/// Who wants a route: a class, and within it an owner (an interface, a protocol…).
pub(super) type Owner = (RouteClass, Arc<str>);

/// All routes that somebody wants.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// For each destination those who want it, the winner first: in the order of owners. Almost always one.
    candidates: BTreeMap<IpNet, Vec<(Owner, Route)>>,
    owners: BTreeMap<Owner, BTreeSet<IpNet>>,
    by_device: BTreeMap<InterfaceName, BTreeSet<IpNet>>,
}

impl Wants {
    /// Gives whether anything changed.
    pub(super) fn set(&mut self, owner: &Owner, mut route: Route) -> bool {
        route.destination = route.destination.trunc();
        let destination = route.destination;
        let candidates = self.candidates.entry(destination).or_insert_with(|| Vec::with_capacity(1));
        let place = candidates.binary_search_by(|(other, _)| other.cmp(owner));
        if place.is_ok_and(|place| candidates[place].1 == route) {
            return false;
        }
        for device in route.devices() {
            self.by_device.entry(device.clone()).or_default().insert(destination);
        }
        let before = match place {
            Ok(place) => Some(std::mem::replace(&mut candidates[place].1, route)),
            Err(place) => {
                candidates.insert(place, (owner.clone(), route));
                None
            }
        };
        if before.is_none() {
            self.owners.entry(owner.clone()).or_default().insert(destination);
        }
        self.forget_devices(destination, before.as_ref());
        true
    }

    /// Gives whether it was wanted.
    pub(super) fn remove(&mut self, owner: &Owner, destination: IpNet) -> bool {
        let destination = destination.trunc();
        let Some(candidates) = self.candidates.get_mut(&destination) else { return false };
        let Ok(place) = candidates.binary_search_by(|(other, _)| other.cmp(owner)) else { return false };
        let (_, before) = candidates.remove(place);
        if candidates.is_empty() {
            self.candidates.remove(&destination);
        }
        if let Some(destinations) = self.owners.get_mut(owner) {
            destinations.remove(&destination);
            if destinations.is_empty() {
                self.owners.remove(owner);
            }
        }
        self.forget_devices(destination, Some(&before));
        true
    }

    /// The destinations that an owner wants.
    pub(super) fn of_owner(&self, owner: &Owner) -> BTreeSet<IpNet> {
        self.owners.get(owner).cloned().unwrap_or_default()
    }

    /// The destinations to which somebody wants to go by this device.
    pub(super) fn by_device(&self, device: &InterfaceName) -> impl Iterator<Item = IpNet> {
        self.by_device.get(device).into_iter().flatten().copied()
    }

    /// Whether anybody wants to go anywhere by this device.
    pub(super) fn knows_device(&self, device: &str) -> bool {
        self.by_device.contains_key(device)
    }

    /// Everywhere that anybody wants to go.
    pub(super) fn destinations(&self) -> impl Iterator<Item = IpNet> {
        self.candidates.keys().copied()
    }

    /// Those who want to go there, the winner first.
    pub(super) fn candidates(&self, destination: IpNet) -> impl Iterator<Item = &Route> {
        self.candidates.get(&destination).into_iter().flatten().map(|(_, route)| route)
    }

    /// The devices of a route that is no longer a candidate, unless another candidate names them too.
    fn forget_devices(&mut self, destination: IpNet, before: Option<&Route>) {
        for device in before.into_iter().flat_map(Route::devices) {
            let needed =
                self.candidates(destination).any(|route| route.devices().any(|other| other == device));
            if needed {
                continue;
            }
            if let Some(destinations) = self.by_device.get_mut(device) {
                destinations.remove(&destination);
                if destinations.is_empty() {
                    self.by_device.remove(device);
                }
            }
        }
    }
}

/// The devices that can carry routes: their numbers by name, and the other way round.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_name: BTreeMap<InterfaceName, Device>,
    names: BTreeMap<u32, InterfaceName>,
}

/// What matters of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) index: u32,
    pub(super) up: bool,
}

impl Devices {
    pub(super) fn get(&self, name: &InterfaceName) -> Option<Device> {
        self.by_name.get(name).copied()
    }

    pub(super) fn name(&self, index: u32) -> Option<&InterfaceName> {
        self.names.get(&index)
    }

    pub(super) fn set(&mut self, name: &InterfaceName, device: Device) {
        // A link may have been renamed: its number has one name only.
        if let Some(before) = self.names.insert(device.index, name.clone())
            && before != *name
        {
            self.by_name.remove(&before);
        }
        if let Some(before) = self.by_name.insert(name.clone(), device)
            && before.index != device.index
        {
            self.names.remove(&before.index);
        }
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<InterfaceName> {
        let name = self.names.remove(&index)?;
        self.by_name.remove(&name);
        Some(name)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The route in the kernel's terms, or the device for want of which it has to wait.
pub(super) fn resolve(route: &Route, devices: &Devices) -> Result<KernelRoute, InterfaceName> {
    let mut hops = Vec::new();
    let kind = match &route.target {
        Target::Device(device) => {
            let index = usable(device, devices)?;
            hops.push(Hop { gateway: None, device: Some(index), onlink: false, weight: 1 });
            RouteKind::Unicast
        }
        Target::Gateway(gateway) => {
            hops.push(Hop { weight: 1, ..hop(gateway, devices)? });
            RouteKind::Unicast
        }
        Target::Multipath(gateways) => {
            hops = usable_hops(gateways, devices)?;
            RouteKind::Unicast
        }
        Target::Blackhole => RouteKind::Blackhole,
        Target::Unreachable => RouteKind::Unreachable,
        Target::Prohibit => RouteKind::Prohibit,
        Target::Throw => RouteKind::Throw,
    };
    let metric = match route.metric {
        0 if route.destination.addr().is_ipv6() => IPV6_DEFAULT_METRIC,
        metric => metric,
    };
    Ok(KernelRoute {
        destination: route.destination,
        table: MAIN_TABLE,
        metric,
        tos: 0,
        protocol: route.protocol,
        kind,
        hops,
        source: route.source,
    })
}

/// The hops whose devices can be used; those that cannot only lower the capacity.
fn usable_hops(gateways: &[Gateway], devices: &Devices) -> Result<Vec<Hop>, InterfaceName> {
    let (mut hops, mut missing) = (Vec::new(), None);
    for gateway in gateways {
        match hop(gateway, devices) {
            Ok(hop) => hops.push(hop),
            Err(device) => missing = missing.or(Some(device)),
        }
    }
    if let (Some(device), true) = (missing, hops.is_empty()) {
        return Err(device);
    }
    hops.sort_unstable();
    hops.dedup_by_key(|hop| (hop.gateway, hop.device));
    if let [only] = hops.as_mut_slice() {
        only.weight = 1;
    }
    Ok(hops)
}

fn hop(gateway: &Gateway, devices: &Devices) -> Result<Hop, InterfaceName> {
    let device = gateway.device.as_ref().map(|device| usable(device, devices)).transpose()?;
    let weight = gateway.weight.clamp(1, 256);
    Ok(Hop { gateway: Some(gateway.address), device, onlink: gateway.onlink, weight })
}

fn usable(device: &InterfaceName, devices: &Devices) -> Result<u32, InterfaceName> {
    devices.get(device).filter(|found| found.up).map(|found| found.index).ok_or_else(|| device.clone())
}

/// Whether the kernel's route is the one that is wanted: where a device is left to the kernel, any will do.
pub(super) fn same(desired: &KernelRoute, actual: &KernelRoute) -> bool {
    let same_hop = |want: &Hop, have: &Hop| {
        want.gateway == have.gateway
            && (want.device.is_none() || want.device == have.device)
            && want.onlink == have.onlink
            && want.weight == have.weight
    };
    desired.protocol == actual.protocol
        && desired.kind == actual.kind
        && desired.source == actual.source
        && desired.hops.len() == actual.hops.len()
        && desired.hops.iter().zip(&actual.hops).all(|(want, have)| same_hop(want, have))
}
