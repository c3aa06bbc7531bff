//! `calicoctl bgp stations`.

use std::fmt::Write as _;

use anyhow::Result;
use api::wire::bgp::{Question, Reply, Station};
use clap::Args;

use super::ask::{ask, other_question, show};
use super::plan_output::Format;
use crate::{Console, table};

/// Show the monitoring stations that this host tells what its peers say (BMP, RFC 7854).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp stations
  calicoctl bgp stations -o json | jq '.[] | select(.connectedSeconds == null) | .reason'

Stations are bmpStations of BGPConfiguration. UNREAD counts octets that a station has yet to read,
WAITING the changes that are not encoded for it yet.")]
pub(crate) struct StationsArgs {
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(args: &StationsArgs, console: &mut Console<'_>) -> Result<()> {
    let Reply::Stations(stations) = ask(Question::Stations, console)? else {
        return Err(other_question(&console.node_socket()));
    };
    show(&stations, args.output, console, |stations| to_table(stations))
}

fn to_table(stations: &[Station]) -> String {
    if stations.is_empty() {
        return "No stations: bmpStations of BGPConfiguration names them.\n".to_owned();
    }
    let rows: Vec<Vec<String>> = stations.iter().map(row).collect();
    let mut text = table::plain(&["STATION", "VIEWS", "STATE", "SECONDS", "UNREAD", "WAITING"], &rows);
    for station in stations {
        if let Some(reason) = station.reason.as_ref().filter(|_| station.connected_seconds.is_none()) {
            let _ = writeln!(text, "\n{}: {reason}; it is dialled again", station.name);
        }
    }
    text
}

fn row(station: &Station) -> Vec<String> {
    let state = if station.connected_seconds.is_some() { "connected" } else { "not connected" };
    vec![
        station.name.clone(),
        station.views.join(","),
        state.to_owned(),
        station.connected_seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
        station.unread_octets.to_string(),
        station.waiting_changes.to_string(),
    ]
}
