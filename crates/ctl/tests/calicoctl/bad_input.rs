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
