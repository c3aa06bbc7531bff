//! What this host's kernel holds for a packet, asked over the node's socket.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use api::wire::packet::{PacketFacts, PacketQuestion, StageFacts, StageQuestion};
use api::wire::{Answer, Request};
use calc::contract::Direction;
use calc::explain::{Explanation, Stage};
use client::Patience;
use serde::Serialize;

use crate::Console;

/// The node reads its rules, and works out all of them once more.
const PATIENCE: Patience = Patience { connect: Duration::ZERO, answer: Duration::from_secs(120) };

/// What the kernel of one node says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KernelView {
    /// Whether everything that was compared is as the model says.
    pub(crate) model_is_kernel: bool,
    /// The judgements of the packet on that node.
    pub(crate) judgements: Vec<String>,
    /// What it holds.
    #[serde(flatten)]
    pub(crate) facts: PacketFacts,
}

/// The node that answers on this host's socket.
///
/// # Errors
/// None answers, or it is another one than `wanted`.
pub(crate) fn socket_node(wanted: Option<&str>, console: &Console<'_>) -> Result<String> {
    let socket = console.node_socket();
    let Answer::NodeStatus(status) = ask(&Request::NodeStatus, console)? else {
        bail!("the node on {socket} answered another question: is it of the same version as this calicoctl?");
    };
    match wanted.filter(|wanted| *wanted != status.node) {
        None => Ok(status.node),
        Some(wanted) => bail!(
            "--node {wanted}: on {socket} node {} answers; run this on {wanted}, or name the socket of its node with \
             TORTIE_NODE_SOCKET",
            status.node
        ),
    }
}

/// What the kernel of a node holds for a packet; `None`: the packet meets no policy there.
///
/// # Errors
/// The node does not answer, or says why it cannot.
pub(crate) fn look(answer: &Explanation, node: &str, console: &Console<'_>) -> Result<Option<KernelView>> {
    let stages: Vec<&Stage> =
        answer.stages.iter().filter(|stage| stage.node == node && stage.chain.is_some()).collect();
    let Some(packet) = stages.first().and_then(|stage| stage.chain.as_ref()).map(|chain| &chain.packet)
    else {
        return Ok(None);
    };
    let question = PacketQuestion {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.protocol,
        source_port: packet.source_port,
        destination_port: packet.destination_port,
        stages: stages.iter().filter_map(|stage| question(stage)).collect(),
    };
    match ask(&Request::Packet(question), console)? {
        Answer::Packet(facts) => Ok(Some(KernelView {
            model_is_kernel: facts.difference.is_none() && facts.not_compared.is_none(),
            judgements: stages.iter().map(|stage| stage.at.clone()).collect(),
            facts: *facts,
        })),
        Answer::Error(error) => Err(anyhow!("{}", error.msg)),
        _ => bail!("the node answered another question: is it of the same version as this calicoctl?"),
    }
}

fn ask(request: &Request, console: &Console<'_>) -> Result<Answer> {
    Ok(client::ask(Path::new(&console.node_socket()), request, PATIENCE)?)
}

fn question(stage: &Stage) -> Option<StageQuestion> {
    let chain = stage.chain.as_ref()?;
    Some(StageQuestion {
        at: chain.at.clone(),
        ingress: chain.direction == Direction::Ingress,
        origin: stage.decided_by.origin.clone(),
    })
}

/// For people.
pub(crate) fn text(view: &KernelView) -> String {
    let facts = &view.facts;
    let mut text = format!("\nKernel of node {} ({})\n", facts.node, facts.backend);
    for (judgement, stage) in view.judgements.iter().zip(&facts.stages) {
        text += &stage_text(judgement, stage);
    }
    let _ = writeln!(text, "  route: {}", facts.route);
    match &facts.connections[..] {
        [] => text += "  conntrack: no connection between the two addresses\n",
        connections => {
            for connection in connections {
                let _ = writeln!(text, "  conntrack: {connection}");
            }
            if facts.more_connections > 0 {
                let _ = writeln!(text, "  conntrack: … and {} more", facts.more_connections);
            }
        }
    }
    let _ = match (&facts.difference, &facts.not_compared) {
        (Some(difference), _) => writeln!(text, "  model and kernel differ: {difference}"),
        (None, Some(reason)) => writeln!(text, "  not compared: {reason}"),
        (None, None) => writeln!(text, "  model = kernel"),
    };
    text
}

fn stage_text(judgement: &str, stage: &StageFacts) -> String {
    let Some(chain) = &stage.chain else { return format!("  {judgement}: no chain\n") };
    let StageFacts { chains, rules, .. } = stage;
    let mut text = format!("  {judgement}: chain {chain} ({rules} rules in {chains} chains)\n");
    match &stage.rule {
        None => text += "    no rule decides, or it is not there\n",
        Some(rule) => {
            let counted = match (rule.packets, rule.bytes) {
                (Some(packets), Some(bytes)) => format!("has decided on {packets} packets, {bytes} bytes"),
                _ => "has no counter".to_owned(),
            };
            let _ = writeln!(text, "    deciding rule: {} rule {}, {counted}", rule.chain, rule.index);
        }
    }
    for set in &stage.sets {
        let has = |yes: bool| if yes { "in" } else { "not in" };
        let (source, destination) = (has(set.has_source), has(set.has_destination));
        let _ = writeln!(
            text,
            "    set {} ({}): source {source}, destination {destination}, {} members",
            set.name, set.meaning, set.members
        );
    }
    if stage.more_sets > 0 {
        let _ = writeln!(text, "    … and {} more sets", stage.more_sets);
    }
    text
}
