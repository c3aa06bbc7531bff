//! What `calicoctl explain` asks the node about its kernel: is what policy says of a packet really there?

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A packet, and the judgements of this node that it meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketQuestion {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// For TCP, UDP and SCTP.
    pub source_port: u16,
    /// For TCP, UDP and SCTP.
    pub destination_port: u16,
    /// Where the node judges it.
    pub stages: Vec<StageQuestion>,
}

/// One judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageQuestion {
    /// Whom it is about.
    pub at: StagePlace,
    /// Towards it (ingress) or from it.
    pub ingress: bool,
    /// The rule that decides, as comments in the kernel name it; empty: none.
    pub origin: String,
}

/// Whom a judgement is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StagePlace {
    /// The workload on this interface.
    Workload(String),
    /// A host endpoint, at one of its hooks.
    Host {
        /// Its name.
        name: String,
        /// Where on the packet's way.
        hook: StageHook,
    },
}

/// Where on a packet's way a host endpoint judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageHook {
    /// What starts or ends at the host.
    Normal,
    /// What the host forwards.
    Forward,
    /// Before connection tracking.
    Untracked,
    /// Before destination NAT.
    PreDnat,
}

/// What the node's kernel holds for the packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketFacts {
    /// The node that answers.
    pub node: String,
    /// What was compared: `nftables, table ip calico`.
    pub backend: String,
    /// One for each stage of the question, in its order.
    pub stages: Vec<StageFacts>,
    /// The first thing in the kernel that differs from what the datastore's rows ask for, in the base chains, in the chains
    /// of the stages or in a set that those look into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
    /// Why nothing was compared, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// The route that the host's own packets to the destination take, as `ip route` writes it.
    pub route: String,
    /// Tracked connections between the two addresses; a packet of one of them is not judged again.
    pub connections: Vec<String>,
    /// Further connections that are not listed.
    pub more_connections: usize,
}

/// What the kernel holds for one stage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageFacts {
    /// The chain that judges; none: the kernel has none for it.
    pub chain: Option<String>,
    /// The chains that the packet can come by there, that one included, and their rules.
    pub chains: usize,
    /// All rules of those.
    pub rules: usize,
    /// The rule that decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleFacts>,
    /// The sets that those rules look into.
    pub sets: Vec<SetFacts>,
    /// Sets that are not listed.
    pub more_sets: usize,
}

/// A rule in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleFacts {
    /// Its chain.
    pub chain: String,
    /// Its place there, from 0.
    pub index: usize,
    /// Packets that it has decided on, of all flows; none: it has no counter.
    pub packets: Option<u64>,
    /// Bytes of those.
    pub bytes: Option<u64>,
}

/// A set in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetFacts {
    /// Its name in the kernel.
    pub name: String,
    /// What it stands for.
    pub meaning: String,
    /// How many members the kernel has.
    pub members: usize,
    /// Whether the source (with its port) is one.
    pub has_source: bool,
    /// Whether the destination (with its port) is one.
    pub has_destination: bool,
}
