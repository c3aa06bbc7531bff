//! Rules of resources that `validation.jsonl` does not touch, or touches from one side only: for each, what is accepted
//! beside it and what is refused, at which field and for which reason.

use api::Resource;
use serde_json::{Value, json};

/// All violations of a resource, a line for each.
fn violations(kind: &str, name: &str, spec: Value) -> Vec<String> {
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec,
    });
    violations_of(&value)
}

fn violations_of(value: &Value) -> Vec<String> {
    let checked = Resource::from_value(value).and_then(|mut resource| {
        resource.apply_defaults();
        resource.validate()
    });
    checked.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn accepts(kind: &str, name: &str, spec: Value) {
    let found = violations(kind, name, spec.clone());
    assert!(found.is_empty(), "{kind} {name} {spec}: {found:?}");
}

/// Exactly one violation, which begins so.
fn refuses(kind: &str, name: &str, spec: Value, expected: &str) {
    let found = violations(kind, name, spec.clone());
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "{kind} {name} {spec}: {found:?}, not {expected:?}"
    );
}

fn ingress(rule: Value) -> Value {
    json!({ "ingress": [rule] })
}

fn egress(rule: Value) -> Value {
    json!({ "egress": [rule] })
}

#[test]
fn untracked_and_pre_dnat_policies_need_apply_on_forward() {
    let kind = "GlobalNetworkPolicy";
    accepts(kind, "p", json!({"doNotTrack": true, "applyOnForward": true}));
    refuses(kind, "p", json!({"doNotTrack": true}), "spec.doNotTrack: \"true\" needs applyOnForward");
    refuses(kind, "p", json!({"preDNAT": true}), "spec.preDNAT: \"true\" needs applyOnForward");
}

#[test]
fn a_policys_word_on_established_connections_is_keep_or_recheck() {
    let refused = |kind: &str, word: &str| {
        violations_of(&json!({
            "apiVersion": "projectcalico.org/v3",
            "kind": kind,
            "metadata": {"name": "x", "annotations": {"tortie.dev/established": word}},
            "spec": {},
        }))
    };
    for kind in ["NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy"] {
        assert_eq!(refused(kind, "keep"), Vec::<String>::new());
        assert_eq!(refused(kind, "recheck"), Vec::<String>::new());
        let field = "metadata.annotations[tortie.dev/established]";
        assert_eq!(refused(kind, "cut"), [format!("{field}: \"cut\" is neither keep nor recheck")]);
    }
    assert_eq!(refused("Tier", "keep").len(), 1);
}

#[test]
fn lists_of_a_policy_have_limits() {
    let rules = |count: usize| json!({"ingress": vec![json!({"action": "Allow"}); count]});
    accepts("NetworkPolicy", "p", rules(1024));
    refuses("NetworkPolicy", "p", rules(1025), "spec.ingress has 1025 entries, but may have 1024");
    let nets =
        |count: usize| ingress(json!({"action": "Deny", "source": {"nets": vec!["10.0.0.0/8"; count]}}));
    accepts("NetworkPolicy", "p", nets(256));
    refuses("NetworkPolicy", "p", nets(257), "spec.ingress[0].source.nets has 257");
    let ports = |count: usize| {
        egress(json!({"action": "Deny", "protocol": "UDP", "destination": {"notPorts": vec![53; count]}}))
    };
    accepts("NetworkPolicy", "p", ports(50));
    refuses("NetworkPolicy", "p", ports(51), "spec.egress[0].destination.notPorts has 51");
}

#[test]
fn selectors_may_have_1024_characters() {
    let selector =
        |length: usize| json!({"selector": format!("a == '{}'", "x".repeat(length - "a == ''".len()))});
    accepts("NetworkPolicy", "p", selector(1024));
    refuses("NetworkPolicy", "p", selector(1025), "spec.selector is 1025 characters long");
}

#[test]
fn ports_need_a_protocol_that_has_ports() {
    let rule = |protocol: Value, port: Value| {
        ingress(json!({"action": "Allow", "protocol": protocol, "destination": {"ports": [port]}}))
    };
    accepts("NetworkPolicy", "p", rule(json!(132), json!(80)));
    accepts("NetworkPolicy", "p", rule(json!(null), json!("http")));
    let field = "spec.ingress[0].destination.ports[0]";
    refuses(
        "NetworkPolicy",
        "p",
        rule(json!(null), json!("80:90")),
        &format!("{field}: \"80:90\" needs protocol"),
    );
    refuses(
        "NetworkPolicy",
        "p",
        rule(json!("UDPLite"), json!(80)),
        &format!("{field}: \"80\" means nothing"),
    );
    refuses(
        "NetworkPolicy",
        "p",
        rule(json!("ICMP"), json!("http")),
        &format!("{field}: \"http\" means nothing"),
    );
}

#[test]
fn icmp_numbers_name_the_version_too() {
    let rule = |protocol: Value, version: i32| {
        ingress(json!({"action": "Allow", "protocol": protocol, "ipVersion": version}))
    };
    accepts("NetworkPolicy", "p", rule(json!(58), 6));
    refuses(
        "NetworkPolicy",
        "p",
        rule(json!(58), 4),
        "spec.ingress[0].protocol: \"58\" is a protocol of IPv6",
    );
    refuses("NetworkPolicy", "p", rule(json!(1), 6), "spec.ingress[0].protocol: \"1\" is a protocol of IPv4");
    let not = |version: i32| ingress(json!({"action": "Allow", "notProtocol": "ICMP", "ipVersion": version}));
    accepts("NetworkPolicy", "p", not(4));
    refuses("NetworkPolicy", "p", not(6), "spec.ingress[0].notProtocol: \"ICMP\" is a protocol of IPv4");
    let not_icmp = ingress(json!({"action": "Allow", "notICMP": {"code": 1}}));
    refuses("NetworkPolicy", "p", not_icmp, "spec.ingress[0].notICMP.code: \"1\" needs a type");
}

#[test]
fn networks_of_a_rule_are_of_one_version_whichever_list_they_are_in() {
    let rule = json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8"], "notNets": ["fd00::/64"]}});
    refuses(
        "NetworkPolicy",
        "p",
        ingress(rule),
        "spec.ingress[0].source.notNets[0]: \"fd00::/64\" is IPv6, but source.nets[0]",
    );
}

#[test]
fn services_stand_on_the_right_side_and_alone() {
    let services = json!({"name": "s", "namespace": "n"});
    accepts(
        "GlobalNetworkPolicy",
        "p",
        egress(json!({"action": "Allow", "destination": {"services": services}})),
    );
    let with_accounts = json!({"services": services, "serviceAccounts": {"names": ["a"]}});
    let rule = egress(json!({"action": "Allow", "destination": with_accounts}));
    refuses(
        "NetworkPolicy",
        "p",
        rule,
        "spec.egress[0].destination.serviceAccounts cannot be combined with services",
    );
    let rule = egress(json!({"action": "Allow", "source": {"services": services}}));
    refuses(
        "NetworkPolicy",
        "p",
        rule,
        "spec.egress[0].source.services can only be the destination of egress",
    );
    let rule = ingress(json!({"action": "Allow", "destination": {"services": services}}));
    refuses(
        "NetworkPolicy",
        "p",
        rule,
        "spec.ingress[0].destination.services can only be the source of ingress",
    );
    let rule = egress(
        json!({"action": "Allow", "protocol": "TCP", "destination": {"services": services, "ports": [80]}}),
    );
    refuses("NetworkPolicy", "p", rule, "spec.egress[0].destination.ports cannot be combined");
}

#[test]
fn http_matches_have_sound_paths_and_methods() {
    let http = |http: Value| ingress(json!({"action": "Allow", "http": http}));
    accepts("NetworkPolicy", "p", http(json!({"methods": ["GET", "PUT"], "paths": [{"exact": "/a"}]})));
    let cases = [
        (json!({"methods": ["GET", "GET"]}), "methods[1]: \"GET\" is there twice"),
        (json!({"methods": vec!["GET"; 21]}), "methods has 21 entries"),
        (json!({"paths": [{"exact": "a"}]}), "paths[0].exact: \"a\" has to start with /"),
        (json!({"paths": [{"prefix": "/a?b"}]}), "paths[0].prefix: \"/a?b\" holds '?'"),
        (json!({"paths": [{"prefix": "/a b"}]}), "paths[0].prefix: \"/a b\" holds ' '"),
        (json!({"paths": [{"exact": "/a", "prefix": "/a"}]}), "paths[0] has to have exactly one"),
        (json!({"paths": [{}]}), "paths[0] has to have exactly one"),
        (
            json!({"paths": [{"exact": format!("/{}", "a".repeat(1024))}]}),
            "paths[0].exact is longer than 1024",
        ),
    ];
    for (match_, expected) in cases {
        let found = violations("NetworkPolicy", "p", http(match_));
        assert!(found[0].starts_with(&format!("spec.ingress[0].http.{expected}")), "{found:?}");
    }
}

#[test]
fn annotations_of_rules_have_keys_like_any_other() {
    let rule = |key: &str| {
        ingress(json!({"action": "Allow", "metadata": {"annotations": {key: "anything at all"}}}))
    };
    accepts("NetworkPolicy", "p", rule("example.com/Note"));
    refuses("NetworkPolicy", "p", rule("..."), "spec.ingress[0].metadata.annotations: \"...\" is not a key");
}

#[test]
fn a_staged_deletion_says_nothing_but_the_tier() {
    let kind = "StagedGlobalNetworkPolicy";
    accepts(kind, "p", json!({"stagedAction": "Delete", "tier": "t"}));
    let with = |field: &str, value: Value| json!({"stagedAction": "Delete", field: value});
    refuses(kind, "p", with("order", json!(1)), "spec.order has to be absent");
    refuses(kind, "p", with("types", json!(["Ingress"])), "spec.types has to be absent");
    refuses(kind, "p", with("namespaceSelector", json!("all()")), "spec.namespaceSelector has to be absent");
    refuses(kind, "p", with("applyOnForward", json!(true)), "spec.applyOnForward has to be absent");
    refuses(
        "StagedKubernetesNetworkPolicy",
        "p",
        with("policyTypes", json!(["Egress"])),
        "spec.policyTypes has to be",
    );
}

#[test]
fn staged_kubernetes_policies_follow_kubernetes() {
    let kind = "StagedKubernetesNetworkPolicy";
    let peer = |peer: Value| json!({"ingress": [{"from": [peer]}]});
    accepts(kind, "p", peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})));
    accepts(kind, "p", peer(json!({"podSelector": {}, "namespaceSelector": {}})));
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}});
    refuses(
        kind,
        "p",
        peer(block),
        "spec.ingress[0].from[0].ipBlock.except[0]: \"11.0.0.0/16\" is not a smaller",
    );
    refuses(kind, "p", peer(json!({})), "spec.ingress[0].from[0] has to have");
    let both = json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}});
    refuses(kind, "p", peer(both), "spec.ingress[0].from[0].ipBlock cannot be combined");
    let port = |port: Value| json!({"egress": [{"ports": [port]}]});
    accepts(kind, "p", port(json!({"protocol": "TCP", "port": 80, "endPort": 90})));
    refuses(
        kind,
        "p",
        port(json!({"port": 80, "endPort": 70})),
        "spec.egress[0].ports[0].endPort: \"70\" is below",
    );
    refuses(
        kind,
        "p",
        port(json!({"port": "http", "endPort": 70})),
        "spec.egress[0].ports[0].endPort: \"70\" needs",
    );
    refuses(
        kind,
        "p",
        port(json!({"protocol": "ICMP"})),
        "spec.egress[0].ports[0].protocol: \"ICMP\" has no ports",
    );
    let selector = |operator: &str, values: Value| json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}});
    accepts(kind, "p", selector("In", json!(["b"])));
    refuses(kind, "p", selector("In", json!([])), "spec.podSelector.matchExpressions[0].values are required");
    refuses(
        kind,
        "p",
        selector("Exists", json!(["b"])),
        "spec.podSelector.matchExpressions[0].values have to be absent",
    );
}

#[test]
fn pools_have_sound_blocks_and_ranges() {
    let pool = |cidr: &str, block: i32| json!({"cidr": cidr, "blockSize": block});
    accepts("IPPool", "p", pool("10.0.0.0/20", 20));
    accepts("IPPool", "p", pool("fd00::/116", 128));
    refuses("IPPool", "p", pool("10.0.0.0/8", 19), "spec.blockSize: \"19\" is out of range: 20..32");
    refuses("IPPool", "p", pool("fd00::/64", 115), "spec.blockSize: \"115\" is out of range: 116..128");
    refuses("IPPool", "p", json!({"cidr": "10.0.0.1/16"}), "spec.cidr: \"10.0.0.1/16\" has bits beyond");
    refuses(
        "IPPool",
        "p",
        json!({"cidr": "169.0.0.0/8"}),
        "spec.cidr: \"169.0.0.0/8\" overlaps the link-local",
    );
    refuses("IPPool", "p", json!({"cidr": "fe00::/8"}), "spec.cidr: \"fe00::/8\" overlaps the link-local");
    let twice = json!({"cidr": "10.0.0.0/16", "allowedUses": ["Workload", "Workload"]});
    refuses("IPPool", "p", twice, "spec.allowedUses[1]: \"Workload\" is there twice");
}

#[test]
fn a_pool_for_some_namespaces_is_by_default_for_workloads_only() {
    let spec = json!({"cidr": "10.0.0.0/16", "namespaceSelector": "all()"});
    accepts("IPPool", "p", spec.clone());
    let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec});
    let mut pool = Resource::from_value(&value).unwrap();
    pool.apply_defaults();
    assert_eq!(pool.to_value()["spec"]["allowedUses"], json!(["Workload"]));
}

fn pool(name: &str, cidr: &str, block_size: Option<u8>) -> api::IPPool {
    let spec = api::IPPoolSpec { block_size, ..api::IPPoolSpec::new(cidr.parse().unwrap()) };
    api::IPPool::new(api::Metadata::named(name), spec)
}

#[test]
fn pools_do_not_overlap() {
    let new = pool("new", "10.0.0.0/16", None);
    let others =
        [pool("new", "10.0.0.0/16", None), pool("far", "10.1.0.0/16", None), pool("v6", "fd00::/64", None)];
    assert_eq!(new.validate_among(&others), Ok(()));
    let error = new.validate_among(&[pool("wide", "10.0.0.0/8", None)]).unwrap_err();
    assert_eq!(error[0].to_string(), "spec.cidr: \"10.0.0.0/16\" overlaps 10.0.0.0/8 of IPPool wide");
}

#[test]
fn range_and_block_size_of_a_pool_do_not_change() {
    let before = pool("p", "10.0.0.0/16", None);
    assert_eq!(pool("p", "10.0.0.0/16", Some(26)).validate_change(&before), Ok(()));
    let fields = |pool: api::IPPool| -> Vec<String> {
        pool.validate_change(&before).unwrap_err().into_iter().map(|violation| violation.field).collect()
    };
    assert_eq!(fields(pool("p", "10.0.0.0/17", Some(27))), ["spec.cidr", "spec.blockSize"]);
}

#[test]
fn ipam_settings_that_isolate_nodes_need_strict_affinity() {
    let kind = "IPAMConfiguration";
    accepts(
        kind,
        "default",
        json!({"strictAffinity": true, "maxBlocksPerHost": 5, "autoAllocateBlocks": false}),
    );
    refuses(
        kind,
        "default",
        json!({"maxBlocksPerHost": 5}),
        "spec.maxBlocksPerHost: \"5\" needs strictAffinity",
    );
    refuses(
        kind,
        "default",
        json!({"autoAllocateBlocks": false}),
        "spec.autoAllocateBlocks: \"false\" needs",
    );
    refuses(
        kind,
        "default",
        json!({"ipCooldownSeconds": 1201}),
        "spec.ipCooldownSeconds: \"1201\" is out of range",
    );
    refuses(kind, "other", json!({}), "metadata.name: \"other\" has to be \"default\"");
}

#[test]
fn bfd_of_a_peer_is_within_what_a_scheduler_can_keep() {
    let peer = |bfd: Value| json!({"peerIP": "10.0.0.1", "bfd": bfd});
    accepts("BGPPeer", "p", peer(json!({})));
    accepts(
        "BGPPeer",
        "p",
        peer(json!({"interval": "10ms", "multiplier": 1, "multihop": true, "strict": true})),
    );
    accepts("BGPPeer", "p", peer(json!({"interval": "1m", "multiplier": 255})));
    for interval in ["9ms", "1m1s", "-1s"] {
        let expected = format!("spec.bfd.interval: \"{interval}\" is out of range: 10ms..1m");
        refuses("BGPPeer", "p", peer(json!({"interval": interval})), &expected);
    }
    refuses("BGPPeer", "p", peer(json!({"multiplier": 0})), "spec.bfd.multiplier: \"0\"");
    refuses("BGPPeer", "p", peer(json!({"multiplier": 256})), "spec.bfd.multiplier");
    refuses("BGPPeer", "p", peer(json!({"demand": true})), "spec.bfd.demand");
}

#[test]
fn settings_of_the_whole_cluster_are_in_the_default_bgp_configuration() {
    let kind = "BGPConfiguration";
    accepts(kind, "node.n", json!({"logSeverityScreen": "Debug"}));
    accepts(kind, "default", json!({"asNumber": "1.10"}));
    refuses(
        kind,
        "node.n",
        json!({"asNumber": 64512}),
        "spec.asNumber can only be set in the BGPConfiguration default",
    );
    refuses(kind, "default", json!({"listenPort": 0}), "spec.listenPort: \"0\" is not a port");
    refuses(
        kind,
        "default",
        json!({"ipv4NormalRoutePriority": 0}),
        "spec.ipv4NormalRoutePriority: \"0\" is out of range",
    );
    let communities = json!({
        "communities": [{"name": "c", "value": "1:2"}],
        "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "1:2:3"]}],
    });
    accepts(kind, "default", communities);
}

#[test]
fn route_reflection_is_a_matter_of_a_cluster_with_a_mesh() {
    let kind = "BGPConfiguration";
    let reflection = |reflection: Value| json!({"routeReflection": reflection});
    accepts(kind, "default", reflection(json!({})));
    accepts(
        kind,
        "default",
        reflection(json!({
            "meshLimit": 0, "reflectors": 4, "reflectorsPerClient": 3,
            "topologyLabels": ["zone"], "nodeSelector": "has(reflect)", "settleTime": "5s",
        })),
    );
    let only = "spec.routeReflection can only be set in the BGPConfiguration default";
    refuses(kind, "node.n", reflection(json!({"meshLimit": 1})), only);
    let without_mesh = json!({"nodeToNodeMeshEnabled": false, "routeReflection": {"meshLimit": 1}});
    refuses(kind, "default", without_mesh, "spec.routeReflection means nothing while");
    for (spec, expected) in [
        (json!({"reflectors": 1001}), "spec.routeReflection.reflectors: \"1001\" is out of range"),
        (
            json!({"reflectorsPerClient": 9}),
            "spec.routeReflection.reflectorsPerClient: \"9\" is out of range",
        ),
        (
            json!({"reflectors": 2, "reflectorsPerClient": 3}),
            "spec.routeReflection.reflectors: \"2\" is less than",
        ),
        (json!({"settleTime": "900ms"}), "spec.routeReflection.settleTime: \"900ms\" is not between"),
        (json!({"settleTime": "2h"}), "spec.routeReflection.settleTime: \"2h0m0s\" is not between"),
        (json!({"topologyLabels": [""]}), "spec.routeReflection.topologyLabels[0] is the empty text"),
        (json!({"nodeSelector": "all("}), "spec.routeReflection.nodeSelector: \"all(\" is not a selector"),
    ] {
        refuses(kind, "default", reflection(spec), expected);
    }
}

#[test]
fn monitoring_stations_can_be_dialled_and_are_there_once() {
    let kind = "BGPConfiguration";
    let stations = |stations: Value| json!({"bmpStations": stations});
    let full = json!({
        "address": "2001:db8::9", "port": 1790, "views": ["PrePolicy", "PostPolicy", "LocRIB"],
        "statisticsInterval": "30s", "nodeSelector": "has(rack)",
    });
    for name in ["default", "node.n"] {
        accepts(
            kind,
            name,
            stations(json!([{"address": "10.0.0.9"}, {"address": "10.0.0.9", "port": 1}, full])),
        );
    }
    for (list, expected) in [
        (json!([{"address": "0.0.0.0"}]), "spec.bmpStations[0].address: \"0.0.0.0\" cannot be dialled"),
        (json!([{"address": "10.0.0.9", "port": 0}]), "spec.bmpStations[0].port: \"0\" is not a port"),
        (
            json!([{"address": "10.0.0.9"}, {"address": "10.0.0.9", "port": 11019}]),
            "spec.bmpStations[1].address: \"10.0.0.9:11019\" is there twice",
        ),
        (
            json!([{"address": "10.0.0.9", "statisticsInterval": "10ms"}]),
            "spec.bmpStations[0].statisticsInterval: \"10ms\" is less than 1s",
        ),
        (
            json!([{"address": "10.0.0.9", "nodeSelector": "all("}]),
            "spec.bmpStations[0].nodeSelector: \"all(\" is not a selector",
        ),
        (
            json!((1..10).map(|last| json!({"address": format!("10.0.0.{last}")})).collect::<Vec<_>>()),
            "spec.bmpStations has 9 entries, but may have 8 at most",
        ),
    ] {
        refuses(kind, "default", stations(list), expected);
    }
}

#[test]
fn aggregates_are_prefixes_that_are_there_once() {
    let aggregates = |aggregates: Value| json!({"aggregates": aggregates});
    let full = json!({"cidr": "2001:db8::/32", "summaryOnly": true, "internalPeers": true});
    for name in ["default", "node.n"] {
        accepts("BGPConfiguration", name, aggregates(json!([{"cidr": "10.65.0.0/16"}, full])));
    }
    refuses(
        "BGPConfiguration",
        "default",
        aggregates(json!([{"cidr": "10.65.0.0/16"}, {"cidr": "10.65.1.0/16", "summaryOnly": true}])),
        "spec.aggregates[1].cidr: \"10.65.0.0/16\" is there twice",
    );
}

#[test]
fn filters_of_bgp_routes_follow_their_rules() {
    let kind = "BGPFilter";
    let rule = |rule: Value| json!({"importV4": [rule]});
    let good = json!({
        "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 16, "max": 24}, "peerType": "eBGP",
        "communities": {"values": ["1:2"]}, "asPathPrefix": [65000, "1.1"], "priority": 5, "action": "Accept",
    });
    accepts(kind, "f", rule(good));
    let cases = [
        (
            json!({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}),
            "operations needs action Accept",
        ),
        (json!({"action": "Accept", "operations": []}), "operations is empty"),
        (
            json!({"action": "Accept", "operations": [{"setPriority": {"value": 0}}]}),
            "operations[0].setPriority.value: \"0\"",
        ),
        (
            json!({"action": "Accept", "operations": [{"prependASPath": {"prefix": vec![1; 11]}}]}),
            "operations[0].prependASPath.prefix has 11",
        ),
        (
            json!({"action": "Accept", "communities": {"values": ["1:2", "1:3"]}}),
            "communities.values has to have exactly one",
        ),
        (json!({"action": "Accept", "priority": 2_147_483_647}), "priority: \"2147483647\" is out of range"),
        (
            json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"min": 20, "max": 10}}),
            "prefixLength.min: \"20\" is above max 10",
        ),
        (
            json!({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}),
            "cidr: \"fd00::/8\" is not IPv4",
        ),
    ];
    for (bad, expected) in cases {
        refuses(kind, "f", rule(bad), &format!("spec.importV4[0].{expected}"));
    }
}

#[test]
fn peers_name_their_address_or_select_it() {
    for (text, ip, port) in [
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:1790", "10.0.0.1", Some(1790)),
        ("fd00::1", "fd00::1", None),
        ("[fd00::1]:1790", "fd00::1", Some(1790)),
    ] {
        let address: api::PeerAddress = text.parse().unwrap();
        assert_eq!((address.ip.to_string().as_str(), address.port), (ip, port));
    }
    refuses("BGPPeer", "p", json!({"peerIP": "host"}), "spec.peerIP: \"host\" is not the address of a peer");
    accepts("BGPPeer", "p", json!({"families": ["IPv6", "IPv4"]}));
    let alias = json!({"peerIP": "10.0.0.2", "asNumber": 64512, "aliasASNumber": 64999});
    accepts("BGPPeer", "p", alias);
    refuses(
        "BGPPeer",
        "p",
        json!({"peerIP": "10.0.0.2", "asNumber": 64512, "aliasASNumber": 64512}),
        "spec.aliasASNumber: \"64512\" is asNumber",
    );
    refuses(
        "BGPPeer",
        "p",
        json!({"peerIP": "10.0.0.2", "asNumber": 64512, "aliasASNumber": 7, "localASNumber": 8}),
        "spec.aliasASNumber: \"7\" cannot be combined with localASNumber",
    );
    refuses(
        "BGPPeer",
        "p",
        json!({"families": ["IPv4", "IPv4"]}),
        "spec.families[1]: \"IPv4\" is there twice",
    );
    refuses("BGPPeer", "p", json!({"maxRestartTime": "-1s"}), "spec.maxRestartTime: \"-1s\" is negative");
    let secret = json!({"peerIP": "10.0.0.1", "password": {"secretKeyRef": {"name": "s"}}});
    refuses("BGPPeer", "p", secret, "spec.password.secretKeyRef.key is required");
}

#[test]
fn workload_endpoints_are_named_after_what_they_are() {
    let spec = |pod: &str| json!({"node": "n-1", "orchestrator": "k8s", "pod": pod, "endpoint": "eth0", "interfaceName": "cali1"});
    accepts("WorkloadEndpoint", "n--1-k8s-a--b-eth0", spec("a-b"));
    let found = violations("WorkloadEndpoint", "n-1-k8s-a-eth0", spec("a"));
    assert_eq!(
        found,
        ["metadata.name: \"n-1-k8s-a-eth0\" does not follow from the spec; it has to be \"n--1-k8s-a-eth0\""]
    );
    let found = violations("WorkloadEndpoint", "x", spec("-a"));
    assert!(found[0].starts_with("spec makes no name"), "{found:?}");
}

#[test]
fn limits_on_traffic_are_in_range() {
    let endpoint = |qos: Value| {
        json!({
            "node": "n", "orchestrator": "k8s", "pod": "p", "endpoint": "eth0", "interfaceName": "cali1",
            "qosControls": qos,
        })
    };
    let name = "n-k8s-p-eth0";
    accepts(
        "WorkloadEndpoint",
        name,
        endpoint(json!({"ingressBandwidth": 1000, "ingressPeakrate": 1010, "dscp": "EF"})),
    );
    let cases = [
        (json!({"egressBandwidth": 999}), "egressBandwidth: \"999\" is out of range"),
        (json!({"ingressPeakrate": 2000}), "ingressPeakrate: \"2000\" needs a bandwidth"),
        (
            json!({"ingressBandwidth": 2000, "ingressPeakrate": 2000}),
            "ingressPeakrate: \"2000\" needs a bandwidth",
        ),
        (json!({"egressPacketRate": 10_001}), "egressPacketRate: \"10001\" is out of range"),
        (json!({"ingressMaxConnections": 0}), "ingressMaxConnections: \"0\" is out of range"),
        (json!({"dscp": 64}), "dscp: \"64\" is not a DSCP"),
    ];
    for (qos, expected) in cases {
        refuses("WorkloadEndpoint", name, endpoint(qos), &format!("spec.qosControls.{expected}"));
    }
}

#[test]
fn names_and_namespaces_fit_the_kind() {
    let object = |kind: &str, metadata: Value| {
        violations_of(
            &json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": {}}),
        )
    };
    assert_eq!(object("Tier", json!({})), ["metadata.name is required"]);
    let found = object("Tier", json!({"name": "t", "namespace": "n"}));
    assert_eq!(found, ["metadata.namespace: \"n\" does not belong here: Tier has no namespace"]);
    let found = object("NetworkPolicy", json!({"name": "p", "namespace": "N"}));
    assert!(found[0].starts_with("metadata.namespace: \"N\" is not a namespace"), "{found:?}");
    let big = "x".repeat(256 * 1024);
    let found = object("Tier", json!({"name": "t", "annotations": {"a": big}}));
    assert!(found[0].starts_with("metadata.annotations are 262145 bytes"), "{found:?}");
    assert!(object("StagedNetworkPolicy", json!({"name": "ossg.default.a.b"})).is_empty());
    assert!(!object("StagedGlobalNetworkPolicy", json!({"name": "ossg.default.a.b"})).is_empty());
}

#[test]
fn status_and_cluster_objects_follow_their_rules() {
    let classes = json!({"node": "n", "classes": ["BGP", "BGP"]});
    refuses("CalicoNodeStatus", "s", classes, "spec.classes[1]: \"BGP\" is there twice");
    let period = json!({"node": "n", "updatePeriodSeconds": 86_401});
    refuses("CalicoNodeStatus", "s", period, "spec.updatePeriodSeconds: \"86401\" is out of range");
    refuses("CalicoNodeStatus", "s", json!({}), "spec.node is required");
    accepts("ClusterInformation", "default", json!({"clusterGUID": "0123456789abcdef0123456789abcdef"}));
    refuses(
        "ClusterInformation",
        "default",
        json!({"clusterGUID": "x"}),
        "spec.clusterGUID: \"x\" is not 32",
    );
    let template =
        json!({"controllers": {"node": {"hostEndpoint": {"templates": [{"interfacePattern": "["}]}}}});
    let field =
        "spec.controllers.node.hostEndpoint.templates[0].interfacePattern: \"[\" is not a regular expression";
    refuses("KubeControllersConfiguration", "default", template, field);
}

#[test]
fn parameters_of_the_node_agent_are_checked_by_their_type() {
    let refused = [
        (json!({"bpfEnabled": "yes"}), "bpfEnabled: \"yes\" has to be true or false"),
        (json!({"healthPort": 65_536}), "healthPort: \"65536\" is out of range"),
        (json!({"iptablesRefreshInterval": "90"}), "iptablesRefreshInterval: \"90\" is not a duration"),
        (json!({"iptablesRefreshInterval": "-1s"}), "iptablesRefreshInterval: \"-1s\" is negative"),
        (json!({"iptablesMarkMask": 1}), "iptablesMarkMask: \"1\" has to be a whole number"),
        (json!({"chainInsertMode": "Middle"}), "chainInsertMode: \"Middle\" is not one of Append, Insert"),
        (json!({"serviceLoopPrevention": "drop"}), "serviceLoopPrevention: \"drop\" is not one of"),
        (json!({"logActionRateLimit": "10000/minute"}), "logActionRateLimit: \"10000/minute\" is not a rate"),
        (json!({"featureDetectOverride": "a"}), "featureDetectOverride: \"a\" is not name=value"),
        (json!({"interfaceExclude": "/[/"}), "interfaceExclude: \"[\" is not a regular expression"),
        (json!({"externalNodesList": ["x"]}), "externalNodesList[0]: \"x\" is not an address"),
        (
            json!({"failsafeInboundHostPorts": [{"protocol": "TCP"}]}),
            "failsafeInboundHostPorts[0].port is required",
        ),
        (
            json!({"failsafeInboundHostPorts": [{"port": 0}]}),
            "failsafeInboundHostPorts[0].port: \"0\" is out of range",
        ),
        (json!({"bpfConntrackTimeouts": {"udp": "1s"}}), "bpfConntrackTimeouts.udp is not a field here"),
        (json!({"istioDSCPMark": 64}), "istioDSCPMark: \"64\" is not a DSCP"),
        (
            json!({"routeTableRange": {"min": 1, "max": 9}, "routeTableRanges": [{"min": 1, "max": 9}]}),
            "routeTableRange cannot be combined",
        ),
        (
            json!({"routeTableRanges": [{"min": 1, "max": 40_000}, {"min": 50_000, "max": 80_000}]}),
            "routeTableRanges has 70001 tables",
        ),
    ];
    for (spec, expected) in refused {
        refuses("FelixConfiguration", "default", spec, &format!("spec.{expected}"));
    }
    let accepted = json!({
        "bpfEnabled": true, "logSeverityScreen": "debug", "chainInsertMode": "append", "natPortRange": "1000:2000",
        "failsafeInboundHostPorts": [{"protocol": "udp", "port": 53, "net": "10.0.0.0/8"}],
        "bpfConntrackTimeouts": {"tcpFinsSeen": "Auto", "udpTimeout": "60s"}, "logActionRateLimit": "10/second",
        "interfaceExclude": "kube-ipvs0,/^veth.*/", "healthTimeoutOverrides": [{"name": "a b", "timeout": "1m"}],
        "bpfLogFilters": {"all": "tcp"}, "istioDSCPMark": "EF", "iptablesMarkMask": 4_294_901_760u32,
    });
    accepts("FelixConfiguration", "node.n", accepted);
    let found = violations("FelixConfiguration", "default", json!({"bpfEnabledd": true}));
    assert_eq!(found, ["spec.bpfEnabledd: \"true\" is not a field here; did you mean \"bpfEnabled\"?"]);
}

#[test]
fn what_local_files_alone_may_say_is_no_field_of_the_api() {
    assert!(api::felix::Parameter::by_name("etcdendpoints").is_some());
    assert!(api::felix::Parameter::by_field("etcdEndpoints").is_none());
    assert!(api::felix::Parameter::by_field("").is_none());
}

#[test]
fn built_in_tiers_keep_their_rules() {
    for mut tier in api::built_in_tiers() {
        tier.apply_defaults();
        assert_eq!(tier.validate(), Ok(()), "{tier:?}");
    }
}
