//! The vectors of `ipam.jsonl`: a store as `given`, operations in order, and for each what must be true of its result.

mod support;
mod vector;

use testkit::vectors::{Case, Runner};

#[test]
fn ipam_vectors() {
    Runner::new("ipam.jsonl")
        .suite("ipam", |case: &Case| match case.when["property"].as_str() {
            Some(_) => vector::property::check(case),
            None => vector::World::new(&case.given).run(case),
        })
        .run();
}
