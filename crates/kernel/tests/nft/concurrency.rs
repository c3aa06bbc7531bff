//! Others that write all the time.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kernel::nft::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use testkit::TestNamespace;

use super::support::{listed, named_table, nft, table};

/// Stops the writers, also when the test panics.
struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `code` again and again while others change tables of their own as fast as they can, one with `nft`, one over
/// netlink: until each of the three had many turns.
fn among_writers(namespace: &TestNamespace, mut code: impl FnMut(u16)) {
    const TURNS: usize = 20;
    const OURS: u16 = 200;
    let deadline = Instant::now() + Duration::from_secs(60);
    let (stop, by_program, by_netlink) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let running = || !stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let _stopper = Stopper(&stop);
        scope.spawn(|| {
            nft(namespace, "add table inet theirs; add set inet theirs s { type ipv4_addr; }");
            while running() {
                let element =
                    format!("element inet theirs s {{ 1.1.1.{} }}", by_program.load(Ordering::Relaxed) % 250);
                nft(namespace, &format!("add {element}"));
                nft(namespace, &format!("delete {element}"));
                by_program.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            let mut other = named_table(namespace, Family::Ip, "other");
            while running() {
                let round = by_netlink.fetch_add(1, Ordering::Relaxed) as u32;
                let rule = Rule::new().when(Match::is(Field::Mark, round)).counter();
                other.set_chain("c", vec![rule]).unwrap();
                other.apply().unwrap();
            }
        });
        let busy = |turns: &AtomicUsize| turns.load(Ordering::Relaxed) < TURNS;
        for n in 1..u16::MAX - 10 {
            code(n);
            if n >= OURS && !busy(&by_program) && !busy(&by_netlink) {
                return;
            }
            assert!(Instant::now() < deadline, "the others had no turn: {by_program:?}, {by_netlink:?}");
        }
    });
}

#[test]
fn others_that_write_all_the_time_neither_break_nor_stop_us() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    let accept = |port: u16| Rule::new().when(Match::is(Field::TcpDport, port)).verdict(Verdict::Accept);
    let none: [Member; 0] = [];
    table.set_set("s", SetKind::hash([DataType::Ipv4Addr]), none).unwrap();
    let (mut resyncs, mut last) = (0, 0);
    among_writers(&namespace, |n| {
        table.set_chain("c", (n..n + 10).map(accept).collect()).unwrap();
        table.add_members("s", [Ipv4Addr::from(0x0a00_0000 + u32::from(n))]).unwrap();
        let applied = table.apply().unwrap();
        assert_eq!(applied.refused, []);
        assert!(applied.operations > 0);
        resyncs += usize::from(applied.resynced);
        last = n;
        if n % 100 == 0 {
            // Reading back works as well while they write.
            table.resync().unwrap();
            assert_eq!(table.apply().unwrap().operations, 0);
        }
    });
    assert_eq!(resyncs, 1, "only the first apply has to read the table");
    assert_eq!(listed(&namespace, Family::Ip, "c")[0], format!("tcp dport {last} accept"));
}

#[test]
fn large_transactions_get_through_while_others_write() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    let rule = |n: u32| Rule::new().when(Match::is(Field::Mark, n)).counter().verdict(Verdict::Accept);
    let mut last = 0;
    among_writers(&namespace, |n| {
        if n % 50 == 1 {
            last = u32::from(n);
            table.set_chain("large", (last..last + 2000).map(rule).collect()).unwrap();
            assert!(table.apply().unwrap().operations > 0);
        }
    });
    assert_eq!(listed(&namespace, Family::Ip, "large").len(), 2000);
    table.set_chain("large", (last..last + 2001).map(rule).collect()).unwrap();
    assert_eq!(table.apply().unwrap().operations, 1);
}

#[test]
fn a_change_by_others_wakes_whoever_waits_for_events() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    table.set_chain("c", vec![]).unwrap();
    table.apply().unwrap();
    assert!(!table.changed().unwrap());
    let events = table.transport().events().unwrap();
    nft(&namespace, "add rule ip calico c accept");
    let timeout = Timespec { tv_sec: 5, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout));
    assert_eq!(ready, Ok(1));
    assert!(table.changed().unwrap());
    assert_eq!(table.apply().unwrap().operations, 1);
    assert!(!table.changed().unwrap());
}

#[test]
fn two_that_fight_over_one_table_both_go_on() {
    let namespace = TestNamespace::new();
    let (mut one, mut other) = (table(&namespace, Family::Ip), table(&namespace, Family::Ip));
    one.set_chain("c", vec![Rule::always(Verdict::Accept)]).unwrap();
    other.set_chain("c", vec![Rule::always(Verdict::Drop)]).unwrap();
    for _ in 0..20 {
        one.apply().unwrap();
        assert_eq!(listed(&namespace, Family::Ip, "c"), ["accept"]);
        other.apply().unwrap();
        assert_eq!(listed(&namespace, Family::Ip, "c"), ["drop"]);
    }
}

#[test]
fn tables_that_share_a_connection_are_no_strangers_to_each_other() {
    let namespace = TestNamespace::new();
    let socket = namespace.run(|| NftSocket::open().unwrap());
    let mut one = NftTable::new(socket.clone(), Family::Ip, "calico");
    let mut other = NftTable::new(socket, Family::Ip6, "calico");
    for n in 1..400_u16 {
        let rules = || (0..n).map(|n| Rule::new().when(Match::is(Field::TcpDport, n))).collect();
        one.set_chain("c", rules()).unwrap();
        other.set_chain("c", rules()).unwrap();
        assert_eq!(one.apply().unwrap().resynced, n == 1);
        assert_eq!(other.apply().unwrap().resynced, n == 1);
    }
    nft(&namespace, "flush chain ip6 calico c");
    assert!(!one.changed().unwrap() && other.changed().unwrap());
    one.set_chain("c", (0..900_u16).map(|n| Rule::new().when(Match::is(Field::UdpDport, n))).collect())
        .unwrap();
    assert!(!one.apply().unwrap().resynced, "another table was changed");
    assert!(other.apply().unwrap().resynced, "a large transaction must not hide what came before it");
    assert_eq!(listed(&namespace, Family::Ip6, "c").len(), 399);
}

#[test]
fn more_events_than_fit_count_as_a_change() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    table.set_chain("c", vec![Rule::always(Verdict::Drop)]).unwrap();
    table.apply().unwrap();
    let mut other = named_table(&namespace, Family::Ip, "other");
    let deadline = Instant::now() + Duration::from_secs(60);
    let rule = |mark: u32| Rule::new().when(Match::is(Field::Mark, mark)).counter().comment("x".repeat(100));
    for round in 0..12 {
        other.set_chain("c", (round * 4000..(round + 1) * 4000).map(rule).collect()).unwrap();
        other.apply().unwrap();
        assert!(Instant::now() < deadline, "too slow");
    }
    // By now events were lost or not; either way the table is right and costs at most one reading.
    nft(&namespace, "flush chain ip calico c");
    assert!(table.apply().unwrap().resynced);
    assert_eq!(listed(&namespace, Family::Ip, "c"), ["drop"]);
    assert_eq!(table.apply().unwrap(), Applied::default());
}
