use crate::world::{World, pool, resource};

fn world() -> World {
    World::with(
        &[
            pool("default-ipv4-ippool", "10.65.0.0/16"),
            pool("v6", "fd00:65::/48"),
            resource("Node", "name: node-1", "bgp: {ipv4Address: 172.31.0.1/24, asNumber: 65001}"),
            resource("Node", "name: node-2", "bgp: {ipv4Address: 172.31.0.2/24}"),
            resource("BGPPeer", "name: rack", "peerIP: 192.0.2.1, asNumber: 64600"),
            resource("BGPPeer", "name: one", "peerIP: 192.0.2.2, asNumber: 64601, node: node-1"),
            resource("NetworkPolicy", "name: web, namespace: prod", "order: 10, selector: app == 'web'"),
            resource("NetworkPolicy", "name: db", ""),
            resource(
                "WorkloadEndpoint",
                "namespace: default",
                "orchestrator: k8s, node: node-1, pod: pod-1, endpoint: eth0, ipNetworks: [10.65.0.2/32], \
                 interfaceName: cali123, profiles: [kns.default]",
            ),
        ]
        .concat(),
    )
}

#[test]
fn the_narrow_table_is_the_default() {
    let expected = "\
NAME                  CIDR           SELECTOR
default-ipv4-ippool   10.65.0.0/16   all()
v6                    fd00:65::/48   all()
";
    let world = world();
    for word in ["ippool", "ippools", "pool", "IPPool"] {
        assert_eq!(world.run(&["get", word]).succeeded(), expected, "{word}");
    }
    assert_eq!(world.run(&["get", "pools", "-o", "ps"]).succeeded(), expected);
    assert_eq!(world.run(&["get", "nodes"]).succeeded(), "NAME\nnode-1\nnode-2\n");
    assert_eq!(world.run(&["get", "heps"]).succeeded(), "NAME   NODE\n");
}

#[test]
fn the_wide_table_has_more() {
    let world = world();
    assert_eq!(
        world.run(&["get", "nodes", "-o", "wide"]).succeeded(),
        "NAME     ASN       IPV4            IPV6\n\
         node-1   65001     172.31.0.1/24\n\
         node-2   (64512)   172.31.0.2/24\n"
    );
    assert_eq!(
        world.run(&["get", "ippool", "v6", "--output=wide"]).succeeded(),
        "NAME   CIDR           NAT     IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE\n\
         v6     fd00:65::/48   false   Never      Never       false      false              all()      Automatic\n"
    );
    assert_eq!(
        world.run(&["get", "bgppeers"]).succeeded(),
        "NAME   PEERIP      NODE       ASN\n\
         one    192.0.2.2   node-1     64601\n\
         rack   192.0.2.1   (global)   64600\n"
    );
    assert_eq!(
        world.run(&["get", "weps", "-o", "wide"]).succeeded(),
        "NAME                      WORKLOAD   NODE     NETWORKS       INTERFACE   PROFILES      NATS\n\
         node--1-k8s-pod--1-eth0   pod-1      node-1   10.65.0.2/32   cali123     kns.default\n"
    );
}

#[test]
fn namespaces_are_one_at_a_time_or_all() {
    let world = world();
    assert_eq!(world.run(&["get", "np"]).succeeded(), "NAME   TIER\ndb     default\n");
    assert_eq!(
        world.run(&["get", "np", "-n", "prod", "-o", "wide"]).succeeded(),
        "NAME   TIER      ORDER   SELECTOR\nweb    default   10      app == 'web'\n"
    );
    for flag in ["-A", "-a", "--all-namespaces"] {
        assert_eq!(
            world.run(&["get", "np", flag]).succeeded(),
            "NAMESPACE   NAME   TIER\ndefault     db     default\nprod        web    default\n"
        );
    }
    world.run(&["get", "ippools", "-n", "prod"]).failed(&["IPPool has no namespace", "--namespace prod"]);
}

#[test]
fn yaml_and_json_are_the_resource_or_a_list() {
    let world = world();
    let yaml = world.run(&["get", "ippool", "v6", "-o", "yaml"]).succeeded();
    for line in ["apiVersion: projectcalico.org/v3", "kind: IPPool", "  name: v6", "  blockSize: 122"] {
        assert!(yaml.lines().any(|found| found == line), "{line:?} is not in\n{yaml}");
    }
    let json = world.run(&["get", "ippools", "-o", "json"]).succeeded();
    let list: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(list["kind"], "IPPoolList");
    assert_eq!(list["items"][1]["spec"]["cidr"], "fd00:65::/48");
    assert!(
        list["metadata"]["resourceVersion"].is_string() && list["items"][0]["metadata"]["uid"].is_string()
    );
}

#[test]
fn an_export_leaves_out_what_belongs_to_this_cluster() {
    let world = world();
    let yaml = world.run(&["get", "np", "-A", "-o", "yaml", "--export"]).succeeded();
    for field in ["uid:", "creationTimestamp:", "namespace:"] {
        assert!(!yaml.contains(field), "{field} is in\n{yaml}");
    }
    let other = World::new();
    let nodes = world.run(&["get", "nodes", "-o", "yaml", "--export"]).succeeded();
    other.run_with_input(&["create", "-f", "-"], &nodes).succeeded();
}

#[test]
fn columns_can_be_chosen() {
    let world = world();
    assert_eq!(
        world.run(&["get", "ippools", "-o", "custom-columns=CIDR,NAME"]).succeeded(),
        "CIDR           NAME\n10.65.0.0/16   default-ipv4-ippool\nfd00:65::/48   v6\n"
    );
    world.run(&["get", "ippools", "-o", "custom-columns=COLOUR"]).failed(&["IPPool", "COLOUR", "BLOCKSIZE"]);
}

#[test]
fn names_can_be_had_alone() {
    assert_eq!(world().run(&["get", "nodes", "-o", "name"]).succeeded(), "node/node-1\nnode/node-2\n");
}

#[test]
fn a_file_says_what_to_get() {
    let world = world();
    let text = pool("v6", "fd00:65::/48") + &resource("Node", "name: node-1", "");
    assert_eq!(
        world.run_with_input(&["get", "-f", "-"], &text).succeeded(),
        "NAME   CIDR           SELECTOR\nv6     fd00:65::/48   all()\n\nNAME\nnode-1\n"
    );
}

#[test]
fn what_is_missing_is_named_and_the_rest_is_shown() {
    let outcome = world().run(&["get", "nodes", "node-1", "node-9"]).failed(&["Node node-9 does not exist"]);
    assert_eq!(outcome.output, "NAME\nnode-1\n");
    let outcome =
        world().run(&["get", "node", "node-9", "-o", "yaml"]).failed(&["Node node-9 does not exist"]);
    assert_eq!(outcome.output, "");
}

#[test]
fn go_templates_are_refused_with_the_alternatives() {
    let world = world();
    for format in ["go-template={{.}}", "go-template-file=x.tmpl"] {
        world.run(&["get", "nodes", "-o", format]).misused(&["custom-columns", "json"]);
    }
    world.run(&["get", "nodes", "-o", "xml"]).misused(&["xml", "wide, yaml, json"]);
}
