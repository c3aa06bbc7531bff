//! What it costs to delete the connections of addresses, by the size of the table. Run as root:
//! `cargo run -p kernel --example conntrack_figures`. Works in a network namespace of its own; the kernel's table is one
//! for all namespaces, so a busy host shows in the figures.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use kernel::conntrack::{Conntrack, delete_connections};

const ROUNDS: usize = 50;

fn main() {
    testkit::TestNamespace::new().run(|| {
        let commands = [
            "ip link set lo up",
            "nft add table inet t",
            "nft add chain inet t o { type filter hook output priority 0; }",
            "nft add rule inet t o ct state new counter",
        ];
        for command in commands {
            let mut words = command.split(' ');
            let program = words.next().expect("a command has a program");
            let done = Command::new(program).args(words).status().expect("ip and nft are installed");
            assert!(done.success(), "{command}");
        }
        println!("{:>10} {:>10} {:>12} {:>12}", "entries", "addresses", "fastest", "p50");
        let mut entries = 0;
        for wanted in [0, 5_000, 50_000] {
            fill(&mut entries, wanted);
            [1, 2, 4, 5, 100].into_iter().for_each(|addresses| measure(wanted, addresses));
        }
    });
}

/// Datagrams from ever new ports, to an address of the loopback that nobody asks for.
fn fill(entries: &mut u32, wanted: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    while *entries < wanted {
        let to = Ipv4Addr::from(0x7f20_0000 + *entries);
        // Nobody listens there; the answer to the last datagram is this one's error.
        let _ = socket.send_to(b"x", (to, 9));
        *entries += 1;
    }
}

/// Each address has ten connections.
fn measure(entries: u32, addresses: u8) {
    let mut conntrack = Conntrack::open().expect("a socket");
    let chosen: BTreeSet<IpAddr> =
        (0..addresses).map(|number| Ipv4Addr::new(127, 1, 1, number).into()).collect();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            for address in &chosen {
                let socket = UdpSocket::bind((*address, 0)).expect("a socket");
                for port in 1..=10 {
                    let _ = socket.send_to(b"x", ("127.0.0.1", port));
                }
            }
            let start = Instant::now();
            let deleted = delete_connections(&mut conntrack, &chosen).expect("root may");
            let took = start.elapsed();
            assert!(deleted.count >= 10 * chosen.len() && deleted.refused.is_empty(), "{deleted:?}");
            took
        })
        .collect();
    times.sort();
    println!("{entries:>10} {addresses:>10} {:>12.1?} {:>12.1?}", times[0], times[ROUNDS / 2]);
}
