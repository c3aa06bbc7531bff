//! `apply --confirm` and `confirm`.

use crate::world::{World, pool, resource};

const OPERATOR: &str = "192.0.2.7 50000 192.0.2.1 22";

/// With a node that would undo what is not confirmed.
fn world() -> World {
    let mut world = World::with(&(resource("Node", "name: n", "") + &pool("a", "10.0.0.0/16")));
    world.set("SSH_CONNECTION", OPERATOR.to_owned());
    world.set("USER", "ann".to_owned());
    world
}

/// Applies a file that has to be confirmed; returns the change's identity.
fn apply(world: &World, text: &str) -> String {
    let output = world.run_with_input(&["apply", "-f", "-", "--confirm", "1m"], text).succeeded();
    assert!(output.contains("over a new connection"), "{output}");
    output.trim().rsplit(' ').next().expect("an identity").to_owned()
}

fn encapsulated() -> String {
    resource("IPPool", "name: a", "cidr: 10.0.0.0/16, vxlanMode: Always")
}

fn mode(world: &World) -> String {
    world.run(&["get", "ippool", "-o", "custom-columns=NAME,VXLANMODE"]).succeeded()
}

#[test]
fn a_change_is_confirmed_over_another_connection_only() {
    let mut world = world();
    let id = apply(
        &world,
        &(encapsulated() + &resource("HostEndpoint", "name: h", "node: n, interfaceName: eth0")),
    );
    let listed = world.run(&["confirm"]).succeeded();
    let line = listed.lines().nth(1).expect("it waits");
    assert!(line.starts_with(&format!("{id}   waiting until   ")), "{listed}");
    assert!(line.ends_with("Z   ann      IPPool a, HostEndpoint h"), "{listed}");
    world.run(&["confirm", &id]).failed(&[
        "the connection over which change",
        "open a new one",
        "--same-connection",
    ]);
    world.set("SSH_CONNECTION", "192.0.2.7 50001 192.0.2.1 22".to_owned());
    assert_eq!(world.run(&["confirm", &id]).succeeded(), format!("Confirmed {id}: 2 change(s) stay\n"));
    assert_eq!(mode(&world), "NAME   VXLANMODE\na      Always\n");
    world.run(&["confirm", &id]).failed(&["no change", &id, "waits for a confirmation"]);
    assert_eq!(world.run(&["confirm"]).succeeded(), "ID   STATE   TIME   AUTHOR   CHANGES\n");
}

#[test]
fn the_connection_does_not_matter_if_told_so() {
    let world = world();
    let id = apply(&world, &encapsulated());
    world.run(&["confirm", &id, "--same-connection"]).succeeded();
}

#[test]
fn a_change_can_be_undone_by_hand() {
    let world = world();
    let before = world.snapshot();
    let id = apply(&world, &(encapsulated() + &resource("Tier", "name: t", "order: 5")));
    world.run(&["apply", "-f", &world.file("same.yaml", &encapsulated())]).succeeded();
    assert_eq!(
        world.run(&["confirm", &id, "--undo"]).succeeded(),
        format!("Undone {id}: put back 2 resource(s)\n")
    );
    let texts = |rows: Vec<(String, String, String)>| {
        rows.into_iter().map(|(key, text, _)| (key, text)).collect::<Vec<_>>()
    };
    assert_eq!(texts(world.snapshot()), texts(before));
    world.run(&["confirm", &id, "--undo"]).failed(&["was undone already"]);
    world
        .run(&["confirm", &id, "--same-connection"])
        .failed(&["not confirmed in time", "calicoctl put back"]);
    let listed = world.run(&["confirm"]).succeeded();
    assert!(listed.contains("undone by calicoctl at"), "{listed}");
}

#[test]
fn what_fails_half_way_is_undone_at_once() {
    let world = world();
    let text = encapsulated() + &pool("b", "10.0.0.0/24");
    world.run_with_input(&["apply", "-f", "-", "--confirm", "60s"], &text).failed(&[
        "what was applied before the error is undone",
        "applied the first 1 out of 2",
        "IPPool b: spec.cidr",
    ]);
    assert_eq!(mode(&world), "NAME   VXLANMODE\na      Never\n");
}

#[test]
fn a_change_of_the_same_resource_waits_for_the_first() {
    let world = world();
    let id = apply(&world, &encapsulated());
    let other = resource("IPPool", "name: a", "cidr: 10.0.0.0/16, disabled: true");
    world.run_with_input(&["apply", "-f", "-", "--confirm", "60s"], &other).failed(&[
        "IPPool a is part of change",
        &id,
        "confirm it, or undo it",
    ]);
}

#[test]
fn nothing_to_confirm_and_nobody_to_undo_are_said() {
    let world = world();
    let same = pool("a", "10.0.0.0/16");
    assert_eq!(
        world.run_with_input(&["apply", "-f", "-", "--confirm", "60s"], &same).succeeded(),
        "Successfully applied 1 'IPPool' resource(s)\nNothing has changed, so there is nothing to confirm\n"
    );
    assert_eq!(world.run(&["confirm"]).succeeded(), "ID   STATE   TIME   AUTHOR   CHANGES\n");
    let empty = World::new();
    empty
        .run_with_input(&["apply", "-f", "-", "--confirm", "60s"], &same)
        .failed(&["no Node", "tortie node"]);
    assert_eq!(empty.snapshot(), []);
    for time in ["1s", "soon", "48h"] {
        world.run_with_input(&["apply", "-f", "-", "--confirm", time], &same).misused(&["--confirm", time]);
    }
}
