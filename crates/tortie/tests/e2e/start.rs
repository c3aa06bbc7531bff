//! A second node where there can be one only: a clear error, exit code 1, and nothing changed.

use crate::host::{routes, rules};
use crate::lab::{Lab, failed, tortie};

/// A node in a host of a lab, beside the one that runs there.
fn second_node(lab: &Lab, variables: &[(&str, &str)]) -> std::process::Output {
    let mut command = tortie(["lab", "--dir"]);
    command.arg(lab.folder()).args(["exec", "node-1", "--", "env"]);
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(format!("TORTIE_RUN_DIR={}", lab.folder().join("second").display()));
    command.arg(format!("CALICO_NODENAME_FILE={}", lab.folder().join("second-name").display()));
    command.args(["IP=autodetect", "tortie", "node"]).output().unwrap()
}

#[test]
fn a_second_node_of_the_same_name_or_address_is_refused_and_changes_nothing() {
    let lab = Lab::up(2, &[]);
    let seen = || {
        let stored = ["get nodes -o yaml", "get ippools -o yaml", "get bgpconfigurations -o yaml"]
            .map(|line| lab.ctl(line));
        (stored, routes(&lab, "node-1", |_| true), rules(&lab, "node-1"))
    };
    let before = seen();
    let same_name = failed(&second_node(&lab, &[]), 1);
    assert!(same_name.contains("another process runs node node-1"), "{same_name}");
    assert!(same_name.contains("NODENAME"), "{same_name}");
    let same_address = failed(&second_node(&lab, &[("NODENAME", "node-9")]), 1);
    assert!(
        same_address.contains("address 172.30.0.1 of this node (node-9) is already that of node node-1"),
        "{same_address}"
    );
    assert_eq!(seen(), before);
    assert!(!lab.folder().join("second/node.sock").exists() && !lab.folder().join("second-name").exists());
    lab.await_ready("node-1");
}
