//! `calicoctl policy plan`, over saved flows.

use serde_json::{Value, json};

use crate::explain::CLUSTER;
use crate::world::{Outcome, World};

/// A flow as `calicoctl flows -o json` writes it.
pub(crate) fn flow(source: &str, destination: &str, port: u16, action: &str) -> Value {
    json!({
        "node": "n2", "firstSeen": 1, "lastSeen": 2, "action": action, "protocol": 6,
        "source": {"address": source, "port": 41000}, "destination": {"address": destination, "port": port},
        "packets": 1, "deniedPackets": 0, "policies": [],
    })
}

/// `dev/web` may reach `db`, and nobody else may.
pub(crate) const OTHERS: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: prod}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: dev}}}]
    ports: [{port: 15432}]
";

fn plan(new: &str, flows: &[Value], arguments: &[&str]) -> Outcome {
    let world = World::without_datastore();
    let lines: Vec<String> = flows.iter().map(Value::to_string).collect();
    let (cluster, new) = (world.file("cluster.yaml", CLUSTER), world.file("new.yaml", new));
    let flows = world.file("flows.json", &lines.join("\n"));
    let command = ["policy", "plan", "--file", &cluster, "-f", &new, "--flows", &flows];
    world.run(&[&command[..], arguments].concat())
}

#[test]
fn what_would_be_cut_or_newly_allowed_is_said_with_what_decides_and_by_the_exit_code() {
    let (web, dev, db) = ("10.65.1.1", "10.65.1.2", "10.65.2.1");
    let flows = [
        flow(web, db, 15432, "allow"),
        flow(dev, db, 15432, "deny"),
        flow(dev, db, 22, "deny"),
        flow("192.0.2.1", "192.0.2.2", 80, "allow"),
    ];
    let both = plan(OTHERS, &flows, &[]);
    assert_eq!(both.code, 3, "{both:?}");
    let lines: Vec<&str> = both.output.lines().collect();
    assert!(lines[1].starts_with("cut             TCP        prod/web   prod/db:15432   "), "{lines:#?}");
    assert!(lines[1].contains("end of tier default"), "{lines:#?}");
    assert!(lines[2].starts_with("newly allowed   TCP        dev/web    prod/db:15432   "), "{lines:#?}");
    assert!(lines[2].contains("Kubernetes NetworkPolicy prod/db, spec.ingress[0]"), "{lines:#?}");
    assert_eq!(lines[3], "flows: 1 cut, 1 newly allowed, 1 unchanged");

    let opened = plan(OTHERS, &flows[1..], &["-o", "json"]);
    assert_eq!(opened.code, 4);
    let value: Value = serde_json::from_str(&opened.output).unwrap();
    assert_eq!((&value["cut"], &value["newlyAllowed"]), (&json!(0), &json!(1)));
    assert_eq!(value["flows"][0]["effect"], "newlyAllowed");
    let same = plan(OTHERS, &flows[2..], &["--all"]);
    assert_eq!((same.code, same.output.lines().count()), (0, 3), "{same:?}");
}

#[test]
fn deleting_a_policy_is_planned_too() {
    let outcome = plan(OTHERS, &[flow("192.0.2.1", "10.65.2.1", 22, "deny")], &["--delete"]);
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let none = plan(&OTHERS.replace("name: db", "name: other"), &[], &["--delete"]);
    assert_eq!(none.code, 1);
    assert!(none.errors.contains("does not exist; there is nothing to delete"), "{none:?}");
}

#[test]
fn a_file_that_holds_no_flows_is_refused_with_its_line() {
    let outcome = plan(OTHERS, &[flow("10.65.1.1", "10.65.2.1", 1, "allow"), json!({"x": 1})], &[]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.errors.contains("flows.json: line 2 is not a flow"), "{outcome:?}");
}
