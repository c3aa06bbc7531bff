//! `/liveness`, `/readiness`, `/metrics`.

use crate::lab::{Lab, SOON, eventually, when};

const HEALTH: u16 = 9099;
const METRICS: u16 = 9091;

#[test]
fn a_node_that_works_is_live_and_ready_and_has_the_documented_metrics() {
    let lab = Lab::up(2, &[]);
    assert_eq!(lab.http("node-1", HEALTH, "/liveness").unwrap(), (200, "live\n".to_owned()));
    assert_eq!(lab.http("node-1", HEALTH, "/readiness").unwrap(), (200, "ready\n".to_owned()));
    let documented = [
        "felix_active_local_endpoints 1",
        "felix_int_dataplane_failures ",
        "felix_int_dataplane_apply_time_seconds",
        "tortie_bgp_peers 1",
        "tortie_bgp_peers_established 1",
        "tortie_bgp_received_bytes_total ",
        "tortie_bgp_sent_bytes_total ",
        "tortie_bgp_session_changes_total",
        "type=\"node-to-node mesh\"} 6\n",
        "type=\"node-to-node mesh\",family=\"ipv4/unicast\"} 1\n",
        // The two blocks, and the address of the pod here.
        "tortie_bgp_prefixes{family=\"ipv4/unicast\"} 3\n",
        "tortie_cni_calls_total",
    ];
    // What BGP counts is written ten times a second.
    eventually(SOON, || {
        let (code, metrics) = lab.http("node-1", METRICS, "/metrics")?;
        let missing: Vec<_> = documented.iter().filter(|name| !metrics.contains(**name)).collect();
        when(code == 200 && missing.is_empty(), &format!("{code}, without {missing:?}: {metrics}"))
    });
}

#[test]
fn readiness_names_the_peers_that_are_not_there() {
    let lab = Lab::up(2, &[]);
    lab.fault("kill", "node-2");
    // A node that has just started needs all its peers.
    lab.fault("kill", "node-1");
    lab.fault("start", "node-1");
    let body = eventually(SOON, || {
        let (code, body) = lab.http("node-1", HEALTH, "/readiness")?;
        when(code == 503 && body.contains("172.30.0.2"), &format!("{code} {body}"))
    });
    assert!(body.contains("bgp: 0 of 1 peers are Established: 172.30.0.2 is "), "{body}");
    assert_eq!(lab.http("node-1", HEALTH, "/liveness").unwrap().0, 200);
    lab.fault("start", "node-2");
    lab.await_ready("node-1");
}

#[test]
fn readiness_names_a_datastore_that_has_gone() {
    let lab = Lab::up(1, &[]);
    let (here, away) = (lab.datastore(), lab.folder().join("away.db"));
    std::fs::rename(&here, &away).unwrap();
    let body = eventually(SOON, || {
        let (code, body) = lab.http("node-1", HEALTH, "/readiness")?;
        when(code == 503 && body.contains("datastore"), &format!("{code} {body}"))
    });
    assert!(body.contains(&here.display().to_string()), "{body}");
    assert_eq!(lab.http("node-1", HEALTH, "/liveness").unwrap().0, 200);
    std::fs::rename(&away, &here).unwrap();
    lab.await_ready("node-1");
}
