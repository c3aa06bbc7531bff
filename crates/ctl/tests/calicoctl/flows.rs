//! `calicoctl flows`, asked of a node that answers what the test says.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use api::wire::Request;
use serde_json::{Value, json};

use crate::policy_plan::flow;
use crate::world::{Outcome, World};

/// Runs calicoctl beside a node that answers with these lines; gives what it was asked, too.
fn asked(arguments: &[&str], lines: &[Value]) -> (Outcome, Request) {
    let mut world = World::new();
    let socket = world.path("node.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    world.set("TORTIE_NODE_SOCKET", socket);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let node = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = String::new();
        stream.read_to_string(&mut request).expect("a request");
        // Who has seen enough does not read the rest.
        let _ = stream.write_all(text.as_bytes());
        serde_json::from_str(&request).expect("a request")
    });
    let outcome = world.run(arguments);
    (outcome, node.join().expect("the node"))
}

#[test]
fn flows_are_shown_with_the_rule_and_what_is_missing_is_said() {
    let mut denied = flow("10.65.1.1", "10.65.2.1", 22, "deny");
    denied["policies"] = json!([{
        "endpoint": "prod/db", "direction": "ingress", "action": "deny", "rule": "end of tier default ingress",
        "staged": {"action": "allow", "rule": "StagedNetworkPolicy/prod/x ingress 0"},
    }]);
    let unseen = json!({"lostPackets": 0, "deniedDeafMs": 0, "allowedDeafMs": 0, "uncountedDenials": 7, "skippedLines": 0});
    let lines = [json!({"flow": denied}), json!({"unseen": unseen}), json!("done")];
    let (outcome, request) = asked(&["flows", "--denied", "--pod", "prod/db"], &lines);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let Request::Flows(question) = request else { panic!("{request:?}") };
    assert_eq!((question.denied, question.follow, question.pod.as_deref()), (true, false, Some("prod/db")));
    let line = outcome.output.lines().nth(1).unwrap();
    assert!(line.contains("deny     TCP              1   10.65.1.1 -> 10.65.2.1:22"), "{line}");
    let rule = "end of tier default ingress; staged: would allow: StagedNetworkPolicy/prod/x ingress 0";
    assert!(line.ends_with(rule), "{line}");
    assert_eq!(outcome.errors, "! 7 denied packets were not looked at\n");
}

#[test]
fn a_plan_for_flows_that_a_node_could_not_tell_does_not_say_that_nothing_changes() {
    let files = World::without_datastore();
    let cluster = files.file("cluster.yaml", crate::explain::CLUSTER);
    let new = files.file("new.yaml", crate::policy_plan::OTHERS);
    let command = ["policy", "plan", "--file", &cluster, "-f", &new];
    let flow = json!({"flow": flow("10.65.1.1", "10.65.2.1", 22, "allow")});
    let (complete, _) = asked(&command, &[flow.clone(), json!("done")]);
    assert_eq!(complete.code, 0, "{complete:?}");
    for (missing, said) in [
        (json!({"skippedConnections": 7}), "! too many tracked connections: 7 of them were left out\n"),
        (json!({"connectionsUnknown": true}), "! the kernel's tracked connections cannot be listed\n"),
    ] {
        let (outcome, _) = asked(&command, &[flow.clone(), json!({"unseen": missing}), json!("done")]);
        assert!(outcome.code == 5 && outcome.errors.ends_with(said), "{outcome:?}");
    }
}

#[test]
fn what_is_written_as_json_can_be_planned_with() {
    let lines = [json!({"flow": flow("10.65.1.1", "10.65.2.1", 22, "allow")}), json!("done")];
    let (outcome, _) = asked(&["flows", "-o", "json"], &lines);
    let written: Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!(written["destination"]["port"], 22);
}

#[test]
fn a_node_that_ends_while_it_is_followed_is_said_and_enough_lines_are_enough() {
    let line = json!({"flow": flow("10.65.1.1", "10.65.2.1", 22, "allow")});
    let (outcome, _) = asked(&["flows", "--follow"], std::slice::from_ref(&line));
    assert_eq!((outcome.code, outcome.output.lines().count()), (1, 2), "{outcome:?}");
    assert!(outcome.errors.contains("has ended; ask again when it runs"), "{outcome:?}");
    let (outcome, _) = asked(&["flows", "--follow", "--lines", "1"], &[line.clone(), line]);
    assert_eq!((outcome.code, outcome.output.lines().count()), (0, 2), "{outcome:?}");
}

#[test]
fn a_node_that_refuses_says_why() {
    let lines = [json!({"error": {"code": 100, "msg": "this node watches no flows"}})];
    let (outcome, _) = asked(&["flows"], &lines);
    assert_eq!((outcome.code, outcome.errors.as_str()), (1, "this node watches no flows\n"));
}
