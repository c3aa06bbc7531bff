use std::fmt;

/// Who wants a route. When several want one destination, the class that comes first here wins; within a class the
/// owner whose name sorts first. (Order: Calico's agent, datapath.md 2.3 of the project's reference, with the routes
/// that BGP learned between the encapsulations and the blackholes.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteClass {
    /// To a workload of this host.
    LocalWorkload,
    /// To the eBPF dataplane's own devices.
    BpfSpecial,
    /// To a peer through WireGuard.
    WireGuard,
    /// To a host of the same subnet, in a cross-subnet VXLAN pool.
    VxlanSameSubnet,
    /// To a host through VXLAN.
    VxlanTunnel,
    /// To a host of the same subnet, in a cross-subnet IPIP pool.
    IpipSameSubnet,
    /// To a host through IPIP.
    IpipTunnel,
    /// To a host, without encapsulation, that the agent programs.
    NoEncapsulation,
    /// Learned by BGP.
    Bgp,
    /// A block of this host in a VXLAN pool: what is not given out leads nowhere.
    VxlanBlackhole,
    /// A block of this host in an IPIP pool.
    IpipBlackhole,
    /// A block of this host in a pool without encapsulation.
    NoEncapsulationBlackhole,
}

impl fmt::Display for RouteClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::LocalWorkload => "local workload",
            Self::BpfSpecial => "eBPF special",
            Self::WireGuard => "WireGuard",
            Self::VxlanSameSubnet => "VXLAN same subnet",
            Self::VxlanTunnel => "VXLAN tunnel",
            Self::IpipSameSubnet => "IPIP same subnet",
            Self::IpipTunnel => "IPIP tunnel",
            Self::NoEncapsulation => "no encapsulation",
            Self::Bgp => "BGP",
            Self::VxlanBlackhole => "VXLAN blackhole",
            Self::IpipBlackhole => "IPIP blackhole",
            Self::NoEncapsulationBlackhole => "no-encapsulation blackhole",
        })
    }
}
