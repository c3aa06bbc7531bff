//! Messages as the trees of the vectors, and comparing them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::IpAddr;

use bgp::packet::Message;
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, MpReach, MpUnreach, SegmentKind};
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::packet::nlri::Nlri;
use bgp::packet::notification::Notification;
use bgp::packet::open::Open;
use bgp::packet::route_refresh::Subtype;
use bgp::packet::update::Update;
use serde_json::{Map, Value, json};

/// Bytes of a hexadecimal text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Compares a tree; what is expected but null, or only says how the wire was spelled, is left out.
pub(crate) fn differs(expected: &Value, got: &Value) -> Result<(), String> {
    walk("", expected, got)
}

fn walk(path: &str, expected: &Value, got: &Value) -> Result<(), String> {
    match (expected, got) {
        (Value::Object(fields), Value::Object(have)) => {
            for (name, value) in fields.iter().filter(|(name, _)| !is_spelling(name, fields)) {
                walk(&format!("{path}.{name}"), value, have.get(name).unwrap_or(&Value::Null))?;
            }
            let extra = have.keys().find(|name| !fields.contains_key(*name) && !have[*name].is_null());
            match extra {
                Some(name) => Err(format!("{path}.{name} is extra: {}", have[name])),
                None => Ok(()),
            }
        }
        (Value::Array(items), Value::Array(have)) if items.len() == have.len() => items
            .iter()
            .zip(have)
            .enumerate()
            .try_for_each(|(index, (item, have))| walk(&format!("{path}[{index}]"), item, have)),
        (Value::String(a), Value::String(b)) if same_address(a, b) => Ok(()),
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("{path}: expected {a}, got {b}")),
    }
}

/// What the wire may hold but does not mean anything: bits past a prefix, reserved octets.
fn is_spelling(name: &str, fields: &Map<String, Value>) -> bool {
    let has_reserved_bits =
        matches!(fields.get("name"), Some(kind) if kind == "multiprotocol" || kind == "graceful-restart");
    matches!(name, "host_bits_set" | "reserved") || name == "hex" && has_reserved_bits
}

fn same_address(a: &str, b: &str) -> bool {
    matches!((a.parse::<IpAddr>(), b.parse::<IpAddr>()), (Ok(a), Ok(b)) if a == b)
        || matches!((a.parse::<ipnet::IpNet>(), b.parse::<ipnet::IpNet>()), (Ok(a), Ok(b)) if a == b)
}

/// Compares code, subcode and data, as far as they are expected.
pub(crate) fn notification_differs(expected: &Value, got: &Notification) -> Result<(), String> {
    let any = expected["subcode_any_of"].as_array();
    let subcode = match any {
        Some(list) => list.contains(&json!(got.subcode)),
        None => expected["subcode"] == json!(got.subcode),
    };
    let data = expected["data"].as_str().is_none_or(|data| data == hex(&got.data));
    if expected["code"] == json!(got.code) && subcode && data {
        return Ok(());
    }
    Err(format!("NOTIFICATION {got} data {} instead of {expected}", hex(&got.data)))
}

/// A message as a tree.
pub(crate) fn message(message: &Message) -> Value {
    match message {
        Message::Open(message) => open(message),
        Message::Update(received) => update(&received.update),
        Message::Keepalive => json!({"type": "keepalive"}),
        Message::Notification(notification) => json!({
            "type": "notification",
            "code": notification.code,
            "subcode": notification.subcode,
            "data": hex(&notification.data),
            "shutdown_message": notification.shutdown_message(),
        }),
        Message::RouteRefresh(refresh) => json!({
            "type": "route-refresh",
            "family": refresh.family.to_string(),
            "subtype": match refresh.subtype {
                Subtype::Request => 0,
                Subtype::Beginning => 1,
                Subtype::End => 2,
                Subtype::Unknown(code) => code,
            },
        }),
    }
}

fn open(open: &Open) -> Value {
    json!({
        "type": "open",
        "version": 4,
        "as": open.my_as,
        "hold_time": open.hold_time_secs,
        "router_id": open.router_id.to_string(),
        "capabilities": open.capabilities.iter().map(capability).collect::<Vec<_>>(),
        "optional_parameters": open.optional_parameters,
        "extended_optional_parameters": open.extended_optional_parameters.then_some(true),
        "effective_as": open.effective_as().0,
    })
}

fn capability(capability: &Capability) -> Value {
    let mut tree = Map::new();
    tree.insert("code".into(), json!(capability.code()));
    tree.insert("hex".into(), json!(hex(&capability.value())));
    let malformed = matches!(capability, Capability::Malformed { .. });
    // Those without a value are named by the vectors even when they wrongly have one.
    let named = !malformed || matches!(capability.code(), 2 | 6 | 70);
    if let Some(name) = capability.name().filter(|_| named) {
        tree.insert("name".into(), json!(name));
    }
    if malformed {
        tree.insert("malformed".into(), json!("length"));
    }
    let meaning = match capability {
        Capability::Multiprotocol(family) => json!({"family": family.to_string()}),
        Capability::ExtendedNextHop(entries) => json!({"entries": entries.iter().map(|(family, afi)|
            json!({"family": family.to_string(), "next_hop_afi": afi})).collect::<Vec<_>>()}),
        Capability::Role(role) => {
            let names = ["provider", "rs", "rs-client", "customer", "peer"];
            json!({"role": names.get(usize::from(*role)).map_or(json!(role), |name| json!(name))})
        }
        Capability::GracefulRestart(value) => json!({
            "restarting": value.restarting,
            "notification": value.notification,
            "time": value.restart_time_secs,
            "families": value.families.iter().map(|(family, forwarding)|
                json!({"family": family.to_string(), "forwarding": forwarding})).collect::<Vec<_>>(),
        }),
        Capability::FourOctetAs(asn) => json!({"as": asn.0}),
        Capability::AddPath(entries) => json!({"families": entries.iter().map(|(family, mode)| {
            let mode = match mode {
                AddPathMode::Receive => "receive",
                AddPathMode::Send => "send",
                AddPathMode::Both => "both",
                AddPathMode::Ignored(_) => "ignored",
            };
            json!({"family": family.to_string(), "mode": mode})
        }).collect::<Vec<_>>()}),
        Capability::LongLivedGracefulRestart(entries) => json!({"families": entries.iter().map(
            |(family, forwarding, secs)|
            json!({"family": family.to_string(), "forwarding": forwarding, "time": secs})).collect::<Vec<_>>()}),
        Capability::Hostname { host, domain } => json!({"host": host, "domain": domain}),
        Capability::SoftwareVersion(version) => json!({"version": version}),
        _ => json!({}),
    };
    tree.extend(meaning.as_object().expect("an object").clone());
    Value::Object(tree)
}

fn update(update: &Update) -> Value {
    json!({
        "type": "update",
        "withdrawn": nlri(&update.withdrawn),
        "attributes": update.attributes.iter().map(attribute).collect::<Vec<_>>(),
        "nlri": nlri(&update.nlri),
        "end_of_rib": update.end_of_rib().map(|family| family.to_string()),
    })
}

fn nlri(list: &[Nlri]) -> Value {
    list.iter().map(|nlri| json!({"prefix": nlri.prefix.to_string(), "path_id": nlri.path_id})).collect()
}

/// An AS_PATH as a tree.
pub(crate) fn path(path: &AsPath) -> Value {
    let segment = |segment: &bgp::packet::attribute::Segment| {
        let kind = match segment.kind {
            SegmentKind::Set => "set",
            SegmentKind::Sequence => "seq",
            SegmentKind::ConfederationSequence => "confed-seq",
            SegmentKind::ConfederationSet => "confed-set",
        };
        json!({kind: segment.asns.iter().map(|asn| asn.0).collect::<Vec<_>>()})
    };
    path.segments.iter().map(segment).collect()
}

fn strings<T: ToString>(list: &[T]) -> Value {
    list.iter().map(T::to_string).collect()
}

fn attribute(attribute: &Attribute) -> Value {
    let aggregator = |value: &bgp::packet::attribute::Aggregator| json!({"as": value.asn.0, "address": value.address.to_string()});
    let mut name = attribute.value.name();
    let value = match &attribute.value {
        AttributeValue::Origin(origin) => json!(origin.to_string()),
        AttributeValue::AsPath(value) | AttributeValue::As4Path(value) => path(value),
        AttributeValue::NextHop(address) | AttributeValue::OriginatorId(address) => {
            json!(address.to_string())
        }
        AttributeValue::Med(number) | AttributeValue::LocalPref(number) => json!(number),
        AttributeValue::AtomicAggregate => json!(true),
        AttributeValue::Aggregator(value) | AttributeValue::As4Aggregator(value) => aggregator(value),
        AttributeValue::Communities(list) => strings(list),
        AttributeValue::ClusterList(list) => strings(list),
        AttributeValue::MpReach(MpReach::Routes { family, next_hops, nlri: list }) => {
            json!({"family": family.to_string(), "next_hops": strings(next_hops), "nlri": nlri(list)})
        }
        AttributeValue::MpUnreach(MpUnreach::Routes { family, nlri: list }) => {
            json!({"family": family.to_string(), "nlri": nlri(list)})
        }
        AttributeValue::MpReach(MpReach::Opaque { family, rest })
        | AttributeValue::MpUnreach(MpUnreach::Opaque { family, rest }) => {
            json!({"family": family.to_string(), "opaque": hex(rest)})
        }
        AttributeValue::ExtendedCommunities(list) => list.iter().map(|c| json!(hex(c))).collect(),
        AttributeValue::Ipv6ExtendedCommunities(list) => list.iter().map(|c| json!(hex(c))).collect(),
        AttributeValue::LargeCommunities(list) => strings(list),
        AttributeValue::Otc(asn) => {
            name = None;
            json!({"hex": hex(&asn.0.to_be_bytes())})
        }
        AttributeValue::Aigp(value) => {
            name = None;
            json!({"hex": hex(value)})
        }
        AttributeValue::Unknown { value, .. } => json!({"hex": hex(value)}),
    };
    json!({"type": attribute.value.code(), "flags": attribute.flags, "name": name, "value": value})
}

/// AS_PATH and AGGREGATOR after the merge of RFC 6793.
pub(crate) fn effective(update: &Update) -> Value {
    let (as_path, aggregator) = update.effective();
    json!({
        "as_path": as_path.as_ref().map(path),
        "aggregator_as": aggregator.map(|aggregator| aggregator.asn.0),
    })
}
