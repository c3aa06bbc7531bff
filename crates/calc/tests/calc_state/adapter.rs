//! Rows of Calico's internal model as v3 rows.
//!
//! Several internal rows may be one v3 row (a profile's rules and its labels, the parameters of a configuration), so a whole
//! state is converted at once. Left out: `HostConfig` (tunnel addresses for VTEPs, which the contract has no place for;
//! in v3 they would be fields of the Node and would make routes) and `LiveMigration`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Key, Kind, Row};
use calc::{EndpointSlice, Graph};
use serde_json::{Value, json};

/// The namespace that the vectors' workloads are put into.
pub(crate) const NAMESPACE: &str = "default";

/// What a graph is fed: rows, and endpoint slices by namespace and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Inputs(pub(crate) BTreeMap<InputKey, Input>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InputKey {
    Row(Key),
    Slice(String, String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    Row(Arc<Row>),
    Slice(EndpointSlice),
}

impl Inputs {
    /// # Panics
    /// When a row is of a kind that is not known here, or does not become a v3 row.
    pub(crate) fn from_rows(rows: &[Value]) -> Self {
        let mut documents: BTreeMap<Key, Value> = BTreeMap::new();
        let mut inputs = Self::default();
        for row in rows {
            let (key, value) = (&row["key"], &row["value"]);
            let kind = row["kind"].as_str().unwrap();
            if kind == "Resource" && key["kind"] == "KubernetesEndpointSlice" {
                inputs.add_slice(key, value);
            } else if let Some((key, document)) = document(kind, key, value) {
                let blank = match &key {
                    Key::Resource { name, .. } => json!({"metadata": {"name": name}}),
                    _ => json!({}),
                };
                merge(documents.entry(key).or_insert(blank), document);
            }
        }
        for (key, document) in documents {
            let row = Row::decode(&key, &document.to_string());
            let row = row.unwrap_or_else(|error| panic!("{error}: {document}"));
            inputs.0.insert(InputKey::Row(key), Input::Row(Arc::new(row)));
        }
        inputs
    }

    fn add_slice(&mut self, key: &Value, value: &Value) {
        let addresses = items(&value["endpoints"]).flat_map(|endpoint| items(&endpoint["addresses"]));
        let ports = items(&value["ports"]).map(|port| {
            (protocol_number(&port["protocol"]), u16::try_from(port["port"].as_u64().unwrap()).unwrap())
        });
        let slice = EndpointSlice {
            service: text(&value["metadata"]["labels"]["kubernetes.io/service-name"]),
            addresses: addresses.map(|address| address.as_str().unwrap().parse().unwrap()).collect(),
            ports: ports.collect(),
        };
        self.0.insert(InputKey::Slice(text(&key["namespace"]), text(&key["name"])), Input::Slice(slice));
    }
}

/// Hands one input to a graph; `None`: it does not exist.
pub(crate) fn feed(graph: &mut Graph, key: &InputKey, input: Option<&Input>) {
    match (key, input) {
        (InputKey::Row(key), Some(Input::Row(row))) => graph.on_update(key, Some(row.clone())),
        (InputKey::Row(key), _) => graph.on_update(key, None),
        (InputKey::Slice(namespace, name), Some(Input::Slice(slice))) => {
            graph.on_endpoint_slice(namespace, name, Some(slice.clone()));
        }
        (InputKey::Slice(namespace, name), _) => graph.on_endpoint_slice(namespace, name, None),
    }
}

fn document(kind: &str, key: &Value, value: &Value) -> Option<(Key, Value)> {
    let name = || text(&key["name"]);
    Some(match kind {
        "ReadyFlag" => {
            (Key::cluster(Kind::ClusterInformation, "default"), json!({"spec": {"datastoreReady": value}}))
        }
        "GlobalConfig" => {
            let field = lower_camel(&name());
            (Key::cluster(Kind::FelixConfiguration, "default"), json!({"spec": {field: value}}))
        }
        "Tier" => (Key::cluster(Kind::Tier, name()), json!({"spec": {"order": value["order"]}})),
        "Policy" => (Key::cluster(policy_kind(&key["kind"]), name()), json!({"spec": policy(value)})),
        "WorkloadEndpoint" => {
            let segments =
                ["hostname", "orchestratorID", "workloadID", "endpointID"].map(|part| text(&key[part]));
            let name = segments.clone().map(|segment| segment.replace('-', "--")).join("-");
            (Key::namespaced(Kind::WorkloadEndpoint, NAMESPACE, name), workload_endpoint(&segments, value))
        }
        "HostEndpoint" => (
            Key::cluster(Kind::HostEndpoint, text(&key["endpointID"])),
            host_endpoint(&text(&key["hostname"]), value),
        ),
        "ProfileRules" => (
            Key::cluster(Kind::Profile, text(&key["profileKey"]["name"])),
            json!({"spec": {"ingress": rules(&value["inbound_rules"]), "egress": rules(&value["outbound_rules"])}}),
        ),
        "NetworkSet" => (
            Key::cluster(Kind::GlobalNetworkSet, name()),
            json!({"metadata": {"labels": value["labels"]}, "spec": {"nets": value["nets"]}}),
        ),
        "IPPool" => {
            let name = text(&key["cidr"]).replace(['.', ':', '/'], "-");
            (Key::cluster(Kind::IPPool, name), json!({"spec": pool(value)}))
        }
        "Block" => (Key::Block(text(&key["cidr"]).parse().unwrap()), value.clone()),
        "Resource" if key["kind"] == "Profile" => {
            (Key::cluster(Kind::Profile, name()), json!({"spec": value["spec"]}))
        }
        "Resource" if key["kind"] == "Node" => (Key::cluster(Kind::Node, name()), node(value)),
        "Resource" if key["kind"] == "LiveMigration" => return None,
        "HostConfig" => return None,
        other => panic!("no row of kind {other} is known"),
    })
}

fn policy_kind(kind: &Value) -> Kind {
    Kind::from_word(kind.as_str().unwrap()).unwrap_or_else(|| panic!("no kind of policy: {kind}"))
}

fn policy(value: &Value) -> Value {
    let host_only = value["untracked"] == true || value["pre_dnat"] == true;
    let types: Vec<String> = items(&value["types"]).map(|word| capitalised(word.as_str().unwrap())).collect();
    without_nulls(json!({
        "tier": value["tier"],
        "order": value["order"],
        "selector": value["selector"],
        "types": types,
        "ingress": rules(&value["inbound_rules"]),
        "egress": rules(&value["outbound_rules"]),
        "doNotTrack": value["untracked"],
        "preDNAT": value["pre_dnat"],
        "applyOnForward": host_only,
        "performanceHints": value["performance_hints"],
    }))
}

fn rules(value: &Value) -> Vec<Value> {
    items(value).map(rule).collect()
}

fn rule(value: &Value) -> Value {
    let action = value["action"].as_str().map_or("Allow".to_owned(), capitalised);
    let action = if action == "Next-tier" { "Pass".to_owned() } else { action };
    without_nulls(json!({
        "action": action,
        "protocol": value["protocol"],
        "http": value["http"],
        "source": side(value, "src"),
        "destination": side(value, "dst"),
    }))
}

fn side(rule: &Value, prefix: &str) -> Value {
    let field = |name: &str| &rule[format!("{prefix}_{name}")];
    let not_field = |name: &str| &rule[format!("!{prefix}_{name}")];
    let service =
        field("service").as_str().map(|name| json!({"name": name, "namespace": field("service_ns")}));
    without_nulls(json!({
        "selector": field("selector"),
        "notSelector": not_field("selector"),
        "ports": field("ports"),
        "notPorts": not_field("ports"),
        "services": service,
    }))
}

fn workload_endpoint([node, orchestrator, workload, endpoint]: &[String; 4], value: &Value) -> Value {
    let nets: Vec<&Value> = items(&value["ipv4_nets"]).chain(items(&value["ipv6_nets"])).collect();
    json!({
        "metadata": without_nulls(json!({"labels": value["labels"]})),
        "spec": without_nulls(json!({
            "node": node,
            "orchestrator": orchestrator,
            "workload": workload,
            "endpoint": endpoint,
            "interfaceName": value["name"],
            "mac": value["mac"],
            "profiles": value["profile_ids"],
            "ipNetworks": nets,
            "ports": value["ports"],
        })),
    })
}

fn host_endpoint(node: &str, value: &Value) -> Value {
    let addresses = items(&value["expected_ipv4_addrs"]).chain(items(&value["expected_ipv6_addrs"]));
    json!({
        "metadata": without_nulls(json!({"labels": value["labels"]})),
        "spec": without_nulls(json!({
            "node": node,
            "interfaceName": value["name"],
            "expectedIPs": addresses.collect::<Vec<_>>(),
            "profiles": value["profile_ids"],
        })),
    })
}

fn pool(value: &Value) -> Value {
    let mode = |mode: &Value| match mode.as_str() {
        Some("always") => "Always",
        Some("cross-subnet") => "CrossSubnet",
        None => "Never",
        Some(other) => panic!("no such mode: {other}"),
    };
    without_nulls(json!({
        "cidr": value["cidr"],
        "vxlanMode": mode(&value["vxlan_mode"]),
        "ipipMode": mode(&value["ipip_mode"]),
        "natOutgoing": value["masquerade"],
        "disabled": value["disabled"],
    }))
}

/// A v3 Node has only addresses; the model also lets host names through, which mean nothing.
fn node(value: &Value) -> Value {
    let mut spec = value["spec"].clone();
    if let Some(addresses) = spec["addresses"].as_array_mut() {
        addresses.retain(|entry| {
            let address = entry["address"].as_str().unwrap();
            address.split('/').next().unwrap().parse::<IpAddr>().is_ok()
        });
    }
    json!({"spec": if spec.is_null() { json!({}) } else { spec }})
}

fn merge(target: &mut Value, addition: Value) {
    match (target, addition) {
        (Value::Object(target), Value::Object(addition)) => {
            for (name, value) in addition {
                merge(target.entry(name).or_insert(Value::Null), value);
            }
        }
        (target, addition) => *target = addition,
    }
}

fn without_nulls(mut value: Value) -> Value {
    value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    value
}

/// The protocol number of a name, as slices write it.
fn protocol_number(name: &Value) -> u8 {
    match name.as_str() {
        Some("TCP") | None => 6,
        Some("UDP") => 17,
        Some("SCTP") => 132,
        Some(other) => panic!("no such protocol: {other}"),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn capitalised(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

fn lower_camel(word: &str) -> String {
    word[..1].to_lowercase() + &word[1..]
}
