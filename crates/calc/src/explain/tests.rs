//! Explanations of small clusters.

use serde_json::json;

use super::*;
use crate::cluster::tests::{cluster, place, resource};

fn policy(name: &str, spec: serde_json::Value) -> api::Resource {
    resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "prod"}, "spec": spec,
    }))
}

fn global(name: &str, spec: serde_json::Value) -> api::Resource {
    resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": spec,
    }))
}

fn asked(cluster: &Cluster, from: &str, to: &str, protocol: u8, port: u16) -> Explanation {
    let (from, to) = (place(cluster, from), place(cluster, to));
    let (source, destination) = common_family(&from, &to).unwrap();
    explain(cluster, &Question { from, to, packet: Packet::new(source, destination, protocol, port) })
}

/// `prod/db` takes TCP 5432 from `app == "web"` of its own namespace.
fn with_database_policy() -> Cluster {
    let mut cluster = cluster();
    cluster.put(policy(
        "db",
        json!({"selector": "app == 'db'", "types": ["Ingress"], "ingress": [
            {"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'web'"}, "destination": {"ports": [5432]}},
        ]}),
    ));
    cluster
}

#[test]
fn an_allowed_packet_names_the_rule_and_the_conditions_that_held() {
    let answer = asked(&with_database_policy(), "prod/web", "db", 6, 5432);
    assert_eq!(answer.verdict, Ruling::Allow);
    assert_eq!(
        answer.because,
        "pod prod/db ingress on node n2: NetworkPolicy prod/db, spec.ingress[0] (Allow)"
    );
    let [egress, ingress] = &answer.stages[..] else { panic!("{:#?}", answer.stages) };
    assert_eq!(egress.decided_by.text, "Profile kns.prod, spec.egress[0] (Allow)");
    assert_eq!(egress.others[0].reason, "does not select it: spec.selector `app == 'db'`");
    assert_eq!(
        ingress.decided_by.conditions,
        [
            "protocol TCP is TCP",
            "destination port 5432 is in 5432",
            "source 10.65.1.1 is in `(projectcalico.org/namespace == \"prod\" && app == \"web\")`",
        ]
    );
}

#[test]
fn a_denied_packet_says_which_condition_of_each_rule_failed() {
    let cluster = with_database_policy();
    let answer = asked(&cluster, "dev/web", "db", 6, 5432);
    assert_eq!(answer.verdict, Ruling::Deny);
    assert!(
        answer.because.starts_with("pod prod/db ingress on node n2: end of tier default"),
        "{}",
        answer.because
    );
    let tier = &answer.stages[1].tiers[0];
    assert_eq!((tier.name.as_str(), tier.end.as_str()), ("default", "Deny (defaultAction)"));
    let [rule] = &tier.policies[0].rules[..] else { panic!("{tier:#?}") };
    assert_eq!(
        rule.failed,
        ["source 10.65.1.2 is not in `(projectcalico.org/namespace == \"prod\" && app == \"web\")`"]
    );
    let udp = asked(&cluster, "prod/web", "db", 17, 5433);
    let rule = &udp.stages[1].tiers[0].policies[0].rules[0];
    assert_eq!(rule.failed, ["protocol UDP is not TCP", "destination port 5433 is not in 5432"]);
    assert_eq!(udp.stages[1].profiles[0].verdict, Ruling::NotReached);
}

#[test]
fn a_pass_leads_to_the_next_tier_and_staged_policies_say_what_they_would() {
    let mut cluster = with_database_policy();
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "first"}, "spec": {"order": 1},
    })));
    cluster.put(global(
        "first.pass",
        json!({"tier": "first", "selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Pass"}]}),
    ));
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "StagedGlobalNetworkPolicy", "metadata": {"name": "first.shut"},
        "spec": {"tier": "first", "order": 1, "selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Deny"}]},
    })));
    let answer = asked(&cluster, "prod/web", "db", 6, 5432);
    assert_eq!(answer.verdict, Ruling::Allow);
    let first = &answer.stages[1].tiers[0];
    let said: Vec<_> = first.policies.iter().map(|of| (of.object.as_str(), of.staged, of.verdict)).collect();
    assert_eq!(
        said,
        [
            ("StagedGlobalNetworkPolicy first.shut", true, Ruling::Deny),
            ("GlobalNetworkPolicy first.pass", false, Ruling::Pass),
        ]
    );
    assert_eq!(first.end, "not reached: a policy passed to the next tier");
}

#[test]
fn policies_without_a_say_are_listed_with_the_reason() {
    let mut cluster = with_database_policy();
    cluster.put(global("far", json!({"selector": "app == 'nobody'", "types": ["Ingress"]})));
    cluster.put(policy(
        "out",
        json!({"selector": "all()", "types": ["Egress"], "egress": [{"action": "Allow"}]}),
    ));
    let answer = asked(&cluster, "prod/web", "db", 6, 5432);
    let others: Vec<_> =
        answer.stages[1].others.iter().map(|of| format!("{}: {}", of.object, of.reason)).collect();
    assert_eq!(
        others,
        [
            "GlobalNetworkPolicy far: does not select it: spec.selector `app == 'nobody'`",
            "NetworkPolicy prod/out: selects the endpoint, but spec.types does not have ingress",
        ]
    );
}

#[test]
fn the_route_leads_to_the_node_and_what_leaves_the_pools_is_masqueraded() {
    let cluster = cluster();
    let answer = asked(&cluster, "prod/web", "dev/web", 6, 80);
    assert_eq!(answer.route.unwrap().kind, "a workload of this node");
    let answer = asked(&cluster, "prod/web", "192.0.2.7", 6, 443);
    assert_eq!(
        answer.nat[0].what,
        "the source 10.65.1.1 becomes 172.30.0.1 (natOutgoing of the pool 10.65.0.0/16; the destination is in no pool)"
    );
    let answer = asked(&cluster, "prod/web", "node/n2", 6, 443);
    assert_eq!(answer.route.unwrap().to_node.as_deref(), Some("n2"));
}

fn host_endpoint(spec: serde_json::Value) -> api::Resource {
    resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "n2-eth0", "labels": {"host": "n2"}}, "spec": spec,
    }))
}

#[test]
fn a_host_endpoint_judges_the_masqueraded_packet_by_its_new_source() {
    let mut cluster = cluster();
    cluster.put(host_endpoint(json!({"node": "n2", "interfaceName": "eth0", "expectedIPs": ["172.30.0.2"]})));
    cluster.put(global(
        "hosts",
        json!({"selector": "host == 'n2'", "types": ["Ingress"], "ingress": [
            {"action": "Allow", "protocol": "TCP", "source": {"nets": ["172.30.0.1/32"]}, "destination": {"ports": [9100]}},
        ]}),
    ));
    let answer = asked(&cluster, "prod/web", "node/n2", 6, 9100);
    assert_eq!(answer.verdict, Ruling::Allow, "{answer:#?}");
    let at = &answer.stages[1];
    assert_eq!(at.at, "host endpoint n2-eth0 normal ingress");
    assert_eq!(at.packet.as_deref(), Some("TCP 172.30.0.1:40000 -> 172.30.0.2:9100"));
    assert_eq!(asked(&cluster, "192.0.2.7", "node/n2", 6, 9100).verdict, Ruling::Deny);
    let ssh = asked(&cluster, "192.0.2.7", "node/n2", 6, 22);
    assert_eq!(ssh.stages[0].decided_by.text, "a failsafe port, which no policy closes");
}

#[test]
fn forwarded_traffic_meets_apply_on_forward_policies_only() {
    let mut cluster = cluster();
    cluster.put(host_endpoint(json!({"node": "n2", "interfaceName": "*"})));
    let answer = asked(&cluster, "prod/web", "db", 6, 80);
    assert_eq!((answer.verdict, answer.stages.len()), (Ruling::Allow, 2), "no forward policy, no chain");
    cluster.put(global(
        "forward",
        json!({"selector": "host == 'n2'", "types": ["Ingress"], "applyOnForward": true, "ingress": [{"action": "Deny"}]}),
    ));
    let answer = asked(&cluster, "prod/web", "db", 6, 80);
    assert_eq!(answer.verdict, Ruling::Deny);
    assert_eq!(
        answer.because,
        "host endpoint n2-eth0 forward ingress on node n2: GlobalNetworkPolicy forward, spec.ingress[0] (Deny)"
    );
    assert_eq!(answer.stages[2].verdict, Ruling::Allow, "the receiver is judged too");
}

#[test]
fn an_untracked_allow_is_final_for_the_host() {
    let mut cluster = cluster();
    cluster.put(host_endpoint(json!({"node": "n2", "interfaceName": "*"})));
    cluster.put(global(
        "early",
        json!({"selector": "host == 'n2'", "types": ["Ingress"], "applyOnForward": true, "doNotTrack": true,
               "ingress": [{"action": "Allow"}]}),
    ));
    let answer = asked(&cluster, "192.0.2.7", "node/n2", 6, 9999);
    assert_eq!((answer.verdict, answer.stages.len(), answer.notes.len()), (Ruling::Allow, 1, 1));
}

#[test]
fn between_a_host_and_its_own_workloads_the_host_is_free_and_the_workload_is_not() {
    let cluster = cluster();
    assert_eq!(asked(&cluster, "node/n1", "prod/web", 6, 80).verdict, Ruling::Allow);
    let answer = asked(&cluster, "prod/web", "node/n1", 6, 80);
    assert_eq!(answer.verdict, Ruling::Deny);
    assert!(answer.because.contains("spec.defaultEndpointToHostAction (DROP)"), "{}", answer.because);
}

#[test]
fn what_no_service_took_goes_no_further() {
    let mut cluster = cluster();
    cluster.put(resource(json!({
        "apiVersion": "projectcalico.org/v3", "kind": "BGPConfiguration", "metadata": {"name": "default"},
        "spec": {"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]},
    })));
    let answer = asked(&cluster, "prod/web", "10.96.0.9", 6, 80);
    assert_eq!(answer.verdict, Ruling::Deny);
    assert!(answer.because.contains("10.96.0.9 is in 10.96.0.0/12, of Services"), "{}", answer.because);
    assert_eq!(asked(&cluster, "prod/web", "192.0.2.1", 6, 80).verdict, Ruling::Allow);
}

#[test]
fn a_profile_that_does_not_exist_denies_and_is_named() {
    let mut cluster = cluster();
    cluster.set(api::Key::cluster(api::Kind::Profile, "kns.dev"), None);
    let answer = asked(&cluster, "dev/web", "db", 6, 80);
    assert_eq!(answer.verdict, Ruling::Deny);
    let profile = &answer.stages[0].profiles[0];
    assert_eq!((profile.object.as_str(), profile.verdict), ("Profile kns.dev", Ruling::Deny), "{profile:?}");
}
