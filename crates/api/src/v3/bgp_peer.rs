use std::net::IpAddr;
use std::time::Duration;

use super::{BGPPassword, object};
use crate::scalars::{AsNumber, GoDuration, words};
use crate::{Kind, NoStatus, Object, Spec};
use std::str::FromStr;

use super::secret::check_password;
use crate::rules::{
    Place, Rules, check_duration, check_range, check_selector, check_subdomain, check_unique,
};
use crate::scalars::ScalarError;

/// A BGP peer, or a set of them.
pub type BGPPeer = Object<BGPPeerSpec>;

object! {
    /// `spec` of a [`BGPPeer`].
    #[derive(Default)]
    pub struct BGPPeerSpec {
        /// The node that has the peer; excludes `node_selector`. All nodes if both are empty.
        node: String,
        /// The nodes that have the peer.
        node_selector: String,
        /// `ip`, `ip:port` or `[ip]:port`.
        #[serde(rename = "peerIP")]
        peer_ip: String,
        /// The peer's AS.
        as_number: Option<AsNumber>,
        /// Peer with the nodes that this selector matches.
        peer_selector: String,
        /// Peer with the local pods that this selector matches.
        local_workload_selector: String,
        /// Old spelling of next hop mode `Keep`.
        keep_original_next_hop: bool,
        /// What becomes of the next hop of routes sent to the peer; `Auto` if absent.
        next_hop_mode: Option<NextHopMode>,
        /// Password (RFC 2385).
        password: Option<BGPPassword>,
        /// The connection's own address; `UseNodeIP` if absent.
        source_address: Option<SourceAddress>,
        /// How long to keep routes of the restarting peer (RFC 4724).
        max_restart_time: Option<GoDuration>,
        /// Time between keepalives (RFC 4271).
        keepalive_time: Option<GoDuration>,
        /// How often the own AS may occur in a received path.
        #[serde(rename = "numAllowedLocalASNumbers")]
        num_allowed_local_as_numbers: Option<i32>,
        /// Hops that the peer may be away, with TTL security (RFC 5082).
        #[serde(rename = "ttlSecurity")]
        ttl_security: Option<u8>,
        /// Gateway through which the peer is reached.
        reachable_by: Option<IpAddr>,
        /// Names of BGP filters, in order.
        filters: Vec<String>,
        /// Own AS towards this peer.
        #[serde(rename = "localASNumber")]
        local_as_number: Option<AsNumber>,
        /// Ours: another number of our AS, which a peer in it may go and know us by (RFC 7705, section 4). Either is taken.
        #[serde(rename = "aliasASNumber")]
        alias_as_number: Option<AsNumber>,
        /// Whether the other side of a selected pair gets its session by itself; `Auto` if absent.
        reverse_peering: Option<ReversePeering>,
        /// Ours: the path to the peer is watched with BFD. Absent: it is not; `{}`: with the defaults.
        bfd: Option<PeerBfd>,
        /// Ours: the routes that the session carries; absent or empty: those of the address family of the peer's address.
        families: Vec<PeerFamily>,
    }
}

object! {
    /// Ours: how the path to a peer is watched (RFC 5880). The peer has to do the same.
    #[derive(Default, Eq)]
    pub struct PeerBfd {
        /// Between packets, 10ms..1m; 300ms if absent. The slower end decides.
        interval: Option<GoDuration>,
        /// After how many missed packets the path is down, 1..255; 3 if absent.
        multiplier: Option<u8>,
        /// The peer may be several hops away (RFC 5883: UDP port 4784), not on the same link only (RFC 5881: 3784).
        multihop: bool,
        /// Do not begin the BGP session before BFD says that the path is up.
        strict: bool,
    }
}

words! {
    /// Ours: routes that a session carries (RFC 4760).
    PeerFamily {
        /// AFI 1, SAFI 1.
        IPv4 = "IPv4",
        /// AFI 2, SAFI 1.
        IPv6 = "IPv6",
    }
}

words! {
    /// What becomes of the next hop of routes sent to a peer.
    #[derive(Default)]
    NextHopMode {
        /// What BGP prescribes.
        #[default]
        Auto = "Auto",
        /// Always the own address.
        Self_ = "Self",
        /// Always as received.
        Keep = "Keep",
    }
}

words! {
    /// Which source address a connection has.
    #[derive(Default)]
    SourceAddress {
        /// The node's.
        #[default]
        UseNodeIP = "UseNodeIP",
        /// What the kernel picks.
        None = "None",
    }
}

words! {
    /// Whether the other side of a selected pair gets its session by itself.
    #[derive(Default)]
    ReversePeering {
        /// It does.
        #[default]
        Auto = "Auto",
        /// It needs a peer resource of its own.
        Manual = "Manual",
    }
}

impl Spec for BGPPeerSpec {
    const KIND: Kind = Kind::BGPPeer;
    type Status = NoStatus;
}

/// The address of a peer, and its port if it is not BGP's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress {
    /// The address.
    pub ip: IpAddr,
    /// The TCP port; 179 if absent.
    pub port: Option<u16>,
}

impl FromStr for PeerAddress {
    type Err = ScalarError;

    /// Reads `ip`, `ip:port` or `[ip]:port`.
    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self { ip, port: None });
        }
        let parts = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:"),
            None => text.rsplit_once(':').filter(|(ip, _)| !ip.contains(':')),
        };
        let address = parts.and_then(|(ip, port)| {
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Some(Self { ip: ip.parse().ok()?, port: Some(port) })
        });
        address.ok_or_else(|| {
            ScalarError::new(
                text,
                "is not the address of a peer: 10.0.0.1, 10.0.0.1:179, fd00::1 or [fd00::1]:179",
            )
        })
    }
}

impl BGPPeerSpec {
    /// The peer's address; `None` if peers are selected instead.
    ///
    /// # Errors
    /// When the address cannot be read; validation has refused such a peer.
    pub fn peer_address(&self) -> Result<Option<PeerAddress>, ScalarError> {
        if self.peer_ip.is_empty() { Ok(None) } else { self.peer_ip.parse().map(Some) }
    }

    /// What becomes of the next hop, the old spelling understood and the default filled in.
    pub fn effective_next_hop_mode(&self) -> NextHopMode {
        match (self.next_hop_mode, self.keep_original_next_hop) {
            (Some(mode), _) => mode,
            (None, true) => NextHopMode::Keep,
            (None, false) => NextHopMode::Auto,
        }
    }
}

impl Rules for BGPPeerSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        check_which_nodes(spec, &at);
        check_which_peers(spec, &at);
        check_reachable_by(spec, &at);
        if spec.keep_original_next_hop && spec.next_hop_mode.is_some() {
            at.field("keepOriginalNextHop")
                .refuse(true, "cannot be combined with nextHopMode; write nextHopMode: Keep");
        }
        check_duration(spec.max_restart_time, &at.field("maxRestartTime"));
        check_duration(spec.keepalive_time, &at.field("keepaliveTime"));
        if let Some(bfd) = &spec.bfd {
            check_bfd(bfd, &at.field("bfd"));
        }
        if let Some(alias) = spec.alias_as_number.filter(|alias| spec.as_number == Some(*alias)) {
            at.field("aliasASNumber").refuse(alias, "is asNumber: write the other number, or leave it out");
        }
        if let (Some(alias), Some(_)) = (spec.alias_as_number, spec.local_as_number) {
            at.field("aliasASNumber").refuse(alias, "cannot be combined with localASNumber");
        }
        check_unique(&spec.families, &at.field("families"));
        check_password(spec.password.as_ref(), &at.field("password"));
        if let Some(number) = spec.num_allowed_local_as_numbers {
            check_range(number.into(), 0, i32::MAX.into(), &at.field("numAllowedLocalASNumbers"));
        }
        for (index, filter) in spec.filters.iter().enumerate() {
            check_subdomain(filter, &at.field("filters").index(index));
        }
    }
}

/// What the speaker takes; anything shorter would be the scheduler's doing and not the path's.
fn check_bfd(bfd: &PeerBfd, at: &Place<'_>) {
    let limits = (Duration::from_millis(10), Duration::from_secs(60));
    if let Some(interval) = bfd.interval
        && !interval.to_duration().is_some_and(|time| (limits.0..=limits.1).contains(&time))
    {
        at.field("interval").refuse(interval, "is out of range: 10ms..1m");
    }
    if let Some(multiplier) = bfd.multiplier {
        check_range(multiplier.into(), 1, 255, &at.field("multiplier"));
    }
}

fn check_which_nodes(spec: &BGPPeerSpec, at: &Place<'_>) {
    if !spec.node.is_empty() && !spec.node_selector.is_empty() {
        at.field("nodeSelector").refuse(&spec.node_selector, "cannot be combined with node");
    }
    check_selector(&spec.node_selector, &at.field("nodeSelector"));
}

fn check_which_peers(spec: &BGPPeerSpec, at: &Place<'_>) {
    check_selector(&spec.peer_selector, &at.field("peerSelector"));
    check_selector(&spec.local_workload_selector, &at.field("localWorkloadSelector"));
    if let Err(error) = spec.peer_address() {
        at.field("peerIP").refuse(error.value, error.reason);
    }
    let (is_address, is_nodes, is_workloads) =
        (!spec.peer_ip.is_empty(), !spec.peer_selector.is_empty(), !spec.local_workload_selector.is_empty());
    if is_address && is_nodes {
        at.field("peerIP").refuse(&spec.peer_ip, "cannot be combined with peerSelector");
    }
    if is_address && is_workloads {
        at.field("peerIP").refuse(&spec.peer_ip, "cannot be combined with localWorkloadSelector");
    }
    if is_nodes && is_workloads {
        at.field("peerSelector").refuse(&spec.peer_selector, "cannot be combined with localWorkloadSelector");
    }
    match spec.as_number {
        Some(number) if is_nodes => {
            at.field("asNumber")
                .refuse(number, "cannot be combined with peerSelector: the nodes say their AS");
        }
        None if is_workloads => at.field("asNumber").refuse_all("is required with localWorkloadSelector"),
        _ => {}
    }
}

fn check_reachable_by(spec: &BGPPeerSpec, at: &Place<'_>) {
    let Some(gateway) = spec.reachable_by else { return };
    match spec.peer_address() {
        Ok(None) => at.field("reachableBy").refuse(gateway, "needs peerIP"),
        Ok(Some(peer)) if peer.ip.is_ipv6() != gateway.is_ipv6() => {
            at.field("reachableBy")
                .refuse(gateway, format!("is not of the same IP version as peerIP {}", peer.ip));
        }
        _ => {}
    }
}
