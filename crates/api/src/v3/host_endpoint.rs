use std::net::IpAddr;

use super::object;
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
