//! iptables and ipset on the real kernel: what is written, beside the rules of others, and how one backend takes the place of
//! another.

mod common;
#[path = "common/net.rs"]
mod net;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use calc::contract::*;
use common::*;
use net::{
    Backend, Host, IPTABLES_LEGACY, IPTABLES_NFT, NFT, Pod, datagram_arrives, on_a_host, on_a_host_with,
};

const IPTABLES: [(Backend, &str); 2] = [(IPTABLES_NFT, "nft"), (IPTABLES_LEGACY, "legacy")];

/// What a program says.
fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program);
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// Chains and rules of a variant, of both families, in no order that tables or chains have, and without counters.
fn saved(variant: &str) -> Vec<String> {
    let families = ["iptables", "ip6tables"].map(|family| run(&format!("{family}-{variant}-save"), &[], ""));
    let mut chain = String::new();
    let mut lines: Vec<String> = Vec::new();
    for line in families.iter().flat_map(|saved| saved.lines()) {
        if let Some(table) = line.strip_prefix('*') {
            chain = table.to_owned();
        } else if line.starts_with("-A ") || line.starts_with(':') && !line.contains(" ACCEPT ") {
            lines.push(format!("{chain}: {}", line.split(" [").next().unwrap()));
        }
    }
    // Rules of a chain stay in order.
    lines.sort_by_key(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" "));
    lines
}

/// Without what is ours.
fn foreign(variant: &str) -> Vec<String> {
    saved(variant).into_iter().filter(|line| !line.contains("cali")).collect()
}

#[track_caller]
fn assert_same(now: &[String], before: &[String]) {
    let only = |a: &[String], b: &[String]| -> String {
        a.iter().filter(|line| !b.contains(line)).map(|line| format!("  {line}\n")).collect()
    };
    assert!(now == before, "now:\n{}before:\n{}", only(now, before), only(before, now));
}

fn two_pods(host: &mut Host) -> (Pod, Pod) {
    let pods = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
    host.play(scene());
    pods
}

/// From `a` to `b` port 53 is allowed, by an address in a set.
fn scene() -> Vec<Change> {
    let tiers = vec![tier("default", TierDefault::Deny, &["dns"], &[])];
    let from_a = Rule { source: from_set(Action::Allow, "s:a").source, ..to_port(Action::Allow, 17, 53) };
    vec![
        net_set("s:a", &["10.65.0.2/32"]),
        policy("dns", vec![from_a], vec![]),
        open_profile(),
        Change::PoolUpdate {
            cidr: "10.65.0.0/16".parse().unwrap(),
            pool: Pool { nat_outgoing: true, ..Pool::default() },
        },
        endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
        endpoint("b", workload("cali-b", "10.65.0.3", tiers)),
        Change::InSync,
    ]
}

#[test]
fn what_is_written_has_calicos_names_and_a_second_apply_and_a_restart_write_nothing() {
    for (backend, variant) in IPTABLES {
        on_a_host_with(backend, |mut host| {
            let _pods = two_pods(&mut host);
            let first = saved(variant);
            for text in [
                "-j cali-FORWARD",
                "-A cali-FORWARD",
                "-i cali+",
                "-A cali-from-wl-dispatch",
                ":cali-pi-gnp/dns ",
                "-m set --match-set cali40s:a src",
                "--comment \"cali:",
                "GlobalNetworkPolicy/dns ingress 0",
                "Policy explicitly accepted packet.",
                "-A cali-nat-outgoing",
            ] {
                assert!(first.iter().any(|line| line.contains(text)), "no {text} in\n{}", first.join("\n"));
            }
            assert!(run("ipset", &["list", "-n"], "").contains("cali40s:a"));
            let (generation, members) = (host.generation(), run("ipset", &["save"], ""));
            host.play(scene());
            host.restart();
            host.play(scene());
            assert_eq!(host.generation(), generation, "something was written");
            assert_same(&saved(variant), &first);
            assert_eq!(run("ipset", &["save"], ""), members);
        });
    }
}

#[test]
fn counters_of_rules_that_stay_are_kept_and_read_by_their_origin() {
    for (backend, _) in IPTABLES {
        on_a_host_with(backend, |mut host| {
            let (a, b) = two_pods(&mut host);
            assert!(datagram_arrives(&a.udp(4000), &b.udp(53), true));
            let counted = |host: &mut Host| -> u64 {
                let counters = host.dataplane.counters().unwrap();
                let origin = Some("GlobalNetworkPolicy/dns ingress 1");
                let of_origin = counters.iter().filter(|(_, count)| count.comment.as_deref() == origin);
                of_origin.map(|(_, count)| count.count.packets).sum()
            };
            let two = |first: u16| {
                let rules = [first, 53].map(|port| to_port(Action::Allow, 17, port));
                policy("dns", rules.to_vec(), vec![])
            };
            host.play([two(99)]);
            assert!(datagram_arrives(&a.udp(4001), &b.udp(53), true));
            let before = counted(&mut host);
            assert!(before > 0);
            host.play([two(98)]);
            assert_eq!(counted(&mut host), before, "another rule of the policy has changed");
        });
    }
}

#[test]
fn what_others_change_is_repaired() {
    for (backend, variant) in IPTABLES {
        on_a_host_with(backend, |mut host| {
            let (a, b) = two_pods(&mut host);
            let first = saved(variant);
            let iptables = format!("iptables-{variant}");
            for damage in [
                &["-D", "FORWARD", "1"][..],
                &["-F", "cali-FORWARD"],
                &["-I", "cali-pi-gnp/dns", "1", "-j", "DROP"],
                &["-D", "cali-from-wl-dispatch", "2"],
                &["-t", "nat", "-F", "cali-POSTROUTING"],
                &["-N", "cali-stranger"],
            ] {
                run(&iptables, damage, "");
            }
            run("ipset", &["add", "cali40s:a", "10.65.0.99"], "");
            run("ipset", &["create", "cali40stranger", "hash:ip"], "");
            host.dataplane.resync();
            host.play([]);
            assert_same(&saved(variant), &first);
            let sets = run("ipset", &["save"], "");
            assert!(!sets.contains("10.65.0.99") && !sets.contains("stranger"), "{sets}");
            assert!(datagram_arrives(&a.udp(4000), &b.udp(53), true));
            assert!(!datagram_arrives(&a.udp(4001), &b.udp(54), false));
        });
    }
}

#[test]
fn what_others_change_is_seen_a_while_after_a_write_without_being_asked() {
    on_a_host_with(IPTABLES_LEGACY, |mut host| {
        let _pods = two_pods(&mut host);
        let first = saved("legacy");
        run("iptables-legacy", &["-F", "cali-FORWARD"], "");
        let report = host.play([]);
        let next = report.next_apply.expect("a time to look again");
        let wait = next.saturating_duration_since(Instant::now());
        assert!(wait > Duration::from_secs(3) && wait <= Duration::from_secs(5), "{wait:?}");
        host.dataplane.apply(next);
        assert_same(&saved("legacy"), &first);
    });
}

/// Rules as kube-proxy, Docker and firewalld have them.
fn others(variant: &str) {
    let rules = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 53 -j KUBE-SVC-A
-A KUBE-SVC-A -p udp -m udp -j DNAT --to-destination 10.65.0.3:53
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A DOCKER-USER -p udp -m udp --dport 55 -j DROP
-A DOCKER-USER -j RETURN
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
";
    run(&format!("iptables-{variant}-restore"), &["--noflush"], rules);
    let firewalld = "table inet firewalld {
        chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; udp dport 56 drop; }
    }";
    run("nft", &["-f", "-"], firewalld);
    run("ipset", &["create", "theirs", "hash:ip"], "");
}

fn firewalld() -> String {
    run("nft", &["list", "table", "inet", "firewalld"], "")
}

#[test]
fn rules_of_others_stay_as_they_are_and_keep_working() {
    for (backend, variant) in IPTABLES {
        on_a_host_with(backend, |mut host| {
            others(variant);
            let before = (foreign(variant), firewalld());
            let (a, b) = two_pods(&mut host);
            assert_same(&foreign(variant), &before.0);
            assert_eq!(firewalld(), before.1);
            let wide = vec![tier("default", TierDefault::Deny, &["ports"], &[])];
            let ports = [53, 55, 56, 57].map(|port| to_port(Action::Allow, 17, port));
            host.play([
                policy("ports", ports.to_vec(), vec![]),
                endpoint("b", workload("cali-b", "10.65.0.3", wide)),
            ]);
            let sockets = [53, 55, 56, 57].map(|port| b.udp(port));
            let arrives =
                |number: usize, port, expected| datagram_arrives(&a.udp(port), &sockets[number], expected);
            assert!(arrives(3, 4000, true), "though FORWARD's policy drops what nobody accepts");
            assert!(!arrives(2, 4001, false), "firewalld's table drops it");
            assert!(!arrives(1, 4002, false), "Docker's chain drops it");
            // By the Service's address, which kube-proxy's rules translate.
            let client = a.udp(4003);
            let service: SocketAddr = "10.96.0.10:53".parse().unwrap();
            let mut buffer = [0; 16];
            testkit::eventually("a datagram by way of the Service", || {
                client.send_to(b"service", service).unwrap();
                sockets[0].set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                sockets[0].recv_from(&mut buffer).is_ok_and(|(length, _)| &buffer[..length] == b"service")
            });
            host.play([parameters(&[("NFTablesMode", "Enabled")])]);
            assert_same(&foreign(variant), &before.0);
            assert_eq!(firewalld(), before.1);
            assert!(run("ipset", &["list", "-n"], "").contains("theirs"));
        });
    }
}

#[test]
fn our_jump_is_first_or_last_as_the_parameter_says() {
    on_a_host_with(IPTABLES_NFT, |mut host| {
        others("nft");
        let _pods = two_pods(&mut host);
        let forward = || -> Vec<String> {
            let ipv4 = run("iptables-nft-save", &["-t", "filter"], "");
            let of_forward = ipv4.lines().filter(|line| line.starts_with("-A FORWARD "));
            of_forward.map(|line| line.rsplit("-j ").next().unwrap().to_owned()).collect()
        };
        let theirs = ["DOCKER-USER", "DOCKER-ISOLATION-STAGE-1", "KUBE-FORWARD"];
        assert_eq!(forward(), [&["cali-FORWARD"], &theirs[..], &["ACCEPT"]].concat());
        let iptables = |name, value| parameters(&[("ChainInsertMode", "Append"), (name, value)]);
        host.play([iptables("IptablesFilterAllowAction", "ACCEPT")]);
        assert_eq!(forward(), [&theirs[..], &["cali-FORWARD", "ACCEPT"]].concat());
        host.play([iptables("IptablesFilterAllowAction", "RETURN")]);
        assert_eq!(forward(), [&theirs[..], &["cali-FORWARD"]].concat(), "their policy decides");
    });
}

/// Nothing of ours is there of the backends that are not in force.
fn only(wanted: &str) {
    let found: Vec<&str> = ["nft", "legacy"]
        .into_iter()
        .filter(|variant| saved(variant).iter().any(|line| line.contains("cali")))
        .collect();
    let tables = run("nft", &["list", "tables"], "").contains(" calico");
    let sets = run("ipset", &["list", "-n"], "").contains("cali");
    match wanted {
        "nf_tables" => assert_eq!((found.len(), tables, sets), (0, true, false), "{found:?}"),
        variant => assert_eq!((&found[..], tables, sets), (&[variant][..], false, true)),
    }
}

#[test]
fn a_process_takes_away_what_another_backend_has_left() {
    let order =
        [(IPTABLES_LEGACY, "legacy"), (NFT, "nf_tables"), (IPTABLES_NFT, "nft"), (IPTABLES_LEGACY, "legacy")];
    on_a_host(|mut host| {
        let _pods = two_pods(&mut host);
        for (backend, name) in order {
            host.restart_with(backend);
            host.play(scene());
            only(name);
        }
    });
}

/// Datagrams to both, until it is told to stop; no more at a time than the receiver has room for. Gives how many to each.
fn send(from: &UdpSocket, to: &[SocketAddr], arrived: &AtomicU32, stop: &AtomicBool) -> u32 {
    let mut sent = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        for to in to {
            from.send_to(b"traffic", to).unwrap();
        }
        sent += 1;
        // What is lost is waited for once, and then counted as lost.
        let deadline = Instant::now() + Duration::from_millis(50);
        while sent > arrived.load(Ordering::Relaxed) + 32 && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
    sent
}

/// Counts all that comes, until nothing has come for a while after the end.
fn receive(socket: &UdpSocket, arrived: &AtomicU32, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    loop {
        match socket.recv_from(&mut [0; 16]) {
            Ok(_) => drop(arrived.fetch_add(1, Ordering::Relaxed)),
            Err(_) if stop.load(Ordering::Relaxed) => return,
            Err(_) => {}
        }
    }
}

#[test]
fn a_switch_of_backends_under_traffic_loses_nothing_and_admits_nothing() {
    on_a_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (allowed, denied, from) = (b.udp(53), b.udp(54), a.udp(4000));
        assert!(datagram_arrives(&from, &allowed, true));
        while allowed.recv_from(&mut [0; 16]).is_ok() {}
        let port = |port| SocketAddr::new(IpAddr::from([10, 65, 0, 3]), port);
        let targets = [port(53), port(54)];
        let (arrived, leaked, stop) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let sent = std::thread::scope(|scope| {
            scope.spawn(|| receive(&allowed, &arrived, &stop));
            scope.spawn(|| receive(&denied, &leaked, &stop));
            let sent = scope.spawn(|| send(&from, &targets, &arrived, &stop));
            for (backend, name) in [
                (IPTABLES_NFT, "nft"),
                (IPTABLES_LEGACY, "legacy"),
                (NFT, "nf_tables"),
                (IPTABLES_LEGACY, "legacy"),
                (IPTABLES_NFT, "nft"),
                (NFT, "nf_tables"),
            ] {
                let before = arrived.load(Ordering::Relaxed);
                host.play([parameters(backend)]);
                only(name);
                println!("{name}: {} arrived meanwhile", arrived.load(Ordering::Relaxed) - before);
            }
            stop.store(true, Ordering::Relaxed);
            sent.join().unwrap()
        });
        println!("{sent} datagrams to each port");
        assert!(sent > 100, "traffic was running");
        assert_eq!((arrived.into_inner(), leaked.into_inner()), (sent, 0), "arrived, and leaked");
        assert!(!datagram_arrives(&from, &denied, false));
    });
}
