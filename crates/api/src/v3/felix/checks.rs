//! What values the parameters may have in the API.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{FelixConfigurationSpec, Parameter, ParameterType};
use crate::Object;
use crate::rules::{
    Place, Rules, check_range, check_regex, is_dns_label, is_interface_glob, is_interface_name,
};
use crate::scalars::{Dscp, GoDuration, Net, Port, Protocol};

/// Regions name a namespace `openstack-region-NAME`, which has to stay a DNS label.
const MAX_REGION: usize = 63 - "openstack-region-".len();
/// How many ranges of node ports there may be: as many as one rule can match.
const MAX_PORT_RANGES: usize = 7;
/// How many routing tables all ranges may have together.
const MAX_ROUTE_TABLES: i64 = 65_535;
/// The longest host name (RFC 1123).
const MAX_HOST: usize = 253;

impl Rules for FelixConfigurationSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let at = at.field("spec");
        for (parameter, value) in object.spec.iter() {
            check_value(parameter, value, &at.field(parameter.field));
        }
        if object.spec.get("routeTableRange").is_some() && object.spec.get("routeTableRanges").is_some() {
            at.field("routeTableRange")
                .refuse_all("cannot be combined with routeTableRanges, which replaces it");
        }
    }
}

/// Checks a value of the API.
fn check_value(parameter: &Parameter, value: &Value, at: &Place<'_>) {
    use ParameterType as T;
    match parameter.kind {
        T::Bool => expect(value.is_boolean(), value, "has to be true or false", at),
        T::Integer(first, last) => check_integer(value, first, last, at),
        T::Mask => check_mask(value, at),
        T::Nets => each(value, at, check_net),
        T::InterfaceGlobs => each(value, at, |item, at| check_text(item, at, check_interface_glob)),
        T::PortRanges => check_port_ranges(value, at),
        T::PortRange => check_port(value, at),
        T::Dscp => check_dscp(value, at),
        T::ProtoPorts => each(value, at, check_proto_port),
        T::RouteTableRange => {
            check_table_range(value, 250, at);
        }
        T::RouteTableRanges => check_table_ranges(value, at),
        T::HealthTimeouts => each(value, at, check_health_timeout),
        T::Map => {
            check_map(value, at, |value, at| expect(value.is_string(), value, "has to be a string", at))
        }
        T::ConntrackTimeouts => check_conntrack_timeouts(value, at),
        T::Seconds | T::Milliseconds => check_text(value, at, check_go_duration),
        T::Words(words) => check_text(value, at, |text, at| check_word(text, words, false, at)),
        T::AnyCase(words) => check_text(value, at, |text, at| check_word(text, words, true, at)),
        T::Regex => check_text(value, at, check_regex),
        T::InterfaceName => check_text(value, at, |text, at| {
            expect_text(
                is_interface_name(text),
                text,
                "is not an interface: at most 15 letters, digits, '_', '.', '-'",
                at,
            );
        }),
        T::InterfaceGlob => check_text(value, at, check_interface_glob),
        T::InterfacePrefixes => check_text(value, at, check_interface_prefixes),
        T::InterfacePatterns => check_text(value, at, check_interface_patterns),
        T::Host => check_text(value, at, check_host),
        T::Ipv4 => check_text(value, at, |text, at| {
            expect_text(text.parse::<Ipv4Addr>().is_ok(), text, "is not an IPv4 address", at);
        }),
        T::Ipv6 => check_text(value, at, |text, at| {
            expect_text(text.parse::<Ipv6Addr>().is_ok(), text, "is not an IPv6 address", at);
        }),
        T::RateLimit => check_text(value, at, |text, at| {
            expect_text(
                is_rate_limit(text),
                text,
                "is not a rate: N/second, N/minute, N/hour or N/day, N 1..9999",
                at,
            );
        }),
        T::KeyValues => check_text(value, at, check_key_values),
        T::RegionName => check_text(value, at, |text, at| {
            let is_good = text.is_empty() || (is_dns_label(text) && text.len() <= MAX_REGION);
            let reason = format!("is not a region: at most {MAX_REGION} lower-case letters, digits and '-'");
            expect_text(is_good, text, &reason, at);
        }),
        T::Text | T::Path => check_text(value, at, |_, _| {}),
    }
}

fn expect(is_good: bool, value: &Value, reason: &str, at: &Place<'_>) {
    if !is_good {
        refuse(value, reason, at);
    }
}

fn refuse(value: &Value, reason: &str, at: &Place<'_>) {
    match value {
        Value::Object(_) | Value::Array(_) => at.refuse_all(reason),
        Value::String(text) => at.refuse(text, reason),
        scalar => at.refuse(scalar, reason),
    }
}

fn expect_text(is_good: bool, text: &str, reason: &str, at: &Place<'_>) {
    if !is_good {
        at.refuse(text, reason);
    }
}

fn check_text(value: &Value, at: &Place<'_>, check: impl Fn(&str, &Place<'_>)) {
    match value {
        Value::String(text) => check(text, at),
        // YAML takes an unquoted 10 for a number even where a text is meant.
        Value::Number(number) => check(&number.to_string(), at),
        other => refuse(other, "has to be a string", at),
    }
}

fn each(value: &Value, at: &Place<'_>, check: impl Fn(&Value, &Place<'_>)) {
    match value.as_array() {
        Some(items) => items.iter().enumerate().for_each(|(index, item)| check(item, &at.index(index))),
        None => refuse(value, "has to be a list", at),
    }
}

fn check_map(value: &Value, at: &Place<'_>, check: impl Fn(&Value, &Place<'_>)) {
    match value.as_object() {
        Some(entries) => entries.iter().for_each(|(key, value)| check(value, &at.field(key))),
        None => refuse(value, "has to be an object", at),
    }
}

/// The fields of an object that may have these and no others.
fn fields<'a>(
    value: &'a Value,
    known: &[&str],
    at: &Place<'_>,
) -> Option<&'a serde_json::Map<String, Value>> {
    let Some(entries) = value.as_object() else {
        refuse(value, &format!("has to be an object with {}", known.join(", ")), at);
        return None;
    };
    for field in entries.keys().filter(|field| !known.contains(&field.as_str())) {
        at.field(field).refuse_all(format!("is not a field here; known are {}", known.join(", ")));
    }
    Some(entries)
}

fn check_integer(value: &Value, first: i64, last: i64, at: &Place<'_>) {
    match value.as_i64() {
        Some(number) => check_range(number, first, last, at),
        None => refuse(value, &format!("has to be a whole number {first}..{last}"), at),
    }
}

fn check_mask(value: &Value, at: &Place<'_>) {
    let mask = value.as_u64().and_then(|mask| u32::try_from(mask).ok());
    let is_good = mask.is_some_and(|mask| mask.count_ones() >= 2);
    expect(is_good, value, "has to be a whole number up to 4294967295 with at least two bits set", at);
}

fn check_net(value: &Value, at: &Place<'_>) {
    check_text(value, at, |text, at| {
        if let Err(error) = text.parse::<Net>() {
            at.refuse(text, error.reason);
        }
    });
}

fn check_interface_glob(text: &str, at: &Place<'_>) {
    let reason = "is not an interface: at most 15 letters, digits, '_', '.', ':', '-', and '+' at the end for any rest";
    expect_text(is_interface_glob(text), text, reason, at);
}

fn check_interface_prefixes(text: &str, at: &Place<'_>) {
    let is_good = text.split(',').all(|prefix| is_interface_name(prefix.trim()));
    expect_text(is_good, text, "is not a list of beginnings of interface names with commas between", at);
}

/// Names, or regular expressions between slashes.
fn check_interface_patterns(text: &str, at: &Place<'_>) {
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) => check_regex(expression, at),
            None => check_interface_glob(part, at),
        }
    }
}

fn check_host(text: &str, at: &Place<'_>) {
    let is_good = text.len() <= MAX_HOST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":._+-".contains(&byte));
    expect_text(is_good, text, "is neither a host name nor an address", at);
}

fn check_word(text: &str, words: &[&str], is_any_case: bool, at: &Place<'_>) {
    let is_good = match is_any_case {
        true => text.is_empty() || words.iter().any(|word| word.eq_ignore_ascii_case(text)),
        false => words.contains(&text),
    };
    expect_text(is_good, text, &format!("is not one of {}", words.join(", ")), at);
}

fn check_key_values(text: &str, at: &Place<'_>) {
    let mut pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let is_good = pairs.all(|pair| pair.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()));
    expect_text(is_good, text, "is not name=value with commas between", at);
}

fn check_go_duration(text: &str, at: &Place<'_>) {
    match text.parse::<GoDuration>() {
        Ok(duration) if duration.nanos() < 0 => at.refuse(text, "is negative"),
        Ok(_) => {}
        Err(error) => at.refuse(text, error.reason),
    }
}

fn check_port_ranges(value: &Value, at: &Place<'_>) {
    if let Some(ranges) = value.as_array().filter(|ranges| ranges.len() > MAX_PORT_RANGES) {
        at.refuse_all(format!("has {} entries, but may have {MAX_PORT_RANGES} at most", ranges.len()));
    }
    each(value, at, check_port);
}

/// A port or range of ports, not a name.
fn check_port(value: &Value, at: &Place<'_>) {
    let is_good = scalar(value).parse::<Port>().is_ok_and(|port| port.range().is_some());
    expect(is_good, value, "is not a port: 0..65535 or \"first:last\"", at);
}

fn check_dscp(value: &Value, at: &Place<'_>) {
    if let Err(error) = scalar(value).parse::<Dscp>() {
        refuse(value, &error.reason, at);
    }
}

/// The text of a scalar; of others, a text that is no scalar of any sort.
fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check_proto_port(value: &Value, at: &Place<'_>) {
    let Some(entries) = fields(value, &["protocol", "port", "net"], at) else { return };
    if let Some(protocol) = entries.get("protocol").filter(|protocol| !protocol.is_null()) {
        let is_good = scalar(protocol).parse::<Protocol>().is_ok_and(Protocol::has_ports);
        expect(is_good, protocol, "is not TCP, UDP or SCTP", &at.field("protocol"));
    }
    match entries.get("port") {
        Some(port) => check_integer(port, 1, 65_535, &at.field("port")),
        None => at.field("port").refuse_all("is required"),
    }
    if let Some(net) = entries.get("net").filter(|net| !net.is_null() && *net != "") {
        check_net(net, &at.field("net"));
    }
}

/// Checks a range of routing tables, and counts them.
fn check_table_range(value: &Value, last: i64, at: &Place<'_>) -> i64 {
    let Some(entries) = fields(value, &["min", "max"], at) else { return 0 };
    let number = |field: &str| entries.get(field).map_or(Some(0), Value::as_i64);
    let (Some(min), Some(max)) = (number("min"), number("max")) else {
        at.refuse_all("has to have whole numbers min and max");
        return 0;
    };
    check_range(min, 1, last, &at.field("min"));
    check_range(max, 1, last, &at.field("max"));
    if max < min {
        at.field("max").refuse(max, format!("is below min {min}"));
        return 0;
    }
    // Without saturation, absurd bounds would overflow.
    max.saturating_sub(min).saturating_add(1)
}

fn check_table_ranges(value: &Value, at: &Place<'_>) {
    let Some(ranges) = value.as_array() else {
        return refuse(value, "has to be a list", at);
    };
    let counts = ranges
        .iter()
        .enumerate()
        .map(|(index, range)| check_table_range(range, u32::MAX.into(), &at.index(index)));
    let total = counts.fold(0i64, i64::saturating_add);
    if total > MAX_ROUTE_TABLES {
        at.refuse_all(format!("has {total} tables, but may have {MAX_ROUTE_TABLES} at most"));
    }
}

fn check_health_timeout(value: &Value, at: &Place<'_>) {
    let Some(entries) = fields(value, &["name", "timeout"], at) else { return };
    let name = entries.get("name").and_then(Value::as_str).unwrap_or_default();
    let is_good =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_ -".contains(&byte));
    expect_text(is_good, name, "is not a name: letters, digits, '_', ' ' and '-'", &at.field("name"));
    match entries.get("timeout") {
        Some(timeout) => check_text(timeout, &at.field("timeout"), check_go_duration),
        None => at.field("timeout").refuse_all("is required"),
    }
}

/// The states of connections that have a timeout.
const CONNTRACK_STATES: [&str; 8] = [
    "creationGracePeriod",
    "tcpSynSent",
    "tcpEstablished",
    "tcpFinsSeen",
    "tcpResetSeen",
    "udpTimeout",
    "genericTimeout",
    "icmpTimeout",
];

fn check_conntrack_timeouts(value: &Value, at: &Place<'_>) {
    let Some(entries) = fields(value, &CONNTRACK_STATES, at) else { return };
    for (state, timeout) in entries.iter().filter(|(state, _)| CONNTRACK_STATES.contains(&state.as_str())) {
        check_text(timeout, &at.field(state), |text, at| {
            if text != "Auto" {
                check_go_duration(text, at);
            }
        });
    }
}

/// `N/unit` with N from 1 to 9999.
fn is_rate_limit(text: &str) -> bool {
    let Some((number, unit)) = text.split_once('/') else { return text.is_empty() };
    let is_number = (1..=4).contains(&number.len())
        && !number.starts_with('0')
        && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && ["second", "minute", "hour", "day"].contains(&unit)
}
