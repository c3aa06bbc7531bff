//! What `calicoctl node status` shows.

use std::os::unix::net::UnixStream;
use std::time::{Instant, SystemTime};

use api::cni::code;
use api::wire::bgp::Question;
use api::wire::flows::FlowsQuestion;
use api::wire::packet::PacketQuestion;
use api::wire::{Answer, NodeStatus, PeerStatus, WireError};

use crate::bgp::Questions;
use crate::cni::StatusSource;
use crate::flows::Flows;
use crate::health::Health;
use crate::packet::Packets;
use crate::speaker::StatusQuery;

/// Gathers it from the parts.
pub(crate) struct Status {
    node: String,
    /// Absent when BGP is off.
    peers: Option<StatusQuery>,
    /// Absent when BGP is off.
    questions: Option<Questions>,
    /// Absent where nothing is judged (a reflector), or the kernel cannot log.
    flows: Option<Flows>,
    /// Absent in a reflector.
    packets: Option<Packets>,
    health: Health,
}

impl Status {
    /// Of this node.
    pub(crate) fn new(
        node: &str,
        peers: Option<StatusQuery>,
        questions: Option<Questions>,
        flows: Option<Flows>,
        health: Health,
    ) -> Self {
        Self { node: node.to_owned(), peers, questions, flows, packets: None, health }
    }

    /// With answers about packets.
    pub(crate) fn with_packets(self, packets: Packets) -> Self {
        Self { packets: Some(packets), ..self }
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

    fn packet(&self, question: &PacketQuestion) -> Answer {
        match self.packets.as_ref().map(|packets| packets.answer(question)) {
            None => refused("a reflector has no policy; ask the socket of `tortie node`".to_owned()),
            Some(Ok(facts)) => Answer::Packet(Box::new(facts)),
            Some(Err(error)) => refused(error.to_string()),
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

    fn flows(&self, question: FlowsQuestion, stream: &UnixStream) -> Option<Answer> {
        let Some(flows) = &self.flows else {
            let text = "this node watches no flows: it is a reflector, or its kernel has no NFLOG \
                        (CONFIG_NETFILTER_NETLINK_LOG; see the log of its start)";
            return Some(refused(text.to_owned()));
        };
        match stream.try_clone() {
            Ok(stream) => flows.answer(question, stream),
            Err(error) => return Some(refused(format!("the connection cannot be kept: {error}"))),
        }
        None
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
