//! BIRD 2.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Daemon, Process, command, speaker};
use crate::matrix::Feature;
use crate::side::{COMMUNITY, Ip, LARGE_COMMUNITY, Neighbour, ROUTE_TARGET, Side, address};

pub(crate) struct Bird;

impl Daemon for Bird {
    fn name(&self) -> &'static str {
        "BIRD"
    }

    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/bird", "bird2")
    }

    fn refuses(&self, _: Feature) -> Option<&'static str> {
        None
    }

    fn has_kernel(&self) -> bool {
        true
    }

    fn configuration(&self, side: &Side, _: &Path) -> String {
        let mut text = format!(
            "router id {};\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; interface \"wire\"; }}\n\
             protocol bfd {{ interface \"*\" {{ min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }}; }}\n",
            side.address(Ip::V4)
        );
        for ip in Ip::BOTH {
            let word = ip.word();
            if side.forwards {
                let _ = writeln!(
                    text,
                    "protocol kernel {{ persist; graceful restart; {word} {{ import none; export where source = RTS_BGP; }}; }}"
                );
            }
            let marks = if side.marks { marks() } else { String::new() };
            let own = side.announced.iter().filter(|prefix| Ip::of(prefix) == ip);
            let own: String =
                own.map(|prefix| format!("  route {prefix} blackhole {{ {marks} }};\n")).collect();
            let _ = writeln!(text, "protocol static {{ {word};\n{own}}}");
        }
        side.neighbours.iter().for_each(|neighbour| text += &protocol(side, neighbour));
        text
    }

    fn processes(&self, _: &Side, folder: &Path, recovering: bool) -> Vec<Process> {
        let mut bird = command(self.program().0, &["-f", "-c"]);
        bird.arg(folder.join("configuration")).arg("-s").arg(folder.join("bird.ctl"));
        if recovering {
            bird.arg("-R");
        }
        vec![speaker(bird)]
    }

    fn routes(&self, folder: &Path, ip: Ip) -> Command {
        birdc(folder, &["show", "route", "table", &format!("master{}", &ip.word()[3..]), "all"])
    }

    fn route(&self, folder: &Path, prefix: &str) -> Command {
        birdc(folder, &["show", "route", "for", prefix, "all"])
    }

    fn marks(&self) -> [String; 3] {
        let (a, b) = COMMUNITY;
        let (c, d, e) = LARGE_COMMUNITY;
        let (f, g) = ROUTE_TARGET;
        [format!("({a},{b})"), format!("({c}, {d}, {e})"), format!("(rt, {f}, {g})")]
    }

    fn refresh(&self, folder: &Path, host: u8, ip: Ip) -> Command {
        birdc(folder, &["reload", "in", &name(host, ip)])
    }

    fn count(&self, folder: &Path, host: u8) -> Command {
        birdc(folder, &["show", "route", "protocol", &name(host, Ip::V4), "count"])
    }

    fn counted(&self, text: &str, _: u8) -> Option<usize> {
        // 100000 of 200000 routes for 200000 networks in table master4
        let line = text.lines().find(|line| line.contains(" routes for "))?;
        line.split(' ').next()?.parse().ok()
    }
}

fn birdc(folder: &Path, words: &[&str]) -> Command {
    let mut birdc = command("birdc", &["-s"]);
    birdc.arg(folder.join("bird.ctl")).args(words);
    birdc
}

fn name(host: u8, over: Ip) -> String {
    format!("peer_{host}_{}", over.word())
}

fn marks() -> String {
    let (a, b) = COMMUNITY;
    let (c, d, e) = LARGE_COMMUNITY;
    let (f, g) = ROUTE_TARGET;
    format!(
        "bgp_community.add(({a},{b})); bgp_large_community.add(({c},{d},{e})); bgp_ext_community.add((rt,{f},{g}));"
    )
}

fn protocol(side: &Side, neighbour: &Neighbour) -> String {
    let Neighbour { host, asn, over, .. } = neighbour;
    let mut text = format!(
        "protocol bgp {} {{\n  local {} as {}; neighbor {} as {asn};\n  \
         connect delay time 1; connect retry time 2; error wait time 1, 2; graceful restart on;\n",
        name(*host, *over),
        side.address(*over),
        side.asn,
        address(*host, *over)
    );
    if let Some(password) = neighbour.password {
        let _ = writeln!(text, "  password \"{password}\";");
    }
    for (is_on, option) in [
        (neighbour.ttl_security, "ttl security on;"),
        (neighbour.is_client, "rr client;"),
        (neighbour.bfd, "bfd on;"),
    ] {
        if is_on {
            let _ = writeln!(text, "  {option}");
        }
    }
    for ip in &neighbour.carries {
        let add_path = if neighbour.add_path { "add paths on;" } else { "" };
        let next_hop = match (ip, over) {
            (Ip::V4, Ip::V6) => "extended next hop on;".to_owned(),
            (Ip::V6, Ip::V4) => format!("next hop address {};", side.address(Ip::V6)),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "  {} {{ import all; export where source = RTS_STATIC || source = RTS_BGP; {add_path} {next_hop} }};",
            ip.word()
        );
    }
    text + "}\n"
}
