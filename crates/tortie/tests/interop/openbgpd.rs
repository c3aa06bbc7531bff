//! OpenBGPD, the portable release.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, command};
use crate::scenario::{OUR_ADDRESSES, OUR_AS, Scenario, THEIR_ADDRESSES, THEIR_PREFIXES};

pub(crate) struct OpenBgpd;

impl Daemon for OpenBgpd {
    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/sbin/bgpd", "openbgpd")
    }

    fn configuration(&self, scenario: &Scenario, folder: &Path) -> String {
        let mut text = format!(
            "AS {}\nrouter-id 10.0.0.2\nfib-update no\nconnect-retry 2\nsocket \"{}\"\n",
            scenario.their_as,
            folder.join("bgpd.sock").display()
        );
        THEIR_ADDRESSES.iter().for_each(|them| text += &format!("listen on {them}\n"));
        THEIR_PREFIXES.iter().for_each(|prefix| text += &format!("network {prefix}\n"));
        for (index, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
            let (us, them) = (OUR_ADDRESSES[index], THEIR_ADDRESSES[index]);
            text += &format!(
                "neighbor {us} {{\n  remote-as {OUR_AS}\n  local-address {them}\n  announce {family} unicast\n"
            );
            if let Some(password) = scenario.password {
                text += &format!("  tcp md5sig password \"{password}\"\n");
            }
            if scenario.ttl_security {
                text += "  ttl-security yes\n";
            }
            text += "}\n";
        }
        let peers = if scenario.is_external() { "ebgp" } else { "ibgp" };
        text + &format!("allow from {peers}\nallow to {peers}\n")
    }

    fn processes(&self, configuration: &Path, _: &Path) -> Vec<Command> {
        // Its parts lock themselves in here; on a host with systemd the service makes it.
        std::fs::create_dir_all("/run/openbgpd").expect("root can make a folder in /run");
        let mut bgpd = command(self.program().0, &["-d", "-v", "-f"]);
        bgpd.arg(configuration);
        vec![bgpd]
    }

    fn afterwards(&self, _: &Path) -> Vec<Command> {
        Vec::new()
    }

    fn routes(&self, folder: &Path) -> Vec<Command> {
        let mut bgpctl = command("bgpctl", &["-s"]);
        bgpctl.arg(folder.join("bgpd.sock")).args(["show", "rib"]);
        vec![bgpctl]
    }
}
