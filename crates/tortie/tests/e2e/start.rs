//! What keeps a node from starting: a clear error, exit code 1, and nothing changed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::TestNamespace;

use crate::host::{routes, rules};
use crate::lab::{Lab, SOON, eventually, failed, text, tortie, when};

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

/// A host with an address and nothing else.
fn host() -> TestNamespace {
    let host = TestNamespace::new();
    for line in [
        "ip link set lo up",
        "ip link add eth0 type veth peer name wire",
        "ip link set wire up",
        "ip link set eth0 up",
        "ip address add 172.31.0.1/24 dev eth0",
    ] {
        host.command(line);
    }
    host
}

fn node(folder: &Path, datastore: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = tortie(["node"]);
    command
        .env_clear()
        .env("NODENAME", "node-1")
        .env("IP", "autodetect")
        .env("TORTIE_DATASTORE", datastore)
        .env("TORTIE_RUN_DIR", folder.join("run"))
        .env("CALICO_NODENAME_FILE", folder.join("nodename"))
        .envs(variables.iter().copied());
    command
}

#[test]
fn a_datastore_that_cannot_be_used_is_named_with_the_reason() {
    let host = host();
    let folder = tempfile::tempdir().unwrap();
    let not_one = folder.path().join("notes.txt");
    fs::write(&not_one, "this is no database, and longer than the header of one".repeat(100)).unwrap();
    let a_folder = folder.path().join("folder");
    fs::create_dir(&a_folder).unwrap();
    let missing = folder.path().join("missing/tortie.db");
    fs::write(folder.path().join("missing"), "a file where the folder should be").unwrap();
    for datastore in [&not_one, &a_folder, &missing] {
        let output = host.run(|| node(folder.path(), datastore, &[]).output().unwrap());
        let said = failed(&output, 1);
        assert!(
            said.contains(&datastore.display().to_string()),
            "{} is not named: {said}",
            datastore.display()
        );
        assert_eq!(text(&output.stdout), "");
    }
    assert!(fs::read_to_string(&not_one).unwrap().starts_with("this is no database"));
    assert!(!host.command("nft list ruleset").contains("calico"), "rules were made");
    assert!(!folder.path().join("run/node.sock").exists());
}

#[test]
fn a_datastore_on_a_read_only_filesystem_is_named_with_the_reason() {
    let lab = Lab::up(1, &[]);
    lab.fault("stop", "node-1");
    let file = lab.datastore();
    // A mount of its own, seen by the node alone.
    let script = format!(
        "mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec tortie node",
        folder = lab.folder().display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(env!("CARGO_BIN_EXE_tortie"))
        .args(["lab", "--dir"])
        .arg(lab.folder())
        .args(["exec", "node-1", "--", "sh", "-c", &script])
        .env("IP", "autodetect")
        .env("TORTIE_RUN_DIR", "/tmp")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = failed(&output, 1);
    assert!(said.contains(&file.display().to_string()), "{said}");
    assert!(said.contains("read-only") || said.contains("readonly") || said.contains("Read-only"), "{said}");
}

#[test]
fn a_node_waits_for_its_datastore_when_it_is_told_to() {
    let host = host();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("later");
    let datastore = place.join("tortie.db");
    fs::write(&place, "a file where the folder should be").unwrap();
    let log = folder.path().join("log");
    let spawn = || {
        let mut command = node(folder.path(), &datastore, &[("WAIT_FOR_DATASTORE", "true")]);
        command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap()
    };
    let mut node = host.run(spawn);
    let said = || fs::read_to_string(&log).unwrap();
    eventually(SOON, || when(said().contains("waiting for the datastore"), &said()));
    assert!(node.try_wait().unwrap().is_none(), "{}", said());
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    eventually(SOON, || when(folder.path().join("run/node.sock").exists(), &said()));
    node.kill().unwrap();
    node.wait().unwrap();
}
