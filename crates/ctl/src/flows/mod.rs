//! `calicoctl flows`: what this host's node has seen of packets and the rules that decide about them.

mod names;
mod text;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use api::wire::flows::{Flow, FlowsQuestion};
use api::wire::{Answer, Request};
use clap::{Args, ValueEnum};

use crate::Console;
use crate::cli::Global;
use names::Names;
pub(crate) use text::protocol;

/// How long a node may take for what it remembers.
const LIMIT: Duration = Duration::from_secs(10);
/// Lines that may wait to be shown; then nodes wait.
const WAITING: usize = 256;

/// Show which packets this host's policies deny and allow, and the rules that decide. Without --follow: those of the last 15
/// minutes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl flows --follow --denied            what is denied from now on, as it happens
  calicoctl flows --pod shop/db                what came to or from a pod lately
  calicoctl flows --connections -o json > flows.json
                                               for calicoctl policy plan --flows flows.json

A line is a flow: packets between two addresses to one port, whatever port they come from. PACKETS
are those that were looked at: each that was denied, and the first ones of connections. What is
allowed is looked at only while somebody follows it, while a staged policy has a say about it, or
if FelixConfiguration says flowLogsLocalReporter: Enabled; what is denied always is.

Of more than 2000 packets a second the rest is not seen; lines that begin with '!' say how many.
'staged:' is what would happen if staged policies were enforced.")]
pub(crate) struct FlowsArgs {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only what is denied
    #[arg(long)]
    denied: bool,
    /// Only what comes from or goes to a pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// The connections that the kernel tracks too
    #[arg(long, conflicts_with = "follow")]
    connections: bool,
    /// End after so many lines
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    lines: Option<u32>,
    /// The socket of a node, if not this host's; may be repeated
    #[arg(long, value_name = "FILE")]
    socket: Vec<String>,
    /// table, or json: an object a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(crate) fn run(args: &FlowsArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let mut names = Names::open(global, console);
    let request = Request::Flows(question(args, &mut names)?);
    let sockets = match args.socket.is_empty() {
        true => vec![console.node_socket()],
        false => args.socket.clone(),
    };
    if args.output == Format::Table {
        writeln!(console.output, "{}", text::HEADING)?;
        console.output.flush()?;
    }
    let limit = (!args.follow).then_some(LIMIT);
    let (lines, said) = sync_channel(WAITING);
    for socket in sockets {
        let (lines, request) = (lines.clone(), request.clone());
        // It ends with the process, if not before: nothing is lost with it.
        std::thread::spawn(move || hear(&socket, &request, limit, &lines));
    }
    drop(lines);
    let mut left = args.lines.unwrap_or(u32::MAX);
    for said in said {
        match said? {
            Answer::Flow(mut flow) => {
                names.fill_in(&mut flow);
                show(&flow, args.output, console)?;
                left -= 1;
            }
            Answer::Unseen(unseen) => writeln!(console.errors, "! {}", text::unseen(&unseen))?,
            Answer::Error(error) => bail!("{}", error.msg),
            other => bail!("a node answered another question: {other:?}"),
        }
        if args.follow {
            console.output.flush()?;
        }
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// Hands on what a node says, until it has said all.
fn hear(socket: &str, request: &Request, limit: Option<Duration>, lines: &SyncSender<Result<Answer>>) {
    let mut ended = false;
    let outcome = client::follow(Path::new(socket), request, limit, |answer| match answer {
        Answer::Done => {
            ended = true;
            ControlFlow::Break(())
        }
        answer => match lines.send(Ok(answer)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
    });
    let failure = match outcome {
        Ok(()) if ended => return,
        Ok(()) => anyhow!("the node on {socket} has ended; ask again when it runs"),
        Err(error) => error.into(),
    };
    let _ = lines.send(Err(failure));
}

fn show(flow: &Flow, format: Format, console: &mut Console<'_>) -> Result<()> {
    match format {
        Format::Table => writeln!(console.output, "{}", text::line(flow))?,
        Format::Json => writeln!(console.output, "{}", serde_json::to_string(flow)?)?,
    }
    Ok(())
}

fn question(args: &FlowsArgs, names: &mut Names) -> Result<FlowsQuestion> {
    let pod = args.pod.clone();
    let addresses: Vec<IpAddr> = match &pod {
        Some(pod) if pod.split('/').count() != 2 => {
            bail!("--pod {pod:?} is not NAMESPACE/NAME, for example shop/db")
        }
        Some(pod) => names.addresses(pod),
        None => Vec::new(),
    };
    let FlowsArgs { follow, denied, connections, .. } = *args;
    Ok(FlowsQuestion { follow, denied, pod, addresses, connections })
}

/// Asks a node for all that it remembers, and the connections that it tracks; with what is missing of them, in words.
///
/// # Errors
/// No node answers, or it watches no flows.
pub(crate) fn remembered(socket: &str) -> Result<(Vec<Flow>, Vec<String>)> {
    let request = Request::Flows(FlowsQuestion { connections: true, ..FlowsQuestion::default() });
    let (mut flows, mut missing, mut failure, mut ended) = (Vec::new(), Vec::new(), None, false);
    client::follow(Path::new(socket), &request, Some(LIMIT), |answer| {
        match answer {
            Answer::Flow(flow) => {
                flows.push(*flow);
                return ControlFlow::Continue(());
            }
            Answer::Unseen(unseen) => {
                missing.push(text::unseen(&unseen));
                return ControlFlow::Continue(());
            }
            Answer::Done => ended = true,
            Answer::Error(error) => failure = Some(anyhow!("{}", error.msg)),
            other => failure = Some(anyhow!("the node answered another question: {other:?}")),
        }
        ControlFlow::Break(())
    })?;
    match failure {
        Some(error) => Err(error).with_context(|| format!("flows of the node on {socket}")),
        None if !ended => {
            Err(anyhow!("the node on {socket} ended before it had told all its flows; ask again"))
        }
        None => Ok((flows, missing)),
    }
}

/// Reads what `calicoctl flows -o json` has written.
///
/// # Errors
/// A line is not a flow.
pub(crate) fn read(text: &str) -> Result<Vec<Flow>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).with_context(|| {
                format!("line {} is not a flow as `calicoctl flows -o json` writes it", index + 1)
            })
        })
        .collect()
}
