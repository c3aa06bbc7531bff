//! `--take-over`: a process takes the place of another one, beside BIRD with a session for each family, both with add-path,
//! one of them with MD5, TTL security and BFD at 3 x 50 ms. Needs root.

mod between;
mod traffic;
mod world;

use std::collections::BTreeMap;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use between::Between;
use bgp::handover::Octets;
use kernel::passing;
use testkit::eventually;
use world::{Counters, Kind, Process, RESOURCES, World};

/// How often a process is replaced in a row.
const TIMES: usize = 20;

/// A world in which everything is up, and what BIRD says of it.
fn up(kind: Kind) -> (World, Process, Counters) {
    up_with(kind, true)
}

fn up_with(kind: Kind, has_bfd: bool) -> (World, Process, Counters) {
    testkit::require_root();
    let mut world = World::new(kind, has_bfd);
    let process = world.start(&[]);
    world.await_up();
    let counters = world.counters();
    (world, process, counters)
}

#[track_caller]
fn take_over(world: &mut World, old: &mut Process, more: &[&str]) -> Process {
    let new = world.start(&[&["--take-over"], more].concat());
    assert!(old.await_end().success(), "the old process has ended in order");
    eventually("the new one is ready", || world.is_ready());
    new
}

type Sessions = BTreeMap<String, (String, i64, u64)>;

#[track_caller]
fn assert_same_sessions(before: &Sessions, now: &Sessions) {
    assert!(before.keys().eq(now.keys()), "{before:?}, {now:?}");
    for (peer, (state, since, flaps)) in before {
        let now = &now[peer];
        assert_eq!((state, flaps), (&now.0, &now.2), "state and losses of {peer}");
        assert!((since - now.1).abs() <= 1, "since when {peer} is up: {since}, {}", now.1);
    }
}

fn replace_again_and_again(kind: Kind) {
    let (mut world, mut process, counters) = up(kind);
    let (sessions, routes) = (world.sessions(), world.our_routes());
    let traffic = world.traffic();
    for turn in 1..=TIMES {
        process = take_over(&mut world, &mut process, &[]);
        assert_eq!(world.counters(), counters, "what BIRD has seen after {turn} times");
        assert_same_sessions(&sessions, &world.sessions());
    }
    let (sent, wrong) = traffic.finish();
    assert!(sent > 100 && wrong.is_empty(), "{sent} packets: {wrong:?}");
    assert_eq!(world.our_routes(), routes);
    assert!(process.is_running());
}

#[test]
fn a_node_is_replaced_twenty_times_and_its_peer_notices_nothing() {
    replace_again_and_again(Kind::Node);
}

#[test]
fn a_reflector_is_replaced_twenty_times_and_its_peer_notices_nothing() {
    replace_again_and_again(Kind::Reflector);
}

/// The new process gives and takes back routes under the identifiers under which the old one had them.
#[test]
fn what_was_told_and_heard_under_path_identifiers_goes_on_under_them() {
    let (mut world, mut process, counters) = up(Kind::Reflector);
    let twice = world.path_ids("10.65.3.0/24");
    assert_eq!(twice.len(), 2, "add-path is agreed on, and BIRD has two routes: {twice:?}");
    let _new = take_over(&mut world, &mut process, &[]);
    assert_eq!(world.path_ids("10.65.3.0/24"), twice);
    assert_eq!(world.counters(), counters);
    world.birdc("disable again");
    eventually("one of the two is withdrawn", || world.path_ids("10.65.3.0/24").len() == 1);
    world.configure(&RESOURCES.replace("cidr: \"fd96::/108\"", "cidr: \"fd97::/108\""), &[]);
    eventually("the service's prefix is another one", || {
        let seen = world.birdc("show route");
        seen.contains("fd97::/108") && !seen.contains("fd96::/108")
    });
}

/// Another configuration came while the old process could not see it any more.
fn follows_another_configuration(kind: Kind) {
    let (mut world, mut process, _) = up(kind);
    let (stays, routes) = (world.counters_of("peer").session(), world.our_routes());
    assert!(routes.contains("10.65.3.0/24"), "{routes}");
    let between = Between::begin(&world);
    let (kept, _) = RESOURCES.rsplit_once("---").expect("the second peer is the last");
    let filtered = kept.replace("bfd: {", "filters: [without]\n  bfd: {");
    assert_ne!(kept, filtered);
    world.configure(&format!("{}---\n{FILTER}", filtered.replace("10.96.", "10.97.")), &["bird6"]);
    let _new = world.start(&["--take-over"]);
    assert_eq!(between.pass_on(), ["Sessions", "Accept", "Taken"]);
    assert!(process.await_end().success());
    eventually("what is told follows", || {
        let seen = world.birdc("show route");
        seen.contains("10.97.0.0/16") && !seen.contains("10.96.0.0/16")
    });
    eventually("what is filtered is gone, and the rest is there", || {
        let routes = world.our_routes();
        !routes.contains("10.65.3.0/24") && routes.contains("10.65.2.0/24") && !routes.contains("fd65:")
    });
    eventually("the peer that was removed is told so", || {
        world.birdc("show protocols all peer6").contains("Received: Peer de-configured")
    });
    assert!(world.counters_of("peer").session() == stays, "the other session is the same");
    let sessions = world.sessions();
    assert!(sessions.len() == 1 && sessions["10.0.0.2"].0 == "Established", "{sessions:?}");
}

#[test]
fn a_node_follows_what_was_configured_meanwhile_and_resets_only_what_must_be() {
    follows_another_configuration(Kind::Node);
}

#[test]
fn a_reflector_follows_what_was_configured_meanwhile_and_resets_only_what_must_be() {
    follows_another_configuration(Kind::Reflector);
}

#[test]
fn an_offer_that_cannot_be_used_is_not_accepted_and_the_old_process_goes_on() {
    let (mut world, mut process, counters) = up(Kind::Node);
    let mut between = Between::begin(&world);
    // ORIGIN 9: it can be read, and no route can have it.
    between.change(|handover| handover.attributes[0].octets = Octets(vec![0x40, 1, 1, 9]));
    let mut new = world.start(&["--take-over"]);
    assert_eq!(between.pass_on(), ["Sessions"]);
    assert_eq!(new.await_end().code(), Some(1));
    let log = world.log(2);
    assert!(log.contains("set of attributes") && log.contains("the other process goes on"), "{log}");
    eventually("the old process answers again", || world.is_ready() && world.is_up());
    assert!(process.is_running());
    assert_eq!(world.counters(), counters);
}

/// The neighbour that says nothing is waited for, for some seconds.
#[test]
fn while_the_old_process_waits_for_its_peers_everybody_is_served() {
    let (mut world, mut process, counters) = up(Kind::Node);
    let _silent = world.silent_peer();
    let _new = world.start(&["--take-over"]);
    eventually("the new one asks", || world.log(1).contains("another process takes over"));
    world.delete_route("10.65.2.0/24");
    eventually("routes are written", || world.our_routes().contains("10.65.2.0/24 via 10.0.0.2"));
    assert_eq!(world.sessions().len(), 3, "requests are answered");
    assert!(process.is_running(), "and it was still waiting");
    assert!(process.await_end().success());
    assert_eq!(world.sessions().len(), 3, "the new one answers");
    assert_eq!(world.counters(), counters);
}

#[test]
fn peers_hear_from_a_process_that_holds_still_for_long() {
    let (mut world, mut process, _) = up(Kind::Reflector);
    world.shorten_hold_time();
    let counters = world.counters();
    let between = Between::begin(&world);
    let traffic = world.traffic();
    eventually("the hold time of 3 s has passed", || traffic.sent() > 450);
    assert_eq!(world.counters(), counters);
    let _new = world.start(&["--take-over"]);
    assert_eq!(between.pass_on(), ["Sessions", "Accept", "Taken"]);
    assert!(process.await_end().success());
    eventually("the new one answers", || world.is_ready() && world.is_up());
    assert_eq!(world.counters(), counters);
    let (_, wrong) = traffic.finish();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Asks as a process of this version does, and gives the answer's first line.
fn ask(world: &World, version: u64, node: &str) -> (UnixStream, String) {
    let socket = UnixStream::connect(world.file("node.handover")).expect("it answers");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let request = serde_json::json!({
        "Sessions": {"version": version, "owner": {"node": node, "source": world.source()}}
    });
    say(&socket, &request.to_string());
    let answer = hear(&socket);
    (socket, answer)
}

fn say(socket: &UnixStream, text: &str) {
    passing::send(socket, &[text.as_bytes(), b"\n"], &[]).expect("it listens");
}

fn hear(socket: &UnixStream) -> String {
    let (octets, _) = passing::receive(socket).expect("it answers");
    let line = octets.split(|octet| *octet == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

/// The version that a process says it gives.
fn version(world: &World) -> u64 {
    let (_, answer) = ask(world, 0, "ours");
    let words = answer.split("this process gives version ").nth(1).unwrap_or_else(|| panic!("{answer}"));
    words.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn a_successor_that_dies_in_the_middle_is_as_if_it_had_never_been() {
    let (world, mut process, counters) = up(Kind::Reflector);
    let version = version(&world);
    let traffic = world.traffic();
    for turn in 0..10 {
        let (socket, answer) = ask(&world, version, "ours");
        assert!(answer.contains("Offer") && answer.contains("Session"), "{answer}");
        if turn % 2 == 1 {
            say(&socket, "\"Accept\"");
            let answer = hear(&socket);
            assert!(answer.contains("PathSender"), "{answer}");
        }
        // All that it was given is closed with it.
        drop(socket);
        assert!(world.is_up(), "the old process answers again");
        assert_eq!(world.counters(), counters, "turn {turn}");
    }
    let (sent, wrong) = traffic.finish();
    assert!(wrong.is_empty(), "{sent} packets: {wrong:?}");
    // And it can still be replaced.
    let mut world = world;
    let _new = take_over(&mut world, &mut process, &[]);
    assert_eq!(world.counters(), counters);
}

#[test]
fn whoever_is_another_node_or_of_another_version_is_refused_and_told_why() {
    let (world, mut process, counters) = up(Kind::Reflector);
    let version = version(&world);
    let (_, answer) = ask(&world, version, "another");
    assert!(answer.contains("Refused") && answer.contains("this is node ours"), "{answer}");
    let (_, answer) = ask(&world, version + 1, "ours");
    assert!(answer.contains("Refused") && answer.contains(&format!("version {version}")), "{answer}");
    let socket = UnixStream::connect(world.file("node.handover")).expect("it answers");
    say(&socket, "nonsense");
    assert!(passing::receive(&socket).is_err(), "nothing is said to nonsense");
    assert!(process.is_running());
    assert_eq!(world.counters(), counters);
}

/// Plays an old process that does not understand what it is asked.
#[test]
fn where_the_two_do_not_understand_each_other_sessions_are_restarted_gracefully() {
    let (mut world, mut process, counters) = up_with(Kind::Reflector, false);
    let traffic = world.traffic();
    process.kill();
    std::fs::remove_file(world.file("node.handover")).expect("it was there");
    let listener = UnixListener::bind(world.file("node.handover")).expect("the folder is ours");
    let _new = world.start(&["--take-over"]);
    let mut requests = Vec::new();
    while requests.len() < 2 {
        let (socket, _) = listener.accept().expect("it connects");
        // The first connection only looks whether anybody is there.
        let Ok((octets, _)) = passing::receive(&socket) else { continue };
        let request = String::from_utf8_lossy(&octets).into_owned();
        say(&socket, if requests.is_empty() { r#"{"Refused":{"reason":"too old"}}"# } else { "\"Ending\"" });
        requests.push(request);
    }
    assert!(requests[0].contains("Sessions") && requests[1].contains("Restart"), "{requests:?}");
    world.await_up();
    assert_ne!(world.counters(), counters, "the session is another one");
    let (sent, wrong) = traffic.finish();
    assert!(wrong.is_empty(), "{sent} packets: {wrong:?}");
    let log = world.log(2);
    assert!(log.contains("restarted gracefully") && log.contains("too old"), "{log}");
}

#[test]
fn one_that_dies_while_it_is_taken_over_leaves_an_error_and_the_next_start_is_a_graceful_restart() {
    let (mut world, mut process, _) = up_with(Kind::Node, false);
    let traffic = world.traffic();
    process.kill();
    std::fs::remove_file(world.file("node.handover")).expect("it was there");
    let listener = UnixListener::bind(world.file("node.handover")).expect("the folder is ours");
    let mut new = world.start(&["--take-over"]);
    loop {
        let (socket, _) = listener.accept().expect("it connects");
        if passing::receive(&socket).is_ok() {
            break;
        }
    }
    drop(listener);
    assert_eq!(new.await_end().code(), Some(1), "{}", world.log(2));
    assert!(world.log(2).contains("went silent"), "{}", world.log(2));
    // Nobody is there to take over from: a start like any other.
    let _third = world.start(&["--take-over"]);
    eventually("the session is back", || world.is_ready() && world.is_up());
    let (sent, wrong) = traffic.finish();
    assert!(wrong.is_empty(), "{sent} packets: {wrong:?}");
}

#[test]
fn without_the_word_a_second_node_of_a_name_is_an_error_that_names_it() {
    let (mut world, mut process, counters) = up(Kind::Node);
    let mut second = world.start(&[]);
    assert_eq!(second.await_end().code(), Some(1));
    let log = world.log(2);
    assert!(log.contains("another process runs node ours") && log.contains("--take-over"), "{log}");
    assert!(process.is_running());
    assert_eq!(world.counters(), counters);
}

const FILTER: &str = "\
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: without}
spec: {importV4: [{action: Reject, matchOperator: In, cidr: 10.65.3.0/24}]}
";

/// The end of the first process of a container would end the container, which would be started again.
#[test]
fn the_first_process_of_a_container_waits_to_be_stopped() {
    testkit::require_root();
    let mut world = World::new(Kind::Reflector, true);
    let mut container = world.start_by(&["unshare", "--pid", "--fork", "--kill-child"], &[]);
    world.await_up();
    let counters = world.counters();
    let mut new = world.start(&["--take-over"]);
    eventually("the first one waits", || world.log(1).contains("waits for SIGTERM"));
    eventually("the new one is ready", || world.is_ready());
    assert!(container.is_running(), "unshare ends with what it runs");
    container.kill();
    assert!(world.is_up(), "the new one is alone");
    assert_eq!(world.counters(), counters);
    assert!(new.is_running() && new.id() != container.id());
}
