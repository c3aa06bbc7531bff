//! ExaBGP, which says whatever it is told to, as the sender of updates that nobody should be brought down by.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::daemon::Bird;
use crate::results::Cell;
use crate::side::{Ip, OUR_AS, Side, THEIR_AS, address};
use crate::world::{Who, World};

/// The program, and the Debian package that has it.
pub(crate) const PROGRAM: (&str, &str) = ("/usr/sbin/exabgp", "exabgp");

const US: u8 = 1;
const SENDER: u8 = 2;
/// BIRD, to which we pass on what we take.
const RECEIVER: u8 = 3;

/// The process, for the configuration of that name in a folder.
pub(crate) fn process(folder: &Path) -> Command {
    let mut exabgp = Command::new(PROGRAM.0);
    // As root: the folder of a test is closed to others.
    let settings = [("daemon.user", "root"), ("daemon.drop", "false"), ("api.cli", "false")];
    exabgp.envs(settings.map(|(name, value)| (format!("exabgp.{name}"), value)));
    exabgp.arg(folder.join("configuration"));
    exabgp
}

/// The prefix of a route with a number.
fn prefix(index: usize) -> String {
    format!("10.65.{}.0/26", 100 + index)
}

/// ExaBGP, external, with a route for each of these texts; we; and BIRD, internal.
fn world(routes: &[String]) -> World {
    let mut world = World::new();
    world.add(Who::Us, Side::silent(US, OUR_AS, &[(SENDER, THEIR_AS), (RECEIVER, OUR_AS)]));
    world.add(Who::ExaBgp, Side::silent(SENDER, THEIR_AS, &[]));
    world.add(Who::Daemon(&Bird), Side::silent(RECEIVER, OUR_AS, &[(US, OUR_AS)]));
    let mut text = format!(
        "neighbor {} {{ router-id {own}; local-address {own}; local-as {THEIR_AS}; peer-as {OUR_AS};\n\
         family {{ ipv4 unicast; }}\nstatic {{\n",
        address(US, Ip::V4),
        own = address(SENDER, Ip::V4)
    );
    for (index, route) in routes.iter().enumerate() {
        let _ = writeln!(text, "route {} next-hop {} {route};", prefix(index), address(SENDER, Ip::V4));
    }
    world.host(SENDER).configure(&(text + "} }\n"));
    world.start_all();
    world.await_sessions(US);
    world
}

fn noted(row: usize, feature: &str, test: impl FnOnce()) {
    Cell { place: ("senders", row, 0), feature, peer: ("ExaBGP", PROGRAM.1) }.note(None, test);
}

/// The session has been up all the time, and so many UPDATEs were in error.
fn check_session(world: &World, malformed: u64) {
    let peer = world.host(US).peer(&address(SENDER, Ip::V4));
    let what = format!("one session all the time, and {malformed} malformed UPDATEs");
    let is_so = peer["state"] == "Established" && peer["flaps"] == 0;
    world.check(&what, is_so && peer["messages"]["malformedUpdates"] == malformed);
}

#[test]
fn odd_but_legal_updates_are_taken_and_passed_on() {
    let long: Vec<String> = (1..250).map(|asn: u32| (100_000 + asn).to_string()).collect();
    // What BIRD has to show of each.
    let cases = [
        ("attribute [ 0x63 0xc0 0x01020304 ]".to_owned(), "63 [t]: 01 02 03 04"),
        (format!("as-path [ {THEIR_AS} 64601 ( 64602 64603 ) ]"), "{64602 64603}"),
        (format!("as-path [ {THEIR_AS} {} ]", long.join(" ")), "[AS100249i]"),
        (
            "community [ 65001:10 65535:65281 ] large-community [ 65002:20:30 4294967295:1:2 ]".to_owned(),
            "(65002, 20, 30) (4294967295, 1, 2)",
        ),
        (
            "extended-community [ target:64512:77 origin:10.0.0.9:7 0x0309000000000000 ]".to_owned(),
            "(rt, 64512, 77)",
        ),
        (
            "med 4294967295 origin incomplete atomic-aggregate aggregator ( 64609:10.0.0.9 )".to_owned(),
            "10.0.0.9 AS64609",
        ),
    ];
    noted(0, "unknown transitive attributes, AS_SET, 250 ASes in a path, communities of every kind", || {
        let routes: Vec<String> = cases.iter().map(|(route, _)| route.clone()).collect();
        let world = world(&routes);
        for (index, (route, shown)) in cases.iter().enumerate() {
            world.await_that(&format!("{shown} of {route} at BIRD"), |world| {
                world.host(RECEIVER).route(&prefix(index)).contains(shown)
            });
        }
        check_session(&world, 0);
    });
}

#[test]
fn errors_of_rfc_7606_cost_a_route_or_an_attribute_and_never_the_session() {
    // Whether the route stays.
    let cases = [
        ("attribute [ 0x04 0x80 0x000001 ]", false), // MULTI_EXIT_DISC of three octets
        ("attribute [ 0x08 0xc0 0x010203 ]", false), // COMMUNITIES of three
        ("attribute [ 0x20 0xc0 0x0102030405 ]", false), // LARGE_COMMUNITY of five
        ("attribute [ 0x01 0x40 0x09 ]", false),     // ORIGIN 9
        ("attribute [ 0x07 0xc0 0x0102 ]", true),    // AGGREGATOR of two
        ("attribute [ 0x06 0x40 0x01 ]", true),      // ATOMIC_AGGREGATE of one
        ("community [ 65001:10 ]", true),
    ];
    noted(1, "errors in attributes (RFC 7606): the session stays up", || {
        let routes = cases.map(|(route, _)| route.to_owned());
        let world = world(&routes);
        for (index, (route, _)) in cases.iter().enumerate().filter(|(_, (_, stays))| *stays) {
            world.await_that(&format!("{route} at BIRD"), |world| {
                world.host(RECEIVER).has_route(&prefix(index))
            });
        }
        let errors = 6;
        world.await_that("all UPDATEs seen", |world| {
            world.host(US).peer(&address(SENDER, Ip::V4))["messages"]["malformedUpdates"] == errors
        });
        check_session(&world, errors);
        for (index, (route, stays)) in cases.iter().enumerate() {
            let is_there = world.host(US).has_route(&prefix(index));
            world.check(&format!("{route}: there is a route: {stays}"), is_there == *stays);
        }
    });
}
