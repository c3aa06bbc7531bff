//! The one writer of routes in the main table.
//!
//! Workloads, tunnels and BGP say what they want, each for a class and an owner; [`RouteTable::apply`] makes it so.
//!
//! - One destination has one route of ours. Of several that want it the first in the order of [`RouteClass`] wins whose
//!   device is there; the others take over without a gap when it goes.
//! - What is ours is told by [`ownership`]. A foreign route is never touched: where it has the very place that we need
//!   (same destination and metric), ours is not installed and the clash is reported as a [`Conflict`]. The exception is
//!   one that replaced ours in place (`ip route replace`, `ip route change`): that was a change of our route, which is
//!   put back, though not more often than every [`RouteTableConfig::reclaim_pause`], in case the other insists.
//! - Make before break: routes are replaced in one step, and one under an old metric is deleted only once the one under
//!   the new metric is there. While a wanted route cannot be installed, what is there stays (fail static).
//! - What an earlier process left is adopted if it is wanted. The rest is deleted only after
//!   [`RouteTable::allow_sweep`]: for workloads' routes once the datastore is in sync, for BGP's once its tables are
//!   complete. On a workload's device that nobody has mentioned yet it is spared for a grace period, since a plugin may
//!   have set the device up just now.
//! - A route that the kernel refuses is tried again, later and later up to a limit, and at once when its device changes;
//!   the others do not wait for it.
//!
//! Races: the kernel drops routes by itself when a device goes down, and others may change routes at any time. Events
//! ([`RouteTable::on_link`], [`RouteTable::on_route`]) tell soon, a periodic [`RouteTable::queue_resync`] tells surely;
//! both lead to reading the whole table back. Between a deletion by someone else and its event, a replacement may hit a
//! foreign route that took the place in that moment; netlink has no compare-and-swap that would prevent it.

mod apply;
mod wants;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{KernelRoute, Route, RouteClass, RouteKernel, RouteKey};
use crate::delta::DeltaTracker;
use crate::link::Link;
use crate::monitor::Event;
use crate::netlink::{Error, Refusal};
use crate::{InterfaceName, ownership};
use wants::{Device, Devices, Wants};

/// Timers of a [`RouteTable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteTableConfig {
    /// How long a route of ours on a workload's device that nobody has mentioned is spared. Calico: 10 s.
    pub grace: Duration,
    /// When a refused route is first tried again; each time twice as late.
    pub first_retry: Duration,
    /// The longest time between two tries.
    pub longest_retry: Duration,
    /// The shortest time between two times that a route of ours is put back in place of what replaced it.
    pub reclaim_pause: Duration,
}

impl Default for RouteTableConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            first_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(10),
            reclaim_pause: Duration::from_secs(5),
        }
    }
}

/// A foreign route to a destination to which we want to go as well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route to {}: foreign route \"{foreign}\" {}; delete it, or the resource that makes us want this destination",
    wanted.destination, self.effect())]
pub struct Conflict {
    /// What we want.
    pub wanted: KernelRoute,
    /// What is there.
    pub foreign: KernelRoute,
}

impl Conflict {
    /// Whether ours cannot be installed, because the foreign one has the same metric.
    pub fn blocks(&self) -> bool {
        self.wanted.key() == self.foreign.key()
    }

    fn effect(&self) -> &'static str {
        match (self.blocks(), self.foreign.metric < self.wanted.metric) {
            (true, _) => "is in the place of ours, which is not installed",
            (false, true) => "is preferred to ours",
            (false, false) => "is hidden by ours",
        }
    }
}

/// A route that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {wanted}: {refusal} (tried {attempts} times)")]
pub struct Failure {
    /// What we want.
    pub wanted: KernelRoute,
    /// The kernel's reason for the last refusal.
    pub refusal: Refusal,
    /// How often it was tried.
    pub attempts: u32,
    /// When it will be tried again.
    pub next_try: Instant,
}

/// A route that waits for its device to be there and up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route to {destination}: device {device} is not there or not up")]
pub struct Waiting {
    /// Where to.
    pub destination: IpNet,
    /// The device.
    pub device: InterfaceName,
}

/// What one [`RouteTable::apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Routes added where none of ours was.
    pub added: usize,
    /// Routes of ours replaced.
    pub replaced: usize,
    /// Routes of ours deleted.
    pub deleted: usize,
    /// Whether the table was read back.
    pub resynced: bool,
    /// When `apply` should be called again though nothing was changed: a retry or the end of a grace period is due.
    pub next_apply: Option<Instant>,
}

/// How it stands with a wanted route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteStatus<'a> {
    /// Nobody wants it.
    Unwanted,
    /// The kernel has it.
    Programmed,
    /// The next `apply` will try.
    Pending,
    /// It waits for a device.
    Waiting(&'a Waiting),
    /// A foreign route is in its place.
    Blocked(&'a Conflict),
    /// The kernel refused it.
    Failed(&'a Failure),
}

/// See the documentation of the module.
#[derive(Debug)]
pub struct RouteTable<K> {
    /// Shared with the thread that makes many changes, for as long as it takes.
    kernel: Arc<Mutex<K>>,
    config: RouteTableConfig,
    wants: Wants,
    devices: Devices,
    /// What is wanted and there is one value in both maps.
    routes: DeltaTracker<RouteKey, Arc<KernelRoute>>,
    foreign: BTreeMap<RouteKey, Arc<KernelRoute>>,
    /// Routes of ours went of which it is not known which they were: what is in their places did not replace them.
    dropped: bool,
    /// Where a foreign route replaced ours: when ours may be put back.
    claims: BTreeMap<RouteKey, Instant>,
    /// Where ours was put back not long ago, and until when that is not done again.
    reclaimed: BTreeMap<RouteKey, Instant>,
    /// Of ours, what shares its key with another of ours (added with `append` by somebody).
    surplus: Vec<Arc<KernelRoute>>,
    /// Destinations whose candidates or devices changed since the last `apply`, or where something is due again. Only what is
    /// here is compared with what the kernel has, so whatever may have to be written has to be put here.
    dirty: BTreeSet<IpNet>,
    /// Destinations that somebody in this process wanted and nobody wants now.
    released: BTreeSet<IpNet>,
    sweep: BTreeSet<u8>,
    /// Since when unwanted routes on unknown devices have been seen.
    first_seen: BTreeMap<RouteKey, Instant>,
    conflicts: BTreeMap<IpNet, Conflict>,
    failures: BTreeMap<IpNet, Failure>,
    waiting: BTreeMap<IpNet, Waiting>,
    resync: bool,
    /// It is not known what was done of the last changes; until all is read back they are believed to be made.
    unsure: bool,
}

impl<K: RouteKernel> RouteTable<K> {
    /// A table that wants nothing yet; the first `apply` reads back what is there.
    pub fn new(kernel: K, config: RouteTableConfig) -> Self {
        Self {
            kernel: Arc::new(Mutex::new(kernel)),
            config,
            wants: Wants::default(),
            devices: Devices::default(),
            routes: DeltaTracker::new(|want, have| Arc::ptr_eq(want, have) || wants::same(want, have)),
            foreign: BTreeMap::new(),
            dropped: false,
            claims: BTreeMap::new(),
            reclaimed: BTreeMap::new(),
            surplus: Vec::new(),
            dirty: BTreeSet::new(),
            released: BTreeSet::new(),
            sweep: BTreeSet::new(),
            first_seen: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            failures: BTreeMap::new(),
            waiting: BTreeMap::new(),
            resync: true,
            unsure: false,
        }
    }

    /// These, and no others, are the routes that the owner wants in this class. Memory only.
    pub fn set_routes(&mut self, class: RouteClass, owner: &str, routes: impl IntoIterator<Item = Route>) {
        let owner = (class, owner.into());
        let mut gone = self.wants.of_owner(&owner);
        for route in routes {
            let destination = route.destination.trunc();
            gone.remove(&destination);
            if self.wants.set(&owner, route) {
                self.dirty.insert(destination);
            }
        }
        for destination in gone {
            self.wants.remove(&owner, destination);
            self.dirty.insert(destination);
        }
    }

    /// The owner wants this route too, in place of the one that it wanted to the same destination. Memory only.
    pub fn set_route(&mut self, class: RouteClass, owner: &str, route: Route) {
        let destination = route.destination.trunc();
        if self.wants.set(&(class, owner.into()), route) {
            self.dirty.insert(destination);
        }
    }

    /// The owner no longer wants to go there. Memory only.
    pub fn remove_route(&mut self, class: RouteClass, owner: &str, destination: IpNet) {
        if self.wants.remove(&(class, owner.into()), destination) {
            self.dirty.insert(destination.trunc());
        }
    }

    /// From now on, routes with this protocol that nobody wants are deleted, whoever left them. Call it once for
    /// [`ownership::ROUTE_FELIX`] (which stands for [`ownership::ROUTE_BOOT`] too) when the datastore is in sync, and for
    /// [`ownership::ROUTE_BIRD`] when BGP has heard all that its peers have to say.
    pub fn allow_sweep(&mut self, protocol: u8) {
        self.sweep.insert(protocol);
        if protocol == ownership::ROUTE_FELIX {
            self.sweep.insert(ownership::ROUTE_BOOT);
        }
    }

    /// Something changed in the kernel. Memory only.
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Resync => self.queue_resync(),
            Event::Link(link) => self.on_link(link),
            Event::LinkGone { index, .. } => self.on_link_gone(*index),
            Event::Route(route) => self.on_route(route, true),
            Event::RouteGone(route) => self.on_route(route, false),
            Event::Address(_) => self.retry_all(),
            Event::AddressGone(_)
            | Event::Neighbour(_)
            | Event::NeighbourGone { .. }
            | Event::Setting { .. } => {}
        }
    }

    /// A link is there (again), or has changed. Memory only.
    pub fn on_link(&mut self, link: &Link) {
        let device = Device { index: link.index, up: link.up };
        let before = self.devices.get(&link.name);
        if before == Some(device) {
            return;
        }
        if let Some(before) = before.filter(|before| before.up) {
            self.forget_routes_on(before.index, &link.name);
        }
        self.devices.set(&link.name, device);
        self.touch_device(&link.name);
    }

    /// A link is gone. Memory only.
    pub fn on_link_gone(&mut self, index: u32) {
        if let Some(name) = self.devices.remove(index) {
            self.forget_routes_on(index, &name);
            self.touch_device(&name);
        }
    }

    /// The kernel says that a route was added, changed (`present`) or deleted, by us or by someone else. Memory only;
    /// where it is not what we believe, the next `apply` reads the table back.
    pub fn on_route(&mut self, route: &KernelRoute, present: bool) {
        if route.table != super::MAIN_TABLE {
            return;
        }
        let known = self.routes.actual().get(&route.key());
        let foreign = self.foreign.get(&route.key()).map(Arc::as_ref);
        let news = match (present, self.is_ours(route)) {
            (true, true) => !known.is_some_and(|known| wants::same(known, route)),
            (false, true) => known.is_some_and(|known| wants::same(known, route)),
            (true, false) => foreign != Some(route) && self.concerns_us(route.destination),
            // There may be others in its place, of other devices: every device has its fe80::/64.
            (false, false) => foreign.is_some() && self.concerns_us(route.destination),
        };
        if !present && foreign == Some(route) {
            self.foreign.remove(&route.key());
        }
        if !present && news {
            // Gone, not replaced: whoever takes the place now has it.
            self.routes.remove_actual(&route.key());
        }
        self.resync |= news;
    }

    /// The next `apply` reads the table back: call it periodically, and when events were lost.
    pub fn queue_resync(&mut self) {
        self.resync = true;
    }

    /// Foreign routes to destinations that we want, as of the last `apply`.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// Routes that the kernel refused, as of the last `apply`.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.values()
    }

    /// Routes that wait for their device, as of the last `apply`.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.values()
    }

    /// How it stands with the wanted route to a destination.
    pub fn status(&self, destination: IpNet) -> RouteStatus<'_> {
        let destination = destination.trunc();
        if self.wants.candidates(destination).next().is_none() {
            return RouteStatus::Unwanted;
        }
        if self.unsure || self.dirty.contains(&destination) {
            return RouteStatus::Pending;
        }
        let conflict = self.conflicts.get(&destination).filter(|conflict| conflict.blocks());
        let desired = keys_of(destination, self.routes.desired()).next();
        let actual = desired.and_then(|(key, _)| self.routes.actual().get(key));
        match (self.waiting.get(&destination), conflict, self.failures.get(&destination)) {
            (Some(waiting), ..) => RouteStatus::Waiting(waiting),
            (_, Some(conflict), _) => RouteStatus::Blocked(conflict),
            (.., Some(failure)) => RouteStatus::Failed(failure),
            _ if desired.zip(actual).is_some_and(|((_, want), have)| wants::same(want, have)) => {
                RouteStatus::Programmed
            }
            _ => RouteStatus::Pending,
        }
    }

    /// Our routes that the kernel has, as far as is known.
    pub fn programmed(&self) -> impl Iterator<Item = &KernelRoute> {
        self.routes.actual().values().map(Arc::as_ref)
    }

    /// Our routes to a destination that the kernel has, as far as is known.
    pub fn programmed_to(&self, destination: IpNet) -> impl Iterator<Item = &KernelRoute> {
        keys_of(destination.trunc(), self.routes.actual()).map(|(_, route)| route)
    }

    /// Whether a device is there and up, as far as is known, so that it can carry routes.
    pub fn is_usable(&self, device: &InterfaceName) -> bool {
        self.devices.get(device).is_some_and(|device| device.up)
    }

    /// What an earlier process left there is not spared for the grace period: somebody is about to want the destination by
    /// another device. Memory only.
    pub fn release(&mut self, destination: IpNet) {
        let destination = destination.trunc();
        if !self.concerns_us(destination) && self.programmed_to(destination).next().is_some() {
            self.released.insert(destination);
        }
    }

    /// Reads the kernel's links and routes back if the next `apply` would, so that [`RouteTable::programmed`] tells what
    /// is there before anything is changed.
    ///
    /// # Errors
    /// When they cannot be read. Retryable.
    pub fn read(&mut self, now: Instant) -> Result<(), Error> {
        if self.resync { self.read_back(now) } else { Ok(()) }
    }

    /// The name of a device that occurs in a [`KernelRoute`].
    pub fn device_name(&self, index: u32) -> Option<&InterfaceName> {
        self.devices.name(index)
    }

    /// The number of a device, for as long as it is there.
    pub fn device_index(&self, name: &InterfaceName) -> Option<u32> {
        self.devices.get(name).map(|device| device.index)
    }

    /// Makes the smallest change that brings the kernel to what is wanted. Without news it makes no system call.
    ///
    /// # Errors
    /// When the table cannot be read or it is not known what was done. Retry: the next call reads the table back.
    pub fn apply(&mut self, now: Instant) -> Result<Report, Error> {
        self.apply_with(now, &mut |_| false)
    }

    /// As [`RouteTable::apply`]. While the kernel is busy with many changes, `more` is asked to say what else is wanted; false:
    /// nothing, for now. It must not wait, and has to come to an end.
    ///
    /// # Errors
    /// As [`RouteTable::apply`].
    pub fn apply_with(
        &mut self,
        now: Instant,
        more: &mut dyn FnMut(&mut Self) -> bool,
    ) -> Result<Report, Error> {
        let mut report = Report::default();
        // A route that is there already although we did not know leads to a second look, not to a second error.
        for _ in 0..2 {
            if let Err(error) = self.apply_once(now, &mut report, more) {
                // It is not known what of it was done.
                (self.resync, self.dropped, self.unsure) = (true, true, true);
                return Err(error);
            }
            if !self.resync {
                break;
            }
        }
        report.next_apply = self.next_apply(now);
        Ok(report)
    }

    fn is_ours(&self, route: &KernelRoute) -> bool {
        let device = route.hops.first().and_then(|hop| hop.device).and_then(|index| self.devices.name(index));
        ownership::is_our_route(route.protocol, device.map(InterfaceName::as_str))
    }

    fn concerns_us(&self, destination: IpNet) -> bool {
        self.wants.candidates(destination).next().is_some()
    }

    /// The kernel drops the routes of a device that goes down or away. Of routes with several hops only the hops, and
    /// of other devices than workloads' we do not know which routes led there: those are read back.
    fn forget_routes_on(&mut self, index: u32, name: &InterfaceName) {
        self.dropped |= !ownership::is_workload_interface(name.as_str());
        self.resync |= self.dropped;
        // Where something else is wanted by now, the route on this device may be there still.
        let changing = self.dirty.iter().chain(self.failures.keys()).copied();
        let destinations: BTreeSet<_> = self.wants.by_device(name).chain(changing).collect();
        for destination in destinations {
            let on_it: Vec<_> = keys_of(destination, self.routes.actual())
                .filter(|(_, route)| route.hops.iter().any(|hop| hop.device == Some(index)))
                .map(|(key, route)| (*key, route.hops.len()))
                .collect();
            for (key, hops) in on_it {
                self.resync |= hops > 1;
                self.dropped |= hops > 1;
                self.routes.remove_actual(&key);
            }
        }
    }

    /// A gateway that could not be reached may be reachable now.
    fn retry_all(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.failures).into_keys());
    }

    fn touch_device(&mut self, name: &InterfaceName) {
        if !ownership::is_workload_interface(name.as_str()) {
            self.retry_all();
        }
        for destination in self.wants.by_device(name) {
            self.dirty.insert(destination);
            self.failures.remove(&destination);
        }
    }
}

/// The entries of one destination, whatever the metric.
fn keys_of(
    destination: IpNet,
    routes: &BTreeMap<RouteKey, Arc<KernelRoute>>,
) -> impl Iterator<Item = (&RouteKey, &KernelRoute)> {
    let first = RouteKey { destination, metric: 0, tos: 0 };
    let last = RouteKey { destination, metric: u32::MAX, tos: u8::MAX };
    routes.range(first..=last).map(|(key, route)| (key, route.as_ref()))
}
