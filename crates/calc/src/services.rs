//! Endpoint slices, for rules that name a Kubernetes Service.
//!
//! The embedded datastore holds those that users apply; a Kubernetes datastore hands them in beside its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::contract::IpSetMember;

/// One EndpointSlice (discovery.k8s.io/v1), reduced to what policy needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name of its Service, from the label `kubernetes.io/service-name`; same namespace as the slice.
    pub service: String,
    /// Addresses of all its endpoints.
    pub addresses: Vec<IpAddr>,
    /// Its ports: IP protocol number (6, 17 or 132) and port.
    pub ports: Vec<(u8, u16)>,
}

impl EndpointSlice {
    /// What policy needs of a row.
    pub(crate) fn from_resource(spec: &api::KubernetesEndpointSliceSpec) -> Self {
        Self {
            service: spec.service.clone(),
            addresses: spec.addresses.clone(),
            ports: spec.ports.iter().map(|port| (port.protocol.number(), port.port)).collect(),
        }
    }

    /// What policy needs of a Kubernetes object; `None` if it belongs to no Service. Addresses that are host names, and
    /// ports that stand for all ports, are left out: no set can hold them.
    pub fn from_kubernetes(slice: &api::kubernetes::EndpointSlice) -> Option<Self> {
        let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let ports = slice.ports.iter().filter_map(|port| {
            let protocol = match port.protocol.as_deref() {
                Some("TCP") | None => 6,
                Some("UDP") => 17,
                Some("SCTP") => 132,
                Some(_) => return None,
            };
            Some((protocol, port.port?))
        });
        Some(Self {
            service: slice.service_name()?.to_owned(),
            addresses: addresses.filter_map(|address| address.parse().ok()).collect(),
            ports: ports.collect(),
        })
    }
}

/// Namespace and name.
pub(crate) type SliceKey = (String, String);

/// Slices by key and by service (`namespace/name`).
#[derive(Debug, Default)]
pub(crate) struct Slices {
    slices: BTreeMap<SliceKey, (Arc<str>, EndpointSlice)>,
    by_service: BTreeMap<Arc<str>, BTreeSet<SliceKey>>,
}

impl Slices {
    /// Replaces a slice; returns the old and the new one, each with its service.
    pub(crate) fn set(
        &mut self,
        key: SliceKey,
        slice: Option<EndpointSlice>,
    ) -> [Option<(Arc<str>, EndpointSlice)>; 2] {
        let old = self.slices.remove(&key);
        if let Some((service, _)) = &old {
            self.forget(service.clone(), &key);
        }
        let new = slice.map(|slice| (Arc::<str>::from(format!("{}/{}", key.0, slice.service)), slice));
        if let Some((service, slice)) = &new {
            self.by_service.entry(service.clone()).or_default().insert(key.clone());
            self.slices.insert(key, (service.clone(), slice.clone()));
        }
        [old, new]
    }

    /// The slices of a service.
    pub(crate) fn of(&self, service: &str) -> impl Iterator<Item = &EndpointSlice> {
        let keys = self.by_service.get(service).into_iter().flatten();
        keys.filter_map(|key| self.slices.get(key)).map(|(_, slice)| slice)
    }

    pub(crate) fn size(&self) -> usize {
        self.slices.len() + self.by_service.len()
    }

    fn forget(&mut self, service: Arc<str>, key: &SliceKey) {
        if let Some(keys) = self.by_service.get_mut(&service) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_service.remove(&service);
            }
        }
    }
}

impl EndpointSlice {
    /// What it contributes to the set of its service: addresses with each port, or addresses alone.
    pub(crate) fn members(&self, with_ports: bool) -> BTreeSet<IpSetMember> {
        let nets = self.addresses.iter().map(|address| ipnet::IpNet::from(*address));
        if !with_ports {
            return nets.map(IpSetMember::Net).collect();
        }
        let with_port = |net| {
            let ports = self.ports.iter();
            ports.map(move |(protocol, port)| IpSetMember::NetPort { net, protocol: *protocol, port: *port })
        };
        nets.flat_map(with_port).collect()
    }
}
