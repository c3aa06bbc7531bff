//! From rows to the facts that the parts of the graph work with.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::endpoint_name::WorkloadEndpointName;
use api::scalars::{Dscp, Net, Protocol};
use api::{
    BGPConfigurationSpec, EncapsulationMode, HostEndpointSpec, IPPoolSpec, NodeSpec, QoSControls, TierSpec,
    WorkloadEndpointSpec,
};
use ipnet::IpNet;

use crate::contract::{
    Bandwidth, EncapMode, HostEndpoint, Limits, PacketRate, Pool, ProfileId, Qos, TierDefault, TunnelKind,
    WorkloadEndpoint, WorkloadEndpointId,
};
use crate::ip_sets::{Item, NamedPort};
use crate::policies::TierFact;
use crate::routes::NodeFact;

/// Name of a kind's configuration for all nodes.
pub(crate) const GLOBAL_CONFIGURATION: &str = "default";
/// The label that everything in a namespace has.
pub(crate) const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// A service account's name goes into a label only below this length (resources.md 7.3).
const MAX_LABEL_VALUE: usize = 63;

/// The labels of a workload endpoint: its own, and those that Calico gives to each.
pub(crate) fn workload_labels<'a>(
    endpoint: &'a api::WorkloadEndpoint,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let spec = &endpoint.spec;
    let account = spec.service_account_name.as_str();
    let implied = [
        (ORCHESTRATOR_LABEL, spec.orchestrator.as_str()),
        (SERVICE_ACCOUNT_LABEL, if account.len() < MAX_LABEL_VALUE { account } else { "" }),
    ];
    let own = &endpoint.metadata.labels;
    let implied = implied.into_iter().filter(|(name, value)| !value.is_empty() && !own.contains_key(*name));
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    own.chain(implied).chain([(NAMESPACE_LABEL, namespace)])
}

/// What a workload endpoint contributes to IP sets.
pub(crate) fn workload_item(spec: &WorkloadEndpointSpec) -> Item {
    let ports = spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port));
    Item { node: Some(spec.node.as_str().into()), ..Item::new(nets(&spec.ip_networks), named_ports(ports)) }
}

/// What a host endpoint contributes to IP sets.
pub(crate) fn host_item(spec: &HostEndpointSpec) -> Item {
    let ports = spec.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port));
    Item::new(spec.expected_ips.iter().copied().map(IpNet::from), named_ports(ports))
}

/// What a network set contributes to IP sets.
pub(crate) fn network_set_item(networks: &[Net]) -> Item {
    Item::new(nets(networks), BTreeSet::new())
}

/// The identity that the dataplane knows a workload endpoint by: the parts of its name. One whose name has no parts is
/// known by the whole of it.
pub fn workload_id(namespace: &str, name: &str, spec: &WorkloadEndpointSpec) -> WorkloadEndpointId {
    let id = |orchestrator: &str, workload: &str, endpoint: &str| WorkloadEndpointId {
        orchestrator: orchestrator.into(),
        workload: format!("{namespace}/{workload}").into(),
        endpoint: endpoint.into(),
    };
    match WorkloadEndpointName::parse(name) {
        Ok(name) => id(name.workload.orchestrator(), name.workload.identity(), &name.endpoint),
        Err(_) => id(&spec.orchestrator, name, &spec.endpoint),
    }
}

/// A local workload endpoint; its tiers are filled in later.
pub(crate) fn workload_endpoint(spec: &WorkloadEndpointSpec) -> WorkloadEndpoint {
    let (ipv4_nets, ipv6_nets) = nets(&spec.ip_networks).partition(|net| net.addr().is_ipv4());
    WorkloadEndpoint {
        active: true,
        interface: spec.interface_name.as_str().into(),
        mac: spec.mac.map(|mac| mac.0),
        ipv4_nets,
        ipv6_nets,
        tiers: Vec::new(),
        profiles: profile_ids(&spec.profiles),
        allow_spoofed_source_prefixes: nets(&spec.allow_spoofed_source_prefixes).collect(),
        qos: spec.qos_controls.as_deref().map(qos).unwrap_or_default(),
    }
}

/// Limits of an endpoint. Numbers that validation would have refused are none.
fn qos(controls: &QoSControls) -> Qos {
    let ingress = Limits {
        bandwidth: bandwidth(
            controls.ingress_bandwidth,
            controls.ingress_burst,
            controls.ingress_peakrate,
            controls.ingress_minburst,
        ),
        packets: packet_rate(controls.ingress_packet_rate, controls.ingress_packet_burst),
        max_connections: positive(controls.ingress_max_connections),
    };
    let egress = Limits {
        bandwidth: bandwidth(
            controls.egress_bandwidth,
            controls.egress_burst,
            controls.egress_peakrate,
            controls.egress_minburst,
        ),
        packets: packet_rate(controls.egress_packet_rate, controls.egress_packet_burst),
        max_connections: positive(controls.egress_max_connections),
    };
    Qos { ingress, egress, dscp: controls.dscp.map(Dscp::code_point) }
}

fn bandwidth(
    rate: Option<i64>,
    burst: Option<i64>,
    peak: Option<i64>,
    minburst: Option<i64>,
) -> Option<Bandwidth> {
    let rate = positive(rate)?;
    let burst = positive(burst).or(positive(Some(api::DEFAULT_BURST)))?;
    let peak = positive(peak).filter(|peak| *peak > rate);
    Some(Bandwidth { rate, burst, peak, peak_burst: positive(minburst) })
}

fn packet_rate(rate: Option<i64>, burst: Option<i64>) -> Option<PacketRate> {
    let burst = positive(burst).or(positive(Some(api::DEFAULT_PACKET_BURST)))?;
    Some(PacketRate { rate: positive(rate)?, burst })
}

fn positive<T: TryFrom<i64>>(number: Option<i64>) -> Option<T> {
    number.filter(|number| *number > 0).and_then(|number| T::try_from(number).ok())
}

/// A local host endpoint; its tiers are filled in later.
pub(crate) fn host_endpoint(spec: &HostEndpointSpec) -> HostEndpoint {
    let interface = Some(spec.interface_name.as_str()).filter(|name| !name.is_empty());
    HostEndpoint {
        interface: interface.map(Arc::from),
        expected_ips: spec.expected_ips.clone(),
        tiers: Vec::new(),
        untracked_tiers: Vec::new(),
        pre_dnat_tiers: Vec::new(),
        forward_tiers: Vec::new(),
        profiles: profile_ids(&spec.profiles),
    }
}

/// A tier's order and end.
pub(crate) fn tier(spec: &TierSpec) -> TierFact {
    let default_action = match spec.default_action.unwrap_or_default() {
        api::TierDefaultAction::Deny => TierDefault::Deny,
        api::TierDefaultAction::Pass => TierDefault::Pass,
    };
    TierFact { order: spec.order, default_action }
}

/// A pool's CIDR and what else counts of it.
pub(crate) fn pool(spec: &IPPoolSpec) -> (IpNet, Pool) {
    let mode = |mode: Option<EncapsulationMode>| match mode.unwrap_or_default() {
        EncapsulationMode::Never => EncapMode::Never,
        EncapsulationMode::Always => EncapMode::Always,
        EncapsulationMode::CrossSubnet => EncapMode::CrossSubnet,
    };
    let (ipip, vxlan) = (mode(spec.ipip_mode), mode(spec.vxlan_mode));
    (spec.cidr.net(), Pool { ipip, vxlan, nat_outgoing: spec.nat_outgoing })
}

/// The networks that the addresses of Services are in.
pub(crate) fn service_networks(spec: &BGPConfigurationSpec) -> BTreeSet<IpNet> {
    let lists = [&spec.service_cluster_ips, &spec.service_external_ips, &spec.service_load_balancer_ips];
    lists.into_iter().flatten().map(|block| block.cidr.net()).collect()
}

/// A node's addresses.
pub(crate) fn node(spec: &NodeSpec) -> NodeFact {
    let bgp = spec.bgp.as_ref();
    let interfaces = bgp.map(|bgp| [bgp.ipv4_address, bgp.ipv6_address]).unwrap_or_default();
    let interfaces: Vec<IpNet> = interfaces.into_iter().flatten().map(|net| net.interface()).collect();
    let others = spec.addresses.iter().map(|address| address.address.addr());
    let wireguard = spec.wireguard.as_ref();
    let tunnels = [
        (TunnelKind::Ipip, bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr).map(IpAddr::V4)),
        (TunnelKind::Vxlan, spec.ipv4_vxlan_tunnel_addr.map(IpAddr::V4)),
        (TunnelKind::Vxlan, spec.ipv6_vxlan_tunnel_addr.map(IpAddr::V6)),
        (TunnelKind::Wireguard, wireguard.and_then(|of| of.interface_ipv4_address).map(IpAddr::V4)),
        (TunnelKind::Wireguard, wireguard.and_then(|of| of.interface_ipv6_address).map(IpAddr::V6)),
    ];
    NodeFact {
        addresses: interfaces.iter().map(IpNet::addr).chain(others).collect(),
        bgp: interfaces,
        tunnels: tunnels.into_iter().filter_map(|(kind, address)| Some((kind, address?))).collect(),
    }
}

fn nets(nets: &[Net]) -> impl Iterator<Item = IpNet> {
    nets.iter().map(Net::net)
}

fn named_ports<'a>(ports: impl Iterator<Item = (&'a str, Protocol, u16)>) -> BTreeSet<NamedPort> {
    let named = ports.filter(|(name, ..)| !name.is_empty());
    named
        .map(|(name, protocol, port)| NamedPort { name: name.into(), protocol: protocol.number(), port })
        .collect()
}

fn profile_ids(names: &[String]) -> Vec<ProfileId> {
    names.iter().map(|name| ProfileId(name.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workloads_identity_comes_from_its_name() {
        let spec = WorkloadEndpointSpec::default();
        let id = workload_id("ns", "n--1-k8s-a--b-eth0", &spec);
        assert_eq!(id.to_string(), "k8s/ns/a-b/eth0");
        assert_eq!(workload_id("ns", "odd", &spec).to_string(), "/ns/odd/");
    }

    #[test]
    fn limits_have_defaults_and_nonsense_limits_nothing() {
        let spec = |controls: serde_json::Value| {
            let controls = serde_json::from_value(controls).unwrap();
            let spec = WorkloadEndpointSpec { qos_controls: Some(Box::new(controls)), ..Default::default() };
            workload_endpoint(&spec).qos
        };
        let qos = spec(serde_json::json!({
            "ingressBandwidth": 1_000_000, "egressBandwidth": 2_000_000, "egressBurst": 8000,
            "egressPeakrate": 4_000_000, "egressMinburst": 1514, "ingressPacketRate": 10,
            "egressMaxConnections": 3, "dscp": "EF",
        }));
        let bandwidth = Bandwidth { rate: 1_000_000, burst: 4_294_967_296, peak: None, peak_burst: None };
        let packets = PacketRate { rate: 10, burst: 5 };
        let ingress = Limits { bandwidth: Some(bandwidth), packets: Some(packets), max_connections: None };
        assert_eq!(qos.ingress, ingress);
        let bandwidth =
            Bandwidth { rate: 2_000_000, burst: 8000, peak: Some(4_000_000), peak_burst: Some(1514) };
        let egress = Limits { bandwidth: Some(bandwidth), packets: None, max_connections: Some(3) };
        assert_eq!((qos.egress, qos.dscp), (egress, Some(46)));
        let nonsense = serde_json::json!({
            "ingressBandwidth": -1, "egressPacketRate": 0, "egressMaxConnections": 1_i64 << 40,
        });
        assert_eq!(spec(nonsense), Qos::default());
    }
}
