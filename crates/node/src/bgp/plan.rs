//! The datastore's plan as the speaker's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bgp::config::{ConnectMode, GracefulRestart, LocalAddresses, NextHopMode, Origination, Timers};
use bgp::{Asn, PeerConfig, PeerId, RouterId, SpeakerConfig};
use calc::bgp_plan::{BgpPlan, NextHop, Peer, PeerSource};

/// How long a restarted node waits for peers that do not come back before it uses what it has learned (RFC 4724, section
/// 4.1). A mesh often has a node that is down; blocks of new nodes should not wait two minutes for it.
const SELECTION_DEFERRAL: Duration = Duration::from_secs(30);

/// The configuration; `None` when the plan has no BGP identifier.
///
/// A peer that asks for what this version cannot do is left out, and said so: a session without the password or the hop
/// limit that was asked for would be worse than none.
pub(super) fn speaker_config(plan: &BgpPlan) -> Option<SpeakerConfig> {
    let mut config = SpeakerConfig::new(Asn(plan.local_as), RouterId(plan.router_id?));
    config.cluster_id = plan.cluster_id;
    config.selection_deferral = SELECTION_DEFERRAL;
    config.listen = listen(plan);
    config.addresses = own_addresses(plan);
    config.originated = plan.originate.iter().map(|prefix| (*prefix, Origination::default())).collect();
    config.peers = plan.peers.iter().filter_map(|peer| configured(plan, peer)).collect::<BTreeMap<_, _>>();
    Some(config)
}

fn listen(plan: &BgpPlan) -> BTreeSet<SocketAddr> {
    let port = plan.listen.port;
    match plan.listen.addresses.is_empty() {
        true => [(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()].into(),
        false => plan.listen.addresses.iter().map(|address| (*address, port).into()).collect(),
    }
}

/// Sessions are spoken from the node's addresses, so these are what others reach us by.
fn own_addresses(plan: &BgpPlan) -> LocalAddresses {
    let mut addresses = LocalAddresses::default();
    for source in plan.peers.iter().filter_map(|peer| peer.source_address) {
        match source {
            IpAddr::V4(address) => addresses.ipv4 = Some(address),
            IpAddr::V6(address) => addresses.ipv6 = Some(address),
        }
    }
    addresses
}

fn configured(plan: &BgpPlan, peer: &Peer) -> Option<(PeerId, PeerConfig)> {
    if let Some(feature) = unsupported(plan, peer) {
        tracing::error!(
            peer = %peer.address,
            source = ?peer.source,
            feature,
            "no session with this peer: this version cannot do what it asks for"
        );
        return None;
    }
    let mut config = PeerConfig::new(peer.address, Asn(peer.remote_as));
    config.label = label(&peer.source).to_owned();
    config.port = peer.port;
    config.source = peer.source_address;
    config.connect = if peer.passive { ConnectMode::Passive } else { ConnectMode::Active };
    config.reflector_client = peer.reflector_client;
    config.next_hop = match peer.next_hop {
        NextHop::Auto => NextHopMode::Auto,
        NextHop::Own => NextHopMode::OurSelf,
        NextHop::Keep => NextHopMode::Keep,
    };
    config.allow_local_as = peer.allow_local_as.and_then(|times| times.try_into().ok()).unwrap_or(0);
    config.timers = Timers { keepalive: peer.keepalive_time, ..Timers::default() };
    if let Some(restart_time) = peer.restart_time {
        config.graceful_restart = Some(GracefulRestart { restart_time, ..GracefulRestart::default() });
    }
    Some((PeerId(format!("{}:{}", peer.address, peer.port)), config))
}

/// What the peer asks for that is not built yet.
fn unsupported(plan: &BgpPlan, peer: &Peer) -> Option<&'static str> {
    if peer.password.is_some() {
        Some("password")
    } else if peer.ttl_security.is_some() {
        Some("ttlSecurity")
    } else if !peer.filters.is_empty() {
        Some("filters")
    } else if peer.local_as != plan.local_as {
        Some("localASNumber")
    } else if plan.static_routes.iter().any(|route| route.destination.addr() == peer.address) {
        Some("reachableBy")
    } else {
        None
    }
}

/// PEER TYPE in `calicoctl node status`.
fn label(source: &PeerSource) -> &'static str {
    match source {
        PeerSource::Mesh { .. } => "node-to-node mesh",
        PeerSource::Global { .. } => "global",
        PeerSource::Node { .. } | PeerSource::LocalWorkload { .. } => "node specific",
    }
}
