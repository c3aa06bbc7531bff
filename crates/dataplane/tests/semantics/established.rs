//! Connections that policy no longer allows: kept, or cut where a policy asks for it.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use calc::contract::*;

use crate::common::*;
use crate::net::{ANSWER, Host, Pod, SILENCE, on_a_host, on_each_host};
use crate::two_pods;

/// A policy whose word on established connections is `recheck`.
fn rechecking(change: Change) -> Change {
    let Change::PolicyUpdate { id, policy } = change else { unreachable!("a policy") };
    Change::PolicyUpdate { id, policy: Policy { rechecks: true, ..(*policy).clone() }.into() }
}

/// Endpoint `b` under one ingress policy.
fn governed(policy: &str) -> Change {
    let tiers = vec![tier("default", TierDefault::Deny, &[policy], &[])];
    endpoint("b", workload("cali-b", "10.65.0.3", tiers))
}

fn web(port: u16) -> Change {
    policy("web", vec![to_port(Action::Allow, 6, port)], vec![])
}

/// Both ends of a connection from `a` to `b`.
fn stream(a: &Pod, b: &Pod, port: u16) -> (TcpStream, TcpStream) {
    let listener = b.listen(port);
    let client = a.connection(b.v4(), port, ANSWER).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Whether what one end writes comes out of the other, within the time.
fn carries(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> bool {
    from.write_all(b"x").unwrap();
    to.set_read_timeout(Some(within)).unwrap();
    to.read_exact(&mut [0]).is_ok()
}

fn host_with_stream(test: impl Fn(Host, TcpStream, TcpStream) + Sync) {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (client, server) = stream(&a, &b, 80);
        test(host, client, server);
    });
}

#[test]
fn a_policy_that_asks_for_it_cuts_a_stream_that_it_denies_and_no_other() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (mut cut, mut cut_far) = stream(&a, &b, 80);
        let (mut kept, mut kept_far) = stream(&a, &b, 81);
        host.play([rechecking(web(81)), governed("web")]);
        assert!(!carries(&mut cut, &mut cut_far, SILENCE), "port 80 is denied now");
        assert!(carries(&mut kept, &mut kept_far, ANSWER) && carries(&mut kept_far, &mut kept, ANSWER));

        host.play([rechecking(web(80))]);
        assert!(!carries(&mut kept, &mut kept_far, SILENCE), "a change of the policy's rules cuts too");
        host.play([web(80)]);
        assert!(carries(&mut kept, &mut kept_far, ANSWER), "the policy takes its word back");
    });
}

#[test]
fn without_the_word_a_denied_stream_goes_on() {
    host_with_stream(|mut host, mut client, mut server| {
        host.play([web(81), governed("web")]);
        assert!(carries(&mut client, &mut server, ANSWER) && carries(&mut server, &mut client, ANSWER));
    });
}

/// The far end sends on and on; what it sends is not acknowledged any more, so it comes to a stop by itself.
#[test]
fn a_download_comes_to_a_stop_within_a_second() {
    host_with_stream(|mut host, mut client, mut server| {
        let sender = std::thread::spawn(move || {
            server.set_write_timeout(Some(SILENCE)).unwrap();
            while server.write_all(&[0; 4096]).is_ok() {}
        });
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = vec![0; 1 << 16];
        client.read_exact(&mut buffer).unwrap();
        host.play([rechecking(web(81)), governed("web")]);
        let denied = Instant::now();
        let mut last = denied;
        while client.read(&mut buffer).is_ok_and(|length| length > 0) {
            last = Instant::now();
            assert!(last - denied < Duration::from_secs(5), "the download goes on");
        }
        assert!(last - denied < Duration::from_secs(1), "{:?}", last - denied);
        drop(client);
        sender.join().unwrap();
    });
}

#[test]
fn who_opened_the_connection_is_judged_by_egress_policy_again() {
    host_with_stream(|mut host, mut client, mut server| {
        let tiers = vec![tier("default", TierDefault::Deny, &[], &["dns"])];
        host.play([
            rechecking(policy("dns", vec![], vec![to_port(Action::Allow, 17, 53)])),
            endpoint("a", workload("cali-a", "10.65.0.2", tiers)),
        ]);
        assert!(!carries(&mut client, &mut server, SILENCE));
    });
}

/// The governed end is the one that answers: what comes back to it was asked for.
#[test]
fn answers_to_an_endpoint_that_accepts_nothing_pass() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        host.play([rechecking(policy("closed", vec![], vec![])), governed("closed")]);
        let (mut client, mut server) = stream(&b, &a, 80);
        for _ in 0..3 {
            assert!(carries(&mut client, &mut server, ANSWER) && carries(&mut server, &mut client, ANSWER));
        }
        let (asking, answering) = (b.udp(4000), a.udp(53));
        assert!(crate::net::datagram_arrives(&asking, &answering, true));
        assert!(crate::net::datagram_arrives(&answering, &asking, true));
    });
}

/// Nobody listens at the other end, which says so.
#[test]
fn errors_about_a_connection_reach_who_made_it() {
    on_a_host(|mut host| {
        let (_, b) = two_pods(&mut host);
        host.play([rechecking(policy("closed", vec![], vec![])), governed("closed")]);
        let socket: UdpSocket = b.udp(4000);
        socket.connect("10.65.0.2:53").unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        // The kernel bounds how many such errors it makes, for all namespaces together.
        testkit::eventually("an error arrives", || {
            let outcome = socket.send(b"x").and_then(|_| socket.recv(&mut [0]));
            outcome.unwrap_err().kind() == std::io::ErrorKind::ConnectionRefused
        });
    });
}
