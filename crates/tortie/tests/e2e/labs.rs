//! The verbs of `tortie lab`.

use std::process::Command;

use crate::host::{Server, reaches};
use crate::lab::{Lab, SOON, failed, succeeded, text, tortie};

#[test]
fn two_labs_at_once_do_not_meet() {
    let (one, other) = (Lab::up(2, &[]), Lab::up(2, &["--pool", "10.66.0.0/16"]));
    for lab in [&one, &other] {
        let _server = Server::start(&lab.pod("pod-2"), 80);
        assert!(reaches(&lab.pod("pod-1"), lab.address("pod-2"), 80, SOON));
    }
    // The same names, and addresses of the fabric, on both sides.
    assert!(one.address("pod-1").to_string().starts_with("10.65."));
    assert!(other.address("pod-1").to_string().starts_with("10.66."));
    one.ctl("label nodes node-1 rack=one");
    assert!(!other.ctl("get nodes -o yaml").contains("rack"));
    drop(one);
    let status = succeeded(&other.lab(&["status"]));
    assert_eq!(status.matches("ready, 1 of 1 BGP sessions Established").count(), 2, "{status}");
}

#[test]
fn pods_come_and_go_with_their_labels_and_annotations() {
    let lab = Lab::up(1, &[]);
    let annotation = r#"cni.projectcalico.org/ipAddrs=["10.65.1.2"]"#;
    let add = ["pod", "add", "web", "--node", "node-1", "--namespace", "shop", "--label", "app=web"];
    let made = succeeded(&lab.lab(&[&add[..], &["--annotation", annotation]].concat()));
    assert_eq!(made, "shop/web 10.65.1.2 on node-1\n");
    let stored = lab.ctl("get workloadendpoints -n shop -o yaml");
    assert!(stored.contains("app: web") && stored.contains("10.65.1.2/32"), "{stored}");
    let inside = lab.exec("shop/web", "ip -4 -brief address show dev eth0");
    assert!(inside.contains("10.65.1.2/32"), "{inside}");
    succeeded(&lab.lab(&["pod", "remove", "shop/web"]));
    assert!(!lab.ctl("get workloadendpoints -n shop").contains("web"));
    assert!(!succeeded(&lab.lab(&["pod", "list"])).contains("shop/web"));
}

#[test]
fn commands_run_inside_and_their_exit_codes_come_out() {
    let lab = Lab::up(1, &[]);
    let output = lab.lab(&["exec", "pod-1", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (output.status.code(), &*text(&output.stdout), &*text(&output.stderr)),
        (Some(7), "out\n", "err\n")
    );
    assert!(lab.exec("node-1", "calicoctl node status").contains("Calico process is running"));
    let missing = lab.lab(&["exec", "node-1", "--", "no-such-program"]);
    assert!(matches!(missing.status.code(), Some(126 | 127)), "{missing:?}");
    let refused = failed(&lab.lab(&["ctl", "--", "get", "ippools", "no-such-pool"]), 1);
    assert!(refused.contains("no-such-pool"), "{refused}");
}

#[test]
fn errors_say_what_there_is_and_what_to_do() {
    let lab = Lab::up(1, &[]);
    let folder = lab.folder().display().to_string();
    let add = |name, node| lab.lab(&["pod", "add", name, "--node", node]);
    for (output, expected) in [
        (lab.lab(&["up"]), format!("tortie lab down --dir {folder}")),
        (lab.lab(&["exec", "pod-9", "--", "true"]), "the lab has node-1 and default/pod-1".to_owned()),
        (add("pod-1", "node-1"), format!("tortie lab pod remove default/pod-1 --dir {folder}")),
        (add("web", "node-9"), "there is no host node-9; the lab has node-1".to_owned()),
        (add("We_b", "node-1"), "is no name for a pod".to_owned()),
        (lab.lab(&["pod", "remove", "web"]), "there is no pod web; the lab has default/pod-1".to_owned()),
        (lab.lab(&["fault", "kill", "node-7"]), "there is no host node-7; the lab has node-1".to_owned()),
        (lab.lab(&["fault", "start", "node-1"]), "the node of node-1 runs already".to_owned()),
    ] {
        let said = failed(&output, 1);
        assert!(said.contains(&expected), "{said} lacks {expected}");
    }
}

#[test]
fn without_a_lab_every_verb_says_how_to_make_one_and_down_touches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    let run = |words: &[&str]| tortie(["lab", "--dir"]).arg(folder.path()).args(words).output().unwrap();
    for words in
        [&["status"][..], &["pod", "list"], &["exec", "node-1", "--", "true"], &["ctl", "--", "version"]]
    {
        let said = failed(&run(words), 1);
        assert!(said.contains("there is no lab in") && said.contains("tortie lab up --dir"), "{said}");
    }
    assert!(failed(&run(&["up"]), 1).contains("that is no lab"));
    assert!(failed(&run(&["down"]), 1).contains("not the folder of a lab"));
    assert!(folder.path().join("thesis.tex").exists());
    for (words, expected) in [
        (["up", "--hosts", "0"], "--hosts 0: a lab has 1 to"),
        (["up", "--subnets", "9"], "--subnets 9: use 1 to 3"),
        (["up", "--pool", "172.30.0.0/16"], "--pool 172.30.0.0/16 overlaps 172.30.0.0/24"),
    ] {
        let said = failed(&run(&words), 1);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_lab_whose_node_does_not_start_says_why_and_leaves_nothing() {
    testkit::require_root();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab");
    let up = |options: &[&str]| tortie(["lab", "up", "--dir"]).arg(&path).args(options).output().unwrap();
    let said = failed(&up(&["--set", "IP=1.2.3.4.5"]), 1);
    assert!(said.contains("node-1 is not ready: its node ended with exit status: 1"), "{said}");
    assert!(said.contains("IP=\"1.2.3.4.5\": use autodetect"), "{said}");
    assert!(!path.exists());
    assert!(failed(&up(&["--pool", "10.65.0.0"]), 2).contains("--pool"));
}

#[test]
fn a_node_that_does_not_start_again_says_why() {
    let lab = Lab::up(1, &[]);
    lab.fault("stop", "node-1");
    let said = failed(&lab.lab(&["fault", "kill", "node-1"]), 1);
    assert!(
        said.contains("no node runs on node-1; start it with: tortie lab fault start node-1 --dir"),
        "{said}"
    );
    std::fs::rename(lab.datastore(), lab.folder().join("kept.db")).unwrap();
    std::fs::create_dir(lab.datastore()).unwrap();
    let said = failed(&lab.lab(&["fault", "start", "node-1"]), 1);
    assert!(said.contains("the node of node-1 does not answer"), "{said}");
    assert!(said.contains("ended with exit status: 1") && said.contains("is a folder"), "{said}");
}

#[test]
fn down_ends_what_runs_inside() {
    let lab = Lab::up(1, &[]);
    let mut inside = tortie(["lab", "--dir"]);
    let mut inside = inside.arg(lab.folder()).args(["exec", "pod-1", "--", "sleep", "1000"]).spawn().unwrap();
    drop(lab);
    assert!(!inside.wait().unwrap().success(), "it was killed");
}

#[test]
fn hosts_behind_routers_reach_each_other() {
    let lab = Lab::up(2, &["--subnets", "2"]);
    assert!(lab.exec("node-1", "ip -4 -brief address show dev eth0").contains("172.30.0.1/24"));
    assert!(lab.exec("node-2", "ip -4 -brief address show dev eth0").contains("172.30.1.1/24"));
    // BGP across the router is the proof that packets pass it.
    let status = succeeded(&lab.lab(&["status"]));
    assert_eq!(status.matches("1 of 1 BGP sessions Established").count(), 2, "{status}");
}

#[test]
fn whoever_is_not_root_has_labs_too() {
    testkit::require_root();
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    // nobody has to get at the binary and the folder.
    let binary = folder.path().join("tortie");
    std::fs::copy(env!("CARGO_BIN_EXE_tortie"), &binary).unwrap();
    for (path, mode) in [(folder.path(), 0o777), (&*binary, 0o755)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let lab = folder.path().join("lab");
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command.args(["lab", "--dir"]).arg(&lab).args(words).output().unwrap()
    };
    succeeded(&nobody(&["up", "--hosts", "2"]));
    let routes = succeeded(&nobody(&["exec", "node-1", "--", "ip", "route"]));
    assert!(routes.contains("via 172.30.0.2 dev eth0 proto bird"), "{routes}");
    succeeded(&nobody(&["pod", "add", "web", "--node", "node-2"]));
    assert!(succeeded(&nobody(&["exec", "web", "--", "ip", "route"])).contains("default via 169.254.1.1"));
    assert!(succeeded(&nobody(&["ctl", "--", "get", "nodes"])).contains("node-2"));
    succeeded(&nobody(&["down"]));
    assert!(!lab.exists());
}
