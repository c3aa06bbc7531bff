//! The selector vectors: parsing, canonical text, ids, matching, restrictions, tokens and prefixes.

use std::collections::{BTreeMap, BTreeSet};

use api::selector::{LabelRestriction, Selector, tokens};
use serde_json::{Value, json};
use testkit::vectors::{Case, Runner};

#[test]
fn every_selector_vector_holds() {
    Runner::new("selectors.jsonl").suite("selector", check).run();
}

fn check(case: &Case) -> Result<(), String> {
    if let Some(texts) = case.when.get("selectors") {
        return check_ids(texts, &case.then);
    }
    let text = case.when["selector"].as_str().ok_or("no selector")?;
    check_tokens(text, &case.then)?;
    let selector = match (Selector::parse(text), case.then["parse"].as_str()) {
        (Ok(selector), Some("ok") | None) => selector,
        (Err(_), Some("error")) => return Ok(()),
        (result, expected) => return Err(format!("parse: {result:?}, expected {expected:?}")),
    };
    check_text(&selector, case)?;
    check_matches(&selector, &case.then)?;
    check_restrictions(&selector, &case.then)
}

fn check_ids(texts: &Value, then: &Value) -> Result<(), String> {
    let texts: Vec<String> = serde_json::from_value(texts.clone()).map_err(|e| e.to_string())?;
    let selectors: Vec<Selector> = texts.iter().map(|text| text.parse().unwrap()).collect();
    let ids: Vec<&str> = selectors.iter().map(Selector::unique_id).collect();
    let same = ids.iter().all(|id| *id == ids[0]);
    same_value("same_unique_id", json!(same), &then["same_unique_id"])?;
    if_given("unique_ids", then, || json!(ids))
}

fn check_tokens(text: &str, then: &Value) -> Result<(), String> {
    let Some(expected) = then.get("tokens") else { return Ok(()) };
    let actual: Vec<Vec<String>> = tokens(text)
        .map_err(|error| error.to_string())?
        .iter()
        .map(|spanned| {
            let content = spanned.token.content().map(str::to_owned);
            [spanned.token.name().to_owned()].into_iter().chain(content).collect()
        })
        .collect();
    same_value("tokens", json!(actual), expected)
}

fn check_text(selector: &Selector, case: &Case) -> Result<(), String> {
    let prefixed = match case.when["prefix_labels_with"].as_str() {
        Some(prefix) => selector.with_label_prefix(prefix),
        None => selector.clone(),
    };
    if_given("canonical", &case.then, || json!(prefixed.as_str()))?;
    if_given("unique_id", &case.then, || json!(prefixed.unique_id()))?;
    let again = Selector::parse(prefixed.as_str()).map_err(|error| error.to_string())?;
    same_value("canonical text, parsed", json!(again.as_str()), &json!(prefixed.as_str()))
}

fn check_matches(selector: &Selector, then: &Value) -> Result<(), String> {
    for (list, expected) in [("match", true), ("no_match", false)] {
        for labels in then[list].as_array().into_iter().flatten() {
            let map: BTreeMap<String, String> =
                serde_json::from_value(labels.clone()).map_err(|error| error.to_string())?;
            if selector.matches(&map) != expected {
                return Err(format!("{labels} belongs to {list}"));
            }
        }
    }
    Ok(())
}

fn check_restrictions(selector: &Selector, then: &Value) -> Result<(), String> {
    let Some(expected) = then.get("label_restrictions") else { return Ok(()) };
    let expected: BTreeMap<String, LabelRestriction> =
        expected.as_object().ok_or("not a map")?.iter().map(|(l, r)| (l.clone(), restriction(r))).collect();
    let actual = selector.label_restrictions();
    if actual != expected {
        return Err(format!("restrictions: {actual:?}, expected {expected:?}"));
    }
    let with_all = Selector::parse(&format!("all() && ({selector})")).map_err(|error| error.to_string())?;
    let same = with_all.label_restrictions() == actual;
    if_given("same_with_all_prefix", then, || json!(same))
}

fn restriction(value: &Value) -> LabelRestriction {
    let strings = |list: &Vec<Value>| -> BTreeSet<String> {
        list.iter().map(|text| text.as_str().expect("a string").to_owned()).collect()
    };
    LabelRestriction {
        must_be_present: value["must_be_present"].as_bool().unwrap_or_default(),
        must_be_absent: value["must_be_absent"].as_bool().unwrap_or_default(),
        one_of: value["one_of"].as_array().map(strings),
    }
}

fn if_given(field: &str, then: &Value, actual: impl FnOnce() -> Value) -> Result<(), String> {
    then.get(field).map_or(Ok(()), |expected| same_value(field, actual(), expected))
}

fn same_value(what: &str, actual: Value, expected: &Value) -> Result<(), String> {
    if actual == *expected { Ok(()) } else { Err(format!("{what}: {actual}, expected {expected}")) }
}
