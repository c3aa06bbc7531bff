use super::{Condition, object};
use crate::scalars::{Net, words};
use crate::{Kind, Object, Spec};

/// A range of addresses for workloads, tunnels or load balancers.
pub type IPPool = Object<IPPoolSpec>;

object! {
    /// `spec` of an [`IPPool`].
    pub struct IPPoolSpec {
        /// The range, masked. Immutable; pools do not overlap.
        cidr: Net = required,
        /// When to tunnel in VXLAN; `Never` if absent.
        vxlan_mode: Option<EncapsulationMode>,
        /// When to tunnel in IP-in-IP (IPv4 only); `Never` if absent.
        ipip_mode: Option<EncapsulationMode>,
        /// Whether traffic that leaves all pools takes the node's address.
        nat_outgoing: bool,
        /// Whether no new address is given out.
        disabled: bool,
        /// Whether BGP keeps the blocks to itself.
        #[serde(rename = "disableBGPExport")]
        disable_bgp_export: bool,
        /// Prefix length of the blocks: 20..32 (26 if absent), IPv6 116..128 (122). Immutable.
        block_size: Option<u8>,
        /// Which nodes may use it; all if empty.
        node_selector: String,
        /// Whose pods may use it; all if empty.
        namespace_selector: String,
        /// For what; workloads and tunnels if absent.
        allowed_uses: Option<Vec<IPPoolAllowedUse>>,
        /// Whether it is used unasked; `Automatic` if absent.
        assignment_mode: Option<AssignmentMode>,
    }
}

object! {
    /// `status` of an [`IPPool`].
    #[derive(Default)]
    pub struct IPPoolStatus {
        /// `Allocatable`, with reason OK, CIDROverlap, Terminating or PoolDisabled.
        conditions: Vec<Condition>,
    }
}

words! {
    /// When traffic between nodes is encapsulated.
    #[derive(Default)]
    EncapsulationMode {
        /// Not at all.
        #[default]
        Never = "Never",
        /// Always.
        Always = "Always",
        /// When the nodes are in different subnets.
        CrossSubnet = "CrossSubnet",
    }
}

words! {
    /// What a pool's addresses are for.
    IPPoolAllowedUse {
        /// Pods and other workloads.
        Workload = "Workload",
        /// The nodes' own tunnel devices.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer.
        LoadBalancer = "LoadBalancer",
    }
}

words! {
    /// Whether a pool takes part in automatic assignment.
    #[derive(Default)]
    AssignmentMode {
        /// It does.
        #[default]
        Automatic = "Automatic",
        /// Only when asked for by name or address.
        Manual = "Manual",
    }
}

impl Spec for IPPoolSpec {
    const KIND: Kind = Kind::IPPool;
    type Status = IPPoolStatus;
}

impl IPPoolSpec {
    /// An enabled pool with everything else at its default.
    pub fn new(cidr: Net) -> Self {
        Self {
            cidr,
            vxlan_mode: None,
            ipip_mode: None,
            nat_outgoing: false,
            disabled: false,
            disable_bgp_export: false,
            block_size: None,
            node_selector: String::new(),
            namespace_selector: String::new(),
            allowed_uses: None,
            assignment_mode: None,
        }
    }

    /// Prefix length of the pool's blocks, the family's default filled in.
    pub fn block_prefix_len(&self) -> u8 {
        self.block_size.unwrap_or(if self.cidr.is_ipv6() { 122 } else { 26 })
    }

    /// Whether the pool may be used so, the default filled in.
    pub fn allows(&self, usage: IPPoolAllowedUse) -> bool {
        match &self.allowed_uses {
            Some(uses) if !uses.is_empty() => uses.contains(&usage),
            _ => usage != IPPoolAllowedUse::LoadBalancer,
        }
    }
}
