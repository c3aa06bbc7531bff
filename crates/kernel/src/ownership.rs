//! Every mark by which a restarted process, which remembers nothing, knows which kernel objects are its own.
//!
//! | object | mark |
//! |---|---|
//! | route in the main table | its protocol: [`ROUTE_FELIX`], [`ROUTE_BIRD`], or [`ROUTE_BOOT`] on a workload's device |
//! | host side of a workload's veth | name begins with [`INTERFACE_PREFIX`], or what `interfacePrefix` says |
//! | address of the host for workloads to dial | /32 or /128 on the host side of a workload's veth |
//! | device that queues what a workload sends | `ifb` whose name begins with [`SHAPER_PREFIX`] |
//! | token bucket | handle [`SHAPER_HANDLE`] |
//! | link on its way out | group [`CONDEMNED_GROUP`] and the prefix |
//! | nf_tables table | name [`NFT_TABLE`], families ip, ip6 and arp: the whole table is ours |
//! | nf_tables chain and set | inside that table; chains begin with [`CHAIN_PREFIX`] |
//! | nf_tables rule | comment begins with [`COMMENT_PREFIX`], then the hash of what was meant |
//! | NFLOG group | numbers [`NFLOG_DENIED`] and [`NFLOG_ALLOWED`]; a group ends with the process that listens |
//! | IP set | name begins with [`IP_SET_PREFIX_V4`] or [`IP_SET_PREFIX_V6`] |
//!
//! Sources: datapath.md 1.1 of the project's reference (what Calico's own agent goes by), `linux/rtnetlink.h` for the
//! protocol numbers.

/// Protocol of the routes that the agent programs (workloads, tunnels): Calico's `proto 80`.
pub const ROUTE_FELIX: u8 = 80;

/// Protocol of the routes that were learned by BGP, and of the blackholes for our own blocks: `RTPROT_BIRD`.
pub const ROUTE_BIRD: u8 = 12;

/// Protocol of the routes that a CNI plugin adds without saying who it is (`RTPROT_BOOT`), Calico's default
/// `DeviceRouteProtocol`. Ours only on a device with [`INTERFACE_PREFIX`].
pub const ROUTE_BOOT: u8 = 3;

/// Names of the host side of workloads' interfaces begin with this (FelixConfiguration `interfacePrefix`).
pub const INTERFACE_PREFIX: &str = "cali";

/// Names of the devices that queue what workloads send begin with this; a hash of the workload's interface follows.
pub const SHAPER_PREFIX: &str = "bwcali";

/// Handle of our token buckets, `ca11:` as `tc` writes it.
pub const SHAPER_HANDLE: u32 = 0xca11_0000;

/// Link group of interfaces that are about to be deleted together (any number but 0, the default group).
pub const CONDEMNED_GROUP: u32 = 0x6361_6c69;

/// NFLOG group of packets that policy denies (any numbers that others do not use; Calico's 1 and 2 tell directions apart).
pub const NFLOG_DENIED: u16 = 0x7401;

/// NFLOG group of the first packets of what is allowed.
pub const NFLOG_ALLOWED: u16 = 0x7402;

/// Name of our nf_tables table in each family.
pub const NFT_TABLE: &str = "calico";

/// Chains begin with this, after the name of the table they stand for where they are base chains.
pub const CHAIN_PREFIX: &str = "cali-";

/// Comments of our rules begin with this; 16 characters of a hash follow.
pub const COMMENT_PREFIX: &str = "cali:";

/// IPv4 sets begin with this.
pub const IP_SET_PREFIX_V4: &str = "cali4";

/// IPv6 sets begin with this.
pub const IP_SET_PREFIX_V6: &str = "cali6";

/// MAC address of the host side of every workload's veth.
pub const HOST_MAC: [u8; 6] = [0xee; 6];

/// Whether an interface of this name is the host side of a workload.
pub fn is_workload_interface(name: &str) -> bool {
    name.starts_with(INTERFACE_PREFIX)
}

/// Whether a route of the main table is ours: by its protocol, or by protocol and device together.
pub fn is_our_route(protocol: u8, device: Option<&str>) -> bool {
    match protocol {
        ROUTE_FELIX | ROUTE_BIRD => true,
        ROUTE_BOOT => device.is_some_and(is_workload_interface),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_route_is_ours_only_on_a_workloads_device() {
        assert!(is_our_route(ROUTE_BOOT, Some("cali0123")));
        assert!(!is_our_route(ROUTE_BOOT, Some("eth0")));
        assert!(!is_our_route(ROUTE_BOOT, None));
        assert!(is_our_route(ROUTE_BIRD, None));
        assert!(!is_our_route(186, Some("cali0123")));
    }
}
