//! What must hold in that world.

use std::time::Duration;

use bgp::Shutdown;
use bgp::session::SessionState;

use crate::network::{World, address, mesh_config, peer_id};

const MINUTE: Duration = Duration::from_secs(60);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Hosts of a mesh, each with two blocks, all up.
fn mesh(seed: u64, hosts: usize, passive: bool) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, (0..hosts).map(|host| mesh_config(host, hosts, passive)).collect());
    for host in 0..hosts {
        world.boot(host);
        world.originate(host, &format!("10.65.{host}.0/26"));
        world.originate(host, &format!("10.65.{host}.64/26"));
    }
    world.await_condition(MINUTE, "up", |world| world.all_established() && world.is_converged());
    world
}

#[test]
fn two_speakers_that_both_dial_agree_on_one_connection() {
    for seed in 0..200 {
        let mut world = mesh(seed, 2, false);
        let before = world.trace.len();
        world.run(3 * MINUTE);
        let downs: Vec<&String> = world.trace[before..]
            .iter()
            .filter(|line| line.contains(" is ") && !line.contains("Established"))
            .collect();
        assert!(downs.is_empty(), "a session that was up went down: {downs:?}");
    }
}

#[test]
fn a_calico_mesh_comes_up_and_follows_changes() {
    for seed in 0..20 {
        let mut world = mesh(seed, 5, true);
        world.originate(3, "10.65.3.128/26");
        world.withdraw(1, "10.65.1.0/26");
        world.await_condition(secs(1), "converged", World::is_converged);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = mesh(seed, 3, false);
        world.kill(1);
        world.run(secs(2));
        world.boot(1);
        world.run(MINUTE);
        world.trace
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_killed_speaker_that_comes_back_loses_no_route_anywhere() {
    for seed in 0..60 {
        let mut world = mesh(seed, 4, seed % 2 == 0);
        let wait = world.rng().u64(0..20_000);
        world.kill(2);
        world.run(Duration::from_millis(wait));
        world.boot(2);
        let up = |world: &World| {
            world.all_established()
                && world.hosts.iter().all(|host| {
                    host.speaker.as_ref().is_some_and(|speaker| speaker.is_complete(bgp::Family::Ipv4Unicast))
                })
        };
        world.await_condition(MINUTE, "up again", up);
        world.run(MINUTE);
        assert!(world.is_converged());
        for (index, host) in world.hosts.iter().enumerate() {
            assert_eq!(host.removed, [], "host {index} stopped forwarding");
        }
    }
}

#[test]
fn speakers_that_are_taken_over_again_and_again_lose_no_session_and_no_route() {
    for seed in 0..30 {
        let mut world = mesh(seed, 4, seed % 2 == 0);
        let before = world.trace.len();
        for turn in 0..20u8 {
            let host = world.rng().usize(0..4);
            let wait = world.rng().u64(0..if seed % 3 == 0 { 3_000 } else { 40_000 });
            match turn % 4 {
                0 => world.originate(host, &format!("10.65.{host}.{}/26", 128 + 64 * (turn / 4 % 2))),
                1 if wait.is_multiple_of(2) => world.withdraw(host, &format!("10.65.{host}.128/26")),
                _ => world.take_over(host),
            }
            world.run(Duration::from_millis(wait));
        }
        world.await_condition(secs(1), "converged", World::is_converged);
        let changes: Vec<&String> =
            world.trace[before..].iter().filter(|line| line.contains(": Mesh_")).collect();
        assert!(changes.is_empty(), "seed {seed}: sessions noticed: {changes:?}");
        let withdrawn = |prefix: &ipnet::IpNet| prefix.to_string().ends_with(".128/26");
        for (index, host) in world.hosts.iter().enumerate() {
            let lost: Vec<_> = host.removed.iter().filter(|(_, prefix)| !withdrawn(prefix)).collect();
            assert!(lost.is_empty(), "seed {seed}: host {index} stopped forwarding: {lost:?}");
        }
    }
}

#[test]
fn a_collision_is_decided_before_a_speaker_is_taken_over() {
    let mut held = 0;
    for seed in 0..100 {
        println!("seed {seed}");
        let mut world = World::new(seed, (0..2).map(|host| mesh_config(host, 2, false)).collect());
        (0..2).for_each(|host| world.boot(host));
        world.await_condition(MINUTE, "up at one end", |world| {
            world.hosts[0].speaker.as_ref().is_some_and(|speaker| {
                speaker.status().iter().all(|peer| peer.state == SessionState::Established)
            })
        });
        held += usize::from(world.hosts[0].speaker.as_ref().is_some_and(bgp::Speaker::is_opening));
        world.take_over(0);
        world.await_condition(secs(10), "up", World::all_established);
        let before = world.trace.len();
        world.take_over(0);
        world.take_over(1);
        world.run(3 * MINUTE);
        let changes: Vec<&String> =
            world.trace[before..].iter().filter(|line| line.contains(": Mesh_")).collect();
        assert!(changes.is_empty(), "seed {seed}: sessions noticed: {changes:?}");
    }
    assert!(held > 5, "{held} of 100 were taken over in the middle of a collision");
}

#[test]
fn a_clean_restart_loses_no_route_but_a_stop_for_good_withdraws_them() {
    let mut world = mesh(1, 3, true);
    world.stop(0, Shutdown::Restarting);
    world.run(secs(5));
    world.boot(0);
    world.await_condition(MINUTE, "up again", |world| world.all_established() && world.is_converged());
    world.run(secs(30));
    assert!(world.hosts.iter().all(|host| host.removed.is_empty()));
    world.stop(0, Shutdown::Stopping { message: "bye".into() });
    world.run(secs(1));
    for host in [1, 2] {
        assert_eq!(world.hosts[host].removed.len(), 2);
        let why = "cease, hard reset (6/9) for cease, administrative shutdown (6/2): \"bye\"";
        let told = format!("host {host}: Mesh_10_0_0_1 is Idle (peer closed: {why})");
        assert!(world.trace.iter().any(|line| line.ends_with(&told)), "{told}: not seen");
    }
}

#[test]
fn routes_of_a_speaker_that_does_not_come_back_go_after_its_restart_time() {
    let mut world = mesh(3, 3, true);
    world.kill(1);
    world.run(secs(110));
    assert_eq!(world.hosts[0].removed, []);
    world.run(secs(15));
    let mut gone: Vec<String> = world.hosts[0].removed.iter().map(|(_, prefix)| prefix.to_string()).collect();
    gone.sort();
    assert_eq!(gone, ["10.65.1.0/26", "10.65.1.64/26"]);
}

#[test]
fn what_a_speaker_no_longer_originates_after_its_restart_goes_with_the_end_of_rib() {
    let mut world = mesh(4, 3, true);
    world.kill(1);
    world.hosts[1].config.originated.remove(&"10.65.1.64/26".parse().unwrap());
    world.boot(1);
    world.await_condition(MINUTE, "up again", |world| world.all_established() && world.is_converged());
    let gone: Vec<String> = world.hosts[0].removed.iter().map(|(_, prefix)| prefix.to_string()).collect();
    assert_eq!(gone, ["10.65.1.64/26"]);
}

#[test]
fn a_host_that_loses_power_is_noticed_by_the_hold_timer_and_returns() {
    let mut world = mesh(5, 3, true);
    world.power_off(2);
    world.run(secs(95));
    let status = world.hosts[0].speaker.as_ref().unwrap().status();
    let peer = status.iter().find(|peer| peer.id == peer_id(2)).unwrap();
    assert_ne!(peer.state, SessionState::Established);
    world.boot(2);
    world.await_condition(MINUTE, "up again", |world| world.all_established() && world.is_converged());
}

#[test]
fn a_host_that_returns_before_its_loss_was_noticed_replaces_its_old_session() {
    for seed in 0..20 {
        let mut world = mesh(seed, 3, seed % 2 == 0);
        world.run(secs(20));
        world.power_off(2);
        world.run(secs(3));
        world.boot(2);
        world.await_condition(secs(30), "up again", |world| world.all_established() && world.is_converged());
        world.run(secs(100));
        assert!(world.all_established() && world.is_converged());
    }
}

#[test]
fn connections_that_break_cost_no_route() {
    for seed in 0..20 {
        let mut world = mesh(seed, 4, true);
        for _ in 0..10 {
            let (a, b) = (world.rng().usize(0..4), world.rng().usize(0..4));
            if a != b {
                world.break_connections(a, b);
            }
            let pause = world.rng().u64(0..5_000);
            world.run(Duration::from_millis(pause));
        }
        world.await_condition(MINUTE, "up again", |world| world.all_established() && world.is_converged());
        assert!(world.hosts.iter().all(|host| host.removed.is_empty()));
    }
}

#[test]
fn a_partition_heals() {
    for seed in 0..10 {
        let mut world = mesh(seed, 3, true);
        world.partition(0, 2, true);
        let time = world.rng().u64(1..400);
        world.run(secs(time));
        world.originate(2, "10.65.2.128/26");
        world.partition(0, 2, false);
        world.await_condition(3 * MINUTE, "healed", |world| world.all_established() && world.is_converged());
    }
}

/// Something bad, or something ordinary, happens to a random host.
fn disturb(world: &mut World, hosts: usize) {
    let host = world.rng().usize(0..hosts);
    match world.rng().u8(0..5) {
        0 => {
            world.kill(host);
            let pause = world.rng().u64(0..3_000);
            world.run(Duration::from_millis(pause));
            world.boot(host);
        }
        1 => world.break_connections(host, (host + 1) % hosts),
        2 => {
            let last = world.rng().u8(..);
            world.originate(host, &format!("10.66.{host}.{last}/32"));
        }
        3 => {
            let originated = &world.hosts[host].config.originated;
            if let Some(prefix) = originated.keys().last().filter(|_| originated.len() > 2).copied() {
                world.withdraw(host, &prefix.to_string());
            }
        }
        _ => {
            let pause = world.rng().u64(0..10_000);
            world.run(Duration::from_millis(pause));
        }
    }
}

fn is_settled(world: &World) -> bool {
    let complete = |speaker: &bgp::Speaker| {
        let end_of_rib = |peer: &bgp::PeerStatus| {
            peer.established.as_ref().is_some_and(|established| !established.end_of_rib.is_empty())
        };
        speaker.status().iter().all(end_of_rib)
    };
    world.hosts.iter().filter_map(|host| host.speaker.as_ref()).all(complete)
}

#[test]
fn failures_one_after_another_never_cost_a_route_that_has_a_live_path() {
    for seed in 100..140 {
        let hosts = 4;
        let mut world = mesh(seed, hosts, seed % 2 == 0);
        for _ in 0..25 {
            disturb(&mut world, hosts);
            // A second loss before the End-of-RIB deletes what was kept (RFC 4724, section 4.2): not here.
            world.await_condition(MINUTE, "settled", is_settled);
        }
        world.await_condition(MINUTE, "converged", World::is_converged);
        // The first two blocks of each host were originated throughout: nobody may ever have lost them.
        for (index, host) in world.hosts.iter().enumerate() {
            let lost: Vec<_> =
                host.removed.iter().filter(|(_, prefix)| prefix.to_string().starts_with("10.65.")).collect();
            assert!(lost.is_empty(), "seed {seed}: host {index} lost {lost:?}\n{}", world.trace.join("\n"));
        }
    }
}

#[test]
fn any_heap_of_failures_converges_once_it_ends() {
    for seed in 200..240 {
        let mut world = mesh(seed, 4, seed % 2 == 0);
        for _ in 0..40 {
            disturb(&mut world, 4);
        }
        let settled = |world: &World| world.all_established() && world.is_converged();
        world.await_condition(3 * MINUTE, "converged", settled);
    }
}

#[test]
fn the_same_prefix_from_two_hosts_goes_to_the_lower_identifier_and_fails_over() {
    let mut world = mesh(9, 3, true);
    world.originate(1, "10.99.0.0/16");
    world.originate(2, "10.99.0.0/16");
    world.run(secs(1));
    let next_hop = |world: &World| world.hosts[0].kernel[&"10.99.0.0/16".parse().unwrap()].next_hops[0];
    assert_eq!(next_hop(&world), address(1));
    world.withdraw(1, "10.99.0.0/16");
    world.run(secs(1));
    assert_eq!(next_hop(&world), address(2));
}

/// A hub and two that know only it.
fn star(seed: u64) -> World {
    let mut configs: Vec<_> = (0..3).map(|host| mesh_config(host, 3, true)).collect();
    configs[1].peers.retain(|id, _| *id == peer_id(0));
    configs[2].peers.retain(|id, _| *id == peer_id(0));
    let mut world = World::new(seed, configs);
    (0..3).for_each(|host| world.boot(host));
    world.originate(1, "10.65.1.0/26");
    world.originate(2, "10.65.2.0/26");
    world.await_condition(MINUTE, "up", World::all_established);
    world.run(secs(1));
    world
}

#[test]
fn a_peer_becomes_a_client_and_ceases_to_be_one_without_a_reset() {
    for seed in 0..10 {
        let mut world = star(seed);
        let has = |world: &World, host: usize, prefix: &str| {
            world.hosts[host].kernel.contains_key(&prefix.parse().unwrap())
        };
        for clients in [&[1][..], &[1, 2], &[2], &[], &[1, 2]] {
            let before = world.trace.len();
            let mut config = world.hosts[0].config.clone();
            for host in [1, 2] {
                config.peers.get_mut(&peer_id(host)).unwrap().reflector_client = clients.contains(&host);
            }
            world.hosts[0].config = config.clone();
            world.input(0, bgp::Input::Configure(config));
            world.run(secs(1));
            // Of two internal peers one has to be a client (RFC 4456, section 6).
            let reflected = !clients.is_empty();
            assert_eq!(has(&world, 1, "10.65.2.0/26"), reflected, "seed {seed}, clients {clients:?}");
            assert_eq!(has(&world, 2, "10.65.1.0/26"), reflected, "seed {seed}, clients {clients:?}");
            let changes: Vec<_> = world.trace[before..]
                .iter()
                .filter(|line| line.contains("Idle") || line.contains("Established"))
                .collect();
            assert!(changes.is_empty(), "{changes:?}");
        }
    }
}
