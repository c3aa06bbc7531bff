//! Small clusters, and finding things in them.

use serde_json::json;

use super::*;

/// A resource as users write it.
pub(crate) fn resource(value: serde_json::Value) -> Resource {
    let documents = api::documents::load(&value.to_string()).unwrap();
    documents.into_iter().next().unwrap().into_resource()
}

/// A pod's endpoint.
pub(crate) fn pod(
    namespace: &str,
    name: &str,
    node: &str,
    address: &str,
    labels: serde_json::Value,
) -> Resource {
    let pod = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node, "serviceAccountName": "default"},
        "status": {"podIP": address, "phase": "Running"},
    });
    let pod: api::kubernetes::Pod = serde_json::from_value(pod).unwrap();
    api::kubernetes::pod_endpoint(&pod, "cali").unwrap().endpoint.into()
}

/// Namespaces `prod` and `dev`, nodes `n1` and `n2`, a pool with natOutgoing; pods `prod/web` (n1), `prod/db` (n2) and `dev/web` (n1).
pub(crate) fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for namespace in ["prod", "dev"] {
        cluster.put(resource(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"env": namespace}},
        })));
        cluster.put(resource(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace},
        })));
    }
    for (name, address) in [("n1", "172.30.0.1/24"), ("n2", "172.30.0.2/24")] {
        cluster.put(resource(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": name},
            "spec": {"bgp": {"ipv4Address": address}},
        })));
    }
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "pool"},
        "spec": {"cidr": "10.65.0.0/16", "natOutgoing": true},
    })));
    cluster.put(pod("prod", "web", "n1", "10.65.1.1", json!({"app": "web"})));
    cluster.put(pod("prod", "db", "n2", "10.65.2.1", json!({"app": "db"})));
    cluster.put(pod("dev", "web", "n1", "10.65.1.2", json!({"app": "web"})));
    cluster
}

/// The end that a text names.
pub(crate) fn place(cluster: &Cluster, text: &str) -> Place {
    match cluster.find(text).unwrap() {
        Found::Place(place) => place,
        Found::Service(service) => panic!("{service:?}"),
    }
}

#[test]
fn ends_are_found_by_address_and_by_name() {
    let cluster = cluster();
    assert_eq!(place(&cluster, "10.65.2.1").to_string(), "pod prod/db");
    assert_eq!(place(&cluster, "db").to_string(), "pod prod/db");
    assert_eq!(place(&cluster, "pod/dev/web").node(), Some("n1"));
    assert_eq!(place(&cluster, "172.30.0.2").to_string(), "node n2");
    assert_eq!(place(&cluster, "node/n1").addresses(), ["172.30.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(place(&cluster, "192.0.2.1").node(), None);
}

#[test]
fn names_that_are_none_or_several_are_refused_with_what_there_is() {
    let cluster = cluster();
    let refusal = |text: &str| cluster.find(text).unwrap_err().to_string();
    assert_eq!(refusal("web"), "\"web\" may be any of pod/dev/web, pod/prod/web; say which");
    assert!(refusal("prod/wob").contains("(there are prod/web, prod/db)"), "{}", refusal("prod/wob"));
    assert!(refusal("service/prod/db").contains("--file"), "{}", refusal("service/prod/db"));
}

#[test]
fn a_service_leads_to_the_ready_backends_of_its_ports() {
    let mut cluster = cluster();
    let service = json!({
        "metadata": {"name": "db", "namespace": "prod"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "sql", "port": 5432}]},
    });
    let slice = json!({
        "metadata": {"name": "db-1", "namespace": "prod", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": [{"addresses": ["10.65.2.1"]}, {"addresses": ["10.65.2.9"], "conditions": {"ready": false}}],
        "ports": [{"name": "sql", "port": 15432, "protocol": "TCP"}, {"name": "other", "port": 1}],
    });
    cluster.put_service(serde_json::from_value(service).unwrap());
    cluster.put_endpoint_slice(serde_json::from_value(slice).unwrap());
    let Found::Service(found) = cluster.find("10.96.0.9").unwrap() else { panic!("no service") };
    assert_eq!(found.name, "prod/db");
    assert_eq!(found.backends, [(6, 5432, "10.65.2.1".parse().unwrap(), 15432)]);
    assert!(matches!(cluster.find("db"), Err(FindError::Ambiguous { .. })));
}

#[test]
fn a_service_of_which_only_endpoints_are_stored_leads_to_their_ports() {
    let mut cluster = cluster();
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "KubernetesEndpointSlice",
        "metadata": {"name": "db-1", "namespace": "prod"},
        "spec": {"service": "sql", "addresses": ["10.65.2.1"], "ports": [{"protocol": "TCP", "port": 15432}]},
    })));
    let Found::Service(found) = cluster.find("service/prod/sql").unwrap() else { panic!("no service") };
    assert_eq!(found.backends, [(6, 15432, "10.65.2.1".parse().unwrap(), 15432)]);
}

#[test]
fn the_policy_model_has_every_endpoint_and_a_nodes_only_its_own() {
    let cluster = cluster();
    assert_eq!(cluster.node_model("n1").workloads.len(), 2);
    assert_eq!(cluster.policy_model().workloads.len(), 3);
}
