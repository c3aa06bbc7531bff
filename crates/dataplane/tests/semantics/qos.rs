//! Limits on workloads' traffic, measured by what arrives and what is counted.

use std::io::{ErrorKind, Read};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use calc::contract::*;
use kernel::InterfaceName;
use kernel::shaping::device_of;

use crate::common::*;
use crate::net::{ANSWER, Host, Pod, SILENCE, datagram_arrives, on_each_host};
use crate::two_pods;

const A: Limits = Limits { bandwidth: None, packets: None, max_connections: None };

/// Endpoint `b` with limits on what it receives and what it sends.
fn limited(ingress: Limits, egress: Limits) -> Change {
    let endpoint_b = workload("cali-b", "10.65.0.3", vec![]);
    endpoint("b", WorkloadEndpoint { qos: Qos { ingress, egress, dscp: None }, ..endpoint_b })
}

fn packets(rate: u32, burst: u32) -> Limits {
    Limits { packets: Some(PacketRate { rate, burst }), ..A }
}

/// 1,000 octets a second, 10,000 at once.
fn slow() -> Limits {
    let bandwidth = Bandwidth { rate: 8_000, burst: 80_000, peak: None, peak_burst: None };
    Limits { bandwidth: Some(bandwidth), ..A }
}

/// Sends so many datagrams with so many octets of payload at once; how many have arrived when no more come for a while.
fn arrived(from: &UdpSocket, to: &UdpSocket, count: usize, octets: usize) -> usize {
    let destination = to.local_addr().unwrap();
    for _ in 0..count {
        from.send_to(&vec![0; octets], destination).unwrap();
    }
    to.set_read_timeout(Some(SILENCE)).unwrap();
    let deadline = Instant::now() + ANSWER;
    let mut buffer = vec![0; octets];
    let mut arrived = 0;
    while to.recv_from(&mut buffer).is_ok() {
        arrived += 1;
        assert!(Instant::now() < deadline, "they come one by one for ever");
    }
    arrived
}

/// Sockets of both, which have found each other.
fn sockets(a: &Pod, b: &Pod) -> (UdpSocket, UdpSocket) {
    let (of_a, of_b) = (a.udp(4000), b.udp(4000));
    assert!(datagram_arrives(&of_a, &of_b, true) && datagram_arrives(&of_b, &of_a, true));
    (of_a, of_b)
}

fn links(host: &mut Host) -> Vec<String> {
    host.links.links().unwrap().into_iter().map(|link| link.name.to_string()).collect()
}

fn device() -> String {
    device_of(&InterfaceName::new("cali-b").unwrap()).to_string()
}

#[test]
fn packets_over_the_rate_are_dropped_in_each_direction_by_itself() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (of_a, of_b) = sockets(&a, &b);
        assert_eq!(arrived(&of_a, &of_b, 30, 10), 30);
        // One a second: what the time of the test adds is one or two.
        host.play([limited(packets(1, 10), A)]);
        let received = arrived(&of_a, &of_b, 30, 10);
        assert!((9..=13).contains(&received), "{received} of 30");
        assert_eq!(arrived(&of_b, &of_a, 30, 10), 30, "what it sends is not limited");
        host.play([limited(A, packets(1, 10))]);
        let sent = arrived(&of_b, &of_a, 30, 10);
        assert!((9..=13).contains(&sent), "{sent} of 30");
        assert_eq!(arrived(&of_a, &of_b, 30, 10), 30);
        host.play([limited(A, A)]);
        assert_eq!(arrived(&of_b, &of_a, 30, 10), 30);
    });
}

#[test]
fn one_workloads_packets_do_not_count_for_another_that_is_judged_alike() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (of_a, of_b) = sockets(&a, &b);
        let endpoint_a = workload("cali-a", "10.65.0.2", vec![]);
        let qos = Qos { ingress: packets(1, 10), ..Qos::default() };
        host.play([limited(packets(1, 10), A), endpoint("a", WorkloadEndpoint { qos, ..endpoint_a })]);
        let (to_b, to_a) = (arrived(&of_a, &of_b, 20, 10), arrived(&of_b, &of_a, 20, 10));
        assert!((9..=13).contains(&to_b) && (9..=13).contains(&to_a), "{to_b} and {to_a} of 20");
    });
}

#[test]
fn a_connection_over_the_limit_is_refused_and_one_that_ends_makes_room() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let listener = b.listen(80);
        host.play([limited(Limits { max_connections: Some(2), ..A }, A)]);
        let connect = || {
            let to = std::net::SocketAddr::new(b.v4(), 80);
            a.namespace.run(|| std::net::TcpStream::connect_timeout(&to, ANSWER)).unwrap()
        };
        let (first, second) = (connect().unwrap(), connect().unwrap());
        assert_eq!(connect().unwrap_err().kind(), ErrorKind::ConnectionRefused, "told by a reset");
        assert!(datagram_arrives(&a.udp(4000), &b.udp(4000), true), "datagrams are no connections");
        drop((first, second, listener));
        let _again = b.listen(80);
        testkit::eventually("a connection that has ended counts no more", || connect().is_ok());
    });
}

#[test]
fn what_a_workload_sends_counts_against_its_own_limit_of_connections() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (_listener, _other) = (a.listen(80), b.listen(80));
        host.play([limited(A, Limits { max_connections: Some(1), ..A })]);
        let connect = |from: &Pod, to: &Pod| {
            let to = std::net::SocketAddr::new(to.v4(), 80);
            from.namespace.run(|| std::net::TcpStream::connect_timeout(&to, ANSWER)).unwrap()
        };
        let mut first = connect(&b, &a).unwrap();
        assert_eq!(connect(&b, &a).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let _received = (connect(&a, &b).unwrap(), connect(&a, &b).unwrap());
        first.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let silent = first.read(&mut [0]).unwrap_err().kind();
        assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&silent), "it goes on: {silent}");
    });
}

/// 40 datagrams of 1,042 octets: about 9 pass at once, some 9 wait their turn, one a second, the others are dropped.
#[test]
fn bandwidth_is_bounded_in_each_direction_by_itself() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (of_a, of_b) = sockets(&a, &b);
        host.play([limited(slow(), A)]);
        assert!(!links(&mut host).contains(&device()), "what it receives needs no device");
        let received = arrived(&of_a, &of_b, 40, 1000);
        assert!((7..=12).contains(&received), "{received} of 40");
        assert_eq!(arrived(&of_b, &of_a, 40, 1000), 40, "what it sends is not limited");

        host.play([limited(A, slow())]);
        assert!(links(&mut host).contains(&device()));
        assert_eq!(arrived(&of_a, &of_b, 40, 1000), 40);
        let sent = arrived(&of_b, &of_a, 40, 1000);
        assert!((7..=12).contains(&sent), "{sent} of 40");

        host.play([limited(A, A)]);
        assert!(!links(&mut host).contains(&device()));
        assert_eq!(arrived(&of_b, &of_a, 40, 1000), 40);
    });
}

#[test]
fn limits_that_others_take_away_come_back_and_those_of_a_lost_interface_go() {
    on_each_host(|mut host| {
        let (_a, b) = two_pods(&mut host);
        host.play([limited(slow(), slow())]);
        let link =
            |host: &mut Host| host.links.link(&InterfaceName::new("cali-b").unwrap()).unwrap().unwrap();
        let wanted = {
            let bucket = kernel::shaping::Bucket { rate: 1000, burst: 10_000, peak: None, peak_burst: None };
            kernel::shaping::Shaping { to: Some(bucket), from: Some(bucket) }
        };
        let found = link(&mut host);
        assert_eq!(
            host.links.shape(&found, &wanted).unwrap(),
            0,
            "all is there, and nothing is written again"
        );
        host.links.shape(&found, &kernel::shaping::Shaping::default()).unwrap();
        assert!(!links(&mut host).contains(&device()));
        host.dataplane.resync();
        host.play([]);
        assert_eq!(host.links.shape(&found, &wanted).unwrap(), 0, "it was repaired");

        host.restart();
        let endpoints = [
            endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
            endpoint("b", workload("cali-b", "10.65.0.3", vec![])),
        ];
        host.play([open_profile()].into_iter().chain(endpoints).chain([Change::InSync]));
        assert!(!links(&mut host).contains(&device()), "a restarted process knows its own");

        host.play([limited(A, slow())]);
        assert!(links(&mut host).contains(&device()));
        let index = link(&mut host).index;
        drop(b);
        host.links.delete_link(index).unwrap();
        host.dataplane.on_link_gone(index);
        host.play([Change::WorkloadEndpointRemove { id: endpoint_id("b") }]);
        assert!(!links(&mut host).contains(&device()), "a device goes after its interface");
    });
}

/// Hears all IP packets that come into a workload: from their headers on.
fn listening(pod: &Pod) -> socket2::Socket {
    const ALL: u16 = 3;
    let socket = pod.namespace.run(|| {
        let protocol = socket2::Protocol::from(i32::from(ALL.to_be()));
        socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::DGRAM, Some(protocol)).unwrap()
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket
}

/// The DSCP with which a datagram to port 53 arrives.
fn dscp(from: &UdpSocket, to: std::net::IpAddr, heard: &socket2::Socket) -> u8 {
    from.send_to(b"x", (to, 53)).unwrap();
    let deadline = Instant::now() + ANSWER;
    let mut buffer = [0; 100];
    while Instant::now() < deadline {
        let length = (&mut &*heard).read(&mut buffer).unwrap();
        let traffic_class = match (buffer[0] >> 4, length) {
            (4, 21..) if buffer[9] == 17 && buffer[22..24] == [0, 53] => buffer[1],
            (6, 41..) if buffer[6] == 17 && buffer[42..44] == [0, 53] => buffer[0] << 4 | buffer[1] >> 4,
            _ => continue,
        };
        return traffic_class >> 2;
    }
    panic!("no datagram to {to}");
}

#[test]
fn what_leaves_the_cluster_is_marked_and_what_stays_in_it_is_not() {
    on_each_host(|mut host| {
        let a = host.add_pod("cali-a", &["10.65.0.2", "fd00:65::2"]);
        let b = host.add_pod("cali-b", &["10.66.0.3", "fd00:66::3"]);
        let both = |interface: &str, v4: &str, v6: &str, dscp| WorkloadEndpoint {
            ipv6_nets: vec![format!("{v6}/128").parse().unwrap()],
            qos: Qos { dscp, ..Qos::default() },
            ..workload(interface, v4, vec![])
        };
        let sender = |dscp| endpoint("a", both("cali-a", "10.65.0.2", "fd00:65::2", dscp));
        let receiver = endpoint("b", both("cali-b", "10.66.0.3", "fd00:66::3", None));
        let pool = |cidr: &str| Change::PoolUpdate { cidr: cidr.parse().unwrap(), pool: Pool::default() };
        let pools = [pool("10.65.0.0/16"), pool("fd00:65::/64")];
        let start = [open_profile(), sender(Some(46)), receiver].into_iter().chain(pools);
        host.play(start.chain([Change::InSync]));
        let heard = listening(&b);
        let from = |address: &str| a.namespace.run(|| UdpSocket::bind((address, 4000)).unwrap()).unwrap();
        let sockets = [from("10.65.0.2"), from("fd00:65::2")];
        for (socket, to) in sockets.iter().zip(&b.addresses) {
            assert_eq!(dscp(socket, *to, &heard), 46, "{to} is in no pool");
        }
        host.play([sender(Some(10))]);
        assert_eq!(dscp(&sockets[0], b.addresses[0], &heard), 10);
        host.play([pool("10.66.0.0/16")]);
        assert_eq!(dscp(&sockets[0], b.addresses[0], &heard), 0, "a pool is in the cluster");
        assert_eq!(dscp(&sockets[1], b.addresses[1], &heard), 10);
        let generation = host.generation();
        host.dataplane.resync();
        host.play([]);
        assert_eq!(host.generation(), generation, "what is read back is what was written");
        host.play([sender(None)]);
        assert_eq!(dscp(&sockets[1], b.addresses[1], &heard), 0);
    });
}
