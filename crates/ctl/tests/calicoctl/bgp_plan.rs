//! `calicoctl bgp plan`, and the test cases of filters.

use serde_json::Value;

use crate::world::{World, resource};

fn two_nodes() -> World {
    let node = |name: &str, address: &str| {
        resource("Node", &format!("name: {name}"), &format!("bgp: {{ipv4Address: {address}/24}}"))
    };
    World::with(&(node("node-1", "10.0.0.1") + &node("node-2", "10.0.0.2")))
}

fn peer(more: &str) -> String {
    resource("BGPPeer", "name: tor", &format!("node: node-1, peerIP: 10.0.0.254, asNumber: 65001{more}"))
}

fn plan(world: &World, file: &str, more: &[&str]) -> String {
    let arguments = [&["bgp", "plan", "-f", "-"][..], more].concat();
    world.run_with_input(&arguments, file).succeeded()
}

#[test]
fn a_new_peer_is_a_session_more_on_the_node_that_it_is_meant_for() {
    let world = two_nodes();
    let before = world.snapshot();
    let text = plan(&world, &peer(""), &[]);
    assert_eq!(
        text,
        "NODE     SESSION          OF            CHANGE   WHY\n\
         node-1   10.0.0.254:179   BGPPeer tor   added\n\n\
         1 session(s) added, 0 removed, 0 reset, 0 changed in place; 1 of 2 node(s) affected.\n"
    );
    assert_eq!(world.snapshot(), before, "nothing is written");
    assert_eq!(plan(&world, &peer(""), &["--node", "node-2"]), "Nothing changes on 1 node(s).\n");
}

#[test]
fn a_reset_names_its_cause_and_a_filter_is_changed_in_place() {
    let world = two_nodes();
    world.run_with_input(&["apply", "-f", "-"], &peer("")).succeeded();
    let filter = resource("BGPFilter", "name: f", "importV4: [{action: Reject}]");
    world.run_with_input(&["apply", "-f", "-"], &filter).succeeded();
    let json = plan(&world, &peer(", ttlSecurity: 1"), &["-o", "json"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    let session = &value["nodes"][0]["sessions"][0];
    assert_eq!((&session["change"], &session["causes"][0]), (&"reset".into(), &"TTL security".into()));
    let yaml = plan(&world, &peer(", filters: [f]"), &["-o", "yaml"]);
    assert!(yaml.contains("change: in place") && yaml.contains("- import"), "{yaml}");
}

#[test]
fn deleting_is_planned_too_and_what_is_not_there_is_an_error() {
    let world = two_nodes();
    world
        .run_with_input(&["bgp", "plan", "--delete", "-f", "-"], &peer(""))
        .failed(&["BGPPeer tor does not exist"]);
    world.run_with_input(&["apply", "-f", "-"], &peer("")).succeeded();
    assert!(plan(&world, &peer(""), &["--delete"]).contains("removed"));
    world
        .run_with_input(&["bgp", "plan", "--node", "x", "-f", "-"], &peer(""))
        .failed(&["Node x does not exist"]);
}

#[test]
fn blocks_that_are_no_longer_announced_are_named() {
    use datastore::Store;

    let world = two_nodes();
    let pool = |more: &str| resource("IPPool", "name: p", &format!("cidr: 192.168.0.0/16{more}"));
    world.run_with_input(&["apply", "-f", "-"], &pool("")).succeeded();
    let owner = api::AffinityOwner::Host("node-1".to_owned());
    let key = api::Key::BlockAffinity { owner, cidr: "192.168.0.0/26".parse().unwrap() };
    world.store().create(&key, r#"{"state": "confirmed"}"#).unwrap();
    let text = plan(&world, &pool(", disableBGPExport: true"), &[]);
    assert!(text.contains("node-1   192.168.0.0/26   withdrawn   10.0.0.2:179\n"), "{text}");
    assert!(text.contains("2 changed in place; 2 of 2 node(s) affected"), "{text}");
}

#[test]
fn a_filter_whose_test_case_fails_is_not_written() {
    let world = World::new();
    let filter = |expected: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata:\n  name: f\n  annotations:\n    \
             tortie.dev/filter-tests: '[{{\"name\": \"default\", \"direction\": \"import\", \"route\": {{\"prefix\": \
             \"0.0.0.0/0\"}}, \"expect\": {{\"action\": \"{expected}\"}}}}]'\nspec:\n  importV4: [{{action: Reject}}]\n"
        )
    };
    let words = ["BGPFilter f", "test case \"default\"", "expected Accept, got Reject", "importV4[0]"];
    for verb in ["create", "apply", "validate"] {
        world.run_with_input(&[verb, "-f", "-"], &filter("Accept")).failed(&words);
    }
    world.run_with_input(&["create", "-f", "-"], &filter("Reject")).succeeded();
    world.run_with_input(&["replace", "-f", "-"], &filter("Accept")).failed(&words);
    let patch = r#"{"spec": {"importV4": [{"action": "Accept"}]}}"#;
    world.run(&["patch", "bgpfilter", "f", "-p", patch]).failed(&["expected Reject, got Accept"]);
}
