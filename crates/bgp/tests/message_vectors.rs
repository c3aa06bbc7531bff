//! `bgp-message.jsonl`: bytes to tree or to error, and back to the same bytes.

mod tree;

use bgp::packet::update::Disposition;
use bgp::packet::{Context, Message, PeerKind};
use bgp::{Asn, Family, FamilySet, RouterId};
use serde_json::Value;
use testkit::vectors::{Case, Runner};

#[test]
fn messages_are_read_as_the_vectors_say() {
    Runner::new("bgp-message.jsonl").suite("bgp.message", check).run();
}

fn check(case: &Case) -> Result<(), String> {
    let bytes = tree::unhex(case.when["hex"].as_str().ok_or("no hex")?);
    let context = context(&case.given);
    let outcome = Message::decode(&bytes, &context).and_then(|message| expect_peer(case, message));
    let then = &case.then;
    if then["any_error"] == Value::Bool(true) {
        return Ok(());
    }
    if let Some(skip) = then["skip"].as_str() {
        return outcome.map(drop).map_err(|error| format!("{skip}: {error}"));
    }
    if then["class"].is_string() {
        return check_class(then, &outcome);
    }
    if let Some(list) = then["any_of"].as_array() {
        let problems: Vec<String> =
            list.iter().map(|then| check_outcome(then, &outcome)).filter_map(Result::err).collect();
        return if problems.len() < list.len() { Ok(()) } else { Err(problems.join("; ")) };
    }
    let mut result = check_outcome(then, &outcome);
    for also in then["also"].as_array().into_iter().flatten() {
        result = result.or_else(|error| check_outcome(also, &outcome).map_err(|_| error));
    }
    result?;
    if let Ok(message) = &outcome {
        check_more(case, message, &bytes, &context)?;
    }
    Ok(())
}

type Outcome = Result<Message, bgp::packet::DecodeError>;

/// What a session checks about an OPEN when it knows the peer.
fn expect_peer(case: &Case, message: Message) -> Outcome {
    let number = |name: &str| case.given[name].as_u64().map(|n| Asn(u32::try_from(n).unwrap()));
    if let (Message::Open(open), Some(peer_as)) = (&message, number("peer_as")) {
        let local_as = number("local_as").expect("with peer_as");
        let ours = case.given["local_router_id"].as_str().map_or("192.0.2.254", |id| id);
        bgp::session::check_peer(open, peer_as, local_as, RouterId(ours.parse().unwrap()))?;
    }
    Ok(message)
}

fn families(value: &Value) -> FamilySet {
    let known = |name: &Value| match name.as_str() {
        Some("ipv4/unicast") => Some(Family::Ipv4Unicast),
        Some("ipv6/unicast") => Some(Family::Ipv6Unicast),
        _ => None,
    };
    value.as_array().into_iter().flatten().filter_map(known).collect()
}

fn context(given: &Value) -> Context {
    let set = |name: &str| given[name].as_bool().unwrap_or(false);
    Context {
        as4: set("as4"),
        families: families(&given["families"]),
        add_path: families(&given["add_path"]),
        extended_next_hop: !families(&given["extended_nexthop"]).is_empty(),
        extended_message: set("extended_message"),
        enhanced_refresh: set("enhanced_refresh"),
        // The trees carry attributes that only internal peers send.
        ..Context::initial(PeerKind::Internal)
    }
}

fn check_outcome(then: &Value, outcome: &Outcome) -> Result<(), String> {
    match (&then["error"], outcome) {
        (Value::Null, Err(error)) => Err(format!("not read: {error}")),
        (Value::Null, Ok(message)) => tree::differs(&then["decoded"], &tree::message(message)),
        (_, Ok(message)) => Err(format!("read as {message:?}")),
        (expected, Err(error)) => tree::notification_differs(expected, &error.notification),
    }
}

fn check_class(then: &Value, outcome: &Outcome) -> Result<(), String> {
    let class = match outcome {
        Err(_) => "session-reset",
        Ok(Message::Update(received)) => match received.disposition() {
            None => "accept",
            Some(Disposition::AttributeDiscard) => "attribute-discard",
            Some(Disposition::TreatAsWithdraw) => "treat-as-withdraw",
            Some(Disposition::SessionReset) => "session-reset",
        },
        Ok(other) => return Err(format!("not an UPDATE: {other:?}")),
    };
    let allowed = then["class_allowed"].as_array().into_iter().flatten();
    if then["class"] == class || allowed.into_iter().any(|other| other == class) {
        return Ok(());
    }
    Err(format!("{class} instead of {}", then["class"]))
}

fn check_more(case: &Case, message: &Message, bytes: &[u8], context: &Context) -> Result<(), String> {
    let Message::Update(received) = message else { return round_trip(case, message, bytes, context) };
    if let Some(expected) = case.then["end_of_rib"].as_str() {
        let family = received.update.end_of_rib().map(|family| family.to_string());
        if family.as_deref() != Some(expected) {
            return Err(format!("End-of-RIB of {family:?} instead of {expected}"));
        }
    }
    if !case.then["effective"].is_null() {
        tree::differs(&case.then["effective"], &tree::effective(&received.update))?;
    }
    if let Some(forward) = case.then["forward"].as_str() {
        let unknown = received.update.attributes.iter().find(|attribute| attribute.value.name().is_none());
        let passed_on = unknown.and_then(|attribute| attribute.passed_on());
        match (forward, passed_on) {
            ("not passed on", None) => {}
            ("passed on unchanged with Partial set", Some(attribute)) if attribute.flags & 0x20 != 0 => {}
            (_, passed_on) => return Err(format!("{forward}, but: {passed_on:?}")),
        }
    }
    round_trip(case, message, bytes, context)
}

fn round_trip(case: &Case, message: &Message, bytes: &[u8], context: &Context) -> Result<(), String> {
    if case.line["roundtrip"] != Value::Bool(true) {
        return Ok(());
    }
    let again = match message {
        Message::Open(open) => open.encode(),
        Message::Update(received) => received.update.encode(context),
        Message::Keepalive => Message::keepalive(),
        Message::Notification(notification) => notification.encode(),
        Message::RouteRefresh(refresh) => refresh.encode(),
    };
    if again == bytes { Ok(()) } else { Err(format!("encoded as {}", tree::hex(&again))) }
}
