//! Workloads' interfaces: their routes, their settings, and the addresses of the host on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use calc::contract::{Limits, WorkloadEndpoint};
use ipnet::IpNet;
use kernel::InterfaceName;
use kernel::conntrack::ConntrackKernel;
use kernel::interface::{
    InterfaceKernel, InterfaceSettings, WorkloadSettings, default_reverse_path_filter, forwarding_host,
};
use kernel::nft::Transport;
use kernel::route::{Route, RouteClass, RouteKernel};
use kernel::shaping::{Bucket, Shaping};
use kernel::sysctl::{Family as SysctlFamily, Sysctl};

use super::{Dataplane, nets_of};
use crate::report::{ApplyError, ApplyReport};

impl<N: Transport, R: RouteKernel, I: InterfaceKernel, C: ConntrackKernel> Dataplane<N, R, I, C> {
    /// These, and no others, are the addresses that the host has on workloads' interfaces, by interface, for the workloads to
    /// dial. An interface gets them with the rest of what its endpoint needs. Memory only.
    pub fn set_peering_addresses(&mut self, addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>) {
        if self.peering_addresses == addresses {
            return;
        }
        let before = std::mem::replace(&mut self.peering_addresses, addresses);
        let now = &self.peering_addresses;
        let names: BTreeSet<&Arc<str>> = before.keys().chain(now.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != now.get(*name)) {
            self.unsure.extend(self.model.on_interface(name).map(|(id, _)| id.clone()));
            self.dirty_interfaces.insert(name.clone());
        }
    }

    /// Routes and settings of the interfaces whose endpoints changed; of new ones only when their rules are there.
    pub(super) fn place_interfaces(&mut self, ready: bool, report: &mut ApplyReport) {
        let dirty = std::mem::take(&mut self.dirty_interfaces);
        let (now, later): (BTreeSet<_>, BTreeSet<_>) =
            dirty.into_iter().partition(|interface| ready || self.model.on_interface(interface).is_none());
        self.dirty_interfaces = later;
        // First what is lost, so that it can be had.
        for interface in &now {
            let owner = self.model.on_interface(interface);
            let wanted = owner.map(|(_, endpoint)| {
                nets_of(endpoint, &self.parameters).map(|net| net.addr()).collect::<BTreeSet<_>>()
            });
            self.owners.keep(interface, owner.map(|(id, _)| id), &wanted.unwrap_or_default());
        }
        now.into_iter().for_each(|interface| self.place_interface(interface, report));
    }

    fn place_interface(&mut self, interface: Arc<str>, report: &mut ApplyReport) {
        let endpoint =
            self.model.on_interface(&interface).map(|(id, endpoint)| (id.clone(), endpoint.clone()));
        let Some((id, endpoint)) = endpoint else {
            self.routes.set_routes(RouteClass::LocalWorkload, &interface, []);
            if let Ok(device) = InterfaceName::new(&interface) {
                self.interfaces.remove(&device);
            }
            return;
        };
        let Ok(device) = InterfaceName::new(&interface) else {
            report.errors.push(ApplyError::InterfaceName { endpoint: id, interface });
            return;
        };
        let mut routes = self.workload_routes(&endpoint, &device);
        routes.retain(|route| self.may_have(&interface, &id, route.destination));
        self.routes.set_routes(RouteClass::LocalWorkload, &interface, routes);
        let settings = WorkloadSettings {
            ipv4: true,
            ipv6: self.parameters.ipv6_support && !endpoint.ipv6_nets.is_empty(),
            no_reverse_path_filter: self.parameters.workload_source_spoofing,
        };
        let kernel = self.interfaces.kernel();
        let filter = self.reverse_path_filter.get_or_insert_with(|| default_reverse_path_filter(kernel));
        let settings = settings.of_host_side(&device, filter);
        let shaping = shaping(&endpoint);
        let own = self.peering_addresses.get(&interface).into_iter().flatten().copied();
        let addresses = own.filter(|address| address.is_ipv4() || self.parameters.ipv6_support).collect();
        self.interfaces
            .set(device, InterfaceSettings { settings, addresses, shaping, ..InterfaceSettings::default() });
    }

    fn workload_routes(&self, endpoint: &WorkloadEndpoint, device: &InterfaceName) -> Vec<Route> {
        let parameters = &self.parameters;
        let protocol = parameters.device_route_protocol;
        nets_of(endpoint, parameters)
            .map(|net| {
                let (metric, source) = match net {
                    IpNet::V4(_) => (
                        parameters.ipv4_normal_route_priority,
                        parameters.device_route_source_address.map(IpAddr::V4),
                    ),
                    IpNet::V6(_) => (
                        parameters.ipv6_normal_route_priority,
                        parameters.device_route_source_address_ipv6.map(IpAddr::V6),
                    ),
                };
                let route = Route::device(net, device.clone(), protocol);
                Route { metric: metric.unwrap_or(0), source, ..route }
            })
            .collect()
    }

    /// Settings of the host and of workloads' interfaces. Gives when it wants to be called again.
    pub(super) fn apply_settings(&mut self, now: Instant, report: &mut ApplyReport) -> Option<Instant> {
        if !std::mem::replace(&mut self.host_settings, true) {
            let forwarding = self.parameters.ip_forwarding;
            // A kernel without IPv6 has nothing to forward.
            let all = Sysctl::scope(SysctlFamily::V6, "all", "forwarding");
            let ipv6 = self.parameters.ipv6_support && self.interfaces.kernel().read(&all).is_ok();
            self.interfaces.set_host(forwarding_host(forwarding, forwarding && ipv6));
        }
        let outcome = self.interfaces.apply(now);
        for (interface, failure) in self.interfaces.failures() {
            let what = interface.map_or("host".to_owned(), |name| format!("interface {name}"));
            let why: Vec<String> = failure.errors.iter().map(ToString::to_string).collect();
            report.errors.push(ApplyError::Settings { what, why: why.join("; ") });
        }
        match outcome {
            Ok(done) => {
                if done.routes_lost {
                    self.routes.queue_resync();
                }
                done.next_apply
            }
            Err(error) => {
                report.errors.push(ApplyError::Links(error));
                None
            }
        }
    }
}

/// How fast an endpoint may receive and send: bits become octets.
fn shaping(endpoint: &WorkloadEndpoint) -> Shaping {
    let bucket = |limits: &Limits| {
        limits.bandwidth.map(|bandwidth| Bucket {
            rate: (bandwidth.rate / 8).max(1),
            burst: bandwidth.burst / 8,
            peak: bandwidth.peak.map(|peak| peak / 8),
            peak_burst: bandwidth.peak_burst,
        })
    };
    Shaping { to: bucket(&endpoint.qos.ingress), from: bucket(&endpoint.qos.egress) }
}
