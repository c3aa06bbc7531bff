//! Settings of interfaces: on the fake kernel with faults, then on the real one.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kernel::address::InterfaceAddress;
use kernel::fake::{FakeKernel, Fault};
use kernel::interface::{
    HostInterfaces, InterfaceKernel, InterfaceSettings, InterfaceTable, Setting, WorkloadSettings,
    default_reverse_path_filter, forwarding_host,
};
use kernel::link::{NewVeth, VethEnd};
use kernel::netlink::Errno;
use kernel::shaping::{Bucket, Shaping, device_of};
use kernel::sysctl::{Family, ProcSys, Sysctl, Sysctls};
use kernel::{InterfaceName, Rtnetlink};
use testkit::TestNamespace;

fn name(name: &str) -> InterfaceName {
    InterfaceName::new(name).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn on_link(index: u32, address: IpNet) -> InterfaceAddress {
    InterfaceAddress { index, address, scope: 0, tentative: false }
}

fn settings(interface: &str, sysctls: &mut impl Sysctls) -> InterfaceSettings {
    let families = WorkloadSettings { ipv4: true, ipv6: true, no_reverse_path_filter: false };
    InterfaceSettings {
        up: true,
        mtu: Some(1440),
        settings: families.of_host_side(&name(interface), &default_reverse_path_filter(sysctls)),
        addresses: BTreeSet::from(["169.254.0.179", "fdc9::1"].map(|text| text.parse().unwrap())),
        shaping: Shaping::default(),
    }
}

fn table(kernel: &FakeKernel) -> InterfaceTable<FakeKernel> {
    let mut table = InterfaceTable::new(kernel.clone());
    for interface in ["cali1", "cali2"] {
        table.set(name(interface), settings(interface, &mut kernel.clone()));
    }
    table
}

fn is_right(kernel: &FakeKernel, interface: &str) -> bool {
    let link = kernel.current_links().into_iter().find(|link| link.name.as_str() == interface);
    let value = |setting: &str| kernel.sysctl(&format!("net/{setting}"));
    link.is_some_and(|link| link.up && link.mtu == 1440)
        && value(&format!("ipv4/conf/{interface}/proxy_arp")).as_deref() == Some("1")
        && value(&format!("ipv4/conf/{interface}/rp_filter")).as_deref() == Some("2")
        && value(&format!("ipv4/neigh/{interface}/proxy_delay")).as_deref() == Some("0")
        && value(&format!("ipv6/conf/{interface}/accept_ra")).as_deref() == Some("0")
        && value(&format!("ipv6/conf/{interface}/proxy_ndp")).as_deref() == Some("1")
}

fn fake() -> FakeKernel {
    let kernel = FakeKernel::new();
    kernel.put_sysctl("net/ipv4/conf/default/rp_filter", "2");
    kernel
}

#[test]
fn an_interface_is_waited_for_set_once_and_repaired_at_an_event() {
    let kernel = fake();
    let index = kernel.add_link("cali1", false);
    let (mut table, now) = (table(&kernel), Instant::now());
    assert!(table.apply(now).unwrap().changed > 0);
    assert!(is_right(&kernel, "cali1"));
    assert!(table.is_settled(&name("cali1")) && !table.is_settled(&name("cali2")));
    assert_eq!(table.waiting().collect::<Vec<_>>(), [&name("cali2")]);
    let calls = kernel.calls();
    assert_eq!(table.apply(now).unwrap().changed, 0);
    assert_eq!(kernel.calls(), calls, "a settled table makes no call");

    kernel.put_sysctl("net/ipv4/conf/cali1/proxy_arp", "0");
    table.on_setting(Some(index));
    assert_eq!(table.apply(now).unwrap().changed, 1);
    kernel.add_link("cali2", false);
    kernel.current_links().iter().for_each(|link| table.on_link(link));
    table.apply(now).unwrap();
    assert!(is_right(&kernel, "cali1") && is_right(&kernel, "cali2"));

    kernel.put_sysctl("net/ipv4/conf/cali2/proxy_arp", "0");
    table.queue_resync();
    assert_eq!(table.apply(now).unwrap().changed, 1);
}

#[test]
fn settings_that_change_without_an_event_are_found_part_by_part() {
    let kernel = fake();
    let mut table = table(&kernel);
    for interface in ["cali1", "cali2"] {
        kernel.add_link(interface, true);
    }
    table.set_host(forwarding_host(true, false));
    let now = Instant::now();
    table.apply(now).unwrap();
    for interface in ["cali1", "cali2"] {
        kernel.put_sysctl(&format!("net/ipv4/neigh/{interface}/proxy_delay"), "80");
    }
    kernel.put_sysctl("net/ipv4/ip_forward", "0");
    let mut changed = Vec::new();
    for _ in 0..4 {
        table.queue_part(3);
        changed.push(table.apply(now).unwrap().changed);
    }
    assert_eq!(changed, [1, 1, 1, 0], "a third each time, and round again");
    assert!(is_right(&kernel, "cali1") && is_right(&kernel, "cali2"));
}

#[test]
fn an_interface_that_refuses_is_retried_without_holding_up_the_others() {
    let kernel = fake();
    kernel.add_link("cali1", true);
    kernel.add_link("cali2", true);
    let (mut table, now) = (table(&kernel), Instant::now());
    // The first calls list links, addresses and queues, the fourth changes the first link.
    kernel.fail_after(3, Fault::Refuse(Errno::BUSY));
    let report = table.apply(now).unwrap();
    assert!(is_right(&kernel, "cali2") && !is_right(&kernel, "cali1"));
    let (interface, failure) = table.failures().next().unwrap();
    assert_eq!((interface, failure.attempts), (Some(&name("cali1")), 1));
    assert_eq!(report.next_apply, Some(now + Duration::from_millis(100)));
    let report = table.apply(now + Duration::from_millis(100)).unwrap();
    assert!(is_right(&kernel, "cali1"));
    assert_eq!(report.next_apply, None);
}

#[test]
fn any_history_and_any_faults_end_in_what_is_wanted() {
    for seed in 0..200 {
        println!("seed {seed}");
        let kernel = fake();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut table, mut now) = (table(&kernel), Instant::now());
        kernel.fail_randomly(seed, 4);
        let mut indexes = [kernel.add_link("cali1", false), kernel.add_link("cali2", true)];
        for _ in 0..40 {
            let which = random.usize(..2);
            let interface = ["cali1", "cali2"][which];
            match random.u8(..7) {
                5 => {
                    let address = [net("169.254.0.179/32"), net("169.254.0.1/32")][random.usize(..2)];
                    match random.bool() {
                        true => kernel.add_address(indexes[which], address),
                        false => kernel.remove_address(indexes[which], address),
                    }
                    let present = kernel.current_addresses().contains(&(indexes[which], address));
                    table.on_address(&on_link(indexes[which], address), present);
                }
                6 => match random.bool() {
                    true => table.remove(&name(interface)),
                    false => table.set(name(interface), settings(interface, &mut kernel.clone())),
                },
                0 => {
                    kernel.remove_link(indexes[which]);
                    table.on_link_gone(indexes[which]);
                    indexes[which] = kernel.add_link(interface, random.bool());
                }
                1 => kernel.set_link_up(indexes[which], random.bool()),
                2 => {
                    kernel.put_sysctl(&format!("net/ipv4/conf/{interface}/proxy_arp"), "0");
                    table.on_setting(Some(indexes[which]));
                }
                3 => kernel.current_links().iter().for_each(|link| table.on_link(link)),
                _ => drop(table.apply(now)),
            }
            now += Duration::from_millis(random.u64(..500));
        }
        kernel.fail_randomly(0, 0);
        for interface in ["cali1", "cali2"] {
            table.set(name(interface), settings(interface, &mut kernel.clone()));
        }
        table.queue_resync();
        table.apply(now + Duration::from_secs(11)).unwrap();
        assert!(is_right(&kernel, "cali1") && is_right(&kernel, "cali2"), "seed {seed}");
        indexes.sort_unstable();
        let addresses = indexes.map(|index| [(index, net("169.254.0.179/32")), (index, net("fdc9::1/128"))]);
        assert_eq!(kernel.current_addresses(), addresses.concat(), "seed {seed}");
        assert_eq!(table.failures().count(), 0);
    }
}

#[test]
fn a_workloads_interface_has_the_addresses_that_are_wanted_and_none_of_an_earlier_process() {
    let kernel = fake();
    let indexes = ["lo", "cali1", "cali2", "cali3"].map(|interface| kernel.add_link(interface, true));
    let [lo, first, second, third] = indexes;
    let others = [(lo, net("127.0.0.1/8")), (lo, net("192.0.2.1/32")), (third, net("fe80::1/64"))];
    let stale =
        [(first, net("169.254.0.1/32")), (second, net("169.254.0.1/32")), (third, net("fdc9::9/128"))];
    others.iter().chain(&stale).for_each(|(index, address)| kernel.add_address(*index, *address));
    let mut table = InterfaceTable::new(kernel.clone());
    let wanted = settings("cali1", &mut kernel.clone());
    table.set(name("cali1"), wanted.clone());
    table.set(name("cali2"), InterfaceSettings { addresses: BTreeSet::new(), ..wanted.clone() });
    let now = Instant::now();
    table.apply(now).unwrap();
    let mut expected = others.to_vec();
    expected.extend([(first, net("169.254.0.179/32")), (first, net("fdc9::1/128"))]);
    expected.sort();
    assert_eq!(kernel.current_addresses(), expected);
    let calls = kernel.calls();
    assert_eq!((table.apply(now).unwrap().changed, kernel.calls()), (0, calls));

    // Someone else's doing, told by events.
    kernel.remove_address(first, net("169.254.0.179/32"));
    table.on_address(&on_link(first, net("169.254.0.179/32")), false);
    kernel.add_address(third, net("169.254.0.179/32"));
    table.on_address(&on_link(third, net("169.254.0.179/32")), true);
    assert_eq!(table.apply(now).unwrap().changed, 2);
    assert_eq!(kernel.current_addresses(), expected);

    // Nothing is wanted of the interface any more; the first try is refused.
    table.remove(&name("cali1"));
    kernel.fail_after(0, Fault::Refuse(Errno::BUSY));
    let again = table.apply(now).unwrap().next_apply.expect("another try");
    table.apply(again).unwrap();
    expected.retain(|(index, _)| *index != first);
    assert_eq!(kernel.current_addresses(), expected);
    assert_eq!(table.failures().count(), 0);
}

#[test]
fn an_address_of_an_earlier_process_goes_whatever_the_names_of_workloads_interfaces_begin_with() {
    let kernel = fake();
    let (pod, other) = (kernel.add_link("tap7", true), kernel.add_link("cali7", true));
    [pod, other].into_iter().for_each(|index| kernel.add_address(index, net("169.254.0.1/32")));
    let mut table = InterfaceTable::new(kernel.clone());
    let now = Instant::now();
    table.set_prefixes(&["tap".to_owned(), "ns".to_owned()]);
    table.apply(now).unwrap();
    assert_eq!(kernel.current_addresses(), [(other, net("169.254.0.1/32"))]);
    table.set_prefixes(&["cali".to_owned()]);
    table.apply(now).unwrap();
    assert_eq!(kernel.current_addresses(), []);
}

#[test]
fn what_others_have_on_an_interface_without_our_prefix_stays() {
    let kernel = fake();
    let index = kernel.add_link("eth7", true);
    kernel.add_address(index, net("192.0.2.1/32"));
    let mut table = InterfaceTable::new(kernel.clone());
    table.set(name("eth7"), settings("eth7", &mut kernel.clone()));
    table.apply(Instant::now()).unwrap();
    let expected = ["169.254.0.179/32", "192.0.2.1/32", "fdc9::1/128"].map(|address| (index, net(address)));
    assert_eq!(kernel.current_addresses(), expected);
}

#[test]
fn whatever_is_refused_an_interface_has_an_ipv4_address_all_the_time() {
    for calls in 0..30 {
        let kernel = fake();
        let index = kernel.add_link("cali1", true);
        kernel.add_address(index, net("169.254.0.1/32"));
        let (mut table, now) = (table(&kernel), Instant::now());
        kernel.fail_after(calls, Fault::Refuse(Errno::BUSY));
        let again = table.apply(now).map_or(now, |report| report.next_apply.unwrap_or(now));
        let has_ipv4 = kernel.current_addresses().iter().any(|(_, address)| address.addr().is_ipv4());
        assert!(has_ipv4, "call {calls} refused: {:?}", kernel.current_addresses());
        table.apply(again).unwrap();
        let expected = ["169.254.0.179/32", "fdc9::1/128"].map(|address| (index, net(address)));
        assert_eq!(kernel.current_addresses(), expected, "call {calls} refused");
    }
}

#[test]
fn what_an_interface_refused_is_forgotten_with_it() {
    let kernel = fake();
    let index = kernel.add_link("cali1", true);
    let (mut table, now) = (table(&kernel), Instant::now());
    kernel.fail_after(3, Fault::Refuse(Errno::BUSY));
    let again = table.apply(now).unwrap().next_apply.expect("another try");
    kernel.remove_link(index);
    table.on_link_gone(index);
    assert_eq!(table.apply(again).unwrap().next_apply, None, "nothing is left to be tried again");
}

#[test]
fn the_real_kernel_takes_packets_for_an_address_of_the_host_and_learns_no_route_by_it() {
    let host = TestNamespace::new();
    for number in 1..=2 {
        host.command(&format!("ip link add cali{number} type veth peer name peer{number}"));
        host.command(&format!("ip link set peer{number} up"));
    }
    host.command("ip address add 203.0.113.1/24 dev cali1");
    let shown = |interface: &str| {
        let shown = host.command(&format!("ip -o address show dev {interface} scope link"));
        shown + &host.command(&format!("ip -o -6 address show dev {interface} scope global"))
    };
    host.run(|| {
        let mut table = InterfaceTable::new(HostInterfaces::open().unwrap());
        for interface in ["cali1", "cali2"] {
            table.set(name(interface), settings(interface, &mut ProcSys));
        }
        table.apply(Instant::now()).unwrap();
        assert_eq!(table.failures().count(), 0, "{:?}", table.failures().collect::<Vec<_>>());
        for interface in ["cali1", "cali2"] {
            let shown = shown(interface);
            assert!(shown.contains("169.254.0.179/32 scope link"), "{shown}");
            assert!(shown.contains("fdc9::1/128 scope global nodad noprefixroute"), "{shown}");
        }
        assert_eq!(host.command("ip -6 route show fdc9::1"), "");
        assert!(host.command("ip route get 169.254.0.179").contains("local 169.254.0.179"));
        // Another process finds them, wants one of them no more, and nothing of the other interface.
        let mut table = InterfaceTable::new(HostInterfaces::open().unwrap());
        let mut less = settings("cali1", &mut ProcSys);
        less.addresses.retain(IpAddr::is_ipv6);
        table.set(name("cali1"), less);
        assert_eq!(table.apply(Instant::now()).unwrap().changed, 3);
        assert!(!shown("cali1").contains("169.254.0.179") && shown("cali1").contains("fdc9::1/128"));
        assert!(!shown("cali2").contains("169.254.0.179") && !shown("cali2").contains("fdc9"));
        assert!(host.command("ip -o address show dev cali1").contains("203.0.113.1/24"));
        table.queue_resync();
        assert_eq!(table.apply(Instant::now()).unwrap().changed, 0);
    });
}

#[test]
fn the_real_kernel_keeps_what_is_set() {
    let host = TestNamespace::new();
    host.command("ip link add cali1 type veth peer name peer1");
    host.run(|| {
        let mut table = InterfaceTable::new(HostInterfaces::open().unwrap());
        table.set(name("cali1"), settings("cali1", &mut ProcSys));
        table.set_host(forwarding_host(true, true));
        table.apply(Instant::now()).unwrap();
        assert_eq!(table.failures().count(), 0, "{:?}", table.failures().collect::<Vec<_>>());
        let link = Rtnetlink::open().unwrap().link(&name("cali1")).unwrap().unwrap();
        assert!(link.up && link.mtu == 1440);
        let proxy = Sysctl::interface(Family::V4, &name("cali1"), "proxy_arp");
        assert_eq!(ProcSys.read(&proxy).unwrap(), "1");
        assert_eq!(ProcSys.read(&Sysctl::new("net/ipv4/ip_forward")).unwrap(), "1");
        host.command("sysctl -qw net.ipv4.conf.cali1.proxy_arp=0");
        table.queue_resync();
        assert_eq!(table.apply(Instant::now()).unwrap().changed, 1);
        assert_eq!(ProcSys.read(&proxy).unwrap(), "1");
        table.queue_resync();
        assert_eq!(table.apply(Instant::now()).unwrap().changed, 0);
    });
}

#[test]
fn a_refused_value_and_an_absent_interface_are_named() {
    let host = TestNamespace::new();
    host.run(|| {
        let setting = Setting::required(Sysctl::interface(Family::V4, &name("lo"), "rp_filter"), "many");
        let error = setting.enforce(&mut ProcSys).unwrap_err().to_string();
        assert!(error.starts_with("sysctl net/ipv4/conf/lo/rp_filter: cannot set it to many: "), "{error}");
        let mut kernel = HostInterfaces::open().unwrap();
        assert!(kernel.change_link(4711, &kernel::link::LinkChange::up()).unwrap_err().is_absent());
        assert!(kernel.set(&Sysctl::new("net/ipv4/conf/none/rp_filter"), "1").unwrap_err().is_absent());
    });
}

fn bucket(rate: u64, burst: u64) -> Bucket {
    Bucket { rate, burst, peak: None, peak_burst: None }
}

#[test]
fn limits_that_are_refused_are_tried_again_and_go_when_nobody_wants_them() {
    let kernel = FakeKernel::new();
    let index = kernel.add_link("cali1", true);
    let limits = Shaping { to: Some(bucket(1000, 5000)), from: None };
    let mut table = InterfaceTable::new(kernel.clone());
    let wanted = InterfaceSettings { shaping: limits, ..InterfaceSettings::default() };
    table.set(name("cali1"), wanted);
    let now = Instant::now();
    // Links, addresses and queues are listed first.
    kernel.fail_after(3, Fault::Refuse(Errno::NOMEM));
    table.apply(now).unwrap();
    assert!(!table.is_settled(&name("cali1")));
    table.apply(now + Duration::from_secs(1)).unwrap();
    assert!(table.is_settled(&name("cali1")));
    assert_eq!(kernel.shaping(index), limits);
    table.set(name("cali1"), InterfaceSettings::default());
    table.apply(now + Duration::from_secs(1)).unwrap();
    assert_eq!(kernel.shaping(index), Shaping::default());

    table.set(name("cali1"), InterfaceSettings { shaping: limits, ..InterfaceSettings::default() });
    table.apply(now).unwrap();
    let mut restarted = InterfaceTable::new(kernel.clone());
    restarted.apply(now).unwrap();
    assert_eq!(kernel.shaping(index), Shaping::default(), "an earlier process left them");
}

#[test]
fn the_kernel_keeps_every_bucket_as_it_was_meant() {
    let namespace = TestNamespace::new();
    namespace.run(|| {
        let mut links = Rtnetlink::open().unwrap();
        let end =
            |name: &str| VethEnd { name: InterfaceName::new(name).unwrap(), mac: None, namespace: None };
        let veth = NewVeth { near: end("cali1"), far: end("far"), mtu: Some(1450), queues: Some(2) };
        links.create_veth(&veth).unwrap();
        let link = links.link(&name("cali1")).unwrap().unwrap();
        let peak =
            Bucket { peak: Some(6_000_000_000), peak_burst: Some(3000), ..bucket(5_000_000_000, 1 << 29) };
        for one in [bucket(125, 125), bucket(1 << 20, 1 << 29), bucket(u64::from(u32::MAX), 9000), peak] {
            for limits in [
                Shaping { to: Some(one), from: None },
                Shaping { to: None, from: Some(one) },
                Shaping { to: Some(one), from: Some(one) },
            ] {
                assert!(links.shape(&link, &limits).unwrap() > 0, "{limits:?}");
                assert_eq!(links.shape(&link, &limits).unwrap(), 0, "{limits:?}");
                assert_eq!(links.shaped_links().unwrap().contains(&link.index), limits.to.is_some());
            }
        }
        assert_eq!(links.shape(&link, &Shaping::default()).unwrap(), 2);
        assert_eq!(links.shaped_links().unwrap(), BTreeSet::new());
        assert_eq!(links.link(&device_of(&link.name)).unwrap(), None);
    });
}
