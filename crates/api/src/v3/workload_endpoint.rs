use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::host_endpoint::{check_endpoint_port, check_profiles};
use super::qos::check_qos;
use super::{QoSControls, object};
use crate::endpoint_name::{EndpointNameError, Workload, WorkloadEndpointName};
use crate::rules::{Place, Rules, check_interface, check_port_name, is_container_id};
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
        /// Limits on its traffic; boxed, since few endpoints have any.
        qos_controls: Option<Box<QoSControls>>,
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

impl WorkloadEndpointSpec {
    /// The name that an endpoint of this spec has.
    ///
    /// # Errors
    /// A field that goes into the name is missing, or begins or ends with a dash.
    pub fn endpoint_name(&self) -> Result<String, EndpointNameError> {
        let workload = match self.orchestrator.as_str() {
            "k8s" => Workload::Pod(self.pod.clone()),
            "cni" => Workload::Container(self.container_id.clone()),
            "libnetwork" => Workload::Libnetwork,
            orchestrator => {
                Workload::Other { orchestrator: orchestrator.to_owned(), workload: self.workload.clone() }
            }
        };
        WorkloadEndpointName { node: self.node.clone(), workload, endpoint: self.endpoint.clone() }.to_name()
    }
}

impl Rules for WorkloadEndpointSpec {
    fn apply_defaults(object: &mut Object<Self>) {
        if let (true, Ok(name)) = (object.metadata.name.is_empty(), object.spec.endpoint_name()) {
            object.metadata.name = name;
        }
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let spec = &object.spec;
        check_endpoint_name(&object.metadata.name, spec, at);
        let at = at.field("spec");
        if !spec.container_id.is_empty() && !is_container_id(&spec.container_id) {
            let reason = "is not a container: letters, digits and '-', with a letter or digit at both ends";
            at.field("containerID").refuse(&spec.container_id, reason);
        }
        match spec.interface_name.as_str() {
            "" => at.field("interfaceName").refuse_all("is required"),
            name => check_interface(name, &at.field("interfaceName")),
        }
        check_addresses(spec, &at);
        check_profiles(&spec.profiles, &at.field("profiles"));
        for (index, port) in spec.ports.iter().enumerate() {
            check_workload_port(port, &at.field("ports").index(index));
        }
        if let Some(qos) = &spec.qos_controls {
            check_qos(qos, &at.field("qosControls"));
        }
    }
}

fn check_endpoint_name(name: &str, spec: &WorkloadEndpointSpec, at: &Place<'_>) {
    match spec.endpoint_name() {
        Ok(expected) if expected == name => {}
        Ok(expected) => {
            let reason = format!("does not follow from the spec; it has to be {expected:?}");
            at.field("metadata").field("name").refuse(name, reason);
        }
        Err(error) => at.field("spec").refuse_all(format!("makes no name: {error}")),
    }
}

fn check_addresses(spec: &WorkloadEndpointSpec, at: &Place<'_>) {
    for (index, net) in spec.ip_networks.iter().enumerate() {
        if net.prefix_len() != net.interface().max_prefix_len() {
            at.field("ipNetworks")
                .index(index)
                .refuse(net, "is more than one address; write /32, or /128 for IPv6");
        }
    }
    for (index, nat) in spec.ip_nats.iter().enumerate() {
        let at = at.field("ipNATs").index(index);
        if nat.internal_ip.is_ipv6() != nat.external_ip.is_ipv6() {
            let reason = format!("is not of the same IP version as internalIP {}", nat.internal_ip);
            at.field("externalIP").refuse(nat.external_ip, reason);
        }
        if !spec.ip_networks.iter().any(|net| net.addr() == nat.internal_ip) {
            at.field("internalIP").refuse(nat.internal_ip, "is not one of ipNetworks");
        }
    }
}

fn check_workload_port(port: &WorkloadEndpointPort, at: &Place<'_>) {
    match port.name.as_str() {
        "" if port.host_port == 0 => at.field("name").refuse_all("is required unless there is a hostPort"),
        "" => {}
        name => check_port_name(name, &at.field("name")),
    }
    if !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err() {
        at.field("hostIP").refuse(&port.host_ip, "is not an IP address");
    }
    check_endpoint_port(port.protocol, port.port, at);
}
