//! Links, addresses, neighbours and routes on the real kernel.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::address::AddressOptions;
use kernel::link::{LinkChange, LinkId, NewVeth, VethEnd};
use kernel::neighbour::State;
use kernel::netlink::Errno;
use kernel::netns::Netns;
use kernel::ownership::{ROUTE_BIRD, ROUTE_FELIX};
use kernel::route::{Gateway, Route, RouteClass, RouteStatus, RouteTable, RouteTableConfig, Target};
use kernel::{InterfaceName, MacAddress, Rtnetlink};
use testkit::TestNamespace;

fn name(name: &str) -> InterfaceName {
    InterfaceName::new(name).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn inside(namespace: &TestNamespace) -> (Netns, Rtnetlink) {
    let netns = Netns::open(namespace.path()).unwrap();
    let socket = Rtnetlink::open_in(&netns).unwrap();
    (netns, socket)
}

/// A router with `up0` (172.16.0.1/16, fd16::1/64) and `up1` (172.17.0.1/16), both up.
fn router() -> (TestNamespace, Rtnetlink) {
    let namespace = TestNamespace::new();
    for (link, peer) in [("up0", "peer0"), ("up1", "peer1")] {
        namespace.command(&format!("ip link add {link} type veth peer name {peer}"));
        namespace.command(&format!("ip link set {link} up"));
        namespace.command(&format!("ip link set {peer} up"));
    }
    namespace.command("ip address add 172.16.0.1/16 dev up0");
    namespace.command("ip address add 172.17.0.1/16 dev up1");
    namespace.command("ip address add fd16::1/64 dev up0 nodad");
    let (_, socket) = inside(&namespace);
    (namespace, socket)
}

fn table(socket: Rtnetlink) -> RouteTable<Rtnetlink> {
    RouteTable::new(socket, RouteTableConfig::default())
}

#[test]
fn a_veth_is_made_with_both_ends_in_place_and_tells_its_peer() {
    let (here, there) = (TestNamespace::new(), TestNamespace::new());
    let ((_, mut socket), (far_namespace, mut far_socket)) = (inside(&here), inside(&there));
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let near = VethEnd { name: name("near"), mac: Some(mac), namespace: None };
    let far = VethEnd { name: name("far"), mac: None, namespace: Some(&far_namespace) };
    socket.create_veth(&NewVeth { near, far, mtu: Some(1400), queues: Some(2) }).unwrap();
    let near = socket.link(&name("near")).unwrap().unwrap();
    let far = far_socket.link(&name("far")).unwrap().unwrap();
    assert_eq!((near.mac, near.mtu, near.queues), (Some(mac), 1400, (2, 2)));
    assert_eq!((far.mtu, far.queues, far.kind.as_deref()), (1400, (2, 2), Some("veth")));
    assert_eq!(near.peer.unwrap().index, far.index);
    assert!(near.peer.unwrap().namespace.is_some() && !near.up);
}

#[test]
fn links_are_listed_changed_joined_to_a_bridge_moved_and_deleted() {
    let (here, there) = (TestNamespace::new(), TestNamespace::new());
    let ((_, mut socket), (elsewhere, mut far_socket)) = (inside(&here), inside(&there));
    socket.create_bridge(&name("br0")).unwrap();
    let bridge = socket.link(&name("br0")).unwrap().unwrap();
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    let end = |text: &str| VethEnd { name: name(text), mac: None, namespace: None };
    socket.create_veth(&NewVeth { near: end("a"), far: end("b"), mtu: None, queues: None }).unwrap();
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    let change =
        LinkChange { mtu: Some(1300), mac: Some(mac), master: Some(bridge.index), ..LinkChange::up() };
    socket.change_link(&name("a"), &change).unwrap();
    let link = socket.link(&name("a")).unwrap().unwrap();
    assert_eq!((link.up, link.mtu, link.mac, link.master), (true, 1300, Some(mac), Some(bridge.index)));
    socket.change_link(&name("a"), &LinkChange { master: Some(0), ..LinkChange::default() }).unwrap();
    assert_eq!(socket.link(link.index).unwrap().unwrap().master, None);
    socket
        .change_link(&name("b"), &LinkChange { namespace: Some(&elsewhere), ..LinkChange::default() })
        .unwrap();
    let moved = far_socket.link(&name("b")).unwrap().unwrap();
    let rename = LinkChange { name: Some(name("renamed")), ..LinkChange::default() };
    far_socket.change_link(moved.index, &rename).unwrap();
    let names: Vec<_> = far_socket.links().unwrap().into_iter().map(|link| link.name.to_string()).collect();
    assert_eq!(names, ["lo", "renamed"]);
    assert!(socket.delete_link(&name("a")).unwrap());
    assert!(!socket.delete_link(&name("a")).unwrap());
    assert_eq!(far_socket.link(&name("renamed")).unwrap(), None);
    assert_eq!(socket.link(4711).unwrap(), None);
}

#[test]
fn links_are_deleted_together_and_absent_ones_told() {
    let namespace = TestNamespace::new();
    let (_, mut socket) = inside(&namespace);
    for bridge in ["br0", "br1", "br2"] {
        socket.create_bridge(&name(bridge)).unwrap();
    }
    let ids = ["br0", "none", "br2"].map(|link| LinkId::Name(name(link)));
    assert_eq!(socket.delete_links(&ids).unwrap(), [true, false, true]);
    assert_eq!(namespace.command("ip -brief link show type bridge").lines().count(), 1);
    // One that cannot be deleted is told, does not spare the others, and is left as it was.
    let ids = ["lo", "br1"].map(|link| LinkId::Name(name(link)));
    assert!(socket.delete_links(&ids).unwrap_err().to_string().starts_with("link number 1: "));
    let left = socket.links().unwrap();
    assert_eq!(left.iter().map(|link| (link.name.as_str(), link.group)).collect::<Vec<_>>(), [("lo", 0)]);
}

#[test]
fn addresses_are_added_twice_listed_and_deleted() {
    let (_namespace, mut socket) = router();
    let index = socket.link(&name("up0")).unwrap().unwrap().index;
    for text in ["10.65.0.1/32", "fd65::1/128"] {
        let options =
            AddressOptions { no_duplicate_detection: true, no_prefix_route: true, link_scope: false };
        for _ in 0..2 {
            socket.add_address(index, net(text), options).unwrap();
        }
        let found = |socket: &mut Rtnetlink| {
            let all = socket.addresses().unwrap();
            all.into_iter().find(|found| found.index == index && found.address == net(text))
        };
        assert!(!found(&mut socket).unwrap().tentative);
        assert!(socket.delete_address(index, net(text)).unwrap());
        assert!(!socket.delete_address(index, net(text)).unwrap());
        assert_eq!(found(&mut socket), None);
    }
    let error = socket.add_address(4711, net("10.0.0.1/32"), AddressOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("address 10.0.0.1/32 on link number 4711: "), "{error}");
}

#[test]
fn neighbours_are_fixed_answered_for_and_deleted() {
    let (_namespace, mut socket) = router();
    let index = socket.link(&name("up0")).unwrap().unwrap().index;
    let mac = MacAddress([2, 0, 0, 0, 0, 5]);
    for text in ["172.16.0.9", "fd16::9"] {
        socket.set_permanent_neighbour(index, address(text), mac).unwrap();
        socket.add_proxy_neighbour(index, address(text)).unwrap();
        let all = socket.neighbours().unwrap();
        let found: Vec<_> = all.iter().filter(|found| found.address == address(text)).collect();
        assert_eq!((found[0].mac, found[0].state, found[0].proxy), (Some(mac), State::Permanent, false));
        assert!(found[1].proxy);
        for proxy in [false, true] {
            assert!(socket.delete_neighbour(index, address(text), proxy).unwrap());
            assert!(!socket.delete_neighbour(index, address(text), proxy).unwrap());
        }
    }
}

#[test]
fn routes_of_every_kind_are_added_as_ip_route_shows_them_and_read_back_equal() {
    let (namespace, socket) = router();
    let mut table = table(socket);
    let via = |text: &str| Gateway::new(address(text));
    let on = |text: &str, link: &str| Gateway::on(address(text), name(link));
    let to = |destination: &str, target: Target| Route {
        target,
        ..Route::blackhole(net(destination), ROUTE_BIRD)
    };
    let routes = vec![
        Route::device(net("10.65.0.1/32"), name("up0"), ROUTE_FELIX),
        Route { metric: 512, ..Route::device(net("10.65.0.2/32"), name("up0"), ROUTE_FELIX) },
        Route {
            source: Some(address("172.16.0.1")),
            ..to("10.65.0.3/32", Target::Gateway(via("172.17.0.9")))
        },
        to("10.66.0.0/26", Target::Gateway(via("172.16.0.2"))),
        to("10.66.0.64/26", Target::Gateway(on("192.0.2.1", "up0").onlink())),
        to(
            "10.66.0.128/26",
            Target::Multipath(vec![via("172.16.0.2"), Gateway { weight: 3, ..via("172.17.0.2") }]),
        ),
        to("10.67.0.0/26", Target::Blackhole),
        to("10.67.0.64/26", Target::Unreachable),
        to("10.67.0.128/26", Target::Prohibit),
        to("10.67.0.192/26", Target::Throw),
        Route::device(net("fd65::1/128"), name("up0"), ROUTE_FELIX),
        to("fd66::/122", Target::Gateway(via("fd16::2"))),
        to("fd66::40/122", Target::Gateway(on("fe80::2", "up1"))),
        to("fd66::80/122", Target::Multipath(vec![on("fd16::2", "up0"), on("fe80::2", "up1")])),
        to("fd67::/122", Target::Blackhole),
        to("10.68.0.0/26", Target::Gateway(on("fe80::2", "up1"))),
    ];
    let count = routes.len();
    table.set_routes(RouteClass::Bgp, "test", routes);
    let report = table.apply(Instant::now()).unwrap();
    assert_eq!(report.added, count, "{:?}", table.failures().map(ToString::to_string).collect::<Vec<_>>());
    table.queue_resync();
    let again = table.apply(Instant::now()).unwrap();
    assert_eq!((again.added, again.replaced, again.deleted), (0, 0, 0));
    let shown = namespace.command("ip route") + &namespace.command("ip -6 route");
    for line in [
        "10.65.0.1 dev up0 proto 80 scope link",
        "10.65.0.2 dev up0 proto 80 scope link metric 512",
        "10.65.0.3 via 172.17.0.9 dev up1 proto bird src 172.16.0.1",
        "10.66.0.0/26 via 172.16.0.2 dev up0 proto bird",
        "10.66.0.64/26 via 192.0.2.1 dev up0 proto bird onlink",
        "10.66.0.128/26 proto bird",
        "nexthop via 172.17.0.2 dev up1 weight 3",
        "blackhole 10.67.0.0/26 proto bird",
        "unreachable 10.67.0.64/26 proto bird",
        "fd65::1 dev up0 proto 80 metric 1024",
        "fd66::/122 via fd16::2 dev up0 proto bird metric 1024",
        "blackhole fd67::/122 dev lo proto bird metric 1024",
        "10.68.0.0/26 via inet6 fe80::2 dev up1 proto bird",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
    table.set_routes(RouteClass::Bgp, "test", []);
    assert_eq!(table.apply(Instant::now()).unwrap().deleted, count);
    let left = namespace.command("ip route") + &namespace.command("ip -6 route");
    assert!(!left.contains("bird") && !left.contains("proto 80"), "{left}");
}

#[test]
fn any_kind_of_route_is_replaced_by_any_other_without_a_gap() {
    let (namespace, socket) = router();
    let mut table = table(socket);
    for (destination, gateways, link) in
        [("10.66.0.0/26", ["172.16.0.2", "172.17.0.2"], "up0"), ("fd66::/122", ["fd16::2", "fd16::3"], "up0")]
    {
        let [one, two] = gateways.map(|text| Gateway::new(address(text)));
        let targets = [
            Target::Blackhole,
            Target::Device(name(link)),
            Target::Gateway(one.clone()),
            Target::Multipath(vec![one, two.clone()]),
            Target::Gateway(two),
        ];
        for from in &targets {
            for to in targets.iter().filter(|to| *to != from) {
                for (target, protocol) in [(from, ROUTE_BIRD), (to, ROUTE_FELIX)] {
                    let route =
                        Route { target: target.clone(), ..Route::blackhole(net(destination), protocol) };
                    table.set_route(RouteClass::Bgp, "test", route);
                    table.apply(Instant::now()).unwrap();
                    table.queue_resync();
                    let again = table.apply(Instant::now()).unwrap();
                    assert_eq!((again.added, again.replaced, again.deleted), (0, 0, 0), "{from:?} to {to:?}");
                    assert_eq!(table.status(net(destination)), RouteStatus::Programmed, "{from:?} to {to:?}");
                }
                let shown = namespace.command(&format!("ip route show {destination}"));
                assert!(shown.lines().count() <= 3, "{from:?} to {to:?}: {shown}");
            }
        }
    }
}

#[test]
fn foreign_routes_survive_everything_and_are_named() {
    let (namespace, socket) = router();
    namespace.command("ip route add 10.66.0.0/26 via 172.16.0.9 proto static");
    namespace.command("ip route add 10.77.0.0/26 via 172.16.0.9 proto 186");
    namespace.command("ip route add 10.78.0.0/26 via 172.16.0.9 proto bird");
    let mut table = table(socket);
    let hop = Gateway::new(address("172.16.0.2"));
    table.set_route(RouteClass::Bgp, "bgp", Route::via(net("10.66.0.0/26"), hop.clone(), ROUTE_BIRD));
    table.set_route(RouteClass::Bgp, "bgp", Route::via(net("172.16.0.0/16"), hop, ROUTE_BIRD));
    table.allow_sweep(ROUTE_BIRD);
    table.allow_sweep(ROUTE_FELIX);
    table.apply(Instant::now()).unwrap();
    let conflicts: Vec<_> = table.conflicts().map(ToString::to_string).collect();
    assert_eq!(conflicts.len(), 2);
    assert!(conflicts[0].contains("foreign route \"10.66.0.0/26 via 172.16.0.9 dev "), "{conflicts:?}");
    assert!(conflicts[1].contains("foreign route \"172.16.0.0/16 dev "), "{conflicts:?}");
    let shown = namespace.command("ip route");
    assert!(shown.contains("10.66.0.0/26 via 172.16.0.9 dev up0 proto static"), "{shown}");
    assert!(shown.contains("10.77.0.0/26") && !shown.contains("10.78.0.0/26"), "{shown}");
}

#[test]
fn an_unreachable_gateway_is_told_with_the_kernels_words_and_retried() {
    let (namespace, socket) = router();
    let mut table = table(socket);
    let hop = Gateway::new(address("192.0.2.1"));
    table.set_route(RouteClass::Bgp, "bgp", Route::via(net("10.66.0.0/26"), hop, ROUTE_BIRD));
    let now = Instant::now();
    table.apply(now).unwrap();
    let failure = table.failures().next().unwrap();
    assert_eq!(failure.refusal.errno, Errno::NETUNREACH);
    assert!(failure.to_string().contains("invalid gateway"), "{failure}");
    namespace.command("ip address add 192.0.2.9/24 dev up0");
    table.apply(now + Duration::from_secs(1)).unwrap();
    assert_eq!(table.status(net("10.66.0.0/26")), RouteStatus::Programmed);
}

#[test]
fn many_routes_are_written_read_and_deleted_in_batches() {
    let (namespace, socket) = router();
    let mut table = table(socket);
    let routes = (0..20_000_u32).map(|index| {
        let network = std::net::Ipv4Addr::from_bits(0x0a00_0000 + index * 64);
        let destination = ipnet::Ipv4Net::new(network, 26).unwrap().into();
        Route::via(destination, Gateway::new(address("172.16.0.2")), ROUTE_BIRD)
    });
    table.set_routes(RouteClass::Bgp, "bgp", routes);
    assert_eq!(table.apply(Instant::now()).unwrap().added, 20_000);
    namespace.command("ip route del 10.0.1.0/26");
    table.queue_resync();
    assert_eq!(table.apply(Instant::now()).unwrap().added, 1);
    table.set_routes(RouteClass::Bgp, "bgp", []);
    assert_eq!(table.apply(Instant::now()).unwrap().deleted, 20_000);
    assert!(!namespace.command("ip route").contains("bird"));
}
