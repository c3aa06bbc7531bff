//! `bgp-update-errors.jsonl`: what RFC 7606 makes of faulty UPDATEs, and what becomes of the attribute at fault.

mod tree;

use bgp::packet::attribute::{Attribute, AttributeValue};
use bgp::packet::update::{Disposition, Received};
use bgp::packet::{Context, DecodeError, Message, PeerKind};
use bgp::{Asn, FamilySet};
use serde_json::Value;
use testkit::vectors::{Case, Runner};

#[test]
fn faulty_updates_cost_what_the_vectors_say() {
    Runner::new("bgp-update-errors.jsonl").suite("bgp.update", check).run();
}

fn check(case: &Case) -> Result<(), String> {
    let bytes = tree::unhex(case.when["hex"].as_str().ok_or("no hex")?);
    let external = case.given["peer"] == "ebgp";
    let context = Context {
        as4: case.given["as4"] == Value::Bool(true),
        families: FamilySet::ALL,
        peer_as: case.given["peer_as"].as_u64().map(|asn| Asn(u32::try_from(asn).unwrap())),
        ..Context::initial(if external { PeerKind::External } else { PeerKind::Internal })
    };
    let outcome = Message::decode(&bytes, &context).map(|message| match message {
        Message::Update(received) => received,
        other => panic!("not an UPDATE: {other:?}"),
    });
    check_class(&case.then, &outcome)?;
    if let (Some(expected), Ok(received)) = (case.then["attribute"].as_str(), &outcome)
        && received.disposition() < Some(Disposition::TreatAsWithdraw)
    {
        check_fate(expected, &case.id, received)?;
    }
    Ok(())
}

fn class(outcome: &Result<Received, DecodeError>) -> &'static str {
    match outcome {
        Err(_) => "session-reset",
        Ok(received) => match received.disposition() {
            None => "accept",
            Some(Disposition::AttributeDiscard) => "attribute-discard",
            Some(Disposition::TreatAsWithdraw) => "treat-as-withdraw",
            Some(Disposition::SessionReset) => "session-reset",
        },
    }
}

fn check_class(then: &Value, outcome: &Result<Received, DecodeError>) -> Result<(), String> {
    let class = class(outcome);
    let mut allowed = then["allowed"].as_array().into_iter().flatten();
    if then["class"] != class && !allowed.any(|other| other == class) {
        return Err(format!("{class} instead of {}: {outcome:?}", then["class"]));
    }
    match (&then["notification"], outcome) {
        (Value::Null, _) | (_, Ok(_)) => Ok(()),
        (expected, Err(error)) => tree::notification_differs(expected, &error.notification),
    }
}

/// The code of the attribute under test is the second part of the id: a number, or a name of ours.
fn code_under_test(id: &str) -> Option<u8> {
    let mut parts = id.split('/');
    let (family, subject) = (parts.next()?, parts.next()?);
    if let Ok(code) = subject.parse() {
        return Some(code);
    }
    let subject = match family {
        "grid" => subject,
        "value" => ["origin", "as-path", "next-hop", "aggregator", "otc", "aigp"]
            .into_iter()
            .find(|name| subject.starts_with(name))?,
        "duplicate" if subject.starts_with("origin") => "origin",
        _ => return None,
    };
    (0..=255).find(|code| attribute_name(*code).as_deref() == Some(subject))
}

fn attribute_name(code: u8) -> Option<String> {
    bgp::packet::attribute::name(code).map(str::to_owned)
}

fn check_fate(expected: &str, id: &str, received: &Received) -> Result<(), String> {
    let Some(code) = code_under_test(id) else { return Ok(()) };
    let found = received.update.attributes.iter().find(|attribute| attribute.value.code() == code);
    let passed_on = found.and_then(Attribute::passed_on);
    let partial = passed_on.as_ref().is_some_and(|attribute| attribute.flags & 0x20 != 0);
    let good = match expected {
        "kept" => passed_on.is_some(),
        "kept-partial" => passed_on.is_some() && partial,
        "dropped" => passed_on.is_none(),
        "merged" => passed_on.is_none() && is_merged(received, &found.ok_or("it was not read")?.value),
        other => return Err(format!("nothing is known about {other:?}")),
    };
    if good { Ok(()) } else { Err(format!("not {expected}: {found:?}")) }
}

/// Whether an AS4 attribute has had its effect: on the path unless it is the longer one, on the aggregator if there
/// is one that stands for it (RFC 6793, section 4.2.3).
fn is_merged(received: &Received, value: &AttributeValue) -> bool {
    let (path, aggregator) = received.update.effective();
    let attributes = &received.update.attributes;
    match value {
        AttributeValue::As4Path(four) => attributes.iter().any(|attribute| match &attribute.value {
            AttributeValue::AsPath(two) if two.length() < four.length() => path.as_ref() == Some(two),
            AttributeValue::AsPath(_) => {
                path.as_ref().is_some_and(|p| four.asns().all(|asn| p.count(asn) > 0))
            }
            _ => false,
        }),
        AttributeValue::As4Aggregator(four) => {
            let two = attributes.iter().find_map(|attribute| match attribute.value {
                AttributeValue::Aggregator(two) => Some(two),
                _ => None,
            });
            match two {
                Some(two) if two.asn == Asn::TRANS => aggregator == Some(*four),
                two => aggregator == two,
            }
        }
        _ => false,
    }
}
