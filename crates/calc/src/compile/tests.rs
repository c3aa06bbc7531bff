use std::sync::Arc;

use api::{Key, Kind, Resource, Row};
use serde_json::{Value, json};

use super::*;
use crate::contract::{IpSetId, Policy, PolicyId, PolicyKind, PortRange};
use crate::policies::CompiledPolicy;

fn row(kind: Kind, namespace: Option<&str>, name: &str, spec: Value) -> Resource {
    let key = Key::Resource { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() };
    let document = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
    match Row::decode(&key, &document.to_string()).unwrap() {
        Row::Resource(resource) => resource,
        other => panic!("{other:?}"),
    }
}

fn compiled(kind: Kind, namespace: Option<&str>, spec: Value) -> (Option<CompiledPolicy>, Vec<CompileError>) {
    let id =
        PolicyId { kind: policy_kind(kind).unwrap(), namespace: namespace.map(Arc::from), name: "p".into() };
    let mut errors = Vec::new();
    let policy = compile_policy(&id, &row(kind, namespace, "p", spec), &mut errors);
    (policy, errors)
}

fn network_policy(spec: Value) -> CompiledPolicy {
    let (policy, errors) = compiled(Kind::NetworkPolicy, Some("ns"), spec);
    assert_eq!(errors, []);
    policy.unwrap()
}

fn set(selector: &str) -> IpSetId {
    Definition::Selector(api::selector::Selector::parse(selector).unwrap()).id()
}

fn port_set(selector: &str, protocol: u8, name: &str) -> IpSetId {
    let selector = api::selector::Selector::parse(selector).unwrap();
    Definition::NamedPort { selector, protocol, name: name.into() }.id()
}

#[test]
fn peers_of_a_namespaced_policy_stay_in_its_namespace_unless_they_name_others() {
    let policy = network_policy(json!({
        "selector": "app == 'web'",
        "ingress": [
            {"action": "Allow", "source": {"selector": "app == 'db'"}},
            {"action": "Allow", "source": {"namespaceSelector": "team == 'red'", "selector": "app == 'db'"}},
            {"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}},
            {"action": "Allow", "source": {"notSelector": "app == 'db'"}},
        ],
    }));
    assert_eq!(policy.selector.to_string(), r#"(app == "web" && projectcalico.org/namespace == "ns")"#);
    let sources: Vec<_> = policy.policy.inbound.iter().map(|rule| &rule.source).collect();
    assert_eq!(sources[0].ip_sets, [set("projectcalico.org/namespace == 'ns' && app == 'db'")]);
    assert_eq!(sources[1].ip_sets, [set("pcns.team == 'red' && app == 'db'")]);
    assert_eq!(sources[2].ip_sets, []);
    assert_eq!(sources[3].ip_sets, [set("projectcalico.org/namespace == 'ns'")]);
    assert_eq!(sources[3].not_ip_sets, [set("app == 'db'")]);
    assert_eq!(policy.sets.len(), 4);
}

#[test]
fn a_set_of_named_ports_stands_for_the_selector_too_but_not_beside_numbers() {
    let rule = |ports: Value| {
        let side = json!({"selector": "a == 'b'", "namespaceSelector": "all()", "ports": ports});
        network_policy(json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": side}]}))
    };
    let peer = "has(projectcalico.org/namespace) && a == 'b'";
    let named = rule(json!(["http"])).policy.inbound[0].destination.clone();
    assert_eq!((named.ip_sets, named.named_port_sets), (vec![], vec![port_set(peer, 6, "http")]));
    let mixed = rule(json!(["http", "80:90"])).policy.inbound[0].destination.clone();
    assert_eq!(mixed.ip_sets, [set(peer)]);
    assert_eq!(mixed.named_port_sets, [port_set(peer, 6, "http")]);
    assert_eq!(mixed.ports, [PortRange { min: 80, max: 90 }]);
}

#[test]
fn a_named_port_without_protocol_may_be_of_any_that_has_ports() {
    let policy =
        network_policy(json!({"egress": [{"action": "Allow", "destination": {"notPorts": ["dns"]}}]}));
    let sets = &policy.policy.outbound[0].destination.not_named_port_sets;
    assert_eq!(*sets, [6, 17, 132].map(|protocol| port_set("all()", protocol, "dns")));
}

#[test]
fn services_match_ports_as_a_destination_and_addresses_as_a_source() {
    let service = |with_ports| Definition::Service { service: "ns/svc".into(), with_ports }.id();
    let side = json!({"services": {"name": "svc"}});
    let policy = network_policy(json!({
        "ingress": [{"action": "Allow", "source": side}],
        "egress": [{"action": "Allow", "destination": side}],
    }));
    assert_eq!(policy.policy.inbound[0].source.ip_sets, [service(false)]);
    assert_eq!(policy.policy.outbound[0].destination.ip_port_sets, [service(true)]);
    let (_, errors) = compiled(
        Kind::GlobalNetworkPolicy,
        None,
        json!({"egress": [{"action": "Allow", "destination": side}]}),
    );
    assert_eq!(errors, [CompileError::ServiceNamespace { name: "svc".to_owned() }]);
}

#[test]
fn a_rule_that_cannot_be_compiled_opens_nothing_and_keeps_the_others_numbers() {
    let bad = json!({"selector": "a =="});
    let (policy, errors) = compiled(
        Kind::GlobalNetworkPolicy,
        None,
        json!({"ingress": [
            {"action": "Allow", "source": bad},
            {"action": "Deny", "source": bad},
            {"action": "Pass", "source": bad},
            {"action": "Allow", "protocol": "TCP"},
        ]}),
    );
    let rules = &policy.unwrap().policy.inbound;
    let summary: Vec<_> = rules.iter().map(|rule| (rule.id.index, rule.action, rule.protocol)).collect();
    assert_eq!(summary, [(1, Action::Deny, None), (2, Action::Deny, None), (3, Action::Allow, Some(6))]);
    assert_eq!(errors.len(), 3);
}

#[test]
fn a_policy_whose_own_selector_cannot_be_read_is_none() {
    let (policy, errors) = compiled(Kind::GlobalNetworkPolicy, None, json!({"selector": "a =="}));
    assert!(policy.is_none());
    assert!(matches!(errors[..], [CompileError::Selector { field: "selector", .. }]));
}

#[test]
fn flags_types_and_hints_are_taken_over() {
    let (policy, _) = compiled(
        Kind::GlobalNetworkPolicy,
        None,
        json!({
            "namespaceSelector": "all()",
            "serviceAccountSelector": "team == 'red'",
            "types": ["Egress"],
            "ingress": [{"action": "Allow"}],
            "egress": [{"action": "Log", "metadata": {"annotations": {"a": "b"}}, "icmp": {"type": 8}}],
            "applyOnForward": true,
            "doNotTrack": true,
            "performanceHints": ["AssumeNeededOnEveryNode"],
        }),
    );
    let policy = policy.unwrap();
    assert_eq!(policy.selector.to_string(), r#"(has(projectcalico.org/namespace) && pcsa.team == "red")"#);
    assert_eq!((policy.types.len(), policy.is_always_active), (1, true));
    let Policy { inbound, outbound, untracked, apply_on_forward, .. } = &*policy.policy;
    assert_eq!((inbound.len(), *untracked, *apply_on_forward), (0, true, true));
    assert_eq!(outbound[0].icmp, Some(IcmpMatch { icmp_type: 8, code: None }));
    assert_eq!(outbound[0].annotations["a"], "b");
}

#[test]
fn a_word_on_established_connections_is_taken_over_and_one_that_is_none_keeps_them() {
    for (annotation, rechecks, reported) in
        [(None, false, 0), (Some("keep"), false, 0), (Some("recheck"), true, 0), (Some("cut"), false, 1)]
    {
        let mut metadata = api::Metadata::named("p");
        let annotation = annotation.map(|word| (api::ESTABLISHED_ANNOTATION.to_owned(), word.to_owned()));
        metadata.annotations.extend(annotation);
        let policy = api::GlobalNetworkPolicy::new(metadata, api::GlobalNetworkPolicySpec::default());
        let id = PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: "p".into() };
        let mut errors = Vec::new();
        let policy = compile_policy(&id, &api::Resource::GlobalNetworkPolicy(policy.into()), &mut errors);
        assert_eq!((policy.unwrap().policy.rechecks, errors.len()), (rechecks, reported), "{errors:?}");
    }
}

#[test]
fn staged_policies_are_compiled_unless_they_stage_a_deletion() {
    let spec = |action: &str| json!({"stagedAction": action, "ingress": [{"action": "Allow"}]});
    for (action, is_there) in [("Set", true), ("Delete", false), ("Ignore", false)] {
        let (policy, _) = compiled(Kind::StagedNetworkPolicy, Some("ns"), spec(action));
        assert_eq!(policy.is_some(), is_there, "{action}");
    }
    let (policy, errors) = compiled(
        Kind::StagedKubernetesNetworkPolicy,
        Some("ns"),
        json!({
            "podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80, "protocol": "TCP"}]}],
            "policyTypes": ["Ingress"],
        }),
    );
    assert_eq!(errors, []);
    let policy = policy.unwrap();
    assert_eq!(policy.order, Some(1000.0));
    assert_eq!(policy.policy.inbound[0].destination.ports, [PortRange { min: 80, max: 80 }]);
}

#[test]
fn a_rule_that_cannot_be_read_opens_nothing_and_the_others_keep_their_numbers() {
    let unreadable = |action| v3::Rule { unreadable: Some("why".to_owned()), ..v3::Rule::new(action) };
    let rules = [
        unreadable(v3::Action::Allow),
        unreadable(v3::Action::Pass),
        unreadable(v3::Action::Log),
        v3::Rule::new(v3::Action::Allow),
    ];
    let spec = v3::GlobalNetworkPolicySpec { ingress: rules.to_vec(), ..Default::default() };
    let policy = v3::GlobalNetworkPolicy::new(api::Metadata::named("p"), spec);
    let id = PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: "p".into() };
    let mut errors = Vec::new();
    let compiled = compile_policy(&id, &policy.into(), &mut errors).unwrap();
    let rules: Vec<_> = compiled.policy.inbound.iter().map(|rule| (rule.id.index, rule.action)).collect();
    assert_eq!(rules, [(1, Action::Deny), (3, Action::Allow)]);
    assert_eq!((errors.len(), errors[0].to_string()), (3, "why".to_owned()));
}
