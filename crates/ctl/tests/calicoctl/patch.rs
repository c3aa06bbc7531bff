use crate::world::{World, pool};

fn value(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.run(&["get", "ippool", "a", "-o", "json"]).succeeded()).expect("JSON")
}

#[test]
fn each_type_of_patch_changes_what_it_says() {
    let world = World::with(&pool("a", "10.0.0.0/16"));
    let patch = |patch: &str, extra: &[&str]| {
        let arguments = [&["patch", "ippool", "a", "-p", patch], extra].concat();
        assert_eq!(world.run(&arguments).succeeded(), "Successfully patched 1 'IPPool' resource\n");
    };
    patch(r#"{"spec": {"disabled": true}}"#, &[]);
    patch("spec: {nodeSelector: has(rack)}", &["-t", "merge"]);
    patch(r#"[{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]"#, &["--type", "json"]);
    let pool = value(&world);
    assert_eq!(pool["spec"]["disabled"], true);
    assert_eq!(pool["spec"]["nodeSelector"], "has(rack)");
    assert_eq!(pool["metadata"]["labels"]["a"], "b");
    patch(r#"{"spec": {"disabled": null}}"#, &["-t", "strategic"]);
    assert_eq!(value(&world)["spec"].get("disabled"), None);
}

#[test]
fn a_patch_that_makes_no_valid_resource_changes_nothing() {
    let world = World::with(&pool("a", "10.0.0.0/16"));
    let before = world.snapshot();
    for (patch, words) in [
        ("{", &["the patch is not JSON", "line 1", "quote it whole"][..]),
        ("a: [1", &["the patch is not YAML", "line 1"]),
        (r#"{"spec": {"colour": "red"}}"#, &["IPPool a", "spec.colour"]),
        (r#"{"spec": {"ipipMode": "Sometimes"}}"#, &["IPPool a", "spec.ipipMode", "Sometimes"]),
        (r#"{"spec": {"cidr": "10.9.0.0/16"}}"#, &["IPPool a", "spec.cidr", "cannot change"]),
        (r#"{"metadata": {"name": "b"}}"#, &["IPPool a", "cannot change kind, name"]),
        (r#"{"metadata": {"resourceVersion": "77"}}"#, &["IPPool a", "metadata.resourceVersion"]),
    ] {
        world.run(&["patch", "ippool", "a", "-p", patch]).failed(words);
    }
    world.run(&["patch", "ippool", "b", "-p", "{}"]).failed(&["IPPool b does not exist"]);
    world.run(&["patch", "ippool", "a", "-t", "json", "-p", "{}"]).failed(&["list of operations"]);
    world.run(&["patch", "ippool", "a", "-t", "csv", "-p", "{}"]).misused(&["csv", "strategic"]);
    assert_eq!(world.snapshot(), before);
}
