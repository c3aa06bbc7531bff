//! The vectors of `calc-state.jsonl`: whole input, whole output, and every way from one state to another.
//!
//! The vectors are written in the internal model of Calico's calculation graph; [`adapter`] puts them into v3 rows. Not
//! compared, because the contract has no place for them yet: `vteps` (VXLAN comes later) and `live_migration_roles`
//! (a KubeVirt feature that no resource of ours expresses). `encapsulation` is compared with what the pools say.

mod adapter;
mod consumer;
mod expectation;
mod walk;

use std::collections::BTreeMap;

use adapter::Inputs;
use testkit::vectors::{Case, Runner, load};
use walk::{Step, Walk};

const FILE: &str = "calc-state.jsonl";

#[test]
fn every_state_and_every_walk_gives_what_the_vectors_say() {
    let states: BTreeMap<String, Step> = load(FILE).iter().filter_map(state).collect();
    Runner::new(FILE).suite("state.step", |case| check(case, &states)).run();
}

/// A case that describes a state, as opposed to a walk.
fn state(case: &Case) -> Option<(String, Step)> {
    let rows = case.given["datastore"].as_array()?;
    let this_host = case.given["this_host"].as_str()?.to_owned();
    let step = Step {
        id: case.id.clone(),
        this_host,
        inputs: Inputs::from_rows(rows),
        expected: expectation::of(&case.then),
    };
    Some((case.id.clone(), step))
}

fn check(case: &Case, states: &BTreeMap<String, Step>) -> Result<(), String> {
    let names: Vec<&str> = match case.when["states"].as_array() {
        Some(names) => names.iter().filter_map(|name| name.as_str()).collect(),
        None => vec![case.id.as_str()],
    };
    let steps: Result<Vec<&Step>, String> =
        names.iter().map(|name| states.get(*name).ok_or_else(|| format!("no state {name}"))).collect();
    Walk::new(&steps?).in_every_way()
}
