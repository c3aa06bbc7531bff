//! `calicoctl explain`.

mod kernel;
mod text;

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use api::scalars::Protocol;
use calc::cluster::{Cluster, Found, Place, ServicePlace};
use calc::evaluator::Packet;
use calc::explain::{Explainer, Explanation, Question, Ruling, Translation, common_family};
use clap::Args;
use serde::Serialize;

use crate::Console;
use crate::bgp::{Format, show};
use crate::cli::Global;
use crate::cluster::ClusterArgs;
use kernel::KernelView;
pub(crate) use text::explanation_text;

/// Say whether a packet would pass, and why: every tier, policy and rule on its way, the route, and what is translated.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl explain --from dev/web --to prod/db --protocol TCP --port 5432
  calicoctl explain --from 192.0.2.7 --to prod/db --protocol TCP --port 5432   from outside
  calicoctl explain --from prod/web --to service/prod/db --protocol TCP --port 5432 --file all.yaml
  calicoctl explain --from prod/web --to 8.8.8.8                               a ping
  calicoctl explain --from prod/web --to node/n2 --protocol TCP --port 22 -o json

An end is an address, [NAMESPACE/]POD, node/NAME or service/[NAMESPACE/]NAME. Both ends are judged,
also if the first one denies. A rule that did not match says which of its conditions failed. It is
the first packet of a new connection that is judged: later ones, and answers, pass with it.

On a node, its kernel is asked too: are the rules, sets and maps there that policy asks for, what has
the deciding rule counted, which connections are known, which route is taken. Run it on the other
end's node for the other end.

--file asks a cluster that is only written down, such as a repository of manifests. Pods in it
that have no address get one; Services count with their EndpointSlices.")]
pub(crate) struct ExplainArgs {
    /// Who sends: an address, [NAMESPACE/]POD or node/NAME
    #[arg(long, value_name = "POD|IP")]
    from: String,
    /// Who is to receive: as --from, or service/[NAMESPACE/]NAME
    #[arg(long, value_name = "POD|IP|SERVICE")]
    to: String,
    #[command(flatten)]
    what: PacketArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The node whose kernel is asked; it has to be the one of this host
    #[arg(long, value_name = "NODE", conflicts_with = "file")]
    node: Option<String>,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Which packet.
#[derive(Debug, Args)]
pub(crate) struct PacketArgs {
    /// TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number [default: a ping]
    #[arg(long, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<String>,
    /// Destination port, for TCP, UDP and SCTP
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Source port
    #[arg(long, value_name = "PORT", default_value_t = Self::SOURCE_PORT)]
    pub(crate) source_port: u16,
    /// ICMP type and code [default: echo request]
    #[arg(long, value_name = "TYPE[/CODE]")]
    pub(crate) icmp: Option<String>,
}

/// The packets of a question: one, or one for each backend of a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    /// `allow`, `deny`, or `mixed` where backends differ.
    pub(crate) verdict: &'static str,
    /// Each.
    pub(crate) answers: Vec<Explanation>,
}

/// With what the kernel holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    verdict: &'static str,
    answers: Vec<CheckedExplanation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckedExplanation {
    #[serde(flatten)]
    explanation: Explanation,
    /// What this host's kernel holds, if it judges the packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<KernelView>,
    /// Kernels that were not asked, and how to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_asked: Vec<String>,
}

pub(crate) fn run(args: &ExplainArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let cluster = args.cluster.load(global, console)?;
    let mut explainer = Explainer::new(&cluster);
    let Answer { verdict, answers } = answer(&cluster, &mut explainer, (&args.from, &args.to), &args.what)?;
    let is_offline = !args.cluster.file.is_empty();
    let socket = match (is_offline, kernel::socket_node(args.node.as_deref(), console)) {
        (true, _) => None,
        (false, Err(error)) if args.node.is_some() => return Err(error),
        (false, node) => Some(node),
    };
    let mut checked = Vec::new();
    for explanation in answers {
        checked.push(match &socket {
            None => CheckedExplanation { explanation, kernel: None, not_asked: Vec::new() },
            Some(node) => check(explanation, node, console)?,
        });
    }
    show(&Checked { verdict, answers: checked }, args.output, console, |checked| {
        let texts: Vec<String> = checked.answers.iter().map(checked_text).collect();
        texts.join("\n")
    })
}

/// Asks the kernel behind this host's socket, and says how to ask the others.
fn check(
    explanation: Explanation,
    socket: &Result<String>,
    console: &Console<'_>,
) -> Result<CheckedExplanation> {
    let kernel = match socket {
        Ok(node) => kernel::look(&explanation, node, console)?,
        Err(_) => None,
    };
    let mut not_asked: Vec<String> = Vec::new();
    for stage in &explanation.stages {
        let is_asked = socket.as_ref().is_ok_and(|node| *node == stage.node);
        let text = match socket {
            _ if is_asked || stage.chain.is_none() => continue,
            Ok(_) => format!("node {0}: run this on {0} to see its kernel", stage.node),
            Err(error) => format!("node {}: {error}", stage.node),
        };
        if !not_asked.contains(&text) {
            not_asked.push(text);
        }
    }
    Ok(CheckedExplanation { explanation, kernel, not_asked })
}

fn checked_text(checked: &CheckedExplanation) -> String {
    let mut text = explanation_text(&checked.explanation);
    text += &checked.kernel.as_ref().map(kernel::text).unwrap_or_default();
    checked.not_asked.iter().for_each(|line| text += &format!("Kernel of {line}\n"));
    text
}

/// Explains what is sent from one end to the other.
///
/// # Errors
/// An end is not known or has more than one meaning, or the packet is none.
pub(crate) fn answer(
    cluster: &Cluster,
    explainer: &mut Explainer<'_>,
    (from, to): (&str, &str),
    what: &PacketArgs,
) -> Result<Answer> {
    let sender = match cluster.find(from).context("--from")? {
        Found::Place(place) => place,
        Found::Service(service) => {
            bail!("--from {from}: service {} sends nothing; name one of its pods", service.name)
        }
    };
    let answers: Vec<Explanation> = match cluster.find(to).context("--to")? {
        Found::Place(place) => vec![explainer.explain(&question(sender, place, what)?)],
        Found::Service(service) => backends(cluster, &sender, &service, what)?
            .into_iter()
            .map(|(question, translation)| {
                let mut answer = explainer.explain(&question);
                answer.nat.insert(0, translation);
                answer
            })
            .collect(),
    };
    Ok(Answer { verdict: verdict(&answers), answers })
}

fn verdict(answers: &[Explanation]) -> &'static str {
    let denied = answers.iter().filter(|answer| answer.verdict == Ruling::Deny).count();
    match denied {
        0 => "allow",
        all if all == answers.len() => "deny",
        _ => "mixed",
    }
}

fn question(from: Place, to: Place, what: &PacketArgs) -> Result<Question> {
    let Some((source, destination)) = common_family(&from, &to) else {
        let of = |place: &Place| {
            let texts: Vec<String> = place.addresses().iter().map(ToString::to_string).collect();
            if texts.is_empty() { "no address".to_owned() } else { texts.join(", ") }
        };
        bail!(
            "{from} has {}, {to} has {}: no address of the same family; nothing can be sent between them",
            of(&from),
            of(&to)
        );
    };
    Ok(Question { packet: what.packet(source, destination)?, from, to })
}

/// One question for each backend, after the translation that kube-proxy makes.
fn backends(
    cluster: &Cluster,
    from: &Place,
    service: &ServicePlace,
    what: &PacketArgs,
) -> Result<Vec<(Question, Translation)>> {
    let name = &service.name;
    let Some(port) = what.port else {
        bail!("--to service {name}: a service has ports; add --protocol and --port");
    };
    let protocol = what.protocol_number(true)?;
    let of_port: Vec<_> =
        service.backends.iter().filter(|(of, at, ..)| (*of, *at) == (protocol, port)).collect();
    if of_port.is_empty() {
        let known: BTreeSetText = service.backends.iter().map(|(of, at, ..)| (*of, *at)).collect();
        bail!("--to service {name}: it has no ready backend for port {port}; it has some for {known}");
    }
    let mut questions = Vec::new();
    for (_, _, address, target) in of_port {
        let to = match cluster.find(&address.to_string())? {
            Found::Place(place) => place,
            Found::Service(_) => Place::Outside { address: *address },
        };
        let at_backend = PacketArgs {
            protocol: what.protocol.clone(),
            port: Some(*target),
            source_port: what.source_port,
            icmp: None,
        };
        let own = service.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
        let own = own.map_or_else(|| name.clone(), ToString::to_string);
        let translation = Translation {
            at: "the sender's node, before policy (kube-proxy)".to_owned(),
            what: format!("service {name}: {own} port {port} becomes {address} port {target}"),
            source: None,
        };
        questions.push((question(from.clone(), to, &at_backend)?, translation));
    }
    Ok(questions)
}

/// Protocols and ports in words.
struct BTreeSetText(std::collections::BTreeSet<(u8, u16)>);

impl FromIterator<(u8, u16)> for BTreeSetText {
    fn from_iter<T: IntoIterator<Item = (u8, u16)>>(items: T) -> Self {
        Self(items.into_iter().collect())
    }
}

impl std::fmt::Display for BTreeSetText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let text =
            |(protocol, port): &(u8, u16)| format!("{} {port}", calc::explain::words::protocol(*protocol));
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join(", "))
    }
}

impl PacketArgs {
    /// Where packets come from unless it is said.
    pub(crate) const SOURCE_PORT: u16 = 40000;

    /// The first packet.
    ///
    /// # Errors
    /// Protocol, port and ICMP type do not fit together.
    pub(crate) fn packet(&self, source: IpAddr, destination: IpAddr) -> Result<Packet> {
        let protocol = self.protocol_number(destination.is_ipv4())?;
        let has_ports = matches!(protocol, 6 | 17 | 132);
        let name = calc::explain::words::protocol(protocol);
        ensure!(
            !has_ports || self.port.is_some(),
            "--protocol {name} says nothing without a port: add --port, as in --port 443"
        );
        ensure!(has_ports || self.port.is_none(), "--port: {name} has no ports; only TCP, UDP and SCTP have");
        let mut packet = Packet::new(source, destination, protocol, self.port.unwrap_or_default());
        packet.source_port = self.source_port;
        if let Some(icmp) = &self.icmp {
            ensure!(
                matches!(protocol, 1 | 58),
                "--icmp: {name} has no types; leave out --protocol, or say ICMP"
            );
            let (kind, code) = icmp.split_once('/').unwrap_or((icmp, "0"));
            let number = |text: &str| text.parse::<u8>();
            packet.icmp = number(kind).ok().zip(number(code).ok()).with_context(|| {
                format!("--icmp {icmp:?} is not a type and code such as 8 or 3/1, each from 0 to 255")
            })?;
        }
        Ok(packet)
    }

    fn protocol_number(&self, v4: bool) -> Result<u8> {
        match (&self.protocol, self.port) {
            (Some(text), _) => {
                let parsed: Protocol =
                    text.parse().map_err(|error| anyhow::anyhow!("--protocol {text:?}: {error}"))?;
                Ok(parsed.number())
            }
            (None, Some(port)) => {
                bail!("--port {port} says nothing without a protocol: add --protocol TCP, UDP or SCTP")
            }
            (None, None) => Ok(if v4 { 1 } else { 58 }),
        }
    }
}
