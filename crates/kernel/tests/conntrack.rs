//! Forgetting connections: on the fake with faults, and on the real kernel, where a connection that policy no longer
//! allows is cut by it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kernel::conntrack::{Connection, Conntrack, Ends, delete_connections};
use kernel::fake::{FakeKernel, Fault};
use kernel::netlink::Errno;
use testkit::TestNamespace;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

/// Of each of its four ends one connection of 10.0.0.1, and one of strangers.
fn crowd() -> FakeKernel {
    let kernel = FakeKernel::new();
    let ends = |source, destination| Ends { source: ip(source), destination: ip(destination) };
    kernel.add_connection(Connection::direct(1, ip("10.0.0.1"), ip("10.0.0.2")));
    kernel.add_connection(Connection::direct(2, ip("10.0.0.2"), ip("10.0.0.1")));
    let to_service = Connection::translated(3, ends("10.0.0.3", "10.96.0.1"), ends("10.0.0.1", "10.0.0.3"));
    kernel.add_connection(to_service);
    let hidden = Connection::translated(4, ends("10.0.0.3", "192.0.2.1"), ends("192.0.2.1", "10.0.0.1"));
    kernel.add_connection(hidden);
    kernel.add_connection(Connection::direct(5, ip("10.0.0.2"), ip("10.0.0.3")));
    kernel.add_connection(Connection::direct(6, ip("fd00::1"), ip("fd00::2")));
    kernel
}

fn left(kernel: &FakeKernel) -> Vec<u32> {
    kernel.current_connections().iter().map(|connection| connection.id).collect()
}

#[test]
fn every_connection_that_has_the_address_anywhere_is_deleted_and_no_other() {
    let kernel = crowd();
    let deleted = delete_connections(&mut kernel.clone(), &addresses(&["10.0.0.1"])).unwrap();
    assert_eq!((deleted.count, left(&kernel)), (4, vec![5, 6]));
    let deleted = delete_connections(&mut kernel.clone(), &addresses(&["10.0.0.9", "fd00::2"])).unwrap();
    assert_eq!((deleted.count, left(&kernel)), (1, vec![5]));
}

#[test]
fn without_addresses_the_kernel_is_not_asked() {
    let kernel = crowd();
    delete_connections(&mut kernel.clone(), &BTreeSet::new()).unwrap();
    assert_eq!(kernel.calls(), 0);
}

#[test]
fn a_refusal_names_the_address_concerned_and_stops_no_other() {
    let kernel = crowd();
    kernel.fail_after(1, Fault::Refuse(Errno::BUSY));
    let deleted = delete_connections(&mut kernel.clone(), &addresses(&["10.0.0.1", "fd00::1"])).unwrap();
    assert_eq!((deleted.count, left(&kernel)), (4, vec![1, 5]));
    assert_eq!(deleted.refused.keys().copied().collect::<BTreeSet<_>>(), addresses(&["10.0.0.1"]));
    assert_eq!(deleted.refused[&ip("10.0.0.1")].errno, Errno::BUSY);
}

#[test]
fn after_a_fault_at_any_call_a_second_try_completes() {
    for call in 0..5 {
        for fault in [Fault::Lose, Fault::Refuse(Errno::NOMEM)] {
            let kernel = crowd();
            kernel.fail_after(call, fault);
            let wanted = addresses(&["10.0.0.1"]);
            let first = delete_connections(&mut kernel.clone(), &wanted);
            assert!(first.is_err() || !first.unwrap().refused.is_empty(), "{fault:?} at call {call}");
            let second = delete_connections(&mut kernel.clone(), &wanted).unwrap();
            assert!(second.refused.is_empty(), "{fault:?} at call {call}");
            assert_eq!(left(&kernel), [5, 6], "{fault:?} at call {call}");
        }
    }
}

/// A namespace that tracks connections over its loopback and lets in what is established, and new ones to port 80.
fn tracking() -> TestNamespace {
    let namespace = TestNamespace::new();
    namespace.command("ip link set lo up");
    namespace.command("ip address add 10.0.0.1/32 dev lo");
    namespace.command("ip address add 10.0.0.2/32 dev lo");
    namespace.command("ip address add fd00::1/128 dev lo nodad");
    namespace.command("nft add table inet t");
    namespace.command("nft add chain inet t i { type filter hook input priority 0; policy drop; }");
    namespace.command("nft add rule inet t i ct state established accept");
    namespace.command("nft add rule inet t i tcp dport 80 accept");
    namespace.command("nft add rule inet t i meta l4proto { udp, ipv6-icmp } accept");
    namespace
}

fn pair(listener: &TcpListener, from: &str) -> (TcpStream, TcpStream) {
    let client =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&client, &SocketAddr::new(ip(from), 0)).unwrap();
    rustix::net::connect(&client, &listener.local_addr().unwrap()).unwrap();
    (TcpStream::from(client), listener.accept().unwrap().0)
}

/// Whether what is written on one side is read on the other.
fn carries(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> bool {
    to.set_read_timeout(Some(within)).unwrap();
    from.write_all(b"x").unwrap();
    to.read_exact(&mut [0]).is_ok()
}

const ANSWER: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(200);

#[test]
fn an_established_connection_that_policy_denies_by_now_is_cut_when_its_address_is_forgotten() {
    tracking().run(|| {
        let listener = TcpListener::bind("10.0.0.1:80").unwrap();
        let (mut cut, mut cut_far) = pair(&listener, "10.0.0.2");
        let (mut kept, mut kept_far) = pair(&listener, "10.0.0.1");
        for command in ["flush chain inet t i", "add rule inet t i ct state established accept"] {
            let done = std::process::Command::new("nft").args(command.split(' ')).status().unwrap();
            assert!(done.success(), "nft {command}");
        }
        // The policy that let them in is gone; what is established goes on.
        assert!(carries(&mut cut, &mut cut_far, ANSWER) && carries(&mut kept, &mut kept_far, ANSWER));

        let mut conntrack = Conntrack::open().unwrap();
        let deleted = delete_connections(&mut conntrack, &addresses(&["10.0.0.2"])).unwrap();
        assert_eq!((deleted.count, deleted.refused.len()), (1, 0));
        assert!(!carries(&mut cut, &mut cut_far, SILENCE));
        assert!(carries(&mut kept, &mut kept_far, ANSWER));
    });
}

#[test]
fn both_families_and_many_addresses_are_forgotten_at_once_and_strangers_stay() {
    tracking().run(|| {
        let sent = |from: &str, to: &str| {
            let socket = UdpSocket::bind(SocketAddr::new(ip(from), 0)).unwrap();
            socket.send_to(b"x", SocketAddr::new(ip(to), 9)).unwrap();
        };
        sent("10.0.0.2", "10.0.0.1");
        sent("fd00::1", "::1");
        sent("127.0.0.1", "127.0.0.2");
        (1..=200).for_each(|last| sent("127.0.0.1", &format!("127.9.0.{last}")));
        let mut conntrack = Conntrack::open().unwrap();
        let many: Vec<String> = (1..=200).map(|last| format!("127.9.0.{last}")).collect();
        let mut wanted = addresses(&["10.0.0.1", "fd00::1"]);
        wanted.extend(many.iter().map(|text| ip(text)));
        let deleted = delete_connections(&mut conntrack, &wanted).unwrap();
        assert_eq!(deleted.count, 202);
        let left = conntrack.connections().unwrap();
        let (first, others) = conntrack.first_connections(1).unwrap();
        assert_eq!((first.len(), first.len() + others), (left.len().min(1), left.len()));
        assert!(left.iter().any(|entry| entry.original.destination == ip("127.0.0.2")), "{left:?}");
        assert!(!left.iter().any(|entry| entry.concerns(&wanted)), "{left:?}");
    });
}

#[test]
fn a_large_table_is_filtered_by_the_kernel_and_a_small_one_here_with_the_same_result() {
    tracking().run(|| {
        let mut conntrack = Conntrack::open().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for crowd in [10_u32, 20_000] {
            for number in 0..crowd {
                // Nobody listens there; the answer to the last datagram is this one's error.
                let _ = socket.send_to(b"x", (std::net::Ipv4Addr::from(0x7f10_0000 + number), 9));
            }
            let from = UdpSocket::bind("10.0.0.2:0").unwrap();
            from.send_to(b"x", "10.0.0.1:9").unwrap();
            let deleted = delete_connections(&mut conntrack, &addresses(&["10.0.0.2"])).unwrap();
            assert!((1..=2).contains(&deleted.count), "{crowd}: {deleted:?}");
            let left = conntrack.connections().unwrap();
            assert!(!left.iter().any(|entry| entry.concerns(&addresses(&["10.0.0.2"]))), "{crowd}");
            assert!(left.len() >= crowd as usize, "{crowd}: {}", left.len());
        }
    });
}
