use bgp::policy::{Route, RouteAttributes, SourceMatch, Verdict};

use super::*;

/// What the export policy of a peer with a filter of one rule says of a prefix from another peer.
fn exported(rule: &Value, prefix: &str) -> bool {
    let mut planner = planner();
    let filter = resource("f", &json!({"exportV4": [rule, {"action": "Reject"}]}));
    set(&mut planner, &Key::cluster(Kind::BGPFilter, "f"), Some(filter));
    let peer = resource("p", &json!({"peerIP": "10.0.0.9", "asNumber": 65001, "filters": ["f"]}));
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(peer));
    let plan = planner.plan();
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    let peer = plan.peers.iter().find(|peer| peer.remote_as == 65001).unwrap();
    let attributes = RouteAttributes::default();
    let route = Route {
        prefix: prefix.parse().unwrap(),
        source: SourceMatch::Learned,
        peer: Some(peer.kind()),
        next_hop: Some([10, 0, 0, 2].into()),
        interface: None,
        attributes: &attributes,
    };
    peer.export.trace(&route).verdict == Verdict::Accept
}

#[test]
fn operators_compare_a_prefix_as_their_names_say() {
    let rule = |operator: &str, lengths: Option<Value>| {
        let mut rule = json!({"action": "Accept", "cidr": "10.1.0.0/16", "matchOperator": operator});
        if let Some(lengths) = lengths {
            rule["prefixLength"] = lengths;
        }
        rule
    };
    // The prefix itself, one inside, one around it, one beside it.
    let prefixes = ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "10.2.0.0/16"];
    let cases = [
        ("Equal", None, [true, false, false, false]),
        ("NotEqual", None, [false, true, true, true]),
        ("In", None, [true, true, false, false]),
        ("NotIn", None, [false, false, true, true]),
        ("In", Some(json!({"min": 24})), [false, true, false, false]),
        ("In", Some(json!({"max": 16})), [true, false, false, false]),
        ("NotIn", Some(json!({"min": 24, "max": 32})), [true, false, true, true]),
    ];
    for (operator, lengths, expected) in cases {
        let rule = rule(operator, lengths.clone());
        let found = prefixes.map(|prefix| exported(&rule, prefix));
        assert_eq!(found, expected, "{operator} {lengths:?}");
    }
}

#[test]
fn a_filter_that_does_not_exist_is_said_and_passed_over() {
    let mut planner = planner();
    let peer = resource("p", &json!({"peerIP": "10.0.0.9", "asNumber": 65001, "filters": ["gone"]}));
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(peer));
    let plan = planner.plan();
    let problems: Vec<String> = plan.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "BGPPeer p: spec.filters[0]: BGPFilter gone does not exist; the peer goes without it, as in Calico; create \
          the BGPFilter, or leave it out"
        ]
    );
    assert_eq!(plan.peers.len(), 2);
}

fn filter_with(tests: &str) -> api::BGPFilter {
    let document = json!({
        "metadata": {"name": "f", "annotations": {FILTER_TESTS: tests}},
        "spec": {
            "importV4": [
                {"action": "Reject", "cidr": "0.0.0.0/0", "matchOperator": "Equal"},
                {"action": "Accept", "peerType": "eBGP", "asPathPrefix": [65001],
                 "operations": [{"addCommunity": {"value": "65000:7"}}, {"setPriority": {"value": 100}},
                                {"prependASPath": {"prefix": [65009]}}]}
            ]
        }
    });
    let key = Key::cluster(Kind::BGPFilter, "f");
    match Row::decode(&key, &document.to_string()).unwrap() {
        Row::Resource(api::Resource::BGPFilter(filter)) => *filter,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_filter_that_does_what_its_cases_say_passes() {
    let cases = json!([
        {"name": "no default", "direction": "import", "route": {"prefix": "0.0.0.0/0"},
         "expect": {"action": "Reject"}},
        {"name": "marked", "direction": "import",
         "route": {"prefix": "10.0.0.0/8", "asPath": [65001, 2], "communities": ["1:2:3"]},
         "expect": {"action": "Accept", "communities": ["65000:7", "1:2:3"], "priority": 100,
                    "asPath": [65009, 65001, 2]}},
        {"name": "internal", "direction": "import", "peerType": "iBGP",
         "route": {"prefix": "10.0.0.0/8", "asPath": [65001]}, "expect": {"action": "NoMatch"}},
        {"name": "export", "direction": "export", "route": {"prefix": "10.0.0.0/8"},
         "expect": {"action": "NoMatch"}}
    ]);
    assert_eq!(check_filter(&filter_with(&cases.to_string())), Ok(4));
}

#[test]
fn a_case_that_fails_says_what_was_expected_and_which_rule_decided() {
    let cases = json!([{
        "name": "open", "direction": "import", "route": {"prefix": "0.0.0.0/0"}, "expect": {"action": "Accept"}
    }]);
    let errors = check_filter(&filter_with(&cases.to_string())).unwrap_err();
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "BGPFilter f: test case \"open\": expected Accept, got Reject (by BGPFilter f importV4[0]); correct the filter \
          or the case"
        ]
    );
}

#[test]
fn cases_that_cannot_be_read_are_errors_and_a_filter_without_cases_is_fine() {
    for tests in ["{", r#"[{"name": "x"}]"#, r#"[{"name": "x", "directon": "import"}]"#] {
        let errors = check_filter(&filter_with(tests)).unwrap_err();
        assert!(matches!(&errors[..], [FilterTestError::Unreadable { .. }]), "{errors:?}");
    }
    let mut filter = filter_with("[]");
    filter.metadata.annotations.clear();
    assert_eq!(check_filter(&filter), Ok(0));
}
