//! FRR: zebra, and bgpd above it.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, command};
use crate::scenario::{OUR_ADDRESSES, OUR_AS, Scenario, THEIR_PREFIXES};

pub(crate) struct Frr;

impl Daemon for Frr {
    fn program(&self) -> (&'static str, &'static str) {
        ("/usr/lib/frr/bgpd", "frr")
    }

    fn configuration(&self, scenario: &Scenario, _: &Path) -> String {
        let mut text = format!(
            "router bgp {}\n bgp router-id 10.0.0.2\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n \
             no bgp network import-check\n",
            scenario.their_as
        );
        for us in OUR_ADDRESSES {
            text += &format!(
                " neighbor {us} remote-as {OUR_AS}\n neighbor {us} timers connect 2\n \
                 neighbor {us} advertisement-interval 0\n"
            );
            if let Some(password) = scenario.password {
                text += &format!(" neighbor {us} password {password}\n");
            }
            if scenario.ttl_security {
                text += &format!(" neighbor {us} ttl-security hops 1\n");
            }
        }
        for (index, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
            text += &format!(
                " address-family {family} unicast\n  network {}\n  neighbor {} activate\n exit-address-family\n",
                THEIR_PREFIXES[index], OUR_ADDRESSES[index]
            );
        }
        text
    }

    fn processes(&self, configuration: &Path, folder: &Path) -> Vec<Command> {
        // As root: the folder of a test is closed to the user frr.
        let daemon = |name: &str, configuration: &Path| {
            let mut daemon =
                command(&format!("/usr/lib/frr/{name}"), &["-S", "-u", "root", "-g", "root", "-P", "0"]);
            daemon.args(["--log", "stdout", "-z"]).arg(folder.join("zserv.api"));
            daemon.arg("-i").arg(folder.join(name).with_extension("pid"));
            daemon.arg("--vty_socket").arg(folder).arg("-f").arg(configuration);
            daemon
        };
        vec![daemon("zebra", Path::new("/dev/null")), daemon("bgpd", configuration)]
    }

    fn afterwards(&self, _: &Path) -> Vec<Command> {
        Vec::new()
    }

    fn routes(&self, folder: &Path) -> Vec<Command> {
        let show = |family: &str| {
            let mut vtysh = command("vtysh", &["--vty_socket"]);
            vtysh.arg(folder).args(["-d", "bgpd", "-c", &format!("show bgp {family} unicast")]);
            vtysh
        };
        vec![show("ipv4"), show("ipv6")]
    }
}
