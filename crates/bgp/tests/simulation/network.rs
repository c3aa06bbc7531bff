//! The simulated world: speakers, and kernels that survive them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bgp::config::Origination;
use bgp::handover::Handover;
use bgp::{
    Asn, BestRoute, ConnectionId, Endpoints, Family, Input, Output, PeerConfig, PeerId, RouterId, Shutdown,
    Speaker, SpeakerConfig, Start, TransportFailure,
};
use ipnet::IpNet;
use testkit::simulation::{End, Happening, Simulation};

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

enum Event {
    Dial {
        from: End,
        remote: SocketAddr,
    },
    Written {
        to: End,
        bytes: usize,
    },
    /// The connection was taken and closed at once.
    Refused {
        to: End,
    },
    Wake {
        host: usize,
        life: u64,
    },
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    network: Simulation<Event, Vec<u8>>,
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
            network: Simulation::new(seed, 50..20_000),
            partitions: BTreeSet::new(),
            trace: Vec::new(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.network.elapsed()
    }

    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        self.network.rng()
    }

    fn log(&mut self, text: String) {
        self.trace.push(format!("{:?} {text}", self.elapsed()));
    }

    /// Starts the process of a host. With routes in its kernel it knows that it has lived before.
    pub(crate) fn boot(&mut self, host: usize) {
        let seed = self.rng().u64(..);
        let now = self.network.now();
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
        let (now, seed) = (self.network.now(), self.rng().u64(..));
        self.log(format!("host {host} is taken over"));
        let state = &mut self.hosts[host];
        let octets = state.speaker.as_ref().expect("it runs").hand_over(now).encode();
        let handover = Handover::decode(&octets).expect("just encoded");
        let (speaker, names) =
            Speaker::take_over(state.config.clone(), &handover, seed, now).expect("it fits together");
        state.speaker = Some(speaker);
        state.life += 1;
        let life = state.life;
        state.named.clear();
        state.wake = None;
        for end in self.network.ends_of(host) {
            match names.get(&ConnectionId(end.connection)) {
                Some(ConnectionId(connection)) => {
                    self.network.rename(end, End { host, life, connection: *connection });
                }
                None => self.network.hang_up(end),
            }
        }
        self.drain(host);
    }

    /// SIGKILL: the process is gone, its kernel closes the connections and keeps the routes.
    pub(crate) fn kill(&mut self, host: usize) {
        self.log(format!("host {host} is killed"));
        self.hosts[host].speaker = None;
        let ends = self.network.ends_of(host);
        ends.into_iter().for_each(|end| self.network.hang_up(end));
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
        self.network.lose(host);
    }

    /// Breaks every connection between two hosts; both see a reset.
    pub(crate) fn break_connections(&mut self, a: usize, b: usize) {
        self.log(format!("connections between {a} and {b} break"));
        self.network.break_between(a, b);
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
        let now = self.network.now();
        if let Some(speaker) = &mut self.hosts[host].speaker {
            speaker.handle_input(input, now);
            self.drain(host);
        }
    }

    /// Lets the world go on for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.network.now() + time;
        self.run_until(end, |_| false);
    }

    /// Lets the world go on until a condition holds; panics when it does not in time.
    pub(crate) fn await_condition(&mut self, limit: Duration, what: &str, holds: impl Fn(&World) -> bool) {
        let end = self.network.now() + limit;
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
            let partitions = &self.partitions;
            let reaches = |a: usize, b: usize| !is_cut(partitions, a, b);
            match self.network.next(end, reaches) {
                Some(happening) => self.handle(happening),
                None => return holds(self),
            }
        }
    }

    fn is_alive(&self, end: End) -> bool {
        self.hosts[end.host].life == end.life && self.hosts[end.host].speaker.is_some()
    }

    fn handle(&mut self, happening: Happening<Event, Vec<u8>>) {
        match happening {
            Happening::Event(event) => self.on_event(event),
            Happening::Delivered { from, to, message } => {
                if self.is_alive(to) {
                    let connection = ConnectionId(to.connection);
                    self.input(to.host, Input::Received { connection, bytes: &message });
                }
                let written = Event::Written { to: from, bytes: message.len() };
                self.network.schedule(self.network.now(), written);
            }
            Happening::Closed { to, reset } => self.closed(to, reset),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Dial { from, remote } => self.dial(from, remote),
            Event::Written { to, bytes } if self.is_alive(to) => {
                let connection = ConnectionId(to.connection);
                self.input(to.host, Input::Written { connection, bytes });
            }
            Event::Refused { to } => self.closed(to, false),
            Event::Wake { host, life } => {
                let state = &mut self.hosts[host];
                if state.life == life
                    && let Some(speaker) = &mut state.speaker
                {
                    state.wake = None;
                    speaker.handle_timeout(self.network.now());
                    self.drain(host);
                }
            }
            Event::Written { .. } => {}
        }
    }

    fn closed(&mut self, to: End, reset: bool) {
        if self.is_alive(to) {
            let failure = if reset { TransportFailure::Reset } else { TransportFailure::ClosedByPeer };
            self.input(to.host, Input::Closed { connection: ConnectionId(to.connection), failure });
        }
    }

    fn dial(&mut self, from: End, remote: SocketAddr) {
        if !self.is_alive(from) {
            return;
        }
        let target =
            (0..self.hosts.len()).find(|host| IpAddr::V4(address(*host)) == remote.ip()).expect("known");
        if is_cut(&self.partitions, from.host, target) {
            // No answer; the dialler's own timer ends the attempt.
            return;
        }
        let local = SocketAddr::new(IpAddr::V4(address(from.host)), 40_000);
        let now = self.network.now();
        let connection = ConnectionId(from.connection);
        let accepted = match &mut self.hosts[target].speaker {
            Some(speaker) => speaker.accept(Endpoints { local: remote, remote: local }, now),
            None => {
                let failure = TransportFailure::Refused;
                self.input(from.host, Input::ConnectFailed { connection, failure });
                return;
            }
        };
        let endpoints = Endpoints { local, remote };
        match accepted {
            Some(ConnectionId(accepted)) => {
                let to = End { host: target, life: self.hosts[target].life, connection: accepted };
                self.network.connect(from, to);
                self.input(from.host, Input::Connected { connection, endpoints });
                self.drain(target);
            }
            None => {
                self.input(from.host, Input::Connected { connection, endpoints });
                let at = self.network.now() + self.network.delay();
                self.network.schedule(at, Event::Refused { to: from });
            }
        }
    }

    /// Carries out what a speaker wants.
    fn drain(&mut self, host: usize) {
        let now = self.network.now();
        while let Some(output) = self.hosts[host].speaker.as_mut().and_then(Speaker::poll_output) {
            self.output(host, output);
        }
        let state = &mut self.hosts[host];
        let wanted = state.speaker.as_ref().and_then(Speaker::poll_timeout);
        if let Some(at) = wanted.filter(|at| state.wake.is_none_or(|wake| *at < wake || wake < now)) {
            state.wake = Some(at);
            let life = state.life;
            self.network.schedule(at.max(now), Event::Wake { host, life });
        }
    }

    fn output(&mut self, host: usize, output: Output) {
        let life = self.hosts[host].life;
        let end = |ConnectionId(connection)| End { host, life, connection };
        match output {
            Output::Connect { connection, remote, .. } => {
                let at = self.network.now() + self.network.delay();
                self.network.schedule(at, Event::Dial { from: end(connection), remote });
            }
            Output::Send { connection, bytes } => {
                // Cut anywhere, in order, never overtaking.
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(self.network.rng().usize(1..=rest.len()));
                    rest = after;
                    self.network.send(end(connection), piece.to_vec());
                }
            }
            Output::Close { connection } => self.network.hang_up(end(connection)),
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

fn is_cut(partitions: &BTreeSet<(usize, usize)>, a: usize, b: usize) -> bool {
    partitions.contains(&(a.min(b), a.max(b)))
}
