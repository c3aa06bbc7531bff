//! `calicoctl bgp why`.

use std::fmt::Write as _;

use anyhow::Result;
use api::wire::bgp::{
    PolicyTrace, Question, Rejected, Reply, Route, Told, Why, WhyAggregate, WhyPath, WhyQuestion,
};
use clap::Args;

use super::ask::{ask, other_question, show};
use super::plan_output::Format;
use crate::Console;

/// Explain a route: every path for a prefix, which one is used and why the others are not, what filters did, who was told, and
/// what the kernel has.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp why 10.65.0.0/26                        a prefix
  calicoctl bgp why 10.65.0.7                           the longest prefix that has an address
  calicoctl bgp why 10.65.0.0/26 --peer 172.30.0.254    was this peer told? if not, why?

Each path says at which step of the selection (RFC 4271, section 9.1) it lost, and to whom.
Routes that import filters turned away are remembered, the first 256 of each peer. Filters'
steps are shown as they are now.")]
pub(crate) struct WhyArgs {
    /// A prefix, or an address
    #[arg(value_name = "PREFIX")]
    destination: String,
    /// Only whether this peer was told, by its address or name
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(args: &WhyArgs, console: &mut Console<'_>) -> Result<()> {
    let question = WhyQuestion { destination: args.destination.clone(), peer: args.peer.clone() };
    let Reply::Why(why) = ask(Question::Why(question), console)? else {
        return Err(other_question(&console.node_socket()));
    };
    show(&*why, args.output, console, text)
}

fn text(why: &Why) -> String {
    let mut text = format!("{}\n", why.prefix);
    if why.paths.is_empty() && why.rejected.is_empty() {
        text += "\nNo route: no peer tells one, we originate none, and no filter has turned one away.\n";
    }
    text += &why.aggregate.as_ref().map(aggregate_text).unwrap_or_default();
    for path in &why.paths {
        text += &path_text(path);
    }
    if why.more_paths > 0 {
        let _ = writeln!(text, "\n… and {} more that lost.", why.more_paths);
    }
    for rejected in &why.rejected {
        text += &rejected_text(rejected);
    }
    text += "\nKernel\n";
    text += &kernel_text(why);
    text + &told_text(why)
}

fn aggregate_text(aggregate: &WhyAggregate) -> String {
    let whom = if aggregate.internal_peers { "all peers" } else { "peers in other ASes" };
    let rest = if aggregate.summary_only { ", who are told nothing in it" } else { "" };
    if aggregate.count == 0 {
        return "\nAn aggregate that is not there: no selected route lies in it.\n".to_owned();
    }
    let mut text = format!("\nAn aggregate of {} routes for {whom}{rest}:\n", aggregate.count);
    aggregate.first.iter().for_each(|prefix| text += &format!("  {prefix}\n"));
    let more = aggregate.count.saturating_sub(aggregate.first.len() as u64);
    if more > 0 {
        let _ = writeln!(text, "  … and {more} more");
    }
    text
}

fn path_text(path: &WhyPath) -> String {
    let route = &path.route;
    let fate = match (&path.lost, &route.unusable) {
        _ if route.best => "used: the best route".to_owned(),
        _ if route.multipath => "used beside the best route (ECMP)".to_owned(),
        (_, Some(reason)) => format!("cannot be used: {reason}"),
        (Some(lost), None) => {
            let by = lost.beaten_by.as_deref().unwrap_or("our own route");
            format!("not used: lost to {by} by {}: {} against {}", lost.step, lost.this, lost.better)
        }
        (None, None) => "not used: nothing tells it apart from the best one, which came first".to_owned(),
    };
    let mut text = format!("\n{}\n  {fate}\n{}", heading(route), attributes(route));
    if let Some(import) = &path.import {
        text += &trace("import filters", import);
    }
    text
}

fn heading(route: &Route) -> String {
    let from = match (&route.from, &route.peer) {
        (Some(address), Some(name)) => format!("from {address} ({name})"),
        _ => "our own".to_owned(),
    };
    let via = route.next_hop.map(|address| format!(" via {address}")).unwrap_or_default();
    let stale = if route.stale { ", stale: kept over a restart of the peer" } else { "" };
    let path_id = route.path_id.map(|id| format!(", path identifier {id}")).unwrap_or_default();
    let mark = if route.best {
        "*"
    } else if route.multipath {
        "="
    } else {
        "-"
    };
    format!("{mark} {from}{via}{path_id}{stale}")
}

fn attributes(route: &Route) -> String {
    let attributes = &route.attributes;
    let as_path = if attributes.as_path.is_empty() { "(empty)" } else { &attributes.as_path };
    let med = attributes.med.map(|med| format!(", MED {med}")).unwrap_or_default();
    let mut text = format!(
        "  AS path {as_path}, origin {}, local preference {}{med}, preference {}\n",
        attributes.origin, attributes.local_pref, attributes.preference
    );
    let communities: Vec<_> =
        attributes.communities.iter().chain(&attributes.large_communities).map(String::as_str).collect();
    if !communities.is_empty() {
        let _ = writeln!(text, "  communities {}", communities.join(" "));
    }
    for (name, value) in &attributes.others {
        let _ = writeln!(text, "  {name} {value}");
    }
    text
}

fn trace(title: &str, trace: &PolicyTrace) -> String {
    let verdict = if trace.accepted { "let it through" } else { "reject it" };
    let mut text = format!("  {title} {verdict}\n");
    for step in &trace.steps {
        let condition =
            if step.condition.is_empty() { String::new() } else { format!(" ({})", step.condition) };
        let _ = writeln!(text, "    {}{condition}: {}", step.rule, step.outcome);
    }
    if let Some(default) = trace.default.as_ref().filter(|_| !trace.steps.is_empty()) {
        let _ = writeln!(text, "    no rule decides: {default}");
    }
    if !trace.exact {
        text += "    (seen on the route as it is now: filters changed it when it came)\n";
    }
    text
}

fn rejected_text(rejected: &Rejected) -> String {
    let heading = heading(&rejected.route);
    let heading = heading.trim_start_matches("- ");
    format!(
        "\nx {heading}\n  turned away\n{}{}",
        attributes(&rejected.route),
        trace("import filters", &rejected.import)
    )
}

fn kernel_text(why: &Why) -> String {
    let kernel = &why.kernel;
    if let Some(error) = &kernel.error {
        return format!("  cannot be read: {error}\n");
    }
    let mut text = String::new();
    match &kernel.exact[..] {
        [] => text += "  no route for exactly this prefix\n",
        routes => routes.iter().for_each(|route| text += &format!("  {route}\n")),
    }
    match &kernel.lookup {
        None => {
            let _ = writeln!(text, "  packets to {} have no route", why.prefix.addr());
        }
        Some(route) if !kernel.exact.contains(route) => {
            let _ = writeln!(text, "  packets to {} take: {route}", why.prefix.addr());
        }
        Some(_) => {}
    }
    if let Some(next_hop) = &kernel.next_hop {
        let _ = writeln!(text, "  the next hop is reached by: {next_hop}");
    }
    text
}

fn told_text(why: &Why) -> String {
    let mut text = "\nTold\n".to_owned();
    if why.told.is_empty() {
        text += "  nobody: no session is established\n";
    }
    why.told.iter().for_each(|told| text += &one_told(told));
    if why.more_peers > 0 {
        let _ = writeln!(text, "  … and {} more peers; --peer PEER asks about one", why.more_peers);
    }
    text
}

fn one_told(told: &Told) -> String {
    let mut text = String::new();
    let reason = told.reason.as_deref().unwrap_or_default();
    if told.routes.is_empty() {
        let _ = writeln!(text, "  {}: no: {reason}", told.address);
    }
    for route in &told.routes {
        let via = route.next_hop.map(|address| format!(" via {address}")).unwrap_or_default();
        let path = &route.attributes.as_path;
        let path = if path.is_empty() { String::new() } else { format!(", AS path {path}") };
        let note = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        let _ = writeln!(text, "  {}: yes{via}{path}{note}", told.address);
    }
    if let Some(export) = told.export.as_ref().filter(|export| !export.steps.is_empty()) {
        text += &trace("export filters", export).replace("\n  ", "\n    ").replacen("  ", "    ", 1);
    }
    text
}
