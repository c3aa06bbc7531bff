//! Packets to the addresses of Services that no Service has taken.

use std::io::ErrorKind;
use std::net::UdpSocket;

use calc::contract::*;
use kernel::route::{Route, RouteClass, RouteTable};

use crate::common::*;
use crate::net::{Host, SILENCE, datagram_arrives, on_each_host};
use crate::two_pods;

fn services(networks: &[&str]) -> Change {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    Change::ServiceNetworksUpdate { networks }
}

/// The host brings packets to 10.96.0.0/12 to `cali-b`, where 10.96.0.1 answers: without prevention they arrive.
fn with_a_way_back(host: &mut Host, b: &crate::net::Pod) -> UdpSocket {
    let route =
        Route::device("10.96.0.0/12".parse().unwrap(), kernel::InterfaceName::new("cali-b").unwrap(), 186);
    let mut routes = RouteTable::new(kernel::Rtnetlink::open().unwrap(), Default::default());
    routes.set_route(RouteClass::Bgp, "test", route);
    routes.apply(std::time::Instant::now()).unwrap();
    let _ = host;
    let socket = b.namespace.run(|| {
        let mut links = kernel::Rtnetlink::open().unwrap();
        links.add_address(1, "10.96.0.1/32".parse().unwrap(), Default::default()).unwrap();
        UdpSocket::bind("10.96.0.1:53").unwrap()
    });
    socket.unwrap()
}

#[test]
fn what_no_service_took_is_dropped_rejected_or_forwarded_as_the_parameter_says() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let service = with_a_way_back(&mut host, &b);
        assert!(datagram_arrives(&a.udp(4000), &service, true), "no network of Services is known");
        host.play([services(&["10.96.0.0/12", "10.96.0.0/16", "192.0.2.0/24", "2001:db8::/64"])]);
        assert!(!datagram_arrives(&a.udp(4001), &service, false), "Drop is the default");

        let is_told = |port: u16| {
            let socket = a.udp(port);
            socket.connect("10.96.0.1:53").unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            let outcome = socket.send(b"x").and_then(|_| socket.recv(&mut [0]));
            outcome.unwrap_err().kind() == ErrorKind::ConnectionRefused
        };
        assert!(!is_told(4002), "dropped in silence");
        host.play([parameters(&[("ServiceLoopPrevention", "Reject")])]);
        // The kernel bounds how many such errors it makes, for all namespaces together.
        testkit::eventually("rejected: port unreachable", || is_told(4003));

        let other = b.udp(54);
        assert!(datagram_arrives(&a.udp(4004), &other, true), "other addresses are not concerned");
        host.play([parameters(&[("ServiceLoopPrevention", "Disabled")])]);
        assert!(datagram_arrives(&a.udp(4005), &service, true));
        host.play([parameters(&[]), services(&[])]);
        assert!(datagram_arrives(&a.udp(4006), &service, true), "the networks are gone");
    });
}
