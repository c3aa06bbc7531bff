//! Our side: `tortie reflector` and what it is asked.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::side::{Ip, Neighbour, Side, address, block};

/// A `BGPFilter` of this name is used by all of our peers, if there is one.
const FILTER: &str = "filter";

/// The configuration as resources; `rejected` are prefixes that we do not want from anybody.
pub(crate) fn resources(side: &Side, rejected: &[String]) -> String {
    let reflects = side.neighbours.iter().any(|neighbour| neighbour.is_client);
    let cluster =
        if reflects { format!(", routeReflectorClusterID: {}", cluster_id(side)) } else { String::new() };
    let [v4, v6] = Ip::BOTH.map(|ip| side.address(ip));
    let node = format!("bgp: {{ipv4Address: {v4}/24, ipv6Address: \"{v6}/64\"{cluster}}}");
    let configuration = format!("nodeToNodeMeshEnabled: false, asNumber: {}", side.asn);
    let mut documents = vec![
        resource("BGPConfiguration", "default", &configuration),
        resource("Node", "ours", &node),
        resource("IPPool", "four", "cidr: 10.65.0.0/16"),
        resource("IPPool", "six", "cidr: \"fd65::/64\""),
        // What others make us pass on.
        resource("IPPool", "wide", "cidr: 10.128.0.0/9"),
    ];
    for (index, cidr) in side.announced.iter().enumerate() {
        let spec = format!("state: confirmed, node: ours, cidr: \"{cidr}\"");
        documents.push(resource("BlockAffinity", &format!("block-{index}"), &spec));
    }
    documents.push(filter(rejected));
    for (index, neighbour) in side.neighbours.iter().enumerate() {
        documents.push(resource("BGPPeer", &format!("peer-{index}"), &peer(neighbour)));
    }
    documents.join("---\n")
}

/// A host of a full mesh, as Calico has it.
pub(crate) fn mesh(host: u8, hosts: &[u8]) -> String {
    let mut documents = vec![
        resource("IPPool", "four", "cidr: 10.65.0.0/16"),
        resource("IPPool", "six", "cidr: \"fd65::/64\""),
    ];
    for other in hosts {
        let name = if *other == host { "ours".to_owned() } else { format!("host-{other}") };
        let [v4, v6] = Ip::BOTH.map(|ip| address(*other, ip));
        let node = format!("bgp: {{ipv4Address: {v4}/24, ipv6Address: \"{v6}/64\"}}");
        documents.push(resource("Node", &name, &node));
        for ip in Ip::BOTH {
            let spec = format!("state: confirmed, node: {name}, cidr: \"{}\"", block(*other, ip));
            documents.push(resource("BlockAffinity", &format!("block-{other}-{}", ip.word()), &spec));
        }
    }
    documents.join("---\n")
}

/// Our cluster, when we reflect.
pub(crate) fn cluster_id(side: &Side) -> String {
    format!("244.0.0.{}", side.host)
}

fn peer(neighbour: &Neighbour) -> String {
    let families: Vec<String> = neighbour.carries.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "peerIP: \"{}\", asNumber: {}, families: [{}], filters: [{FILTER}]",
        neighbour.address(),
        neighbour.asn,
        families.join(", ")
    );
    if neighbour.password.is_some() {
        text += ", password: {secretKeyRef: {name: bgp, key: password}}";
    }
    if neighbour.ttl_security {
        text += ", ttlSecurity: 1";
    }
    if neighbour.bfd {
        text += ", bfd: {interval: 100ms}";
    }
    text
}

fn filter(rejected: &[String]) -> String {
    let rules = |ip: Ip| {
        let of_family = rejected.iter().filter(|prefix| Ip::of(prefix) == ip);
        let rules =
            of_family.map(|prefix| format!("{{action: Reject, matchOperator: In, cidr: \"{prefix}\"}}"));
        rules.collect::<Vec<_>>().join(", ")
    };
    let spec = format!("importV4: [{}], importV6: [{}]", rules(Ip::V4), rules(Ip::V6));
    resource("BGPFilter", FILTER, &spec)
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// The process. It recovers by itself: nobody tells it that it was killed.
pub(crate) fn process(side: &Side, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    command.args(["reflector", "--node", "ours", "--file"]).arg(folder.join("configuration"));
    command.arg("--socket").arg(folder.join("ours.sock")).arg("--secrets").arg(folder.join("secrets"));
    if side.forwards {
        command.arg("--kernel");
    }
    command
}

/// `calicoctl bgp …`, as JSON; null while it does not answer.
pub(crate) fn ask(folder: &Path, words: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    command.args(["ctl", "bgp"]).args(words).args(["-o", "json"]);
    command.env("TORTIE_NODE_SOCKET", folder.join("ours.sock"));
    let output = command.output().expect("cargo has built it");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
