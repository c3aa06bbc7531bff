use std::net::IpAddr;

use super::{BGPPassword, object};
use crate::scalars::{AsNumber, GoDuration, words};
use crate::{Kind, NoStatus, Object, Spec};

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
        /// Whether the other side of a selected pair gets its session by itself; `Auto` if absent.
        reverse_peering: Option<ReversePeering>,
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
