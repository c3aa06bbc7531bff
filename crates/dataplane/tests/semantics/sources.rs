//! Where a workload may send from, and what it is told when it is denied.

use std::io::ErrorKind;
use std::net::UdpSocket;

use calc::contract::*;

use crate::common::*;
use crate::net::{ANSWER, Pod, SILENCE, datagram_arrives, on_a_host};
use crate::two_pods;

/// A socket of a workload on an address that it gave itself.
fn spoofing(pod: &Pod, address: &str) -> UdpSocket {
    let socket = pod.namespace.run(|| {
        let mut links = kernel::Rtnetlink::open().unwrap();
        links.add_address(1, format!("{address}/32").parse().unwrap(), Default::default()).unwrap();
        UdpSocket::bind((address, 4000)).unwrap()
    });
    socket.unwrap()
}

#[test]
fn a_workload_sends_from_the_prefixes_that_it_is_allowed_where_the_parameter_lets_it() {
    on_a_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (allowed, other) = (spoofing(&a, "10.99.0.1"), spoofing(&a, "10.98.0.1"));
        let to = b.udp(53);
        let endpoint_a = workload("cali-a", "10.65.0.2", vec![]);
        let prefixes = vec!["10.99.0.0/24".parse().unwrap()];
        host.play([endpoint(
            "a",
            WorkloadEndpoint { allow_spoofed_source_prefixes: prefixes, ..endpoint_a.clone() },
        )]);
        assert!(!datagram_arrives(&allowed, &to, false), "WorkloadSourceSpoofing is Disabled by default");
        host.play([parameters(&[("WorkloadSourceSpoofing", "Any")])]);
        assert!(datagram_arrives(&allowed, &to, true));
        assert!(!datagram_arrives(&other, &to, false), "no prefix has it");
        assert!(!datagram_arrives(&spoofing(&b, "10.99.0.1"), &a.udp(53), false), "the other's prefix");
        host.play([endpoint("a", endpoint_a)]);
        assert!(!datagram_arrives(&allowed, &to, false), "the prefix is gone");
    });
}

#[test]
fn denied_packets_are_dropped_or_rejected_as_the_parameter_says() {
    on_a_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let closed = vec![tier("default", TierDefault::Deny, &["closed"], &[])];
        host.play([policy("closed", vec![], vec![]), endpoint("b", workload("cali-b", "10.65.0.3", closed))]);
        let refused = |within| {
            let to = std::net::SocketAddr::new(b.v4(), 80);
            let outcome = a.namespace.run(|| std::net::TcpStream::connect_timeout(&to, within)).unwrap();
            outcome.unwrap_err().kind() == ErrorKind::ConnectionRefused
        };
        assert!(!refused(SILENCE), "dropped");
        for parameter in ["NftablesFilterDenyAction", "IptablesFilterDenyAction"] {
            host.play([parameters(&[(parameter, "REJECT")])]);
            // The kernel bounds how many such errors it makes, for all namespaces together.
            testkit::eventually("rejected with an ICMP error", || refused(SILENCE));
            host.play([parameters(&[])]);
            assert!(!refused(SILENCE), "dropped again");
        }
    });
}

#[test]
fn what_a_workload_sends_to_its_host_is_the_hosts_rules_to_decide_with_return() {
    on_a_host(|mut host| {
        let (a, _b) = two_pods(&mut host);
        host.links.add_address(1, "192.0.2.1/32".parse().unwrap(), Default::default()).unwrap();
        let _on_host = std::net::TcpListener::bind("192.0.2.1:8080").unwrap();
        let here = "192.0.2.1".parse().unwrap();
        assert!(!a.connects(here, 8080, SILENCE));
        host.play([parameters(&[("DefaultEndpointToHostAction", "RETURN")])]);
        assert!(a.connects(here, 8080, ANSWER), "the host has no rules of its own");
    });
}
