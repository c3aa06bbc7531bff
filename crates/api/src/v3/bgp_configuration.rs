use std::net::{Ipv4Addr, Ipv6Addr};

use super::{BGPPassword, object};
use crate::scalars::{AsNumber, GoDuration, Net, words};
use crate::{Kind, NoStatus, Object, Spec};

/// BGP settings: `default` for all nodes, `node.NAME` for one.
pub type BGPConfiguration = Object<BGPConfigurationSpec>;

object! {
    /// `spec` of a [`BGPConfiguration`].
    #[derive(Default)]
    pub struct BGPConfigurationSpec {
        /// How much BGP logs; `Info` if absent.
        log_severity_screen: Option<BGPLogSeverity>,
        /// Whether every node peers with every other; true if absent. In `default` only.
        node_to_node_mesh_enabled: Option<bool>,
        /// AS of nodes that have none of their own; 64512 if absent. In `default` only.
        as_number: Option<AsNumber>,
        /// Ranges of cluster IPs that are advertised. In `default` only.
        #[serde(rename = "serviceClusterIPs")]
        service_cluster_ips: Vec<ServiceIPBlock>,
        /// Ranges of external IPs that are advertised. In `default` only.
        #[serde(rename = "serviceExternalIPs")]
        service_external_ips: Vec<ServiceIPBlock>,
        /// Ranges of load balancer IPs that are advertised. In `default` only.
        #[serde(rename = "serviceLoadBalancerIPs")]
        service_load_balancer_ips: Vec<ServiceIPBlock>,
        /// Whether load balancer blocks are advertised whole; `Enabled` if absent.
        service_load_balancer_aggregation: Option<ServiceLoadBalancerAggregation>,
        /// The TCP port; 179 if absent.
        listen_port: Option<u16>,
        /// Names for communities.
        communities: Vec<Community>,
        /// Which prefixes get which communities.
        prefix_advertisements: Vec<PrefixAdvertisement>,
        /// Password of the mesh (RFC 2385). In `default` only, needs the mesh.
        node_mesh_password: Option<BGPPassword>,
        /// How long the mesh keeps routes of a restarting node (RFC 4724). In `default` only, needs the mesh.
        node_mesh_max_restart_time: Option<GoDuration>,
        /// On which address to listen; `None` (all) if absent.
        bind_mode: Option<BindMode>,
        /// Interfaces whose subnets are not BGP's business; `*` in a name is a wildcard.
        ignored_interfaces: Vec<String>,
        /// Address of the host's side when pods peer over IPv4.
        #[serde(rename = "localWorkloadPeeringIPV4")]
        local_workload_peering_ipv4: Option<Ipv4Addr>,
        /// Address of the host's side when pods peer over IPv6.
        #[serde(rename = "localWorkloadPeeringIPV6")]
        local_workload_peering_ipv6: Option<Ipv6Addr>,
        /// Which routes between nodes BGP programs; `EnabledNoEncapOnly` if absent.
        program_cluster_routes: Option<ProgramClusterRoutes>,
        /// Metric of IPv4 routes, 1..2147483646; 1024 if absent.
        #[serde(rename = "ipv4NormalRoutePriority")]
        ipv4_normal_route_priority: Option<i64>,
        /// Metric of IPv6 routes, 1..2147483646; 1024 if absent.
        #[serde(rename = "ipv6NormalRoutePriority")]
        ipv6_normal_route_priority: Option<i64>,
    }
}

words! {
    /// How much BGP logs.
    #[derive(Default)]
    BGPLogSeverity(any_case) {
        /// Every message.
        Trace = "Trace",
        /// Every decision.
        Debug = "Debug",
        /// What an operator cares about.
        #[default]
        Info = "Info",
        /// What is odd.
        Warning = "Warning",
        /// What is broken.
        Error = "Error",
        /// What ends the process.
        Fatal = "Fatal",
    }
}

words! {
    /// Whether load balancer blocks are advertised whole.
    #[derive(Default)]
    ServiceLoadBalancerAggregation {
        /// As the block.
        #[default]
        Enabled = "Enabled",
        /// As single addresses.
        Disabled = "Disabled",
    }
}

words! {
    /// On which address BGP listens.
    #[derive(Default)]
    BindMode {
        /// On all.
        #[default]
        None = "None",
        /// On the node's own.
        NodeIP = "NodeIP",
    }
}

words! {
    /// Which of the routes between nodes a component programs.
    ProgramClusterRoutes {
        /// All.
        Enabled = "Enabled",
        /// None.
        Disabled = "Disabled",
        /// Those through IP-in-IP.
        EnabledIPIPOnly = "EnabledIPIPOnly",
        /// Those without encapsulation.
        EnabledNoEncapOnly = "EnabledNoEncapOnly",
    }
}

object! {
    /// A range of service addresses.
    #[derive(Eq)]
    pub struct ServiceIPBlock {
        /// The range.
        cidr: Net = required,
    }
}

object! {
    /// A name for a community.
    #[derive(Default, Eq)]
    pub struct Community {
        /// The name.
        name: String,
        /// `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
        value: String,
    }
}

object! {
    /// Communities for a prefix.
    #[derive(Eq)]
    pub struct PrefixAdvertisement {
        /// Routes in this range.
        cidr: Net = required,
        /// Names or values of communities.
        communities: Vec<String>,
    }
}

impl Spec for BGPConfigurationSpec {
    const KIND: Kind = Kind::BGPConfiguration;
    type Status = NoStatus;
}
