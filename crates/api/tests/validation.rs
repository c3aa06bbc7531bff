//! `validation.jsonl`: which resources are accepted.

use api::Resource;
use testkit::vectors::{Case, Runner};

/// What is wrong with the resource of a case, if anything.
fn refusal(case: &Case) -> Option<String> {
    let mut resource = match Resource::from_value(&case.given["resource"]) {
        Ok(resource) => resource,
        Err(violations) => return Some(violations.iter().map(|each| each.to_string() + "; ").collect()),
    };
    resource.apply_defaults();
    let violations = resource.validate().err()?;
    Some(violations.iter().map(|each| each.to_string() + "; ").collect())
}

fn check(case: &Case) -> Result<(), String> {
    match (case.then["result"].as_str(), refusal(case)) {
        (Some("accept"), None) | (Some("reject"), Some(_)) => Ok(()),
        (Some("accept"), Some(reason)) => Err(format!("refused: {reason}")),
        (Some("reject"), None) => Err("accepted".to_owned()),
        (other, _) => Err(format!("a result that this test does not know: {other:?}")),
    }
}

#[test]
fn every_vector_is_accepted_or_refused_as_it_should() {
    Runner::new("validation.jsonl").suite("validation", check).run();
}
