//! What `calicoctl node status` shows.

use std::time::{Instant, SystemTime};

use api::wire::{NodeStatus, PeerStatus};

use crate::cni::StatusSource;
use crate::health::Health;
use crate::speaker::StatusQuery;

/// Gathers it from the parts.
pub(crate) struct Status {
    node: String,
    /// Absent when BGP is off.
    peers: Option<StatusQuery>,
    health: Health,
}

impl Status {
    /// Of this node.
    pub(crate) fn new(node: &str, peers: Option<StatusQuery>, health: Health) -> Self {
        Self { node: node.to_owned(), peers, health }
    }
}

impl StatusSource for Status {
    fn node_status(&self) -> NodeStatus {
        let peers = self.peers.as_ref().map(StatusQuery::ask).unwrap_or_default();
        let mut peers: Vec<_> = peers.iter().map(peer_status).collect();
        peers.sort_by_key(|peer| peer.address);
        NodeStatus {
            node: self.node.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bgp: self.peers.is_some(),
            peers,
            not_ready: self.health.not_ready(),
            notices: self.health.notices(),
        }
    }
}

fn peer_status(peer: &bgp::PeerStatus) -> PeerStatus {
    let (state, info) = peer.state_and_info();
    PeerStatus {
        address: peer.address,
        peer_type: peer.label.clone(),
        state: state.to_owned(),
        since: seconds_since_epoch(peer.since),
        info,
    }
}

fn seconds_since_epoch(instant: Instant) -> i64 {
    let then = SystemTime::now().checked_sub(instant.elapsed());
    let age = then.and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
    age.and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or_default()
}
