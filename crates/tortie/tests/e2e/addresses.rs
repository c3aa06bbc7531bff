//! Pods with IPv6 addresses beside IPv4, across hosts.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use kernel::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::{Server, reaches};
use crate::lab::{Lab, SOON, eventually, when};

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: no-ping}
spec:
  selector: all()
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP}
";

#[test]
fn pods_reach_each_other_by_both_families_and_policy_holds_for_both() {
    let lab = Lab::up(2, &["--pool6", "fd65::/48"]);
    let addresses = lab.addresses("pod-2");
    assert!(matches!(addresses[..], [IpAddr::V4(_), IpAddr::V6(_)]), "{addresses:?}");
    let _server = Server::start(&lab.pod("pod-2"), 80);
    for address in &addresses {
        assert!(reaches(&lab.pod("pod-1"), *address, 80, SOON), "{address}");
    }
    let pings = |milliseconds| ping6(&lab.pod("pod-1"), addresses[1], milliseconds);
    assert!(pings(20_000), "{} does not answer", addresses[1]);
    lab.apply(POLICY);
    eventually(SOON, || when(!pings(200), "ping goes on"));
    for address in &addresses {
        assert!(reaches(&lab.pod("pod-1"), *address, 80, SOON), "{address} with the policy");
    }
    let learned = lab.exec("node-1", "ip -6 route");
    assert!(learned.contains("via fd30::2 dev eth0 proto bird"), "{learned}");
}

/// RFC 4443: an echo request and whether its reply comes.
fn ping6(from: &Netns, target: IpAddr, milliseconds: u64) -> bool {
    const REQUEST: u8 = 128;
    const REPLY: u8 = 129;
    static IDENTIFIER: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(1);
    let [high, low] = IDENTIFIER.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_be_bytes();
    let limit = std::time::Duration::from_millis(milliseconds);
    let exchange = || -> std::io::Result<bool> {
        let mut socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_read_timeout(Some(limit))?;
        // The kernel fills in the checksum (RFC 3542, 3.1).
        socket.send_to(&[REQUEST, 0, 0, 0, high, low, 0, 1], &SocketAddr::new(target, 0).into())?;
        let start = Instant::now();
        let mut packet = [0; 64];
        while start.elapsed() < limit {
            let length = std::io::Read::read(&mut socket, &mut packet)?;
            if matches!(packet[..length], [REPLY, 0, _, _, h, l, ..] if (h, l) == (high, low)) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    matches!(from.run(exchange), Ok(Ok(true)))
}
