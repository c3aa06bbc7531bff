//! GoBGP. Without zebra, what it learns stays in it.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Process, command, speaker};
use crate::matrix::Feature;
use crate::side::{COMMUNITY, Ip, LARGE_COMMUNITY, Neighbour, ROUTE_TARGET, Side, address};

pub(crate) struct GoBgp;

impl Daemon for GoBgp {
    fn name(&self) -> &'static str {
        "GoBGP"
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/bin/gobgpd", "gobgpd")
    }

    fn refuses(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Bfd => Some("it has no BFD"),
            Feature::TheirRefresh => {
                Some("`gobgp neighbor softresetin` works on the routes that it has kept; it never asks")
            }
            _ => None,
        }
    }

    fn has_kernel(&self) -> bool {
        false
    }

    fn configuration(&self, side: &Side, _: &Path) -> String {
        let router_id = side.address(Ip::V4);
        let mut text = format!("[global.config]\n  as = {}\n  router-id = \"{router_id}\"\n", side.asn);
        side.neighbours.iter().for_each(|of| text += &neighbour(side, of));
        text
    }

    fn processes(&self, _: &Side, folder: &Path, recovering: bool) -> Vec<Process> {
        let mut gobgpd = command(self.program().0, &["--pprof-disable", "--api-hosts", "127.0.0.1:50051"]);
        if recovering {
            gobgpd.arg("-r");
        }
        gobgpd.arg("-f").arg(folder.join("configuration"));
        // It takes the format from the ending otherwise.
        gobgpd.args(["-t", "toml"]);
        vec![speaker(gobgpd)]
    }

    fn afterwards(&self, side: &Side, _: &Path) -> Vec<Command> {
        let add = |prefix: &String| {
            let ip = Ip::of(prefix);
            let mut add = command("gobgp", &["global", "rib", "add", "-a", ip.word(), prefix]);
            // A next hop of another family than the prefix's has to be named.
            let over =
                side.neighbours.first().map_or(ip, |of| if of.carries.len() > 1 { of.over } else { ip });
            let next_hop = if ip == Ip::V4 { over } else { ip };
            add.args(["nexthop", &side.address(next_hop)]);
            if side.marks {
                let (a, b) = COMMUNITY;
                let (c, d, e) = LARGE_COMMUNITY;
                let (f, g) = ROUTE_TARGET;
                add.args(["community", &format!("{a}:{b}"), "large-community", &format!("{c}:{d}:{e}")]);
                add.args(["rt", &format!("{f}:{g}")]);
            }
            add
        };
        side.announced.iter().map(add).collect()
    }

    fn routes(&self, _: &Path, ip: Ip) -> Command {
        command("gobgp", &["global", "rib", "-a", ip.word()])
    }

    fn route(&self, _: &Path, prefix: &str) -> Command {
        command("gobgp", &["global", "rib", "-a", Ip::of(prefix).word(), prefix])
    }

    fn marks(&self) -> [String; 3] {
        let (a, b) = COMMUNITY;
        let (c, d, e) = LARGE_COMMUNITY;
        let (f, g) = ROUTE_TARGET;
        [format!("{a}:{b}"), format!("{c}:{d}:{e}"), format!("{f}:{g}")]
    }

    fn refresh(&self, _: &Path, host: u8, ip: Ip) -> Command {
        command("gobgp", &["neighbor", &address(host, ip), "softresetin", "-a", ip.word()])
    }

    fn count(&self, _: &Path, host: u8) -> Command {
        command("gobgp", &["neighbor", &address(host, Ip::V4)])
    }

    fn counted(&self, text: &str, _: u8) -> Option<usize> {
        let (_, statistics) = text.split_once("Route statistics:")?;
        let line = statistics.lines().find_map(|line| line.trim().strip_prefix("Received:"))?;
        line.trim().parse().ok()
    }
}

fn neighbour(side: &Side, of: &Neighbour) -> String {
    let mut text = format!(
        "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = {}\n",
        of.address(),
        of.asn
    );
    if let Some(password) = of.password {
        let _ = writeln!(text, "    auth-password = \"{password}\"");
    }
    let _ = writeln!(
        text,
        "  [neighbors.transport.config]\n    local-address = \"{}\"\n  [neighbors.timers.config]\n    connect-retry = 2\n  \
         [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60",
        side.address(of.over)
    );
    if of.ttl_security {
        text += "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n";
    }
    if of.is_client {
        let _ = writeln!(
            text,
            "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
             route-reflector-cluster-id = \"{}\"",
            side.address(Ip::V4)
        );
    }
    for ip in &of.carries {
        let _ = writeln!(
            text,
            "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{}-unicast\"\n    \
             [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true",
            ip.word()
        );
        if of.add_path {
            text += "    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8\n";
        }
    }
    text
}
