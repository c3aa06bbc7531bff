//! Kubernetes and Calico objects as rows of the datastore: what vectors and [`crate::clusters`] are made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kubernetes::{
    ClusterNetworkPolicy, Namespace, NetworkPolicy, Pod, ServiceAccount, cluster_network_policy,
    namespace_profile, network_policy, pod_endpoint, service_account_profile, stored_network_policy_name,
};
use api::{Key, Kind, Resource, Row};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The node that all pods are on.
pub const NODE: &str = "node";

/// Rows by key.
pub type Rows = BTreeMap<Key, Arc<Row>>;

/// The rows that stand for the objects, the built-in tiers among them.
///
/// # Errors
/// An object that cannot be read, and why.
pub fn rows(objects: &Value) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for (name, order, action) in
        [("kube-admin", 1000, "Pass"), ("default", 1_000_000, "Deny"), ("kube-baseline", 10_000_000, "Pass")]
    {
        let tier = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name},
            "spec": {"order": order, "defaultAction": action},
        });
        v3(&tier, &mut rows)?;
    }
    for object in objects.as_array().ok_or("no objects")? {
        add(object, &mut rows)
            .map_err(|error| format!("{} {}: {error}", object["kind"], object["metadata"]["name"]))?;
    }
    implied(objects, &mut rows)?;
    Ok(rows)
}

fn add(object: &Value, rows: &mut Rows) -> Result<(), String> {
    match (object["apiVersion"].as_str(), object["kind"].as_str()) {
        (Some("v1"), Some("Namespace")) => namespace(object, rows),
        (Some("v1"), Some("ServiceAccount")) => {
            put(service_account_profile(&read::<ServiceAccount>(object)?).map_err(text)?.into(), rows)
        }
        (Some("v1"), Some("Pod")) => pod(object, rows),
        (Some("networking.k8s.io/v1"), Some("NetworkPolicy")) => {
            // What the API server would fill in.
            let policy = read::<NetworkPolicy>(object)?.with_default_types();
            let mut policy = network_policy(&policy).map_err(text)?.policy;
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            policy.metadata.name = stored_network_policy_name(name);
            put(policy.into(), rows)
        }
        (Some("policy.networking.k8s.io/v1alpha2"), Some("ClusterNetworkPolicy")) => put(
            cluster_network_policy(&read::<ClusterNetworkPolicy>(object)?).map_err(text)?.policy.into(),
            rows,
        ),
        (Some("projectcalico.org/v3"), _) => v3(object, rows),
        other => Err(format!("no rows for {other:?}")),
    }
}

fn namespace(object: &Value, rows: &mut Rows) -> Result<(), String> {
    let mut namespace: Namespace = read(object)?;
    let name = namespace.metadata.name.clone();
    namespace.metadata.labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert(name);
    put(namespace_profile(&namespace).map_err(text)?.into(), rows)
}

fn pod(object: &Value, rows: &mut Rows) -> Result<(), String> {
    let mut pod: Pod = read(object)?;
    if pod.spec.host_network {
        return Ok(());
    }
    pod.spec.node_name = NODE.to_owned();
    if pod.spec.service_account_name.is_empty() {
        pod.spec.service_account_name = "default".to_owned();
    }
    put(pod_endpoint(&pod, "cali").map_err(text)?.endpoint.into(), rows)
}

/// Namespaces and accounts that pods are in but that are not listed.
fn implied(objects: &Value, rows: &mut Rows) -> Result<(), String> {
    for object in objects.as_array().into_iter().flatten().filter(|object| object["kind"] == "Pod") {
        let namespace_name = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
        let mut missing = Rows::new();
        namespace(&json!({"metadata": {"name": namespace_name}}), &mut missing)?;
        let account: ServiceAccount =
            read(&json!({"metadata": {"name": account, "namespace": namespace_name}}))?;
        put(service_account_profile(&account).map_err(text)?.into(), &mut missing)?;
        for (key, row) in missing {
            rows.entry(key).or_insert(row);
        }
    }
    Ok(())
}

/// A Calico object, as a datastore keeps it.
fn v3(object: &Value, rows: &mut Rows) -> Result<(), String> {
    let kind = object["kind"].as_str().and_then(Kind::from_word).ok_or("unknown kind")?;
    let name = object["metadata"]["name"].as_str().ok_or("no name")?;
    let key = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Key::namespaced(kind, namespace, name),
        None => Key::cluster(kind, name),
    };
    let (row, _) = Row::decode_closed(&key, &object.to_string()).map_err(text)?;
    rows.insert(key, Arc::new(row));
    Ok(())
}

fn put(resource: Resource, rows: &mut Rows) -> Result<(), String> {
    rows.insert(resource.key(), Arc::new(Row::Resource(resource)));
    Ok(())
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, String> {
    serde_json::from_value(object.clone()).map_err(text)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
