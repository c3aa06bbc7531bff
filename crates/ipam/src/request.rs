//! What callers ask for, and what they get.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{AffinityOwner, IPPoolAllowedUse};
use ipnet::IpNet;

use crate::{Family, IpamError, Shortfall};

/// Attributes of an allocation: `pod`, `namespace`, `node`, `timestamp`; `type` for tunnels, `service` for load
/// balancers. Routing recognises a borrowed address by `node`: callers should always set it.
pub type Attributes = BTreeMap<String, String>;

/// A request for any addresses. Start from [`AutoAssign::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoAssign {
    /// How many IPv4 addresses.
    pub num4: usize,
    /// How many IPv6 addresses.
    pub num6: usize,
    /// Whose they will be: `NETWORK.CONTAINER-ID` for a pod. Compared in lower case. Without one, only
    /// [`crate::Ipam::release_ips`] gives them back.
    pub handle: Option<String>,
    /// The node that will route them.
    pub host: String,
    /// CIDRs of the IPv4 pools to use, in this order; all that qualify if empty. Pools that are named so need not select
    /// the node or the namespace, and may be in assignment mode Manual.
    pub ipv4_pools: Vec<IpNet>,
    /// The same for IPv6.
    pub ipv6_pools: Vec<IpNet>,
    /// Stored with each address.
    pub attributes: Attributes,
    /// For what; the pool must allow it. Load balancer addresses belong to `virtual:HOST` rather than `host:HOST`.
    pub intended_use: IPPoolAllowedUse,
    /// The namespace that pools' `namespaceSelector` look at. Without one, pools that have a selector do not qualify.
    pub namespace: Option<String>,
    /// Most blocks per family for the host, if that is less than the configured limit; 0 for no limit of its own.
    pub max_blocks_per_host: u32,
    /// Most addresses per family for the handle (1 for KubeVirt machines); when it has them, the answer names those that
    /// it has. 0 for no limit.
    pub max_per_handle: usize,
    /// Addresses to keep back in each new block; Windows nodes need it.
    pub host_reserved: Option<HostReserved>,
}

impl AutoAssign {
    /// A request for nothing yet, for workloads on a node.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            num4: 0,
            num6: 0,
            handle: None,
            host: host.into(),
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            attributes: Attributes::new(),
            intended_use: IPPoolAllowedUse::Workload,
            namespace: None,
            max_blocks_per_host: 0,
            max_per_handle: 0,
            host_reserved: None,
        }
    }

    pub(crate) fn owner(&self) -> AffinityOwner {
        owner(&self.host, Some(self.intended_use))
    }

    pub(crate) fn number(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.num4,
            Family::V6 => self.num6,
        }
    }

    pub(crate) fn pools(&self, family: Family) -> &[IpNet] {
        match family {
            Family::V4 => &self.ipv4_pools,
            Family::V6 => &self.ipv6_pools,
        }
    }
}

/// Who owns blocks on behalf of a host name: load balancer addresses are on no node.
pub(crate) fn owner(host: &str, usage: Option<IPPoolAllowedUse>) -> AffinityOwner {
    match usage {
        Some(IPPoolAllowedUse::LoadBalancer) => AffinityOwner::Virtual(host.to_owned()),
        _ => AffinityOwner::Host(host.to_owned()),
    }
}

/// Addresses at both ends of each block that the host's own network stack takes (Windows: three and one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReserved {
    /// How many at the start.
    pub start_of_block: usize,
    /// How many at the end.
    pub end_of_block: usize,
    /// Why; kept as attribute `note`.
    pub note: String,
}

impl HostReserved {
    /// The handle of such addresses. A block that holds no others counts as empty.
    pub const HANDLE: &'static str = "windows-reserved-ipam-handle";
}

/// What [`crate::Ipam::auto_assign`] got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoAssigned {
    /// The IPv4 part.
    pub ipv4: Assigned,
    /// The IPv6 part.
    pub ipv6: Assigned,
}

impl AutoAssigned {
    /// All addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.ipv4.addresses.iter().chain(&self.ipv6.addresses).map(IpNet::addr)
    }
}

/// The part of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// How many were asked for.
    pub requested: usize,
    /// The addresses, each with the prefix length of its block: `trunc()` gives the block.
    pub addresses: Vec<IpNet>,
    /// Why they are fewer than asked for; empty if they are not.
    pub reasons: Vec<Shortfall>,
}

impl Assigned {
    /// Whether it is all that was asked for.
    pub fn is_complete(&self) -> bool {
        self.addresses.len() >= self.requested
    }

    pub(crate) fn require(&self, family: Family, host: &str) -> Result<(), IpamError> {
        if self.is_complete() {
            return Ok(());
        }
        Err(IpamError::Short {
            family,
            host: host.to_owned(),
            requested: self.requested,
            assigned: self.addresses.len(),
            reasons: self.reasons.clone(),
        })
    }
}
