//! OpenBGPD, the portable release. On Linux it does not write to the kernel's table.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Process, command, speaker};
use crate::matrix::Feature;
use crate::side::{COMMUNITY, Ip, LARGE_COMMUNITY, Neighbour, ROUTE_TARGET, Side, address};

pub(crate) struct OpenBgpd;

impl Daemon for OpenBgpd {
    fn name(&self) -> &'static str {
        "OpenBGPD"
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/bgpd", "openbgpd")
    }

    fn refuses(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::ExtendedNextHop => Some("this release has no IPv6 next hops for IPv4 (RFC 8950)"),
            Feature::TheirRestart => Some(
                "it helps others over a restart, but does not ask to be helped over its own (bgpd.conf, announce restart)",
            ),
            Feature::OurRefresh => Some(
                "7.7 takes a request for a family that the session has for one that it has not, and drops it; mended upstream in \
                 January 2023",
            ),
            Feature::Bfd => Some("it has no BFD"),
            _ => None,
        }
    }

    fn has_kernel(&self) -> bool {
        false
    }

    fn configuration(&self, side: &Side, folder: &Path) -> String {
        let mut text = format!(
            "AS {}\nrouter-id {}\nfib-update no\nconnect-retry 2\nsocket \"{}\"\n",
            side.asn,
            side.address(Ip::V4),
            folder.join("bgpd.sock").display()
        );
        Ip::BOTH.iter().for_each(|ip| text += &format!("listen on {}\n", side.address(*ip)));
        for prefix in &side.announced {
            let set = if side.marks { marks() } else { String::new() } + &next_hop(side, prefix);
            let set = if set.is_empty() { set } else { format!(" set {{{set}}}") };
            let _ = writeln!(text, "network {prefix}{set}");
        }
        side.neighbours.iter().for_each(|of| text += &neighbour(side, of));
        text + "allow from any\nallow to any\n"
    }

    fn processes(&self, _: &Side, folder: &Path, _: bool) -> Vec<Process> {
        // Its parts lock themselves in here; on a host with systemd the service makes it.
        std::fs::create_dir_all("/run/openbgpd").expect("root can make a folder in /run");
        let mut bgpd = command(self.program().0, &["-d", "-v", "-f"]);
        bgpd.arg(folder.join("configuration"));
        vec![speaker(bgpd)]
    }

    fn routes(&self, folder: &Path, ip: Ip) -> Command {
        bgpctl(folder, &["show", "rib", if ip == Ip::V4 { "inet" } else { "inet6" }])
    }

    fn route(&self, folder: &Path, prefix: &str) -> Command {
        bgpctl(folder, &["show", "rib", "detail", prefix])
    }

    fn marks(&self) -> [String; 3] {
        let (a, b) = COMMUNITY;
        let (c, d, e) = LARGE_COMMUNITY;
        let (f, g) = ROUTE_TARGET;
        [format!("{a}:{b}"), format!("{c}:{d}:{e}"), format!("rt {f}:{g}")]
    }

    fn refresh(&self, folder: &Path, host: u8, ip: Ip) -> Command {
        bgpctl(folder, &["neighbor", &address(host, ip), "refresh"])
    }

    fn count(&self, folder: &Path, _: u8) -> Command {
        bgpctl(folder, &["show", "summary"])
    }

    fn counted(&self, text: &str, host: u8) -> Option<usize> {
        // Neighbor AS MsgRcvd MsgSent OutQ Up/Down State/PrfRcvd
        let address = address(host, Ip::V4);
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(&address))?;
        row.split_whitespace().last()?.parse().ok()
    }
}

fn bgpctl(folder: &Path, words: &[&str]) -> Command {
    let mut bgpctl = command("bgpctl", &["-s"]);
    bgpctl.arg(folder.join("bgpd.sock")).args(words);
    bgpctl
}

fn marks() -> String {
    let (a, b) = COMMUNITY;
    let (c, d, e) = LARGE_COMMUNITY;
    let (f, g) = ROUTE_TARGET;
    format!(" community {a}:{b} large-community {c}:{d}:{e} ext-community rt {f}:{g}")
}

/// Over a session of the other family it would take the first address that it finds, on whichever interface.
fn next_hop(side: &Side, prefix: &str) -> String {
    let ip = Ip::of(prefix);
    match side.neighbours.iter().any(|of| of.over != ip && of.carries.contains(&ip)) {
        true => format!(" nexthop {}", side.address(ip)),
        false => String::new(),
    }
}

fn neighbour(side: &Side, of: &Neighbour) -> String {
    let mut text = format!(
        "neighbor {} {{\n  remote-as {}\n  local-address {}\n",
        of.address(),
        of.asn,
        side.address(of.over)
    );
    if !of.carries.contains(&Ip::V4) {
        text += "  announce IPv4 none\n";
    }
    of.carries.iter().for_each(|ip| text += &format!("  announce {ip} unicast\n"));
    if let Some(password) = of.password {
        let _ = writeln!(text, "  tcp md5sig password \"{password}\"");
    }
    for (is_on, option) in [
        (of.ttl_security, "ttl-security yes"),
        (of.is_client, "route-reflector"),
        (of.add_path, "announce add-path recv yes"),
        (of.add_path, "announce add-path send all"),
    ] {
        if is_on {
            let _ = writeln!(text, "  {option}");
        }
    }
    text + "}\n"
}
