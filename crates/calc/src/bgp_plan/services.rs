//! Which addresses of Kubernetes Services this node announces (control-plane.md 3.5).
//!
//! Datastores without Kubernetes objects have no Services: then only the configured ranges are announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::kubernetes;
use api::{BGPConfigurationSpec, ServiceIPBlock, ServiceLoadBalancerAggregation};
use ipnet::IpNet;

/// Nodes with this label, set to `true`, announce no services.
pub(super) const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Namespace and name of an object.
type Name = (String, String);

/// A Service, reduced to the addresses that may be announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its cluster IPs; none for a headless one.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// `externalIPs`.
    pub external_ips: BTreeSet<IpAddr>,
    /// The addresses of its load balancer.
    pub load_balancer_ips: BTreeSet<IpAddr>,
    /// Traffic from outside goes to endpoints of the node that it arrives at (`externalTrafficPolicy: Local`).
    pub is_local: bool,
}

impl Service {
    /// What counts of a Kubernetes Service; `None`: it has no addresses that could be announced.
    pub fn from_kubernetes(service: &kubernetes::Service) -> Option<Self> {
        let spec = &service.spec;
        let is_load_balancer = spec.kind == "LoadBalancer";
        if !matches!(spec.kind.as_str(), "" | "ClusterIP" | "NodePort" | "LoadBalancer") {
            return None;
        }
        let addresses = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect();
        let mut cluster_ips: BTreeSet<IpAddr> = addresses(&spec.cluster_ips);
        cluster_ips.extend(spec.cluster_ip.parse::<IpAddr>().ok());
        if cluster_ips.is_empty() {
            return None;
        }
        let ingress = service.status.load_balancer.ingress.iter().filter(|_| is_load_balancer);
        Some(Self {
            cluster_ips,
            external_ips: addresses(&spec.external_ips),
            load_balancer_ips: ingress.filter_map(|ingress| ingress.ip.parse().ok()).collect(),
            is_local: spec.external_traffic_policy == "Local",
        })
    }
}

/// The nodes that have ready endpoints of a Service: one EndpointSlice, or all Endpoints, of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoints {
    /// The Service, in the same namespace.
    pub service: String,
    /// The nodes of its ready endpoints; none stands for an endpoint that is on no node.
    pub nodes: BTreeSet<Option<String>>,
}

impl ServiceEndpoints {
    /// What counts of an EndpointSlice; `None`: it belongs to no Service.
    pub fn from_kubernetes(slice: &kubernetes::EndpointSlice) -> Option<Self> {
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        let ready = ready.filter(|endpoint| !endpoint.addresses.is_empty());
        let node = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Some(Self {
            service: slice.service_name()?.to_owned(),
            nodes: ready.map(|endpoint| node(&endpoint.node_name)).collect(),
        })
    }
}

/// The Services that are known.
#[derive(Debug, Default, Clone)]
pub(super) struct Services {
    pub(super) services: BTreeMap<Name, Service>,
    pub(super) endpoints: BTreeMap<Name, ServiceEndpoints>,
}

/// The ranges of service addresses that may be announced.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges {
    pub(super) cluster: Vec<IpNet>,
    pub(super) external: Vec<IpNet>,
    pub(super) load_balancer: Vec<IpNet>,
    /// Load balancers' ranges are announced whole.
    pub(super) is_aggregated: bool,
}

impl Ranges {
    /// As configured; `cluster_default` in place of cluster ranges where there are none.
    pub(super) fn of(spec: Option<&BGPConfigurationSpec>, cluster_default: &[IpNet]) -> Self {
        let nets = |blocks: &[ServiceIPBlock]| blocks.iter().map(|block| block.cidr.net().trunc()).collect();
        let Some(spec) = spec else {
            return Self { cluster: cluster_default.to_vec(), is_aggregated: true, ..Self::default() };
        };
        let cluster = match spec.service_cluster_ips.is_empty() {
            true => cluster_default.to_vec(),
            false => nets(&spec.service_cluster_ips),
        };
        let aggregation = spec.service_load_balancer_aggregation.unwrap_or_default();
        Self {
            cluster,
            external: nets(&spec.service_external_ips),
            load_balancer: nets(&spec.service_load_balancer_ips),
            is_aggregated: aggregation == ServiceLoadBalancerAggregation::Enabled,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.cluster.iter().chain(&self.external).chain(&self.load_balancer).copied()
    }

    /// Those of external and load balancers' addresses.
    pub(super) fn outside(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.external.iter().chain(&self.load_balancer).copied()
    }

    /// Ranges that every node announces. A single external or load balancer's address is announced for the service that has
    /// it.
    fn whole(&self) -> impl Iterator<Item = IpNet> + '_ {
        let balanced = self.load_balancer.iter().filter(|_| self.is_aggregated);
        let outside = self.external.iter().chain(balanced).filter(|net| !is_single(net));
        self.cluster.iter().chain(outside).copied()
    }
}

impl Services {
    /// What a node announces of services.
    pub(super) fn originated(&self, node: &str, ranges: &Ranges) -> BTreeSet<IpNet> {
        let addresses = self.services.iter().flat_map(|(name, service)| {
            let nodes: BTreeSet<&Option<String>> = self.nodes_of(name).collect();
            let is_here = nodes.iter().any(|here| here.as_deref() == Some(node));
            addresses(service, ranges, is_here, !nodes.is_empty())
        });
        ranges.whole().chain(addresses.map(IpNet::from)).collect()
    }

    fn nodes_of(&self, (namespace, name): &Name) -> impl Iterator<Item = &Option<String>> {
        let slices = self
            .endpoints
            .iter()
            .filter(move |((other, _), endpoints)| other == namespace && endpoints.service == *name);
        slices.flat_map(|(_, endpoints)| &endpoints.nodes)
    }
}

/// The single addresses of a service that a node announces: `is_here`, it has a ready endpoint; `is_anywhere`, a node has.
fn addresses(service: &Service, ranges: &Ranges, is_here: bool, is_anywhere: bool) -> BTreeSet<IpAddr> {
    let in_any = |nets: &[IpNet], address: &IpAddr| nets.iter().any(|net| net.contains(address));
    let external = service.external_ips.iter().filter(|address| in_any(&ranges.external, address));
    let balanced = service.load_balancer_ips.iter().filter(|address| in_any(&ranges.load_balancer, address));
    if service.is_local {
        let cluster = service.cluster_ips.iter().filter(|_| !ranges.cluster.is_empty());
        return cluster.chain(external).chain(balanced).copied().filter(|_| is_here).collect();
    }
    let is_range = |nets: &[IpNet], address: &IpAddr| nets.contains(&IpNet::from(*address));
    let single = external.filter(|address| is_range(&ranges.external, address));
    let balanced = balanced
        .filter(|address| is_range(&ranges.load_balancer, address) || !ranges.is_aggregated && is_anywhere);
    single.chain(balanced).copied().collect()
}

fn is_single(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}
