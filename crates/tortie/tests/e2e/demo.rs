//! The demo, whole and cut off.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{SOON, eventually, failed, succeeded, text, tortie};

#[test]
fn it_proves_every_item_and_leaves_nothing() {
    testkit::require_root();
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let output = tortie(["lab", "demo", "--dir"]).arg(&lab).output().unwrap();
    let lines = succeeded(&output);
    for proof in ["1. pinged", "1. captured", "2. ran calicoctl node status", "2. read node-1's routes"] {
        assert!(lines.contains(proof), "{proof}: {lines}");
    }
    for proof in ["3. applied", "3. deleted", "4. killed node-1", "4. killed node-2", "5. removed"] {
        assert!(lines.contains(proof), "{proof}: {lines}");
    }
    assert_nothing_is_left(&lab);
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    testkit::require_root();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = tempfile::tempdir().unwrap();
        let lab = folder.path().join("lab");
        let demo = started(&lab);
        kill_process(pid(&demo), signal).unwrap();
        let said = failed(&demo.wait_with_output().unwrap(), code);
        assert!(said.contains("nothing is left"), "{said}");
        assert_nothing_is_left(&lab);
    }
}

#[test]
fn what_a_killed_demo_leaves_is_removed_by_down() {
    testkit::require_root();
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    let mut demo = started(&lab);
    kill_process(pid(&demo), Signal::KILL).unwrap();
    demo.wait().unwrap();
    assert!(lab.exists(), "there should be something to remove");
    succeeded(&tortie(["lab", "down", "--dir"]).arg(&lab).output().unwrap());
    assert_nothing_is_left(&lab);
}

/// A demo that has its hosts, pods and traffic.
fn started(lab: &Path) -> Child {
    let mut command = tortie(["lab", "demo", "--dir"]);
    let mut demo = command.arg(lab).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = demo.stdout.take().unwrap();
    let seen = BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("1. pinged"));
    if !seen {
        let output = demo.wait_with_output().unwrap();
        panic!("the demo did not get anywhere: {}", text(&output.stderr));
    }
    demo
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn assert_nothing_is_left(lab: &Path) {
    assert!(!lab.exists(), "{} is left", lab.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = lab.to_string_lossy();
    assert!(!mounts.contains(&*place), "a mount is left in {mounts}");
    // Killed processes take a moment.
    eventually(SOON, || match processes_of(lab) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("processes are left: {left:?}")),
    });
}

/// Processes that have the lab's folder in their environment or command line.
fn processes_of(lab: &Path) -> Vec<String> {
    let place = lab.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| text(&std::fs::read(entry.path().join(name)).unwrap_or_default());
        if [read("environ"), read("cmdline")].iter().any(|words| words.contains(&*place)) {
            found.push(read("cmdline").replace('\0', " "));
        }
    }
    found
}
