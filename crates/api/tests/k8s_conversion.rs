//! The vectors of conversion from Kubernetes objects.

use api::endpoint_name::WorkloadEndpointName;
use api::kubernetes::{self, Converted, Direction, DroppedRule};
use api::scalars::Port;
use api::{Object, Spec};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use testkit::vectors::{Case, Runner};

#[test]
fn every_conversion_vector_holds() {
    Runner::new("k8s-conversion.jsonl").suite("conversion", check).run();
}

/// What a conversion gave.
#[derive(Default)]
struct Answer {
    /// What the expectations' paths lead into.
    value: Value,
    error: Option<String>,
    dropped: Vec<DroppedRule>,
}

impl Answer {
    fn plain(value: impl Serialize) -> Self {
        Self { value: json!({ "result": value }), ..Self::default() }
    }

    /// `None` has no value, and is an error.
    fn optional(value: Option<impl Serialize>) -> Self {
        let error = value.is_none().then(|| "no answer".to_owned());
        Self { error, ..Self::plain(value) }
    }

    fn failed(error: impl ToString) -> Self {
        Self { error: Some(error.to_string()), ..Self::default() }
    }

    /// An object under its own fields, with its key, its revision and itself beside them.
    fn object<S: Spec>(kind: &str, object: &Object<S>) -> Self {
        let value = json!({ "metadata": object.metadata, "spec": object.spec });
        let mut root = value.as_object().cloned().unwrap_or_default();
        root.insert("apiVersion".to_owned(), json!(api::API_VERSION));
        root.insert("kind".to_owned(), json!(S::KIND.name()));
        let metadata = &object.metadata;
        let key = json!({ "kind": kind, "name": metadata.name, "namespace": metadata.namespace });
        root.insert("key".to_owned(), key);
        root.insert("revision".to_owned(), json!(metadata.resource_version));
        root.insert("value".to_owned(), value.clone());
        root.insert("result".to_owned(), value);
        Self { value: Value::Object(root), ..Self::default() }
    }

    fn policy<S: Spec>(kind: &str, converted: Converted<Object<S>>) -> Self {
        Self { dropped: converted.dropped_rules, ..Self::object(kind, &converted.policy) }
    }
}

fn check(case: &Case) -> Result<(), String> {
    let convert = case.when["convert"].as_str().ok_or("no conversion named")?;
    if convert == "simplify-ports" {
        return check_ports(case);
    }
    let answer = answer(convert, &case.given)?;
    // These have no error upstream: what the suite calls one is the second of two values.
    if convert != "ProfileNameToServiceAccount" {
        check_outcome(&answer, case)?;
    }
    for expected in case.then["expect"].as_array().into_iter().flatten() {
        check_expectation(&answer.value, expected).map_err(|error| format!("{expected}: {error}"))?;
    }
    Ok(())
}

fn answer(convert: &str, given: &Value) -> Result<Answer, String> {
    let input = &given["input"];
    let prefixes =
        given["env"]["FELIX_INTERFACEPREFIX"].as_str().unwrap_or(kubernetes::DEFAULT_INTERFACE_PREFIX);
    let text = || input.as_str().ok_or("the input is no text");
    let pod = || read::<kubernetes::Pod>(input);
    Ok(match convert {
        "PodToWorkloadEndpoints" => match kubernetes::pod_endpoint(&pod()?, prefixes) {
            Ok(converted) => Answer::object("WorkloadEndpoint", &converted.endpoint),
            Err(error) => Answer::failed(error),
        },
        "HasIPAddress" => Answer::plain(pod()?.has_address()),
        "IsFinished" => Answer::plain(pod()?.is_finished()),
        "IsReadyCalicoPod" => Answer::plain(pod()?.is_ready()),
        "IsValidCalicoWorkloadEndpoint" => Answer::plain(pod()?.has_endpoint()),
        "NamespaceToProfile" => profile(kubernetes::namespace_profile(&read(input)?)),
        "ServiceAccountToProfile" => profile(kubernetes::service_account_profile(&read(input)?)),
        "K8sNetworkPolicyToCalico" => match kubernetes::network_policy(&read(input)?) {
            Ok(converted) => Answer::policy(kubernetes::KUBERNETES_NETWORK_POLICY, converted),
            Err(error) => Answer::failed(error),
        },
        "K8sClusterNetworkPolicyToCalico" => cluster_network_policy(&read(input)?),
        "k8sPeerToCalicoFields" => peer(&read(input)?),
        "VethNameForWorkload" => {
            let (namespace, pod): (String, String) = read(input)?;
            Answer::plain(kubernetes::interface_name(prefixes, &namespace, &pod))
        }
        "ProfileNameToNamespace" => Answer::optional(kubernetes::namespace_of_profile(text()?)),
        "ProfileNameToServiceAccount" => {
            Answer::optional(kubernetes::service_account_of_profile(text()?).map(|(namespace, _)| namespace))
        }
        "ConvertUID" => match kubernetes::converted_uid(text()?) {
            Ok(uid) => Answer::plain(uid),
            Err(error) => Answer::failed(error),
        },
        "ParseWorkloadEndpointName" => match WorkloadEndpointName::parse(text()?) {
            Ok(name) => Answer { value: endpoint_name(&name), ..Answer::default() },
            Err(error) => Answer::failed(error),
        },
        other => return Err(format!("nothing converts {other}")),
    })
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| format!("the input cannot be read: {error}"))
}

fn profile(result: Result<api::Profile, kubernetes::FieldError>) -> Answer {
    result.map_or_else(Answer::failed, |profile| Answer::object("Profile", &profile))
}

/// A policy that has to be skipped stands for a row without a value.
fn cluster_network_policy(policy: &kubernetes::ClusterNetworkPolicy) -> Answer {
    match kubernetes::cluster_network_policy(policy) {
        Ok(converted) => Answer::policy(kubernetes::KUBERNETES_CLUSTER_NETWORK_POLICY, converted),
        Err(_) => {
            let key = json!({
                "kind": kubernetes::KUBERNETES_CLUSTER_NETWORK_POLICY,
                "name": policy.metadata.name,
            });
            let row = json!({ "key": key, "revision": policy.metadata.resource_version });
            let mut value = row.clone();
            value["result"] = row;
            Answer { value, ..Answer::default() }
        }
    }
}

fn peer(peer: &kubernetes::NetworkPolicyPeer) -> Answer {
    match kubernetes::peer_entity(peer) {
        Ok(entity) => Answer {
            value: json!({
                "podSelector": entity.selector,
                "namespaceSelector": entity.namespace_selector,
                "nets": entity.nets,
                "notNets": entity.not_nets,
            }),
            ..Answer::default()
        },
        Err(error) => Answer::failed(error),
    }
}

fn endpoint_name(name: &WorkloadEndpointName) -> Value {
    json!({
        "node": name.node,
        "orchestrator": name.workload.orchestrator(),
        "pod": name.workload.identity(),
        "endpoint": name.endpoint,
    })
}

fn check_ports(case: &Case) -> Result<(), String> {
    let ports: Vec<String> = read(&case.given["ports"])?;
    let ports: Result<Vec<Port>, _> = ports.iter().map(|text| text.parse()).collect();
    let simplified = kubernetes::simplify_ports(ports.map_err(|error| error.to_string())?);
    let texts: Vec<String> = simplified.iter().map(Port::to_string).collect();
    if json!(texts) == case.then["ports"] { Ok(()) } else { Err(format!("{texts:?}")) }
}

fn check_outcome(answer: &Answer, case: &Case) -> Result<(), String> {
    let actual = match (&answer.error, answer.dropped.is_empty()) {
        (Some(_), _) => "error",
        (None, false) => "partial",
        (None, true) => "ok",
    };
    if case.then["result"].as_str().is_some_and(|expected| expected != actual) {
        return Err(format!("{actual}: {:?} {:?}", answer.error, answer.dropped));
    }
    let expected = case.then["dropped_rules"].as_array().cloned().unwrap_or_default();
    if expected.len() != answer.dropped.len() {
        return Err(format!("dropped rules: {:?}", answer.dropped));
    }
    expected
        .iter()
        .zip(&answer.dropped)
        .try_for_each(|(expected, dropped)| check_dropped(expected, dropped, case))
}

/// The same rule of the same direction; upstream's wording of the reason is not ours.
fn check_dropped(expected: &Value, dropped: &DroppedRule, case: &Case) -> Result<(), String> {
    let field = match dropped.direction {
        Direction::Ingress => "ingressRule",
        Direction::Egress => "egressRule",
    };
    let rule = &case.given["input"]["spec"][dropped.direction.field()][dropped.index];
    let place = format!("spec.{}[{}]", dropped.direction.field(), dropped.index);
    let names_rule = dropped.error.path.starts_with(&place) && !dropped.error.reason.is_empty();
    if expected[field] == *rule && names_rule { Ok(()) } else { Err(format!("dropped: {dropped:?}")) }
}

fn check_expectation(answer: &Value, expected: &Value) -> Result<(), String> {
    let path = expected["path"].as_str().ok_or("no path")?;
    let actual = meaning(last_name(path), at(answer, path));
    let wanted = meaning(last_name(path), &expected["value"]);
    let holds = match expected["op"].as_str() {
        Some("equals") => actual == wanted,
        Some("equals-unordered") => sorted(&actual) == sorted(&wanted),
        Some("text-equals") => text(&actual) == text(&wanted),
        Some("length") => json!(length(&actual)) == expected["value"],
        Some("absent" | "empty") => actual.is_null(),
        Some("present") => !actual.is_null(),
        Some("has-entry") => {
            let (key, value): (String, Value) = read(&expected["value"])?;
            actual[&key] == value
        }
        other => return Err(format!("unknown operation {other:?}")),
    };
    if holds { Ok(()) } else { Err(format!("is {actual}")) }
}

/// The value at a path; what is not found in the answer is looked for in its metadata.
fn at<'a>(answer: &'a Value, path: &str) -> &'a Value {
    let names = names(path);
    let find = |root: &'a Value| {
        names.iter().fold(root, |value, name| match name.parse::<usize>() {
            Ok(index) if value.is_array() => &value[index],
            _ => &value[name.as_str()],
        })
    };
    let found = find(answer);
    if found.is_null() { find(&answer["metadata"]) } else { found }
}

/// The parts of `a.b[0]["x.y"]`.
fn names(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some((quoted, after)) = rest.strip_prefix("[\"").and_then(|inner| inner.split_once("\"]")) {
            names.push(quoted.to_owned());
            rest = after;
        } else {
            rest = rest.trim_start_matches(['.', '[', ']']);
            let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
            names.push(rest[..end].to_owned());
            rest = rest[end..].trim_start_matches(']');
        }
    }
    names
}

fn last_name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// A value with all that means nothing left out: what is empty is as good as absent, and protocols and code points may be
/// written in any case.
fn meaning(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if matches!(name, "protocol" | "dscp") => json!(text.to_ascii_uppercase()),
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => items.iter().map(|item| meaning(name, item)).collect(),
        Value::Number(number) if number.as_f64() == Some(number.as_f64().unwrap_or_default().trunc()) => {
            json!(number.as_f64())
        }
        Value::Object(fields) => {
            let kept: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), meaning(name, value)))
                .filter(|(_, value)| !value.is_null())
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        other => other.clone(),
    }
}

fn sorted(value: &Value) -> Vec<String> {
    let mut texts: Vec<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    texts.sort();
    texts
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

fn length(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    }
}

/// The policy vectors hold many objects as clusters have them: all of those are understood, but for peers that are nodes.
#[test]
fn kubernetes_objects_of_the_policy_vectors_convert_whole() {
    let mut failures = Vec::new();
    let mut converted = 0;
    for case in testkit::vectors::load("policy-truth.jsonl") {
        for object in case.given["objects"].as_array().into_iter().flatten() {
            match converts(object) {
                Some(Ok(())) => converted += 1,
                Some(Err(error)) => failures.push(format!("{}: {error}", case.id)),
                None => {}
            }
        }
    }
    assert!(failures.is_empty(), "{converted} converted, {} not:\n{}", failures.len(), failures.join("\n"));
    assert!(converted > 0, "the vectors hold no Kubernetes object");
}

/// `None` for objects of other kinds.
fn converts(object: &Value) -> Option<Result<(), String>> {
    let whole = |dropped: Vec<DroppedRule>| {
        let unexpected = dropped.iter().find(|dropped| !dropped.error.path.ends_with(".nodes"));
        unexpected.map_or(Ok(()), |dropped| Err(dropped.error.to_string()))
    };
    let text = |error: kubernetes::FieldError| error.to_string();
    let version_and_kind = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
    Some(match version_and_kind {
        ("v1", "Namespace") => {
            read(object).and_then(|it| kubernetes::namespace_profile(&it).map(drop).map_err(text))
        }
        ("v1", "ServiceAccount") => {
            read(object).and_then(|it| kubernetes::service_account_profile(&it).map(drop).map_err(text))
        }
        ("v1", "Pod") => read(object).and_then(|mut pod: kubernetes::Pod| {
            // Where a pod runs does not matter to policy, so the vectors leave it out.
            pod.spec.node_name = "node".to_owned();
            kubernetes::pod_endpoint(&pod, "cali").map(drop).map_err(text)
        }),
        ("networking.k8s.io/v1", "NetworkPolicy") => read(object)
            .and_then(|it| kubernetes::network_policy(&it).map_err(text))
            .and_then(|it| whole(it.dropped_rules)),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy") => read(object)
            .and_then(|it| kubernetes::cluster_network_policy(&it).map_err(text))
            .and_then(|it| whole(it.dropped_rules)),
        _ => return None,
    })
}
