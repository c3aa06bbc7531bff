//! Two tables under a virtual clock, joined by a path that delays, loses and can be cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{ControlPacket, Diagnostic, State};
use super::{Arrival, Output, Path, Refused, Table, Target};
use crate::config::Bfd;
use crate::types::PeerId;

const DELAY: Duration = Duration::from_millis(1);

struct Pair {
    tables: [Table; 2],
    now: Instant,
    started: Instant,
    /// Packets under way: when, to whom, what.
    wire: VecDeque<(Instant, usize, Vec<u8>)>,
    /// Packets towards either end are lost.
    cut: [bool; 2],
    /// Every so many packets one is lost; 0: none.
    loss: usize,
    sent: Vec<(Instant, usize, ControlPacket)>,
    paths: Vec<(Duration, usize, Path)>,
    multihop: bool,
}

fn address(end: usize) -> IpAddr {
    [10, 0, 0, if end == 0 { 1 } else { 2 }].into()
}

fn target(end: usize, bfd: Bfd) -> BTreeMap<PeerId, Target> {
    let target = Target { local: address(end), remote: address(1 - end), interface: None, bfd };
    BTreeMap::from([(PeerId::from("peer"), target)])
}

fn fast() -> Bfd {
    Bfd { interval: Duration::from_millis(50), multiplier: 3, ..Bfd::default() }
}

impl Pair {
    fn new(first: Bfd, second: Bfd) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to begin somewhere; only differences count"
        )]
        let now = Instant::now();
        let mut pair = Self {
            tables: [Table::new(1), Table::new(2)],
            now,
            started: now,
            wire: VecDeque::new(),
            cut: [false; 2],
            loss: 0,
            sent: Vec::new(),
            paths: Vec::new(),
            multihop: first.multihop,
        };
        pair.configure(0, first);
        pair.configure(1, second);
        pair
    }

    fn configure(&mut self, end: usize, bfd: Bfd) {
        self.tables[end].configure(&target(end, bfd), self.now);
        self.collect(end);
    }

    fn collect(&mut self, end: usize) {
        while let Some(output) = self.tables[end].poll_output() {
            match output {
                Output::Send { packet, .. } => {
                    let decoded = ControlPacket::decode(&packet).expect("we send what we take");
                    self.sent.push((self.now, end, decoded));
                    let lost = self.loss > 0 && self.sent.len().is_multiple_of(self.loss);
                    if !self.cut[1 - end] && !lost {
                        self.wire.push_back((self.now + DELAY, 1 - end, packet.to_vec()));
                    }
                }
                Output::Path { path, .. } => self.paths.push((self.now - self.started, end, path)),
            }
        }
    }

    fn deliver(&mut self, end: usize, bytes: &[u8]) -> Result<(), Refused> {
        let arrival = Arrival {
            local: address(end),
            remote: address(1 - end),
            interface: None,
            multihop: self.multihop,
            ttl: 255,
        };
        let taken = self.tables[end].receive(arrival, bytes, self.now);
        self.collect(end);
        taken
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.tables.iter().filter_map(Table::poll_timeout);
            let next = timers.chain(self.wire.front().map(|packet| packet.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while self.wire.front().is_some_and(|packet| packet.0 <= self.now) {
                let (_, to, bytes) = self.wire.pop_front().expect("just seen");
                self.deliver(to, &bytes).expect("it is for this session");
            }
            for end in 0..2 {
                self.tables[end].handle_timeout(self.now);
                self.collect(end);
            }
        }
        self.now = end;
    }

    fn state(&self, end: usize) -> State {
        self.tables[end].status()[0].state
    }

    fn up(first: Bfd, second: Bfd) -> Self {
        let mut pair = Self::new(first, second);
        pair.run(Duration::from_secs(5));
        assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
        pair.paths.clear();
        pair.sent.clear();
        pair
    }

    fn gaps(&self, end: usize) -> BTreeSet<Duration> {
        let times: Vec<Instant> =
            self.sent.iter().filter(|(_, from, _)| *from == end).map(|(at, ..)| *at).collect();
        times.windows(2).map(|two| two[1] - two[0]).collect()
    }
}

#[test]
fn a_session_comes_up_within_the_slow_start_and_then_sends_as_configured() {
    let mut pair = Pair::new(fast(), fast());
    pair.run(Duration::from_secs(2));
    let ups: Vec<_> =
        pair.paths.iter().map(|(at, end, path)| (*at < Duration::from_secs(1), *end, *path)).collect();
    assert_eq!(ups.len(), 2, "{:?}", pair.paths);
    assert!(ups.iter().all(|(soon, _, path)| *soon && *path == Path::Up), "{:?}", pair.paths);
    let down = pair.sent.iter().filter(|(.., packet)| packet.state != State::Up);
    assert!(down.into_iter().all(|(.., packet)| packet.desired_min_tx == Duration::from_secs(1)));
    pair.sent.clear();
    pair.run(Duration::from_secs(10));
    for end in 0..2 {
        let gaps = pair.gaps(end);
        let (least, most) = (gaps.first().expect("sent"), gaps.last().expect("sent"));
        assert!(
            *least >= Duration::from_micros(37_500) && *most <= Duration::from_millis(50),
            "{least:?} {most:?}"
        );
        assert!(*most - *least > Duration::from_millis(5), "jittered: {least:?} to {most:?}");
    }
}

#[test]
fn before_anything_is_heard_packets_are_a_second_apart() {
    let mut pair = Pair::new(fast(), fast());
    pair.cut = [true; 2];
    pair.run(Duration::from_secs(10));
    let gaps = pair.gaps(0);
    assert!(*gaps.first().expect("sent") >= Duration::from_millis(750), "{gaps:?}");
    assert!(pair.paths.is_empty());
}

#[test]
fn a_cut_is_noticed_after_three_intervals_on_both_sides() {
    let mut pair = Pair::up(fast(), fast());
    let cut = pair.now - pair.started;
    pair.cut = [true; 2];
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.paths.len(), 2);
    for (at, _, path) in &pair.paths {
        let after = *at - cut;
        let expected = Path::Down { diagnostic: Diagnostic::TIME_EXPIRED, independent: false };
        assert_eq!(*path, expected);
        assert!((Duration::from_millis(99)..=Duration::from_millis(151)).contains(&after), "{after:?}");
    }
}

#[test]
fn a_path_that_works_one_way_only_is_down_for_both() {
    let mut pair = Pair::up(fast(), fast());
    pair.cut[1] = true;
    pair.run(Duration::from_millis(200));
    let paths: BTreeMap<usize, Path> = pair.paths.iter().map(|(_, end, path)| (*end, *path)).collect();
    assert_eq!(paths[&1], Path::Down { diagnostic: Diagnostic::TIME_EXPIRED, independent: false });
    assert_eq!(paths[&0], Path::Down { diagnostic: Diagnostic::NEIGHBOUR_DOWN, independent: false });
    pair.cut[1] = false;
    pair.run(Duration::from_secs(4));
    assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
}

#[test]
fn packets_that_are_lost_now_and_then_do_not_end_a_session() {
    let mut pair = Pair::up(fast(), fast());
    pair.loss = 3;
    pair.run(Duration::from_secs(60));
    assert!(pair.paths.is_empty(), "{:?}", pair.paths);
}

#[test]
fn a_multiplier_of_one_leaves_a_tenth_for_the_way() {
    let once = Bfd { multiplier: 1, ..fast() };
    let mut pair = Pair::up(once, once);
    pair.run(Duration::from_secs(60));
    assert!(pair.paths.is_empty(), "{:?}", pair.paths);
    assert!(*pair.gaps(0).last().expect("sent") <= Duration::from_millis(45));
}

#[test]
fn the_slower_end_decides() {
    let slow = Bfd { interval: Duration::from_millis(200), multiplier: 5, ..fast() };
    let pair = Pair::up(fast(), slow);
    let [first, second] = [&pair.tables[0].status()[0], &pair.tables[1].status()[0]];
    assert_eq!(first.send_interval, Some(Duration::from_millis(200)));
    assert_eq!(second.send_interval, Some(Duration::from_millis(200)));
    assert_eq!(first.detection_time, Some(Duration::from_secs(1)), "the other end's multiplier");
    assert_eq!(second.detection_time, Some(Duration::from_millis(600)));
}

#[test]
fn a_change_of_interval_is_polled_for_and_loses_nothing() {
    let mut pair = Pair::up(fast(), fast());
    let slow = Bfd { interval: Duration::from_millis(500), ..fast() };
    pair.configure(0, slow);
    let status = &pair.tables[0].status()[0];
    assert_eq!(status.send_interval, Some(Duration::from_millis(50)), "not before it is confirmed");
    pair.run(Duration::from_secs(5));
    assert!(pair.sent.iter().any(|(_, end, packet)| *end == 0 && packet.poll));
    assert!(pair.sent.iter().any(|(_, end, packet)| *end == 1 && packet.is_final && !packet.poll));
    assert_eq!(pair.tables[0].status()[0].send_interval, Some(Duration::from_millis(500)));
    assert_eq!(pair.tables[1].status()[0].send_interval, Some(Duration::from_millis(500)));
    pair.configure(0, fast());
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.tables[0].status()[0].detection_time, Some(Duration::from_millis(150)));
    assert!(pair.paths.is_empty(), "{:?}", pair.paths);
}

#[test]
fn a_session_that_is_taken_away_is_no_failure() {
    let mut pair = Pair::up(fast(), fast());
    pair.tables[0].configure(&BTreeMap::new(), pair.now);
    pair.collect(0);
    pair.run(Duration::from_millis(DELAY.as_millis() as u64));
    assert_eq!(
        pair.paths.iter().map(|(_, end, path)| (*end, *path)).collect::<Vec<_>>(),
        [(1, Path::AdminDown)]
    );
    assert!(Path::AdminDown.lets_begin());
    assert_eq!(pair.tables[1].status()[0].diagnostic, Diagnostic::NEIGHBOUR_DOWN);
}

#[test]
fn a_peer_that_restarts_comes_up_again() {
    let mut pair = Pair::up(fast(), fast());
    pair.tables[0] = Table::new(99);
    let now = pair.now;
    pair.tables[0].configure(&target(0, fast()), now);
    pair.collect(0);
    // What is still addressed to the old discriminator is refused until the other end has timed out.
    pair.wire.clear();
    pair.cut[0] = true;
    pair.run(Duration::from_millis(300));
    pair.cut[0] = false;
    pair.run(Duration::from_secs(3));
    assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up));
}

#[test]
fn packets_of_others_are_refused_and_change_nothing() {
    let mut pair = Pair::up(fast(), fast());
    let real = pair.tables[1].status()[0].clone();
    let (_, _, packet) = {
        pair.run(Duration::from_millis(100));
        pair.sent.iter().rev().find(|(_, end, _)| *end == 0).copied().expect("sent")
    };
    let down = ControlPacket { state: State::AdminDown, ..packet }.encode();
    let arrival =
        Arrival { local: address(1), remote: address(0), interface: None, multihop: false, ttl: 255 };
    let now = pair.now;
    let table = &mut pair.tables[1];
    let far = Arrival { ttl: 254, ..arrival };
    assert_eq!(table.receive(far, &down, now), Err(Refused::Ttl(254)));
    let other = Arrival { remote: [10, 0, 0, 9].into(), ..arrival };
    assert_eq!(table.receive(other, &down, now), Err(Refused::NoSession));
    let multihop = Arrival { multihop: true, ..arrival };
    assert_eq!(table.receive(multihop, &down, now), Err(Refused::NoSession));
    let elsewhere = Arrival { interface: Some("eth9"), ..arrival };
    assert_eq!(table.receive(elsewhere, &down, now), Err(Refused::NoSession));
    let guessed =
        ControlPacket { your_discriminator: packet.your_discriminator ^ 1, state: State::Down, ..packet };
    assert_eq!(table.receive(arrival, &guessed.encode(), now), Err(Refused::NoSession));
    assert!(matches!(table.receive(arrival, &down[..20], now), Err(Refused::Packet(_))));
    assert_eq!(table.status()[0].state, State::Up);
    assert_eq!(table.status()[0].since, real.since);
}

#[test]
fn multihop_takes_any_ttl() {
    let far = Bfd { multihop: true, ..fast() };
    let mut pair = Pair::up(far, far);
    let (_, _, packet) = {
        pair.run(Duration::from_millis(100));
        pair.sent.iter().rev().find(|(_, end, _)| *end == 0).copied().expect("sent")
    };
    let arrival = Arrival { local: address(1), remote: address(0), interface: None, multihop: true, ttl: 61 };
    assert_eq!(pair.tables[1].receive(arrival, &packet.encode(), pair.now), Ok(()));
}

#[test]
fn a_peer_that_wants_no_packets_gets_none_on_its_own() {
    let mut pair = Pair::up(fast(), fast());
    let (_, _, packet) = {
        pair.run(Duration::from_millis(100));
        pair.sent.iter().rev().find(|(_, end, _)| *end == 1).copied().expect("sent")
    };
    let quiet = ControlPacket { required_min_rx: Duration::ZERO, poll: true, ..packet };
    pair.cut = [true; 2];
    pair.wire.clear();
    pair.sent.clear();
    pair.deliver(0, &quiet.encode()).expect("it is for this session");
    let answers: Vec<bool> =
        pair.sent.iter().filter(|(_, end, _)| *end == 0).map(|(.., packet)| packet.is_final).collect();
    assert_eq!(answers, [true], "only the answer to the poll");
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.sent.iter().filter(|(_, end, _)| *end == 0).count(), 1);
}

#[test]
fn any_packets_keep_the_timers_in_bounds() {
    // Whatever is said, in whatever order, no packet makes us send more than one packet for it and our own rhythm.
    let mut pair = Pair::up(fast(), fast());
    let mut random = crate::session::Jitter::new(7);
    let (_, _, packet) = {
        pair.run(Duration::from_millis(100));
        pair.sent.iter().rev().find(|(_, end, _)| *end == 1).copied().expect("sent")
    };
    for _ in 0..20_000 {
        let mut bytes = packet.encode();
        let bits = random.next().to_be_bytes();
        bytes[1] = bits[0] & 0xfa;
        bytes[2] = bits[1];
        bytes[12..16].copy_from_slice(&bits[..4]);
        bytes[16..20].copy_from_slice(&bits[4..]);
        pair.sent.clear();
        let _ = pair.deliver(0, &bytes);
        assert!(pair.sent.len() <= 2, "one for a new state, one for a poll");
        pair.now += Duration::from_micros(bits[7].into());
        let now = pair.now;
        pair.tables[0].handle_timeout(now);
        pair.collect(0);
        assert!(pair.tables[0].poll_timeout().is_some_and(|next| next > now));
    }
}

#[test]
fn a_table_that_is_taken_over_goes_on_and_nobody_notices() {
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::up(fast(), fast());
        for _ in 0..30 {
            pair.run(Duration::from_millis(rng.u64(0..200)));
            let end = rng.usize(0..2);
            let octets = pair.tables[end].hand_over(pair.now).encode();
            // Nobody sends or hears anything for a while.
            pair.now += Duration::from_millis(rng.u64(0..40));
            let handed = super::HandedPaths::decode(&octets).expect("just encoded");
            pair.tables[end] = Table::take_over(&handed, rng.u64(..), pair.now);
            let bfd = if rng.bool() { fast() } else { Bfd { multiplier: 4, ..fast() } };
            pair.configure(end, bfd);
            assert_eq!(pair.state(end), State::Up, "seed {seed}");
        }
        pair.run(Duration::from_secs(5));
        assert_eq!((pair.state(0), pair.state(1)), (State::Up, State::Up), "seed {seed}");
        assert_eq!(pair.paths, [], "seed {seed}: somebody noticed");
        pair.cut = [true; 2];
        pair.run(Duration::from_millis(250));
        assert_eq!(pair.paths.len(), 2, "seed {seed}: and what happens later is seen as before");
    }
}

#[test]
fn what_is_no_hand_over_of_paths_is_refused() {
    let pair = Pair::up(fast(), fast());
    let octets = pair.tables[0].hand_over(pair.now).encode();
    for length in 0..octets.len() {
        assert!(super::HandedPaths::decode(&octets[..length]).is_err(), "cut at {length}");
    }
}
