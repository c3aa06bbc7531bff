//! Suite `policy.truth`: Kubernetes and Calico objects through the calculation graph and the rule program to verdicts, each probe on
//! both sides; and the same as series of changes of one graph.

mod policy_truth {
    pub(crate) mod world;
}

use policy_truth::world::World;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::objects;
use testkit::vectors::{Case, Runner, load};

fn cases() -> Vec<Case> {
    let cases: Vec<Case> =
        load("policy-truth.jsonl").into_iter().filter(|case| case.suite == "policy.truth").collect();
    assert!(!cases.is_empty(), "no case of suite policy.truth");
    cases
}

#[test]
fn every_probe_gets_its_verdict() {
    Runner::new("policy-truth.jsonl")
        .suite("policy.truth", |case| {
            let mut world = World::default();
            world.become_(&objects::rows(&case.given["objects"])?);
            world.check(case)
        })
        .run_suites();
}

#[test]
fn a_series_played_as_changes_gives_the_same_verdicts() {
    let mut series: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases() {
        if let Some((name, _)) = case.id.rsplit_once("/step") {
            series.entry(name.to_owned()).or_default().push(case);
        }
    }
    assert!(!series.is_empty(), "no series");
    let mut failures = Vec::new();
    for mut steps in series.into_values() {
        steps.sort_by(|a, b| a.id.cmp(&b.id));
        // Forwards, and back again: what a step added must leave with it.
        let back = steps.iter().rev().skip(1).cloned().collect::<Vec<_>>();
        let mut world = World::default();
        for case in steps.iter().chain(&back) {
            world.become_(&objects::rows(&case.given["objects"]).unwrap());
            failures.extend(world.check(case).err().map(|error| format!("{}: {error}", case.id)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Two pods, of which one is guarded by a policy with these rules, as they are stored; and what becomes of TCP to ports 80
/// to 82 of it.
fn verdicts(policy: Value) -> [&'static str; 3] {
    let pod = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": {"app": name}},
            "spec": {"containers": []}, "status": {"podIP": ip, "podIPs": [{"ip": ip}]}})
    };
    let policy = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "p"}, "spec": policy});
    let objects = json!([pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), policy]);
    let mut world = World::default();
    world.become_(&objects::rows(&objects).expect("something of each can be read"));
    [80, 81, 82].map(|port| verdict(&world, "n/b", port))
}

/// What becomes of TCP from the pod `n/a`.
fn verdict(world: &World, to: &str, port: u16) -> &'static str {
    let case = |verdict: &str| Case {
        id: String::new(),
        suite: String::new(),
        status: String::new(),
        given: Value::Null,
        when: json!({"probes": [{"from": "n/a", "to": to, "protocol": "TCP", "port": port}]}),
        then: json!({"verdicts": [verdict]}),
        line: Value::Null,
    };
    let verdict = ["allow", "deny"].into_iter().find(|verdict| world.check(&case(verdict)).is_ok());
    verdict.expect("one of the two")
}

#[test]
fn what_a_newer_version_wrote_opens_nothing_and_the_rest_of_the_policy_counts() {
    let to = |action: &str, port: u16| json!({"action": action, "protocol": "TCP", "destination": {"ports": [port]}});
    let spec = |rules: Value| json!({"selector": "app == 'b'", "types": ["Ingress"], "ingress": rules});
    // An unknown action denies everything from there on; the rules before it hold.
    assert_eq!(
        verdicts(spec(json!([to("Allow", 80), to("Audit", 81), to("Allow", 82)]))),
        ["allow", "deny", "deny"]
    );
    // A condition that is not known: an Allow matches nothing, a Deny everything.
    let with = |action: &str| json!({"action": action, "source": {"domains": ["example.com"]}});
    assert_eq!(verdicts(spec(json!([with("Allow"), to("Allow", 81)]))), ["deny", "allow", "deny"]);
    assert_eq!(
        verdicts(spec(json!([to("Allow", 80), with("Deny"), to("Allow", 82)]))),
        ["allow", "deny", "deny"]
    );
    // A field of the policy that is not what it was: everything is denied, to those that it selects.
    let mut odd = spec(json!([to("Allow", 80)]));
    odd["order"] = json!({"after": "other"});
    assert_eq!(verdicts(odd.clone()), ["deny", "deny", "deny"]);
    odd["selector"] = json!("app == 'c'");
    assert_eq!(verdicts(odd), ["allow", "allow", "allow"]);
}

#[test]
fn a_rule_that_names_a_service_follows_its_slices() {
    let pod = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n", "labels": {"app": name}},
            "spec": {"containers": []}, "status": {"podIP": ip, "podIPs": [{"ip": ip}]}})
    };
    let policy = json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n"}, "spec": {"selector": "app == 'a'", "types": ["Egress"],
        "egress": [{"action": "Allow", "destination": {"services": {"name": "web"}}}]}});
    let slice = |address: &str, port: u16| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": "KubernetesEndpointSlice",
            "metadata": {"name": format!("web-{port}"), "namespace": "n"}, "spec": {"service": "web",
            "addresses": [address], "ports": [{"protocol": "TCP", "port": port}]}})
    };
    let pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3")];
    let mut world = World::default();
    for (slices, open) in [
        (vec![], vec![]),
        (vec![slice("10.0.0.2", 80)], vec![("n/b", 80)]),
        (vec![slice("10.0.0.2", 80), slice("10.0.0.3", 81)], vec![("n/b", 80), ("n/c", 81)]),
        (vec![slice("10.0.0.3", 80)], vec![("n/c", 80)]),
    ] {
        let objects: Vec<Value> = pods.iter().chain([&policy]).chain(&slices).cloned().collect();
        world.become_(&objects::rows(&json!(objects)).expect("good objects"));
        for to in ["n/b", "n/c"] {
            for port in [80, 81] {
                let expected = if open.contains(&(to, port)) { "allow" } else { "deny" };
                assert_eq!(verdict(&world, to, port), expected, "{to} {port} {slices:?}");
            }
        }
    }
}

#[test]
fn a_policy_of_a_tier_that_does_not_exist_denies_what_it_does_not_allow_and_nobody_else_notices() {
    let allow = json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]);
    let policy = |selector: &str| json!({"tier": "gone", "selector": selector, "types": ["Ingress"], "ingress": allow});
    assert_eq!(verdicts(policy("app == 'b'")), ["allow", "deny", "deny"]);
    assert_eq!(verdicts(policy("app == 'c'")), ["allow", "allow", "allow"]);
}
