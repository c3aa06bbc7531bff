//! A workload's plumbing against the real kernel.

use std::net::IpAddr;
use std::time::Instant;

use kernel::netns::Netns;
use kernel::pod::{HostRoutes, PodSpec, Removal, Remover};
use kernel::route::{RouteClass, RouteTable, RouteTableConfig};
use kernel::{InterfaceName, Rtnetlink};
use testkit::TestNamespace;

fn name(name: &str) -> InterfaceName {
    InterfaceName::new(name).unwrap()
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

fn spec<'a>(namespace: &'a Netns, list: &[&str]) -> PodSpec<'a> {
    PodSpec {
        namespace,
        interface: name("eth0"),
        host_interface: name("cali0123456789a"),
        addresses: addresses(list),
        routes: PodSpec::default_routes(),
        mac: None,
        mtu: Some(1440),
        queues: None,
        allow_ip_forwarding: false,
        host_routes: Some(HostRoutes { protocol: 80, metric: 0 }),
    }
}

fn netns(namespace: &TestNamespace) -> Netns {
    Netns::open(namespace.path()).unwrap()
}

/// A host, a workload, and a run in the host's namespace with a socket there.
fn on_host(test: impl FnOnce(&TestNamespace, &mut Rtnetlink) + Send) {
    let host = TestNamespace::new();
    host.run(|| test(&host, &mut Rtnetlink::open().unwrap()));
}

fn removal() -> Removal<'static> {
    Removal { host_interface: name("cali0123456789a"), inside: None }
}

#[test]
fn a_workload_gets_its_link_routes_and_settings_and_the_host_its_own() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        let namespace = netns(&pod);
        let made = spec(&namespace, &["10.65.0.2"]).add(socket).unwrap();
        assert!(!made.existed);
        let routes = pod.command("ip route");
        let lines: Vec<_> = routes.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"]);
        assert!(pod.command("ip -brief address show eth0").contains("10.65.0.2/32"));
        assert!(pod.command("ip link show lo").contains("UP"));
        assert!(pod.command("ip link show eth0").contains("mtu 1440"));
        assert_eq!(host.command("ip route").trim(), "10.65.0.2 dev cali0123456789a proto 80 scope link");
        let link = host.command("ip -detail link show cali0123456789a");
        assert!(
            link.contains("ee:ee:ee:ee:ee:ee") && link.contains("mtu 1440") && link.contains("veth"),
            "{link}"
        );
        for setting in ["proxy_arp", "forwarding", "route_localnet"] {
            let path = format!("/proc/sys/net/ipv4/conf/cali0123456789a/{setting}");
            assert_eq!(std::fs::read_to_string(path).unwrap(), "1\n", "{setting}");
        }
        assert_eq!(spec(&namespace, &["10.65.0.2"]).inspect(socket).unwrap(), []);
    });
}

#[test]
fn two_workloads_reach_each_other_in_both_families_at_once() {
    on_host(|host, socket| {
        let pods = [TestNamespace::new(), TestNamespace::new()];
        host.command("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        host.command("ip link set lo up");
        let mut table = RouteTable::new(Rtnetlink::open().unwrap(), RouteTableConfig::default());
        table.set_route(RouteClass::LocalWorkload, "gateway", kernel::pod::gateway_route(80));
        table.apply(Instant::now()).unwrap();
        for (index, pod) in pods.iter().enumerate() {
            let namespace = netns(pod);
            let list = [format!("10.65.0.{}", index + 1), format!("fd00::{}", index + 1)];
            let mut spec = spec(&namespace, &[&list[0], &list[1]]);
            spec.host_interface = name(&format!("cali{index}"));
            spec.add(socket).unwrap();
            assert_eq!(spec.inspect(socket).unwrap(), []);
        }
        pods[0].run(|| {
            for target in ["10.65.0.2", "fd00::2"] {
                let address: IpAddr = target.parse().unwrap();
                let listener = pods[1].run(|| std::net::TcpListener::bind((address, 80)).unwrap());
                let timeout = std::time::Duration::from_secs(3);
                let connected = std::net::TcpStream::connect_timeout(&(address, 80).into(), timeout);
                let state = || format!("{}{}", pods[0].command("ip neigh"), host.command("ip neigh"));
                assert!(connected.is_ok(), "{target}: {connected:?}\n{}", state());
                assert!(listener.accept().is_ok());
            }
        });
        let neighbours = pods[0].command("ip neigh");
        assert!(neighbours.contains("169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee"), "{neighbours}");
    });
}

#[test]
fn adding_again_keeps_the_pair_and_repairs_what_was_changed() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        let namespace = netns(&pod);
        let spec = spec(&namespace, &["10.65.0.2", "fd00::2"]);
        let first = spec.add(socket).unwrap();
        pod.command("ip route del default");
        pod.command("ip address del 10.65.0.2/32 dev eth0");
        host.command("ip link set cali0123456789a address 02:00:00:00:00:01 mtu 1300");
        host.command("sysctl -qw net.ipv4.conf.cali0123456789a.proxy_arp=0");
        let problems: Vec<_> = spec.inspect(socket).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "in the workload's namespace: address 10.65.0.2 is not on eth0",
                "in the workload's namespace: route 169.254.1.1/32 dev eth0 is missing",
                "in the workload's namespace: route 0.0.0.0/0 via 169.254.1.1 dev eth0 is missing",
                "on the host: interface cali0123456789a has MTU 1300 instead of 1440",
                "on the host: interface cali0123456789a has MAC address 02:00:00:00:00:01 instead of ee:ee:ee:ee:ee:ee",
                "on the host: sysctl net/ipv4/conf/cali0123456789a/proxy_arp is 0 instead of 1",
            ]
        );
        let second = spec.add(socket).unwrap();
        assert!(second.existed);
        assert_eq!(second.host.index, first.host.index);
        assert_eq!(spec.inspect(socket).unwrap(), []);
    });
}

#[test]
fn what_an_earlier_workload_left_is_replaced() {
    on_host(|_, socket| {
        let (old, new) = (TestNamespace::new(), TestNamespace::new());
        let (old_namespace, new_namespace) = (netns(&old), netns(&new));
        spec(&old_namespace, &["10.65.0.2"]).add(socket).unwrap();
        assert!(!spec(&new_namespace, &["10.65.0.3"]).add(socket).unwrap().existed);
        assert_eq!(spec(&new_namespace, &["10.65.0.3"]).inspect(socket).unwrap(), []);
        let problems = spec(&old_namespace, &["10.65.0.2"]).inspect(socket).unwrap();
        assert_eq!(problems[0].to_string(), "in the workload's namespace: interface eth0 does not exist");
    });
}

#[test]
fn an_interface_of_someone_else_inside_is_not_touched() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        pod.command("ip link add eth0 type bridge");
        let namespace = netns(&pod);
        let error = spec(&namespace, &["10.65.0.2"]).add(socket).unwrap_err();
        assert!(
            error.to_string().starts_with("interface eth0 exists in the workload's namespace"),
            "{error}"
        );
        assert!(pod.command("ip -detail link show eth0").contains("bridge"));
        assert!(!host.command("ip link").contains("cali"));
    });
}

#[test]
fn what_fails_half_way_is_undone_and_the_route_in_the_way_is_named() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        let namespace = netns(&pod);
        host.command("ip link add other type bridge");
        host.command("ip link set other up");
        host.command("ip route add 10.65.0.2/32 dev other");
        let error = spec(&namespace, &["10.65.0.2"]).add(socket).unwrap_err().to_string();
        assert!(
            error.contains("route to 10.65.0.2/32 exists already") && error.contains("device other"),
            "{error}"
        );
        assert!(!host.command("ip link").contains("cali"));
        assert!(!pod.command("ip link").contains("eth0"));
        assert!(host.command("ip route").contains("10.65.0.2 dev other"));
    });
}

#[test]
fn removal_can_be_repeated_and_finds_a_pair_that_was_renamed() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        let namespace = netns(&pod);
        spec(&namespace, &["10.65.0.2"]).add(socket).unwrap();
        assert!(removal().run(socket).unwrap());
        assert!(!removal().run(socket).unwrap());
        assert!(!pod.command("ip link").contains("eth0"));
        assert_eq!(host.command("ip route"), "");
        spec(&namespace, &["10.65.0.2"]).add(socket).unwrap();
        host.command("ip link set cali0123456789a down");
        host.command("ip link set cali0123456789a name renamed");
        assert!(!removal().run(socket).unwrap());
        let both = Removal { inside: Some((&namespace, name("eth0"))), ..removal() };
        assert!(both.run(socket).unwrap());
        assert!(!both.run(socket).unwrap());
    });
}

#[test]
fn removals_at_the_same_time_share_their_wait() {
    on_host(|host, socket| {
        let pods: Vec<_> = (0..16).map(|_| TestNamespace::new()).collect();
        for (index, pod) in pods.iter().enumerate() {
            let namespace = netns(pod);
            let mut spec = spec(&namespace, &[&format!("10.65.0.{}", index + 1)]);
            spec.host_interface = name(&format!("cali{index}"));
            spec.add(socket).unwrap();
        }
        let remover = Remover::start(Rtnetlink::open().unwrap()).unwrap();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for index in 0..16 {
                let removal = Removal { host_interface: name(&format!("cali{index}")), inside: None };
                let remover = &remover;
                scope.spawn(move || assert!(remover.remove(&removal).unwrap()));
            }
        });
        println!("16 removals at once: {:?}", start.elapsed());
        assert!(!host.command("ip link").contains("cali"));
        assert!(!remover.remove(&Removal { host_interface: name("cali1"), inside: None }).unwrap());
    });
}

#[test]
fn a_condemned_interface_goes_soon_and_is_not_reused() {
    on_host(|host, socket| {
        let pod = TestNamespace::new();
        let namespace = netns(&pod);
        let before = spec(&namespace, &["10.65.0.2"]).add(socket).unwrap();
        assert!(socket.condemn_link(&name("cali0123456789a")).unwrap());
        let after = spec(&namespace, &["10.65.0.2"]).add(socket).unwrap();
        assert!(!after.existed);
        assert_ne!(after.host.index, before.host.index);
        socket.delete_condemned().unwrap();
        assert_eq!(
            spec(&namespace, &["10.65.0.2"]).inspect(socket).unwrap(),
            [],
            "the new one must not go with the old"
        );
        let remover = Remover::start(Rtnetlink::open().unwrap()).unwrap();
        assert!(remover.condemn(socket, &removal()).unwrap());
        drop(remover);
        assert!(!host.command("ip link").contains("cali"));
    });
}
