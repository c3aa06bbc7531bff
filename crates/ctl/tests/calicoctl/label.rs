use crate::world::{World, resource};

#[test]
fn labels_are_set_changed_and_removed() {
    let world = World::with(&resource("Node", "name: node-1", ""));
    let labels = || world.run(&["get", "node", "node-1", "-o", "yaml"]).succeeded();
    assert_eq!(
        world.run(&["label", "nodes", "node-1", "rack=r1"]).succeeded(),
        "Successfully set label rack on nodes node-1\n"
    );
    assert!(labels().contains("rack: r1"));
    world.run(&["label", "nodes", "node-1", "rack=r2"]).failed(&["Node node-1", "label rack", "--overwrite"]);
    assert!(labels().contains("rack: r1"));
    let line = world.run(&["label", "nodes", "node-1", "rack=r2", "--overwrite"]).succeeded();
    assert_eq!(line, "Successfully updated label rack on nodes node-1\n");
    assert!(labels().contains("rack: r2"));
    let line = world.run(&["label", "nodes", "node-1", "rack", "--remove"]).succeeded();
    assert_eq!(line, "Successfully removed label rack from nodes node-1\n");
    assert!(!labels().contains("rack"));
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let world = World::with(&resource("Node", "name: node-1", ""));
    let before = world.snapshot();
    world.run(&["label", "nodes", "node-1", "rack"]).failed(&["no value", "rack=VALUE", "--remove"]);
    world.run(&["label", "nodes", "node-1", "rack", "--remove"]).failed(&["Node node-1", "no label rack"]);
    world.run(&["label", "nodes", "node-1", "rack=r1", "--remove"]).failed(&["rack=r1", "write rack"]);
    world.run(&["label", "nodes", "node-1", "a b=c"]).failed(&["Node node-1", "metadata.labels", "a b"]);
    world.run(&["label", "nodes", "node-9", "a=b"]).failed(&["Node node-9 does not exist"]);
    assert_eq!(world.snapshot(), before);
}
