use super::*;

fn service(kind: &str, policy: &str) -> Value {
    json!({
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {
            "type": kind, "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::10"],
            "externalIPs": ["203.0.113.5", "198.51.100.9", "192.0.2.1"], "externalTrafficPolicy": policy
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.114.7"}, {"hostname": "lb"}]}}
    })
}

fn slice(endpoints: &Value) -> Option<ServiceEndpoints> {
    let slice = json!({
        "metadata": {"name": "s-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "s"}},
        "endpoints": endpoints
    });
    ServiceEndpoints::from_kubernetes(&serde_json::from_value(slice).unwrap())
}

fn configuration(aggregation: &str) -> Value {
    resource(
        "default",
        &json!({
            "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "203.0.113.0/24"}, {"cidr": "192.0.2.1/32"}],
            "serviceLoadBalancerIPs": [{"cidr": "203.0.114.0/24"}],
            "serviceLoadBalancerAggregation": aggregation
        }),
    )
}

/// Ours only, without the block.
fn services(planner: &BgpPlanner) -> Vec<String> {
    let plan = planner.plan();
    let services = plan.originate.iter().filter(|(_, of)| of.kind == OriginatedKind::Service);
    services.map(|(prefix, _)| prefix.to_string()).collect()
}

fn with(kind: &str, policy: &str, aggregation: &str, endpoints: &Value) -> BgpPlanner {
    let mut planner = planner();
    set(&mut planner, &Key::cluster(Kind::BGPConfiguration, "default"), Some(configuration(aggregation)));
    let service = serde_json::from_value(service(kind, policy)).unwrap();
    planner.on_service("ns", "s", Service::from_kubernetes(&service));
    planner.on_endpoints("ns", "s-1", slice(endpoints));
    planner
}

const RANGES: [&str; 3] = ["10.96.0.0/12", "203.0.113.0/24", "203.0.114.0/24"];

#[test]
fn ranges_are_announced_whole_and_single_addresses_for_their_service() {
    let here = json!([{"addresses": ["192.168.0.2"], "nodeName": "n1"}]);
    let planner = with("LoadBalancer", "Cluster", "Enabled", &here);
    assert_eq!(services(&planner), [RANGES[0], "192.0.2.1/32", RANGES[1], RANGES[2]]);
}

#[test]
fn a_local_service_is_announced_where_it_has_a_ready_endpoint() {
    let local = |endpoints: &Value| services(&with("LoadBalancer", "Local", "Enabled", endpoints));
    let all = [
        RANGES[0],
        "10.96.0.10/32",
        "192.0.2.1/32",
        RANGES[1],
        "203.0.113.5/32",
        RANGES[2],
        "203.0.114.7/32",
        "fd00:96::10/128",
    ];
    assert_eq!(local(&json!([{"addresses": ["192.168.0.2"], "nodeName": "n1"}])), all);
    assert_eq!(local(&json!([{"addresses": ["192.168.1.2"], "nodeName": "n2"}])), RANGES);
    let unready = json!([{"addresses": ["192.168.0.2"], "nodeName": "n1", "conditions": {"ready": false}}]);
    assert_eq!(local(&unready), RANGES);
}

#[test]
fn without_aggregation_a_load_balancers_address_is_announced_while_any_node_has_an_endpoint() {
    let elsewhere = json!([{"addresses": ["192.168.1.2"], "nodeName": "n2"}]);
    let planner = with("LoadBalancer", "Cluster", "Disabled", &elsewhere);
    assert_eq!(services(&planner), [RANGES[0], "192.0.2.1/32", RANGES[1], "203.0.114.7/32"]);
    let planner = with("LoadBalancer", "Cluster", "Disabled", &json!([]));
    assert_eq!(services(&planner), [RANGES[0], "192.0.2.1/32", RANGES[1]]);
}

#[test]
fn headless_services_and_excluded_nodes_announce_nothing() {
    let mut headless = service("ClusterIP", "");
    headless["spec"]["clusterIP"] = json!("None");
    headless["spec"]["clusterIPs"] = json!(["None"]);
    assert_eq!(Service::from_kubernetes(&serde_json::from_value(headless).unwrap()), None);
    let here = json!([{"addresses": ["192.168.0.2"], "nodeName": "n1"}]);
    let mut planner = with("LoadBalancer", "Local", "Enabled", &here);
    let document = json!({
        "metadata": {"name": "n1", "labels": {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}},
        "spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}}
    });
    set(&mut planner, &node("n1"), Some(document));
    assert_eq!(services(&planner), [""; 0]);
}

#[test]
fn services_are_told_to_peers_and_a_reflector_passes_those_of_others_on() {
    let here = json!([{"addresses": ["192.168.0.2"], "nodeName": "n1"}]);
    let mut planner = with("LoadBalancer", "Local", "Enabled", &here);
    assert!(announced(&planner).contains(&"203.0.113.5/32".to_owned()));
    let passes = |planner: &BgpPlanner| {
        let plan = planner.plan();
        let attributes = bgp::policy::RouteAttributes::default();
        let route = bgp::policy::Route {
            prefix: "203.0.113.77/32".parse().unwrap(),
            source: bgp::policy::SourceMatch::Learned,
            peer: Some(bgp::packet::PeerKind::Internal),
            next_hop: Some([10, 0, 0, 2].into()),
            interface: None,
            attributes: &attributes,
        };
        plan.peers[0].export.evaluate(&route).is_some()
    };
    assert!(!passes(&planner));
    let bgp = json!({"bgp": {"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "1.1.1.1"}});
    set(&mut planner, &node("n1"), Some(resource("n1", &bgp)));
    let peer = resource("p", &json!({"node": "n1", "peerIP": "10.0.0.2", "asNumber": 64512}));
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(peer));
    assert!(passes(&planner));
}

#[test]
fn nothing_is_kept_of_services_that_are_gone() {
    let before = planner().size();
    let mut planner = with("LoadBalancer", "Local", "Enabled", &json!([]));
    planner.on_service("ns", "s", None);
    planner.on_endpoints("ns", "s-1", None);
    set(&mut planner, &Key::cluster(Kind::BGPConfiguration, "default"), None);
    assert_eq!(planner.size(), before);
}
