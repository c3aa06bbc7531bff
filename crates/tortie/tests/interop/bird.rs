//! BIRD 2.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, command};
use crate::scenario::{OUR_ADDRESSES, OUR_AS, Scenario, THEIR_ADDRESSES, THEIR_PREFIXES};

pub(crate) struct Bird;

impl Daemon for Bird {
    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/bird", "bird2")
    }

    fn configuration(&self, scenario: &Scenario, _: &Path) -> String {
        let password =
            scenario.password.map_or(String::new(), |password| format!("password \"{password}\";"));
        let ttl = if scenario.ttl_security { "ttl security on;" } else { "" };
        let mut text = "router id 10.0.0.2; protocol device {} protocol direct { ipv4; ipv6; }\n".to_owned();
        for (index, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
            let (us, them, route) = (OUR_ADDRESSES[index], THEIR_ADDRESSES[index], THEIR_PREFIXES[index]);
            text += &format!(
                "protocol static static_{family} {{ {family}; route {route} blackhole; }}\n\
                 protocol bgp peer_{family} {{\n  local {them} as {}; neighbor {us} as {OUR_AS};\n  \
                 connect delay time 1; connect retry time 2; error wait time 1, 2; {password} {ttl}\n  \
                 {family} {{ import all; export where source = RTS_STATIC; next hop self; }};\n}}\n",
                scenario.their_as
            );
        }
        text
    }

    fn processes(&self, configuration: &Path, folder: &Path) -> Vec<Command> {
        let mut bird = command(self.program().0, &["-f", "-c"]);
        bird.arg(configuration).arg("-s").arg(folder.join("bird.ctl"));
        vec![bird]
    }

    fn afterwards(&self, _: &Path) -> Vec<Command> {
        Vec::new()
    }

    fn routes(&self, folder: &Path) -> Vec<Command> {
        let mut birdc = command("birdc", &["-s"]);
        birdc.arg(folder.join("bird.ctl")).args(["show", "route", "all"]);
        vec![birdc]
    }
}
