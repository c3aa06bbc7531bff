//! `calicoctl bgp routes`.

use anyhow::Result;
use api::documents;
use api::wire::bgp::{Question, Reply, Route, RoutesQuestion, View};
use clap::Args;
use ipnet::IpNet;

use super::ask::{ask, other_question};
use super::plan_output::Format;
use crate::{Console, table};

/// So many routes are sorted before they are shown; of more, each page is shown as it comes.
const SORTED: usize = 10_000;

/// Show the routes that BGP has on this host.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp routes                                  all, from all peers
  calicoctl bgp routes --received 172.30.0.254          what it told us, behind import filters
  calicoctl bgp routes --advertised 172.30.0.254        what we told it, behind export filters
  calicoctl bgp routes --prefix 10.65.0.0/16 --longer   a prefix and everything in it
  calicoctl bgp routes -o json | jq '.[] | select(.unusable)'

In the first column * is the route that is used, = one that is used beside it (ECMP), s one that
is stale: kept over a restart of the peer, ! one that cannot be used: calicoctl bgp why PREFIX
says why. Large tables come page by page, in the order in which prefixes came; up to 10,000
routes are sorted.")]
pub(crate) struct RoutesArgs {
    /// What this peer told us
    #[arg(long, value_name = "PEER", conflicts_with = "advertised")]
    received: Option<String>,
    /// What this peer was told
    #[arg(long, value_name = "PEER")]
    advertised: Option<String>,
    /// Only this prefix
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<IpNet>,
    /// And all prefixes in it
    #[arg(long, requires = "prefix")]
    longer: bool,
    /// Stop after so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(args: &RoutesArgs, console: &mut Console<'_>) -> Result<()> {
    let view = match (&args.received, &args.advertised) {
        (Some(peer), _) => View::Received(peer.clone()),
        (_, Some(peer)) => View::Advertised(peer.clone()),
        _ => View::All,
    };
    let mut question = RoutesQuestion { view, prefix: args.prefix, longer: args.longer, from: None };
    let mut printer =
        Printer { format: args.output, left: args.limit, shown: 0, more: false, waiting: Vec::new() };
    loop {
        let Reply::Routes(page) = ask(Question::Routes(question.clone()), console)? else {
            return Err(other_question(&console.node_socket()));
        };
        printer.add(page.routes, console)?;
        question.from = page.next;
        if question.from.is_none() || printer.more {
            return printer.end(console);
        }
    }
}

/// Shows routes: sorted while they are few, else as they come.
struct Printer {
    format: Format,
    /// How many more are wanted; all without.
    left: Option<usize>,
    shown: usize,
    /// There are more than were wanted.
    more: bool,
    waiting: Vec<Route>,
}

impl Printer {
    fn add(&mut self, mut routes: Vec<Route>, console: &mut Console<'_>) -> Result<()> {
        if let Some(left) = &mut self.left {
            self.more = routes.len() > *left;
            routes.truncate(*left);
            *left -= routes.len();
        }
        self.waiting.extend(routes);
        if self.shown > 0 || self.waiting.len() > SORTED {
            self.show(console)?;
        }
        Ok(())
    }

    fn show(&mut self, console: &mut Console<'_>) -> Result<()> {
        let routes = std::mem::take(&mut self.waiting);
        let first = self.shown == 0;
        self.shown += routes.len();
        let text = match self.format {
            Format::Table => rows(&routes, first),
            Format::Yaml if routes.is_empty() => String::new(),
            Format::Yaml => documents::to_yaml(&serde_json::to_value(&routes)?),
            Format::Json => {
                let items = routes.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
                let begin = if first { "[\n" } else { ",\n" };
                let items = items.join(",\n");
                if items.is_empty() && !first { String::new() } else { begin.to_owned() + &items }
            }
        };
        Ok(console.output.write_all(text.as_bytes())?)
    }

    fn end(mut self, console: &mut Console<'_>) -> Result<()> {
        if self.shown == 0 {
            self.waiting.sort_by_key(|route| (route.prefix, !route.best, !route.multipath, route.from));
            self.show(console)?;
        }
        match self.format {
            Format::Json => writeln!(console.output, "\n]")?,
            Format::Yaml if self.shown == 0 => writeln!(console.output, "[]")?,
            Format::Yaml | Format::Table => {}
        }
        if self.more {
            writeln!(console.errors, "There are more; --limit shows more of them.")?;
        }
        Ok(())
    }
}

const HEADINGS: [&str; 9] =
    ["", "PREFIX", "NEXT HOP", "FROM", "LOCAL PREF", "MED", "AS PATH", "ORIGIN", "COMMUNITIES"];

fn rows(routes: &[Route], heading: bool) -> String {
    let rows: Vec<Vec<String>> = routes.iter().map(row).collect();
    let text = table::plain(&HEADINGS, &rows);
    match heading {
        true => text,
        false => text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default(),
    }
}

/// `*`, `=`, `s`, `!`.
pub(super) fn flags(route: &Route) -> String {
    let flags =
        [(route.best, '*'), (route.multipath, '='), (route.stale, 's'), (route.unusable.is_some(), '!')];
    flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).collect()
}

fn row(route: &Route) -> Vec<String> {
    let attributes = &route.attributes;
    let communities: Vec<_> =
        attributes.communities.iter().chain(&attributes.large_communities).map(String::as_str).collect();
    vec![
        flags(route),
        route.prefix.to_string(),
        route.next_hop.map_or_else(|| "self".to_owned(), |address| address.to_string()),
        route.from.map_or_else(|| "self".to_owned(), |address| address.to_string()),
        attributes.local_pref.to_string(),
        attributes.med.map(|med| med.to_string()).unwrap_or_default(),
        attributes.as_path.clone(),
        attributes.origin.clone(),
        communities.join(" "),
    ]
}
