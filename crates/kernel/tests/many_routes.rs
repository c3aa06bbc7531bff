//! Many changes of the route table at once, which are made beside what is worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use kernel::fake::{FakeKernel, Fault};
use kernel::netlink::Error;
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{Gateway, Route, RouteClass, RouteStatus, RouteTable, RouteTableConfig};

const MANY: u32 = 3000;
/// Every so many goes by a gateway that cannot be reached.
const ASTRAY: u32 = 7;

fn destination(number: u32) -> IpNet {
    Ipv4Net::new(Ipv4Addr::from_bits(0x0a00_0000 + number * 64), 26).expect("a length").into()
}

fn route(number: u32, gateway: [u8; 4]) -> Route {
    Route::via(destination(number), Gateway::new(IpAddr::from(gateway)), ROUTE_BIRD)
}

fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new();
    let eth0 = kernel.add_link("eth0", true);
    kernel.connect(eth0, "172.16.0.0/16".parse().expect("a network"));
    kernel
}

fn table(kernel: &FakeKernel) -> RouteTable<FakeKernel> {
    RouteTable::new(kernel.clone(), RouteTableConfig::default())
}

#[test]
fn each_of_many_routes_has_its_own_outcome() {
    let kernel = kernel();
    let (mut table, now) = (table(&kernel), Instant::now());
    let gateway = |number| if number % ASTRAY == 0 { [192, 0, 2, 1] } else { [172, 16, 0, 1] };
    table.set_routes(RouteClass::Bgp, "bgp", (0..MANY).map(|number| route(number, gateway(number))));
    let report = table.apply(now).expect("nothing is lost");
    let astray = MANY.div_ceil(ASTRAY);
    assert_eq!(report.added, (MANY - astray) as usize);
    assert_eq!(table.failures().count(), astray as usize);
    for number in 0..MANY {
        let status = table.status(destination(number));
        match number % ASTRAY {
            0 => assert!(matches!(status, RouteStatus::Failed(_)), "{number}: {status:?}"),
            _ => assert_eq!(status, RouteStatus::Programmed, "{number}"),
        }
    }
    table.set_routes(RouteClass::Bgp, "bgp", []);
    let report = table.apply(now).expect("nothing is lost");
    assert_eq!((report.deleted, kernel.current_routes().len()), ((MANY - astray) as usize, 0));
}

#[test]
fn what_is_lost_among_many_changes_is_made_up_for() {
    for lost in [1, 600, 1100, MANY - 1] {
        let kernel = kernel();
        let (mut table, mut now) = (table(&kernel), Instant::now());
        table.apply(now).expect("it is empty");
        table.set_routes(RouteClass::Bgp, "bgp", (0..MANY).map(|number| route(number, [172, 16, 0, 1])));
        kernel.fail_after(lost.into(), Fault::Lose);
        assert!(matches!(table.apply(now), Err(Error::Overrun { .. })), "call {lost}");
        let programmed = |number: &u32| table.status(destination(*number)) == RouteStatus::Programmed;
        assert_eq!((0..MANY).find(programmed), None, "nobody knows, call {lost}");
        // Who changes his mind meanwhile is heard.
        table.remove_route(RouteClass::Bgp, "bgp", destination(MANY - 1));
        table.set_route(RouteClass::Bgp, "bgp", route(0, [172, 16, 0, 2]));
        now += Duration::from_secs(1);
        table.apply(now).expect("nothing is lost any more");
        let routes = kernel.current_routes();
        assert_eq!(routes.len(), (MANY - 1) as usize, "call {lost}");
        let first = routes.iter().find(|route| route.destination == destination(0));
        assert_eq!(first.and_then(|route| route.hops[0].gateway), Some([172, 16, 0, 2].into()));
    }
}

/// Some of what comes up concerns routes that are being written at that moment.
#[test]
fn what_is_wanted_while_the_kernel_writes_is_written_too() {
    for (seed, lost) in [None, Some(700), Some(2000)].into_iter().enumerate() {
        let kernel = kernel();
        let (mut table, mut now) = (table(&kernel), Instant::now());
        table.apply(now).expect("it is empty");
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let mut wanted: BTreeMap<u32, [u8; 4]> = (0..MANY).map(|number| (number, [172, 16, 0, 1])).collect();
        let want = |table: &mut RouteTable<FakeKernel>, number: u32, gateway| {
            table.set_route(RouteClass::Bgp, "bgp", route(number, gateway));
        };
        wanted.iter().for_each(|(number, gateway)| want(&mut table, *number, *gateway));
        if let Some(lost) = lost {
            kernel.fail_after(lost, Fault::Lose);
        }
        let mut pieces = 20;
        let outcome = table.apply_with(now, &mut |table| {
            for _ in 0..200 {
                let number = random.u32(0..2 * MANY);
                match random.u32(0..4) {
                    0 => {
                        wanted.remove(&number);
                        table.remove_route(RouteClass::Bgp, "bgp", destination(number));
                    }
                    last => {
                        let gateway = if last == 1 { [192, 0, 2, 1] } else { [172, 16, 0, last as u8] };
                        wanted.insert(number, gateway);
                        want(table, number, gateway);
                    }
                }
            }
            pieces -= 1;
            pieces > 0
        });
        assert_eq!(outcome.is_err(), lost.is_some());
        now += Duration::from_secs(1);
        table.apply(now).expect("nothing is lost any more");
        let reachable = wanted.iter().filter(|(_, gateway)| gateway[0] == 172);
        let expected: BTreeMap<IpNet, IpAddr> =
            reachable.map(|(number, gateway)| (destination(*number), (*gateway).into())).collect();
        let routes = kernel.current_routes();
        let found: BTreeMap<IpNet, IpAddr> =
            routes.iter().map(|route| (route.destination, route.hops[0].gateway.expect("by one"))).collect();
        let unreachable: BTreeSet<IpNet> = wanted
            .iter()
            .filter(|(_, gateway)| gateway[0] != 172)
            .map(|(number, _)| destination(*number))
            .collect();
        let differs = |(destination, gateway): (&IpNet, &IpAddr)| {
            // Where a gateway that cannot be reached took the place of another, that stays.
            !unreachable.contains(destination) && expected.get(destination) != Some(gateway)
        };
        assert_eq!(found.iter().find(|(net, gateway)| differs((net, gateway))), None, "seed {seed}");
        assert!(expected.keys().all(|destination| found.contains_key(destination)), "seed {seed}");
        let failed: BTreeSet<IpNet> = table.failures().map(|failure| failure.wanted.destination).collect();
        assert_eq!(failed, unreachable, "seed {seed}");
    }
}
