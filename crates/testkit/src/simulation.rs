//! A simulated network, for tests of code without I/O: a clock that jumps from event to event, and connections between
//! hosts that deliver in order, late, or not at all. Everything follows from a seed.
//!
//! The test's own events and the network's come out of one queue ([`Simulation::next`]); what they mean to a host is the
//! test's business.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::time::{Duration, Instant};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The host.
    pub host: usize,
    /// Which of its processes: what belonged to an earlier one is dead.
    pub life: u64,
    /// The process' name for the connection.
    pub connection: u64,
}

/// Something that happens; `E` are the test's own events, `M` is what connections carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening<E, M> {
    /// What was scheduled.
    Event(E),
    /// A message arrives.
    Delivered {
        /// Its sender.
        from: End,
        /// Where it arrives.
        to: End,
        /// What it is.
        message: M,
    },
    /// A connection is over.
    Closed {
        /// Who learns of it.
        to: End,
        /// It broke; else the other end has closed it.
        reset: bool,
    },
}

/// Time, events, and connections.
pub struct Simulation<E, M> {
    start: Instant,
    now: Instant,
    rng: fastrand::Rng,
    /// Microseconds from one host to another.
    delays: Range<u64>,
    queue: BinaryHeap<Due<E, M>>,
    scheduled: u64,
    pipes: Vec<Pipe>,
    /// The pipe of each open end, and which of its two ends that is.
    open: BTreeMap<End, (usize, usize)>,
}

struct Pipe {
    ends: [End; 2],
    /// Nothing that is sent towards an end arrives before this.
    busy_until: [Instant; 2],
    /// Something was swallowed: what follows is lost, too.
    black_hole: bool,
}

struct Due<E, M> {
    at: Instant,
    serial: u64,
    what: What<E, M>,
}

enum What<E, M> {
    Event(E),
    Message { pipe: usize, side: usize, message: M },
    HangUp { pipe: usize, side: usize },
    Reset(End),
}

impl<E, M> Simulation<E, M> {
    /// A world in which nothing happens yet. Messages take so many microseconds.
    pub fn new(seed: u64, delays: Range<u64>) -> Self {
        let start = Instant::now();
        Self {
            start,
            now: start,
            rng: fastrand::Rng::with_seed(seed),
            delays,
            queue: BinaryHeap::new(),
            scheduled: 0,
            pipes: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// The time. It begins somewhere: only differences count.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How long the world has been there.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Chance. Whoever draws changes what comes after.
    pub fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// How long something takes from one host to another, this time.
    pub fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(self.delays.clone()))
    }

    /// An event of the test's own; what is already over happens at once.
    pub fn schedule(&mut self, at: Instant, event: E) {
        self.push(at, What::Event(event));
    }

    fn push(&mut self, at: Instant, what: What<E, M>) {
        self.scheduled += 1;
        self.queue.push(Due { at, serial: self.scheduled, what });
    }

    /// Connects two ends, neither of which is connected.
    pub fn connect(&mut self, from: End, to: End) {
        let pipe = self.pipes.len();
        self.pipes.push(Pipe { ends: [from, to], busy_until: [self.now; 2], black_hole: false });
        self.open.insert(from, (pipe, 0));
        self.open.insert(to, (pipe, 1));
    }

    /// An open end goes by another name from now on: another process has taken it over. What is under way to it arrives there.
    pub fn rename(&mut self, end: End, to: End) {
        if let Some((pipe, side)) = self.open.remove(&end) {
            self.pipes[pipe].ends[side] = to;
            self.open.insert(to, (pipe, side));
        }
    }

    /// Sends to the other end, which gets messages in order. Without effect when this end is closed.
    pub fn send(&mut self, from: End, message: M) {
        if let Some((pipe, side)) = self.open.get(&from).copied() {
            let side = 1 - side;
            let at = self.arrival(pipe, side);
            self.push(at, What::Message { pipe, side, message });
        }
    }

    /// Closes an end; the other learns of it once it has got everything. Without effect when it is closed.
    pub fn hang_up(&mut self, end: End) {
        if let Some((pipe, side)) = self.open.remove(&end) {
            let side = 1 - side;
            let at = self.arrival(pipe, side);
            self.push(at, What::HangUp { pipe, side });
        }
    }

    fn arrival(&mut self, pipe: usize, side: usize) -> Instant {
        let at = self.pipes[pipe].busy_until[side].max(self.now + self.delay());
        self.pipes[pipe].busy_until[side] = at;
        at
    }

    /// The open ends of a host.
    pub fn ends_of(&self, host: usize) -> Vec<End> {
        let first = End { host, life: 0, connection: 0 };
        self.open.range(first..End { host: host + 1, ..first }).map(|(end, _)| *end).collect()
    }

    /// A host goes without closing anything: nobody hears of it.
    pub fn lose(&mut self, host: usize) {
        for end in self.ends_of(host) {
            if let Some((pipe, _)) = self.open.remove(&end) {
                self.pipes[pipe].black_hole = true;
            }
        }
    }

    /// Breaks every connection between two hosts; both see a reset, now.
    pub fn break_between(&mut self, a: usize, b: usize) {
        for end in self.ends_of(a) {
            let (pipe, side) = self.open[&end];
            let other = self.pipes[pipe].ends[1 - side];
            if other.host == b {
                for end in [end, other] {
                    if self.open.remove(&end).is_some() {
                        self.push(self.now, What::Reset(end));
                    }
                }
            }
        }
    }

    /// The next thing to happen up to a time; when there is none, it is that time. What was sent between hosts that do not
    /// reach each other when it would arrive is lost, and so is everything after it on that connection.
    pub fn next(&mut self, end: Instant, reaches: impl Fn(usize, usize) -> bool) -> Option<Happening<E, M>> {
        while self.queue.peek().is_some_and(|due| due.at <= end) {
            let Due { at, what, .. } = self.queue.pop().expect("just seen");
            self.now = self.now.max(at);
            match what {
                What::Event(event) => return Some(Happening::Event(event)),
                What::Reset(to) => return Some(Happening::Closed { to, reset: true }),
                What::Message { pipe, side, message } => {
                    let (from, to) = self.ends(pipe, side);
                    if self.arrives(pipe, reaches(from.host, to.host)) && self.open.contains_key(&to) {
                        return Some(Happening::Delivered { from, to, message });
                    }
                }
                What::HangUp { pipe, side } => {
                    let (from, to) = self.ends(pipe, side);
                    if self.arrives(pipe, reaches(from.host, to.host)) && self.open.remove(&to).is_some() {
                        return Some(Happening::Closed { to, reset: false });
                    }
                }
            }
        }
        self.now = self.now.max(end);
        None
    }

    /// The sender and the receiver of what goes towards a side.
    fn ends(&self, pipe: usize, side: usize) -> (End, End) {
        let ends = &self.pipes[pipe].ends;
        (ends[1 - side], ends[side])
    }

    fn arrives(&mut self, pipe: usize, reaches: bool) -> bool {
        let pipe = &mut self.pipes[pipe];
        pipe.black_hole |= !reaches;
        !pipe.black_hole
    }
}

impl<E, M> Ord for Due<E, M> {
    /// The heap gives the greatest first: the earliest, of equals the one that was scheduled first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<E, M> PartialOrd for Due<E, M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E, M> PartialEq for Due<E, M> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E, M> Eq for Due<E, M> {}

#[cfg(test)]
mod tests {
    use super::*;

    const A: End = End { host: 0, life: 1, connection: 7 };
    const B: End = End { host: 1, life: 1, connection: 9 };

    fn all(network: &mut Simulation<&'static str, u32>, reaches: bool) -> Vec<Happening<&'static str, u32>> {
        let end = network.now() + Duration::from_secs(1);
        std::iter::from_fn(|| network.next(end, |_, _| reaches)).collect()
    }

    #[test]
    fn messages_arrive_in_order_before_the_end_of_their_connection() {
        for seed in 0..20 {
            let mut network = Simulation::new(seed, 1..5_000);
            network.connect(A, B);
            (0..5).for_each(|message| network.send(A, message));
            network.hang_up(A);
            network.send(A, 5);
            let mut expected: Vec<_> =
                (0..5).map(|message| Happening::Delivered { from: A, to: B, message }).collect();
            expected.push(Happening::Closed { to: B, reset: false });
            assert_eq!(all(&mut network, true), expected, "seed {seed}");
            network.send(B, 6);
            assert_eq!(all(&mut network, true), [], "B is closed, too");
        }
    }

    #[test]
    fn a_connection_that_lost_something_delivers_nothing_more() {
        let mut network = Simulation::new(1, 1..5_000);
        network.connect(A, B);
        network.send(A, 1);
        assert_eq!(all(&mut network, false), []);
        network.send(B, 2);
        network.hang_up(A);
        assert_eq!(all(&mut network, true), []);
        network.connect(End { connection: 8, ..A }, End { connection: 8, ..B });
        network.lose(0);
        network.send(End { connection: 8, ..B }, 3);
        assert_eq!(all(&mut network, true), []);
    }

    #[test]
    fn an_end_that_is_taken_over_gets_what_is_under_way() {
        let mut network = Simulation::new(1, 1..5_000);
        network.connect(A, B);
        network.send(A, 1);
        let heir = End { life: 2, ..B };
        network.rename(B, heir);
        network.send(heir, 2);
        let mut arrived = all(&mut network, true);
        arrived.sort_by_key(|happening| matches!(happening, Happening::Delivered { message: 2, .. }));
        let delivered = |from, to, message| Happening::Delivered { from, to, message };
        assert_eq!(arrived, [delivered(A, heir, 1), delivered(heir, A, 2)]);
    }

    #[test]
    fn events_come_at_their_time_and_breaks_are_seen_by_both_ends() {
        let mut network = Simulation::new(1, 1..5_000);
        let start = network.now();
        network.schedule(start + Duration::from_millis(900), "late");
        network.schedule(start + Duration::from_millis(100), "early");
        network.schedule(start + Duration::from_secs(5), "too late");
        assert_eq!(all(&mut network, true), [Happening::Event("early"), Happening::Event("late")]);
        assert_eq!(network.elapsed(), Duration::from_secs(1));
        network.connect(A, B);
        network.send(A, 1);
        network.break_between(1, 0);
        let closed = |to| Happening::Closed { to, reset: true };
        assert_eq!(all(&mut network, true), [closed(B), closed(A)]);
    }
}
