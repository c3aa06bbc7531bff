//! `calicoctl policy plan`: what a file would do to the flows that are seen.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use api::wire::flows::{Flow, FlowAction};
use calc::cluster::Cluster;
use calc::evaluator::Packet;
use calc::flow_plan::{FlowChange, FlowEffect, FlowPlan};
use clap::Args;
use serde::Serialize;

use crate::Console;
use crate::bgp::{Format, show};
use crate::cli::{Exit, Global};
use crate::cluster::ClusterArgs;
use crate::files::FileArgs;
use crate::flows;
use crate::table;

/// Some flow would be cut.
const SOME_CUT: u8 = 3;
/// None would be cut, and some would pass that did not.
const SOME_OPENED: u8 = 4;
/// None of those that are known would be cut, but some are not known.
const INCOMPLETE: u8 = 5;

/// Say which of the flows that are seen a file would cut or newly allow, before it is applied. Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl policy plan -f new.yaml                what applying it would do to this host's flows
  calicoctl policy plan -f old.yaml --delete       what deleting it would do
  calicoctl flows --connections -o json > flows.json
  calicoctl policy plan -f new.yaml --flows flows.json
                                                   to flows that were saved, on any host

Flows are those that the node remembers (calicoctl flows) and the connections that its kernel
tracks. --socket asks other nodes too. Both ends of each are judged, before and after, with all
rows of the datastore (or of --file); a flow that no policy has a say about is not counted.

'cut' is what would be denied the next time it connects. A connection that is there stays until it
ends, unless a policy says established: recheck.

Exit codes: 0 nothing changes for these flows, 3 some would be cut, 4 none would be cut and some
newly allowed, 5 none would be cut, but a node could not tell all of its flows (a line that begins
with '!' says why); 1 failed, 2 wrong usage.")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Flows that were saved, instead of asking a node; may be repeated
    #[arg(long, value_name = "FILE")]
    flows: Vec<PathBuf>,
    /// The socket of a node, if not this host's; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "flows")]
    socket: Vec<String>,
    /// As if the file's resources were deleted
    #[arg(long)]
    delete: bool,
    /// Show what stays as it is too
    #[arg(long)]
    all: bool,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What is said of all flows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    cut: usize,
    newly_allowed: usize,
    unchanged: usize,
    flows: Vec<Planned>,
}

/// A flow, and what becomes of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Planned {
    protocol: String,
    from: String,
    to: String,
    source: IpAddr,
    destination: IpAddr,
    /// What became of it when it was last seen.
    seen: FlowAction,
    #[serde(flatten)]
    change: FlowChange,
}

pub(crate) fn run(args: &PlanArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let before = args.cluster.load(global, console)?;
    let mut after = before.clone();
    for document in documents {
        let resource = document.into_resource();
        let key = resource.key();
        if !Cluster::KINDS.contains(&resource.kind()) {
            writeln!(console.errors, "{key} has no say in policy; it changes nothing here")?;
        } else if !args.delete {
            after.put(resource);
        } else if before.rows().contains_key(&key) {
            after.set(key, None);
        } else {
            bail!("{key} does not exist; there is nothing to delete");
        }
    }
    let (flows, missing) = gather(args, console)?;
    for missing in &missing {
        writeln!(console.errors, "! {missing}")?;
    }
    let plan = plan(&before, &after, flows, args.all);
    show(&plan, args.output, console, text)?;
    match (plan.cut, plan.newly_allowed) {
        (0, _) if !missing.is_empty() => Err(Exit(INCOMPLETE).into()),
        (0, 0) => Ok(()),
        (0, _) => Err(Exit(SOME_OPENED).into()),
        _ => Err(Exit(SOME_CUT).into()),
    }
}

/// The flows of files, or of nodes with what those could not tell.
fn gather(args: &PlanArgs, console: &Console<'_>) -> Result<(Vec<Flow>, Vec<String>)> {
    let (mut flows, mut missing) = (Vec::new(), Vec::new());
    for file in &args.flows {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        flows.extend(flows::read(&text).with_context(|| file.display().to_string())?);
    }
    if args.flows.is_empty() {
        let own = [console.node_socket()];
        let sockets = if args.socket.is_empty() { &own[..] } else { &args.socket };
        for socket in sockets {
            let (remembered, untold) = flows::remembered(socket)?;
            flows.extend(remembered);
            missing.extend(untold);
        }
    }
    Ok((flows, missing))
}

fn plan(before: &Cluster, after: &Cluster, flows: Vec<Flow>, all: bool) -> Plan {
    let mut plan = Plan { cut: 0, newly_allowed: 0, unchanged: 0, flows: Vec::new() };
    let mut judge = FlowPlan::new(before, after);
    for flow in once(flows) {
        let Some(change) = judge.compare(&packet(&flow)) else { continue };
        match change.effect {
            FlowEffect::Cut => plan.cut += 1,
            FlowEffect::NewlyAllowed => plan.newly_allowed += 1,
            FlowEffect::Unchanged => plan.unchanged += 1,
        }
        if all || change.effect != FlowEffect::Unchanged {
            plan.flows.push(planned(flow, change, &judge));
        }
    }
    plan.flows.sort_by_key(|flow| flow.change.effect);
    plan
}

/// Each flow once, whoever has seen it; what was seen last counts.
fn once(flows: Vec<Flow>) -> Vec<Flow> {
    let mut once: BTreeMap<_, Flow> = BTreeMap::new();
    for flow in flows {
        let ends = (flow.source.address, flow.destination.address);
        let key = (ends, flow.protocol, flow.destination.port, flow.icmp);
        match once.get(&key) {
            Some(known) if known.last_seen >= flow.last_seen => {}
            _ => drop(once.insert(key, flow)),
        }
    }
    once.into_values().collect()
}

fn packet(flow: &Flow) -> Packet {
    let (source, destination) = (flow.source.address, flow.destination.address);
    let port = flow.destination.port.unwrap_or_default();
    let first = Packet::new(source, destination, flow.protocol, port);
    Packet {
        source_port: flow.source.port.unwrap_or(first.source_port),
        icmp: flow.icmp.unwrap_or(first.icmp),
        ..first
    }
}

fn planned(flow: Flow, change: FlowChange, judge: &FlowPlan<'_>) -> Planned {
    let named = |address: IpAddr| judge.name(address).unwrap_or_else(|| address.to_string());
    let (source, destination) = (flow.source.address, flow.destination.address);
    Planned {
        protocol: flows::protocol(&flow),
        from: named(source),
        to: match flow.destination.port {
            Some(port) => format!("{}:{port}", named(destination)),
            None => named(destination),
        },
        source,
        destination,
        seen: flow.action,
        change,
    }
}

fn text(plan: &Plan) -> String {
    let word = |effect| match effect {
        FlowEffect::Cut => "cut",
        FlowEffect::NewlyAllowed => "newly allowed",
        FlowEffect::Unchanged => "unchanged",
    };
    let rows: Vec<Vec<String>> = plan
        .flows
        .iter()
        .map(|flow| {
            let Planned { protocol, from, to, change, .. } = flow;
            let effect = word(change.effect).to_owned();
            vec![effect, protocol.clone(), from.clone(), to.clone(), change.after.clone()]
        })
        .collect();
    let total = format!(
        "flows: {} cut, {} newly allowed, {} unchanged\n",
        plan.cut, plan.newly_allowed, plan.unchanged
    );
    match rows.is_empty() {
        true => total,
        false => table::plain(&["EFFECT", "PROTOCOL", "FROM", "TO", "DECIDED BY"], &rows) + &total,
    }
}

#[cfg(test)]
mod tests {
    use api::wire::flows::FlowEnd;

    use super::*;

    fn flow(source: &str, port: u16, seen: i64, action: FlowAction) -> Flow {
        let end =
            |address: &str, port| FlowEnd { address: address.parse().unwrap(), port: Some(port), name: None };
        Flow {
            node: "n".to_owned(),
            first_seen: 0,
            last_seen: seen,
            action,
            protocol: 6,
            icmp: None,
            source: end(source, 41000),
            destination: end("10.0.0.9", port),
            packets: 1,
            denied_packets: 0,
            policies: Vec::new(),
        }
    }

    #[test]
    fn a_flow_that_several_nodes_have_seen_counts_once_as_it_was_last_seen() {
        let flows = vec![
            flow("10.0.0.1", 80, 5, FlowAction::Deny),
            flow("10.0.0.1", 80, 0, FlowAction::Allow),
            flow("10.0.0.1", 81, 1, FlowAction::Allow),
        ];
        let once = once(flows);
        assert_eq!(once.len(), 2);
        assert_eq!(once[0].action, FlowAction::Deny);
        let packet = packet(&once[0]);
        assert_eq!((packet.source_port, packet.destination_port, packet.protocol), (41000, 80, 6));
    }
}
