use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{QoSControls, object};
use crate::scalars::{MacAddress, Net, Protocol};
use crate::{Kind, NoStatus, Object, Spec};

/// A pod's (or container's) interface as a policy endpoint.
pub type WorkloadEndpoint = Object<WorkloadEndpointSpec>;

object! {
    /// `spec` of a [`WorkloadEndpoint`].
    #[derive(Default)]
    pub struct WorkloadEndpointSpec {
        /// What started the workload: `k8s`, `cni`, `libnetwork`, ….
        orchestrator: String,
        /// The workload's name, where the orchestrator has no other field.
        workload: String,
        /// The host.
        node: String,
        /// The container.
        #[serde(rename = "containerID")]
        container_id: String,
        /// The pod.
        pod: String,
        /// The interface's name inside.
        endpoint: String,
        /// The pod's service account.
        service_account_name: String,
        /// Its addresses: /32 and /128 only.
        #[serde(rename = "ipNetworks")]
        ip_networks: Vec<Net>,
        /// Addresses that are translated to its own.
        #[serde(rename = "ipNATs")]
        ip_nats: Vec<IPNAT>,
        /// Its IPv4 gateway, if not the link-local one.
        #[serde(rename = "ipv4Gateway")]
        ipv4_gateway: Option<Ipv4Addr>,
        /// Its IPv6 gateway, if not the link-local one.
        #[serde(rename = "ipv6Gateway")]
        ipv6_gateway: Option<Ipv6Addr>,
        /// Profiles, in order.
        profiles: Vec<String>,
        /// The interface's name on the host.
        interface_name: String,
        /// Link-layer address of the interface inside.
        mac: Option<MacAddress>,
        /// Ports that rules can name.
        ports: Vec<WorkloadEndpointPort>,
        /// Source networks that it may use although they are not its own.
        allow_spoofed_source_prefixes: Vec<Net>,
        /// Limits on its traffic.
        qos_controls: Option<QoSControls>,
    }
}

object! {
    /// A 1:1 translation of an address.
    #[derive(Eq)]
    pub struct IPNAT {
        /// One of the endpoint's own addresses.
        #[serde(rename = "internalIP")]
        internal_ip: IpAddr = required,
        /// The address that stands for it.
        #[serde(rename = "externalIP")]
        external_ip: IpAddr = required,
    }
}

object! {
    /// A port of a workload endpoint.
    #[derive(Eq)]
    pub struct WorkloadEndpointPort {
        /// Its name; may be empty when there is a host port.
        name: String,
        /// TCP, UDP or SCTP.
        protocol: Protocol = required,
        /// 1..65535.
        port: u16 = required,
        /// The host's port that leads here; 0 for none.
        host_port: u16,
        /// The host's address on which it does; all if empty.
        #[serde(rename = "hostIP")]
        host_ip: String,
    }
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = NoStatus;
}
