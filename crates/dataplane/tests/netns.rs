//! The dataplane on the real kernel: a host and its workloads in network namespaces, real TCP and UDP between them.

mod common;
#[path = "common/net.rs"]
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use calc::contract::*;
use common::*;
use kernel::route::{RouteChange, RouteKernel};
use net::{ANSWER, Host, Pod, SILENCE, datagram_arrives, on_a_host, on_each_host};

/// Two workloads that may do everything.
fn two_pods(host: &mut Host) -> (Pod, Pod) {
    let (a, b) = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
    let report = host.play([
        open_profile(),
        endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
        endpoint("b", workload("cali-b", "10.65.0.3", vec![])),
        Change::InSync,
    ]);
    assert_eq!(report.programmed, [endpoint_id("a"), endpoint_id("b")]);
    (a, b)
}

#[test]
fn a_policy_admits_its_port_and_nothing_else_and_goes_away_again() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let _open = (b.listen(80), b.listen(81));
        assert!(a.connects(b.v4(), 80, ANSWER) && a.connects(b.v4(), 81, ANSWER));

        let tiers = vec![tier("default", TierDefault::Deny, &["web"], &[])];
        host.play([
            net_set("s:a", &["10.65.0.2/32"]),
            policy(
                "web",
                vec![Rule { source: from_set(Action::Allow, "s:a").source, ..to_port(Action::Allow, 6, 80) }],
                vec![],
            ),
            endpoint("b", workload("cali-b", "10.65.0.3", tiers)),
        ]);
        assert!(a.connects(b.v4(), 80, ANSWER));
        assert!(!a.connects(b.v4(), 81, SILENCE));

        host.play([delta("s:a", &["10.65.0.2/32"], &["10.65.0.9/32"])]);
        assert!(!a.connects(b.v4(), 80, SILENCE));
        host.play([delta("s:a", &[], &["10.65.0.0/29"])]);
        assert!(a.connects(b.v4(), 80, ANSWER));

        host.play([endpoint("b", workload("cali-b", "10.65.0.3", vec![]))]);
        assert!(a.connects(b.v4(), 81, ANSWER));
    });
}

#[test]
fn egress_policy_holds_where_the_packet_leaves() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (from, to) = (a.udp(4000), b.udp(53));
        let other = b.udp(54);
        let tiers = vec![tier("default", TierDefault::Deny, &[], &["dns"])];
        host.play([
            policy("dns", vec![], vec![to_port(Action::Allow, 17, 53)]),
            endpoint("a", workload("cali-a", "10.65.0.2", tiers)),
        ]);
        assert!(datagram_arrives(&from, &to, true));
        assert!(!datagram_arrives(&from, &other, false));
    });
}

#[test]
fn an_established_connection_outlives_a_policy_that_denies_it() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let listener = b.listen(80);
        let mut client = a.connection(b.v4(), 80, ANSWER).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let closed = vec![tier("default", TierDefault::Deny, &["closed"], &[])];
        host.play([policy("closed", vec![], vec![]), endpoint("b", workload("cali-b", "10.65.0.3", closed))]);
        assert!(!a.connects(b.v4(), 80, SILENCE));
        client.write_all(b"still here").unwrap();
        let mut buffer = [0; 10];
        server.set_read_timeout(Some(ANSWER)).unwrap();
        server.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"still here");
    });
}

#[test]
fn the_connections_of_an_address_are_cut_before_it_is_used_again() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let (listener, others) = (b.listen(80), a.listen(80));
        let mut client = a.connection(b.v4(), 80, ANSWER).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        host.links.add_address(1, "192.0.2.1/32".parse().unwrap(), Default::default()).unwrap();
        let mut kept = std::net::TcpStream::connect((a.v4(), 80)).unwrap();
        let (mut kept_far, _) = others.accept().unwrap();

        let report = host.play([Change::WorkloadEndpointRemove { id: endpoint_id("b") }]);
        assert_eq!(report.withdrawn, [endpoint_id("b")]);
        let tracked = kernel::conntrack::Conntrack::open().unwrap().connections().unwrap();
        assert!(!tracked.iter().any(|entry| entry.addresses().contains(&b.v4())), "{tracked:?}");
        // The next endpoint with that address (here in the same namespace) lets nobody in.
        let closed = vec![tier("default", TierDefault::Deny, &["closed"], &[])];
        let next = endpoint("next", workload("cali-b", "10.65.0.3", closed));
        let report = host.play([policy("closed", vec![], vec![]), next]);
        assert_eq!(report.programmed, [endpoint_id("next")]);
        client.write_all(b"x").unwrap();
        server.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(server.read_exact(&mut [0]).is_err(), "the next owner has inherited a connection");
        kept.write_all(b"x").unwrap();
        kept_far.set_read_timeout(Some(ANSWER)).unwrap();
        kept_far.read_exact(&mut [0]).expect("the other workload's connection goes on");
    });
}

#[test]
fn a_restarted_process_cuts_no_connection_of_an_endpoint_that_stays() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let listener = b.listen(80);
        let mut client = a.connection(b.v4(), 80, ANSWER).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let tracked = || {
            let entries = kernel::conntrack::Conntrack::open().unwrap().connections().unwrap();
            entries
                .into_iter()
                .filter(|entry| entry.addresses().contains(&b.v4()))
                .map(|entry| entry.id)
                .collect::<Vec<_>>()
        };
        let before = tracked();
        assert!(!before.is_empty());
        host.restart();
        let endpoints = [("a", "cali-a", "10.65.0.2"), ("b", "cali-b", "10.65.0.3")];
        let endpoints =
            endpoints.map(|(name, interface, ip)| endpoint(name, workload(interface, ip, vec![])));
        host.play([open_profile()].into_iter().chain(endpoints).chain([Change::InSync]));
        assert_eq!(tracked(), before);
        client.write_all(b"x").unwrap();
        server.set_read_timeout(Some(ANSWER)).unwrap();
        server.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn the_host_reaches_its_workloads_and_they_reach_it_only_if_told() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        host.links.add_address(1, "192.0.2.1/32".parse().unwrap(), Default::default()).unwrap();
        let here = "192.0.2.1".parse().unwrap();
        let _on_host = std::net::TcpListener::bind("192.0.2.1:22").unwrap();
        let closed = vec![tier("default", TierDefault::Deny, &["closed"], &[])];
        let _open = b.listen(80);
        host.play([policy("closed", vec![], vec![]), endpoint("b", workload("cali-b", "10.65.0.3", closed))]);
        let to_pod = std::net::SocketAddr::new(b.v4(), 80);
        std::net::TcpStream::connect_timeout(&to_pod, ANSWER).expect("the host reaches its own workload");
        assert!(!a.connects(here, 22, SILENCE));
        host.play([parameters(&[("DefaultEndpointToHostAction", "ACCEPT")])]);
        assert!(a.connects(here, 22, ANSWER));
    });
}

#[test]
fn a_workload_dials_the_address_on_its_interface_as_far_as_its_policy_and_the_hosts_let_it() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let here: IpAddr = "169.254.0.179".parse().unwrap();
        let both = ["cali-a", "cali-b"].map(|name| (Arc::from(name), BTreeSet::from([here])));
        host.dataplane.set_peering_addresses(both.into());
        host.play([]);
        let _bgp = std::net::TcpListener::bind((here, 179)).unwrap();
        assert!(!a.connects(here, 179, SILENCE), "workloads reach the host only if told");
        host.play([parameters(&[("DefaultEndpointToHostAction", "ACCEPT")])]);
        assert!(a.connects(here, 179, ANSWER) && b.connects(here, 179, ANSWER));

        let only_dns = vec![tier("default", TierDefault::Deny, &[], &["egress"])];
        let confined = || endpoint("b", workload("cali-b", "10.65.0.3", only_dns.clone()));
        host.play([policy("egress", vec![], vec![to_port(Action::Allow, 17, 53)]), confined()]);
        assert!(!b.connects(here, 179, SILENCE), "egress policy holds towards the host");
        host.play([policy("egress", vec![], vec![to_port(Action::Allow, 6, 179)])]);
        assert!(b.connects(here, 179, ANSWER));
        host.play([parameters(&[("DefaultEndpointToHostAction", "DROP")])]);
        assert!(!b.connects(here, 179, SILENCE), "the host's word comes after the policy's");

        // The kernel forgets routes with the last address of a link; ours are there all the same.
        let to_b = b.listen(80);
        host.dataplane.set_peering_addresses(BTreeMap::new());
        host.play([]);
        assert!(a.connects(b.v4(), 80, ANSWER));
        drop(to_b);
    });
}

#[test]
fn what_lies_behind_a_workload_may_be_reached_and_may_answer() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let behind: IpAddr = "44.0.0.1".parse().unwrap();
        let (to, spoofed) = b
            .namespace
            .run(|| {
                let mut links = kernel::Rtnetlink::open().unwrap();
                for address in ["44.0.0.1/32", "45.0.0.1/32"] {
                    links.add_address(1, address.parse().unwrap(), Default::default()).unwrap();
                }
                ["44.0.0.1:53", "45.0.0.1:53"].map(|address| UdpSocket::bind(address).unwrap()).into()
            })
            .unwrap();
        let from = a.udp(4000);
        assert!(!datagram_arrives(&from, &to, false));
        let gateway = kernel::route::Gateway::new(b.v4());
        let learned = kernel::route::Route::via("44.0.0.0/16".parse().unwrap(), gateway, 12);
        host.dataplane.bgp_routes().set(learned);
        host.play([]);
        assert!(datagram_arrives(&from, &to, true));
        assert!(datagram_arrives(&to, &from, true), "from {behind}, to which the route leads");
        assert!(!datagram_arrives(&spoofed, &from, false), "no route leads there");
    });
}

#[test]
fn an_interface_without_endpoint_carries_nothing() {
    on_each_host(|mut host| {
        let (a, _) = two_pods(&mut host);
        let stranger = host.add_pod("cali-x", &["10.65.0.66"]);
        let _open = stranger.listen(80);
        let route = kernel::route::Route::device(
            "10.65.0.66/32".parse().unwrap(),
            kernel::InterfaceName::new("cali-x").unwrap(),
            186,
        );
        let mut routes =
            kernel::route::RouteTable::new(kernel::Rtnetlink::open().unwrap(), Default::default());
        routes.set_route(kernel::route::RouteClass::Bgp, "test", route);
        routes.apply(Instant::now()).unwrap();
        assert!(!a.connects(stranger.v4(), 80, SILENCE));
        assert!(!stranger.connects(a.v4(), 80, SILENCE));
    });
}

#[test]
fn a_workload_cannot_send_from_an_address_of_another() {
    on_each_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let to = b.udp(53);
        assert!(datagram_arrives(&a.udp(4000), &to, true));
        let spoofer = a.namespace.run(|| {
            let mut links = kernel::Rtnetlink::open().unwrap();
            let eth0 = links.link(&kernel::InterfaceName::new("eth0").unwrap()).unwrap().unwrap();
            links.add_address(eth0.index, "10.65.0.9/32".parse().unwrap(), Default::default()).unwrap();
            std::net::UdpSocket::bind("10.65.0.9:4000").unwrap()
        });
        assert!(!datagram_arrives(&spoofer.unwrap(), &to, false));
    });
}

#[test]
fn a_second_apply_and_a_restarted_process_write_nothing() {
    on_a_host(|mut host| {
        let changes = || {
            let tiers = |pass| {
                vec![
                    tier("first", TierDefault::Pass, &["pass"], &["pass"]),
                    tier("default", pass, &["web", "sets"], &["web"]),
                ]
            };
            [
                net_set("s:a", &["10.65.0.2/32", "10.65.0.7/32"]),
                net_set("s:n", &["10.0.0.0/8", "10.65.0.0/24", "192.0.2.1/32", "0.0.0.0/1"]),
                policy(
                    "web",
                    vec![to_port(Action::Allow, 6, 80), rule(Action::Log)],
                    vec![rule(Action::Allow)],
                ),
                policy("pass", vec![from_set(Action::Pass, "s:n")], vec![rule(Action::Pass)]),
                policy("sets", vec![from_set(Action::Deny, "s:a"), from_set(Action::Allow, "s:n")], vec![]),
                open_profile(),
                Change::PoolUpdate {
                    cidr: "10.65.0.0/16".parse().unwrap(),
                    pool: Pool { nat_outgoing: true, ..Pool::default() },
                },
                endpoint("a", workload("cali-a", "10.65.0.2", tiers(TierDefault::Deny))),
                endpoint("b", workload("cali-b", "10.65.0.3", tiers(TierDefault::Pass))),
                Change::InSync,
            ]
        };
        let _pods = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
        host.play(changes());
        let generation = host.generation();
        host.play([]);
        host.play(changes().into_iter().take(9));
        assert_eq!(host.generation(), generation, "a second apply wrote");

        host.restart();
        let before = host.dataplane.apply(Instant::now());
        assert!(before.waiting_for_sync);
        let report = host.play(changes());
        assert_eq!(report.programmed.len(), 2);
        assert_eq!(host.generation(), generation, "a restarted process wrote");
    });
}

#[test]
fn what_others_change_by_hand_is_repaired() {
    on_a_host(|mut host| {
        let (a, b) = two_pods(&mut host);
        let _open = b.listen(80);
        let mut stranger = kernel::nft::NftTable::new(
            kernel::nft::NftSocket::open().unwrap(),
            kernel::nft::Family::Ip,
            "calico",
        );
        stranger.remove().unwrap();
        let theirs =
            host.links.main_routes().unwrap().into_iter().find(|route| route.destination.addr() == b.v4());
        let deleted = host.links.change_routes(&[RouteChange::Delete(theirs.unwrap().into())]).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        host.dataplane.resync();
        host.play([]);
        assert!(a.connects(b.v4(), 80, ANSWER));
        let closed = vec![tier("default", TierDefault::Deny, &["closed"], &[])];
        host.play([policy("closed", vec![], vec![]), endpoint("b", workload("cali-b", "10.65.0.3", closed))]);
        assert!(!a.connects(b.v4(), 80, SILENCE));
    });
}

#[test]
fn a_removed_endpoint_leaves_no_chain_no_route_and_no_map_entry() {
    on_a_host(|mut host| {
        let (a, _b) = two_pods(&mut host);
        let report = host.play([Change::WorkloadEndpointRemove { id: endpoint_id("b") }]);
        assert_eq!(report.withdrawn, [endpoint_id("b")]);
        assert!(!a.connects("10.65.0.3".parse().unwrap(), 80, SILENCE));
        let routes = host.links.main_routes().unwrap();
        assert!(
            routes.iter().all(|route| route.destination != "10.65.0.3/32".parse::<ipnet::IpNet>().unwrap())
        );
        let comments: Vec<_> = host.dataplane.counters().unwrap();
        assert!(comments.iter().all(|(_, count)| !count.chain.contains("cali-b")), "{comments:?}");
    });
}

/// A peer of the host on a network between them: `fabric` on the host, 198.51.100.1 and .2.
fn fabric(host: &mut Host) -> kernel::netns::Netns {
    use kernel::link::{LinkChange, NewVeth, VethEnd};
    let name = |text: &str| kernel::InterfaceName::new(text).unwrap();
    let peer = kernel::netns::Netns::make().unwrap();
    let near = VethEnd { name: name("fabric"), mac: None, namespace: None };
    let far = VethEnd { name: name("eth0"), mac: None, namespace: Some(&peer) };
    host.links.create_veth(&NewVeth { near, far, mtu: None, queues: None }).unwrap();
    let set_up = |links: &mut kernel::Rtnetlink, link: &str, address: &str| {
        let index = links.link(&name(link)).unwrap().unwrap().index;
        links.add_address(index, address.parse().unwrap(), Default::default()).unwrap();
        links.change_link(index, &LinkChange::up()).unwrap();
    };
    set_up(&mut host.links, "fabric", "198.51.100.1/24");
    peer.run(|| set_up(&mut kernel::Rtnetlink::open().unwrap(), "eth0", "198.51.100.2/24")).unwrap();
    peer
}

fn connects(from: &kernel::netns::Netns, to: &str, within: std::time::Duration) -> bool {
    let to = to.parse().unwrap();
    from.run(|| std::net::TcpStream::connect_timeout(&to, within).is_ok()).unwrap()
}

#[test]
fn a_host_endpoint_is_closed_but_for_its_policy_and_the_failsafe_ports() {
    on_each_host(|mut host| {
        let peer = fabric(&mut host);
        let _open = [22, 80, 81].map(|port| std::net::TcpListener::bind(("198.51.100.1", port)).unwrap());
        host.play([Change::InSync]);
        assert!(connects(&peer, "198.51.100.1:81", ANSWER));
        let endpoint = HostEndpoint {
            interface: None,
            expected_ips: vec!["198.51.100.1".parse().unwrap()],
            tiers: vec![tier("default", TierDefault::Deny, &["web"], &[])],
            untracked_tiers: Vec::new(),
            pre_dnat_tiers: Vec::new(),
            forward_tiers: Vec::new(),
            profiles: Vec::new(),
        };
        let fabric = host.links.link(&kernel::InterfaceName::new("fabric").unwrap()).unwrap().unwrap();
        host.dataplane.on_link(&fabric);
        for address in host.links.addresses().unwrap() {
            host.dataplane.on_event(&kernel::monitor::Event::Address(address));
        }
        host.play([
            policy("web", vec![to_port(Action::Allow, 6, 80)], vec![]),
            Change::HostEndpointUpdate { name: "fabric".into(), endpoint: endpoint.into() },
        ]);
        assert!(connects(&peer, "198.51.100.1:22", ANSWER), "a failsafe port");
        assert!(connects(&peer, "198.51.100.1:80", ANSWER), "the policy's port");
        assert!(!connects(&peer, "198.51.100.1:81", SILENCE), "any other port");
        let (_, in_peer) = (host, peer.run(|| std::net::TcpListener::bind("198.51.100.2:8080").unwrap()));
        let out = std::net::TcpStream::connect_timeout(&"198.51.100.2:8080".parse().unwrap(), SILENCE);
        assert!(in_peer.is_ok() && out.is_err(), "egress without a policy or profile");
    });
}

#[test]
fn before_nat_a_policy_stops_what_would_be_forwarded_and_forward_policy_does_too() {
    on_each_host(|mut host| {
        let peer = fabric(&mut host);
        let (_a, b) = two_pods(&mut host);
        let _open = (b.listen(80), b.listen(81));
        peer.run(|| {
            use kernel::route::{Gateway, Route, RouteClass, RouteTable};
            let mut routes = RouteTable::new(kernel::Rtnetlink::open().unwrap(), Default::default());
            let route = Route::via(
                "10.65.0.0/24".parse().unwrap(),
                Gateway::new("198.51.100.1".parse().unwrap()),
                186,
            );
            routes.set_route(RouteClass::Bgp, "test", route);
            routes.apply(Instant::now()).unwrap();
        })
        .unwrap();
        assert!(connects(&peer, "10.65.0.3:80", ANSWER) && connects(&peer, "10.65.0.3:81", ANSWER));
        let endpoint = |pre_dnat_tiers, forward_tiers| {
            let endpoint = HostEndpoint {
                interface: Some("fabric".into()),
                expected_ips: Vec::new(),
                tiers: Vec::new(),
                untracked_tiers: Vec::new(),
                pre_dnat_tiers,
                forward_tiers,
                profiles: Vec::new(),
            };
            Change::HostEndpointUpdate { name: "fabric".into(), endpoint: endpoint.into() }
        };
        let only_80 = || vec![tier("default", TierDefault::Deny, &["web"], &[])];
        host.play([policy("web", vec![to_port(Action::Allow, 6, 80)], vec![]), endpoint(vec![], only_80())]);
        assert!(connects(&peer, "10.65.0.3:80", ANSWER));
        assert!(!connects(&peer, "10.65.0.3:81", SILENCE));

        let Change::PolicyUpdate { id, policy } = policy("early", vec![to_port(Action::Deny, 6, 81)], vec![])
        else {
            panic!("a policy")
        };
        let early = Policy { pre_dnat: true, ..Policy::clone(&policy) };
        let tiers = vec![tier("default", TierDefault::Deny, &["early"], &[])];
        host.play([Change::PolicyUpdate { id, policy: early.into() }, endpoint(tiers, vec![])]);
        assert!(connects(&peer, "10.65.0.3:80", ANSWER));
        assert!(!connects(&peer, "10.65.0.3:81", SILENCE));
    });
}

/// Whoever looks with the `nft` program must be able to read what is there, and to load it again.
#[test]
fn the_nft_program_reads_our_tables_back() {
    on_a_host(|mut host| {
        let (_a, _b) = two_pods(&mut host);
        let tiers = vec![tier("default", TierDefault::Deny, &["p"], &["p"])];
        let mut icmp = rule(Action::Deny);
        icmp.protocol = Some(1);
        icmp.icmp = Some(IcmpMatch { icmp_type: 8, code: Some(0) });
        host.play([
            net_set("s:nets", &["10.0.0.0/8", "192.0.2.0/24"]),
            policy(
                "p",
                vec![
                    from_set(Action::Pass, "s:nets"),
                    to_port(Action::Allow, 17, 53),
                    icmp,
                    rule(Action::Log),
                ],
                vec![],
            ),
            Change::PoolUpdate {
                cidr: "10.65.0.0/16".parse().unwrap(),
                pool: Pool { nat_outgoing: true, ..Pool::default() },
            },
            endpoint("a", workload("cali-a", "10.65.0.2", tiers)),
        ]);
        let nft = |arguments: &[&str], input: &str| {
            let mut child = std::process::Command::new("nft")
                .args(arguments)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("the nft program (package nftables)");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {said}\n{input}");
            String::from_utf8(output.stdout).unwrap()
        };
        let listed = nft(&["list", "ruleset"], "");
        for text in [
            "chain cali-pi-gnp/p {",
            "map cali-from-wl-dispatch {",
            "comment \"GlobalNetworkPolicy/p ingress 1\"",
        ] {
            assert!(listed.contains(text), "no {text} in\n{listed}");
        }
        nft(&["--check", "--file", "-"], &listed);
    });
}
