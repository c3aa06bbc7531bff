//! Graceful restart (RFC 4724) in both roles, step by step.

use std::time::Duration;

use bgp::packet::capability::{Capability, GracefulRestartCapability};
use bgp::{Family, Input, Resolution, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn helper() -> Bench {
    let peers = [("i2", peer(2, OUR_AS)), ("e4", peer(4, 65004))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("i2", &["10.65.2.0/26", "10.65.2.64/26", "2001:db8:2::/64"], &[], &[]);
    bench.end_of_rib("i2");
    bench.lose("i2");
    bench
}

fn forwarding(families: &[Family]) -> impl FnOnce(&mut Vec<Capability>) {
    let families: Vec<_> = families.iter().map(|family| ((*family).into(), true)).collect();
    move |capabilities| {
        for capability in capabilities {
            if let Capability::GracefulRestart(value) = capability {
                *value = GracefulRestartCapability {
                    restarting: true,
                    families: families.clone(),
                    ..value.clone()
                };
            }
        }
    }
}

#[test]
fn routes_of_a_lost_peer_stay_until_its_restart_time_is_over() {
    let mut bench = helper();
    assert_eq!(bench.kernel.len(), 3);
    assert_eq!(bench.has("e4").len(), 3, "others are not told of a restart");
    assert_eq!(bench.speaker.status()[1].stale.iter().map(|(_, routes)| routes).sum::<usize>(), 3);
    bench.wait(secs(119));
    assert_eq!(bench.kernel.len(), 3);
    bench.wait(secs(1));
    assert!(bench.kernel.is_empty());
    assert_eq!(bench.has("e4").len(), 0);
}

#[test]
fn what_is_not_announced_again_goes_at_the_end_of_rib() {
    let mut bench = helper();
    bench.up("i2");
    let told = bench.probes["e4"].updates;
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    assert_eq!(bench.kernel.len(), 3);
    assert_eq!(bench.probes["e4"].updates, told, "the same route again is no news");
    bench.end_of_rib("i2");
    let rest = [net("10.65.2.0/26"), net("2001:db8:2::/64")];
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), rest, "of IPv6 nothing has come yet");
    bench.wait(secs(1));
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), rest[..1]);
    assert_eq!(bench.speaker.status()[1].stale.iter().map(|(_, routes)| routes).sum::<usize>(), 0);
}

#[test]
fn families_that_the_peer_did_not_go_on_forwarding_lose_their_routes_at_once() {
    let mut bench = helper();
    bench.up_with("i2", forwarding(&[Family::Ipv6Unicast]));
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), [net("2001:db8:2::/64")]);
}

#[test]
fn a_peer_that_comes_back_without_end_of_rib_is_waited_for_no_longer_than_the_stale_time() {
    let mut bench = helper();
    bench.up("i2");
    bench.wait(secs(299));
    assert_eq!(bench.kernel.len(), 3);
    bench.wait(secs(1));
    assert!(bench.kernel.is_empty());
}

/// OpenBGPD says it first, and its routes afterwards.
#[test]
fn an_end_of_rib_before_any_route_is_believed_when_nothing_has_come_for_a_moment() {
    let mut bench = helper();
    bench.up("i2");
    bench.end_of_rib("i2");
    assert_eq!(bench.kernel.len(), 3, "not yet");
    for prefix in ["10.65.2.0/26", "2001:db8:2::/64"] {
        bench.wait(Duration::from_millis(900));
        bench.announce("i2", &[prefix], &[], &[]);
    }
    assert_eq!(bench.kernel.len(), 3, "it is still telling");
    bench.wait(secs(1));
    assert_eq!(bench.kernel.len(), 2, "the third has not come again");
    assert_eq!(bench.speaker.status()[1].stale.iter().map(|(_, routes)| routes).sum::<usize>(), 0);
}

#[test]
fn a_second_loss_before_the_end_of_rib_deletes_what_was_stale() {
    let mut bench = helper();
    bench.up("i2");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    bench.lose("i2");
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), [net("10.65.2.0/26")]);
}

#[test]
fn without_graceful_restart_routes_go_with_the_session() {
    let mut plain = peer(2, OUR_AS);
    plain.graceful_restart = None;
    let mut bench = Bench::new(config(&[("i2", plain)]), Start::Fresh);
    bench.up("i2");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    bench.lose("i2");
    assert!(bench.kernel.is_empty());
}

fn restarter() -> Bench {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004))];
    let mut config = config(&peers);
    config.originated.insert(net("10.65.1.0/26"), bgp::config::Origination::default());
    let mut bench = Bench::new(config, Start::Restarting);
    bench.up("i2");
    bench.up("e4");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    bench
}

#[test]
fn a_restarted_speaker_uses_learned_routes_once_all_peers_have_sent_theirs() {
    let mut bench = restarter();
    bench.end_of_rib("i2");
    bench.end_of_rib("e4");
    assert!(bench.kernel.is_empty() && bench.complete.is_empty(), "i3 is still missing");
    assert_eq!(bench.has("e4"), ["10.65.1.0/26"], "our own routes need not wait");
    assert_eq!(bench.probes["e4"].end_of_ribs, []);
    bench.up("i3");
    bench.end_of_rib("i3");
    assert_eq!(bench.kernel.len(), 1);
    assert_eq!(bench.has("e4"), ["10.65.1.0/26", "10.65.2.0/26"]);
    assert_eq!(bench.probes["e4"].end_of_ribs, Family::ALL);
    bench.wait(secs(1));
    assert_eq!(bench.complete, Family::ALL);
}

#[test]
fn what_the_kernel_has_is_not_stale_while_a_peer_tells_after_its_end_of_rib() {
    let mut bench = restarter();
    bench.up("i3");
    ["i2", "e4", "i3"].into_iter().for_each(|name| bench.end_of_rib(name));
    assert!(!bench.kernel.is_empty() && bench.complete.is_empty(), "i3 and e4 have told nothing");
    bench.wait(Duration::from_millis(900));
    bench.announce("i3", &["10.65.3.0/26"], &[], &[]);
    bench.wait(Duration::from_millis(900));
    assert_eq!(bench.complete, [Family::Ipv6Unicast], "of IPv6 nobody has told anything");
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.complete.len(), 2);
}

#[test]
fn it_does_not_wait_longer_than_the_selection_deferral() {
    let mut bench = restarter();
    bench.wait(secs(119));
    assert!(bench.complete.is_empty());
    bench.wait(secs(1));
    assert_eq!(bench.complete, Family::ALL);
    assert_eq!(bench.kernel.len(), 1);
}

#[test]
fn it_does_not_wait_for_a_peer_that_has_restarted_itself_or_does_not_do_graceful_restart() {
    let mut bench = restarter();
    bench.end_of_rib("e4");
    bench.up_with("i3", |capabilities| capabilities.retain(|c| !matches!(c, Capability::GracefulRestart(_))));
    assert_eq!(bench.has("e4"), ["10.65.1.0/26"]);
    bench.lose("i2");
    bench.up_with("i2", forwarding(&Family::ALL));
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    assert_eq!(bench.has("e4"), ["10.65.1.0/26", "10.65.2.0/26"]);
}

#[test]
fn what_the_kernel_has_is_stale_only_once_every_peer_has_told_all_whatever_its_open_said() {
    let mut bench = restarter();
    bench.end_of_rib("e4");
    bench.up_with("i3", |capabilities| capabilities.retain(|c| !matches!(c, Capability::GracefulRestart(_))));
    bench.lose("i2");
    // It says that it has restarted itself, and has routes all the same.
    bench.up_with("i2", forwarding(&Family::ALL));
    bench.end_of_rib("i2");
    bench.wait(secs(1));
    assert!(bench.complete.is_empty(), "i3 may have more to tell");
    bench.end_of_rib("i3");
    bench.wait(secs(1));
    assert_eq!(bench.complete, Family::ALL);
}

#[test]
fn a_peer_that_never_says_that_it_has_told_all_is_waited_for_as_long_as_any() {
    let mut bench = restarter();
    ["e4", "i2"].into_iter().for_each(|peer| bench.end_of_rib(peer));
    bench.up_with("i3", |capabilities| capabilities.retain(|c| !matches!(c, Capability::GracefulRestart(_))));
    assert_eq!(bench.has("e4"), ["10.65.1.0/26", "10.65.2.0/26"], "routes are used meanwhile");
    bench.wait(secs(119));
    assert!(bench.complete.is_empty());
    bench.wait(secs(1));
    assert_eq!(bench.complete, Family::ALL);
}

#[test]
fn a_fresh_speaker_uses_routes_as_they_come_and_says_when_they_are_complete() {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up("i2");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    assert_eq!(bench.kernel.len(), 1);
    bench.end_of_rib("i2");
    bench.up("i3");
    assert!(bench.complete.is_empty());
    bench.end_of_rib("i3");
    assert_eq!(bench.complete, Family::ALL);
}

#[test]
fn a_fresh_speaker_does_not_keep_its_peers_waiting_for_its_end_of_rib() {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up("i2");
    assert_eq!(bench.probes["i2"].end_of_ribs, Family::ALL);
    assert!(bench.complete.is_empty());
}

#[test]
fn without_peers_routes_are_complete_at_once() {
    let bench = Bench::new(config(&[]), Start::Restarting);
    assert_eq!(bench.complete, Family::ALL);
}

#[test]
fn routes_are_complete_once_it_is_known_which_next_hops_can_be_reached() {
    let mut resolving = config(&[("i2", peer(2, OUR_AS))]);
    resolving.resolve_next_hops = true;
    let mut bench = Bench::new(resolving, Start::Restarting);
    bench.up("i2");
    bench.announce("i2", &["10.65.2.0/26"], &[], &[]);
    bench.end_of_rib("i2");
    assert_eq!(bench.complete, [], "the kernel's route would be swept");
    assert_eq!(bench.probes["i2"].end_of_ribs, [], "and so would the peers'");
    let resolution = Some(Resolution { cost: 0, gateways: vec![peer_address(2)] });
    bench.input(Input::NextHop { address: peer_address(2), resolution });
    assert_eq!(bench.kernel.len(), 1);
    assert_eq!(bench.complete, [Family::Ipv4Unicast]);
    assert_eq!(bench.probes["i2"].end_of_ribs, Family::ALL);
    bench.wait(secs(1));
    assert_eq!(bench.complete, Family::ALL, "it has really nothing to tell of IPv6");
}
