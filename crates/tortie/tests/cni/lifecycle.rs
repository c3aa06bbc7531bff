//! What happens to sandboxes over time: crashes, restarts, garbage, many at once, and what runtimes really send.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use datastore::{Scope, Store};
use ipam::AutoAssign;
use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::plugin::{Call, configuration};
use crate::pods::PodNamespace;
use crate::world::World;

const POOL: &str = "10.65.0.0/24";

fn world() -> World {
    let world = World::new(Some("n1"));
    world.add_pool("v4", POOL);
    world
}

/// One sandbox and its ADD.
fn sandbox(world: &World, name: &str) -> (PodNamespace, Call) {
    let pod = PodNamespace::new(world, name);
    let add = Call::new(world, "ADD", &format!("container-{name}"), &pod.path()).of_pod("default", name);
    (pod, add)
}

fn delete(world: &World, add: &Call) {
    add.clone().with_command("DEL").run(world).expect_silence();
}

#[test]
fn a_plugin_that_is_killed_at_any_moment_leaves_nothing_that_the_next_add_or_del_does_not_take() {
    let world = world();
    for after in [0, 1, 2, 4, 8, 16, 32] {
        let (_pod, add) = sandbox(&world, "p1");
        let mut child = add.spawn(&world);
        thread::park_timeout(Duration::from_millis(after));
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let addresses = add.run(&world).expect_addresses();
        let assigned: Vec<IpAddr> = world.assignments().iter().map(|one| one.address).collect();
        assert_eq!(assigned, addresses, "one address in total, killed after {after} ms");
        assert_eq!(world.endpoints().len(), 1);
        delete(&world, &add);
        world.assert_clean();
    }
}

#[test]
fn a_node_that_is_killed_at_any_moment_of_an_add_leaves_nothing_either() {
    let mut world = world();
    for after in [1, 6, 12, 24] {
        let (_pod, add) = sandbox(&world, "p1");
        let child = add.spawn(&world);
        thread::park_timeout(Duration::from_millis(after));
        world.kill_node();
        let outcome = Outcome::new(&child.wait_with_output().expect("our own child"));
        assert!(outcome.exit == 0 || outcome.code() == Some(11), "killed after {after} ms: {outcome:?}");
        world.start_node();
        let addresses = add.run(&world).expect_addresses();
        let assigned: Vec<IpAddr> = world.assignments().iter().map(|one| one.address).collect();
        assert_eq!(assigned, addresses, "one address in total, killed after {after} ms");
        delete(&world, &add);
        world.assert_clean();
    }
}

#[test]
fn a_del_while_no_node_runs_removes_the_link_and_is_finished_by_the_next_node() {
    let mut world = world();
    let (pod, add) = sandbox(&world, "p1");
    add.run(&world).expect_result();
    let mut ipam = Call::new(&world, "ADD", "other", &pod.path());
    ipam.line = "calico-ipam".to_owned();
    ipam.run(&world).expect_result();
    assert_eq!(world.assignments().len(), 2);

    world.kill_node();
    for call in [&add, &ipam] {
        let outcome = call.clone().with_command("DEL").run(&world);
        outcome.expect_silence();
        assert!(outcome.stderr.contains("is `tortie node` running"), "{outcome:?}");
    }
    assert!(!pod.command("ip -oneline link").contains("eth0"), "the link is gone");
    assert!(world.links_and_routes().is_empty(), "and so is its other end");
    assert_eq!(world.assignments().len(), 2, "only the node can release addresses");

    world.start_node();
    world.assert_clean();
    let deferred = std::fs::read_dir(world.path("run/deferred")).expect("the folder").count();
    assert_eq!(deferred, 0, "the requests are done and gone");
}

#[test]
fn garbage_is_what_no_attachment_in_the_list_explains() {
    let world = world();
    let (_keep, keep) = sandbox(&world, "keep");
    let (_stale, stale) = sandbox(&world, "stale");
    let (_other, other) = sandbox(&world, "other");
    let mut other_network = configuration("calico-ipam");
    other_network["name"] = "another-network".into();
    let kept = keep.run(&world).expect_addresses();
    stale.run(&world).expect_result();
    let others = other.with_config(&other_network).run(&world).expect_addresses();
    // Addresses that a crash has left, here and on another node.
    for (node, container) in [("n1", "leaked"), ("n2", "elsewhere")] {
        let handle = Some(format!("k8s-pod-network.{container}"));
        let attributes = [("node".to_owned(), node.to_owned())].into();
        let request = AutoAssign { num4: 1, handle, attributes, ..AutoAssign::new(node) };
        world.ipam().auto_assign_all(&request).expect("a free address");
    }
    let collect = |list: Option<Value>| {
        let mut config = configuration("calico-ipam");
        config["cniVersion"] = "1.1.0".into();
        if let Some(list) = list {
            config["cni.dev/valid-attachments"] = list;
        }
        Call::new(&world, "GC", "", "").with_config(&config).run(&world).expect_silence();
    };
    collect(None);
    assert_eq!(world.assignments().len(), 5, "an absent list is no empty list");
    collect(Some(json!([{"containerID": "container-keep", "ifname": "eth0"}])));
    let elsewhere = world.held_by("k8s-pod-network.elsewhere");
    let left: BTreeSet<IpAddr> = world.assignments().iter().map(|one| one.address).collect();
    assert_eq!(left, kept.into_iter().chain(others).chain(elsewhere).collect());
    assert_eq!(world.endpoints().len(), 2);
}

#[test]
fn sixteen_adds_and_dels_at_once_get_distinct_addresses_and_leave_nothing() {
    let world = world();
    let sandboxes: Vec<_> = (0..16).map(|number| sandbox(&world, &format!("p{number}"))).collect();
    let at_once = |command: &str| -> Vec<Outcome> {
        thread::scope(|scope| {
            let run = |(_, add): &(PodNamespace, Call)| {
                let call = add.clone().with_command(command);
                let world = &world;
                scope.spawn(move || call.run(world))
            };
            let threads: Vec<_> = sandboxes.iter().map(run).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })
    };
    let added = at_once("ADD");
    let addresses: BTreeSet<IpAddr> = added.iter().flat_map(Outcome::expect_addresses).collect();
    assert_eq!(addresses.len(), 16);
    assert_eq!(world.assignments().len(), 16);
    at_once("DEL").iter().for_each(Outcome::expect_silence);
    world.assert_clean();
}

#[test]
fn a_namespace_that_was_made_anew_is_plumbed_again_with_the_same_address() {
    let world = world();
    let (pod, add) = sandbox(&world, "p1");
    let first = add.run(&world).expect_addresses();
    drop(pod);
    let pod = PodNamespace::new(&world, "p1");
    let outcome = add.run(&world);
    assert_eq!(outcome.expect_addresses(), first);
    assert!(pod.command("ip -4 address show eth0").contains(&first[0].to_string()));
    let mac = world.endpoint_of("container-p1").expect("its endpoint").spec.mac.expect("a MAC").to_string();
    assert!(pod.command("ip link show eth0").contains(&mac), "the endpoint has the new link's MAC");
    delete(&world, &add);
    world.assert_clean();
}

#[test]
fn what_a_runtime_says_of_a_pod_reaches_its_endpoint() {
    let world = world();
    let (_pod, add) = sandbox(&world, "p1");
    let mut config = configuration("calico-ipam");
    config["policy"] = json!({"type": "k8s"});
    config["args"] = json!({
        "cni": {"labels": [{"key": "app", "value": "web"}]},
        "tortie": {"pod": {
            "metadata": {"labels": {"tier": "front"}},
            "spec": {"serviceAccountName": "sa", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
        }},
    });
    config["runtimeConfig"] =
        json!({"io.kubernetes.cri.pod-annotations": {"cni.projectcalico.org/ipAddrs": "[\"10.65.0.77\"]"}});
    let addresses = add.with_config(&config).run(&world).expect_addresses();
    assert_eq!(addresses, ["10.65.0.77".parse::<IpAddr>().unwrap()]);
    let endpoint = world.endpoint_of("container-p1").expect("its endpoint");
    let labels = &endpoint.metadata.labels;
    assert_eq!((labels["app"].as_str(), labels["tier"].as_str()), ("web", "front"));
    assert_eq!(labels["projectcalico.org/serviceaccount"], "sa");
    assert_eq!(endpoint.spec.profiles, ["kns.default", "ksa.default.sa"]);
    assert_eq!(endpoint.spec.ports[0].name, "http");
}

#[test]
fn the_node_writes_the_mtu_that_pods_get() {
    let world = world();
    let mtu = |name: &str, config: &Value| {
        let (pod, add) = sandbox(&world, name);
        let outcome = add.with_config(config).run(&world);
        outcome.result().map(|_| pod.command("ip -oneline link show eth0"))
    };
    let mut config = configuration("calico-ipam");
    config["require_mtu_file"] = true.into();
    assert!(mtu("p1", &config).expect("the node has written the file").contains("mtu 1500 "));
    std::fs::write(world.host_file("mtu"), "1430\n").expect("our own folder");
    assert!(mtu("p2", &config).expect("a file").contains("mtu 1430 "));
    std::fs::remove_file(world.host_file("mtu")).expect("our own folder");
    assert!(mtu("p3", &config).expect_err("no file").contains("\"code\":11"));
}

/// A list as a runtime runs it: every plugin with the list's name and version, and the result of the one before.
fn run_list(world: &World, add: &Call, list: &Value, command: &str) -> Value {
    let plugins = list["plugins"].as_array().expect("a list of plugins");
    let mut result = Value::Null;
    let mut order: Vec<_> = plugins.iter().collect();
    if command == "DEL" {
        order.reverse();
    }
    for plugin in order {
        let mut config = plugin.clone();
        config["name"] = list["name"].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["runtimeConfig"] = json!({"portMappings": []});
        if !result.is_null() {
            config["prevResult"] = result.clone();
        }
        let mut call = add.clone().with_command(command).with_config(&config);
        call.line = plugin["type"].as_str().expect("a type").to_owned();
        if call.line != "calico" {
            world.install(&call.line);
        }
        let outcome = call.run(world);
        assert_eq!(outcome.exit, 0, "{command} of {}: {outcome:?}", call.line);
        result = outcome.json();
    }
    result
}

#[test]
fn the_default_lists_of_calico_3_8_and_of_today_work_unchanged() {
    let world = world();
    let (_pod, add) = sandbox(&world, "p1");
    for text in [include_str!("data/10-calico-v3.8.conflist"), include_str!("data/10-calico.conflist")] {
        // The only words that Calico's own installation replaces.
        let text = text
            .replace("__KUBERNETES_NODE_NAME__", "n1")
            .replace("__CNI_MTU__", "1440")
            .replace("__LOG_LEVEL__", "info")
            .replace("__KUBECONFIG_FILEPATH__", "/etc/cni/net.d/calico-kubeconfig");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        let result = run_list(&world, &add, &list, "ADD");
        assert_eq!(result["cniVersion"], list["cniVersion"]);
        assert_eq!(result["ips"].as_array().map(Vec::len), Some(1), "{result}");
        run_list(&world, &add, &list, "DEL");
        world.assert_clean();
    }
}

/// Everything that is in the datastore.
fn everything(world: &World) -> Vec<datastore::Entry> {
    let kinds = [api::Kind::WorkloadEndpoint, api::Kind::Profile, api::Kind::IPPool];
    let scopes: Vec<_> = kinds
        .into_iter()
        .map(Scope::all)
        .chain([Scope::Blocks, Scope::BlockAffinities { host: None }, Scope::Handles])
        .collect();
    world.store.list_scopes(&scopes).expect("a list").entries
}

#[test]
fn bad_input_is_refused_with_its_remedy_and_changes_nothing() {
    let world = World::new(Some("n1"));
    world.add_resource(
        api::Kind::IPPool,
        &json!({"name": "tiny"}),
        &json!({"cidr": "10.66.0.0/31", "blockSize": 31}),
    );
    let (_full, full) = (0..2).map(|number| sandbox(&world, &format!("full{number}"))).fold(
        (Vec::new(), Vec::new()),
        |(mut pods, mut calls), (pod, call)| {
            call.run(&world).expect_result();
            pods.push(pod);
            calls.push(call);
            (pods, calls)
        },
    );
    let (pod, add) = sandbox(&world, "p1");
    let before = everything(&world);
    let links = world.links_and_routes();
    let with_ip = |ip: &str| {
        let mut call = add.clone();
        call.environment.insert("CNI_ARGS".to_owned(), format!("IP={ip}"));
        call
    };
    let mut not_json = add.clone();
    not_json.input = crate::plugin::Input::Text("{\"name\": ".to_owned());
    let mut no_plugin = configuration("calico-imap");
    no_plugin["ipam"]["subnet"] = "10.0.0.0/24".into();
    let cases: [(Call, u64, &[&str]); 6] = [
        (not_json, 6, &["network configuration is not JSON", "line 1"]),
        (add.clone(), 100, &["pod default/p1", "n1", "10.66.0.0/31", "no free"]),
        (with_ip("10.99.0.1"), 100, &["10.99.0.1", "pool"]),
        (with_ip("10.66.0.0"), 100, &["10.66.0.0", "already"]),
        (with_ip("10.66.0.0,10.66.0.1"), 7, &["one IPv4 and one IPv6"]),
        (add.clone().with_config(&no_plugin), 7, &["calico-imap", "CNI_PATH"]),
    ];
    for (call, code, words) in cases {
        let (found, message) = call.run(&world).expect_error();
        assert_eq!(found, code, "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert_eq!(everything(&world), before, "{message}");
        assert_eq!(world.links_and_routes(), links, "{message}");
        assert!(!pod.command("ip -oneline link").contains("eth0"), "{message}");
    }
    full.iter().for_each(|call| delete(&world, call));
    add.run(&world).expect_result();
}
