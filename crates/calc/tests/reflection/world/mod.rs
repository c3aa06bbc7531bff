//! Hosts that plan and speak, under a virtual clock: each has a process, and a kernel that survives it. Rows reach them
//! late, each at its own time; connections delay, break, and get lost in partitions. All of it follows from a seed.
//!
//! A process is [`Whole`], a planner and a speaker, or in worlds that are too large for that [`Light`]: then only those that
//! may reflect are whole.

mod bits;
mod check;
mod light;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{AffinityOwner, Key, Kind, Row};
use bgp::session::SessionState;
use bgp::{ConnectionId, Endpoints, Input, Shutdown, Start, TransportFailure};
use calc::reflection::{Member, Organisation, Settings};
use ipnet::IpNet;
use serde_json::{Value, json};
use testkit::simulation::{End, Happening, Simulation};

use bits::Bits;
pub(crate) use check::{Counts, Loss};
use light::Light;
use whole::Whole;

/// How often a host looks at its sessions. The node does so every 100 ms.
const LOOK: Duration = Duration::from_secs(1);
/// A host deals with what has come in after so many microseconds, all of it at once.
const ROUND: std::ops::Range<u64> = 20..1_000;
/// Microseconds from host to host.
const DELAY: std::ops::Range<u64> = 50..5_000;
/// How long a host that has been deleted goes on.
const LEAVING: Duration = Duration::from_secs(60);
const RACK: usize = 8;

/// What one host sends another at a time; parts may be shared with others.
type Message = Vec<Arc<[u8]>>;

/// What a process wants done.
enum Act {
    Dial {
        connection: ConnectionId,
        remote: Ipv4Addr,
    },
    Send {
        connection: ConnectionId,
        message: Message,
    },
    Close {
        connection: ConnectionId,
    },
    Route {
        owner: usize,
        is_there: bool,
    },
    /// Routes of an earlier life that have not been named again go.
    Sweep,
    Session(SessionState),
}

enum Process {
    Whole(Box<Whole>),
    Light(Box<Light>),
}

struct Host {
    zone: usize,
    is_whole: bool,
    process: Option<Process>,
    /// It forwards, whether its process runs or not.
    powered: bool,
    /// Since when.
    powered_since: Instant,
    /// Connections and events of earlier lives are dead.
    life: u64,
    /// To whose blocks its kernel has routes.
    kernel: Bits,
    /// Of which the current process has said something.
    named: Bits,
    wake: Option<Instant>,
    /// Something has come in that is not dealt with.
    is_busy: bool,
    /// No row arrives before this, so that they come in order.
    rows_until: Instant,
    /// The row of this host is in the datastore.
    registered: bool,
}

enum Event {
    Row { host: usize, life: u64, number: usize },
    Dial { from: End, remote: Ipv4Addr },
    Refused { to: End },
    Wake { host: usize, life: u64 },
    Look { host: usize, life: u64 },
    Work { host: usize, life: u64 },
    Stop { host: usize, life: u64 },
}

/// A change of a row, and who reflects from then on.
struct Change {
    key: Key,
    row: Option<Arc<Row>>,
    organisation: Option<Rc<Organisation>>,
}

/// What a cluster is like.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) zones: usize,
    pub(crate) mesh_limit: usize,
    /// Only every so-manyth host is whole and may reflect; `None`: all are, and may.
    pub(crate) whole_every: Option<usize>,
}

pub(crate) struct World {
    shape: Shape,
    hosts: Vec<Host>,
    network: Simulation<Event, Message>,
    /// Zones that are cut off from the others.
    cut: BTreeSet<usize>,
    /// When that changed last.
    recut_at: Option<Instant>,
    rows: BTreeMap<Key, Arc<Row>>,
    changes: Vec<Change>,
    /// The nodes, for those that are only modelled.
    members: BTreeMap<String, Member>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) counts: Counts,
}

fn address(host: usize) -> Ipv4Addr {
    let [_, _, high, low] = u32::try_from(host + 1).expect("few hosts").to_be_bytes();
    Ipv4Addr::new(10, 0, high, low)
}

fn host_of(address: Ipv4Addr) -> usize {
    let [_, _, high, low] = address.octets();
    usize::from(high) * 256 + usize::from(low) - 1
}

fn block(host: usize) -> IpNet {
    let [_, _, high, low] = u32::try_from(host).expect("few hosts").to_be_bytes();
    let address = Ipv4Addr::new(10, 128 + high, low, 0);
    IpNet::new(address.into(), 26).expect("26 fits")
}

fn owner_of(block: &IpNet) -> usize {
    let IpAddr::V4(address) = block.addr() else { unreachable!("IPv4 only") };
    usize::from(address.octets()[1] - 128) * 256 + usize::from(address.octets()[2])
}

pub(crate) fn name(host: usize) -> String {
    format!("node-{host:04}")
}

fn host_of_name(name: &str) -> usize {
    name.trim_start_matches("node-").parse().expect("a name of ours")
}

/// The failure domains of a host: zone, rack.
pub(crate) fn domains(host: usize, zones: usize) -> Vec<String> {
    vec![format!("zone-{}", host % zones), format!("rack-{}", host / zones / RACK)]
}

fn row(key: &Key, document: &Value) -> Arc<Row> {
    Arc::new(Row::decode(key, &document.to_string()).expect("a row"))
}

impl World {
    pub(crate) fn new(seed: u64, shape: Shape) -> Self {
        let mut world = Self {
            shape,
            hosts: Vec::new(),
            network: Simulation::new(seed, DELAY),
            cut: BTreeSet::new(),
            recut_at: None,
            rows: BTreeMap::new(),
            changes: Vec::new(),
            members: BTreeMap::new(),
            losses: Vec::new(),
            counts: Counts::default(),
        };
        let mut reflection = json!({"meshLimit": world.shape.mesh_limit});
        if world.shape.whole_every.is_some() {
            reflection["nodeSelector"] = json!("reflector == 'yes'");
        }
        let configuration = json!({"routeReflection": reflection});
        for (kind, name, spec) in [
            (Kind::IPPool, "pool", json!({"cidr": "10.128.0.0/9"})),
            (Kind::BGPConfiguration, "default", configuration),
        ] {
            let key = Key::cluster(kind, name);
            let row = row(&key, &json!({"metadata": {"name": name}, "spec": spec}));
            world.rows.insert(key, row);
        }
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.network.elapsed()
    }

    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        self.network.rng()
    }

    fn now(&self) -> Instant {
        self.network.now()
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
        let now = self.now();
        self.hosts.push(Host {
            zone: number % self.shape.zones,
            is_whole: self.shape.whole_every.is_none_or(|every| number.is_multiple_of(every)),
            process: None,
            powered: false,
            powered_since: now,
            life: 0,
            kernel: Bits::default(),
            named: Bits::default(),
            wake: None,
            is_busy: false,
            rows_until: now,
            registered: false,
        });
        self.register(number);
        number
    }

    fn register(&mut self, host: usize) {
        let is_whole = self.hosts[host].is_whole;
        let domains = domains(host, self.shape.zones);
        let mut labels = json!({"topology.kubernetes.io/zone": domains[0], "rack": domains[1]});
        if is_whole && self.shape.whole_every.is_some() {
            labels["reflector"] = json!("yes");
        }
        let spec = json!({"bgp": {"ipv4Address": format!("{}/16", address(host))}});
        let node = json!({"metadata": {"name": name(host), "labels": labels}, "spec": spec});
        self.hosts[host].registered = true;
        self.members.insert(name(host), Member { domains, may_reflect: is_whole });
        self.write(Key::cluster(Kind::Node, name(host)), Some(&node));
        let affinity = Key::BlockAffinity { owner: AffinityOwner::Host(name(host)), cidr: block(host) };
        self.write(affinity, Some(&json!({"state": "confirmed"})));
    }

    /// Takes a host that is dead, or about to die, out of the datastore.
    fn unregister(&mut self, host: usize) {
        self.hosts[host].registered = false;
        self.members.remove(&name(host));
        self.write(Key::cluster(Kind::Node, name(host)), None);
    }

    /// Writes a row; everyone learns of it in his own time.
    fn write(&mut self, key: Key, document: Option<&Value>) {
        let row = document.map(|document| row(&key, document));
        match row.clone() {
            Some(row) => self.rows.insert(key.clone(), row),
            None => self.rows.remove(&key),
        };
        let living: Vec<usize> = (0..self.hosts.len()).filter(|host| self.is_alive(*host)).collect();
        if living.is_empty() {
            return;
        }
        let organisation = self.organisation();
        let number = self.changes.len();
        self.changes.push(Change { key, row, organisation });
        for host in living {
            let delay = Duration::from_micros(self.rng().u64(1_000..2_000_000));
            let at = self.hosts[host].rows_until.max(self.now() + delay);
            self.hosts[host].rows_until = at;
            let life = self.hosts[host].life;
            self.network.schedule(at, Event::Row { host, life, number });
        }
    }

    /// Who reflects, for those that are only modelled.
    fn organisation(&self) -> Option<Rc<Organisation>> {
        self.shape.whole_every?;
        let settings = Settings { mesh_limit: self.shape.mesh_limit, ..Settings::default() };
        Some(Rc::new(Organisation::of(&self.members, &settings).expect("beyond a mesh")))
    }

    /// Starts the processes of hosts, which read all rows.
    pub(crate) fn boot_all(&mut self) {
        let organisation = self.organisation();
        (0..self.hosts.len()).for_each(|host| self.boot_with(host, organisation.clone()));
    }

    /// Starts the process of a host, which reads all rows.
    pub(crate) fn boot(&mut self, host: usize) {
        let organisation = self.organisation();
        self.boot_with(host, organisation);
    }

    fn boot_with(&mut self, host: usize, organisation: Option<Rc<Organisation>>) {
        let now = self.now();
        let seed = self.rng().u64(..);
        let first_look = Duration::from_millis(self.rng().u64(0..1_000));
        let state = &mut self.hosts[host];
        if !std::mem::replace(&mut state.powered, true) {
            state.powered_since = now;
        }
        state.life += 1;
        state.named.clear();
        (state.wake, state.is_busy, state.rows_until) = (None, false, now);
        let start = if state.kernel.is_empty() { Start::Fresh } else { Start::Restarting };
        state.process = Some(match organisation.filter(|_| !state.is_whole) {
            None => Process::Whole(Box::new(Whole::new(host, &self.rows, start, seed, now))),
            Some(organisation) => {
                assert_eq!(start, Start::Fresh, "a modelled client cannot be restarted over its routes");
                Process::Light(Box::new(Light::new(host, organisation, seed, now)))
            }
        });
        let life = state.life;
        self.network.schedule(now + first_look, Event::Look { host, life });
        self.touch(host);
    }

    /// The process dies; its kernel closes the connections and keeps the routes.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].process = None;
        let ends = self.network.ends_of(host);
        ends.into_iter().for_each(|end| self.network.hang_up(end));
    }

    /// The host loses power: nobody closes anything, and its routes are gone.
    pub(crate) fn power_off(&mut self, host: usize) {
        self.hosts[host].process = None;
        self.hosts[host].powered = false;
        self.hosts[host].kernel.clear();
        self.network.lose(host);
    }

    /// A host is taken out of the datastore, and stops a minute later.
    pub(crate) fn leave(&mut self, host: usize) {
        self.unregister(host);
        let life = self.hosts[host].life;
        self.network.schedule(self.now() + LEAVING, Event::Stop { host, life });
    }

    /// A clean stop for good: peers are told.
    fn stop(&mut self, host: usize) {
        self.input(host, Input::Shutdown(Shutdown::Stopping { message: "gone".to_owned() }));
        self.work(host);
        self.hosts[host].process = None;
        self.hosts[host].powered = false;
    }

    /// A zone is cut off from the others, or joined again.
    pub(crate) fn cut(&mut self, zone: usize, is_cut: bool) {
        match is_cut {
            true => self.cut.insert(zone),
            false => self.cut.remove(&zone),
        };
        self.recut_at = Some(self.now());
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        loop {
            let (hosts, cut) = (&self.hosts, &self.cut);
            let reaches = |a: usize, b: usize| !is_cut(cut, hosts[a].zone, hosts[b].zone);
            match self.network.next(end, reaches) {
                Some(happening) => self.handle(happening),
                None => return,
            }
        }
    }

    /// Runs until a condition holds, which is looked at every second; gives how long that took, or nothing when it took
    /// too long.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begun = self.now();
        while !holds(self) {
            if self.now() - begun > limit {
                return None;
            }
            self.run(LOOK);
        }
        Some(self.now() - begun)
    }

    fn is_alive(&self, host: usize) -> bool {
        self.hosts[host].process.is_some()
    }

    fn is_current(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.is_alive(host)
    }

    fn handle(&mut self, happening: Happening<Event, Message>) {
        match happening {
            Happening::Event(event) => self.on_event(event),
            Happening::Delivered { to, message, .. } if self.is_current(to.host, to.life) => {
                let connection = ConnectionId(to.connection);
                message.iter().for_each(|bytes| self.input(to.host, Input::Received { connection, bytes }));
            }
            Happening::Closed { to, .. } if self.is_current(to.host, to.life) => {
                let failure = TransportFailure::ClosedByPeer;
                self.input(to.host, Input::Closed { connection: ConnectionId(to.connection), failure });
            }
            Happening::Delivered { .. } | Happening::Closed { .. } => {}
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Row { host, life, number } if self.is_current(host, life) => {
                let Change { key, row, organisation } = &self.changes[number];
                match self.hosts[host].process.as_mut().expect("it lives") {
                    Process::Whole(whole) => whole.row(key, row.clone(), now),
                    Process::Light(light) => {
                        light.organise(organisation.clone().expect("there are modelled hosts"), now);
                    }
                }
                self.touch(host);
            }
            Event::Look { host, life } if self.is_current(host, life) => {
                match self.hosts[host].process.as_mut().expect("it lives") {
                    Process::Whole(whole) => whole.look(now),
                    Process::Light(light) => light.look(now),
                }
                self.network.schedule(now + LOOK, Event::Look { host, life });
                self.touch(host);
            }
            Event::Wake { host, life } if self.is_current(host, life) => {
                self.hosts[host].wake = None;
                match self.hosts[host].process.as_mut().expect("it lives") {
                    Process::Whole(whole) => whole.timeout(now),
                    Process::Light(light) => light.timeout(now),
                }
                self.touch(host);
            }
            Event::Work { host, life } if self.is_current(host, life) => self.work(host),
            Event::Dial { from, remote } if self.is_current(from.host, from.life) => self.dial(from, remote),
            Event::Refused { to } if self.is_current(to.host, to.life) => {
                let (connection, failure) = (ConnectionId(to.connection), TransportFailure::Refused);
                self.input(to.host, Input::ConnectFailed { connection, failure });
            }
            Event::Stop { host, life } if self.is_current(host, life) => self.stop(host),
            _ => {}
        }
    }

    fn input(&mut self, host: usize, input: Input<'_>) {
        let now = self.now();
        match &mut self.hosts[host].process {
            Some(Process::Whole(whole)) => whole.input(input, now),
            Some(Process::Light(light)) => light.input(input, now),
            None => return,
        }
        self.touch(host);
    }

    /// A host will deal with what has come in, together with what comes until then.
    fn touch(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].is_busy, true) {
            let at = self.now() + Duration::from_micros(self.rng().u64(ROUND));
            let life = self.hosts[host].life;
            self.network.schedule(at, Event::Work { host, life });
        }
    }

    fn dial(&mut self, from: End, remote: Ipv4Addr) {
        let target = host_of(remote);
        if is_cut(&self.cut, self.zone(from.host), self.zone(target)) || !self.hosts[target].powered {
            // No answer; the dialler's own timer ends the attempt.
            return;
        }
        let now = self.now();
        let local = SocketAddr::new(address(from.host).into(), 40_000);
        let remote = SocketAddr::new(remote.into(), 179);
        let accepted = match &mut self.hosts[target].process {
            Some(Process::Whole(whole)) => whole.accept(Endpoints { local: remote, remote: local }, now),
            Some(Process::Light(_)) | None => None,
        };
        let Some(ConnectionId(accepted)) = accepted else {
            return self.network.schedule(now, Event::Refused { to: from });
        };
        self.network.connect(from, End { host: target, life: self.hosts[target].life, connection: accepted });
        let (connection, endpoints) = (ConnectionId(from.connection), Endpoints { local, remote });
        self.input(from.host, Input::Connected { connection, endpoints });
        self.touch(target);
    }

    /// Does what a process wants done.
    fn work(&mut self, host: usize) {
        let now = self.now();
        let state = &mut self.hosts[host];
        state.is_busy = false;
        let acts = match &mut state.process {
            Some(Process::Whole(whole)) => whole.poll(now),
            Some(Process::Light(light)) => light.poll(),
            None => return,
        };
        acts.into_iter().for_each(|act| self.act(host, act));
        let state = &mut self.hosts[host];
        let due = match &state.process {
            Some(Process::Whole(whole)) => whole.poll_timeout(),
            Some(Process::Light(light)) => light.poll_timeout(),
            None => None,
        };
        if let Some(due) = due.filter(|due| state.wake.is_none_or(|wake| *due < wake)) {
            state.wake = Some(due);
            let life = state.life;
            self.network.schedule(due, Event::Wake { host, life });
        }
    }

    fn act(&mut self, host: usize, act: Act) {
        let life = self.hosts[host].life;
        let end = |ConnectionId(connection)| End { host, life, connection };
        match act {
            Act::Dial { connection, remote } => {
                let at = self.now() + self.network.delay();
                self.network.schedule(at, Event::Dial { from: end(connection), remote });
            }
            Act::Send { connection, message } => {
                self.counts.sent(&message);
                self.network.send(end(connection), message);
            }
            Act::Close { connection } => self.network.hang_up(end(connection)),
            Act::Route { owner, is_there } => {
                self.counts.best_routes += 1;
                self.route(host, owner, is_there);
            }
            Act::Sweep => {
                let state = &self.hosts[host];
                let stale: Vec<usize> =
                    state.kernel.iter().filter(|owner| !state.named.contains(*owner)).collect();
                stale.into_iter().for_each(|owner| self.route(host, owner, false));
            }
            Act::Session(SessionState::Established) => self.counts.established += 1,
            Act::Session(_) => {}
        }
    }

    /// The zone of a host.
    pub(crate) fn zone(&self, host: usize) -> usize {
        self.hosts[host].zone
    }
}

/// Whether two zones do not reach each other.
fn is_cut(cut: &BTreeSet<usize>, a: usize, b: usize) -> bool {
    a != b && (cut.contains(&a) || cut.contains(&b))
}
