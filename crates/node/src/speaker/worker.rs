//! The thread's loop: feeds what happens and the time into the speaker, and carries out what it says.
//!
//! One round: wait; a bounded piece of what each connection has to say; timers, after it, so that no peer is given up while
//! its words lie unread; commands; a bounded number of new connections; then what the speaker wants, written at once. So
//! neither a flood of connections nor a peer with a full table holds up another peer for longer than a round.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant, SystemTime};

use crate::telemetry;
use bgp::{
    Arrival, ConnectionId, Input, Output, PeerId, Resolution, Shutdown, Speaker, SpeakerConfig, Start,
    StationEvent, TransportFailure, WatchedPath,
};

use super::connection::{Closing, Connection, DRAIN_LIMIT};
use super::dial::{Dial, Outcome};
use super::handover::{Freezing, Inheritance, LOOK_AGAIN, Settling, keeping_alive};
use super::listener::{Demands, Listener, PAUSE};
use super::poller::{AT_ONCE, Interest, Poller, Ready};
use super::resolver::Resolver;
use super::{Command, Commands, RouteEvent, transport};
use crate::bfd::{Bfd, GivenPaths};

/// How much is read of a connection before the others have their turn: a peer with a full table delays the others by as much
/// work as that is, about a millisecond.
const READ_BYTES: usize = 16 * 1024;
/// How often what the speaker says is written and it is asked again, before others have their turn.
const PASSES: usize = 4;
/// What it says is written after so much of it at the latest: a peer that gets a large table, or loses one, is to read while
/// the next part is worked out, and is not to be taken for one that does not read.
const SAYINGS: usize = 16 * 1024;
/// What happens to routes is handed on in pieces of so many.
const ROUTE_EVENTS: usize = 512;
/// After so many rounds timers run in any case, whether all connections have been looked at or not.
const ROUNDS: u32 = 4;
/// How often it is looked whether the kernel drops unsigned segments.
const SUSPICION: Duration = Duration::from_secs(5);
/// How often the speaker is told what time it is: the clock may be set.
const CLOCK: Duration = Duration::from_secs(60);
/// How soon a listening address that cannot be had is tried again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// Connections that may be in the course of being closed; of more, the oldest are closed at once.
const CLOSING: usize = 1024;
/// Numbers of listening sockets stay below those of connections, whose upper half is not 0.
const LISTENER_TOKENS: u64 = 1 << 32;

pub(super) type Routes = Box<dyn FnMut(Vec<RouteEvent>) + Send>;

/// Runs until told to stop, or until another process has taken over.
pub(super) fn run(commands: &Receiver<Command>, own: Commands, poller: Poller, routes: Routes) {
    let Some((config, beginning)) = await_beginning(commands) else { return };
    let now = Instant::now();
    let seed = fastrand::u64(..);
    let mut worker = match beginning {
        Beginning::Start(start) => Worker::new(Speaker::new(config, start, seed, now), own, poller, routes),
        Beginning::TakeOver(inheritance) => {
            let Inheritance { handover, sessions, listeners, paths } = *inheritance;
            // First of all: its peers wait for packets every few milliseconds.
            let bfd = if paths.is_empty() { None } else { start_bfd(&own, paths) };
            let fresh = config.clone();
            let make = || Speaker::take_over(config, &handover, seed, now);
            match keeping_alive(&handover, &sessions, make) {
                Ok((speaker, names)) => {
                    let mut worker = Worker::new(speaker, own, poller, routes);
                    worker.inherit(&handover, &names, sessions, listeners);
                    worker.bfd = bfd;
                    worker
                }
                Err(error) => {
                    tracing::error!(%error, "sessions are restarted, since they cannot be taken over");
                    Worker::new(Speaker::new(fresh, Start::Restarting, seed, now), own, poller, routes)
                }
            }
        }
    };
    worker.tell_time(Instant::now());
    worker.listen();
    worker.carry_out();
    worker.watch_paths();
    worker.run(commands);
}

enum Beginning {
    Start(Start),
    TakeOver(Box<Inheritance>),
}

/// The first configuration, and how it begins; whichever comes first. `None`: it does not.
fn await_beginning(commands: &Receiver<Command>) -> Option<(SpeakerConfig, Beginning)> {
    let (mut config, mut beginning): (Option<SpeakerConfig>, _) = (None, None);
    loop {
        match commands.recv().ok()? {
            Command::Configure(new) => config = Some(*new),
            Command::Originate(prefix, route) => {
                if let Some(config) = &mut config {
                    match route {
                        Some(route) => drop(config.originated.insert(prefix, route)),
                        None => drop(config.originated.remove(&prefix)),
                    }
                }
            }
            Command::Start(start) => beginning = Some(Beginning::Start(start)),
            Command::TakeOver(inheritance) => beginning = Some(Beginning::TakeOver(inheritance)),
            Command::NextHop(..) | Command::Path(..) | Command::Settle(_) | Command::Freeze(_) => {}
            Command::Ask(ask) => ask(None),
            Command::Stop(_) => return None,
        }
        (config, beginning) = match (config, beginning) {
            (Some(config), Some(beginning)) => return Some((config, beginning)),
            others => others,
        };
    }
}

/// The thread of BFD, which goes on with paths of another process, if it had any.
fn start_bfd(commands: &Commands, paths: GivenPaths) -> Option<Bfd> {
    Bfd::start(tell_path(commands), paths)
        .inspect_err(|error| tracing::error!(%error, "paths to BGP peers are not watched with BFD"))
        .ok()
}

/// A thread that has ended needs to know nothing.
fn tell_path(commands: &Commands) -> impl FnMut(PeerId, bgp::bfd::Path) + Send + 'static {
    let commands = commands.clone();
    move |peer, path| {
        commands.send(Command::Path(peer, path));
    }
}

pub(super) struct Worker {
    pub(super) speaker: Speaker,
    routes: Routes,
    /// What has not been handed on of what happens to routes.
    route_events: Vec<RouteEvent>,
    pub(super) poller: Poller,
    dialling: BTreeMap<ConnectionId, Dial>,
    pub(super) open: BTreeMap<ConnectionId, Connection>,
    /// Connections with bytes that nobody has tried to write.
    pub(super) dirty: BTreeSet<ConnectionId>,
    closing: BTreeMap<ConnectionId, Closing>,
    closing_order: VecDeque<ConnectionId>,
    pub(super) listeners: BTreeMap<SocketAddr, (u64, Listener)>,
    pub(super) listeners_made: u64,
    listen_again: Option<Instant>,
    accept_again: Option<Instant>,
    rounds_without_timers: u32,
    /// When it is looked again whether the kernel drops unsigned segments, and how many it had dropped.
    suspicion: Option<(Instant, u64)>,
    /// When the speaker is told again what time it is, if anything happens then.
    clock_at: Instant,
    /// The speaker has more to say.
    pub(super) more: bool,
    buffer: Vec<u8>,
    counts: Counts,
    /// Once a next hop is to be resolved.
    resolver: Option<Resolver>,
    /// Once a path is to be watched.
    pub(super) bfd: Option<Bfd>,
    /// Which paths BFD has been told to watch; `None`: it has been told nothing.
    watched: Option<BTreeMap<PeerId, WatchedPath>>,
    /// Which paths are to be watched may have changed.
    paths_due: bool,
    /// For what they find out.
    commands: Commands,
    /// Another process wants to take over, and waits until this one could hold still,
    pub(super) settling: Option<Settling>,
    /// or does.
    pub(super) freezing: Option<Freezing>,
}

/// What has been counted in a round: the recorder is asked once.
#[derive(Default)]
struct Counts {
    received: u64,
    sent: u64,
    route_changes: u64,
    rejected: u64,
}

impl Counts {
    fn report(&mut self) {
        let Self { received, sent, route_changes, rejected } = std::mem::take(self);
        let counted = [
            (telemetry::BGP_RECEIVED, received),
            (telemetry::BGP_SENT, sent),
            (telemetry::BGP_ROUTE_CHANGES, route_changes),
            (telemetry::BGP_REJECTED, rejected),
        ];
        for (name, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
            metrics::counter!(name).increment(count);
        }
    }
}

impl Worker {
    fn new(speaker: Speaker, commands: Commands, poller: Poller, routes: Routes) -> Self {
        Self {
            speaker,
            routes,
            route_events: Vec::new(),
            poller,
            dialling: BTreeMap::new(),
            open: BTreeMap::new(),
            dirty: BTreeSet::new(),
            closing: BTreeMap::new(),
            closing_order: VecDeque::new(),
            listeners: BTreeMap::new(),
            listeners_made: 0,
            listen_again: None,
            accept_again: None,
            rounds_without_timers: 0,
            suspicion: None,
            clock_at: Instant::now(),
            more: false,
            buffer: vec![0; READ_BYTES],
            counts: Counts::default(),
            resolver: None,
            bfd: None,
            watched: None,
            paths_due: true,
            commands,
            settling: None,
            freezing: None,
        }
    }

    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let ready = match self.poller.wait(self.limit()) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "BGP cannot wait for its sockets");
                    return self.stop(Shutdown::Restarting);
                }
            };
            let may_be_all = ready.len() + 1 < AT_ONCE;
            let (listening, talking): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|ready| ready.token < LISTENER_TOKENS);
            talking.into_iter().for_each(|ready| self.talk(ready));
            self.rounds_without_timers += 1;
            if may_be_all || self.rounds_without_timers >= ROUNDS {
                self.rounds_without_timers = 0;
                self.timeouts();
            }
            loop {
                match commands.try_recv() {
                    Ok(Command::Stop(shutdown)) => return self.stop(shutdown),
                    Ok(command) => self.command(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.stop(Shutdown::Restarting),
                }
            }
            listening.into_iter().for_each(|ready| self.accept(ready.token));
            self.carry_out();
            self.watch_paths();
            self.counts.report();
            self.settle();
            if self.freeze() {
                return self.finish_closing();
            }
        }
    }

    /// How long there is nothing to do by itself.
    fn limit(&self) -> Option<Duration> {
        if self.more {
            return Some(Duration::ZERO);
        }
        let dials = self.dialling.values().map(|dial| dial.until);
        let closing =
            self.closing_order.front().and_then(|id| self.closing.get(id)).map(|closing| closing.until);
        let due = self.speaker.poll_timeout().into_iter().chain(self.listen_again).chain(self.accept_again);
        let suspicion = self.suspicion.map(|(at, _)| at);
        let is_asked = self.settling.is_some() || self.freezing.is_some();
        let due = due.chain(is_asked.then(|| Instant::now() + LOOK_AGAIN));
        let next = due.chain(dials).chain(closing).chain(suspicion).min();
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Configure(config) => {
                self.input(Input::Configure(*config));
                self.paths_due = true;
                self.listen();
            }
            Command::Originate(prefix, Some(route)) => self.input(Input::Originate { prefix, route }),
            Command::Originate(prefix, None) => self.input(Input::Withdraw { prefix }),
            Command::NextHop(address, resolution) => self.input(Input::NextHop { address, resolution }),
            Command::Path(peer, path) => self.input(Input::Path { peer, path }),
            Command::Ask(ask) => ask(Some(&self.speaker)),
            Command::Settle(settling) => self.settling = Some(settling),
            Command::Freeze(freezing) => self.freezing = Some(freezing),
            Command::Start(_) | Command::TakeOver(_) => unreachable!("it has begun"),
            Command::Stop(_) => unreachable!("the caller has dealt with it"),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.speaker.handle_input(input, Instant::now());
    }

    fn timeouts(&mut self) {
        let now = Instant::now();
        if self.speaker.poll_timeout().is_some_and(|at| at <= now) {
            self.speaker.handle_timeout(now);
        }
        let late = self.dialling.iter().filter(|(_, dial)| dial.until <= now).map(|(id, _)| *id);
        for connection in late.collect::<Vec<_>>() {
            let dial = self.dialling.remove(&connection).expect("just listed");
            self.input(Input::ConnectFailed { connection, failure: dial.timed_out() });
        }
        while let Some(first) = self.closing_order.front().copied()
            && self.closing.get(&first).is_none_or(|closing| closing.until <= now)
        {
            self.closing_order.pop_front();
            self.closing.remove(&first);
        }
        self.suspect(now);
        self.tell_time(now);
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen();
        }
        if self.accept_again.take_if(|at| *at <= now).is_some() {
            self.listeners.values().for_each(|(_, listener)| listener.pause(false, &self.poller));
        }
    }

    fn tell_time(&mut self, now: Instant) {
        if self.clock_at > now {
            return;
        }
        self.clock_at = now + CLOCK;
        if let Ok(since_epoch) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            self.input(Input::Clock { since_epoch });
        }
    }

    /// Looks whether the kernel has dropped segments that were not signed: a peer that we wait for would never be heard of.
    fn suspect(&mut self, now: Instant) {
        let Some((at, before)) = self.suspicion else { return };
        if at > now {
            return;
        }
        let dropped = kernel::tcp::dropped().unwrap_or_default().unsigned;
        self.suspicion = Some((now + SUSPICION, dropped));
        if dropped > before {
            self.input(Input::UnsignedDropped);
        }
    }

    /// Something can be done with a connection.
    fn talk(&mut self, ready: Ready) {
        let id = ConnectionId(ready.token);
        if self.open.contains_key(&id) {
            if ready.write {
                self.dirty.insert(id);
            }
            if ready.read {
                self.read(id);
            }
        } else if let Some(dial) = self.dialling.remove(&id) {
            match dial.look() {
                Outcome::Waiting(dial) => drop(self.dialling.insert(id, dial)),
                Outcome::Connected(stream) => self.connected(id, stream),
                Outcome::Failed(failure) => self.input(Input::ConnectFailed { connection: id, failure }),
            }
        } else if let Some(closing) = self.closing.get_mut(&id)
            && !closing.advance(&self.poller, &mut self.buffer)
        {
            self.closing.remove(&id);
        }
    }

    fn read(&mut self, connection: ConnectionId) {
        let Some(open) = self.open.get_mut(&connection) else { return };
        match open.read(&mut self.buffer) {
            Ok(None) => {}
            Ok(Some(octets)) => {
                self.counts.received += octets as u64;
                let bytes = &self.buffer[..octets];
                self.speaker.handle_input(Input::Received { connection, bytes }, Instant::now());
            }
            Err(failure) => self.over(connection, failure),
        }
    }

    /// A connection is over, and not by us.
    pub(super) fn over(&mut self, connection: ConnectionId, failure: TransportFailure) {
        self.open.remove(&connection);
        self.dirty.remove(&connection);
        self.input(Input::Closed { connection, failure });
    }

    fn connected(&mut self, connection: ConnectionId, stream: TcpStream) {
        let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        let open =
            ends.and_then(|ends| Ok((ends, Connection::new(stream, connection.0, &self.poller, true)?)));
        match open {
            Ok(((local, remote), open)) => {
                self.open.insert(connection, open);
                self.input(Input::Connected { connection, endpoints: bgp::Endpoints { local, remote } });
            }
            Err(error) => {
                self.input(Input::ConnectFailed { connection, failure: transport::failure(&error) });
            }
        }
    }

    /// Listens where the configuration says, and nowhere else.
    fn listen(&mut self) {
        let wanted = self.speaker.config().listen.clone();
        self.listeners.retain(|address, _| wanted.contains(address));
        let first_try = self.listen_again.take().is_none();
        for address in wanted {
            if self.listeners.contains_key(&address) {
                continue;
            }
            let token = 1 + self.listeners_made;
            match Listener::bind(address, token, &self.poller) {
                Ok(listener) => {
                    tracing::info!(%address, "listening for BGP");
                    self.listeners_made += 1;
                    self.listeners.insert(address, (token, listener));
                }
                // EAFNOSUPPORT will not change while we run.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                    tracing::info!(%address, "not listening for BGP: this host does not have the address family");
                }
                Err(error) => {
                    if first_try {
                        tracing::error!(%address, %error, "cannot listen for BGP; trying again every second");
                    }
                    self.listen_again = Some(Instant::now() + LISTEN_RETRY);
                }
            }
        }
        let demands = Demands::of(self.speaker.config());
        let begun = || (Instant::now() + SUSPICION, kernel::tcp::dropped().unwrap_or_default().unsigned);
        self.suspicion = demands.has_keys().then(|| self.suspicion.unwrap_or_else(begun));
        for (_, listener) in self.listeners.values_mut() {
            for (peers, failure) in listener.demand(&demands) {
                tracing::error!(%peers, %failure, "cannot take signed BGP connections");
            }
        }
    }

    /// A connection from an address that is no peer's is reset before a byte of it is read.
    fn accept(&mut self, token: u64) {
        let listener =
            self.listeners.values().find(|(other, _)| *other == token).map(|(_, listener)| listener);
        let Some(listener) = listener else { return };
        let mut arrived = Vec::new();
        if let Err(error) = listener.accept(|stream, arrival| arrived.push((stream, arrival))) {
            tracing::warn!(%error, "cannot accept BGP connections for a moment");
            self.listeners.values().for_each(|(_, listener)| listener.pause(true, &self.poller));
            self.accept_again = Some(Instant::now() + PAUSE);
        }
        arrived.into_iter().for_each(|(stream, arrival)| self.arrived(stream, &arrival));
    }

    fn arrived(&mut self, stream: TcpStream, arrival: &Arrival) {
        let Some(connection) = self.speaker.accept_from(arrival, Instant::now()) else {
            self.counts.rejected += 1;
            tracing::debug!(from = %arrival.endpoints.remote, "connection reset: not a peer, or not expected now");
            // No state is left behind, neither here nor in the kernel.
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        };
        let transport = self.speaker.transport(connection).unwrap_or_default();
        let is_ipv6 = arrival.endpoints.remote.is_ipv6();
        let open = transport::set_hop_limits(&stream, is_ipv6, &transport)
            .and_then(|()| Connection::new(stream, connection.0, &self.poller, false));
        match open {
            Ok(open) => drop(self.open.insert(connection, open)),
            Err(error) => self.over(connection, transport::failure(&error)),
        }
    }

    /// Has the paths watched that the speaker wants watched.
    fn watch_paths(&mut self) {
        if !std::mem::take(&mut self.paths_due) {
            return;
        }
        let wanted = self.speaker.watched_paths();
        if self.watched.as_ref() == Some(&wanted) || wanted.is_empty() && self.bfd.is_none() {
            return;
        }
        if self.bfd.is_none() {
            self.bfd = start_bfd(&self.commands, GivenPaths::default());
        }
        let Some(bfd) = &self.bfd else {
            self.paths_due = true;
            return;
        };
        bfd.watch(wanted.clone());
        self.watched = Some(wanted);
    }

    /// Carries out what the speaker wants, and writes. What a peer has taken makes room for more.
    pub(super) fn carry_out(&mut self) {
        self.more = false;
        for _ in 0..PASSES {
            let said_all = self.hear_out();
            self.hand_on_routes();
            if self.dirty.is_empty() && said_all {
                return;
            }
            for connection in std::mem::take(&mut self.dirty) {
                self.flush(connection);
            }
        }
        self.more = true;
    }

    /// Whether the speaker has nothing more to say for now.
    fn hear_out(&mut self) -> bool {
        for _ in 0..SAYINGS {
            let Some(output) = self.speaker.poll_output() else { return true };
            self.output(output);
        }
        false
    }

    fn flush(&mut self, connection: ConnectionId) {
        let Some(open) = self.open.get_mut(&connection) else { return };
        match open.flush(&self.poller) {
            Ok(0) => {}
            Ok(bytes) => {
                self.counts.sent += bytes as u64;
                self.input(Input::Written { connection, bytes });
            }
            Err(failure) => self.over(connection, failure),
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect { connection, remote, source, transport, limit, .. } => {
                match Dial::start(remote, source, *transport, limit)
                    .and_then(|dial| self.watch(connection, dial))
                {
                    Ok(dial) => drop(self.dialling.insert(connection, dial)),
                    Err(failure) => self.input(Input::ConnectFailed { connection, failure }),
                }
            }
            Output::Send { connection, bytes } => {
                if let Some(open) = self.open.get_mut(&connection) {
                    open.queue(bytes);
                    self.dirty.insert(connection);
                }
            }
            Output::Close { connection } => self.close(connection),
            Output::BestRoute { prefix, route } => {
                self.counts.route_changes += 1;
                self.happened(RouteEvent::Changed { prefix, route });
            }
            Output::WatchNextHop { address } => self.resolve(address),
            Output::ForgetNextHop { address } => {
                if let Some(resolver) = &self.resolver {
                    resolver.forget(address);
                }
            }
            Output::RibComplete { family } => {
                tracing::info!(%family, "BGP routes are complete");
                self.happened(RouteEvent::Complete(family));
            }
            Output::PrefixWarning { peer, family, prefixes, max } => {
                tracing::warn!(%peer, %family, prefixes, max, "BGP peer comes near to its prefix limit");
            }
            Output::Station { station, event } => match event {
                StationEvent::Connected => tracing::info!(%station, "BMP station is connected"),
                StationEvent::Lost(reason) => {
                    tracing::warn!(%station, reason, "BMP station is not connected; dialling again");
                }
            },
            Output::Session { peer, state, reason } => {
                metrics::counter!(telemetry::BGP_SESSION_CHANGES, "state" => state.to_string()).increment(1);
                let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
                self.paths_due = true;
                tracing::info!(%peer, %state, reason, "BGP session");
            }
        }
    }

    fn happened(&mut self, event: RouteEvent) {
        self.route_events.push(event);
        if self.route_events.len() >= ROUTE_EVENTS {
            self.hand_on_routes();
        }
    }

    fn hand_on_routes(&mut self) {
        if !self.route_events.is_empty() {
            (self.routes)(std::mem::take(&mut self.route_events));
        }
    }

    /// Has a next hop resolved. Without the kernel's help it counts as being on a link of ours: routes that cannot be
    /// installed are better than none.
    fn resolve(&mut self, address: IpAddr) {
        if self.resolver.is_none() {
            let commands = self.commands.clone();
            let tell = move |address, resolution| commands.send(Command::NextHop(address, resolution));
            match Resolver::start(tell) {
                Ok(resolver) => self.resolver = Some(resolver),
                Err(error) => {
                    tracing::error!(%error, "BGP's next hops are not looked up in the routing table");
                }
            }
        }
        match &self.resolver {
            Some(resolver) => resolver.watch(address),
            None => {
                let resolution = Some(Resolution { cost: 0, gateways: vec![address] });
                self.input(Input::NextHop { address, resolution });
            }
        }
    }

    fn watch(&self, connection: ConnectionId, dial: Dial) -> Result<Dial, TransportFailure> {
        let watched = self.poller.add(&dial.socket, connection.0, Interest::Write);
        watched.map(|()| dial).map_err(|error| transport::failure(&error))
    }

    fn close(&mut self, connection: ConnectionId) {
        self.dialling.remove(&connection);
        self.dirty.remove(&connection);
        let Some(open) = self.open.remove(&connection) else { return };
        let mut closing = Closing::new(open, Instant::now());
        if closing.advance(&self.poller, &mut self.buffer) {
            self.closing.insert(connection, closing);
            self.closing_order.push_back(connection);
        }
        while self.closing_order.len() > CLOSING {
            self.closing_order.pop_front().into_iter().for_each(|oldest| drop(self.closing.remove(&oldest)));
        }
    }

    /// Closes everything, and waits until what was sent last is written.
    fn stop(&mut self, shutdown: Shutdown) {
        // Peers are told that BFD ends before they see the connections go.
        self.bfd = None;
        self.input(Input::Shutdown(shutdown));
        while let Some(output) = self.speaker.poll_output() {
            self.output(output);
        }
        self.hand_on_routes();
        self.listeners.clear();
        self.dialling.clear();
        for connection in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(connection);
        }
        self.finish_closing();
    }

    fn finish_closing(&mut self) {
        let until = Instant::now() + DRAIN_LIMIT;
        while !self.closing.is_empty()
            && let Some(left) = until.checked_duration_since(Instant::now())
            && let Ok(ready) = self.poller.wait(Some(left))
        {
            ready.into_iter().for_each(|ready| self.talk(ready));
        }
        self.counts.report();
    }
}
