//! `--take-over`: a process takes the place of another one, beside BIRD with MD5, TTL security and BFD at 3 x 50 ms. Needs root.

mod world;

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use kernel::passing;
use testkit::eventually;
use world::{Counters, Kind, Process, World};

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

fn replace_again_and_again(kind: Kind) {
    let (mut world, mut process, counters) = up(kind);
    let (session, routes) = (world.session(), world.our_routes());
    let traffic = world.traffic();
    for turn in 1..=TIMES {
        process = take_over(&mut world, &mut process, &[]);
        assert_eq!(world.counters(), counters, "what BIRD has seen after {turn} times");
        let now = world.session();
        assert_eq!((&now.0, now.2), (&session.0, session.2), "state and losses");
        assert!((now.1 - session.1).abs() <= 1, "since when the session is up: {session:?}, {now:?}");
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

/// Asks as a process of this version does, and gives the answer's first line.
fn ask(world: &World, version: u64, node: &str) -> (UnixStream, String) {
    let socket = UnixStream::connect(world.file("node.handover")).expect("it answers");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let source = world.file("resources.yaml").canonicalize().expect("it is there");
    let request = serde_json::json!({
        "Sessions": {"version": version, "owner": {"node": node, "source": source}}
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
        assert_eq!(world.session().0, "Established", "the old process answers again");
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
    eventually("the session is back", || world.is_ready() && world.session().0 == "Established");
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
    assert_eq!(world.session().0, "Established", "the new one is alone");
    assert_eq!(world.counters(), counters);
    assert!(new.is_running() && new.id() != container.id());
}
