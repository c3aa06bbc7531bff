//! `calicoctl bgp what-if`.

use std::collections::BTreeMap;

use anyhow::Result;
use api::wire::bgp::{Event, Question, Reply, Route, RouteChange, SessionChange, ToldChange, WhatIfQuestion};
use clap::{ArgGroup, Args};
use serde::Serialize;
use std::path::PathBuf;

use super::ask::{ask, other_question, show};
use super::plan_output::Format;
use crate::files::FileArgs;
use crate::{Console, table};

/// Say which routes of this host would change if a peer were lost, or a file applied. Nothing is changed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("event").required(true).args(["down", "file"]))]
#[command(after_help = "\
Examples:
  calicoctl bgp what-if --down 172.30.0.254                    before the ToR is rebooted
  calicoctl bgp what-if --down 172.30.0.2 --down 172.30.0.3    several at once
  calicoctl bgp what-if --file filter.yaml                     before a file is applied
  calicoctl bgp what-if --file filter.yaml -o json

The node works it out on copies of its routes; nothing is applied. It is the end state that is
compared: a peer counts as lost for good, a session that is reset counts as back. What other
hosts would tell us then is not known beforehand. Which sessions of all nodes a file would reset
says calicoctl bgp plan -f FILE.")]
pub(crate) struct WhatIfArgs {
    /// The session with this peer is lost for good (its address or name; several times for several)
    #[arg(long, value_name = "PEER", conflicts_with = "file")]
    down: Vec<String>,
    /// The resources of this file (or folder, or - for standard input) are applied
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Show so many changed prefixes at most
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    limit: usize,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What would change.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    sessions: Vec<SessionChange>,
    changes: Vec<RouteChange>,
    /// Changes that were left out.
    more_changes: usize,
    told: Vec<ToldChange>,
    /// Prefixes that were looked at.
    examined: u64,
}

pub(crate) fn run(args: &WhatIfArgs, console: &mut Console<'_>) -> Result<()> {
    let event = match &args.down[..] {
        [] => Event::Apply(resources(&args.file, console)?),
        peers => Event::Down(peers.to_vec()),
    };
    let outcome = fetch(event, args.limit, console)?;
    show(&outcome, args.output, console, text)
}

fn resources(files: &[PathBuf], console: &mut Console<'_>) -> Result<Vec<serde_json::Value>> {
    let documents = FileArgs::of(files.to_vec()).load(console)?;
    Ok(documents.iter().map(|document| document.resource().to_value()).collect())
}

fn fetch(event: Event, limit: usize, console: &Console<'_>) -> Result<Outcome> {
    let mut question = WhatIfQuestion { event, from: None };
    let (mut outcome, mut told) = (Outcome::default(), BTreeMap::<String, ToldChange>::new());
    loop {
        let Reply::WhatIf(page) = ask(Question::WhatIf(question.clone()), console)? else {
            return Err(other_question(&console.node_socket()));
        };
        outcome.sessions.extend(page.sessions);
        outcome.examined += page.examined;
        let room = limit.saturating_sub(outcome.changes.len());
        outcome.more_changes += page.changes.len().saturating_sub(room);
        outcome.changes.extend(page.changes.into_iter().take(room));
        for change in page.told {
            let sum = told.entry(change.peer.clone()).or_default();
            sum.announced += change.announced;
            sum.changed += change.changed;
            sum.withdrawn += change.withdrawn;
            sum.peer = change.peer;
        }
        question.from = page.next;
        if question.from.is_none() {
            outcome.told = told.into_values().collect();
            outcome.changes.sort_by_key(|change| change.prefix);
            return Ok(outcome);
        }
    }
}

fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut section = |table: String| {
        text += &table;
        text.push('\n');
    };
    if !outcome.sessions.is_empty() {
        let rows: Vec<_> = outcome
            .sessions
            .iter()
            .map(|change| vec![change.address.to_string(), change.peer.clone(), change.change.clone()])
            .collect();
        section(table::plain(&["SESSION", "NAME", "CHANGE"], &rows));
    }
    if !outcome.changes.is_empty() {
        let rows: Vec<_> = outcome
            .changes
            .iter()
            .map(|change| vec![change.prefix.to_string(), used(&change.before), used(&change.after)])
            .collect();
        section(table::plain(&["PREFIX", "NOW", "THEN"], &rows));
    }
    if !outcome.told.is_empty() {
        let row = |told: &ToldChange| {
            let counts = [told.announced, told.changed, told.withdrawn];
            std::iter::once(told.peer.clone()).chain(counts.map(|count| count.to_string())).collect()
        };
        let rows: Vec<Vec<String>> = outcome.told.iter().map(row).collect();
        section(table::plain(&["TOLD", "NEW", "CHANGED", "WITHDRAWN"], &rows));
    }
    text + &summary(outcome)
}

fn used(routes: &[Route]) -> String {
    let one = |route: &Route| match route.next_hop {
        Some(address) => format!("via {address}"),
        None => "our own".to_owned(),
    };
    match routes {
        [] => "no route".to_owned(),
        routes => routes.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn summary(outcome: &Outcome) -> String {
    let all = outcome.changes.len() + outcome.more_changes;
    let lost = outcome.changes.iter().filter(|change| change.after.is_empty()).count();
    let left_out = match outcome.more_changes {
        0 => String::new(),
        more => format!(" ({more} are not shown; --limit shows more)"),
    };
    let lost = if lost > 0 { format!(", {lost} of those shown would have no route") } else { String::new() };
    format!("{all} of {} prefixes would change{lost}{left_out}. Nothing was changed.\n", outcome.examined)
}
