//! `calicoctl apply --confirm`: what is not confirmed is undone by the node, also by one that was killed meanwhile.

use crate::host::rules;
use crate::lab::{Lab, SOON, eventually, when};

/// Closes a host but for the failsafe ports.
const CLOSED: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node-1-eth0}
spec: {node: node-1, interfaceName: eth0}
";

fn apply(lab: &Lab, seconds: u8) -> String {
    let file = lab.folder().join("closed.yaml");
    std::fs::write(&file, CLOSED).expect("a file");
    let output = lab.ctl(&format!("apply -f {} --confirm {seconds}s", file.display()));
    output.trim().rsplit(' ').next().expect("an identity").to_owned()
}

fn endpoints(lab: &Lab) -> String {
    lab.ctl("get hostendpoints -o name")
}

#[test]
fn a_host_that_nobody_confirms_to_be_reachable_is_opened_again() {
    let lab = Lab::up(1, &[]);
    let open = rules(&lab, "node-1");
    let closed = || {
        eventually(SOON, || {
            let rules = rules(&lab, "node-1");
            when(rules.contains("cali-fh-node-1-eth0"), &rules)
        });
    };
    let reopened = || {
        eventually(SOON, || {
            let rules = rules(&lab, "node-1");
            when(rules == open, &rules)
        });
        assert_eq!(endpoints(&lab), "");
    };

    let id = apply(&lab, 5);
    closed();
    reopened();
    assert!(lab.log("node-1").contains("was not confirmed in time"), "{}", lab.log("node-1"));
    assert!(lab.ctl("confirm").contains(&format!("{id}   undone by node-1 at")));

    // The node dies at once and is started again: what waits is in the datastore.
    apply(&lab, 8);
    lab.fault("kill", "node-1");
    lab.fault("start", "node-1");
    reopened();

    let id = apply(&lab, 60);
    lab.ctl(&format!("confirm {id} --same-connection"));
    closed();
    assert_eq!(endpoints(&lab), "hostendpoint/node-1-eth0\n");
}
