//! What `calicoctl flows` asks, and what the node answers: one [`Answer::Flow`](super::Answer::Flow) a line, and
//! [`Answer::Done`](super::Answer::Done) at the end, which never comes while flows are followed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Which flows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsQuestion {
    /// Those that come or change from now on, until whoever asks leaves; otherwise those that are remembered.
    #[serde(default)]
    pub follow: bool,
    /// Only what is denied.
    #[serde(default)]
    pub denied: bool,
    /// Only what comes from or goes to this pod of the host (`namespace/name`), or one of `addresses`; both empty: everything.
    #[serde(default)]
    pub pod: Option<String>,
    /// See `pod`.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The connections that the kernel tracks too, as flows that were allowed.
    #[serde(default)]
    pub connections: bool,
}

impl FlowsQuestion {
    /// Whether a flow is asked for.
    pub fn wants(&self, flow: &Flow) -> bool {
        if self.denied && flow.action == FlowAction::Allow {
            return false;
        }
        let of_pod = || flow.policies.iter().any(|policy| Some(&policy.endpoint) == self.pod.as_ref());
        let of_address = || {
            [flow.source.address, flow.destination.address]
                .iter()
                .any(|address| self.addresses.contains(address))
        };
        (self.pod.is_none() && self.addresses.is_empty()) || of_pod() || of_address()
    }
}

/// Packets between two addresses, to one port: whatever ports they come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The node that saw them.
    pub node: String,
    /// When the first one came: milliseconds since the epoch. 0 for a connection of which only the kernel knows.
    pub first_seen: i64,
    /// When the last one came.
    pub last_seen: i64,
    /// What became of the last one.
    pub action: FlowAction,
    /// IP protocol number.
    pub protocol: u8,
    /// Type and code, for ICMP and ICMPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// Where they come from; the port is that of the last one.
    pub source: FlowEnd,
    /// Where they go, after translation of the destination.
    pub destination: FlowEnd,
    /// Packets that were logged: those that were denied, and the first ones of connections.
    pub packets: u64,
    /// Those of `packets` that were denied.
    pub denied_packets: u64,
    /// What the endpoints of this host said to the last one, the sender's first.
    pub policies: Vec<FlowPolicy>,
}

/// An end of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowEnd {
    /// Its address.
    pub address: IpAddr,
    /// Its port, for TCP, UDP and SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whose address it is, if whoever says so knows: `namespace/pod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What became of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowAction {
    /// They were let through.
    Allow,
    /// They were not.
    Deny,
}

impl FlowAction {
    /// As a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }

    /// By whether something is allowed.
    pub fn of(allowed: bool) -> Self {
        if allowed { Self::Allow } else { Self::Deny }
    }
}

/// What the policies of one endpoint said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowPolicy {
    /// The endpoint: `namespace/pod`, or `host endpoint NAME`; empty for a rule of no endpoint (`spoofed source`).
    pub endpoint: String,
    /// `ingress` or `egress`, as the endpoint sees it; empty for a rule of no endpoint.
    pub direction: String,
    /// What it said.
    pub action: FlowAction,
    /// The rule that decided: `Kind/[namespace/]name direction index`, `end of tier NAME …`, …; absent if it is not known, as
    /// when policies have changed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What would have happened if staged policies were enforced; absent if none concerns the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedPolicy>,
}

/// What staged policies would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedPolicy {
    /// What they would have said.
    pub action: FlowAction,
    /// The rule that would have decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// What was not seen or is not told, said when it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unseen {
    /// Packets that the kernel could not queue.
    pub lost_packets: u64,
    /// Milliseconds in which nobody listened to denied packets because there had been too many.
    pub denied_deaf_ms: u64,
    /// The same of allowed ones.
    pub allowed_deaf_ms: u64,
    /// Packets that rules have denied meanwhile, by their counters.
    pub uncounted_denials: u64,
    /// Lines that were left out because whoever follows reads too slowly.
    pub skipped_lines: u64,
    /// Connections that the kernel tracks and that are not told, because there are too many.
    pub skipped_connections: u64,
    /// The connections that the kernel tracks cannot be listed.
    pub connections_unknown: bool,
}
