//! The route that a packet takes, and what is translated.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::cluster::{NodeModel, Place};
use crate::contract::RouteType;

/// How a packet gets where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// The node that sends it on.
    pub node: String,
    /// The most specific destination that is known: a workload, block, pool or host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpNet>,
    /// What that is.
    pub kind: String,
    /// The node that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_node: Option<String>,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface, where it is known without asking the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// `10.65.1.0/26 (block or workload of node-2) via 172.30.0.2`.
impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.destination {
            Some(destination) => write!(f, "{destination} ({})", self.kind)?,
            None => f.write_str(&self.kind)?,
        }
        if let Some(node) = &self.to_node {
            write!(f, " on {node}")?;
        }
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " dev {interface}")?;
        }
        Ok(())
    }
}

/// A translation of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Translation {
    /// Where: a node, or what does it.
    pub at: String,
    /// What, and why.
    pub what: String,
    /// The new source, where it is one and known.
    #[serde(skip)]
    pub source: Option<IpAddr>,
}

/// How a node sends a packet on.
pub(super) fn way(model: &NodeModel, node: &str, to: &Place, destination: IpAddr) -> Way {
    let way = |net, kind: &str| Way {
        node: node.to_owned(),
        destination: net,
        kind: kind.to_owned(),
        to_node: None,
        via: None,
        interface: None,
    };
    if let Place::Workload(workload) = to
        && workload.node == node
    {
        let interface = Some(workload.interface.clone());
        return Way { interface, ..way(Some(destination.into()), "a workload of this node") };
    }
    let Some((net, route)) = model.route_to(destination) else {
        return way(None, "the host's own routes: no pool, block or node of the cluster has the address");
    };
    let on_node = |kind| Way {
        to_node: route.node.as_deref().map(str::to_owned),
        via: route.node_address,
        ..way(Some(net), kind)
    };
    let is = |kind| route.types.contains(&kind);
    match () {
        () if is(RouteType::LocalHost) => way(Some(net), "this node's own address"),
        () if is(RouteType::RemoteHost) => on_node("another node's own address"),
        () if is(RouteType::RemoteTunnel) || is(RouteType::LocalTunnel) => on_node("a tunnel's address"),
        () if is(RouteType::RemoteWorkload) => on_node("a block or workload"),
        () if is(RouteType::LocalWorkload) => way(
            Some(net),
            "a block of this node, in which no workload has the address: the packet is dropped (blackhole)",
        ),
        () => way(Some(net), "a pool, of which no node has a block with the address"),
    }
}

/// What the sender's node makes of the source of what leaves it (`natOutgoing` of pools).
pub(super) fn outgoing(
    model: &NodeModel,
    node: &str,
    source: IpAddr,
    destination: IpAddr,
) -> Option<Translation> {
    let (pool, _) = model.pool_of(source)?;
    let any_pool = |address: IpAddr| model.pool_of(address).is_some();
    let is_host = || model.nodes.values().any(|addresses| addresses.contains(&destination));
    let excludes_hosts = model
        .parameter("NATOutgoingExclusions")
        .is_some_and(|it| it.eq_ignore_ascii_case("IPPoolsAndHostIPs"));
    let masqueraded = model.pools.iter().any(|(cidr, pool)| pool.nat_outgoing && cidr.contains(&source));
    if !masqueraded || any_pool(destination) {
        return None;
    }
    if excludes_hosts && is_host() {
        return None;
    }
    let own = model.nodes.get(node).into_iter().flatten().copied();
    let address = own.into_iter().find(|address| address.is_ipv4() == source.is_ipv4());
    let set = model.parameter("NATOutgoingAddress").and_then(|text| text.parse().ok());
    let new = set.filter(|it: &IpAddr| it.is_ipv4() == source.is_ipv4()).or(address);
    let text = new.map_or_else(|| "the outgoing interface's address".to_owned(), |it| it.to_string());
    Some(Translation {
        at: format!("node {node}"),
        what: format!(
            "the source {source} becomes {text} (natOutgoing of the pool {pool}; the destination is in no pool)"
        ),
        source: new,
    })
}
