//! What this node announces (control-plane.md 3.3).

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::Resource;
use ipnet::IpNet;

use super::planner::BgpPlanner;

/// What counts of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolRow {
    cidr: IpNet,
    is_exported: bool,
    is_enabled: bool,
}

impl PoolRow {
    pub(super) fn of(resource: &Resource) -> Option<Self> {
        let Resource::IPPool(pool) = resource else { return None };
        Some(Self {
            cidr: pool.spec.cidr.net(),
            is_exported: !pool.spec.disable_bgp_export,
            is_enabled: !pool.spec.disabled,
        })
    }
}

impl BgpPlanner {
    /// Own confirmed blocks, unless their pool is not to be announced. A block of one address is not announced as such: the
    /// workload that has it is.
    pub(super) fn own_blocks(&self) -> BTreeSet<IpNet> {
        let blocks = self.blocks.iter().filter(|(cidr, confirmed)| **confirmed && is_wide(cidr));
        blocks.map(|(cidr, _)| *cidr).filter(|cidr| !self.is_withheld(cidr)).collect()
    }

    /// Addresses of our workloads and tunnels outside of our blocks, inside a pool that is enabled and announced.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpNet> {
        let workloads = self.workloads.values().flat_map(|workload| &workload.addresses);
        let tunnels = self.nodes.get(&self.node_name).into_iter().flat_map(|us| &us.tunnels);
        let addresses = workloads.chain(tunnels).copied().map(IpAddr::into);
        addresses.filter(|address: &IpNet| self.is_announced_alone(address)).collect()
    }

    fn is_announced_alone(&self, address: &IpNet) -> bool {
        let mut own_blocks = self.blocks.iter().filter(|(cidr, confirmed)| **confirmed && is_wide(cidr));
        let in_own_block = own_blocks.any(|(cidr, _)| cidr.contains(address));
        let in_pool = self.pools.values().any(|pool| pool.is_enabled && pool.cidr.contains(address));
        in_pool && !in_own_block && !self.is_withheld(address)
    }

    /// Whether a pool says that it is not to be announced.
    fn is_withheld(&self, cidr: &IpNet) -> bool {
        self.pools.values().any(|pool| !pool.is_exported && pool.cidr.contains(cidr))
    }
}

fn is_wide(cidr: &IpNet) -> bool {
    cidr.prefix_len() < cidr.max_prefix_len()
}
