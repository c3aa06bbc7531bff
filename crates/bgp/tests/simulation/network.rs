//! The simulated world: clock, hosts, connections.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::config::Origination;
use bgp::handover::Handover;
use bgp::{
    Asn, BestRoute, ConnectionId, Endpoints, Family, Input, Output, PeerConfig, PeerId, RouterId, Shutdown,
    Speaker, SpeakerConfig, Start, TransportFailure,
};
use ipnet::IpNet;

/// A host: a speaker, and a kernel that survives it.
pub(crate) struct Host {
    pub(crate) config: SpeakerConfig,
    pub(crate) speaker: Option<Speaker>,
    /// Which of this host's processes is running; connections of earlier ones are dead.
    life: u64,
    /// The kernel's table, and which of its routes the current speaker has named.
    pub(crate) kernel: BTreeMap<IpNet, std::sync::Arc<BestRoute>>,
    named: BTreeSet<IpNet>,
    /// Prefixes that were in the kernel, then were not: each is a moment without forwarding.
    pub(crate) removed: Vec<(Duration, IpNet)>,
    wake: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    host: usize,
    life: u64,
    connection: ConnectionId,
}

struct Pipe {
    ends: [End; 2],
    open: [bool; 2],
    /// Nothing sent towards an end arrives before this.
    busy_until: [Instant; 2],
    /// A partition swallowed something: what follows is lost, too.
    black_hole: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Dial { from: End, remote: SocketAddr },
    Deliver { pipe: usize, to: usize, bytes: Vec<u8> },
    Written { to: End, bytes: usize },
    Fail { to: End, closed: bool },
    Hangup { pipe: usize, to: usize },
    Wake { host: usize, life: u64 },
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pipes: Vec<Pipe>,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    serial: u64,
    start: Instant,
    pub(crate) now: Instant,
    rng: fastrand::Rng,
    partitions: BTreeSet<(usize, usize)>,
    /// Everything that was seen, in order.
    pub(crate) trace: Vec<String>,
}

pub(crate) fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(host + 1).expect("few hosts"))
}

pub(crate) fn peer_id(host: usize) -> PeerId {
    PeerId(format!("Mesh_10_0_0_{}", host + 1))
}

/// A speaker of a full mesh; `passive`: as Calico does, only one side dials.
pub(crate) fn mesh_config(host: usize, hosts: usize, passive: bool) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(64512), RouterId(address(host)));
    config.addresses.ipv4 = Some(address(host));
    config.selection_deferral = Duration::from_secs(60);
    for other in (0..hosts).filter(|other| *other != host) {
        let mut peer = PeerConfig::new(IpAddr::V4(address(other)), Asn(64512));
        if passive && other > host {
            peer.connect = bgp::config::ConnectMode::Passive;
        }
        config.peers.insert(peer_id(other), peer);
    }
    config
}

impl World {
    pub(crate) fn new(seed: u64, configs: Vec<SpeakerConfig>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to begin somewhere; only differences count"
        )]
        let start = Instant::now();
        let host = |config| Host {
            config,
            speaker: None,
            life: 0,
            kernel: BTreeMap::new(),
            named: BTreeSet::new(),
            removed: Vec::new(),
            wake: None,
        };
        Self {
            hosts: configs.into_iter().map(host).collect(),
            pipes: Vec::new(),
            queue: BinaryHeap::new(),
            serial: 0,
            start,
            now: start,
            rng: fastrand::Rng::with_seed(seed),
            partitions: BTreeSet::new(),
            trace: Vec::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    fn log(&mut self, text: String) {
        self.trace.push(format!("{:?} {text}", self.elapsed()));
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial, event)));
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(50..20_000))
    }

    /// Starts the process of a host. With routes in its kernel it knows that it has lived before.
    pub(crate) fn boot(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let now = self.now;
        let state = &mut self.hosts[host];
        let start = if state.kernel.is_empty() { Start::Fresh } else { Start::Restarting };
        state.life += 1;
        state.named.clear();
        state.speaker = Some(Speaker::new(state.config.clone(), start, seed, now));
        self.log(format!("host {host} boots {start:?}"));
        self.drain(host);
    }

    /// Another process goes on with the speaker of a host, once no connection of it is undecided; what its kernel has to
    /// read and to write stays.
    pub(crate) fn take_over(&mut self, host: usize) {
        let is_opening = |world: &World| world.hosts[host].speaker.as_ref().is_some_and(Speaker::is_opening);
        self.await_condition(Duration::from_secs(6), "decided", |world| !is_opening(world));
        let (now, seed) = (self.now, self.rng.u64(..));
        self.log(format!("host {host} is taken over"));
        let state = &mut self.hosts[host];
        let octets = state.speaker.as_ref().expect("it runs").hand_over(now).encode();
        let handover = Handover::decode(&octets).expect("just encoded");
        let (speaker, names) =
            Speaker::take_over(state.config.clone(), &handover, seed, now).expect("it fits together");
        state.speaker = Some(speaker);
        let before = state.life;
        state.life += 1;
        let life = state.life;
        state.named.clear();
        state.wake = None;
        for index in 0..self.pipes.len() {
            for side in 0..2 {
                let end = self.pipes[index].ends[side];
                if (end.host, end.life) != (host, before) || !self.pipes[index].open[side] {
                    continue;
                }
                match names.get(&end.connection) {
                    Some(connection) => {
                        self.pipes[index].ends[side] = End { host, life, connection: *connection };
                    }
                    None => self.hang_up(index, side),
                }
            }
        }
        self.drain(host);
    }

    /// SIGKILL: the process is gone, its kernel closes the connections and keeps the routes.
    pub(crate) fn kill(&mut self, host: usize) {
        self.log(format!("host {host} is killed"));
        self.hosts[host].speaker = None;
        self.close_all(host);
    }

    /// A clean stop that keeps the peers' routes, or not.
    pub(crate) fn stop(&mut self, host: usize, shutdown: Shutdown) {
        self.input(host, Input::Shutdown(shutdown));
        self.hosts[host].speaker = None;
    }

    /// The whole host loses power: nobody closes anything, and the kernel's routes are gone.
    pub(crate) fn power_off(&mut self, host: usize) {
        self.log(format!("host {host} loses power"));
        self.hosts[host].speaker = None;
        self.hosts[host].kernel.clear();
        for pipe in self.pipes.iter_mut().filter(|pipe| pipe.ends.iter().any(|end| end.host == host)) {
            pipe.black_hole = true;
        }
    }

    fn close_all(&mut self, host: usize) {
        for index in 0..self.pipes.len() {
            for side in 0..2 {
                if self.pipes[index].ends[side].host == host && self.pipes[index].open[side] {
                    self.hang_up(index, side);
                }
            }
        }
    }

    /// Breaks every connection between two hosts; both see a reset.
    pub(crate) fn break_connections(&mut self, a: usize, b: usize) {
        self.log(format!("connections between {a} and {b} break"));
        for index in 0..self.pipes.len() {
            let hosts = self.pipes[index].ends.map(|end| end.host);
            if hosts != [a, b] && hosts != [b, a] {
                continue;
            }
            for side in 0..2 {
                if std::mem::take(&mut self.pipes[index].open[side]) {
                    let to = self.pipes[index].ends[side];
                    self.schedule(self.now, Event::Fail { to, closed: false });
                }
            }
        }
    }

    /// Nothing gets through between two hosts any more, or again.
    pub(crate) fn partition(&mut self, a: usize, b: usize, cut: bool) {
        self.log(format!("{a} and {b} are {}", if cut { "cut" } else { "joined" }));
        let pair = (a.min(b), a.max(b));
        if cut {
            self.partitions.insert(pair)
        } else {
            self.partitions.remove(&pair)
        };
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.partitions.contains(&(a.min(b), a.max(b)))
    }

    pub(crate) fn originate(&mut self, host: usize, prefix: &str) {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        self.hosts[host].config.originated.insert(prefix, Origination::default());
        self.input(host, Input::Originate { prefix, route: Origination::default() });
    }

    pub(crate) fn withdraw(&mut self, host: usize, prefix: &str) {
        let prefix: IpNet = prefix.parse().expect("a prefix");
        self.hosts[host].config.originated.remove(&prefix);
        self.input(host, Input::Withdraw { prefix });
    }

    pub(crate) fn input(&mut self, host: usize, input: Input<'_>) {
        let now = self.now;
        if let Some(speaker) = &mut self.hosts[host].speaker {
            speaker.handle_input(input, now);
            self.drain(host);
        }
    }

    /// Lets the world go on for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
    }

    /// Lets the world go on until a condition holds; panics when it does not in time.
    pub(crate) fn await_condition(&mut self, limit: Duration, what: &str, holds: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        if !self.run_until(end, &holds) {
            let last: Vec<&String> = self.trace.iter().rev().take(40).collect();
            panic!("after {:?}: not {what}; the last events, backwards:\n{last:#?}", self.elapsed());
        }
    }

    fn run_until(&mut self, end: Instant, holds: impl Fn(&World) -> bool) -> bool {
        loop {
            if holds(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse((at, ..))) if *at <= end => {}
                _ => break,
            }
            let Reverse((at, _, event)) = self.queue.pop().expect("just peeked");
            self.now = self.now.max(at);
            self.handle(event);
        }
        self.now = end;
        holds(self)
    }

    fn is_alive(&self, end: End) -> bool {
        self.hosts[end.host].life == end.life && self.hosts[end.host].speaker.is_some()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Dial { from, remote } => self.dial(from, remote),
            Event::Deliver { pipe, to, bytes } => {
                let end = self.pipes[pipe].ends[to];
                let other = self.pipes[pipe].ends[1 - to];
                if self.is_cut(end.host, other.host) || self.pipes[pipe].black_hole {
                    self.pipes[pipe].black_hole = true;
                    return;
                }
                if self.pipes[pipe].open[to] && self.is_alive(end) {
                    self.input(end.host, Input::Received { connection: end.connection, bytes: &bytes });
                }
                let written = Event::Written { to: other, bytes: bytes.len() };
                self.schedule(self.now, written);
            }
            Event::Written { to, bytes } if self.is_alive(to) => {
                self.input(to.host, Input::Written { connection: to.connection, bytes });
            }
            Event::Fail { to, closed } if self.is_alive(to) => {
                let failure = if closed { TransportFailure::ClosedByPeer } else { TransportFailure::Reset };
                self.input(to.host, Input::Closed { connection: to.connection, failure });
            }
            Event::Hangup { pipe, to } => {
                let (end, other) = (self.pipes[pipe].ends[to], self.pipes[pipe].ends[1 - to]);
                if self.pipes[pipe].black_hole || self.is_cut(end.host, other.host) {
                    return;
                }
                if std::mem::take(&mut self.pipes[pipe].open[to]) {
                    self.handle(Event::Fail { to: end, closed: true });
                }
            }
            Event::Wake { host, life } => {
                let state = &mut self.hosts[host];
                if state.life == life
                    && let Some(speaker) = &mut state.speaker
                {
                    state.wake = None;
                    speaker.handle_timeout(self.now);
                    self.drain(host);
                }
            }
            Event::Written { .. } | Event::Fail { .. } => {}
        }
    }

    fn dial(&mut self, from: End, remote: SocketAddr) {
        if !self.is_alive(from) {
            return;
        }
        let target =
            (0..self.hosts.len()).find(|host| IpAddr::V4(address(*host)) == remote.ip()).expect("known");
        if self.is_cut(from.host, target) {
            // No answer; the dialler's own timer ends the attempt.
            return;
        }
        let local = SocketAddr::new(IpAddr::V4(address(from.host)), 40_000);
        let now = self.now;
        let accepted = match &mut self.hosts[target].speaker {
            Some(speaker) => speaker.accept(Endpoints { local: remote, remote: local }, now),
            None => {
                let failure = TransportFailure::Refused;
                self.input(from.host, Input::ConnectFailed { connection: from.connection, failure });
                return;
            }
        };
        let endpoints = Endpoints { local, remote };
        match accepted {
            Some(connection) => {
                let to = End { host: target, life: self.hosts[target].life, connection };
                let pipe =
                    Pipe { ends: [from, to], open: [true; 2], busy_until: [now; 2], black_hole: false };
                self.pipes.push(pipe);
                self.input(from.host, Input::Connected { connection: from.connection, endpoints });
                self.drain(target);
            }
            None => {
                self.input(from.host, Input::Connected { connection: from.connection, endpoints });
                let at = self.now + self.delay();
                self.schedule(at, Event::Fail { to: from, closed: true });
            }
        }
    }

    fn pipe_of(&self, host: usize, connection: ConnectionId) -> Option<(usize, usize)> {
        let end = End { host, life: self.hosts[host].life, connection };
        let found = self.pipes.iter().enumerate().rev().find_map(|(index, pipe)| {
            pipe.ends.iter().position(|other| *other == end).map(|side| (index, side))
        });
        found.filter(|(index, side)| self.pipes[*index].open[*side])
    }

    fn hang_up(&mut self, pipe: usize, side: usize) {
        self.pipes[pipe].open[side] = false;
        let to = 1 - side;
        let at = self.pipes[pipe].busy_until[to].max(self.now) + self.delay();
        self.schedule(at, Event::Hangup { pipe, to });
    }

    /// Carries out what a speaker wants.
    fn drain(&mut self, host: usize) {
        let now = self.now;
        while let Some(output) = self.hosts[host].speaker.as_mut().and_then(Speaker::poll_output) {
            self.output(host, output);
        }
        let state = &mut self.hosts[host];
        let wanted = state.speaker.as_ref().and_then(Speaker::poll_timeout);
        if let Some(at) = wanted.filter(|at| state.wake.is_none_or(|wake| *at < wake || wake < now)) {
            state.wake = Some(at);
            let life = state.life;
            self.schedule(at.max(now), Event::Wake { host, life });
        }
    }

    fn output(&mut self, host: usize, output: Output) {
        let life = self.hosts[host].life;
        match output {
            Output::Connect { connection, remote, .. } => {
                let at = self.now + self.delay();
                self.schedule(at, Event::Dial { from: End { host, life, connection }, remote });
            }
            Output::Send { connection, bytes } => {
                let Some((pipe, side)) = self.pipe_of(host, connection) else { return };
                // Cut anywhere, in order, never overtaking.
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(self.rng.usize(1..=rest.len()));
                    rest = after;
                    let at = self.pipes[pipe].busy_until[1 - side].max(self.now + self.delay());
                    self.pipes[pipe].busy_until[1 - side] = at;
                    self.schedule(at, Event::Deliver { pipe, to: 1 - side, bytes: piece.to_vec() });
                }
            }
            Output::Close { connection } => {
                if let Some((pipe, side)) = self.pipe_of(host, connection) {
                    self.hang_up(pipe, side);
                }
            }
            // These speakers do not ask how their next hops are reached.
            Output::WatchNextHop { .. } | Output::ForgetNextHop { .. } => {}
            Output::BestRoute { prefix, route } => {
                self.log(format!("host {host}: {prefix} via {:?}", route.as_ref().map(|r| &r.next_hops)));
                let elapsed = self.elapsed();
                let state = &mut self.hosts[host];
                match route {
                    Some(route) => {
                        state.named.insert(prefix);
                        state.kernel.insert(prefix, route);
                    }
                    None => {
                        if state.kernel.remove(&prefix).is_some() {
                            state.removed.push((elapsed, prefix));
                        }
                    }
                }
            }
            Output::RibComplete { family: Family::Ipv4Unicast } => {
                self.log(format!("host {host}: complete"));
                let elapsed = self.elapsed();
                let state = &mut self.hosts[host];
                let stale: Vec<IpNet> =
                    state.kernel.keys().filter(|prefix| !state.named.contains(*prefix)).copied().collect();
                for prefix in stale {
                    state.kernel.remove(&prefix);
                    state.removed.push((elapsed, prefix));
                }
            }
            Output::RibComplete { .. } | Output::PrefixWarning { .. } | Output::Station { .. } => {}
            Output::Session { peer, state, reason } => {
                let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
                self.log(format!("host {host}: {peer} is {state}{reason}"));
            }
        }
    }

    /// Whether all sessions between living, connected hosts are up.
    pub(crate) fn all_established(&self) -> bool {
        self.hosts.iter().filter_map(|host| host.speaker.as_ref()).all(|speaker| {
            speaker.status().iter().all(|peer| peer.state == bgp::session::SessionState::Established)
        })
    }

    /// Whether each kernel has exactly the routes that the other hosts originate, with the right next hops.
    pub(crate) fn is_converged(&self) -> bool {
        (0..self.hosts.len()).all(|host| self.hosts[host].speaker.is_none() || self.has_right_routes(host))
    }

    fn has_right_routes(&self, host: usize) -> bool {
        let own = &self.hosts[host].config.originated;
        let mut wanted: BTreeMap<IpNet, IpAddr> = BTreeMap::new();
        for (other, state) in self.hosts.iter().enumerate().filter(|(other, _)| *other != host) {
            for prefix in state.config.originated.keys().filter(|prefix| !own.contains_key(*prefix)) {
                // The lower address wins a tie.
                wanted.entry(*prefix).or_insert(IpAddr::V4(address(other)));
            }
        }
        let has: BTreeMap<IpNet, IpAddr> =
            self.hosts[host].kernel.iter().map(|(prefix, route)| (*prefix, route.next_hops[0])).collect();
        has == wanted
    }
}
