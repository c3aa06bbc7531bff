//! Each mistake gets an error that names what and where, and changes nothing.

use crate::world::{World, pool, resource};

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let world = World::with(&pool("kept", "10.0.0.0/16"));
    let file = world.file("bad.yaml", text);
    let before = world.snapshot();
    for verb in ["create", "apply", "replace", "validate"] {
        let outcome = world.run(&[verb, "-f", &file]).failed(words).failed(&["bad.yaml"]);
        assert_eq!(outcome.output, "", "{verb}");
    }
    assert_eq!(world.snapshot(), before);
}

#[test]
fn malformed_yaml_is_refused_by_line() {
    refused("apiVersion: projectcalico.org/v3\nkind: [IPPool\n", &["line"]);
    refused("kind: IPPool\n\tname: x\n", &["line 1", "not YAML", "tab"]);
    refused("just words", &["apiVersion"]);
}

#[test]
fn unknown_kinds_and_fields_are_refused_with_what_was_meant() {
    refused(
        &pool("a", "10.1.0.0/16").replace("IPPool", "IPPol"),
        &["line 2", "IPPol", "did you mean IPPool?"],
    );
    refused(
        &resource("IPPool", "name: a", "cidr: 10.1.0.0/16, natOutgoin: true"),
        &["IPPool a", "spec.natOutgoin", "natOutgoing"],
    );
    refused(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
        &["apps/v1 Deployment", "NetworkPolicy"],
    );
    let world = World::new();
    world.run(&["get", "ippol"]).failed(&["ippol", "ippools"]);
}

#[test]
fn a_bad_value_is_refused_before_anything_else_is_written() {
    let text = pool("good", "10.1.0.0/16") + &pool("bad", "10.2.0.1/16");
    refused(&text, &["IPPool bad", "spec.cidr", "10.2.0.0/16"]);
}

#[test]
fn an_overlapping_pool_is_refused_by_name() {
    let world = World::with(&pool("first", "10.0.0.0/8"));
    let before = world.snapshot();
    for verb in ["create", "apply"] {
        world.run_with_input(&[verb, "-f", "-"], &pool("second", "10.65.0.0/16")).failed(&[
            "IPPool second",
            "spec.cidr",
            "10.65.0.0/16",
            "10.0.0.0/8",
            "IPPool first",
        ]);
    }
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_policy_without_its_tier_is_refused() {
    let world = World::new();
    world
        .run_with_input(&["apply", "-f", "-"], &resource("GlobalNetworkPolicy", "name: p", "tier: none"))
        .failed(&["GlobalNetworkPolicy p", "spec.tier", "\"none\" does not exist", "create the Tier"]);
    assert_eq!(world.snapshot(), []);
}

#[test]
fn a_selector_that_does_not_parse_is_shown_with_a_caret_under_the_mistake() {
    let world = World::new();
    let policy = |spec: &str| resource("GlobalNetworkPolicy", "name: p", spec);
    let outcome =
        world.run_with_input(&["apply", "-f", "-"], &policy("selector: \"app = 'db'\"")).failed(&[]);
    assert_eq!(
        outcome.errors,
        "standard input: document 1, line 4: GlobalNetworkPolicy p: spec.selector: \"app = 'db'\" is not a selector: \
         selector, position 4: found \"=\", expected `==`\n    app = 'db'\n        ^\n"
    );
    for (spec, caret) in [
        ("ingress: [{action: Deny, source: {selector: has(a) &&}}]", "    has(a) &&\n             ^"),
        ("ingress: [{action: Deny, source: {notSelector: \"a == 'b\"}}]", "    a == 'b\n         ^"),
        ("ingress: [{action: Deny, source: {namespaceSelector: (all()}}]", "    (all()\n          ^"),
        ("ingress: [{action: Deny, source: {serviceAccounts: {selector: a b}}}]", "    a b\n      ^"),
        ("serviceAccountSelector: \"ä == 'b'\"", "    ä == 'b'\n    ^"),
        ("namespaceSelector: \"a in {'b', 'c'\"", "    a in {'b', 'c'\n                  ^"),
    ] {
        world.run_with_input(&["apply", "-f", "-"], &policy(spec)).failed(&["GlobalNetworkPolicy p", caret]);
    }
    // Of a long one, what is around the mistake.
    let long = format!("selector: \"{} || = || {}\"", "has(abc) || ".repeat(20) + "x", "has(abc)");
    let outcome = world.run_with_input(&["apply", "-f", "-"], &policy(&long)).failed(&[]);
    let lines: Vec<&str> = outcome.errors.lines().collect();
    let (shown, caret) = (lines[lines.len() - 2], lines[lines.len() - 1]);
    assert!(shown.starts_with("    …") && shown.chars().count() < 100, "{shown}");
    let place = caret.chars().count() - 1;
    assert_eq!(shown.chars().nth(place), Some('='), "{shown}\n{caret}");
    assert_eq!(world.snapshot(), []);
}

#[test]
fn ports_out_of_range_are_refused_by_field() {
    for (rule, words) in [
        ("protocol: TCP, destination: {ports: [0]}", "spec.ingress[0].destination.ports[0]"),
        ("protocol: TCP, destination: {ports: [80, 65536]}", "spec.ingress[0].destination.ports[1]"),
        ("protocol: UDP, source: {ports: ['90:80']}", "spec.ingress[0].source.ports[0]"),
        ("protocol: UDP, source: {notPorts: ['1:70000']}", "spec.ingress[0].source.notPorts[0]"),
        ("protocol: TCP, destination: {ports: [-1]}", "spec.ingress[0].destination.ports[0]"),
        ("destination: {ports: [80]}", "spec.ingress[0].destination.ports"),
        ("protocol: ICMP, icmp: {type: 300}", "spec.ingress[0].icmp.type"),
    ] {
        let spec = format!("ingress: [{{action: Allow, {rule}}}]");
        refused(&resource("GlobalNetworkPolicy", "name: p", &spec), &["GlobalNetworkPolicy p", words]);
    }
    refused(
        &resource(
            "HostEndpoint",
            "name: h",
            "node: n, interfaceName: eth0, ports: [{name: a, protocol: TCP, port: 0}]",
        ),
        &["HostEndpoint h", "spec.ports[0].port"],
    );
    let kubernetes = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, \
                      ingress: [{ports: [{port: 80, endPort: 65536}]}]}\n";
    refused(kubernetes, &["NetworkPolicy p", "spec.ingress[0].ports[0].endPort", "65535"]);
}

#[test]
fn networks_of_the_wrong_family_are_refused_by_field() {
    for (rule, words) in [
        ("source: {nets: [10.0.0.0/8, 'fd00::/8']}", ["spec.ingress[0].source.nets[1]", "IPv6"]),
        (
            "source: {nets: [10.0.0.0/8]}, destination: {notNets: ['fd00::/8']}",
            ["destination.notNets[0]", "IPv6"],
        ),
        ("ipVersion: 6, source: {nets: [10.0.0.0/8]}", ["spec.ingress[0].source.nets[0]", "IPv4"]),
        ("ipVersion: 4, protocol: ICMPv6", ["spec.ingress[0].protocol", "write ICMP"]),
        ("source: {nets: [10.0.0.0/33]}", ["spec.ingress[0].source.nets[0]", "10.0.0.0/33"]),
    ] {
        let spec = format!("ingress: [{{action: Allow, {rule}}}]");
        refused(&resource("GlobalNetworkPolicy", "name: p", &spec), &words);
    }
    let kubernetes = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, \
                      ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/16']}}]}]}\n";
    refused(kubernetes, &["spec.ingress[0].from[0].ipBlock.except[0]", "inside 10.0.0.0/8"]);
}

#[test]
fn a_tier_with_policies_of_any_kind_is_not_deleted() {
    let kinds = [
        ("NetworkPolicy", "networkpolicy", "name: t.p, namespace: n"),
        ("GlobalNetworkPolicy", "globalnetworkpolicy", "name: t.p"),
        ("StagedNetworkPolicy", "stagednetworkpolicy", "name: t.p, namespace: n"),
        ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicy", "name: t.p"),
    ];
    for (kind, word, metadata) in kinds {
        let world =
            World::with(&(resource("Tier", "name: t", "order: 5") + &resource(kind, metadata, "tier: t")));
        let before = world.snapshot();
        world.run(&["delete", "tier", "t"]).failed(&["Tier t still has policies", kind, "t.p", "move them"]);
        assert_eq!(world.snapshot(), before);
        let namespace: &[&str] = if metadata.contains("namespace") { &["-n", "n"] } else { &[] };
        world.run(&[&["delete", word, "t.p"], namespace].concat()).succeeded();
        world.run(&["delete", "tier", "t"]).succeeded();
    }
    let world = World::with(&resource("Tier", "name: default", "order: 1000000"));
    world.run(&["delete", "tier", "default"]).failed(&["Tier default is built in"]);
}

#[test]
fn an_action_of_another_version_is_refused_in_a_file() {
    refused(
        &resource("GlobalNetworkPolicy", "name: p", "ingress: [{action: Audit}]"),
        &["spec.ingress[0].action", "\"Audit\" is not one of Allow, Deny, Log, Pass"],
    );
    refused(
        &resource(
            "GlobalNetworkPolicy",
            "name: p",
            "egress: [{action: Allow, destination: {domains: [a.b]}}]",
        ),
        &["spec.egress[0].destination.domains", "is not a field here"],
    );
    refused(&resource("Tier", "name: t", "defaultAction: Ask"), &["spec.defaultAction", "Deny, Pass"]);
}

#[test]
fn what_another_version_wrote_is_reported_and_not_written_over() {
    let world = World::with(&resource("GlobalNetworkPolicy", "name: good", ""));
    let key = api::Key::cluster(api::Kind::GlobalNetworkPolicy, "newer");
    let text = r#"{"metadata":{"name":"newer"},"spec":{"ingress":[{"action":"Audit"}]}}"#;
    datastore::Store::create(&world.store(), &key, text).expect("a new row");
    let before = world.snapshot();
    let outcome = world.run(&["get", "gnp"]);
    assert!(outcome.output.contains("good"), "{outcome:?}");
    assert!(
        outcome.errors.contains("GlobalNetworkPolicy newer") && outcome.errors.contains("Audit"),
        "{outcome:?}"
    );
    let explained = world.run(&[
        "explain",
        "--from",
        "10.0.0.1",
        "--to",
        "10.0.0.2",
        "--protocol",
        "tcp",
        "--port",
        "80",
    ]);
    let note = "GlobalNetworkPolicy newer: spec.ingress[0].action: \"Audit\" is not one of Allow, Deny, Log, Pass; \
                nothing is allowed by that";
    assert!(explained.errors.contains(note), "{explained:?}");
    for arguments in
        [&["label", "gnp", "newer", "a=b"][..], &["patch", "gnp", "newer", "-p", "spec: {order: 1}"]]
    {
        world.run(arguments).failed(&["GlobalNetworkPolicy newer", "spec.ingress[0].action", "Audit"]);
    }
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_set_of_100_000_networks_is_taken_and_a_bad_one_in_it_found() {
    let net = |number: u32| std::net::Ipv4Addr::from((20 << 24) + number).to_string();
    let mut nets: Vec<String> = (0..100_000).map(net).collect();
    let world = World::new();
    let set = |nets: &[String]| {
        resource("GlobalNetworkSet", "name: large", &format!("nets: [{}]", nets.join(", ")))
    };
    world.run_with_input(&["apply", "-f", "-"], &set(&nets)).succeeded();
    let shown = world.run(&["get", "gns", "large", "-o", "json"]).succeeded();
    assert_eq!(shown.matches("\"20.").count(), 100_000);
    let before = world.snapshot();
    nets[77_777] = "20.1.2.300".to_owned();
    world.run_with_input(&["apply", "-f", "-"], &set(&nets)).failed(&["spec.nets[77777]", "20.1.2.300"]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn names_up_to_their_limits_are_taken_and_longer_ones_refused() {
    let named = |kind: &str, length: usize, spec: &str| {
        resource(kind, &format!("name: {}", "n".repeat(length)), spec)
    };
    let host = "node: n, interfaceName: eth0";
    for (kind, longest, spec) in [
        ("Tier", 63, "order: 1"),
        ("NetworkPolicy", 253, ""),
        ("GlobalNetworkPolicy", 253, ""),
        ("StagedGlobalNetworkPolicy", 253, ""),
        ("GlobalNetworkSet", 253, "nets: [10.0.0.0/8]"),
        ("HostEndpoint", 253, host),
    ] {
        let world = World::new();
        world.run_with_input(&["apply", "-f", "-"], &named(kind, longest, spec)).succeeded();
        world.run(&["delete", kind, &"n".repeat(longest)]).succeeded();
        let words = format!("{} characters long, but may have {longest}", longest + 1);
        refused(&named(kind, longest + 1, spec), &[kind, "metadata.name", &words]);
    }
    refused(&named("GlobalNetworkPolicy", 0, ""), &["metadata.name", "is required"]);
    let port = |name: &str| {
        resource(
            "HostEndpoint",
            "name: h",
            &format!("{host}, ports: [{{name: {name}, protocol: TCP, port: 1}}]"),
        )
    };
    World::with(&port("fifteen-letters"));
    refused(&port("sixteen--letters"), &["spec.ports[0].name", "at most 15"]);
}

#[test]
fn a_datastore_that_is_not_there_is_not_made_by_reading() {
    let world = World::without_datastore();
    for arguments in [
        &["get", "nodes"][..],
        &["delete", "node", "a"],
        &["delete", "-f", "-", "-s"],
        &["replace", "-f", "-"],
        &["label", "node", "a", "b=c"],
        &["patch", "node", "a", "-p", "{}"],
    ] {
        world.run_with_input(arguments, &resource("Node", "name: a", "")).failed(&[
            "x.db",
            "does not exist",
            "TORTIE_DATASTORE",
        ]);
    }
    assert!(!world.datastore().exists());
}

#[test]
fn a_file_that_is_no_datastore_is_left_alone() {
    let world = World::without_datastore();
    let text = "once upon a time there was a file that was none of ours, ".repeat(100);
    std::fs::write(world.datastore(), &text).unwrap();
    for arguments in [&["get", "nodes"][..], &["apply", "-f", "-"]] {
        world.run_with_input(arguments, &resource("Node", "name: a", "")).failed(&["x.db", "not a"]);
    }
    assert_eq!(std::fs::read_to_string(world.datastore()).unwrap(), text);
}

#[test]
fn a_folder_in_place_of_a_datastore_is_refused() {
    let world = World::without_datastore();
    std::fs::create_dir(world.datastore()).unwrap();
    world.run(&["get", "nodes"]).failed(&["x.db", "is a folder"]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let world = World::new();
    world.run(&["apply", "-f", "/no/such/file.yaml"]).failed(&["/no/such/file.yaml", "No such file"]);
    std::fs::write(world.path("latin1.yaml"), b"caf\xe9").unwrap();
    world.run(&["apply", "-f", &world.path("latin1.yaml")]).failed(&["latin1.yaml", "UTF-8"]);
    world.run(&["apply"]).failed(&["-f FILE"]);
}

#[test]
fn configuration_that_cannot_be_used_is_named() {
    let mut world = World::new();
    let etcd = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: etcdv3}\n";
    let file = world.file("calicoctl.cfg", etcd);
    world.run(&["get", "nodes", "-c", &file]).failed(&["calicoctl.cfg", "spec.datastoreType", "etcdv3"]);
    world.run(&["-c", "/no/such.cfg", "get", "nodes"]).failed(&["/no/such.cfg"]);
    world.run(&["get", "nodes", "--context", "kind"]).failed(&["--context kind", "remove it"]);
    world.set("DATASTORE_TYPE", "sql".into());
    world.run(&["get", "nodes"]).failed(&["DATASTORE_TYPE", "sql"]);
}

#[test]
fn a_configuration_file_chooses_the_datastore() {
    let world = World::with(&resource("Node", "name: here", ""));
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {{embeddedFile: {}}}\n",
        world.datastore().display()
    );
    let elsewhere = World::new();
    let file = elsewhere.file("calicoctl.cfg", &text);
    assert_eq!(elsewhere.run(&["get", "nodes", "--config", &file]).succeeded(), "NAME\nhere\n");
    assert_eq!(elsewhere.run(&["get", "nodes"]).succeeded(), "NAME\n");
}
