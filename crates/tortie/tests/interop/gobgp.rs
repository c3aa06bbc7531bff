//! GoBGP.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, command};
use crate::scenario::{OUR_ADDRESSES, OUR_AS, Scenario, THEIR_ADDRESSES, THEIR_PREFIXES};

pub(crate) struct GoBgp;

impl Daemon for GoBgp {
    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/bin/gobgpd", "gobgpd")
    }

    fn configuration(&self, scenario: &Scenario, _: &Path) -> String {
        let mut text = format!("[global.config]\n  as = {}\n  router-id = \"10.0.0.2\"\n", scenario.their_as);
        for (index, family) in ["ipv4-unicast", "ipv6-unicast"].into_iter().enumerate() {
            let (us, them) = (OUR_ADDRESSES[index], THEIR_ADDRESSES[index]);
            text += &format!(
                "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{us}\"\n    peer-as = {OUR_AS}\n"
            );
            if let Some(password) = scenario.password {
                text += &format!("    auth-password = \"{password}\"\n");
            }
            text += &format!("  [neighbors.transport.config]\n    local-address = \"{them}\"\n");
            text += "  [neighbors.timers.config]\n    connect-retry = 2\n";
            if scenario.ttl_security {
                text += "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255\n";
            }
            text += &format!(
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n"
            );
        }
        text
    }

    fn processes(&self, configuration: &Path, _: &Path) -> Vec<Command> {
        let mut gobgpd =
            command(self.program().0, &["-p", "--pprof-disable", "--api-hosts", "127.0.0.1:50051", "-f"]);
        gobgpd.arg(configuration);
        vec![gobgpd]
    }

    fn afterwards(&self, _: &Path) -> Vec<Command> {
        let add = |index: usize, family: &str| {
            let words = [
                "global",
                "rib",
                "add",
                THEIR_PREFIXES[index],
                "nexthop",
                THEIR_ADDRESSES[index],
                "-a",
                family,
            ];
            command("gobgp", &words)
        };
        vec![add(0, "ipv4"), add(1, "ipv6")]
    }

    fn routes(&self, _: &Path) -> Vec<Command> {
        ["ipv4", "ipv6"].map(|family| command("gobgp", &["global", "rib", "-a", family])).into()
    }
}
