use std::net::{Ipv4Addr, Ipv6Addr};

use super::object;
use crate::scalars::{AsNumber, MacAddress, Net, words};
use crate::{Kind, Object, Spec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::rules::{Place, Rules};

/// A host.
pub type Node = Object<NodeSpec>;

object! {
    /// `spec` of a [`Node`].
    #[derive(Default)]
    pub struct NodeSpec {
        /// What BGP needs to know; the node takes no part in BGP without it.
        bgp: Option<NodeBGPSpec>,
        /// Address of the IPv4 VXLAN device.
        #[serde(rename = "ipv4VXLANTunnelAddr")]
        ipv4_vxlan_tunnel_addr: Option<Ipv4Addr>,
        /// Link-layer address of the IPv4 VXLAN device.
        #[serde(rename = "vxlanTunnelMACAddr")]
        vxlan_tunnel_mac_addr: Option<MacAddress>,
        /// Address of the IPv6 VXLAN device.
        #[serde(rename = "ipv6VXLANTunnelAddr")]
        ipv6_vxlan_tunnel_addr: Option<Ipv6Addr>,
        /// Link-layer address of the IPv6 VXLAN device.
        #[serde(rename = "vxlanTunnelMACAddrV6")]
        vxlan_tunnel_mac_addr_v6: Option<MacAddress>,
        /// What orchestrators call the node.
        orch_refs: Vec<OrchRef>,
        /// Addresses of its WireGuard devices.
        wireguard: Option<NodeWireguardSpec>,
        /// Its addresses.
        addresses: Vec<NodeAddress>,
        /// Its interfaces, for host endpoints made from templates.
        interfaces: Vec<NodeInterface>,
    }
}

object! {
    /// A node's part in BGP. At least one field is there.
    #[derive(Default, Eq)]
    pub struct NodeBGPSpec {
        /// Its AS; that of the BGP configuration if absent.
        as_number: Option<AsNumber>,
        /// Its IPv4 address with the subnet's prefix length.
        #[serde(rename = "ipv4Address")]
        ipv4_address: Option<Net>,
        /// Its IPv6 address with the subnet's prefix length.
        #[serde(rename = "ipv6Address")]
        ipv6_address: Option<Net>,
        /// Address of the IP-in-IP device.
        #[serde(rename = "ipv4IPIPTunnelAddr")]
        ipv4_ipip_tunnel_addr: Option<Ipv4Addr>,
        /// Makes it a route reflector of this cluster (RFC 4456).
        #[serde(rename = "routeReflectorClusterID")]
        route_reflector_cluster_id: Option<Ipv4Addr>,
    }
}

object! {
    /// What an orchestrator calls the node.
    #[derive(Default, Eq)]
    pub struct OrchRef {
        /// Its name there.
        node_name: String,
        /// The orchestrator, such as `k8s`.
        orchestrator: String,
    }
}

object! {
    /// Addresses of the WireGuard devices.
    #[derive(Default, Eq)]
    pub struct NodeWireguardSpec {
        /// Of the IPv4 device.
        #[serde(rename = "interfaceIPv4Address")]
        interface_ipv4_address: Option<Ipv4Addr>,
        /// Of the IPv6 device.
        #[serde(rename = "interfaceIPv6Address")]
        interface_ipv6_address: Option<Ipv6Addr>,
    }
}

object! {
    /// An address of a node.
    #[derive(Eq)]
    pub struct NodeAddress {
        /// Address, with or without prefix length.
        address: Net = required,
        /// What sort.
        #[serde(rename = "type")]
        address_type: Option<NodeAddressType>,
    }
}

words! {
    /// What sort of address.
    NodeAddressType {
        /// The one that the node agent uses.
        CalicoNodeIP = "CalicoNodeIP",
        /// Reached from inside the cluster.
        InternalIP = "InternalIP",
        /// Reached from outside.
        ExternalIP = "ExternalIP",
    }
}

object! {
    /// An interface of a node.
    #[derive(Default, Eq)]
    pub struct NodeInterface {
        /// Its name.
        name: String,
        /// Its addresses.
        addresses: Vec<String>,
    }
}

object! {
    /// `status` of a [`Node`].
    #[derive(Default, Eq)]
    pub struct NodeStatus {
        /// Public key of the IPv4 WireGuard device, base64.
        wireguard_public_key: String,
        /// Public key of the IPv6 WireGuard device, base64.
        #[serde(rename = "wireguardPublicKeyV6")]
        wireguard_public_key_v6: String,
        /// What Kubernetes gave the node for its pods.
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
    }
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;
}

/// Length of a WireGuard key, in bytes.
const WIREGUARD_KEY: usize = 32;

impl Rules for NodeSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let spec = at.field("spec");
        if let Some(bgp) = &object.spec.bgp {
            check_bgp(bgp, &spec.field("bgp"));
        }
        for (index, reference) in object.spec.orch_refs.iter().enumerate() {
            if reference.orchestrator.is_empty() {
                spec.field("orchRefs").index(index).field("orchestrator").refuse_all("is required");
            }
        }
        check_interfaces(&object.spec.interfaces, &spec.field("interfaces"));
        if let Some(status) = &object.status {
            let at = at.field("status");
            check_wireguard_key(&status.wireguard_public_key, &at.field("wireguardPublicKey"));
            check_wireguard_key(&status.wireguard_public_key_v6, &at.field("wireguardPublicKeyV6"));
        }
    }
}

fn check_bgp(bgp: &NodeBGPSpec, at: &Place<'_>) {
    if *bgp == NodeBGPSpec::default() {
        at.refuse_all("is empty; leave it out, or give the node an address");
    }
    if let Some(address) = bgp.ipv4_address.filter(Net::is_ipv6) {
        at.field("ipv4Address").refuse(address, "is not IPv4");
    }
    if let Some(address) = bgp.ipv6_address.filter(|address| !address.is_ipv6()) {
        at.field("ipv6Address").refuse(address, "is not IPv6");
    }
}

fn check_interfaces(interfaces: &[NodeInterface], at: &Place<'_>) {
    for (index, interface) in interfaces.iter().enumerate() {
        let at = at.index(index);
        if interface.name.is_empty() {
            at.field("name").refuse_all("is required");
        }
        for (index, address) in interface.addresses.iter().enumerate() {
            if address.parse::<Net>().is_err() {
                at.field("addresses").index(index).refuse(address, "is not an IP address");
            }
        }
    }
}

fn check_wireguard_key(key: &str, at: &Place<'_>) {
    let is_key = STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == WIREGUARD_KEY);
    if !key.is_empty() && !is_key {
        at.refuse(key, format!("is not a WireGuard key: {WIREGUARD_KEY} bytes in base64"));
    }
}
