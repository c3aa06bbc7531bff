//! The mesh of three hosts when a link flaps.

use crate::host::{Server, reaches, routes};
use crate::lab::{Lab, SOON, eventually, succeeded, when};

#[test]
fn the_mesh_and_its_routes_survive_a_link_that_flaps() {
    let lab = Lab::up(3, &[]);
    let _server = Server::start(&lab.pod("pod-3"), 80);
    let target = lab.address("pod-3");
    let before: Vec<_> = ["node-1", "node-2", "node-3"].map(|host| routes(&lab, host, |_| true)).into();
    for _ in 0..3 {
        lab.fault("cut", "node-3");
        assert!(!reaches(&lab.pod("pod-1"), target, 80, std::time::Duration::from_millis(200)));
        lab.fault("mend", "node-3");
        eventually(SOON, || {
            let reached = reaches(&lab.pod("pod-1"), target, 80, std::time::Duration::from_secs(1));
            when(reached, "pod-3 is not reached")
        });
    }
    eventually(SOON, || {
        let status = succeeded(&lab.lab(&["status"]));
        when(status.matches("ready, 2 of 2 BGP sessions Established").count() == 3, &status)
    });
    let after: Vec<_> = ["node-1", "node-2", "node-3"].map(|host| routes(&lab, host, |_| true)).into();
    assert_eq!(after, before);
}

#[test]
fn a_host_that_restarts_behind_a_dead_link_keeps_its_routes_and_finds_its_peers_again() {
    let lab = Lab::up(3, &[]);
    let learned = |line: &str| line.contains("via 172.30.0.");
    let before = routes(&lab, "node-2", learned);
    lab.fault("cut", "node-2");
    lab.fault("kill", "node-2");
    lab.fault("start", "node-2");
    assert_eq!(routes(&lab, "node-2", learned), before, "nobody has been heard yet");
    lab.fault("mend", "node-2");
    eventually(SOON, || {
        let status = succeeded(&lab.lab(&["status"]));
        when(status.matches("ready, 2 of 2 BGP sessions Established").count() == 3, &status)
    });
    assert_eq!(routes(&lab, "node-2", learned), before);
}
