//! create, apply, replace and validate.

use crate::world::{World, kubernetes_policy, pool, resource};

fn pools(world: &World) -> String {
    world.run(&["get", "ippools", "-o", "custom-columns=NAME,DISABLED"]).succeeded()
}

#[test]
fn apply_creates_and_then_changes() {
    let world = World::without_datastore();
    let file = world.file("pools.yaml", &(pool("a", "10.0.0.0/16") + &pool("b", "10.1.0.0/16")));
    assert_eq!(
        world.run(&["apply", "-f", &file]).succeeded(),
        "Successfully applied 2 'IPPool' resource(s)\n"
    );
    let before = world.run(&["get", "ippool", "a", "-o", "json"]).succeeded();
    assert!(before.contains("\"uid\"") && before.contains("\"creationTimestamp\""), "{before}");

    let disabled = resource("IPPool", "name: a", "cidr: 10.0.0.0/16, disabled: true");
    let line = world.run_with_input(&["apply", "-f", "-"], &disabled).succeeded();
    assert_eq!(line, "Successfully applied 1 'IPPool' resource(s)\n");
    assert_eq!(pools(&world), "NAME   DISABLED\na      true\nb      false\n");
    let after = world.run(&["get", "ippool", "a", "-o", "json"]).succeeded();
    for field in ["\"uid\"", "\"creationTimestamp\""] {
        let of = |text: &str| text.lines().find(|line| line.contains(field)).map(str::to_owned);
        assert_eq!(of(&before), of(&after), "{field} changed");
    }
}

#[test]
fn different_kinds_are_counted_together() {
    let world = World::new();
    let text = pool("a", "10.0.0.0/16") + &resource("Tier", "name: t", "order: 5");
    assert_eq!(
        world.run_with_input(&["apply", "-f", "-"], &text).succeeded(),
        "Successfully applied 2 resource(s)\n"
    );
}

#[test]
fn kubernetes_objects_become_what_calico_makes_of_them() {
    let world = World::new();
    let line =
        world.run_with_input(&["apply", "-f", "-", "-n", "prod"], &kubernetes_policy("web")).succeeded();
    assert_eq!(line, "Successfully applied 1 'NetworkPolicy' resource(s)\n");
    let names = world.run(&["get", "networkpolicies", "-A", "-o", "name"]).succeeded();
    assert_eq!(names, "networkpolicy/prod/knp.default.web\n");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: prod\n  labels: {env: p}\n";
    let line = world.run_with_input(&["apply", "-f", "-"], namespace).succeeded();
    assert_eq!(line, "Successfully applied 1 'Namespace' resource(s)\n");
    assert_eq!(world.run(&["get", "profiles", "-o", "name"]).succeeded(), "profile/kns.prod\n");
    let line =
        world.run_with_input(&["delete", "-f", "-", "-n", "prod"], &kubernetes_policy("web")).succeeded();
    assert_eq!(line, "Successfully deleted 1 'NetworkPolicy' resource(s)\n");
}

#[test]
fn create_refuses_what_exists_unless_told_to_skip_it() {
    let world = World::new();
    let file = world.file("pool.yaml", &pool("a", "10.0.0.0/16"));
    let line = world.run(&["create", "-f", &file]).succeeded();
    assert_eq!(line, "Successfully created 1 'IPPool' resource(s)\n");
    let before = world.snapshot();
    world.run(&["create", "-f", &file]).failed(&[
        "Failed to create any 'IPPool' resources",
        "IPPool a already exists",
        "--skip-exists",
    ]);
    let both = pool("a", "10.0.0.0/16") + &pool("b", "10.1.0.0/16");
    assert_eq!(world.snapshot(), before);
    assert_eq!(
        world.run_with_input(&["create", "-f", "-", "--skip-exists"], &both).succeeded(),
        "Successfully created 1 'IPPool' resource(s)\nSkipped 1 'IPPool' resource(s) that exist already\n"
    );
}

#[test]
fn replace_needs_what_it_replaces_and_honours_the_revision() {
    let world = World::with(&pool("a", "10.0.0.0/16"));
    world.run_with_input(&["replace", "-f", "-"], &pool("b", "10.1.0.0/16")).failed(&[
        "Failed to replace any",
        "IPPool b does not exist",
        "calicoctl create or apply",
    ]);
    let stored = world.run(&["get", "ippool", "a", "-o", "yaml"]).succeeded();
    let edited = stored.replace("  cidr:", "  natOutgoing: true\n  cidr:");
    let line = world.run_with_input(&["replace", "-f", "-"], &edited).succeeded();
    assert_eq!(line, "Successfully replaced 1 'IPPool' resource(s)\n");
    for verb in ["replace", "apply"] {
        world
            .run_with_input(&[verb, "-f", "-"], &edited.replace("true", "false"))
            .failed(&["IPPool a", "someone else"]);
    }
    assert!(world.run(&["get", "ippool", "a", "-o", "yaml"]).succeeded().contains("natOutgoing: true"));
}

#[test]
fn the_first_failure_ends_it_and_the_count_says_how_far_it_got() {
    let world = World::new();
    let text = pool("a", "10.0.0.0/16") + &pool("b", "10.0.0.0/24") + &pool("c", "10.2.0.0/16");
    let outcome = world.run_with_input(&["apply", "-f", "-"], &text).failed(&[
        "Partial success: applied the first 1 out of 3 'IPPool' resources:",
        "Hit error: IPPool b: spec.cidr: \"10.0.0.0/24\" overlaps 10.0.0.0/16 of IPPool a",
    ]);
    assert_eq!(outcome.output, "");
    assert_eq!(pools(&world), "NAME   DISABLED\na      false\n");
}

#[test]
fn folders_are_read_and_deeper_ones_if_asked_for() {
    let world = World::new();
    world.file("d/a.yaml", &pool("a", "10.0.0.0/16"));
    world.file("d/notes.txt", "not a resource");
    world.file("d/deep/b.json", r#"{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "b"}, "spec": {"cidr": "10.1.0.0/16"}}"#);
    let folder = world.path("d");
    let line = world.run(&["validate", "-f", &folder]).succeeded();
    assert_eq!(line, "Successfully validated 1 'IPPool' resource(s)\n");
    let line = world.run(&["apply", "-f", &folder, "-R"]).succeeded();
    assert_eq!(line, "Successfully applied 2 'IPPool' resource(s)\n");
    world.file("e/deep/b.yaml", "");
    world.run(&["apply", "-f", &world.path("e")]).failed(&["no .yaml, .yml or .json file", "-R"]);
    world.run(&["apply", "-f", &world.path("e"), "-R"]).failed(&["b.yaml holds no resource", "--skip-empty"]);
    world.run(&["apply", "-f", &world.path("e"), "-f", &folder, "-R", "--skip-empty"]).succeeded();
}

#[test]
fn lists_can_be_written_back() {
    let world = World::with(&(pool("a", "10.0.0.0/16") + &pool("b", "10.1.0.0/16")));
    let list = world.run(&["get", "ippools", "-o", "yaml"]).succeeded();
    let line = world.run_with_input(&["apply", "-f", "-"], &list).succeeded();
    assert_eq!(line, "Successfully applied 2 'IPPool' resource(s)\n");
}

#[test]
fn a_namespace_is_for_what_names_none_and_may_not_contradict() {
    let world = World::new();
    let set = |metadata: &str| resource("NetworkSet", metadata, "nets: [10.0.0.0/8]");
    world.run_with_input(&["apply", "-f", "-", "-n", "prod"], &set("name: a")).succeeded();
    assert_eq!(world.run(&["get", "netsets", "-n", "prod", "-o", "name"]).succeeded(), "networkset/a\n");
    world.run_with_input(&["apply", "-f", "-", "-n", "prod"], &set("name: a, namespace: test")).failed(&[
        "NetworkSet test/a",
        "metadata.namespace",
        "--namespace",
    ]);
}

#[test]
fn the_settings_of_ipam_can_be_written_and_read() {
    let world = World::new();
    let strict = resource("IPAMConfiguration", "name: default", "strictAffinity: true, maxBlocksPerHost: 4");
    world.run_with_input(&["apply", "-f", "-"], &strict).succeeded();
    assert_eq!(
        world.run(&["get", "ipamconfig"]).succeeded(),
        "NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST\ndefault   true             true                 4\n"
    );
}

#[test]
fn validate_needs_no_datastore_and_writes_nothing() {
    let world = World::without_datastore();
    let line = world.run_with_input(&["validate", "-f", "-"], &pool("a", "10.0.0.0/16")).succeeded();
    assert_eq!(line, "Successfully validated 1 'IPPool' resource(s)\n");
    world.run_with_input(&["validate", "-f", "-"], &pool("a", "10.0.0.1/16")).failed(&[
        "IPPool a",
        "spec.cidr",
        "10.0.0.0/16",
    ]);
    assert!(!world.datastore().exists());
}
