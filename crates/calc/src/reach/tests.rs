//! Answers against the evaluator, packet by packet.

use std::net::Ipv4Addr;

use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::cluster::tests::{cluster, place, pod, resource};
use crate::explain::{Explainer, Question};

fn asked(cluster: &Cluster, to: &str, port: u16, from: Option<&str>) -> Vec<TargetReach> {
    let targets = cluster.selected(&Selector::parse(to).unwrap());
    let from = from.map(|text| Selector::parse(text).unwrap());
    reach(cluster, &ReachQuestion { targets, protocol: 6, port, from })
}

fn names(reached: &TargetReach) -> Vec<String> {
    reached.pods.iter().map(|pod| format!("{}/{}", pod.from.namespace, pod.from.name)).collect()
}

fn policy(name: &str, spec: serde_json::Value) -> api::Resource {
    resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": spec,
    }))
}

#[test]
fn who_is_selected_by_labels_and_outside_networks_are_told_apart() {
    let mut cluster = cluster();
    cluster.put(policy(
        "db",
        json!({"selector": "app == 'db'", "types": ["Ingress"], "ingress": [
            {"action": "Deny", "source": {"nets": ["192.0.2.128/25"]}},
            {"action": "Allow", "protocol": "TCP", "source": {"nets": ["192.0.2.0/24"]}, "destination": {"ports": [5432]}},
            {"action": "Allow", "protocol": "TCP", "source": {"selector": "pcns.env == 'prod'"}},
        ]}),
    ));
    let [answer] = &asked(&cluster, "app == 'db'", 5432, None)[..] else { panic!("one target") };
    assert_eq!(names(answer), ["prod/web"]);
    assert_eq!(answer.pods_denied, 1);
    let nodes: Vec<&str> = answer.nodes.iter().map(|node| node.from.node.as_str()).collect();
    assert_eq!(nodes, ["n2"], "its own host, and no other");
    let networks: Vec<String> = answer.networks.iter().map(|net| net.from.to_string()).collect();
    assert_eq!(networks, ["192.0.2.0/25"]);
    assert_eq!(asked(&cluster, "app == 'db'", 5433, None)[0].networks, []);
    assert_eq!(names(&asked(&cluster, "app == 'db'", 5432, Some("pcns.env == 'dev'"))[0]), [""; 0]);
}

#[test]
fn without_policy_everyone_can_and_that_is_one_network() {
    let [answer] = &asked(&cluster(), "app == 'db'", 1, None)[..] else { panic!("one target") };
    assert_eq!((answer.pods.len(), answer.nodes.len()), (2, 2));
    assert_eq!(answer.networks, [Reacher { from: "0.0.0.0/0".parse().unwrap(), source_ports: Vec::new() }]);
}

#[test]
fn the_senders_own_egress_policy_and_source_ports_count() {
    let mut cluster = cluster();
    cluster.put(policy(
        "out",
        json!({"selector": "pcns.env == 'dev'", "types": ["Egress"], "egress": [
            {"action": "Allow", "protocol": "TCP", "source": {"ports": ["1000:2000", 2001]}},
        ]}),
    ));
    let [answer] = &asked(&cluster, "app == 'db'", 80, None)[..] else { panic!("one target") };
    let ports: Vec<_> =
        answer.pods.iter().map(|pod| (pod.from.namespace.as_str(), &pod.source_ports[..])).collect();
    assert_eq!(ports, [("dev", &[(1000, 2001)][..]), ("prod", &[])]);
}

#[test]
fn ipv6_is_answered_for_itself() {
    let mut cluster = cluster();
    cluster.put(pod("prod", "six", "n1", "fd00::1", json!({"app": "six"})));
    cluster.put(pod("dev", "seven", "n2", "fd00::2", json!({"app": "seven"})));
    cluster.put(policy(
        "six",
        json!({"selector": "app == 'six'", "types": ["Ingress"], "ingress": [
            {"action": "Deny", "source": {"nets": ["2001:db8:8000::/33"]}},
            {"action": "Allow", "source": {"nets": ["2001:db8::/32", "fd00::/64"]}},
        ]}),
    ));
    let [answer] = &asked(&cluster, "app == 'six'", 80, None)[..] else { panic!("one target") };
    assert_eq!(names(answer), ["dev/seven"], "pods without IPv6 are not asked");
    let networks: Vec<String> = answer.networks.iter().map(|net| net.from.to_string()).collect();
    assert_eq!(networks, ["2001:db8::/33", "fd00::/64"]);
}

/// A network of few, so that random packets hit.
fn net(random: &mut Rng) -> String {
    let address = Ipv4Addr::from(0x0a00_0000 | u32::from(random.u8(..)) << 4);
    let length = random.u8(20..=32);
    ipnet::Ipv4Net::new(address, length).unwrap().trunc().to_string()
}

fn rule(random: &mut Rng) -> serde_json::Value {
    let actions = ["Allow", "Allow", "Deny", "Pass"];
    let mut rule = json!({"action": actions[random.usize(..4)], "source": {}, "destination": {}});
    if random.u8(..3) == 0 {
        let field = ["nets", "notNets"][random.usize(..2)];
        rule["source"][field] = json!([net(random), net(random)]);
    }
    if random.u8(..3) == 0 {
        let field = ["selector", "notSelector"][random.usize(..2)];
        rule["source"][field] = json!(["app == 'web'", "app == 'db'", "set == 'a'"][random.usize(..3)]);
    }
    if random.u8(..3) == 0 {
        rule["protocol"] = json!("TCP");
        let first = random.u16(1..60);
        rule["source"]["ports"] = json!([format!("{first}:{}", first + random.u16(..40))]);
    }
    if random.u8(..4) == 0 {
        rule["protocol"] = json!("TCP");
        rule["destination"]["ports"] = json!([random.u16(1..3)]);
    }
    rule
}

fn random_cluster(random: &mut Rng) -> Cluster {
    let mut cluster = cluster();
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkSet", "metadata": {"name": "set", "labels": {"set": "a"}},
        "spec": {"nets": [net(random), net(random), net(random)]},
    })));
    cluster.put(pod("prod", "odd", "n2", "10.0.0.17", json!({"app": "odd"})));
    if random.bool() {
        cluster.put(resource(json!({
            "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "h", "labels": {"app": "host"}},
            "spec": {"node": "n2", "interfaceName": "*"},
        })));
    }
    for index in 0..random.usize(1..5) {
        let selector = ["all()", "app == 'db'", "app == 'web'", "app == 'host'"][random.usize(..4)];
        let rules = |random: &mut Rng| (0..random.usize(1..4)).map(|_| rule(random)).collect::<Vec<_>>();
        let spec = json!({
            "selector": selector, "order": random.u8(..), "types": ["Ingress", "Egress"],
            "applyOnForward": selector == "app == 'host'",
            "ingress": rules(random), "egress": rules(random),
        });
        cluster.put(policy(&format!("p{index}"), spec));
    }
    cluster
}

fn holds<T>(list: &[Reacher<T>], port: u16, is_from: impl Fn(&T) -> bool) -> bool {
    let from_port = |of: &Reacher<T>| {
        of.source_ports.is_empty()
            || of.source_ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
    };
    list.iter().any(|of| is_from(&of.from) && from_port(of))
}

#[test]
fn random_packets_pass_exactly_where_the_answer_says_so() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut random, mut verdicts) = (Rng::with_seed(seed), BTreeSet::new());
    for _ in 0..40 {
        let cluster = random_cluster(&mut random);
        let [answer] = &asked(&cluster, "app == 'db'", 1, None)[..] else { panic!("one target") };
        let to = place(&cluster, "prod/db");
        let mut explainer = Explainer::new(&cluster);
        for _ in 0..60 {
            let known = ["10.65.1.1", "10.65.1.2", "10.0.0.17", "172.30.0.1", "172.30.0.2"];
            let text = match random.u8(..4) {
                0 => known[random.usize(..known.len())].to_owned(),
                _ => Ipv4Addr::from(0x0a00_0000 | random.u32(..0x1100)).to_string(),
            };
            let from = place(&cluster, &text);
            let address = from.addresses()[0];
            let mut packet = Packet::new(address, answer.address, 6, 1);
            packet.source_port = random.u16(..110);
            let port = packet.source_port;
            let said = match &from {
                Place::Workload(from) => holds(&answer.pods, port, |of| of.id == from.id),
                Place::Host(from) => holds(&answer.nodes, port, |of| of.node == from.node),
                Place::Outside { address } => holds(&answer.networks, port, |net| net.contains(address)),
            };
            let explained = explainer.explain(&Question { from, to: to.clone(), packet });
            verdicts.insert(said);
            assert_eq!(said, explained.verdict == Ruling::Allow, "{text} from port {port}: {explained:#?}");
        }
    }
    assert_eq!(verdicts.len(), 2, "packets of both kinds");
}
