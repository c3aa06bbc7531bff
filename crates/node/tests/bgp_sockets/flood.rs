//! Floods: established sessions do not miss a KEEPALIVE.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use node::speaker::SpeakerHandle;
use socket2::{Domain, Protocol, Socket, Type};
use testkit::TestNamespace;

use crate::world::{config, eventually, is_up, pair, passive, peer, start, status};

const SPEAKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 179);
const CONNECTIONS: u16 = 10_000;

/// A session with the shortest hold time that there is, so that a few seconds of silence end it.
fn nervous() -> ([TestNamespace; 2], SpeakerHandle, SpeakerHandle) {
    let hosts = pair();
    // Strangers from here are routed back, and nobody answers there.
    hosts[0].command("ip route add 198.18.0.0/15 via 10.0.0.2");
    hosts[1].command("ip route add blackhole 198.18.0.0/15");
    let (mut ours, mut theirs) = (passive([10, 0, 0, 2]), peer([10, 0, 0, 1]));
    for peer in [&mut ours, &mut theirs] {
        peer.timers.hold = Duration::from_secs(3);
    }
    let (ours, theirs) = (start(&hosts[0], config(1, ours)), start(&hosts[1], config(2, theirs)));
    eventually("the session is up", || is_up(&ours) && is_up(&theirs));
    (hosts, ours, theirs)
}

/// Goes on with something for longer than the session would live without KEEPALIVEs.
fn for_some_hold_times(mut what: impl FnMut(u16)) -> u64 {
    let end = Instant::now() + Duration::from_secs(8);
    let mut done = 0;
    while Instant::now() < end || done < u64::from(CONNECTIONS) {
        what(u16::try_from(done % u64::from(CONNECTIONS)).expect("below 10,000"));
        done += 1;
    }
    done
}

fn assert_untouched(ours: &SpeakerHandle, theirs: &SpeakerHandle) {
    for speaker in [ours, theirs] {
        let status = status(speaker).expect("the speaker answers while it is flooded");
        assert_eq!(status.established_count, 1, "it never went down: {:?}", status.reason);
        assert!(is_up(speaker));
    }
}

#[test]
fn half_open_connections_do_not_cost_a_session() {
    let (hosts, ours, theirs) = nervous();
    let sent = hosts[1].run(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("root may");
        for_some_hold_times(|index| {
            let [high, low] = index.to_be_bytes();
            let packet = syn(Ipv4Addr::new(198, 18, high, low), 1024 + index, SPEAKER);
            // A full queue drops some; the kernel of a flooder is not our concern.
            let _ = raw.send_to(&packet, &SocketAddr::from(SPEAKER).into());
        })
    });
    assert!(sent >= u64::from(CONNECTIONS));
    assert_untouched(&ours, &theirs);
    let half_open = hosts[0].command("ss -Hnt state syn-recv");
    assert!(half_open.lines().count() > 100, "the flood arrived: {}", half_open.lines().count());
}

#[test]
fn strangers_that_connect_are_reset_and_do_not_cost_a_session() {
    let (hosts, ours, theirs) = nervous();
    hosts[1].command("ip address add 10.0.0.66/24 dev fabric");
    hosts[1].run(|| {
        for_some_hold_times(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.bind(&SocketAddr::from(([10, 0, 0, 66], 0)).into()).expect("a port is free");
            let _ = socket.connect(&SocketAddr::from(SPEAKER).into());
        })
    });
    assert_untouched(&ours, &theirs);
    // The last ones wait to be accepted, on a busy machine a while.
    testkit::eventually("nothing is kept of them", || {
        hosts[0].command("ss -Hnt state all dst 10.0.0.66").lines().count() < 200
    });
}

#[test]
fn idle_connections_from_the_peers_own_address_do_not_cost_a_session() {
    let (hosts, ours, theirs) = nervous();
    let mut kept = std::collections::VecDeque::new();
    hosts[1].run(|| {
        for_some_hold_times(|_| {
            kept.extend(TcpStream::connect(SPEAKER).ok());
            if kept.len() > 200 {
                kept.pop_front();
            }
        })
    });
    assert_untouched(&ours, &theirs);
}

/// A SYN with its IP header.
fn syn(from: Ipv4Addr, port: u16, to: SocketAddrV4) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend(port.to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    // Sequence and acknowledgement numbers, 5 words, SYN, window, checksum, urgent pointer.
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = Vec::with_capacity(32);
    pseudo.extend(from.octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    // Version and length, TTL, TCP; the kernel fills in what is 0 here.
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("16 bits after folding twice")
}
