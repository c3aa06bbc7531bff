//! Prometheus metrics of sessions, made when they are asked for.
//!
//! A registry would keep the series of peers that are gone. Here there are those of the peers that there are, and of no
//! more than [`PEERS`] of them: routers that are configured first, then the mesh, by name.
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `tortie_bgp_peer_state` | `peer`, `type` | 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established (as bgpPeerState of RFC 4273) |
//! | `tortie_bgp_peer_state_seconds` | `peer`, `type` | how long it has had this state |
//! | `tortie_bgp_peer_prefixes_received` | `peer`, `type`, `family` | prefixes that the import filters let in |
//! | `tortie_bgp_peer_messages_total` | `peer`, `type`, `direction` | messages `received` and `sent` |
//! | `tortie_bgp_peer_updates_total` | `peer`, `type`, `direction` | UPDATEs among them |
//! | `tortie_bgp_peer_malformed_updates_total` | `peer`, `type` | UPDATEs with errors (RFC 7606) |
//! | `tortie_bgp_peer_flaps_total` | `peer`, `type` | established sessions that were lost |
//! | `tortie_bgp_peers_without_series` | | peers beyond the limit |
//! | `tortie_bgp_prefixes` | `family` | prefixes with a route |
//! | `tortie_bgp_attribute_sets` | | different sets of attributes |

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bgp::session::SessionState;
use bgp::{Family, PeerStatus};
use calc::bgp_plan::label;

use crate::speaker::StatusQuery;

/// Peers that have series of their own.
const PEERS: usize = 100;

/// Renders the metrics of a speaker, once there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct BgpMetrics(Arc<OnceLock<StatusQuery>>);

impl BgpMetrics {
    /// From now on these are the metrics of this speaker.
    pub(crate) fn follow(&self, speaker: StatusQuery) {
        // There is one speaker in a process.
        let _ = self.0.set(speaker);
    }

    /// The metrics in Prometheus' text format; nothing when there is no speaker, or it does not answer.
    pub(crate) fn render(&self) -> String {
        let look = |speaker: &bgp::Speaker| {
            let prefixes = Family::ALL.map(|family| (family, speaker.prefixes(family)));
            (speaker.status(), prefixes, speaker.attribute_sets())
        };
        let Some((peers, prefixes, sets)) = self.0.get().and_then(|speaker| speaker.with(look)) else {
            return String::new();
        };
        let mut text = text(peers);
        let mut metric = Metric::new(&mut text, "tortie_bgp_prefixes", "gauge", "Prefixes with a route");
        prefixes
            .iter()
            .for_each(|(family, count)| metric.sample(&format!("family=\"{family}\""), *count as u64));
        Metric::new(&mut text, "tortie_bgp_attribute_sets", "gauge", "Different sets of attributes")
            .sample("", sets as u64);
        text
    }
}

fn text(mut peers: Vec<PeerStatus>) -> String {
    // Routers are few, nodes may be many, and workloads come and go.
    let rank = |peer: &PeerStatus| match peer.label.as_str() {
        label::LOCAL_WORKLOAD => 2,
        label::MESH => 1,
        _ => 0,
    };
    peers.sort_by(|a, b| (rank(a), &a.id).cmp(&(rank(b), &b.id)));
    let without = peers.len().saturating_sub(PEERS);
    peers.truncate(PEERS);
    let mut text = String::new();
    for (name, kind, help, value) in SIMPLE {
        let mut metric = Metric::new(&mut text, name, kind, help);
        peers.iter().for_each(|peer| metric.sample(&labels(peer), value(peer)));
    }
    let help = "Prefixes that the import filters let in";
    let mut metric = Metric::new(&mut text, "tortie_bgp_peer_prefixes_received", "gauge", help);
    for peer in &peers {
        for (family, count) in &peer.received {
            metric.sample(&format!("{},family=\"{family}\"", labels(peer)), *count as u64);
        }
    }
    for (name, help, values) in DIRECTED {
        let mut metric = Metric::new(&mut text, name, "counter", help);
        for peer in &peers {
            let (received, sent) = values(peer);
            metric.sample(&format!("{},direction=\"received\"", labels(peer)), received);
            metric.sample(&format!("{},direction=\"sent\"", labels(peer)), sent);
        }
    }
    let help = "Peers that have no series of their own, because there are too many";
    Metric::new(&mut text, "tortie_bgp_peers_without_series", "gauge", help).sample("", without as u64);
    text
}

type Value = fn(&PeerStatus) -> u64;

const SIMPLE: [(&str, &str, &str, Value); 4] = [
    (
        "tortie_bgp_peer_state",
        "gauge",
        "1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established",
        |peer| state_number(peer.state),
    ),
    ("tortie_bgp_peer_state_seconds", "gauge", "How long the session has had its state", |peer| {
        peer.since.elapsed().as_secs()
    }),
    ("tortie_bgp_peer_malformed_updates_total", "counter", "UPDATEs with errors (RFC 7606)", |peer| {
        peer.messages.malformed_updates
    }),
    ("tortie_bgp_peer_flaps_total", "counter", "Established sessions that were lost", PeerStatus::flaps),
];

type Pair = fn(&PeerStatus) -> (u64, u64);

const DIRECTED: [(&str, &str, Pair); 2] = [
    ("tortie_bgp_peer_messages_total", "BGP messages", |peer| (peer.messages.received, peer.messages.sent)),
    ("tortie_bgp_peer_updates_total", "BGP UPDATEs", |peer| {
        (peer.messages.updates_received, peer.messages.updates_sent)
    }),
];

/// RFC 4273, bgpPeerState.
fn state_number(state: SessionState) -> u64 {
    match state {
        SessionState::Idle => 1,
        SessionState::Connect => 2,
        SessionState::Active => 3,
        SessionState::OpenSent => 4,
        SessionState::OpenConfirm => 5,
        SessionState::Established => 6,
    }
}

fn labels(peer: &PeerStatus) -> String {
    format!("peer=\"{}\",type=\"{}\"", escaped(&peer.id.0), escaped(&peer.label))
}

/// Prometheus' text format: backslash, quote and line feed in a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One metric with its samples.
struct Metric<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl<'a> Metric<'a> {
    fn new(text: &'a mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { text, name }
    }

    fn sample(&mut self, labels: &str, value: u64) {
        let _ = match labels {
            "" => writeln!(self.text, "{} {value}", self.name),
            labels => writeln!(self.text, "{}{{{labels}}} {value}", self.name),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bgp::{Asn, MessageCounts, PeerId};

    use super::*;

    fn peer(name: &str, label: &str) -> PeerStatus {
        PeerStatus {
            id: PeerId::from(name),
            address: [10, 0, 0, 2].into(),
            label: label.to_owned(),
            remote_as: Asn(64512),
            state: SessionState::Established,
            since: Instant::now(),
            reason: None,
            established: None,
            received: vec![(Family::Ipv4Unicast, 7)],
            stale: Vec::new(),
            messages: MessageCounts { sent: 3, ..MessageCounts::default() },
            established_count: 3,
            remedy: None,
            unread: 0,
            path: None,
        }
    }

    #[test]
    fn a_peer_has_its_series() {
        let text = text(vec![peer("Global_a\"b", "global")]);
        for line in [
            "# TYPE tortie_bgp_peer_state gauge",
            r#"tortie_bgp_peer_state{peer="Global_a\"b",type="global"} 6"#,
            r#"tortie_bgp_peer_flaps_total{peer="Global_a\"b",type="global"} 2"#,
            r#"tortie_bgp_peer_prefixes_received{peer="Global_a\"b",type="global",family="ipv4/unicast"} 7"#,
            r#"tortie_bgp_peer_messages_total{peer="Global_a\"b",type="global",direction="sent"} 3"#,
            "tortie_bgp_peers_without_series 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
    }

    #[test]
    fn neither_a_large_mesh_nor_workloads_crowd_out_the_routers() {
        let mesh = (0..5000).map(|number| peer(&format!("Mesh_{number:04}"), label::MESH));
        let pods = (0..200).map(|number| peer(&format!("10.65.0.{number}:179"), label::LOCAL_WORKLOAD));
        let text = text(pods.chain(mesh).chain([peer("Node_router", "node specific")]).collect());
        assert!(text.contains("tortie_bgp_peers_without_series 5101") && !text.contains("10.65.0."));
        assert!(text.contains(r#"peer="Node_router""#));
        assert!(text.lines().count() < 1000 + 20);
    }
}
