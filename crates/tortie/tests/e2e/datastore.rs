//! Datastores that are not there, are none, or cannot be written.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::TestNamespace;

use crate::lab::{Lab, SOON, eventually, failed, succeeded, text, tortie, when};

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

/// Runs a shell in a mount namespace of its own, where `$folder` is a small file system and `$tortie` the binary.
fn on_a_small_disk(size: &str, script: &str) -> std::process::Output {
    testkit::require_root();
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size={size} small \"$folder\" && {script}");
    Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("folder", folder.path())
        .env("tortie", env!("CARGO_BIN_EXE_tortie"))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

const FULL: &str = "no space left on its file system; free some and try again";

#[test]
fn a_node_does_not_start_on_a_full_disk_and_says_so() {
    let script = "
        export TORTIE_DATASTORE=$folder/tortie.db TORTIE_RUN_DIR=$folder/run CALICO_NODENAME_FILE=$folder/name
        IP=192.0.2.1/24 NODENAME=node-1 exec unshare --net \"$tortie\" node";
    let said = failed(&on_a_small_disk("48k", script), 1);
    assert!(said.contains("tortie.db: cannot be written") && said.contains(FULL), "{said}");
}

#[test]
fn a_pod_is_refused_in_full_on_a_full_disk_and_made_once_there_is_room() {
    let script = r#"
        lab="$tortie lab --dir $folder/lab"
        $lab up --hosts 1
        trap "$lab down" EXIT
        dd if=/dev/zero of=$folder/fill bs=4k 2>/dev/null || true
        before=$($lab exec node-1 -- ip -brief link | wc -l)
        if $lab pod add web --node node-1; then exit 9; fi
        test $before = $($lab exec node-1 -- ip -brief link | wc -l)
        $lab exec pod-1 -- ip route
        rm $folder/fill
        $lab pod add web --node node-1"#;
    let output = on_a_small_disk("2m", script);
    let said = succeeded(&output);
    assert!(said.contains("default/web 10.65."), "{said}");
    let errors = text(&output.stderr);
    assert!(errors.contains("CNI ADD of default/web") && errors.contains(FULL), "{errors}");
}
