use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::scalars::Port;
use crate::selector::Selector;
use crate::{Key, Kind, PolicyType};

fn policy(spec: Value) -> NetworkPolicy {
    let value = json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": spec });
    serde_json::from_value(value).unwrap()
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn stored(kind: (&str, &str), metadata: Value, spec: Value) -> Result<crate::Resource, Vec<String>> {
    let mut object = json!({ "apiVersion": kind.0, "kind": kind.1, "metadata": metadata });
    if !spec.is_null() {
        object["spec"] = spec;
    }
    stored_resource(&object).map_err(|violations| violations.iter().map(ToString::to_string).collect())
}

fn stored_policy(spec: Value) -> Result<crate::Resource, Vec<String>> {
    stored(("networking.k8s.io/v1", "NetworkPolicy"), json!({ "name": "p", "namespace": "n" }), spec)
}

#[test]
fn a_policys_word_on_established_connections_goes_with_it_and_no_other_annotation() {
    let annotations = json!({ "tortie.dev/established": "recheck", "team": "red" });
    let metadata = json!({ "name": "p", "namespace": "n", "annotations": annotations });
    let kind = ("networking.k8s.io/v1", "NetworkPolicy");
    let stored = stored(kind, metadata, json!({ "podSelector": {} })).unwrap();
    let kept: Vec<_> = stored.metadata().annotations.iter().collect();
    assert_eq!(kept, [(&"tortie.dev/established".to_owned(), &"recheck".to_owned())]);
}

#[test]
fn a_rule_with_a_bad_peer_is_dropped_and_named() {
    let spec = json!({
        "ingress": [
            { "from": [{ "podSelector": {} }, { "ipBlock": { "cidr": "10.0.0.0/33" } }] },
            { "from": [{ "podSelector": {} }] },
        ],
        "egress": [{ "to": [{ "somethingNew": {} }] }],
    });
    let converted = network_policy(&policy(spec)).unwrap();
    assert_eq!(converted.policy.spec.ingress.len(), 1);
    assert!(converted.policy.spec.egress.is_empty());
    let errors: Vec<String> =
        converted.dropped_rules.iter().map(|dropped| dropped.error.to_string()).collect();
    assert_eq!(
        errors,
        [
            "spec.ingress[0].from[1].ipBlock.cidr: \"10.0.0.0/33\" is not a CIDR such as 10.0.0.0/24 or fd00::/64",
            "spec.egress[0].to[0] has none of podSelector, namespaceSelector and ipBlock",
        ]
    );
}

#[test]
fn a_label_cannot_smuggle_in_an_expression() {
    let selector = json!({ "matchLabels": { "a": "x' || all() || a == '" } });
    let error = network_policy(&policy(json!({ "podSelector": selector }))).unwrap_err();
    assert_eq!(error.path, "spec.podSelector.matchLabels[a]");
}

#[test]
fn all_ports_of_a_protocol_swallow_single_ones() {
    let ports = json!([{ "port": 80 }, {}, { "port": 443 }, { "protocol": "UDP", "port": 53 }]);
    let rules =
        network_policy(&policy(json!({ "ingress": [{ "ports": ports }] }))).unwrap().policy.spec.ingress;
    let ports: Vec<_> = rules.iter().map(|rule| rule.destination.ports.clone()).collect();
    assert_eq!(ports, [vec![], vec![Port::Number(53)]]);
}

#[test]
fn an_end_port_needs_a_number_that_is_not_above_it() {
    for port in [
        json!({ "port": "http", "endPort": 90 }),
        json!({ "endPort": 90 }),
        json!({ "port": 90, "endPort": 80 }),
    ] {
        let converted = network_policy(&policy(json!({ "ingress": [{ "ports": [port] }] }))).unwrap();
        assert_eq!(converted.dropped_rules[0].error.path, "spec.ingress[0].ports[0].endPort");
    }
}

#[test]
fn policy_types_are_the_api_server_s_to_default() {
    let both = policy(json!({ "egress": [{}] }));
    let types = |policy: &NetworkPolicy| network_policy(policy).unwrap().policy.spec.types;
    assert_eq!(types(&both), [PolicyType::Ingress]);
    assert_eq!(types(&both.with_default_types()), [PolicyType::Ingress, PolicyType::Egress]);
    let egress = policy(json!({ "egress": [{}], "policyTypes": ["Egress"] })).with_default_types();
    assert_eq!(types(&egress), [PolicyType::Egress]);
}

#[test]
fn pods_of_one_family_have_one_address() {
    let pod = pod(
        json!({ "status": { "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }, { "ip": "fd00::1" }] } }),
    );
    let addresses: Vec<String> = pod_addresses(&pod).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::1"]);
}

#[test]
fn a_pod_on_the_host_s_network_has_no_endpoint() {
    let pod = pod(json!({ "spec": { "nodeName": "n", "hostNetwork": true } }));
    assert!(!pod.has_endpoint());
    assert_eq!(pod_endpoint(&pod, "cali").unwrap_err().path, "spec.hostNetwork");
}

#[test]
fn a_long_account_name_is_a_profile_but_no_label() {
    let endpoint = |account: &str| {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "nodeName": "h", "serviceAccountName": account },
        });
        pod_endpoint(&self::pod(pod), "cali").unwrap().endpoint
    };
    let (short, long) = (endpoint(&"a".repeat(62)), endpoint(&"a".repeat(63)));
    assert!(short.metadata.labels.contains_key("projectcalico.org/serviceaccount"));
    assert!(!long.metadata.labels.contains_key("projectcalico.org/serviceaccount"));
    assert_eq!(long.spec.profiles, ["kns.n".to_owned(), format!("ksa.n.{}", "a".repeat(63))]);
}

#[test]
fn bandwidth_of_kubernetes_counts_unless_calico_s_own_is_given() {
    let controls = |annotations: Value| {
        let pod =
            json!({ "metadata": { "name": "p", "annotations": annotations }, "spec": { "nodeName": "h" } });
        let converted = pod_endpoint(&self::pod(pod), "cali").unwrap();
        (converted.endpoint.spec.qos_controls.map(|qos| *qos).unwrap(), converted.corrections)
    };
    let (both, corrections) = controls(json!({
        "kubernetes.io/ingress-bandwidth": "5M",
        "kubernetes.io/egress-bandwidth": "6M",
        "qos.projectcalico.org/egressBandwidth": "7M",
        "qos.projectcalico.org/egressPeakrate": "7M",
        "qos.projectcalico.org/ingressPacketRate": "lots",
        "qos.projectcalico.org/dscp": "cs9",
    }));
    assert_eq!((both.ingress_bandwidth, both.egress_bandwidth), (Some(5_000_000), Some(7_000_000)));
    assert_eq!((both.ingress_burst, both.egress_peakrate), (Some(4_294_967_296), None));
    let fields: Vec<&str> = corrections.iter().map(|correction| correction.path.as_str()).collect();
    assert_eq!(
        fields,
        [
            "metadata.annotations[qos.projectcalico.org/ingressPacketRate]",
            "metadata.annotations[qos.projectcalico.org/egressPeakrate]",
            "metadata.annotations[qos.projectcalico.org/dscp]",
        ]
    );
}

#[test]
fn profile_revisions_join_and_split() {
    assert_eq!(split_profile_revision(&join_profile_revisions("12", "34")), Some(("12", "34")));
    assert_eq!(split_profile_revision(&join_profile_revisions("", "34")), Some(("", "34")));
    assert_eq!(split_profile_revision("0"), Some(("0", "0")));
    assert_eq!(split_profile_revision("1/2/3"), None);
    assert_eq!(split_profile_revision("12"), None);
}

#[test]
fn a_baseline_policy_without_usable_subject_is_skipped() {
    let policy = |subject: Value| {
        let spec = json!({ "tier": "Baseline", "subject": subject });
        let policy =
            serde_json::from_value(json!({ "metadata": { "name": "default" }, "spec": spec })).unwrap();
        cluster_network_policy(&policy)
    };
    assert_eq!(policy(json!({})).unwrap_err().path, "spec.subject");
    assert_eq!(policy(json!({ "namespaces": {}, "pods": {} })).unwrap_err().path, "spec.subject");
    let spec = policy(json!({ "pods": {} })).unwrap().policy.spec;
    assert_eq!((spec.tier.as_str(), spec.order), ("kube-baseline", Some(0.0)));
}

#[test]
fn nodes_are_left_out_of_what_is_accepted_and_never_out_of_what_is_denied() {
    let convert = |action: &str, to: Value| {
        let spec = json!({
            "tier": "Admin",
            "subject": { "namespaces": {} },
            "egress": [{ "action": action, "to": to }],
        });
        cluster_network_policy(&serde_json::from_value(json!({ "spec": spec })).unwrap()).unwrap()
    };
    let some = json!([{ "networks": ["10.0.0.0/8"] }, { "nodes": {} }]);
    let accepted = convert("Accept", some.clone());
    assert_eq!(accepted.policy.spec.egress.len(), 1);
    assert_eq!(accepted.dropped_rules[0].error.path, "spec.egress[0].to[1].nodes");
    assert_eq!(convert("Deny", some).policy.spec.egress, [crate::Rule::new(crate::Action::Deny)]);
    assert!(convert("Accept", json!([{ "domainNames": ["example.org"] }])).policy.spec.egress.is_empty());
}

#[test]
fn a_range_that_leaves_the_ports_behind_ends_with_the_last_but_is_no_user_s_to_write() {
    let spec = json!({ "ingress": [{ "ports": [{ "port": 30000, "endPort": 65537 }] }] });
    let rules = network_policy(&policy(spec.clone())).unwrap().policy.spec.ingress;
    assert_eq!(rules[0].destination.ports, [Port::Range(30000, 65535)]);
    assert_eq!(
        stored_policy(spec).unwrap_err(),
        ["spec.ingress[0].ports[0].endPort: \"65537\" is above 65535"]
    );
}

#[test]
fn applied_objects_are_stored_under_calico_s_names() {
    let key = |resource: Result<crate::Resource, Vec<String>>| resource.unwrap().key();
    let labelled =
        json!({ "name": "n", "labels": { "env": "x" }, "uid": "none of ours", "resourceVersion": "7" });
    assert_eq!(
        key(stored_policy(json!({ "podSelector": {} }))),
        Key::namespaced(Kind::NetworkPolicy, "n", "knp.default.p")
    );
    assert_eq!(
        key(stored(("v1", "Namespace"), labelled.clone(), json!({ "finalizers": ["kubernetes"] }))),
        Key::cluster(Kind::Profile, "kns.n")
    );
    assert_eq!(
        key(stored(("v1", "ServiceAccount"), labelled, Value::Null)),
        Key::cluster(Kind::Profile, "ksa.default.n")
    );
}

#[test]
fn a_stored_policy_says_what_the_api_server_would_have_added() {
    let Ok(crate::Resource::NetworkPolicy(policy)) = stored_policy(json!({ "egress": [{}] })) else {
        panic!("a network policy")
    };
    assert_eq!(policy.spec.types, [PolicyType::Ingress, PolicyType::Egress]);
    assert_eq!((policy.spec.tier.as_str(), policy.spec.order), ("default", Some(1000.0)));
    assert_eq!(policy.metadata, crate::Metadata::namespaced("n", "knp.default.p"));
}

#[test]
fn mistakes_of_users_are_named_by_field() {
    let errors = |spec: Value| stored_policy(spec).unwrap_err().join("; ");
    assert_eq!(
        errors(json!({ "ingress": [{ "from": [{ "ipBlock": { "cdir": "10.0.0.0/8" } }] }] })),
        "spec.ingress[0].from[0].ipBlock.cdir: \"10.0.0.0/8\" is not a field here; did you mean \"cidr\"?"
    );
    assert_eq!(
        errors(json!({ "egress": [{ "to": [{ "ipBlock": { "cidr": "10.0.0.300/8" } }] }] })),
        "spec.egress[0].to[0].ipBlock.cidr: \"10.0.0.300/8\" is not a CIDR such as 10.0.0.0/24 or fd00::/64"
    );
    assert_eq!(
        errors(
            json!({ "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }] }] })
        ),
        "spec.ingress[0].from[0].ipBlock.except[0]: \"11.0.0.0/16\" is not a smaller network inside 10.0.0.0/8"
    );
    assert_eq!(
        errors(json!({ "policyTypes": ["Ingres"] })),
        "spec.policyTypes[0]: \"Ingres\" is not one of Ingress, Egress"
    );
    assert_eq!(
        errors(json!({ "ingress": [{ "ports": [{ "port": 70000 }, { "port": 80, "protocol": "ICMP" }] }] })),
        "spec.ingress[0].ports[0].port: \"70000\" is not a port number: 1..65535"
    );
    let name = json!({ "name": "Upper" });
    let error = stored(("v1", "Namespace"), name, Value::Null).unwrap_err().join("; ");
    assert!(error.starts_with("metadata.name: \"Upper\" is not a name"), "{error}");
}

#[test]
fn other_kinds_are_refused_by_name() {
    let error = stored(("v1", "Pod"), json!({ "name": "p" }), json!({})).unwrap_err().join("; ");
    assert!(error.contains("v1 Pod") && error.contains("networking.k8s.io/v1 NetworkPolicy"), "{error}");
    assert!(!is_storable("projectcalico.org/v3", "NetworkPolicy"));
    assert!(is_storable("networking.k8s.io/v1", "NetworkPolicy"));
}

#[test]
fn errors_know_the_line_of_their_field() {
    let leaf = |line, text: &str| crate::decode::Tree {
        line,
        content: crate::decode::Content::Plain(text.to_owned()),
    };
    let map = |line, entries: Vec<(&str, crate::decode::Tree)>| crate::decode::Tree {
        line,
        content: crate::decode::Content::Map(
            entries.into_iter().map(|(key, tree)| (key.to_owned(), tree)).collect(),
        ),
    };
    let labels = map(8, vec![("a.b/c", leaf(9, "-x"))]);
    let tree = map(
        1,
        vec![
            ("apiVersion", leaf(1, "networking.k8s.io/v1")),
            ("kind", leaf(2, "NetworkPolicy")),
            ("metadata", map(4, vec![("name", leaf(4, "p"))])),
            ("spec", map(6, vec![("podSelector", map(7, vec![("matchLabels", labels)]))])),
        ],
    );
    let problems = super::stored::stored_from_tree(&tree).unwrap_err();
    assert_eq!((problems[0].line, problems[0].field.as_str()), (9, "spec.podSelector.matchLabels[a.b/c]"));
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let number = prop_oneof![0u16..20, 65530u16..=65535];
    let port = prop_oneof![
        number.clone().prop_map(Port::Number),
        (number.clone(), number).prop_map(|(a, b)| Port::Range(a.min(b), a.max(b))),
        "[a-c]".prop_map(Port::Named),
    ];
    prop::collection::vec(port, 0..12)
}

proptest! {
    #[test]
    fn simplified_ports_are_the_same_ports_in_separate_ranges(ports in ports()) {
        let covered = |ports: &[Port], wanted: u16| {
            ports.iter().filter_map(Port::range).any(|(first, last)| (first..=last).contains(&wanted))
        };
        let names = |ports: &[Port]| ports.iter().filter(|port| port.range().is_none()).cloned().collect::<Vec<_>>();
        let simplified = simplify_ports(ports.clone());
        for wanted in (0..25).chain(65525..=65535) {
            prop_assert_eq!(covered(&ports, wanted), covered(&simplified, wanted), "{}", wanted);
        }
        prop_assert_eq!(names(&ports), names(&simplified));
        let ranges: Vec<_> = simplified.iter().filter_map(Port::range).collect();
        prop_assert!(ranges.windows(2).all(|pair| u32::from(pair[0].1) + 1 < u32::from(pair[1].0)), "{ranges:?}");
    }

    #[test]
    fn every_label_selector_becomes_a_selector_or_an_error(
        labels in prop::collection::btree_map("[-a-z./'\"&|() ]{0,6}", "[-a-z.'\"&|() ]{0,6}", 0..3),
        key in "[-a-z./']{0,4}",
        operator in prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist", "Gt", ""]),
        values in prop::collection::vec("[-a-z.']{0,4}", 0..3),
    ) {
        let expression = LabelSelectorRequirement { key, operator: operator.to_owned(), values };
        let selector = LabelSelector { match_labels: labels.clone(), match_expressions: vec![expression] };
        if let Ok(text) = super::label_selector::of_pods(Some(&selector)) {
            let parsed = Selector::parse(&text).unwrap();
            let mut all = labels;
            all.insert("projectcalico.org/orchestrator".to_owned(), "cni".to_owned());
            prop_assert!(!parsed.matches(&all), "{text} matches what is no pod");
        }
    }
}
