//! What a workload hears when it asks who has an address: never that somebody else has its own.

mod common;
#[path = "common/net.rs"]
mod net;

use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use calc::contract::*;
use common::*;
use kernel::Rtnetlink;
use kernel::neighbour::State;
use net::{ANSWER, Pod, on_a_host};

/// Runs `ip …` or `nft …` in the calling thread's namespace.
fn run(line: &str) {
    let mut words = line.split(' ');
    let done = std::process::Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(done.success(), "{line}");
}

/// Asks from inside who has an address; gives whether anybody said so.
fn is_answered(pod: &Pod, address: IpAddr) -> bool {
    pod.namespace
        .run(|| {
            let mut socket = Rtnetlink::open().unwrap();
            let eth0 = socket.links().unwrap().into_iter().find(|link| link.name.as_str() == "eth0").unwrap();
            socket.delete_neighbour(eth0.index, address, false).unwrap();
            let asking = UdpSocket::bind("0.0.0.0:0").unwrap();
            // It is kept until it is known where to; what becomes of it is not looked at.
            asking.send_to(b"x", (address, 9)).unwrap();
            let deadline = Instant::now() + ANSWER;
            while Instant::now() < deadline {
                let found = socket.neighbours().unwrap().into_iter().find(|entry| entry.address == address);
                match found.map(|entry| entry.state) {
                    Some(State::Known) => return true,
                    Some(State::Failed) => return false,
                    _ => std::thread::yield_now(),
                }
            }
            panic!("neither answered nor given up: {address}");
        })
        .unwrap()
}

#[test]
fn the_host_answers_a_workload_for_others_but_not_for_itself_even_without_its_route() {
    on_a_host(|mut host| {
        let pod = host.add_pod("cali-a", &["10.65.0.2"]);
        host.play([open_profile(), endpoint("a", workload("cali-a", "10.65.0.2", vec![])), Change::InSync]);
        // A way by which the host can reach everything else, so that it answers for everything else.
        for line in [
            "ip link add up0 type veth peer name up1",
            "ip link set up0 up",
            "ip link set up1 up",
            "ip address add 192.0.2.1/24 dev up0",
            "ip route add default via 192.0.2.254 dev up0",
            // Whoever asks has to be where it asks from.
            "ip route add 10.65.0.77/32 dev cali-a",
            "ip route del 10.65.0.2/32 dev cali-a",
        ] {
            run(line);
        }
        // The workload looks whether its address is free before it takes it.
        pod.namespace
            .run(|| {
                for line in [
                    "ip address del 10.65.0.2/32 dev eth0",
                    "ip address add 10.65.0.77/32 dev eth0",
                    "ip route add 10.65.0.2/32 dev eth0",
                    "ip route add 10.65.0.99/32 dev eth0",
                ] {
                    run(line);
                }
                std::fs::write("/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms", "50").unwrap();
            })
            .unwrap();
        let (own, other) = ("10.65.0.2".parse().unwrap(), "10.65.0.99".parse().unwrap());
        assert!(is_answered(&pod, other), "no proxy ARP at all");
        assert!(!is_answered(&pod, own));
        // It is the rule that makes the difference.
        run("nft delete table arp calico");
        assert!(is_answered(&pod, own));
        host.dataplane.resync();
        host.play([]);
        run("ip route del 10.65.0.2/32 dev cali-a");
        assert!(!is_answered(&pod, own));
    });
}
