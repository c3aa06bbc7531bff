//! What `calicoctl node status` shows.

use std::time::{Instant, SystemTime};

use api::cni::code;
use api::wire::bgp::Question;
use api::wire::{Answer, NodeStatus, PeerStatus, WireError};

use crate::bgp::Questions;
use crate::cni::StatusSource;
use crate::health::Health;
use crate::speaker::StatusQuery;

/// Gathers it from the parts.
pub(crate) struct Status {
    node: String,
    /// Absent when BGP is off.
    peers: Option<StatusQuery>,
    /// Absent when BGP is off.
    questions: Option<Questions>,
    health: Health,
}

impl Status {
    /// Of this node.
    pub(crate) fn new(
        node: &str,
        peers: Option<StatusQuery>,
        questions: Option<Questions>,
        health: Health,
    ) -> Self {
        Self { node: node.to_owned(), peers, questions, health }
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

    fn bgp(&self, question: Question) -> Answer {
        match &self.questions {
            None => refused("BGP is turned off on this node (CALICO_NETWORKING_BACKEND=none)".to_owned()),
            Some(questions) => match questions.answer(question) {
                Ok(reply) => Answer::Bgp(reply),
                Err(error) => refused(error.to_string()),
            },
        }
    }
}

/// No answer, and why.
fn refused(msg: String) -> Answer {
    Answer::Error(WireError { code: code::FAILED, msg, details: String::new() })
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

/// A moment as the time of day.
pub(crate) fn seconds_since_epoch(instant: Instant) -> i64 {
    let then = SystemTime::now().checked_sub(instant.elapsed());
    let age = then.and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
    age.and_then(|age| i64::try_from(age.as_secs()).ok()).unwrap_or_default()
}
