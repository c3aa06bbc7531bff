//! node status, version and completion.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use api::wire::{Answer, NodeStatus, PeerStatus, Request};

use crate::world::{World, resource};

#[test]
fn the_status_of_a_node_is_asked_of_its_socket() {
    let mut world = World::new();
    let socket = world.path("node.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    world.set("TORTIE_NODE_SOCKET", socket);
    let node = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = String::new();
        stream.read_to_string(&mut request).expect("a request");
        let peer = PeerStatus {
            address: "10.20.0.12".parse().unwrap(),
            peer_type: "node-to-node mesh".into(),
            state: "up".into(),
            since: 0,
            info: "Established".into(),
        };
        let status = NodeStatus {
            node: "node-1".into(),
            pid: 1,
            version: "0".into(),
            bgp: true,
            peers: vec![peer],
            not_ready: Vec::new(),
            notices: Vec::new(),
        };
        stream
            .write_all(&serde_json::to_vec(&Answer::NodeStatus(status)).unwrap())
            .expect("a client that listens");
        serde_json::from_str::<Request>(&request).expect("a request")
    });
    let text = world.run(&["node", "status"]).succeeded();
    assert_eq!(node.join().expect("the node"), Request::NodeStatus);
    assert!(text.starts_with("Calico process is running.\n\nIPv4 BGP status\n+--"), "{text}");
    assert!(text.contains("| 10.20.0.12   | node-to-node mesh | up    | 19"), "{text}");
}

#[test]
fn a_node_that_does_not_run_is_said_so() {
    let mut world = World::new();
    let socket = world.path("none.sock");
    world.set("TORTIE_NODE_SOCKET", socket.clone());
    let outcome = world.run(&["node", "status"]).failed(&[&socket, "tortie node"]);
    assert_eq!(outcome.output, "Calico process is not running.\n");
}

fn cluster(version: &str) -> World {
    World::with(&resource(
        "ClusterInformation",
        "name: default",
        &format!("calicoVersion: {version}, clusterType: 'k8s,bgp', datastoreReady: true"),
    ))
}

#[test]
fn versions_of_client_and_cluster_are_shown() {
    let ours = env!("CARGO_PKG_VERSION");
    let world = cluster("v9.9.9");
    assert_eq!(
        world.run(&["version"]).succeeded(),
        format!("Client Version:    {ours}\nCluster Version:   v9.9.9\nCluster Type:      k8s,bgp\n")
    );
    let nowhere = World::without_datastore();
    assert_eq!(nowhere.run(&["version", "--client"]).succeeded(), format!("Client Version:    {ours}\n"));
    let outcome = nowhere.run(&["version"]).failed(&["x.db", "does not exist"]);
    assert_eq!(outcome.output, format!("Client Version:    {ours}\n"));
}

#[test]
fn a_cluster_of_another_version_is_refused_unless_allowed() {
    let world = cluster("v9.9.9");
    for arguments in [&["get", "nodes"][..], &["delete", "node", "a"], &["apply", "-f", "-"]] {
        world.run_with_input(arguments, &resource("Node", "name: a", "")).failed(&[
            "Version mismatch",
            "v9.9.9",
            env!("CARGO_PKG_VERSION"),
            "--allow-version-mismatch",
        ]);
    }
    assert_eq!(world.run(&["get", "nodes", "--allow-version-mismatch"]).succeeded(), "NAME\n");
    assert_eq!(world.run(&["--allow-version-mismatch", "get", "nodes"]).succeeded(), "NAME\n");
    assert_eq!(cluster(env!("CARGO_PKG_VERSION")).run(&["get", "nodes"]).succeeded(), "NAME\n");
}

#[test]
fn completion_knows_the_verbs() {
    let script = World::new().run(&["completion", "bash"]).succeeded();
    for verb in ["apply", "patch", "node", "--all-namespaces"] {
        assert!(script.contains(verb), "{verb}");
    }
}
