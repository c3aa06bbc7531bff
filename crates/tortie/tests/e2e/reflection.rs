//! Nodes that choose their own route reflectors: beyond the full mesh and back, other reflectors, and the loss of one.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::Pings;

use crate::lab::{Lab, SOON, eventually, tortie, when};

/// Four nodes are a mesh. Stale routes go soon, so that what stays is not only what is kept for a restart.
const CONFIGURATION: &str = "\
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  nodeMeshMaxRestartTime: 2s
  routeReflection: {meshLimit: 4, reflectors: 2, nodeSelector: has(reflect), settleTime: 2s}
";

/// The hosts that never reflect, and whose pods talk.
const TALKERS: [u8; 2] = [3, 4];

struct Scene {
    lab: Lab,
    pings: Vec<Pings>,
}

impl Scene {
    /// A mesh of nodes 1 to 4, with traffic; the host of node 5 waits.
    fn new() -> Self {
        let mut scene = Self { lab: Lab::up(5, &[]), pings: Vec::new() };
        scene.remove(5);
        scene.lab.apply(CONFIGURATION);
        [1, 2].into_iter().for_each(|node| scene.reflects(node, true));
        scene.await_sessions(&[(1, &[2, 3, 4]), (2, &[1, 3, 4]), (3, &[1, 2, 4]), (4, &[1, 2, 3])]);
        scene.pings =
            vec![scene.pings_from(TALKERS[0], TALKERS[1]), scene.pings_from(TALKERS[1], TALKERS[0])];
        scene.traffic_goes_on();
        scene
    }

    fn pings_from(&self, from: u8, to: u8) -> Pings {
        let [from, to] = [from, to].map(|number| format!("pod-{number}"));
        let [source, target] = [&from, &to].map(|pod| self.lab.address(pod).to_string());
        let (pod, log) = (self.lab.pod(&from), self.lab.folder().join(format!("pings-{from}")));
        Pings::start(&source, &target, log, |mut ping| {
            pod.run(|| ping.spawn()).expect("the pod is there").expect("ping is installed")
        })
    }

    /// A node goes for good.
    fn remove(&self, node: u8) {
        self.lab.fault("stop", &format!("node-{node}"));
        self.lab.ctl(&format!("delete node node-{node}"));
    }

    fn reflects(&self, node: u8, may: bool) {
        match may {
            true => self.lab.ctl(&format!("label nodes node-{node} reflect=yes")),
            false => self.lab.ctl(&format!("label nodes node-{node} reflect --remove")),
        };
    }

    /// What a node answers to `calicoctl bgp …`.
    fn ask(&self, node: u8, words: &[&str]) -> Vec<Value> {
        let socket = self.lab.folder().join(format!("node-{node}/run/node.sock"));
        let mut command = tortie(["ctl", "bgp"]);
        command.args(words).args(["-o", "json"]).env("TORTIE_NODE_SOCKET", socket);
        let output = command.output().expect("tortie runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until nodes have sessions with exactly these, all of them Established.
    #[track_caller]
    fn await_sessions(&self, wanted: &[(u8, &[u8])]) {
        for (node, others) in wanted {
            let others: BTreeSet<String> = others.iter().map(|other| address(*other)).collect();
            eventually(SOON, || {
                let peers = self.ask(*node, &["peers"]);
                let is_up = |peer: &&Value| peer["state"] == "Established" && peer["endOfRib"] != false;
                let all: BTreeSet<String> = peers.iter().map(|peer| field(peer, "address")).collect();
                let are_up = peers.iter().filter(is_up).count() == peers.len();
                when(all == others && are_up, &format!("node-{node} has {peers:?}, not {others:?}"))
            });
        }
        self.traffic_goes_on();
    }

    /// Some more pings come back.
    #[track_caller]
    fn traffic_goes_on(&self) {
        for pings in &self.pings {
            let before = pings.answered();
            eventually(SOON, || when(pings.answered() > before + 10, "no pings come back"));
        }
    }

    /// Waits until one talker has the route to the other's pods from exactly these.
    #[track_caller]
    fn await_heard_from(&self, reflectors: &[u8]) {
        let wanted: Vec<String> = reflectors.iter().map(|node| address(*node)).collect();
        eventually(SOON, || {
            let routes = self.ask(TALKERS[0], &["routes"]);
            let theirs = routes.iter().filter(|route| field(route, "nextHop") == address(TALKERS[1]));
            let mut from: Vec<String> = theirs.map(|route| field(route, "from")).collect();
            from.sort();
            when(from == wanted, &format!("routes are from {from:?}, not {wanted:?}"))
        });
        self.traffic_goes_on();
    }
}

fn address(node: u8) -> String {
    format!("172.30.0.{node}")
}

fn field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn reflectors_are_chosen_change_and_are_lost_and_no_ping_is() {
    let mut scene = Scene::new();
    // One more than a mesh has, of which those who are to reflect hear late.
    ["node-1", "node-2"].into_iter().for_each(|node| scene.lab.fault("freeze", node));
    scene.lab.fault("start", "node-5");
    scene.traffic_goes_on();
    ["node-1", "node-2"].into_iter().for_each(|node| scene.lab.fault("thaw", node));
    scene.await_sessions(&[(1, &[2, 3, 4, 5]), (2, &[1, 3, 4, 5]), (3, &[1, 2]), (4, &[1, 2]), (5, &[1, 2])]);
    // Another reflector.
    scene.reflects(5, true);
    scene.reflects(1, false);
    scene.await_sessions(&[(5, &[1, 2, 3, 4]), (2, &[1, 3, 4, 5]), (3, &[2, 5]), (4, &[2, 5]), (1, &[2, 5])]);
    // Few enough for a mesh again.
    scene.remove(1);
    scene.await_sessions(&[(2, &[3, 4, 5]), (3, &[2, 4, 5]), (4, &[2, 3, 5]), (5, &[2, 3, 4])]);
    scene.lab.fault("start", "node-1");
    scene.await_sessions(&[(2, &[1, 3, 4, 5]), (5, &[1, 2, 3, 4]), (3, &[2, 5]), (4, &[2, 5]), (1, &[2, 5])]);
    scene.await_heard_from(&[2, 5]);
    // One is lost, and for longer than its routes are kept.
    scene.lab.fault("kill", "node-2");
    scene.await_heard_from(&[5]);
    scene.lab.fault("start", "node-2");
    scene.await_heard_from(&[2, 5]);
    for pings in scene.pings.drain(..) {
        pings.finish().unwrap_or_else(|lost| panic!("{lost}"));
    }
}
