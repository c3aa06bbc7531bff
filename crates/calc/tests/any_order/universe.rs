//! Rows that have much to do with each other, each in several variants.

use std::sync::Arc;

use api::{AffinityOwner, Key, Kind, Row};
use serde_json::{Value, json};

/// Every key, with the rows that it may have.
pub(crate) fn universe() -> Vec<(Key, Vec<Arc<Row>>)> {
    let parts = [nodes(), ipam(), endpoints(), labels(), policies(), configuration()];
    parts.into_iter().flatten().collect()
}

fn entry(key: Key, documents: impl IntoIterator<Item = Value>) -> (Key, Vec<Arc<Row>>) {
    let row = |document: Value| {
        let text = document.to_string();
        Arc::new(Row::decode(&key, &text).unwrap_or_else(|error| panic!("{error}: {text}")))
    };
    let rows = documents.into_iter().map(row).collect();
    (key, rows)
}

fn resource(key: Key, labels: Value, specs: impl IntoIterator<Item = Value>) -> (Key, Vec<Arc<Row>>) {
    let Key::Resource { namespace, name, .. } = &key else { panic!("{key}") };
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
    let documents: Vec<Value> =
        specs.into_iter().map(|spec| json!({"metadata": metadata, "spec": spec})).collect();
    entry(key, documents)
}

/// The same spec under several sets of labels.
fn relabelled(key: Key, spec: &Value, labels: impl IntoIterator<Item = Value>) -> (Key, Vec<Arc<Row>>) {
    let Key::Resource { namespace, name, .. } = &key else { panic!("{key}") };
    let metadata = |labels| json!({"name": name, "namespace": namespace, "labels": labels});
    let documents: Vec<Value> =
        labels.into_iter().map(|labels| json!({"metadata": metadata(labels), "spec": spec})).collect();
    entry(key, documents)
}

fn nodes() -> Vec<(Key, Vec<Arc<Row>>)> {
    let bgp = |address: &str| json!({"bgp": {"ipv4Address": address}});
    let with_tunnel = json!({"bgp": {"ipv4Address": "192.168.0.2/24"}, "ipv4VXLANTunnelAddr": "10.0.1.1"});
    vec![
        resource(Key::cluster(Kind::Node, "here"), json!({}), [bgp("192.168.0.1/24"), bgp("192.168.0.1/32")]),
        resource(
            Key::cluster(Kind::Node, "there"),
            json!({}),
            [bgp("192.168.0.2/24"), bgp("192.168.9.2/24"), with_tunnel, json!({})],
        ),
        resource(Key::cluster(Kind::Node, "elsewhere"), json!({}), [bgp("192.168.0.2/24")]),
    ]
}

fn ipam() -> Vec<(Key, Vec<Arc<Row>>)> {
    let block = |cidr: &str, affinity: Value, nodes: &[&str]| {
        let attributes: Vec<Value> = nodes.iter().map(|node| json!({"secondary": {"node": node}})).collect();
        let mut allocations: Vec<Value> = (0..nodes.len()).map(|index| json!(index)).collect();
        allocations.resize(8, Value::Null);
        json!({"cidr": cidr, "affinity": affinity, "allocations": allocations, "attributes": attributes})
    };
    let affinity = Key::BlockAffinity {
        owner: AffinityOwner::Host("there".to_owned()),
        cidr: "10.0.1.0/29".parse().unwrap(),
    };
    let pool = |cidr: &str, mode: &str| json!({"cidr": cidr, "vxlanMode": mode});
    vec![
        entry(
            Key::Block("10.0.1.0/29".parse().unwrap()),
            [
                block("10.0.1.0/29", json!("host:there"), &["there", "there", "here"]),
                block("10.0.1.0/29", json!("host:here"), &["there"]),
                block("10.0.1.0/29", Value::Null, &["here", "elsewhere"]),
            ],
        ),
        entry(affinity, ["confirmed", "pending", "pendingDeletion"].map(|state| json!({"state": state}))),
        resource(
            Key::cluster(Kind::IPPool, "a"),
            json!({}),
            [
                pool("10.0.0.0/16", "Always"),
                pool("10.0.0.0/16", "CrossSubnet"),
                pool("192.168.0.0/16", "Never"),
            ],
        ),
        resource(Key::cluster(Kind::IPPool, "b"), json!({}), [pool("10.0.0.0/16", "Never")]),
    ]
}

fn endpoints() -> Vec<(Key, Vec<Arc<Row>>)> {
    let workload = |node: &str, address: &str, profiles: &[&str]| {
        json!({
            "node": node, "orchestrator": "k8s", "pod": "p", "endpoint": "eth0", "interfaceName": "cali1",
            "ipNetworks": [format!("{address}/32")], "profiles": profiles,
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
        })
    };
    let key = |name: &str| Key::namespaced(Kind::WorkloadEndpoint, "ns", name);
    let host = |node: &str| json!({"node": node, "interfaceName": "eth0", "expectedIPs": ["192.168.0.1"], "profiles": ["open"]});
    let pair = [json!({"app": "web"}), json!({"app": "db", "tier": "back"}), json!({})];
    vec![
        relabelled(
            key("here-k8s-one-eth0"),
            &workload("here", "10.0.1.2", &["kns.ns", "open"]),
            pair.clone(),
        ),
        resource(
            key("here-k8s-two-eth0"),
            json!({"app": "db"}),
            [
                workload("here", "10.0.1.3", &["kns.ns"]),
                workload("here", "10.0.1.2", &["missing"]),
                workload("there", "10.0.1.3", &["kns.ns"]),
            ],
        ),
        relabelled(key("there-k8s-three-eth0"), &workload("there", "10.0.1.4", &["kns.ns"]), pair.clone()),
        relabelled(Key::cluster(Kind::HostEndpoint, "eth"), &host("here"), pair),
        resource(
            Key::cluster(Kind::HostEndpoint, "far"),
            json!({"app": "web"}),
            [host("there"), host("here")],
        ),
    ]
}

fn labels() -> Vec<(Key, Vec<Arc<Row>>)> {
    let allow = json!([{"action": "Allow", "source": {"selector": "app == 'db'"}}]);
    let profile = |labels: Value| json!({"labelsToApply": labels, "ingress": allow});
    let nets = |list: &[&str]| json!({"nets": list});
    vec![
        resource(
            Key::cluster(Kind::Profile, "kns.ns"),
            json!({}),
            [profile(json!({"pcns.team": "red"})), profile(json!({"pcns.team": "blue", "app": "web"}))],
        ),
        resource(
            Key::cluster(Kind::Profile, "open"),
            json!({}),
            [profile(json!({"pcns.team": "green", "extra": "1"})), json!({"egress": allow})],
        ),
        resource(
            Key::cluster(Kind::GlobalNetworkSet, "wide"),
            json!({"app": "db"}),
            [nets(&["10.0.0.0/8", "10.0.1.4"]), nets(&["10.0.1.0/24", "10.0.1.4"]), nets(&[])],
        ),
        resource(
            Key::namespaced(Kind::NetworkSet, "ns", "set"),
            json!({"app": "web"}),
            [nets(&["10.0.1.4", "fd00::/64"]), nets(&["172.16.0.0/12"])],
        ),
    ]
}

fn policies() -> Vec<(Key, Vec<Arc<Row>>)> {
    let rule = |side: Value| json!({"action": "Allow", "protocol": "TCP", "source": side});
    let named = rule(json!({"selector": "app == 'web'", "ports": ["http"]}));
    let team = rule(json!({"namespaceSelector": "team == 'red'"}));
    let all = rule(json!({"selector": "all()", "notSelector": "app == 'db'"}));
    let tier = |order: f64, action: &str| json!({"order": order, "defaultAction": action});
    let untracked = json!({"tier": "first", "selector": "has(app)", "ingress": [team], "doNotTrack": true, "applyOnForward": true});
    vec![
        resource(Key::cluster(Kind::Tier, "first"), json!({}), [tier(1.0, "Pass"), tier(2e6, "Deny")]),
        resource(Key::cluster(Kind::Tier, "default"), json!({}), [tier(1e6, "Deny")]),
        resource(
            Key::namespaced(Kind::NetworkPolicy, "ns", "knp.default.web"),
            json!({}),
            [
                json!({"order": 1000.0, "selector": "app == 'web'", "ingress": [named]}),
                json!({"order": 1000.0, "selector": "app == 'db'", "ingress": [named, team]}),
                json!({"order": 5.0, "selector": "app == 'web'", "egress": [{"action": "Deny"}]}),
            ],
        ),
        resource(
            Key::cluster(Kind::GlobalNetworkPolicy, "global"),
            json!({}),
            [
                json!({"tier": "first", "order": 1.0, "selector": "has(app)", "ingress": [all]}),
                json!({"tier": "first", "selector": "has(app)", "ingress": [all], "applyOnForward": true}),
                json!({"tier": "nowhere", "namespaceSelector": "team == 'blue'", "ingress": [team, all]}),
                untracked,
            ],
        ),
        resource(
            Key::cluster(Kind::StagedGlobalNetworkPolicy, "staged"),
            json!({}),
            [json!({"selector": "all()", "ingress": [all]}), json!({"stagedAction": "Delete"})],
        ),
        resource(
            Key::cluster(Kind::GlobalNetworkPolicy, "everywhere"),
            json!({}),
            [json!({
                "selector": "app == 'nobody'", "performanceHints": ["AssumeNeededOnEveryNode"],
                "egress": [{"action": "Allow", "destination": {"services": {"name": "svc", "namespace": "ns"}}}],
            })],
        ),
    ]
}

fn configuration() -> Vec<(Key, Vec<Arc<Row>>)> {
    let source = |word: &str| json!({"routeSource": word});
    let key = |name: &str| Key::cluster(Kind::FelixConfiguration, name);
    vec![
        resource(key("default"), json!({}), [source("WorkloadIPs"), source("CalicoIPAM"), json!({})]),
        resource(key("node.here"), json!({}), [source("WorkloadIPs"), json!({"ipv6Support": false})]),
        resource(key("node.there"), json!({}), [source("WorkloadIPs")]),
    ]
}
