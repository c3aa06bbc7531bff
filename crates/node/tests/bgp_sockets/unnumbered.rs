//! Sessions between the two ends of a link, known by its name only (RFC 8950).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use bgp::{BestRoute, Family, PeerConfig, SpeakerConfig, Start};
use ipnet::IpNet;
use node::speaker::{RouteEvent, SpeakerHandle};
use testkit::TestNamespace;

use crate::world::{config, eventually, is_up, originate, peer, reason, start};

type Kernel = Arc<Mutex<BTreeMap<IpNet, Arc<BestRoute>>>>;

/// Two hosts whose link has no addresses but those that it gave itself.
fn hosts() -> [TestNamespace; 2] {
    let hosts = [TestNamespace::new(), TestNamespace::new()];
    let path = hosts[1].path();
    hosts[0].command(&format!("ip link add fabric type veth peer name fabric netns {}", path.display()));
    for host in &hosts {
        host.command("ip link set fabric up");
    }
    hosts
}

fn unnumbered(last: u8) -> SpeakerConfig {
    let peer = PeerConfig {
        address: Ipv6Addr::UNSPECIFIED.into(),
        interface: Some("fabric".into()),
        families: Family::ALL.into(),
        ..peer([0, 0, 0, 0])
    };
    let mut config = config(last, peer);
    config.listen = [(Ipv6Addr::UNSPECIFIED, 179).into()].into();
    config
}

fn start_with_kernel(host: &TestNamespace, config: SpeakerConfig) -> (SpeakerHandle, Kernel) {
    let kernel = Kernel::default();
    let seen = kernel.clone();
    let handle = host.run(|| {
        SpeakerHandle::spawn(Start::Fresh, move |events| {
            let mut kernel = seen.lock().expect("no test thread panics with it");
            events.into_iter().for_each(|event| match event {
                RouteEvent::Changed { prefix, route: Some(route) } => drop(kernel.insert(prefix, route)),
                RouteEvent::Changed { prefix, route: None } => drop(kernel.remove(&prefix)),
                RouteEvent::Complete(_) => {}
            });
        })
        .expect("a thread")
    });
    handle.configure(config);
    (handle, kernel)
}

#[test]
fn two_ends_of_a_link_find_each_other_and_exchange_ipv4_routes_without_ipv4_addresses() {
    let hosts = hosts();
    let mut theirs = unnumbered(2);
    originate(&mut theirs, 3);
    let (ours, kernel) = start_with_kernel(&hosts[0], unnumbered(1));
    let theirs = start(&hosts[1], theirs);
    eventually("the session is up", || is_up(&ours) && is_up(&theirs));
    eventually("the routes are there", || kernel.lock().expect("no panic").len() == 3);
    for route in kernel.lock().expect("no panic").values() {
        let [gateway] = route.gateways[..] else { panic!("{route:?}") };
        assert!(matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local()), "{route:?}");
        assert_eq!(route.links.get(&gateway).map(|name| &**name), Some("fabric"));
    }
}

#[test]
fn without_such_an_interface_it_is_said() {
    let hosts = hosts();
    let mut config = unnumbered(1);
    config.peers.values_mut().for_each(|peer| peer.interface = Some("absent".into()));
    let ours = start(&hosts[0], config);
    eventually("it is said", || reason(&ours).starts_with("connect: interface absent: "));
}
