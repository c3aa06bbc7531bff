//! Finding what users mean by a name or an address.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::endpoint_name::WorkloadEndpointName;
use api::{Kind, Resource, WorkloadEndpoint};
use serde::Serialize;

use super::Cluster;
use crate::contract::WorkloadEndpointId;

/// So many candidates are named in an error.
const SHOWN: usize = 6;

/// An end of a packet's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Place {
    /// A workload endpoint.
    Workload(WorkloadPlace),
    /// A node itself.
    Host(HostPlace),
    /// An address that nothing in the cluster has.
    Outside {
        /// The address.
        address: IpAddr,
    },
}

/// A workload endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPlace {
    /// Namespace.
    pub namespace: String,
    /// The pod's name, or that of another workload.
    pub name: String,
    /// The node that it is on.
    pub node: String,
    /// Its interface on that node.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// As the calculation knows it.
    #[serde(skip)]
    pub id: WorkloadEndpointId,
}

/// A node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPlace {
    /// The node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A service that spreads connections over backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePlace {
    /// `namespace/name`.
    pub name: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Where a connection to one of its ports goes: protocol, the service's port, backend and the backend's port.
    pub backends: Vec<(u8, u16, IpAddr, u16)>,
}

/// What was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// An end.
    Place(Place),
    /// A service.
    Service(ServicePlace),
}

/// Nothing, or more than one thing, is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Nothing.
    #[error(
        "{text:?} is not an address, and no pod, service or node is called so{near}; give an address, [NAMESPACE/]POD, \
         service/[NAMESPACE/]NAME or node/NAME"
    )]
    Unknown {
        /// What was asked for.
        text: String,
        /// What there is instead.
        near: String,
    },
    /// Several.
    #[error("{text:?} may be any of {}; say which", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What it may be.
        candidates: Vec<String>,
    },
    /// A service, where services are not known.
    #[error(
        "service {text:?} is not known: the datastore holds none of its EndpointSlices; apply them, name a pod or an address \
         behind it, or use --file with the Service and its EndpointSlices"
    )]
    NoServices {
        /// What was asked for.
        text: String,
    },
}

impl Place {
    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Workload(workload) => &workload.addresses,
            Self::Host(host) => &host.addresses,
            Self::Outside { address } => std::slice::from_ref(address),
        }
    }

    /// The node that it is on, if it is in the cluster.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Workload(workload) => Some(&workload.node),
            Self::Host(host) => Some(&host.node),
            Self::Outside { .. } => None,
        }
    }
}

/// `pod NAMESPACE/NAME`, `node NAME` or the address.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Workload(workload) => write!(f, "pod {}/{}", workload.namespace, workload.name),
            Self::Host(host) => write!(f, "node {}", host.node),
            Self::Outside { address } => write!(f, "{address} (outside the cluster)"),
        }
    }
}

impl Cluster {
    /// What a user means: an address, `[NAMESPACE/]POD` (or `pod/…`), `service/[NAMESPACE/]NAME` (or `svc/…`), `node/NAME`.
    ///
    /// # Errors
    /// Nothing or more than one thing is called so.
    pub fn find(&self, text: &str) -> Result<Found, FindError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return self.at(text, address);
        }
        let (kind, name) = match text.split_once('/') {
            Some(("pod" | "pods", name)) => ("pod", name),
            Some(("service" | "services" | "svc", name)) => ("service", name),
            Some(("node" | "nodes" | "host", name)) => ("node", name),
            _ => ("", text),
        };
        let mut found = Vec::new();
        if matches!(kind, "" | "pod") {
            found.extend(self.named(name).map(|place| Found::Place(Place::Workload(place))));
        }
        if matches!(kind, "" | "service") {
            found.extend(self.services_named(name).map(Found::Service));
        }
        if matches!(kind, "" | "node") {
            let nodes = self.nodes().filter(|(node, _)| *node == name);
            found.extend(nodes.map(|(node, addresses)| Found::Place(host(node, addresses))));
        }
        if kind == "service" && found.is_empty() && self.services.is_empty() {
            return Err(FindError::NoServices { text: name.to_owned() });
        }
        self.only(text, found)
    }

    /// What has an address.
    fn at(&self, text: &str, address: IpAddr) -> Result<Found, FindError> {
        let is_there = |place: &WorkloadPlace| place.addresses.contains(&address);
        let workloads = self.workloads().filter_map(WorkloadPlace::new).filter(is_there);
        let with_address = |place| Place::Workload(WorkloadPlace { addresses: vec![address], ..place });
        let mut found: Vec<Found> = workloads.map(|place| Found::Place(with_address(place))).collect();
        let services = self.services.keys().filter_map(|key| self.service(key));
        found.extend(services.filter(|service| service.addresses.contains(&address)).map(Found::Service));
        if found.is_empty() {
            let node = self.nodes().find(|(_, addresses)| addresses.contains(&address));
            found.push(Found::Place(match node {
                Some((node, _)) => host(node, vec![address]),
                None => Place::Outside { address },
            }));
        }
        self.only(text, found)
    }

    fn only(&self, text: &str, mut found: Vec<Found>) -> Result<Found, FindError> {
        match found.len() {
            0 => Err(FindError::Unknown { text: text.to_owned(), near: self.near(text) }),
            1 => Ok(found.remove(0)),
            _ => {
                let candidates = found.iter().take(SHOWN).map(Found::name).collect();
                Err(FindError::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }

    /// The pods of the same namespace, or of the same name's beginning.
    fn near(&self, text: &str) -> String {
        let (namespace, name) = text.split_once('/').unwrap_or(("", text));
        let beginning: String = name.chars().take(3).collect();
        let is_near = |place: &WorkloadPlace| {
            if namespace.is_empty() {
                place.name.starts_with(&beginning)
            } else {
                place.namespace == namespace
            }
        };
        let near = self.workloads().filter_map(WorkloadPlace::new).filter(is_near);
        let names: Vec<String> =
            near.take(SHOWN).map(|place| format!("{}/{}", place.namespace, place.name)).collect();
        if names.is_empty() { String::new() } else { format!(" (there are {})", names.join(", ")) }
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = WorkloadPlace> + 'a {
        let (namespace, name) = name.split_once('/').map_or((None, name), |(of, name)| (Some(of), name));
        let wanted = move |endpoint: &&WorkloadEndpoint| {
            let of = endpoint.metadata.namespace.as_deref().unwrap_or_default();
            namespace.is_none_or(|namespace| namespace == of)
                && (workload_name(endpoint) == name || endpoint.metadata.name == name)
        };
        self.workloads().filter(wanted).filter_map(WorkloadPlace::new)
    }

    fn services_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = ServicePlace> + 'a {
        let (namespace, name) = name.split_once('/').map_or((None, name), |(of, name)| (Some(of), name));
        let wanted = self.service_keys().into_iter().filter(move |(of, service)| {
            namespace.is_none_or(|namespace| namespace == of) && service == name
        });
        wanted.filter_map(|key| self.service(&key))
    }

    /// Services by namespace and name: those that are known, and those of which the datastore has endpoints.
    fn service_keys(&self) -> BTreeSet<(String, String)> {
        let stored =
            self.stored_slices().map(|(namespace, spec)| (namespace.to_owned(), spec.service.clone()));
        self.services.keys().cloned().chain(stored).collect()
    }

    fn stored_slices(&self) -> impl Iterator<Item = (&str, &api::KubernetesEndpointSliceSpec)> {
        self.resources(Kind::KubernetesEndpointSlice).filter_map(|resource| match resource {
            Resource::KubernetesEndpointSlice(slice) => {
                Some((slice.metadata.namespace.as_deref()?, &slice.spec))
            }
            _ => None,
        })
    }

    /// A service of which only the endpoints are known: neither its addresses nor its own ports, so that its port is theirs.
    fn stored_service(&self, key: &(String, String)) -> Option<ServicePlace> {
        let slices =
            self.stored_slices().filter(|(namespace, spec)| *namespace == key.0 && spec.service == key.1);
        let backends: Vec<_> = slices
            .flat_map(|(_, spec)| {
                let ports = spec.ports.iter();
                ports.flat_map(|port| {
                    spec.addresses
                        .iter()
                        .map(|address| (port.protocol.number(), port.port, *address, port.port))
                })
            })
            .collect();
        let name = format!("{}/{}", key.0, key.1);
        (!backends.is_empty()).then_some(ServicePlace { name, addresses: Vec::new(), backends })
    }

    fn service(&self, key: &(String, String)) -> Option<ServicePlace> {
        let Some(service) = self.services.get(key) else { return self.stored_service(key) };
        let spec = &service.spec;
        let balancers = service.status.load_balancer.ingress.iter().map(|ingress| &ingress.ip);
        let own = std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips).chain(&spec.external_ips);
        let mut addresses: Vec<IpAddr> = own.chain(balancers).filter_map(|text| text.parse().ok()).collect();
        addresses.dedup();
        let slices = self.kubernetes_slices.iter().filter(|((namespace, _), slice)| {
            *namespace == key.0 && slice.service_name() == Some(key.1.as_str())
        });
        let mut backends = Vec::new();
        for port in &spec.ports {
            for (_, slice) in slices.clone() {
                let target = slice.ports.iter().find(|target| target.name == port.name);
                let Some(number) = target.and_then(|target| target.port) else { continue };
                let ready =
                    slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
                let reached = ready.flat_map(|endpoint| &endpoint.addresses);
                let reached = reached.filter_map(|address| address.parse().ok());
                backends.extend(reached.map(|address| (port.protocol_number(), port.port, address, number)));
            }
        }
        Some(ServicePlace { name: format!("{}/{}", key.0, key.1), addresses, backends })
    }
}

impl Found {
    fn name(&self) -> String {
        match self {
            Self::Place(Place::Workload(workload)) => {
                format!("pod/{}/{}", workload.namespace, workload.name)
            }
            Self::Place(Place::Host(host)) => format!("node/{}", host.node),
            Self::Place(Place::Outside { address }) => address.to_string(),
            Self::Service(service) => format!("service/{}", service.name),
        }
    }
}

impl WorkloadPlace {
    /// Where an endpoint is; `None` without a name.
    pub fn new(endpoint: &WorkloadEndpoint) -> Option<Self> {
        let namespace = endpoint.metadata.namespace.clone()?;
        let spec = &endpoint.spec;
        Some(Self {
            id: crate::workload_id(&namespace, &endpoint.metadata.name, spec),
            namespace,
            name: workload_name(endpoint),
            node: spec.node.clone(),
            interface: spec.interface_name.clone(),
            addresses: spec.ip_networks.iter().map(|net| net.net().addr()).collect(),
        })
    }
}

fn host(node: &str, addresses: Vec<IpAddr>) -> Place {
    Place::Host(HostPlace { node: node.to_owned(), addresses })
}

/// The pod's name, the workload's, or the endpoint's own.
fn workload_name(endpoint: &WorkloadEndpoint) -> String {
    match WorkloadEndpointName::parse(&endpoint.metadata.name) {
        Ok(name) => name.workload.identity().to_owned(),
        Err(_) if !endpoint.spec.pod.is_empty() => endpoint.spec.pod.clone(),
        Err(_) => endpoint.metadata.name.clone(),
    }
}
