//! `calicoctl bgp peers`.

use anyhow::Result;
use api::wire::bgp::{Peer, PeerPath, PeersQuestion, Question, Reply};
use clap::Args;

use super::ask::{ask, other_question, show};
use super::plan_output::Format;
use crate::{Console, table};

/// Show this host's BGP sessions, and why those that are down are down.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp peers                 all sessions; WHY says why one is down
  calicoctl bgp peers 172.30.0.254    one: what to do, timers, counts, capabilities of both ends
  calicoctl bgp peers -o json | jq '.[] | select(.state != \"Established\") | .remedy'

RECEIVED counts the prefixes that the import filters let in, BEST those of them that are the best
route, TOLD what the peer was told. FLAPS counts how often an established session was lost. The
words of WHY may change, JSON field names do not.")]
pub(crate) struct PeersArgs {
    /// Only this peer, by its address or name
    peer: Option<String>,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(crate) fn run(args: &PeersArgs, console: &mut Console<'_>) -> Result<()> {
    let peers = fetch(args.peer.as_deref(), console)?;
    let one = args.peer.is_some();
    show(&peers, args.output, console, |peers| match &peers[..] {
        [] => "No BGP peers are configured.\n".to_owned(),
        [peer] if one => details(peer),
        peers => overview(peers),
    })
}

fn fetch(peer: Option<&str>, console: &Console<'_>) -> Result<Vec<Peer>> {
    let mut question = PeersQuestion { peer: peer.map(str::to_owned), from: None };
    let mut peers = Vec::new();
    loop {
        let Reply::Peers(page) = ask(Question::Peers(question.clone()), console)? else {
            return Err(other_question(&console.node_socket()));
        };
        peers.extend(page.peers);
        question.from = page.next;
        if question.from.is_none() {
            return Ok(peers);
        }
    }
}

const HEADINGS: [&str; 9] = ["PEER", "TYPE", "AS", "STATE", "FOR", "RECEIVED", "BEST", "TOLD", "FLAPS"];

fn overview(peers: &[Peer]) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut headings = HEADINGS.to_vec();
    headings.push("WHY");
    let rows: Vec<Vec<String>> = peers.iter().map(|peer| row(peer, now)).collect();
    table::plain(&headings, &rows)
}

fn row(peer: &Peer, now: i64) -> Vec<String> {
    let sum = |of: fn(&api::wire::bgp::PeerPrefixes) -> u64| {
        peer.prefixes.values().map(of).sum::<u64>().to_string()
    };
    let is_up = peer.uptime_seconds.is_some();
    let why = peer.reason.clone().filter(|_| !is_up).unwrap_or_default();
    vec![
        peer.address.to_string(),
        peer.peer_type.clone(),
        peer.remote_as.to_string(),
        peer.state.clone(),
        duration(now.saturating_sub(peer.since).max(0).unsigned_abs()),
        sum(|prefixes| prefixes.received),
        sum(|prefixes| prefixes.best),
        sum(|prefixes| prefixes.advertised),
        peer.flaps.to_string(),
        why,
    ]
}

/// `43s`, `12m`, `3h20m`, `5d2h`.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 120 => format!("{minutes}m"),
        () if hours < 48 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{}h", hours % 24),
    }
}

fn details(peer: &Peer) -> String {
    let now = jiff::Timestamp::now().as_second();
    let since = duration(now.saturating_sub(peer.since).max(0).unsigned_abs());
    let mut lines = vec![
        ("Peer", format!("{} ({}, AS {})", peer.address, peer.peer_type, peer.remote_as)),
        ("Name", peer.name.clone()),
        ("State", format!("{} for {since}", peer.state)),
    ];
    if let Some(reason) = &peer.reason {
        let title = if peer.uptime_seconds.is_some() { "Last down because" } else { "Why" };
        lines.push((title, reason.clone()));
    }
    lines.extend(peer.remedy.iter().map(|remedy| ("What to do", remedy.clone())));
    lines.push(("Came up", format!("{} times, lost {} times", peer.established_count, peer.flaps)));
    lines.push((
        "Our AS",
        format!("{}{}", peer.local_as, if peer.reflector_client { ", we reflect for it" } else { "" }),
    ));
    lines.extend(session(peer));
    lines.extend(peer.bfd.as_ref().map(|path| ("BFD", watched(path))));
    lines.push(("Configured", configured(peer)));
    for (family, prefixes) in &peer.prefixes {
        let stale = if prefixes.stale > 0 { format!(" ({} stale)", prefixes.stale) } else { String::new() };
        let text = format!(
            "{family}: received {}{stale}, best {}, told {}",
            prefixes.received, prefixes.best, prefixes.advertised
        );
        lines.push(("Prefixes", text));
    }
    let messages = &peer.messages;
    let malformed = if messages.malformed_updates > 0 {
        format!(", {} malformed", messages.malformed_updates)
    } else {
        String::new()
    };
    let text = format!(
        "received {} ({} updates{malformed}), sent {} ({} updates)",
        messages.received, messages.updates_received, messages.sent, messages.updates_sent
    );
    lines.push(("Messages", text));
    let width = lines.iter().map(|(title, _)| title.len()).max().unwrap_or_default() + 1;
    let mut text: String =
        lines.iter().map(|(title, value)| format!("{:<width$} {value}\n", format!("{title}:"))).collect();
    text += "\nCapabilities\n";
    let none = || "-".to_owned();
    let rows: Vec<Vec<String>> = peer
        .capabilities
        .iter()
        .map(|pair| {
            let ours = pair.ours.clone().unwrap_or_else(none);
            vec![pair.name.clone(), ours, pair.theirs.clone().unwrap_or_else(none)]
        })
        .collect();
    text + &table::plain(&["NAME", "OURS", "THEIRS"], &rows)
}

fn session(peer: &Peer) -> Vec<(&'static str, String)> {
    let Some(session) = &peer.session else { return Vec::new() };
    let restart = if session.graceful_restart { "on" } else { "off" };
    let local =
        session.local_address.map(|address| format!(", from our address {address}")).unwrap_or_default();
    let mut lines = vec![
        ("Identifier", format!("{}{local}", session.router_id)),
        (
            "Timers",
            format!(
                "hold {} s, keepalive {} s; graceful restart {restart}",
                session.hold_seconds, session.keepalive_seconds
            ),
        ),
        ("Families", session.families.join(", ")),
    ];
    let ends =
        if session.end_of_rib.is_empty() { "none yet".to_owned() } else { session.end_of_rib.join(", ") };
    lines.push(("End-of-RIB of", ends));
    if session.unread_octets > 0 {
        lines.push(("Unread", format!("{} octets that the peer has yet to read", session.unread_octets)));
    }
    lines
}

fn watched(path: &PeerPath) -> String {
    let PeerPath { state, interval_milliseconds, multiplier, multihop, strict } = path;
    let hops = if *multihop { "several hops" } else { "one hop" };
    let waits = if *strict { "; the session waits for it" } else { "" };
    format!("{state}; every {interval_milliseconds} ms, down after {multiplier} missed, {hops}{waits}")
}

fn configured(peer: &Peer) -> String {
    let timers = &peer.configured;
    let keepalive = timers.keepalive_seconds.map(|time| format!(", keepalive {time} s")).unwrap_or_default();
    let restart = match timers.restart_seconds {
        Some(time) => format!("restart time {time} s"),
        None => "no graceful restart".to_owned(),
    };
    let dialling = if timers.passive { "it dials us" } else { "we dial" };
    format!(
        "port {}, {dialling}, hold {} s{keepalive}, retry every {} s, {restart}",
        timers.port, timers.hold_seconds, timers.connect_retry_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (121, "2m"), (7_300, "2h01m"), (200_000, "2d7h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
