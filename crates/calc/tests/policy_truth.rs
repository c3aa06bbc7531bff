//! Suite `policy.truth`: Kubernetes and Calico objects through the calculation graph and the rule program to verdicts, each probe on
//! both sides; and the same as series of changes of one graph.

mod policy_truth {
    pub(crate) mod objects;
    pub(crate) mod world;
}

use policy_truth::objects;
use policy_truth::world::World;

use std::collections::BTreeMap;

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
