//! `"ipam": {"type": "host-local"}`, with the real plugin.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::plugin::{Call, configuration};
use crate::pods::PodNamespace;
use crate::world::World;

/// A host whose node has a pod CIDR, and a configuration that asks for it.
fn world() -> (World, Value) {
    let world = World::new(Some("n1"));
    world.install("host-local");
    world.set_pod_cidrs(&["10.7.0.0/24", "fd07::/64"]);
    let mut config = configuration("host-local");
    config["ipam"]["subnet"] = "usePodCidr".into();
    config["ipam"]["dataDir"] = world.path("networks").to_string_lossy().into();
    (world, config)
}

/// What `host-local` remembers as assigned.
fn remembered(world: &World) -> Vec<String> {
    let folder: PathBuf = world.path("networks").join("k8s-pod-network");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
    names.sort();
    names
}

#[test]
fn a_pod_gets_an_address_of_the_nodes_pod_cidr_keeps_it_when_added_again_and_gives_it_back() {
    let (world, config) = world();
    let pod = PodNamespace::new(&world, "p1");
    let add = Call::new(&world, "ADD", "c1", &pod.path()).of_pod("default", "p1").with_config(&config);
    let first = add.run(&world);
    assert_eq!(first.expect_addresses(), ["10.7.0.2".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(add.run(&world).json(), first.json(), "a repeated ADD changes nothing");
    assert_eq!(remembered(&world), ["10.7.0.2"]);
    assert!(pod.command("ip route").contains("default via 169.254.1.1 dev eth0"));

    let mut checked = config.clone();
    checked["prevResult"] = first.json();
    add.clone().with_command("CHECK").with_config(&checked).run(&world).expect_silence();

    add.clone().with_command("DEL").run(&world).expect_silence();
    assert_eq!(remembered(&world), Vec::<String>::new());
    world.assert_clean();
    add.with_command("DEL").run(&world).expect_silence();
}

#[test]
fn both_families_come_from_ranges_and_the_routes_of_the_configuration_replace_the_default() {
    let (world, mut config) = world();
    config["ipam"] = json!({
        "type": "host-local",
        "dataDir": config["ipam"]["dataDir"],
        "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]],
        "routes": [{"dst": "192.0.2.0/24"}, {"dst": "2001:db8::/32"}],
    });
    let pod = PodNamespace::new(&world, "p1");
    let add = Call::new(&world, "ADD", "c1", &pod.path()).of_pod("default", "p1").with_config(&config);
    let outcome = add.run(&world);
    let result = outcome.expect_result();
    let nets: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
    assert_eq!(nets, ["10.7.0.2/32", "fd07::2/128"]);
    let routes = [pod.command("ip route"), pod.command("ip -6 route")].concat();
    assert!(routes.contains("192.0.2.0/24 via 169.254.1.1"), "{routes}");
    assert!(routes.contains("2001:db8::/32 via fe80::"), "{routes}");
    assert!(!routes.contains("default"), "{routes}");

    let mut checked = config.clone();
    checked["prevResult"] = outcome.json();
    let check = add.clone().with_command("CHECK").with_config(&checked);
    check.run(&world).expect_silence();
    pod.command("ip route delete 192.0.2.0/24");
    let (_, message) = check.run(&world).expect_error();
    assert!(message.contains("192.0.2.0/24"), "{message}");
    add.with_command("DEL").run(&world).expect_silence();
    world.assert_clean();
}

#[test]
fn an_add_that_fails_gives_the_address_back_and_one_that_was_killed_does_not_hinder_the_next() {
    let (world, config) = world();
    let pod = PodNamespace::new(&world, "p1");
    let add = Call::new(&world, "ADD", "c1", &pod.path()).of_pod("default", "p1").with_config(&config);
    pod.occupy("eth0");
    let (_, message) = add.run(&world).expect_error();
    assert!(message.contains("eth0"), "{message}");
    assert_eq!(remembered(&world), Vec::<String>::new());
    world.assert_clean();
    pod.command("ip link delete eth0");

    // As if the plugin had been killed when host-local had just answered.
    let mut direct = add.clone();
    direct.line = "host-local".to_owned();
    let mut replaced = config.clone();
    replaced["ipam"]["subnet"] = "10.7.0.0/24".into();
    direct.with_config(&replaced).run(&world).expect_result();
    assert_eq!(remembered(&world).len(), 1);
    add.run(&world).expect_result();
    assert_eq!(remembered(&world).len(), 1, "one address in total");
    add.with_command("DEL").run(&world).expect_silence();
    world.assert_clean();
}

#[test]
fn without_a_pod_cidr_nothing_is_assigned_and_the_error_names_the_node() {
    let (world, config) = world();
    world.set_pod_cidrs(&["fd07::/64"]);
    let pod = PodNamespace::new(&world, "p1");
    let add = Call::new(&world, "ADD", "c1", &pod.path()).of_pod("default", "p1").with_config(&config);
    let (code, message) = add.run(&world).expect_error();
    assert_eq!(code, 7);
    assert!(message.contains("usePodCidr") && message.contains("Node n1"), "{message}");
    assert_eq!(remembered(&world), Vec::<String>::new());
}

#[test]
fn the_address_goes_back_while_no_node_runs() {
    let (mut world, config) = world();
    let pod = PodNamespace::new(&world, "p1");
    let add = Call::new(&world, "ADD", "c1", &pod.path()).of_pod("default", "p1").with_config(&config);
    add.run(&world).expect_result();
    world.kill_node();
    add.clone().with_command("DEL").run(&world).expect_silence();
    assert_eq!(remembered(&world), Vec::<String>::new());
    let (code, _) = add.run(&world).expect_error();
    assert_eq!(code, 11, "try again later");
    assert_eq!(remembered(&world), Vec::<String>::new());
    world.start_node();
    world.assert_clean();
}

#[test]
fn garbage_of_the_network_is_collected_without_handles() {
    let (world, config) = world();
    let pods = ["keep", "stale"].map(|name| PodNamespace::new(&world, name));
    for (pod, name) in pods.iter().zip(["keep", "stale"]) {
        let add = Call::new(&world, "ADD", name, &pod.path()).of_pod("default", name).with_config(&config);
        add.run(&world).expect_result();
    }
    let mut collect = config;
    collect["cniVersion"] = "1.1.0".into();
    collect["cni.dev/valid-attachments"] = json!([{"containerID": "keep", "ifname": "eth0"}]);
    let gc = Call::new(&world, "GC", "", "").with_config(&collect);
    gc.run(&world).expect_silence();
    let left: Vec<_> = world.endpoints().into_iter().map(|endpoint| endpoint.spec.container_id).collect();
    assert_eq!(left, ["keep"]);
}
