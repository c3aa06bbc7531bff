use serde_json::{Value, json};

use super::*;

/// What is said of the networks of Services after the row is this.
fn said(graph: &mut Graph, name: &str, spec: Option<Value>) -> Vec<Vec<String>> {
    let key = Key::cluster(Kind::BGPConfiguration, name);
    let row = spec.map(|spec| {
        let text = json!({"metadata": {"name": name}, "spec": spec}).to_string();
        Arc::new(Row::decode(&key, &text).unwrap())
    });
    graph.on_update(&key, row);
    let networks = |change| match change {
        Change::ServiceNetworksUpdate { networks } => {
            Some(networks.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        _ => None,
    };
    graph.flush().into_iter().filter_map(networks).collect()
}

#[test]
fn the_networks_of_services_are_those_of_the_one_configuration_for_all() {
    let mut graph = Graph::new(GraphConfig::new("n1"));
    graph.on_in_sync();
    let none = Vec::<Vec<String>>::new();
    assert_eq!(said(&mut graph, "default", Some(json!({"asNumber": 64512}))), none);
    let cluster = json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]});
    assert_eq!(said(&mut graph, "node.n1", Some(cluster.clone())), none);
    assert_eq!(said(&mut graph, "default", Some(cluster.clone())), [["10.96.0.0/12"]]);
    assert_eq!(said(&mut graph, "default", Some(cluster)), none);
    let all = json!({
        "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}],
        "serviceLoadBalancerIPs": [{"cidr": "2001:db8::/64"}, {"cidr": "192.0.2.0/24"}],
    });
    assert_eq!(said(&mut graph, "default", Some(all)), [["192.0.2.0/24", "2001:db8::/64"]]);
    assert_eq!(said(&mut graph, "default", None), [Vec::<String>::new()]);
    assert_eq!(said(&mut graph, "node.n1", None), none);
    assert_eq!(graph.size(), 0);
}
