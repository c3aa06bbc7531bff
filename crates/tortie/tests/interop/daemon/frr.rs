//! FRR: zebra, bgpd above it, and bfdd beside them.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Process, command, speaker};
use crate::matrix::Feature;
use crate::side::{COMMUNITY, Ip, LARGE_COMMUNITY, ROUTE_TARGET, Side, address};

pub(crate) struct Frr;

impl Daemon for Frr {
    fn name(&self) -> &'static str {
        "FRR"
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/lib/frr/bgpd", "frr")
    }

    fn refuses(&self, _: Feature) -> Option<&'static str> {
        None
    }

    fn has_kernel(&self) -> bool {
        true
    }

    /// When bgpd is back, zebra takes its IPv6 routes out of the kernel and puts them in again, for some milliseconds.
    fn keeps_kernel_routes(&self) -> bool {
        false
    }

    fn configuration(&self, side: &Side, _: &Path) -> String {
        let mut text = format!(
            "router bgp {}\n bgp router-id {}\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n \
             no bgp network import-check\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n \
             bgp graceful-restart rib-stale-time 60\n",
            side.asn,
            side.address(Ip::V4)
        );
        for neighbour in &side.neighbours {
            let of = format!(" neighbor {}", neighbour.address());
            let _ = writeln!(text, "{of} remote-as {}", neighbour.asn);
            let _ = writeln!(text, "{of} timers connect 2\n{of} advertisement-interval 0");
            if let Some(password) = neighbour.password {
                let _ = writeln!(text, "{of} password {password}");
            }
            for (is_on, option) in [
                (neighbour.ttl_security, "ttl-security hops 1"),
                (neighbour.bfd, "bfd"),
                (
                    neighbour.over == Ip::V6 && neighbour.carries.contains(&Ip::V4),
                    "capability extended-nexthop",
                ),
            ] {
                if is_on {
                    let _ = writeln!(text, "{of} {option}");
                }
            }
        }
        Ip::BOTH.iter().for_each(|ip| text += &address_family(side, *ip));
        if side.marks {
            let (a, b) = COMMUNITY;
            let (c, d, e) = LARGE_COMMUNITY;
            let (f, g) = ROUTE_TARGET;
            let _ = writeln!(
                text,
                "route-map marks permit 10\n set community {a}:{b}\n set large-community {c}:{d}:{e}\n \
                 set extcommunity rt {f}:{g}"
            );
        }
        text
    }

    fn processes(&self, side: &Side, folder: &Path, recovering: bool) -> Vec<Process> {
        // They become the user frr, all but root being in the group that may ask them.
        let chown = command("chown", &["-R", "frr:frr"]).arg(folder).status();
        assert!(chown.expect("it is in every Debian").success(), "the user frr comes with the package frr");
        let daemon = |name: &str, configuration: &Path| {
            let mut daemon = command(&format!("/usr/lib/frr/{name}"), &["-P", "0", "--log", "stdout", "-z"]);
            daemon.arg(folder.join("zserv.api")).arg("-i").arg(folder.join(name).with_extension("pid"));
            daemon.arg("--vty_socket").arg(folder).arg("-f").arg(configuration);
            daemon
        };
        let nothing = Path::new("/dev/null");
        let mut processes = Vec::new();
        if !recovering {
            let ready = folder.join("zserv.api");
            processes.push(Process { command: daemon("zebra", nothing), before_the_speaker: Some(ready) });
        }
        if !recovering && side.neighbours.iter().any(|neighbour| neighbour.bfd) {
            let mut bfdd = daemon("bfdd", nothing);
            bfdd.arg("--bfdctl").arg(folder.join("bfdd.sock"));
            let ready = folder.join("bfdd.vty");
            processes.push(Process { command: bfdd, before_the_speaker: Some(ready) });
        }
        processes.push(speaker(daemon("bgpd", &folder.join("configuration"))));
        processes
    }

    fn routes(&self, folder: &Path, ip: Ip) -> Command {
        vtysh(folder, &format!("show bgp {} unicast", ip.word()))
    }

    fn route(&self, folder: &Path, prefix: &str) -> Command {
        vtysh(folder, &format!("show bgp {} unicast {prefix}", Ip::of(prefix).word()))
    }

    fn marks(&self) -> [String; 3] {
        let (a, b) = COMMUNITY;
        let (c, d, e) = LARGE_COMMUNITY;
        let (f, g) = ROUTE_TARGET;
        [format!("Community: {a}:{b}"), format!("Large Community: {c}:{d}:{e}"), format!("RT:{f}:{g}")]
    }

    fn refresh(&self, folder: &Path, host: u8, ip: Ip) -> Command {
        vtysh(folder, &format!("clear bgp {} unicast {} in", ip.word(), address(host, ip)))
    }

    fn count(&self, folder: &Path, _: u8) -> Command {
        vtysh(folder, "show bgp ipv4 unicast summary json")
    }

    fn counted(&self, text: &str, host: u8) -> Option<usize> {
        let summary: serde_json::Value = serde_json::from_str(text).ok()?;
        let count = summary["peers"][address(host, Ip::V4)]["pfxRcd"].as_u64()?;
        count.try_into().ok()
    }
}

fn vtysh(folder: &Path, line: &str) -> Command {
    let mut vtysh = command("vtysh", &["--vty_socket"]);
    vtysh.arg(folder).args(["-d", "bgpd", "-c", line]);
    vtysh
}

fn address_family(side: &Side, ip: Ip) -> String {
    let mut text = format!(" address-family {} unicast\n", ip.word());
    let marks = if side.marks { " route-map marks" } else { "" };
    for prefix in side.announced.iter().filter(|prefix| Ip::of(prefix) == ip) {
        let _ = writeln!(text, "  network {prefix}{marks}");
    }
    for neighbour in side.neighbours.iter().filter(|neighbour| neighbour.carries.contains(&ip)) {
        let of = format!("  neighbor {}", neighbour.address());
        let _ = writeln!(text, "{of} activate\n{of} send-community all");
        if neighbour.is_client {
            let _ = writeln!(text, "{of} route-reflector-client");
        }
        if neighbour.add_path {
            let _ = writeln!(text, "{of} addpath-tx-all-paths");
        }
    }
    text + " exit-address-family\n"
}
