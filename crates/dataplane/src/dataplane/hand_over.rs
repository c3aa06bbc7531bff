//! Addresses that go from one workload to another, in the kernel: see [`crate::owners`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use calc::contract::WorkloadEndpointId;
use ipnet::IpNet;
use kernel::InterfaceName;
use kernel::conntrack::{ConntrackKernel, delete_connections};
use kernel::interface::InterfaceKernel;
use kernel::nft::Transport;
use kernel::route::RouteKernel;

use super::Dataplane;
use crate::owners::Claim;
use crate::report::{ApplyError, ApplyReport};

impl<N: Transport, R: RouteKernel, I: InterfaceKernel, C: ConntrackKernel> Dataplane<N, R, I, C> {
    /// Finds out, once, whose addresses the earlier process's routes say they are, before anything is changed. Gives whether
    /// that is known.
    pub(super) fn adopt(&mut self, now: Instant, report: &mut ApplyReport) -> bool {
        if !self.adopted {
            if let Err(error) = self.routes.read(now) {
                report.errors.push(ApplyError::Routes(error));
                return false;
            }
            self.adopt_routes();
            self.adopted = true;
        }
        if !self.suspected {
            match self.connections.connected_addresses() {
                Ok(addresses) => {
                    self.owners.suspect(addresses);
                    self.suspected = true;
                }
                // Nobody is held up by that: it only makes sure of what went while no node ran.
                Err(error) => report.errors.push(ApplyError::Connections(error)),
            }
        }
        true
    }

    fn adopt_routes(&mut self) {
        for route in self.routes.programmed() {
            let (destination, hop) = (route.destination, route.hops.first());
            let device = hop.filter(|hop| hop.gateway.is_none()).and_then(|hop| hop.device);
            let device = device.and_then(|device| self.routes.device_name(device));
            let host = destination.prefix_len() == destination.max_prefix_len();
            let prefixes = &self.parameters.interface_prefix;
            let ours =
                |name: &&InterfaceName| prefixes.iter().any(|prefix| name.as_str().starts_with(prefix));
            if let (true, Some(name)) = (host, device.filter(ours)) {
                self.owners.adopt(destination.addr(), &name.as_str().into());
            }
        }
        // What nobody has named is its owner's only as long as its route is spared.
        let unnamed: Vec<Arc<str>> = self
            .owners
            .interfaces()
            .filter(|name| self.model.on_interface(name).is_none())
            .cloned()
            .collect();
        unnamed.iter().for_each(|name| self.owners.keep(name, None, &BTreeSet::new()));
    }

    /// Deletes the connections of addresses that were lost and whose routes are gone, all at once. Gives whether anybody
    /// waited for that.
    pub(super) fn forget_connections(&mut self, now: Instant) -> bool {
        let routes = &self.routes;
        let due = self.owners.due(now, |address, interface| {
            let devices = routes.programmed_to(address.into()).filter_map(|route| route.hops.first()?.device);
            devices.filter_map(|device| routes.device_name(device)).any(|name| name.as_str() == interface)
        });
        let mut waiting = false;
        match delete_connections(&mut self.connections, &due) {
            Ok(deleted) => {
                for address in due {
                    if let Some(refusal) = deleted.refused.get(&address) {
                        self.owners.failed(address, refusal.to_string(), now);
                        continue;
                    }
                    let held_back = self.owners.cleaned(address);
                    waiting |= !held_back.is_empty();
                    self.dirty_interfaces.extend(held_back);
                }
            }
            Err(error) => due.iter().for_each(|address| self.owners.failed(*address, error.to_string(), now)),
        }
        waiting
    }

    /// Whether an endpoint gets the route to an address already.
    pub(super) fn may_have(
        &mut self,
        interface: &Arc<str>,
        id: &WorkloadEndpointId,
        destination: IpNet,
    ) -> bool {
        let routes = &self.routes;
        let is_usable = |name: &str| InterfaceName::new(name).is_ok_and(|name| routes.is_usable(&name));
        match self.owners.claim(interface, id, destination.addr(), is_usable) {
            Claim::Granted => true,
            Claim::Taken(_) => false,
            Claim::AfterCleaning => {
                // The owner before does not come back: nothing of it is spared.
                self.routes.release(destination);
                false
            }
        }
    }
}
