//! How `calicoctl bgp plan` shows its findings.

use anyhow::Result;
use api::documents;
use calc::bgp_plan::{AnnouncementEffect, PlanChanges, SessionEffect};
use clap::ValueEnum;
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{Console, table};

/// So many peers of a change are named in a table.
const SHOWN: usize = 3;

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

/// What changes on some nodes.
pub(crate) fn write(
    nodes: &[(String, PlanChanges)],
    format: Format,
    console: &mut Console<'_>,
) -> Result<()> {
    match format {
        Format::Json => writeln!(console.output, "{}", documents::to_json(&to_value(nodes)).trim_end())?,
        Format::Yaml => write!(console.output, "{}", documents::to_yaml(&to_value(nodes)))?,
        Format::Table => write!(console.output, "{}", to_tables(nodes))?,
    }
    Ok(())
}

fn to_tables(nodes: &[(String, PlanChanges)]) -> String {
    let changed = || nodes.iter().filter(|(_, changes)| !changes.is_empty());
    let sessions: Vec<Vec<String>> =
        changed().flat_map(|(node, changes)| session_rows(node, changes)).collect();
    let prefixes: Vec<Vec<String>> =
        changed().flat_map(|(node, changes)| announcement_rows(node, changes)).collect();
    let mut text = String::new();
    if !sessions.is_empty() {
        text += &table::plain(&["NODE", "SESSION", "OF", "CHANGE", "WHY"], &sessions);
        text.push('\n');
    }
    if !prefixes.is_empty() {
        text += &table::plain(&["NODE", "PREFIX", "CHANGE", "PEERS"], &prefixes);
        text.push('\n');
    }
    for (node, changes) in changed() {
        if changes.kernel {
            text += &format!("{node}: the rules by which routes get into the kernel change\n");
        }
        for change in &changes.addresses {
            let (address, interface) = (change.address, &change.interface);
            let what = if change.added { "comes to" } else { "goes from" };
            text += &format!("{node}: {address}, which workloads dial, {what} {interface}\n");
        }
        for (change, aggregates) in aggregate_changes(changes) {
            aggregates.iter().for_each(|prefix| text += &format!("{node}: aggregate {prefix} {change}\n"));
        }
        for (change, stations) in station_changes(changes) {
            stations.iter().for_each(|station| text += &format!("{node}: BMP station {station} {change}\n"));
        }
        for problem in &changes.problems {
            text += &format!("{node}: {problem}\n");
        }
    }
    text + &summary(nodes) + "\n"
}

fn aggregate_changes(changes: &PlanChanges) -> [(&'static str, &[IpNet]); 3] {
    [
        ("is told while the node has a route in it", &changes.aggregates_added),
        ("is told no more", &changes.aggregates_removed),
        ("is told otherwise", &changes.aggregates_changed),
    ]
}

fn station_changes(changes: &PlanChanges) -> [(&'static str, &[String]); 3] {
    [
        ("is dialled", &changes.stations_added),
        ("is told nothing more", &changes.stations_removed),
        ("is told other things: it is dialled anew", &changes.stations_changed),
    ]
}

fn summary(nodes: &[(String, PlanChanges)]) -> String {
    let sessions = || nodes.iter().flat_map(|(_, changes)| &changes.sessions);
    let count = |is: fn(&SessionEffect) -> bool| sessions().filter(|session| is(&session.effect)).count();
    let [added, removed, reset, in_place] = [
        count(|effect| matches!(effect, SessionEffect::Added)),
        count(|effect| matches!(effect, SessionEffect::Removed)),
        count(|effect| matches!(effect, SessionEffect::Reset(_))),
        count(|effect| matches!(effect, SessionEffect::InPlace(_))),
    ];
    let changed = nodes.iter().filter(|(_, changes)| !changes.is_empty()).count();
    let total = nodes.len();
    match changed {
        0 => format!("Nothing changes on {total} node(s)."),
        _ => format!(
            "{added} session(s) added, {removed} removed, {reset} reset, {in_place} changed in place; {changed} of {total} \
             node(s) affected."
        ),
    }
}

fn session_rows(node: &str, changes: &PlanChanges) -> Vec<Vec<String>> {
    let row = |session: &calc::bgp_plan::SessionChange| {
        let (change, why) = effect(&session.effect);
        vec![
            node.to_owned(),
            session.peer.to_string(),
            session.object.clone(),
            change.to_owned(),
            why.join(", "),
        ]
    };
    changes.sessions.iter().map(row).collect()
}

fn announcement_rows(node: &str, changes: &PlanChanges) -> Vec<Vec<String>> {
    let row = |change: &calc::bgp_plan::AnnouncementChange| {
        let named: Vec<String> = change.peers.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = change.peers.len().saturating_sub(SHOWN);
        let peers = named.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() };
        vec![node.to_owned(), change.prefix.to_string(), announcement(change.effect).to_owned(), peers]
    };
    changes.announcements.iter().map(row).collect()
}

/// The effect in a word, and its causes.
fn effect(effect: &SessionEffect) -> (&'static str, Vec<&'static str>) {
    match effect {
        SessionEffect::Added => ("added", Vec::new()),
        SessionEffect::Removed => ("removed", Vec::new()),
        SessionEffect::Reset(causes) => ("reset", causes.clone()),
        SessionEffect::InPlace(difference) => {
            let parts = [(difference.import, "import"), (difference.export, "export")];
            ("in place", parts.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect())
        }
    }
}

fn announcement(effect: AnnouncementEffect) -> &'static str {
    match effect {
        AnnouncementEffect::Announced => "announced",
        AnnouncementEffect::Withdrawn => "withdrawn",
        AnnouncementEffect::Changed => "changed",
    }
}

/// `{nodes: [{node, sessions: [{peer, object, change, causes}], announcements: [{prefix, change, peers}], kernelRulesChange,
/// workloadAddresses: [{interface, address, change}], aggregates: {added, removed, changed}, stations: {added, removed,
/// changed}, problems}]}`; nodes on which nothing changes have empty lists.
fn to_value(nodes: &[(String, PlanChanges)]) -> Value {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(node, changes)| {
            let sessions = changes.sessions.iter().map(|session| {
                let (change, causes) = effect(&session.effect);
                json!({"peer": session.peer.0, "object": session.object, "change": change, "causes": causes})
            });
            let announcements = changes.announcements.iter().map(|change| {
                let peers: Vec<&str> = change.peers.iter().map(|peer| peer.0.as_str()).collect();
                json!({"prefix": change.prefix, "change": announcement(change.effect), "peers": peers})
            });
            let addresses = changes.addresses.iter().map(|change| {
                let effect = if change.added { "added" } else { "removed" };
                json!({"interface": &*change.interface, "address": change.address, "change": effect})
            });
            let problems = changes.problems.iter().map(ToString::to_string);
            json!({
                "node": node,
                "sessions": sessions.collect::<Vec<_>>(),
                "announcements": announcements.collect::<Vec<_>>(),
                "kernelRulesChange": changes.kernel,
                "workloadAddresses": addresses.collect::<Vec<_>>(),
                "aggregates": {
                    "added": changes.aggregates_added,
                    "removed": changes.aggregates_removed,
                    "changed": changes.aggregates_changed,
                },
                "stations": {
                    "added": changes.stations_added,
                    "removed": changes.stations_removed,
                    "changed": changes.stations_changed,
                },
                "problems": problems.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "nodes": nodes })
}
