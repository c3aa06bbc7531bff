use std::time::Duration;

use crate::world::{Shape, World};

const MINUTE: Duration = Duration::from_secs(60);

fn cluster(seed: u64, hosts: usize, mesh_limit: usize) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, Shape { zones: 3, mesh_limit, whole_every: None });
    for _ in 0..hosts {
        world.join();
    }
    await_convergence(&mut world);
    world
}

fn await_convergence(world: &mut World) -> Duration {
    world
        .run_until(5 * MINUTE, World::is_converged)
        .unwrap_or_else(|| panic!("not converged: {:?}", world.elapsed()))
}

fn await_settled(world: &mut World) {
    let settled = world.run_until(5 * MINUTE, World::is_settled);
    assert!(settled.is_some(), "sessions are left that nobody wants");
}

fn assert_no_loss(world: &World) {
    let first: Vec<_> = world.losses.iter().take(5).collect();
    assert!(first.is_empty(), "{} routes lost: {first:?}", world.losses.len());
}

#[test]
fn a_mesh_that_grows_gets_reflectors_and_one_that_shrinks_loses_them_without_a_gap() {
    for seed in 0..2 {
        let mut world = cluster(seed, 10, 10);
        assert_eq!(world.sessions().0, 45);
        for _ in 0..8 {
            world.join();
        }
        await_convergence(&mut world);
        await_settled(&mut world);
        assert_eq!(world.live(true).len(), 3);
        assert_eq!(world.sessions().0, 3 + 15 * 2);
        assert!(world.is_converged());
        for host in (0..18).filter(|host| host % 2 == 0) {
            world.leave(host);
            world.run(Duration::from_millis(700));
        }
        await_convergence(&mut world);
        await_settled(&mut world);
        assert_eq!(world.sessions().0, 36);
        assert_no_loss(&world);
    }
}

#[test]
fn reflectors_that_come_and_go_cost_no_route() {
    for seed in 10..12 {
        let mut world = cluster(seed, 12, 0);
        for _ in 0..2 {
            let reflectors = world.live(true);
            let reflector = reflectors[world.rng().usize(0..reflectors.len())];
            world.leave(reflector);
            world.join();
            await_convergence(&mut world);
            await_settled(&mut world);
        }
        assert_no_loss(&world);
    }
}

#[test]
fn a_reflector_that_is_restarted_or_loses_power_costs_no_route() {
    for seed in 20..22 {
        let mut world = cluster(seed, 24, 0);
        let reflectors = world.live(true);
        world.kill(reflectors[0]);
        let pause = world.rng().u64(0..20_000);
        world.run(Duration::from_millis(pause));
        world.boot(reflectors[0]);
        world.run(2 * MINUTE);
        assert!(world.is_converged());
        // Two of three at once, for good: clients go to the one that stands by.
        world.power_off(reflectors[1]);
        world.power_off(reflectors[2]);
        world.run(5 * MINUTE);
        assert!(world.is_converged());
        assert_no_loss(&world);
        for reflector in &reflectors[1..] {
            world.boot(*reflector);
        }
        await_convergence(&mut world);
        await_settled(&mut world);
        assert_no_loss(&world);
    }
}

#[test]
fn a_zone_that_is_cut_off_goes_on_by_itself_and_comes_back() {
    for seed in 30..32 {
        let mut world = cluster(seed, 24, 0);
        world.cut(1, true);
        world.run(6 * MINUTE);
        assert!(world.is_converged(), "each side has its own routes and no others");
        world.cut(1, false);
        await_convergence(&mut world);
        await_settled(&mut world);
        assert_no_loss(&world);
    }
}

/// Something happens, and mostly passes.
fn disturb(world: &mut World) {
    let live = [world.live(true), world.live(false)].concat();
    let host = live[world.rng().usize(0..live.len())];
    let pause = Duration::from_millis(world.rng().u64(0..15_000));
    match world.rng().u8(0..5) {
        0 => {
            world.join();
        }
        1 if live.len() > 12 => world.leave(host),
        2 => {
            world.kill(host);
            world.run(pause);
            world.boot(host);
        }
        3 => {
            world.power_off(host);
            world.run(3 * MINUTE);
            world.boot(host);
        }
        _ => {
            let zone = world.zone(host);
            world.cut(zone, true);
            world.run(pause * 20);
            world.cut(zone, false);
        }
    }
    world.run(pause * 4);
}

#[test]
fn joins_leaves_partitions_and_restarts_cost_no_route_that_has_a_live_path() {
    for seed in 100..105 {
        let mut world = cluster(seed, 18, 15);
        for _ in 0..12 {
            disturb(&mut world);
        }
        await_convergence(&mut world);
        await_settled(&mut world);
        assert_no_loss(&world);
    }
}

/// All boot at once, with rows that they have read.
fn booted(seed: u64, hosts: usize, whole_every: Option<usize>) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, Shape { zones: 3, mesh_limit: 20, whole_every });
    for _ in 0..hosts {
        world.add();
    }
    world.boot_all();
    await_convergence(&mut world);
    world
}

/// What mostly happens to a cluster.
fn days(world: &mut World) {
    world.join();
    let reflector = world.live(true)[0];
    world.kill(reflector);
    world.run(Duration::from_secs(5));
    world.boot(reflector);
    world.run(MINUTE);
    assert!(world.is_converged());
    world.power_off(reflector);
    world.run(4 * MINUTE);
    assert!(world.is_converged(), "clients have gone to others");
    world.boot(reflector);
    await_convergence(world);
    let client = world.live(false)[1];
    world.leave(client);
    world.leave(reflector);
    world.run(2 * MINUTE);
    world.cut(2, true);
    world.run(4 * MINUTE);
    assert!(world.is_converged(), "each side has its own routes and no others");
    world.cut(2, false);
    await_convergence(world);
    await_settled(world);
}

#[test]
fn a_hundred_nodes_have_few_sessions_and_every_route_whatever_happens() {
    let mut world = booted(1, 100, None);
    await_settled(&mut world);
    assert_eq!(world.live(true).len(), 3);
    assert_eq!(world.sessions().0, 3 + 97 * 2);
    let before = world.counts;
    days(&mut world);
    assert_no_loss(&world);
    let counts = world.counts.since(before);
    assert!(counts.detours * 100 < counts.updates, "routes go round among reflectors: {counts:?}");
}

/// As it is done for thousands of nodes.
#[test]
fn clients_that_are_only_modelled_fare_no_worse() {
    for seed in 0..2 {
        let mut world = booted(seed, 80, Some(10));
        assert_eq!(world.sessions().0, 3 + 77 * 2);
        days(&mut world);
        assert_eq!(world.sessions().0, 3 + 76 * 2);
        assert_no_loss(&world);
    }
}
