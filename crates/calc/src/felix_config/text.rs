//! Values of the API as the environment and the configuration file write them (resources.md 8.1).

use api::felix::{Parameter, ParameterType};
use api::scalars::GoDuration;
use serde_json::Value;

/// Clears a list or text.
const NONE: &str = "none";

/// The text of a value; `None` if it is not one of the parameter's type.
pub(super) fn of(parameter: &Parameter, value: &Value) -> Option<String> {
    let text = match parameter.kind {
        ParameterType::Seconds => duration(value, 1_000_000_000)?,
        ParameterType::Milliseconds => duration(value, 1_000_000)?,
        ParameterType::AnyCase(_) => in_case_of(parameter.default, &scalar(value)?),
        ParameterType::ProtoPorts => list(value, proto_port)?,
        ParameterType::RouteTableRange => table_range(value)?,
        ParameterType::RouteTableRanges => list(value, table_range)?,
        ParameterType::HealthTimeouts => list(value, health_timeout)?,
        ParameterType::ConntrackTimeouts => map(value, &capitalised)?,
        ParameterType::Map => map(value, &str::to_owned)?,
        _ => list(value, scalar).or_else(|| scalar(value))?,
    };
    Some(if text.is_empty() { NONE.to_owned() } else { text })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `90s` as a decimal number of units.
fn duration(value: &Value, nanos_per_unit: i64) -> Option<String> {
    let nanos = value.as_str()?.parse::<GoDuration>().ok()?.nanos();
    let (whole, rest) = (nanos / nanos_per_unit, nanos % nanos_per_unit);
    if rest == 0 {
        return Some(whole.to_string());
    }
    let digits = nanos_per_unit.ilog10() as usize;
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!("{:0digits$}", rest.unsigned_abs());
    Some(format!("{sign}{}.{}", whole.unsigned_abs(), fraction.trim_end_matches('0')))
}

/// The API writes such words in CamelCase, the environment all in one case: that of the default.
fn in_case_of(default: &str, word: &str) -> String {
    if default.is_empty() || default.chars().any(char::is_lowercase) {
        word.to_ascii_lowercase()
    } else {
        word.to_ascii_uppercase()
    }
}

fn list(value: &Value, item: impl Fn(&Value) -> Option<String>) -> Option<String> {
    let items: Option<Vec<String>> = value.as_array()?.iter().map(item).collect();
    Some(items?.join(","))
}

fn map(value: &Value, name: &dyn Fn(&str) -> String) -> Option<String> {
    let entries = value.as_object()?.iter();
    let entries: Option<Vec<String>> =
        entries.map(|(key, value)| Some(format!("{}={}", name(key), scalar(value)?))).collect();
    Some(entries?.join(","))
}

/// `{protocol, port, net}` as `tcp:22` or `tcp:[10.0.0.0/8]:22`.
fn proto_port(value: &Value) -> Option<String> {
    let protocol = value["protocol"].as_str().unwrap_or("tcp").to_ascii_lowercase();
    let port = value["port"].as_u64()?;
    Some(match value["net"].as_str().filter(|net| !net.is_empty()) {
        Some(net) => format!("{protocol}:[{net}]:{port}"),
        None => format!("{protocol}:{port}"),
    })
}

fn table_range(value: &Value) -> Option<String> {
    Some(format!("{}-{}", value["min"].as_i64()?, value["max"].as_i64()?))
}

fn health_timeout(value: &Value) -> Option<String> {
    Some(format!("{}={}", value["name"].as_str()?, value["timeout"].as_str()?))
}

/// `tcpSynSent` as `TCPSynSent`.
fn capitalised(field: &str) -> String {
    for acronym in ["tcp", "udp", "icmp"] {
        if let Some(rest) = field.strip_prefix(acronym) {
            return acronym.to_ascii_uppercase() + rest;
        }
    }
    let mut letters = field.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(field: &str, value: Value, expected: &str) {
        let parameter = Parameter::by_field(field).unwrap();
        assert_eq!(of(parameter, &value).as_deref(), Some(expected), "{field}");
    }

    #[test]
    fn values_become_what_the_environment_would_say() {
        check("iptablesRefreshInterval", json!("1m30s"), "90");
        check("iptablesLockProbeInterval", json!("50ms"), "50");
        check("netlinkTimeout", json!("1500ms"), "1.5");
        check("defaultEndpointToHostAction", json!("Accept"), "ACCEPT");
        check("chainInsertMode", json!("Append"), "append");
        check("logSeverityScreen", json!("Warning"), "WARNING");
        check("ipv6Support", json!(false), "false");
        check("healthPort", json!(9199), "9199");
        check("externalNodesList", json!(["10.0.0.0/8", "fd00::1"]), "10.0.0.0/8,fd00::1");
        check("routeTableRanges", json!([{"min": 1, "max": 9}, {"min": 20, "max": 30}]), "1-9,20-30");
        check("healthTimeoutOverrides", json!([{"name": "felix", "timeout": "90s"}]), "felix=90s");
        check(
            "bpfConntrackTimeouts",
            json!({"tcpSynSent": "20s", "genericTimeout": "1h"}),
            "GenericTimeout=1h,TCPSynSent=20s",
        );
    }

    #[test]
    fn failsafe_ports_have_protocol_and_network() {
        let ports =
            json!([{"protocol": "TCP", "port": 22}, {"protocol": "udp", "port": 68, "net": "10.0.0.0/8"}]);
        check("failsafeInboundHostPorts", ports, "tcp:22,udp:[10.0.0.0/8]:68");
        check("failsafeInboundHostPorts", json!([]), "none");
    }
}
