use std::net::IpAddr;

use super::host_endpoint::check_endpoint_port;
use super::object;
use crate::rules::{Place, Rules, check_subdomain};
use crate::scalars::Protocol;
use crate::{Kind, NoStatus, Object, Spec};

/// Some of the endpoints of a Service: what a rule that names the Service stands for. Kept for a Kubernetes `EndpointSlice`.
pub type KubernetesEndpointSlice = Object<KubernetesEndpointSliceSpec>;

object! {
    /// `spec` of a [`KubernetesEndpointSlice`].
    #[derive(Default, Eq)]
    pub struct KubernetesEndpointSliceSpec {
        /// The Service, in the same namespace.
        service: String,
        /// The addresses of its endpoints.
        addresses: Vec<IpAddr>,
        /// The ports that all of them serve.
        ports: Vec<EndpointSlicePort>,
    }
}

object! {
    /// A port of a service's endpoints.
    #[derive(Eq)]
    pub struct EndpointSlicePort {
        /// TCP, UDP or SCTP.
        protocol: Protocol = required,
        /// 1..65535.
        port: u16 = required,
    }
}

impl Spec for KubernetesEndpointSliceSpec {
    const KIND: Kind = Kind::KubernetesEndpointSlice;
    type Status = NoStatus;
}

impl Rules for KubernetesEndpointSliceSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let at = at.field("spec");
        check_subdomain(&object.spec.service, &at.field("service"));
        for (index, port) in object.spec.ports.iter().enumerate() {
            check_endpoint_port(port.protocol, port.port, &at.field("ports").index(index));
        }
    }
}
