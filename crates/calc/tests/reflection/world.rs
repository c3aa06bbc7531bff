//! Hosts that plan and speak, under a virtual clock: each has a planner, a speaker, and a kernel that survives both. Rows
//! reach them late, each at its own time; connections delay, break, and get lost in partitions. All of it follows from a
//! seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{AffinityOwner, Key, Kind, Row};
use bgp::config::Secret;
use bgp::session::SessionState;
use bgp::{
    ConnectionId, Endpoints, Family, Input, Output, Resolution, Shutdown, Speaker, SpeakerConfig, Start,
    TransportFailure,
};
use calc::bgp_plan::{BgpPlan, BgpPlanner, PasswordRef, Passwords, RouterIdSource, SessionWatch};
use ipnet::IpNet;
use serde_json::{Value, json};

/// How often a host looks at its sessions. The node does so every 100 ms.
const LOOK: Duration = Duration::from_secs(1);

/// So long after a partition its sides may still lose routes to each other: the longest wait before a session is tried again,
/// and some.
const MENDING: Duration = Duration::from_secs(60);

struct NoPasswords;

impl Passwords for NoPasswords {
    fn password(&self, _: &PasswordRef) -> Result<Option<Secret>, String> {
        Ok(None)
    }
}

pub(crate) struct Host {
    pub(crate) number: usize,
    zone: usize,
    planner: BgpPlanner,
    watch: SessionWatch,
    pub(crate) plan: Option<BgpPlan>,
    config: Option<SpeakerConfig>,
    pub(crate) speaker: Option<Speaker>,
    /// Its process runs.
    alive: bool,
    /// It forwards, whether its process runs or not.
    powered: bool,
    /// Since when.
    powered_since: Instant,
    /// Connections and events of earlier lives are dead.
    life: u64,
    kernel: BTreeSet<IpNet>,
    /// What the current speaker has said of the kernel's routes.
    named: BTreeSet<IpNet>,
    wake: Option<Instant>,
    /// No row arrives before this, so that they come in order.
    rows_until: Instant,
    /// The row of this host is in the datastore.
    registered: bool,
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
    busy_until: [Instant; 2],
    /// A partition swallowed something: what follows is lost, too.
    black_hole: bool,
}

enum Event {
    Row { host: usize, life: u64, key: Key, row: Option<Arc<Row>> },
    Dial { from: End, remote: SocketAddr },
    Deliver { pipe: usize, to: usize, bytes: Arc<[u8]> },
    Hangup { pipe: usize, to: usize },
    Refused { to: End },
    Wake { host: usize, life: u64 },
    Look { host: usize, life: u64 },
    Stop { host: usize, life: u64 },
}

/// A moment at which a host lost a route although a path was alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) at: Duration,
    pub(crate) host: usize,
    pub(crate) prefix: IpNet,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) established: u64,
    pub(crate) ended: u64,
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    pipes: Vec<Pipe>,
    pipe_of: BTreeMap<End, (usize, usize)>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    serial: u64,
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: fastrand::Rng,
    /// Zones that are cut off from the others.
    cut: BTreeSet<usize>,
    /// When that changed last.
    recut_at: Option<Instant>,
    rows: BTreeMap<Key, Arc<Row>>,
    zones: usize,
    pub(crate) losses: Vec<Loss>,
    pub(crate) counts: Counts,
    /// The last moment at which a kernel changed.
    pub(crate) last_change: Instant,
}

pub(crate) fn address(host: usize) -> Ipv4Addr {
    let [_, _, high, low] = u32::try_from(host + 1).expect("few hosts").to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

fn host_of(address: IpAddr) -> usize {
    let IpAddr::V4(address) = address else { unreachable!("IPv4 only") };
    let [_, _, high, low] = address.octets();
    usize::from(high) * 256 + usize::from(low) - 1
}

pub(crate) fn block(host: usize) -> IpNet {
    let [_, _, high, low] = u32::try_from(host).expect("few hosts").to_be_bytes();
    let address = Ipv4Addr::new(172, 16 + high, low, 0);
    IpNet::new(address.into(), 26).expect("26 fits")
}

fn owner_of(block: &IpNet) -> usize {
    let IpAddr::V4(address) = block.addr() else { unreachable!("IPv4 only") };
    usize::from(address.octets()[1] - 16) * 256 + usize::from(address.octets()[2])
}

pub(crate) fn name(host: usize) -> String {
    format!("node-{host:04}")
}

fn row(key: &Key, document: &Value) -> Arc<Row> {
    Arc::new(Row::decode(key, &document.to_string()).expect("a row"))
}

fn node_key(host: usize) -> Key {
    Key::cluster(Kind::Node, name(host))
}

impl World {
    pub(crate) fn new(seed: u64, zones: usize, reflection: &Value) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to begin somewhere; only differences count"
        )]
        let start = Instant::now();
        let mut world = Self {
            hosts: Vec::new(),
            pipes: Vec::new(),
            pipe_of: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            serial: 0,
            start,
            now: start,
            rng: fastrand::Rng::with_seed(seed),
            cut: BTreeSet::new(),
            recut_at: None,
            rows: BTreeMap::new(),
            zones,
            losses: Vec::new(),
            counts: Counts::default(),
            last_change: start,
        };
        let key = Key::cluster(Kind::IPPool, "pool");
        let pool = json!({"metadata": {"name": "pool"}, "spec": {"cidr": "172.16.0.0/12"}});
        world.rows.insert(key.clone(), row(&key, &pool));
        let key = Key::cluster(Kind::BGPConfiguration, "default");
        let spec = json!({"routeReflection": reflection});
        let configuration = json!({"metadata": {"name": "default"}, "spec": spec});
        world.rows.insert(key.clone(), row(&key, &configuration));
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at, self.serial)));
        self.events.insert(self.serial, event);
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(50..5_000))
    }

    /// A new host, which is put into the datastore and boots.
    pub(crate) fn join(&mut self) -> usize {
        let number = self.add();
        self.boot(number);
        number
    }

    /// A new host, which is put into the datastore.
    pub(crate) fn add(&mut self) -> usize {
        let number = self.hosts.len();
        self.hosts.push(Host {
            number,
            zone: number % self.zones,
            planner: BgpPlanner::new(name(number), RouterIdSource::NodeAddress),
            watch: SessionWatch::default(),
            plan: None,
            config: None,
            speaker: None,
            alive: false,
            powered: false,
            powered_since: self.now,
            life: 0,
            kernel: BTreeSet::new(),
            named: BTreeSet::new(),
            wake: None,
            rows_until: self.now,
            registered: false,
        });
        self.register(number);
        number
    }

    fn register(&mut self, host: usize) {
        self.hosts[host].registered = true;
        let labels = json!({
            "topology.kubernetes.io/zone": format!("zone-{}", self.hosts[host].zone),
            "rack": format!("rack-{}", host / self.zones / 8),
        });
        let spec = json!({"bgp": {"ipv4Address": format!("{}/16", address(host))}});
        let node = json!({"metadata": {"name": name(host), "labels": labels}, "spec": spec});
        self.write(&node_key(host), Some(&node));
        let affinity = Key::BlockAffinity { owner: AffinityOwner::Host(name(host)), cidr: block(host) };
        self.write(&affinity, Some(&json!({"state": "confirmed"})));
    }

    /// Takes a host that is dead, or about to die, out of the datastore.
    pub(crate) fn unregister(&mut self, host: usize) {
        self.hosts[host].registered = false;
        self.write(&node_key(host), None);
    }

    /// Writes a row; everyone learns of it in his own time.
    fn write(&mut self, key: &Key, document: Option<&Value>) {
        let row = document.map(|document| row(key, document));
        match row.clone() {
            Some(row) => self.rows.insert(key.clone(), row),
            None => self.rows.remove(key),
        };
        for host in 0..self.hosts.len() {
            if self.hosts[host].alive {
                let delay = Duration::from_micros(self.rng.u64(1_000..2_000_000));
                let at = self.hosts[host].rows_until.max(self.now + delay);
                self.hosts[host].rows_until = at;
                let life = self.hosts[host].life;
                self.schedule(at, Event::Row { host, life, key: key.clone(), row: row.clone() });
            }
        }
    }

    /// Starts the process of a host, which reads all rows.
    pub(crate) fn boot(&mut self, host: usize) {
        let rows: Vec<_> = self.rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        let now = self.now;
        let state = &mut self.hosts[host];
        if !std::mem::replace(&mut state.powered, true) {
            state.powered_since = now;
        }
        state.alive = true;
        state.life += 1;
        state.named.clear();
        state.planner = BgpPlanner::new(name(host), RouterIdSource::NodeAddress);
        state.watch = SessionWatch::default();
        (state.plan, state.config, state.wake, state.rows_until) = (None, None, None, now);
        rows.into_iter().for_each(|(key, row)| state.planner.on_update(&key, Some(row)));
        let life = state.life;
        let first = Duration::from_millis(self.rng.u64(0..1_000));
        self.schedule(now + first, Event::Look { host, life });
        self.plan(host);
    }

    /// The process dies; its kernel closes the connections and keeps the routes.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].speaker = None;
        self.hosts[host].alive = false;
        let ends: Vec<_> = self.ends_of(host);
        ends.into_iter().for_each(|(_, (pipe, side))| self.hang_up(pipe, side));
    }

    /// The host loses power: nobody closes anything, and its routes are gone.
    pub(crate) fn power_off(&mut self, host: usize) {
        self.hosts[host].speaker = None;
        (self.hosts[host].alive, self.hosts[host].powered) = (false, false);
        self.hosts[host].kernel.clear();
        for (end, (pipe, _)) in self.ends_of(host) {
            self.pipes[pipe].black_hole = true;
            self.pipe_of.remove(&end);
        }
    }

    /// A host is taken out of the datastore, and stops a minute later.
    pub(crate) fn leave(&mut self, host: usize) {
        self.unregister(host);
        let life = self.hosts[host].life;
        self.schedule(self.now + Duration::from_secs(60), Event::Stop { host, life });
    }

    /// A clean stop for good: peers are told.
    fn stop(&mut self, host: usize) {
        self.input(host, Input::Shutdown(Shutdown::Stopping { message: "gone".to_owned() }));
        self.hosts[host].speaker = None;
        (self.hosts[host].alive, self.hosts[host].powered) = (false, false);
    }

    fn ends_of(&self, host: usize) -> Vec<(End, (usize, usize))> {
        let from = End { host, life: 0, connection: ConnectionId(0) };
        let to = End { host: host + 1, ..from };
        self.pipe_of.range(from..to).map(|(end, at)| (*end, *at)).collect()
    }

    /// A zone is cut off from the others, or joined again.
    pub(crate) fn cut(&mut self, zone: usize, is_cut: bool) {
        if is_cut {
            self.cut.insert(zone)
        } else {
            self.cut.remove(&zone)
        };
        self.recut_at = Some(self.now);
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.hosts[a].zone, self.hosts[b].zone);
        a != b && (self.cut.contains(&a) || self.cut.contains(&b))
    }

    /// Whether packets get from one host to a live other.
    pub(crate) fn has_path(&self, from: usize, to: usize) -> bool {
        self.hosts[to].powered && self.hosts[to].registered && !self.is_cut(from, to)
    }

    /// A path that has just come back does not count: sessions need their time, too.
    fn has_long_had_path(&self, from: usize, to: usize) -> bool {
        let is_new = self.recut_at.is_some_and(|at| self.now - at < MENDING);
        let just_up = self.now - self.hosts[to].powered_since < MENDING;
        self.has_path(from, to) && !just_up && !(is_new && self.zone(from) != self.zone(to))
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, _))) = self.queue.peek().filter(|Reverse((at, _))| *at <= end) {
            self.now = self.now.max(*at);
            let Some(Reverse((_, serial))) = self.queue.pop() else { break };
            let event = self.events.remove(&serial).expect("scheduled");
            self.handle(event);
        }
        self.now = end;
    }

    /// Runs until a condition holds, which is looked at every second; gives how long that took, or nothing when it took
    /// too long.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begun = self.now;
        while !holds(self) {
            if self.now - begun > limit {
                return None;
            }
            self.run(LOOK);
        }
        Some(self.now - begun)
    }

    fn is_current(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].alive
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Row { host, life, key, row } if self.is_current(host, life) => {
                self.hosts[host].planner.on_update(&key, row);
                self.plan(host);
            }
            Event::Look { host, life } if self.is_current(host, life) => {
                self.look(host);
                self.schedule(self.now + LOOK, Event::Look { host, life });
            }
            Event::Wake { host, life } if self.is_current(host, life) => {
                let now = self.now;
                self.hosts[host].wake = None;
                if let Some(speaker) = &mut self.hosts[host].speaker {
                    speaker.handle_timeout(now);
                }
                self.drain(host);
            }
            Event::Dial { from, remote } if self.is_current(from.host, from.life) => self.dial(from, remote),
            Event::Refused { to } if self.is_current(to.host, to.life) => {
                let failure = TransportFailure::Refused;
                self.input(to.host, Input::ConnectFailed { connection: to.connection, failure });
            }
            Event::Stop { host, life } if self.is_current(host, life) => self.stop(host),
            Event::Deliver { pipe, to, bytes } => self.deliver(pipe, to, &bytes),
            Event::Hangup { pipe, to } => self.closed(pipe, to),
            _ => {}
        }
    }

    /// What the shell does with a plan.
    fn plan(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let now = self.now;
        let state = &mut self.hosts[host];
        let Some(plan) = state.planner.flush() else { return };
        let (config, _) = plan.speaker_config(&NoPasswords);
        state.plan = Some(plan);
        let Some(config) = config.filter(|config| state.config.as_ref() != Some(config)) else { return };
        state.config = Some(config.clone());
        match &mut state.speaker {
            Some(speaker) => speaker.handle_input(Input::Configure(config), now),
            None => {
                let start = if state.kernel.is_empty() { Start::Fresh } else { Start::Restarting };
                state.speaker = Some(Speaker::new(config, start, seed, now));
            }
        }
        self.drain(host);
    }

    fn look(&mut self, host: usize) {
        let now = self.now;
        let state = &mut self.hosts[host];
        let (Some(plan), Some(speaker)) = (&state.plan, &state.speaker) else { return };
        if let Some(news) = state.watch.look(plan, &speaker.status(), now) {
            state.planner.on_sessions(news);
            self.plan(host);
        }
    }

    fn input(&mut self, host: usize, input: Input<'_>) {
        let now = self.now;
        if let Some(speaker) = &mut self.hosts[host].speaker {
            speaker.handle_input(input, now);
            self.drain(host);
        }
    }

    fn dial(&mut self, from: End, remote: SocketAddr) {
        let target = host_of(remote.ip());
        if self.is_cut(from.host, target) || !self.hosts[target].alive && !self.hosts[target].registered {
            // No answer; the dialler's own timer ends the attempt.
            return;
        }
        let now = self.now;
        let local = SocketAddr::new(address(from.host).into(), 40_000);
        let accepted = match &mut self.hosts[target].speaker {
            Some(speaker) => speaker.accept(Endpoints { local: remote, remote: local }, now),
            None => None,
        };
        let Some(connection) = accepted else {
            return self.schedule(now, Event::Refused { to: from });
        };
        let to = End { host: target, life: self.hosts[target].life, connection };
        let pipe = self.pipes.len();
        self.pipes.push(Pipe { ends: [from, to], open: [true; 2], busy_until: [now; 2], black_hole: false });
        self.pipe_of.insert(from, (pipe, 0));
        self.pipe_of.insert(to, (pipe, 1));
        let endpoints = Endpoints { local, remote };
        self.input(from.host, Input::Connected { connection: from.connection, endpoints });
        self.drain(target);
    }

    fn deliver(&mut self, pipe: usize, to: usize, bytes: &[u8]) {
        let (end, other) = (self.pipes[pipe].ends[to], self.pipes[pipe].ends[1 - to]);
        if self.pipes[pipe].black_hole || self.is_cut(end.host, other.host) {
            self.pipes[pipe].black_hole = true;
            return;
        }
        if self.pipes[pipe].open[to] && self.is_current(end.host, end.life) {
            self.input(end.host, Input::Received { connection: end.connection, bytes });
        }
    }

    fn closed(&mut self, pipe: usize, to: usize) {
        let (end, other) = (self.pipes[pipe].ends[to], self.pipes[pipe].ends[1 - to]);
        if self.pipes[pipe].black_hole || self.is_cut(end.host, other.host) {
            return;
        }
        if std::mem::take(&mut self.pipes[pipe].open[to]) {
            self.pipe_of.remove(&end);
            if self.is_current(end.host, end.life) {
                let failure = TransportFailure::ClosedByPeer;
                self.input(end.host, Input::Closed { connection: end.connection, failure });
            }
        }
    }

    fn hang_up(&mut self, pipe: usize, side: usize) {
        self.pipes[pipe].open[side] = false;
        self.pipe_of.remove(&self.pipes[pipe].ends[side]);
        let to = 1 - side;
        let at = self.pipes[pipe].busy_until[to].max(self.now) + self.delay();
        self.schedule(at, Event::Hangup { pipe, to });
    }

    /// Carries out what a speaker wants.
    fn drain(&mut self, host: usize) {
        let life = self.hosts[host].life;
        while let Some(output) = self.hosts[host].speaker.as_mut().and_then(Speaker::poll_output) {
            self.output(host, life, output);
        }
        let state = &mut self.hosts[host];
        let due = state.speaker.as_ref().and_then(Speaker::poll_timeout);
        if let Some(due) = due.filter(|due| state.wake.is_none_or(|wake| *due < wake)) {
            state.wake = Some(due);
            self.schedule(due.max(self.now), Event::Wake { host, life });
        }
    }

    fn output(&mut self, host: usize, life: u64, output: Output) {
        match output {
            Output::Connect { connection, remote, .. } => {
                let at = self.now + self.delay();
                self.schedule(at, Event::Dial { from: End { host, life, connection }, remote });
            }
            Output::Send { connection, bytes } => {
                let Some((pipe, side)) = self.pipe_of.get(&End { host, life, connection }).copied() else {
                    return;
                };
                let to = 1 - side;
                let at = self.pipes[pipe].busy_until[to].max(self.now + self.delay());
                self.pipes[pipe].busy_until[to] = at;
                let written = bytes.len();
                self.schedule(at, Event::Deliver { pipe, to, bytes });
                let now = self.now;
                if let Some(speaker) = &mut self.hosts[host].speaker {
                    speaker.handle_input(Input::Written { connection, bytes: written }, now);
                }
            }
            Output::Close { connection } => {
                if let Some((pipe, side)) = self.pipe_of.get(&End { host, life, connection }).copied() {
                    self.hang_up(pipe, side);
                }
            }
            // All hosts are on one wire.
            Output::WatchNextHop { address } => {
                let resolution = Some(Resolution { cost: 0, gateways: vec![address] });
                let now = self.now;
                if let Some(speaker) = &mut self.hosts[host].speaker {
                    speaker.handle_input(Input::NextHop { address, resolution }, now);
                }
            }
            Output::BestRoute { prefix, route } => self.route(host, prefix, route.is_some()),
            Output::RibComplete { family: Family::Ipv4Unicast } => {
                let state = &self.hosts[host];
                let stale: Vec<IpNet> = state.kernel.difference(&state.named).copied().collect();
                stale.into_iter().for_each(|prefix| self.route(host, prefix, false));
            }
            Output::Session { state: SessionState::Established, .. } => self.counts.established += 1,
            Output::Session { state: SessionState::Idle | SessionState::Active, .. } => {
                self.counts.ended += 1
            }
            _ => {}
        }
    }

    fn route(&mut self, host: usize, prefix: IpNet, is_there: bool) {
        let state = &mut self.hosts[host];
        let changed = match is_there {
            true => {
                state.named.insert(prefix);
                state.kernel.insert(prefix)
            }
            false => state.kernel.remove(&prefix),
        };
        if !changed {
            return;
        }
        self.last_change = self.now;
        let owner = owner_of(&prefix);
        // Who is on his way out is no longer told everything.
        let counts = self.hosts[host].registered && owner != host;
        if !is_there && counts && self.has_long_had_path(host, owner) {
            self.losses.push(Loss { at: self.elapsed(), host, prefix });
        }
    }

    /// Whether every live host has a route to every block that it has a path to, and to no other.
    pub(crate) fn is_converged(&self) -> bool {
        let wanted = |from: &Host| -> BTreeSet<IpNet> {
            let others = self.hosts.iter().filter(|to| to.number != from.number);
            others.filter(|to| self.has_path(from.number, to.number)).map(|to| block(to.number)).collect()
        };
        let live = self.hosts.iter().filter(|host| host.alive && host.registered);
        live.into_iter().all(|host| host.kernel == wanted(host))
    }

    /// How many sessions are up, and the most that one host has.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        let up = self.hosts.iter().filter_map(|host| host.speaker.as_ref()).map(|speaker| {
            speaker.status().iter().filter(|peer| peer.state == SessionState::Established).count()
        });
        let up: Vec<usize> = up.collect();
        (up.iter().sum::<usize>() / 2, up.into_iter().max().unwrap_or_default())
    }

    /// Whether no host keeps a session that is not wanted.
    pub(crate) fn is_settled(&self) -> bool {
        let live = self.hosts.iter().filter(|host| host.alive);
        live.filter_map(|host| host.plan.as_ref()).all(|plan| {
            let Some(reflection) = &plan.reflection else { return false };
            plan.peers.iter().all(|peer| reflection.wanted.get(&peer.address) == Some(&peer.reflector_client))
        })
    }

    /// The hosts that live, and reflect or not.
    pub(crate) fn live(&self, reflects: bool) -> Vec<usize> {
        let live = self.hosts.iter().filter(|host| host.alive && host.registered);
        let is = |host: &Host| {
            let plan = host.plan.as_ref().and_then(|plan| plan.reflection.as_ref());
            plan.is_some_and(|plan| plan.role == calc::bgp_plan::ReflectionRole::Reflector)
        };
        live.filter(|host| is(host) == reflects).map(|host| host.number).collect()
    }

    /// The zone of a host.
    pub(crate) fn zone(&self, host: usize) -> usize {
        self.hosts[host].zone
    }
}
