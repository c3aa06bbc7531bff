//! What the node's unix socket speaks: one JSON request and one JSON answer per connection, each ended by the closing
//! of its direction or a newline. Flows are answered with a line each.
//!
//! The CNI plugins, `calicoctl node status`, `bgp` and `explain` are its clients; they hold no credentials and know nothing of
//! the datastore. The types live here because both ends reach this crate.

pub mod bgp;
pub mod flows;
pub mod packet;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the node listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/calico/node.sock";

/// Folder beside the socket in which the plugin leaves the DEL requests that no node process could take; a node that
/// starts replays and removes them. Each file holds one [`Request`].
pub const DEFERRED_DIRECTORY: &str = "deferred";

/// Longest request or answer, in bytes; a peer that sends more is cut off.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// A request to the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A call of the `calico` plugin, forwarded whole.
    Cni(CniRequest),
    /// A call of the `calico-ipam` plugin: addresses only, no link.
    Ipam(CniRequest),
    /// An ADD of the `calico` plugin whose configuration names another IPAM plugin, before that is executed: with what?
    Delegate(CniRequest),
    /// What `calicoctl node status` shows.
    NodeStatus,
    /// A question of `calicoctl bgp`.
    Bgp(bgp::Question),
    /// What `calicoctl flows` shows; answered with any number of lines.
    Flows(flows::FlowsQuestion),
    /// What `calicoctl explain` asks about the kernel.
    Packet(packet::PacketQuestion),
}

/// The node's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A CNI result in the newest version; the plugin writes it in the version that the configuration asks for.
    Result(Value),
    /// Done, and there is nothing to print (DEL, CHECK, STATUS, GC).
    Done,
    /// Answer to [`Request::Delegate`].
    Delegation(Delegation),
    /// The request was refused or failed, and everything that it had done is undone.
    Error(WireError),
    /// Answer to [`Request::NodeStatus`].
    NodeStatus(NodeStatus),
    /// Answer to [`Request::Bgp`].
    Bgp(bgp::Reply),
    /// A line of the answer to [`Request::Flows`].
    Flow(Box<flows::Flow>),
    /// A line of the answer to [`Request::Flows`]: something is missing here.
    Unseen(flows::Unseen),
    /// Answer to [`Request::Packet`].
    Packet(Box<packet::PacketFacts>),
}

/// What an ADD is to do about the IPAM plugin that its configuration names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delegation {
    /// Execute it with this configuration, in which the node's own CIDRs stand where the configuration asks for them.
    Run(Value),
    /// Nothing: the sandbox is attached and has its addresses.
    Attached,
}

/// A CNI error (CNI SPEC, section "Error").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// 1..=99 as the specification lists them, 100 and above ours.
    pub code: u32,
    /// One line: object, reason, remedy.
    pub msg: String,
    /// More, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

/// A CNI command (CNI SPEC, section 2 "Execution protocol"). VERSION never reaches the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CniCommand {
    /// Attach the container.
    Add,
    /// Detach it; idempotent.
    Del,
    /// Is everything as ADD left it?
    Check,
    /// Could an ADD succeed now?
    Status,
    /// Remove what belongs to no container in `cni.dev/valid-attachments`.
    Gc,
}

/// A CNI call as the plugin was executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CniRequest {
    /// CNI_COMMAND.
    pub command: CniCommand,
    /// CNI_CONTAINERID; empty for STATUS and GC.
    #[serde(default)]
    pub container_id: String,
    /// CNI_NETNS: path of the container's network namespace; may be absent for DEL.
    #[serde(default)]
    pub netns: Option<String>,
    /// CNI_IFNAME; empty for STATUS and GC.
    #[serde(default)]
    pub interface: String,
    /// CNI_ARGS as key and value; `IgnoreUnknown` included.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// The network configuration from standard input, unchanged.
    pub config: Value,
    /// What a delegated IPAM plugin (host-local) answered, when the configuration names one.
    #[serde(default)]
    pub delegated: Option<Value>,
}

/// The state of a node for `calicoctl node status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub node: String,
    /// Process id of `tortie node`.
    pub pid: u32,
    /// Version of the binary that runs.
    pub version: String,
    /// Whether BGP runs at all (`CALICO_NETWORKING_BACKEND=none` turns it off).
    pub bgp: bool,
    /// Every BGP session, in the order of the peers' addresses.
    pub peers: Vec<PeerStatus>,
    /// Ready, or which part is not and why.
    pub not_ready: Vec<String>,
    /// What an operator should know although the node is ready, such as a setting that has no effect.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// One BGP session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its address.
    pub address: IpAddr,
    /// `node-to-node mesh`, `node specific`, `local workload` or `global`.
    pub peer_type: String,
    /// `up` when Established, `start` while trying, `down` when stopped.
    pub state: String,
    /// When the state began: seconds since the epoch.
    pub since: i64,
    /// The state's name in RFC 4271, and why it is not Established.
    pub info: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request::Cni(CniRequest {
            command: CniCommand::Add,
            container_id: "c1".into(),
            netns: Some("/run/netns/x".into()),
            interface: "eth0".into(),
            args: BTreeMap::from([("K8S_POD_NAME".into(), "p".into())]),
            config: serde_json::json!({"cniVersion": "1.0.0"}),
            delegated: None,
        });
        let text = serde_json::to_string(&request).unwrap();
        assert!(text.contains(r#""command":"ADD""#), "{text}");
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn fields_that_a_command_does_not_have_may_be_absent() {
        let request: Request =
            serde_json::from_str(r#"{"cni":{"command":"STATUS","config":{"name":"n"}}}"#).unwrap();
        let Request::Cni(request) = request else { panic!("{request:?}") };
        assert_eq!((request.container_id.as_str(), request.netns, request.args.len()), ("", None, 0));
    }
}
