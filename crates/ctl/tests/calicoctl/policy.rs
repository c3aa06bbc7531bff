//! `calicoctl policy assert` and `policy reach`, over a file.

use serde_json::Value;

use crate::explain::CLUSTER;
use crate::world::{Outcome, World};

fn assert_policy(assertions: &str, more: &[&str]) -> Outcome {
    let world = World::without_datastore();
    let file = world.file("cluster.yaml", CLUSTER);
    let arguments = [&["policy", "assert", "-f", "-", "--file", &file][..], more].concat();
    world.run_with_input(&arguments, assertions)
}

fn reach(arguments: &[&str]) -> Outcome {
    let world = World::without_datastore();
    let file = world.file("cluster.yaml", CLUSTER);
    world.run(&[&["policy", "reach", "--file", &file][..], arguments].concat())
}

#[test]
fn assertions_that_hold_are_listed_and_the_exit_code_is_0() {
    let outcome = assert_policy(
        "assertions:\n\
         - {name: ours, from: [prod/web], to: prod/db, protocol: TCP, port: 15432, expect: allow}\n\
         - {from: [dev/web, 192.0.2.1], to: prod/db, protocol: 6, port: 15432, expect: deny}\n\
         - {from: dev/web, to: prod/web, expect: allow}\n",
        &[],
    );
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(
        outcome.output,
        "ok     ours: prod/web -> prod/db TCP 15432 (allow)\n\
         ok     assertions[1]: dev/web -> prod/db 6 15432 (deny)\n\
         ok     assertions[1]: 192.0.2.1 -> prod/db 6 15432 (deny)\n\
         ok     assertions[2]: dev/web -> prod/web ping (allow)\n"
    );
}

#[test]
fn each_that_fails_is_explained_and_the_exit_code_is_1() {
    let assertions = "assertions:\n\
         - {from: dev/web, to: service/prod/sql, protocol: TCP, port: 5432, expect: allow}\n\
         - {from: dev/nobody, to: prod/db, protocol: TCP, port: 1, expect: deny}\n\
         - {from: prod/web, to: prod/db, protocol: TCP, port: 15432, expect: allow}\n";
    let outcome = assert_policy(assertions, &[]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.errors.ends_with("2 of 3 assertions do not hold\n"), "{}", outcome.errors);
    let (output, explained) = (&outcome.output, "Kubernetes NetworkPolicy prod/db: no match");
    assert!(
        output.starts_with("FAILED assertions[0]: dev/web -> service/prod/sql TCP 5432 (expected allow)\n"),
        "{output}"
    );
    assert!(
        output.contains(explained) && output.contains("cannot be checked: from: \"dev/nobody\" is not"),
        "{output}"
    );
    let outcome = assert_policy(assertions, &["-o", "json"]);
    let checked: Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!((&checked[0]["holds"], &checked[2]["holds"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(checked[0]["failures"][0]["verdict"], "deny");
}

#[test]
fn a_file_that_is_none_of_assertions_is_refused() {
    for text in ["assertions: []\n", "assertions:\n- {form: a, to: b, expect: allow}\n", "kind: Pod\n"] {
        let outcome = assert_policy(text, &[]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.errors.contains("standard input"), "{}", outcome.errors);
    }
}

#[test]
fn everyone_who_can_reach_is_listed() {
    let outcome = reach(&["--to", "app == 'db'", "--port", "15432"]);
    let expected =
        "pod prod/db 10.65.2.1, TCP 15432:\n  pod prod/web 10.65.1.1\n  (2 pod addresses cannot)\n";
    assert_eq!((outcome.code, outcome.output.as_str()), (0, expected), "{outcome:?}");
    let outcome = reach(&["--to", "app == 'web' && pcns.env == 'prod'", "--port", "80", "-o", "json"]);
    let reached: Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!(reached["targets"][0]["networks"][0]["from"], "0.0.0.0/0");
    assert_eq!(reached["targets"][0]["pods"].as_array().map(Vec::len), Some(3));
}

#[test]
fn reach_is_refused_what_means_nothing() {
    let refused = |arguments: &[&str]| {
        let outcome = reach(arguments);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        outcome.errors
    };
    assert!(
        refused(&["--to", "app = 'db'", "--port", "1"]).contains("--to \"app = 'db'\" is not a selector: ")
    );
    assert!(refused(&["--to", "app == 'nobody'", "--port", "1"]).contains("no pod is selected"));
    assert!(
        refused(&["--to", "all()", "--port", "1", "--protocol", "ICMP"])
            .contains("only TCP, UDP and SCTP have ports")
    );
}
