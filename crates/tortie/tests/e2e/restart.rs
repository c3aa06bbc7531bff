//! The node ends, cleanly or not, and starts again: forwarding and policy go on.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::host::{Attempts, Server, reaches, routes, rules};
use crate::lab::{Lab, SOON, eventually, succeeded, tortie, when};

/// A denied connection is given this long each time; an allowed one takes under a millisecond.
const DENIED: Duration = Duration::from_millis(100);

const WEB_ONLY: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web-only}
spec:
  selector: all()
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
";

/// Two hosts, servers on 80 (allowed) and 81 (denied) in the second host's pod.
struct Scene {
    lab: Lab,
    _servers: [Server; 2],
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::up(2, &[]);
        let servers = [80, 81].map(|port| Server::start(&lab.pod("pod-2"), port));
        let scene = Self { lab, _servers: servers };
        assert!(scene.reaches(81, SOON), "nothing is denied yet");
        scene.lab.apply(WEB_ONLY);
        eventually(SOON, || when(!scene.reaches(81, DENIED), "port 81 is still reached"));
        scene
    }

    fn reaches(&self, port: u16, limit: Duration) -> bool {
        reaches(&self.lab.pod("pod-1"), self.lab.address("pod-2"), port, limit)
    }

    /// Runs something while both flows are tried all the time; not one allowed attempt may fail, nor a denied one succeed.
    fn under_traffic(&self, what: impl FnOnce()) {
        let target = self.lab.address("pod-2");
        let allowed = Attempts::start(self.lab.pod("pod-1"), target, 80, SOON);
        let denied = Attempts::start(self.lab.pod("pod-1"), target, 81, DENIED);
        what();
        let so_far = (allowed.tried(), denied.tried());
        eventually(SOON, || {
            when(allowed.tried() > so_far.0 && denied.tried() > so_far.1, "no attempt ended")
        });
        let ((reached, missed), (passed, tried)) = (allowed.finish(), denied.finish());
        assert!(reached > 0 && missed == 0, "allowed: {reached} reached, {missed} missed");
        assert!(tried > 0 && passed == 0, "denied: {passed} passed, {tried} did not");
    }
}

#[test]
fn a_killed_node_and_its_successor_lose_nothing_and_admit_nothing() {
    let scene = Scene::new();
    for host in ["node-1", "node-2"] {
        let before = (routes(&scene.lab, host, |_| true), rules(&scene.lab, host));
        scene.under_traffic(|| {
            scene.lab.fault("kill", host);
            assert_eq!(
                (routes(&scene.lab, host, |_| true), rules(&scene.lab, host)),
                before,
                "{host} without a node"
            );
            scene.lab.fault("start", host);
            scene.lab.await_ready(host);
        });
        assert_eq!(
            (routes(&scene.lab, host, |_| true), rules(&scene.lab, host)),
            before,
            "{host} with a new node"
        );
    }
}

#[test]
fn sigterm_stops_a_node_cleanly_and_forwarding_stays() {
    let scene = Scene::new();
    let lab = &scene.lab;
    lab.fault("kill", "node-2");
    // Run as a child of ours, so that its exit code is ours to see.
    let mut node = tortie(["lab", "--dir"]);
    let run = lab.folder().join("node-2/run");
    let log = std::fs::File::options().append(true).open(lab.folder().join("node-2/node.log")).unwrap();
    node.arg(lab.folder()).args(["exec", "node-2", "--", "tortie", "node"]);
    node.env("TORTIE_RUN_DIR", &run).env("CALICO_NODENAME_FILE", lab.folder().join("nodename"));
    node.env("IP", "autodetect").env("FELIX_HEALTHENABLED", "true").stderr(log);
    let mut node = node.spawn().unwrap();
    lab.await_ready("node-2");
    let before = (routes(lab, "node-2", |_| true), rules(lab, "node-2"));
    scene.under_traffic(|| {
        kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
        let status = eventually(SOON, || node.try_wait().unwrap().ok_or_else(|| "it runs on".to_owned()));
        assert_eq!(status.code(), Some(0), "{}", lab.log("node-2"));
        assert!(!run.join("node.sock").exists(), "its socket is left");
        assert_eq!((routes(lab, "node-2", |_| true), rules(lab, "node-2")), before);
        // Its peer keeps the routes too.
        assert_eq!(routes(lab, "node-1", |line| line.contains("via 172.30.0.2 ")).len(), 1);
    });
    assert!(succeeded(&lab.lab(&["status"])).contains("node-2     172.30.0.2      down:"));
    lab.fault("start", "node-2");
    lab.await_ready("node-2");
}

#[test]
fn without_a_node_add_is_refused_with_try_again_and_del_still_works() {
    let lab = Lab::up(1, &[]);
    lab.fault("kill", "node-1");
    let refused = crate::lab::failed(&lab.lab(&["pod", "add", "web", "--node", "node-1"]), 1);
    assert!(refused.contains("tortie node"), "{refused}");
    succeeded(&lab.lab(&["pod", "remove", "pod-1"]));
    lab.fault("start", "node-1");
    lab.await_ready("node-1");
    eventually(SOON, || {
        let endpoints = lab.ctl("get workloadendpoints");
        when(!endpoints.contains("pod-1"), &endpoints)
    });
}
