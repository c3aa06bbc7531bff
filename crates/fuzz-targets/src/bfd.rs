//! BFD: a packet, and a table of sessions that packets and time come to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::PeerId;
use bgp::bfd::packet::{ControlPacket, LENGTH};
use bgp::bfd::{Arrival, Output, Table, Target};
use bgp::config::Bfd;

use crate::session::Script;

/// One packet.
pub(crate) fn packet(data: &[u8]) {
    match ControlPacket::decode(data) {
        Ok(packet) => assert_eq!(ControlPacket::decode(&packet.encode()), Ok(packet)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Two sessions, one over several hops.
pub(crate) fn table(data: &[u8]) {
    let mut script = Script::new(data);
    let mut now = Instant::now();
    let mut table = Table::new(1);
    table.configure(&targets(0), now);
    let mut discriminators: BTreeMap<PeerId, u32> = BTreeMap::new();
    while let Some(step) = script.next() {
        match step % 4 {
            0 => {
                now += Duration::from_millis(1 << (script.octet() % 13));
                until(&mut table, now);
            }
            1 => table.configure(&targets(script.octet()), now),
            _ => receive(&mut table, &mut script, &discriminators, now),
        }
        while let Some(output) = table.poll_output() {
            if let Output::Send { peer, packet } = output {
                let sent = ControlPacket::decode(&packet).expect("we send what can be read");
                discriminators.insert(peer, sent.my_discriminator);
            }
        }
        assert!(table.status().len() <= 2);
    }
}

/// Timers that are due, as often as they are.
fn until(table: &mut Table, now: Instant) {
    for _ in 0..1000 {
        table.handle_timeout(now);
        if table.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
    }
    panic!("a timer is due again and again at the same time");
}

fn targets(bits: u8) -> BTreeMap<PeerId, Target> {
    let target = |last: u8, multihop: bool| Target {
        local: IpAddr::from([10, 0, 0, 1]),
        remote: IpAddr::from([10, 0, 0, last]),
        interface: None,
        bfd: Bfd {
            multihop,
            interval: Duration::from_millis(u64::from(10 + (bits & 0x0f) * 16)),
            multiplier: 1 + (bits >> 4),
            ..Bfd::default()
        },
    };
    let all = [(PeerId::from("one"), target(2, false)), (PeerId::from("two"), target(3, true))];
    all.into_iter().skip(usize::from(bits == 0xff)).collect()
}

/// A packet: any octets, or one for a session that is there.
fn receive(table: &mut Table, script: &mut Script<'_>, known: &BTreeMap<PeerId, u32>, now: Instant) {
    let bits = script.octet();
    let multihop = bits & 1 != 0;
    let last = if multihop { 3 } else { 2 };
    let arrival = Arrival {
        local: IpAddr::from([10, 0, 0, 1]),
        remote: IpAddr::from([10, 0, 0, last]),
        interface: None,
        multihop,
        ttl: if bits & 2 == 0 { 255 } else { 254 },
    };
    if bits & 4 != 0 {
        let _ = table.receive(arrival, script.take(LENGTH + 2), now);
        return;
    }
    let name = PeerId::from(if multihop { "two" } else { "one" });
    let mut bytes = [0x20, 0, 3, 24, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0, 0];
    bytes[0] |= bits >> 6;
    bytes[1] = script.octet();
    bytes[2] = script.octet();
    bytes[8..12].copy_from_slice(&known.get(&name).copied().unwrap_or_default().to_be_bytes());
    bytes[13] = script.octet();
    bytes[17] = script.octet();
    let _ = table.receive(arrival, &bytes, now);
}
