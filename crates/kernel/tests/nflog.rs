//! Packets that rules log, read from a group: on the real kernel, in a namespace of the test's own.

use std::net::UdpSocket;

use kernel::netlink::{Errno, Error};
use kernel::nflog::{Group, Logged, Received, is_supported};
use testkit::{TestNamespace, eventually};

const GROUP: u16 = 11;

/// A namespace in which UDP to port 9 is logged with the prefix `the rule` and dropped, and a socket that sends there.
fn logging() -> TestNamespace {
    let namespace = TestNamespace::new();
    namespace.command("ip link set lo up");
    namespace.command("nft add table inet t");
    namespace.command("nft add chain inet t c { type filter hook input priority 0 ; }");
    namespace.command(&format!(
        "nft add rule inet t c udp dport 9 counter log prefix \"the rule\" group {GROUP} snaplen 96 drop"
    ));
    namespace
}

fn send(namespace: &TestNamespace, address: &str, count: usize) {
    namespace.run(|| {
        let socket = UdpSocket::bind((address, 4000)).unwrap();
        for _ in 0..count {
            socket.send_to(b"x", (address, 9)).unwrap();
        }
    });
}

fn read(group: &mut Group, wanted: usize) -> (Vec<Logged>, Received) {
    let (mut seen, mut total) = (Vec::new(), Received::default());
    eventually("the logged packets arrive", || {
        let received = group.receive(usize::MAX, |logged| seen.push(logged)).unwrap();
        total.packets += received.packets;
        total.lost += received.lost;
        total.packets >= wanted
    });
    (seen, total)
}

#[test]
fn a_logged_packet_comes_with_the_prefix_of_its_rule_in_both_families() {
    let namespace = logging();
    assert!(namespace.run(is_supported).unwrap());
    let mut group = namespace.run(|| Group::open(GROUP)).unwrap();
    for address in ["127.0.0.1", "::1"] {
        send(&namespace, address, 2);
        let (seen, total) = read(&mut group, 2);
        assert_eq!((total.packets, total.lost), (2, 0));
        for logged in seen {
            assert_eq!((logged.prefix.as_str(), logged.hook), ("the rule", 1));
            assert_eq!((logged.input, logged.output), (Some(1), None));
            let headers = logged.headers;
            assert_eq!((headers.source, headers.destination), (address.parse().unwrap(), headers.source));
            assert_eq!((headers.protocol, headers.source_port, headers.destination_port), (17, 4000, 9));
        }
    }
}

#[test]
fn a_group_has_one_listener_and_is_free_when_that_is_gone() {
    let namespace = logging();
    let first = namespace.run(|| Group::open(GROUP)).unwrap();
    let refused = namespace.run(|| Group::open(GROUP)).unwrap_err();
    assert!(matches!(&refused, Error::Refused { .. }), "{refused}");
    assert_eq!(refused.errno(), Some(Errno::PERM));
    // Another namespace has groups of its own.
    logging().run(|| Group::open(GROUP)).unwrap();
    drop(first);
    namespace.run(|| Group::open(GROUP)).unwrap();
}

#[test]
fn what_does_not_fit_into_the_queue_is_counted() {
    const SENT: usize = 30_000;
    let namespace = logging();
    let mut group = namespace.run(|| Group::open(GROUP)).unwrap();
    send(&namespace, "127.0.0.1", SENT);
    let (_, queued) = read(&mut group, 1);
    assert!(queued.packets < SENT, "the queue holds {}", queued.packets);
    // The next packets tell by their numbers what is missing before them.
    send(&namespace, "127.0.0.1", 64);
    let mut known = queued.packets as u64 + queued.lost;
    let mut lost = queued.lost;
    eventually("every packet was seen or is known to be lost", || {
        let received = group.receive(usize::MAX, |_| {}).unwrap();
        lost += received.lost;
        known += received.packets as u64 + received.lost;
        known == (SENT + 64) as u64
    });
    assert!(lost > 0);
}
