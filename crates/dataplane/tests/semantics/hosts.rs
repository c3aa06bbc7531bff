//! Host endpoints: every interface, one of them, forwarded traffic, and what is decided before connection tracking.

use std::net::{IpAddr, TcpListener};
use std::time::Duration;

use calc::contract::*;
use kernel::link::{LinkChange, NewVeth, VethEnd};
use kernel::netns::Netns;
use kernel::{InterfaceName, Rtnetlink};

use crate::common::*;
use crate::net::{ANSWER, Host, SILENCE, on_a_host};
use crate::two_pods;

/// A peer of the host on a network of their own: .1 is the host's address on the interface, .2 the peer's.
fn peer(host: &mut Host, interface: &str, network: &str) -> Netns {
    let name = |text: &str| InterfaceName::new(text).unwrap();
    let namespace = Netns::make().unwrap();
    let near = VethEnd { name: name(interface), mac: None, namespace: None };
    let far = VethEnd { name: name("eth0"), mac: None, namespace: Some(&namespace) };
    host.links.create_veth(&NewVeth { near, far, mtu: None, queues: None }).unwrap();
    let set_up = |links: &mut Rtnetlink, link: &str, last: u8| {
        let index = links.link(&name(link)).unwrap().unwrap().index;
        let address = format!("{network}.{last}/24").parse().unwrap();
        links.add_address(index, address, Default::default()).unwrap();
        links.change_link(index, &LinkChange::up()).unwrap();
    };
    set_up(&mut host.links, interface, 1);
    namespace.run(|| set_up(&mut Rtnetlink::open().unwrap(), "eth0", 2)).unwrap();
    namespace
}

fn connects(from: &Netns, to: &str, within: Duration) -> bool {
    let to = to.parse().unwrap();
    from.run(|| std::net::TcpStream::connect_timeout(&to, within).is_ok()).unwrap()
}

fn host_endpoint(name: &str, interface: &str, tiers: Vec<Tier>, untracked_tiers: Vec<Tier>) -> Change {
    let endpoint = HostEndpoint {
        interface: Some(interface.into()),
        expected_ips: Vec::new(),
        tiers,
        untracked_tiers,
        pre_dnat_tiers: Vec::new(),
        forward_tiers: Vec::new(),
        profiles: Vec::new(),
    };
    Change::HostEndpointUpdate { name: name.into(), endpoint: endpoint.into() }
}

fn ingress(policy: &str) -> Vec<Tier> {
    vec![tier("default", TierDefault::Deny, &[policy], &[])]
}

#[test]
fn an_endpoint_for_every_interface_leaves_those_that_have_one_and_workloads_alone() {
    on_a_host(|mut host| {
        let (left, right) = (peer(&mut host, "left", "198.51.100"), peer(&mut host, "right", "203.0.113"));
        let (a, b) = two_pods(&mut host);
        let _open = [80, 81].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
        let _pod = b.listen(80);
        host.play([
            policy("only-80", vec![to_port(Action::Allow, 6, 80)], vec![]),
            policy("only-81", vec![to_port(Action::Allow, 6, 81)], vec![]),
            host_endpoint("all", "*", ingress("only-80"), vec![]),
        ]);
        assert!(connects(&left, "198.51.100.1:80", ANSWER) && connects(&right, "203.0.113.1:80", ANSWER));
        assert!(!connects(&left, "198.51.100.1:81", SILENCE));
        host.play([host_endpoint("right", "right", ingress("only-81"), vec![])]);
        assert!(connects(&right, "203.0.113.1:81", ANSWER) && !connects(&right, "203.0.113.1:80", SILENCE));
        assert!(connects(&left, "198.51.100.1:80", ANSWER));
        assert!(a.connects(b.v4(), 80, ANSWER), "between workloads");
        let to_pod = std::net::SocketAddr::new(b.v4(), 80);
        std::net::TcpStream::connect_timeout(&to_pod, ANSWER).expect("from the host to its workload");
        host.play(["all", "right"].map(|name| Change::HostEndpointRemove { name: name.into() }));
        assert!(connects(&left, "198.51.100.1:81", ANSWER));
    });
}

/// The answers have to be allowed as well: nobody remembers what they answer.
#[test]
fn untracked_policy_decides_before_tracking_and_leaves_no_connection() {
    on_a_host(|mut host| {
        let peer = peer(&mut host, "fabric", "198.51.100");
        let _open = [8080, 8081].map(|port| TcpListener::bind(("198.51.100.1", port)).unwrap());
        let from_port = Rule { protocol: Some(6), ..rule(Action::Allow) };
        let source =
            EntityMatch { ports: vec![PortRange { min: 8080, max: 8080 }], ..EntityMatch::default() };
        let answers = Rule { source, ..from_port };
        let untracked = |rules: Vec<Rule>, answers: Vec<Rule>| {
            let Change::PolicyUpdate { id, policy } = policy("raw", rules, answers) else { unreachable!() };
            Change::PolicyUpdate { id, policy: Policy { untracked: true, ..(*policy).clone() }.into() }
        };
        let tiers = || vec![tier("default", TierDefault::Deny, &["raw"], &["raw"])];
        let tracked = || {
            let peer: IpAddr = "198.51.100.2".parse().unwrap();
            let all = kernel::conntrack::Conntrack::open().unwrap().connections().unwrap();
            all.iter().any(|connection| connection.addresses().contains(&peer))
        };
        let allowed = vec![to_port(Action::Allow, 6, 8080)];
        host.play([
            Change::InSync,
            untracked(allowed.clone(), vec![answers.clone()]),
            host_endpoint("fabric", "fabric", vec![], tiers()),
        ]);
        assert!(connects(&peer, "198.51.100.1:8080", ANSWER));
        assert!(!tracked(), "it is kept out of connection tracking");
        assert!(!connects(&peer, "198.51.100.1:8081", SILENCE), "the endpoint has no other policy");
        host.play([untracked(allowed, vec![])]);
        assert!(!connects(&peer, "198.51.100.1:8080", SILENCE), "an answer is judged by itself");
        host.play([untracked(vec![to_port(Action::Deny, 6, 8080)], vec![answers])]);
        assert!(!connects(&peer, "198.51.100.1:8080", SILENCE));
    });
}
