//! `calicoctl node status`.

use std::path::Path;

use anyhow::{Result, anyhow};
use api::wire::{Answer, NodeStatus, PeerStatus, Request};
use clap::Args;
use client::Patience;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::{Console, table};

/// Show whether this host's node runs, and its BGP sessions.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl node status

The node answers on its socket, /var/run/calico/node.sock or what TORTIE_NODE_SOCKET says.
SINCE is a time of today or a date, in this machine's time zone.")]
pub(crate) struct StatusArgs {}

const HEADINGS: [&str; 5] = ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];

pub(crate) fn run(console: &mut Console<'_>) -> Result<()> {
    let socket = console.node_socket();
    let answer = match client::ask(Path::new(&socket), &Request::NodeStatus, Patience::TERMINAL) {
        Ok(answer) => answer,
        Err(error) => {
            writeln!(console.output, "Calico process is not running.")?;
            return Err(anyhow!("{error} Start it with: tortie node"));
        }
    };
    match answer {
        Answer::NodeStatus(status) => {
            let now = Zoned::now();
            Ok(console.output.write_all(render(&status, &now).as_bytes())?)
        }
        Answer::Error(error) => Err(anyhow!("the node on {socket} says: {}", error.msg)),
        Answer::Result(_)
        | Answer::Done
        | Answer::Delegation(_)
        | Answer::Bgp(_)
        | Answer::Packet(_)
        | Answer::Flow(_)
        | Answer::Unseen(_) => Err(anyhow!("the node on {socket} answered another question")),
    }
}

fn render(status: &NodeStatus, now: &Zoned) -> String {
    let remarks = |title: &str, lines: &[String]| match lines {
        [] => String::new(),
        lines => {
            format!("\n{title}:\n{}", lines.iter().map(|line| format!("- {line}\n")).collect::<String>())
        }
    };
    render_bgp(status, now) + &remarks("Not ready", &status.not_ready) + &remarks("Notices", &status.notices)
}

fn render_bgp(status: &NodeStatus, now: &Zoned) -> String {
    let mut text = "Calico process is running.\n".to_owned();
    if !status.bgp {
        return text + "\nBGP is turned off on this node (CALICO_NETWORKING_BACKEND=none).\n";
    }
    for (family, is_ipv6) in [("IPv4", false), ("IPv6", true)] {
        text += &format!("\n{family} BGP status\n");
        let peers = status.peers.iter().filter(|peer| peer.address.is_ipv6() == is_ipv6);
        let rows: Vec<_> = peers.map(|peer| row(peer, now)).collect();
        match rows.is_empty() {
            true => text += &format!("No {family} peers found.\n"),
            false => text += &table::framed(&HEADINGS, &rows),
        }
    }
    text
}

fn row(peer: &PeerStatus, now: &Zoned) -> Vec<String> {
    vec![
        peer.address.to_string(),
        peer.peer_type.clone(),
        peer.state.clone(),
        since(peer.since, now),
        peer.info.clone(),
    ]
}

/// The time if it was today, else the date.
fn since(seconds: i64, now: &Zoned) -> String {
    let zone: TimeZone = now.time_zone().clone();
    let Ok(time) = Timestamp::from_second(seconds) else { return seconds.to_string() };
    let time = time.to_zoned(zone);
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, state: &str, since: i64, info: &str) -> PeerStatus {
        PeerStatus {
            address: address.parse().unwrap(),
            peer_type: "node-to-node mesh".into(),
            state: state.into(),
            since,
            info: info.into(),
        }
    }

    fn status(bgp: bool, peers: Vec<PeerStatus>) -> NodeStatus {
        NodeStatus {
            node: "node-1".into(),
            pid: 1,
            version: "0".into(),
            bgp,
            peers,
            not_ready: Vec::new(),
            notices: Vec::new(),
        }
    }

    fn now() -> Zoned {
        "2026-11-24T12:00:00[UTC]".parse().unwrap()
    }

    #[test]
    fn the_table_is_the_one_that_calico_users_know() {
        let morning = "2026-11-24T07:41:19Z".parse::<Timestamp>().unwrap().as_second();
        let status = status(true, vec![peer("10.20.0.12", "up", morning, "Established")]);
        let expected = "\
Calico process is running.

IPv4 BGP status
+--------------+-------------------+-------+----------+-------------+
| PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |    INFO     |
+--------------+-------------------+-------+----------+-------------+
| 10.20.0.12   | node-to-node mesh | up    | 07:41:19 | Established |
+--------------+-------------------+-------+----------+-------------+

IPv6 BGP status
No IPv6 peers found.
";
        assert_eq!(render(&status, &now()), expected);
    }

    #[test]
    fn an_older_session_shows_its_date() {
        let yesterday = "2026-11-23T23:59:59Z".parse::<Timestamp>().unwrap().as_second();
        assert_eq!(since(yesterday, &now()), "2026-11-23");
        let status = status(true, vec![peer("fd00::1", "start", yesterday, "Connect")]);
        let text = render(&status, &now());
        assert!(text.contains("No IPv4 peers found.") && text.contains("| fd00::1 "), "{text}");
    }

    #[test]
    fn what_is_not_ready_and_what_has_no_effect_follows_the_tables() {
        let mut status = status(true, Vec::new());
        status.not_ready = vec!["dataplane: starting".to_owned()];
        status.notices = vec!["pool p asks for ipipMode".to_owned()];
        let text = render(&status, &now());
        let end = "\nNot ready:\n- dataplane: starting\n\nNotices:\n- pool p asks for ipipMode\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_node_without_bgp_says_so() {
        assert!(render(&status(false, Vec::new()), &now()).contains("CALICO_NETWORKING_BACKEND=none"));
    }
}
