use std::net::IpAddr;

use super::object;
use crate::rules::{Place, Rules, check_interface, check_port_name, check_subdomain};
use crate::scalars::Protocol;
use crate::{Kind, NoStatus, Object, Spec};

/// A host's own interface as a policy endpoint.
pub type HostEndpoint = Object<HostEndpointSpec>;

object! {
    /// `spec` of a [`HostEndpoint`].
    #[derive(Default)]
    pub struct HostEndpointSpec {
        /// The host.
        node: String,
        /// The interface, or `*` for all of the host; if empty, the one that holds an expected address.
        interface_name: String,
        /// Addresses of the interface; others' selectors match these.
        #[serde(rename = "expectedIPs")]
        expected_ips: Vec<IpAddr>,
        /// Profiles, in order.
        profiles: Vec<String>,
        /// Ports that rules can name.
        ports: Vec<EndpointPort>,
    }
}

object! {
    /// A port of an endpoint that rules can name.
    #[derive(Eq)]
    pub struct EndpointPort {
        /// Its name.
        name: String,
        /// TCP, UDP or SCTP.
        protocol: Protocol = required,
        /// 1..65535.
        port: u16 = required,
    }
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
    type Status = NoStatus;
}

/// `interfaceName` for all interfaces of the host.
pub const ALL_INTERFACES: &str = "*";

/// The label of host endpoints that follow from KubeControllersConfiguration, and its value.
pub const CREATED_BY_LABEL: (&str, &str) = ("projectcalico.org/created-by", "calico-kube-controllers");

impl HostEndpoint {
    /// Whether it was made because KubeControllersConfiguration asks for it.
    pub fn is_automatic(&self) -> bool {
        let (name, value) = CREATED_BY_LABEL;
        self.metadata.labels.get(name).is_some_and(|by| by == value)
    }
}

impl Rules for HostEndpointSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        if spec.node.is_empty() {
            at.field("node").refuse_all("is required");
        }
        match spec.interface_name.as_str() {
            "" if spec.expected_ips.is_empty() => {
                at.field("interfaceName").refuse_all("is required, or expectedIPs");
            }
            "" | ALL_INTERFACES => {}
            name => check_interface(name, &at.field("interfaceName")),
        }
        check_profiles(&spec.profiles, &at.field("profiles"));
        for (index, port) in spec.ports.iter().enumerate() {
            let at = at.field("ports").index(index);
            check_port_name(&port.name, &at.field("name"));
            check_endpoint_port(port.protocol, port.port, &at);
        }
    }
}

/// Checks the names of an endpoint's profiles.
pub(crate) fn check_profiles(profiles: &[String], at: &Place<'_>) {
    for (index, name) in profiles.iter().enumerate() {
        check_subdomain(name, &at.index(index));
    }
}

/// Checks protocol and number of an endpoint's port.
pub(crate) fn check_endpoint_port(protocol: Protocol, port: u16, at: &Place<'_>) {
    if !protocol.has_ports() {
        at.field("protocol").refuse(protocol, "has no ports; only TCP, UDP and SCTP have");
    }
    if port == 0 {
        at.field("port").refuse(port, "is not a port: 1..65535");
    }
}
