use crate::world::{World, kubernetes_policy, pool, resource};

#[test]
fn resources_are_deleted_by_name_and_by_file() {
    let world =
        World::with(&(pool("a", "10.0.0.0/16") + &pool("b", "10.1.0.0/16") + &pool("c", "10.2.0.0/16")));
    let line = world.run(&["delete", "ippool", "a", "b"]).succeeded();
    assert_eq!(line, "Successfully deleted 2 'IPPool' resource(s)\n");
    let line = world.run_with_input(&["delete", "-f", "-"], &pool("c", "10.2.0.0/16")).succeeded();
    assert_eq!(line, "Successfully deleted 1 'IPPool' resource(s)\n");
    assert_eq!(world.snapshot(), []);
}

#[test]
fn what_does_not_exist_is_an_error_unless_skipped() {
    let world = World::with(&kubernetes_policy("web"));
    world.run(&["delete", "ippool", "a"]).failed(&[
        "Failed to delete any 'IPPool'",
        "IPPool a does not exist",
        "--skip-not-exists",
    ]);
    let line = world.run(&["delete", "np", "a", "knp.default.web", "-s"]).succeeded();
    assert_eq!(
        line,
        "Successfully deleted 1 'NetworkPolicy' resource(s)\nSkipped 1 'NetworkPolicy' resource(s) that do not exist\n"
    );
}

#[test]
fn a_file_with_a_revision_deletes_only_that() {
    let world = World::with(&resource("Tier", "name: t", "order: 5"));
    let stored = world.run(&["get", "tier", "t", "-o", "yaml"]).succeeded();
    world.run_with_input(&["apply", "-f", "-"], &resource("Tier", "name: t", "order: 6")).succeeded();
    world.run_with_input(&["delete", "-f", "-"], &stored).failed(&["Tier t", "someone else"]);
    world.run(&["delete", "tier", "t"]).succeeded();
}

#[test]
fn what_is_needed_stays() {
    let world = World::with(
        &(resource("Tier", "name: security", "order: 5")
            + &resource("GlobalNetworkPolicy", "name: p", "tier: security")
            + &resource("Tier", "name: default", "order: 1000000")),
    );
    let before = world.snapshot();
    world
        .run(&["delete", "tier", "security"])
        .failed(&["Tier security still has policies: GlobalNetworkPolicy p"]);
    world.run(&["delete", "tier", "default"]).failed(&["Tier default is built in"]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn a_kind_alone_deletes_nothing() {
    let world = World::with(&pool("a", "10.0.0.0/16"));
    world.run(&["delete", "ippools"]).failed(&["which IPPool?", "calicoctl get ippools"]);
    world.run(&["delete"]).misused(&["KIND"]);
    world.run(&["delete", "ippool", "a", "-f", "x"]).misused(&["cannot be used with"]);
    assert_eq!(world.snapshot().len(), 1);
}

#[test]
fn a_node_takes_its_automatic_host_endpoints_along() {
    let endpoint = |name: &str, node: &str, labels: &str| {
        let spec = format!("node: {node}, interfaceName: eth0");
        resource("HostEndpoint", &format!("name: {name}, labels: {{{labels}}}"), &spec)
    };
    let automatic = "projectcalico.org/created-by: calico-kube-controllers";
    let world = World::with(
        &(resource("Node", "name: a", "")
            + &endpoint("a-auto-hep", "a", automatic)
            + &endpoint("b-auto-hep", "b", automatic)
            + &endpoint("by-hand", "a", "")),
    );
    world.run(&["delete", "node", "a"]).succeeded();
    assert_eq!(
        world.run(&["get", "heps", "-o", "name"]).succeeded(),
        "hostendpoint/b-auto-hep\nhostendpoint/by-hand\n"
    );
}
