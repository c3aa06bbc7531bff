//! `calicoctl policy reach`.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use api::scalars::Protocol;
use api::selector::Selector;
use calc::explain::words;
use calc::reach::{ReachQuestion, Reacher, TargetReach, reach};
use clap::Args;
use serde::Serialize;

use crate::Console;
use crate::bgp::{Format, show};
use crate::cli::Global;
use crate::cluster::ClusterArgs;

/// Say who can open a connection to the pods that a selector matches: pods, nodes and outside networks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl policy reach --to 'app == \"db\"' --port 5432
  calicoctl policy reach --to 'app == \"db\"' --port 5432 --from 'env != \"prod\"'    only these pods
  calicoctl policy reach --to 'app == \"dns\"' --port 53 --protocol UDP -o json
  calicoctl policy reach --to 'app == \"db\"' --port 5432 --file manifests/

All packets are looked at, not samples: every pod and node, and every other address and source
port by classes between which no rule on the way makes a difference. The sender's own policy
counts, too. Selectors see pods' labels and those of their namespaces (pcns.NAME) and service
accounts (pcsa.NAME); projectcalico.org/namespace is the namespace.

Addresses of pods and nodes may lie in an outside network that is shown; those of them that can
are shown by themselves. A pod's own connections to itself are not looked at.")]
pub(crate) struct ReachArgs {
    /// The pods that are to be reached, by selector
    #[arg(long, value_name = "SELECTOR")]
    to: String,
    /// Destination port
    #[arg(long, value_name = "PORT")]
    port: u16,
    /// TCP, UDP or SCTP
    #[arg(long, value_name = "PROTOCOL", default_value = "TCP")]
    protocol: String,
    /// Only which of these pods can, by selector
    #[arg(long, value_name = "SELECTOR")]
    from: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reached {
    protocol: String,
    port: u16,
    /// One for each address of a target.
    targets: Vec<TargetReach>,
}

pub(crate) fn run(args: &ReachArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let protocol: Protocol =
        args.protocol.parse().map_err(|error| anyhow::anyhow!("--protocol {:?}: {error}", args.protocol))?;
    let protocol = protocol.number();
    ensure!(
        matches!(protocol, 6 | 17 | 132),
        "--protocol {}: only TCP, UDP and SCTP have ports",
        words::protocol(protocol)
    );
    let to = selector("--to", &args.to)?;
    let from = args.from.as_deref().map(|text| selector("--from", text)).transpose()?;
    let cluster = args.cluster.load(global, console)?;
    let targets = cluster.selected(&to);
    ensure!(
        !targets.is_empty(),
        "--to {}: no pod is selected; calicoctl get workloadendpoints -A -o yaml shows their labels",
        args.to
    );
    let targets = reach(&cluster, &ReachQuestion { targets, protocol, port: args.port, from });
    let reached = Reached { protocol: words::protocol(protocol), port: args.port, targets };
    show(&reached, args.output, console, text)
}

fn selector(option: &str, text: &str) -> Result<Selector> {
    Selector::parse(text).with_context(|| format!("{option} {text:?} is not a selector"))
}

fn text(reached: &Reached) -> String {
    let mut text = String::new();
    for target in &reached.targets {
        let TargetReach { target: pod, address, .. } = target;
        let (protocol, port) = (&reached.protocol, reached.port);
        let _ = writeln!(text, "pod {}/{} {address}, {protocol} {port}:", pod.namespace, pod.name);
        text += &target_text(target);
    }
    text
}

fn target_text(target: &TargetReach) -> String {
    let mut text = String::new();
    let mut line = |what: &str, ports: &[(u16, u16)]| {
        let ports: Vec<String> = ports.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let ports = match &ports[..] {
            [] => String::new(),
            ports => format!("   from source ports {}", ports.join(", ")),
        };
        let _ = writeln!(text, "  {what}{ports}");
    };
    for Reacher { from, source_ports } in &target.pods {
        let address = from.addresses.first().map(ToString::to_string).unwrap_or_default();
        line(&format!("pod {}/{} {address}", from.namespace, from.name), source_ports);
    }
    for Reacher { from, source_ports } in &target.nodes {
        let own = if from.node == target.target.node { ", its own" } else { "" };
        let address = from.addresses.first().map(ToString::to_string).unwrap_or_default();
        line(&format!("node {} {address}{own}", from.node), source_ports);
    }
    for Reacher { from, source_ports } in &target.networks {
        line(&format!("network {from}"), source_ports);
    }
    if target.pods.is_empty() && target.nodes.is_empty() && target.networks.is_empty() {
        text += "  nobody\n";
    }
    let _ = writeln!(text, "  ({} pod addresses cannot)", target.pods_denied);
    text
}
