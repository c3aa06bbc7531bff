//! What this node has to announce; the export policy says to whom (control-plane.md 3.3).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{EncapsulationMode, Resource};
use ipnet::IpNet;

use super::planner::BgpPlanner;
use super::types::{Originated, OriginatedKind};
use crate::contract::TunnelKind;

/// What counts of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolRow {
    pub(super) cidr: IpNet,
    pub(super) is_exported: bool,
    pub(super) is_enabled: bool,
    pub(super) ipip: EncapsulationMode,
    pub(super) vxlan: EncapsulationMode,
}

impl PoolRow {
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        let Resource::IPPool(pool) = resource else { return None };
        Some(Self {
            cidr: pool.spec.cidr.net().trunc(),
            is_exported: !pool.spec.disable_bgp_export,
            is_enabled: !pool.spec.disabled,
            ipip: pool.spec.ipip_mode.unwrap_or_default(),
            vxlan: pool.spec.vxlan_mode.unwrap_or_default(),
        })
    }
}

impl BgpPlanner {
    /// Own confirmed blocks. A block of one address is not announced as such: the workload that has it is.
    pub(super) fn own_blocks(&self) -> BTreeSet<IpNet> {
        let blocks = self.blocks.iter().filter(|(cidr, confirmed)| **confirmed && is_wide(cidr));
        blocks.map(|(cidr, _)| *cidr).collect()
    }

    /// Own confirmed blocks of every size.
    pub(super) fn all_own_blocks(&self, v6: bool) -> impl Iterator<Item = IpNet> + '_ {
        let confirmed = self.blocks.iter().filter(|(_, confirmed)| **confirmed);
        confirmed.map(|(cidr, _)| *cidr).filter(move |cidr| is_v6(cidr) == v6)
    }

    /// All that could be announced. Of several reasons for one prefix the first counts: blocks and services, then
    /// workloads, then what the host itself has.
    pub(super) fn originated(&self) -> BTreeMap<IpNet, Originated> {
        let mut all = BTreeMap::new();
        let blocks = self.own_blocks().into_iter().map(|cidr| (cidr, OriginatedKind::Block, None));
        let services = self.own_services().into_iter().map(|net| (net, OriginatedKind::Service, None));
        for (prefix, kind, interface) in
            blocks.chain(services).chain(self.own_workloads()).chain(self.own_networks())
        {
            let priority = self.normal_priority(is_v6(&prefix));
            all.entry(prefix).or_insert(Originated { kind, priority, interface });
        }
        all
    }

    fn own_services(&self) -> BTreeSet<IpNet> {
        match self.is_excluded_from_services() {
            true => BTreeSet::new(),
            false => self.services.originated(&self.node_name, &self.service_ranges()),
        }
    }

    fn own_workloads(&self) -> impl Iterator<Item = (IpNet, OriginatedKind, Option<Arc<str>>)> + '_ {
        self.workloads.values().flat_map(|workload| {
            let interface = (!workload.interface.is_empty()).then(|| workload.interface.clone());
            let addresses = workload.addresses.iter();
            addresses.map(move |address| (IpNet::from(*address), OriginatedKind::Workload, interface.clone()))
        })
    }

    /// Addresses of tunnel devices, and the networks of interfaces that BGP shall not ignore. Only what lies in a pool
    /// could ever be announced without a filter, so the rest is told to the speaker only when there are filters.
    fn own_networks(&self) -> impl Iterator<Item = (IpNet, OriginatedKind, Option<Arc<str>>)> + '_ {
        let tunnels = self.nodes.get(&self.node_name).into_iter().flat_map(|us| &us.tunnels);
        let tunnels = tunnels.map(|(kind, address)| {
            let device = tunnel_device(*kind, address.is_ipv6());
            (IpNet::from(*address), OriginatedKind::Connected, Some(device.into()))
        });
        let excluded = self.excluded_interfaces();
        let known = self.interfaces.iter().filter(move |(name, _)| !excluded.iter().any(|p| p.matches(name)));
        let networks = known.flat_map(|(name, nets)| {
            let nets = nets.iter().filter(|net| is_announceable(net));
            nets.map(|net| (net.trunc(), OriginatedKind::Connected, Some(name.clone())))
        });
        let of_interest = |net: &IpNet| !self.filters.is_empty() || self.is_in_pool(net);
        tunnels.chain(networks.filter(move |(net, ..)| of_interest(net)))
    }

    fn is_in_pool(&self, net: &IpNet) -> bool {
        self.pools.values().any(|pool| pool.cidr.contains(net))
    }
}

/// The device of a tunnel, as Calico names it.
fn tunnel_device(kind: TunnelKind, v6: bool) -> &'static str {
    match (kind, v6) {
        (TunnelKind::Ipip, _) => "tunl0",
        (TunnelKind::Vxlan, false) => "vxlan.calico",
        (TunnelKind::Vxlan, true) => "vxlan-v6.calico",
        (TunnelKind::Wireguard, false) => "wireguard.cali",
        (TunnelKind::Wireguard, true) => "wg-v6.cali",
    }
}

/// Neither loopback nor link-local.
fn is_announceable(net: &IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

pub(super) fn is_v6(net: &IpNet) -> bool {
    net.max_prefix_len() == 128
}

fn is_wide(cidr: &IpNet) -> bool {
    cidr.prefix_len() < cidr.max_prefix_len()
}
