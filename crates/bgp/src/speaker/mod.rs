//! The speaker: sessions and RIBs joined.

mod arrival;
mod difference;
mod family;
mod handover;
mod io;
mod limit;
mod long_lived;
mod monitor;
mod original;
mod outside;
mod path;
mod peer;
pub mod query;
mod reconfigure;
mod rejected;
mod routes;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::config::SpeakerConfig;
use crate::packet::notification::Notification;
use crate::rib::best_path::{Source, SourceKind};
use crate::rib::{Interner, PeerNumber, Sources};
use crate::session::{Action, Loss, Negotiated, Reason};
use crate::types::{ConnectionId, Family, PeerId, RouterId};

pub use difference::{PeerDifference, difference, reset_causes};
use family::{FamilyRib, Shared};
pub use io::{Arrival, BestRoute, Input, Output, Shutdown, Transport, TransportFailure};
use monitor::Monitor;
pub use monitor::{StationEvent, StationStatus};
pub use path::{PathStatus, WatchedPath};
use peer::Peer;
pub use status::{EstablishedStatus, MessageCounts, PeerStatus, SessionStatus};

/// Octets that a peer may leave unread before its updates are held back.
const CONGESTED: usize = 256 * 1024;

/// Whether the kernel still forwards on routes of an earlier life of this speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No: routes are used as they come.
    Fresh,
    /// Yes: peers are told so, and learned routes are used once they are complete (RFC 4724, section 4.1).
    Restarting,
}

/// A BGP speaker without I/O.
///
/// Calling order: any number of [`Speaker::handle_input`], [`Speaker::accept`] and [`Speaker::handle_timeout`], then
/// [`Speaker::poll_output`] until it gives `None`, then sleep until [`Speaker::poll_timeout`] or the next input. What
/// comes in between two polls is one round: a prefix that changes several times in it is told on once, and an UPDATE
/// for many peers is encoded once. There is no timer in that path.
///
/// Time must not go backwards. The same calls with the same times and the same seed give the same outputs.
#[derive(Debug)]
pub struct Speaker {
    config: SpeakerConfig,
    peers: BTreeMap<PeerNumber, Peer>,
    numbers: BTreeMap<PeerId, PeerNumber>,
    last_number: u32,
    /// Peers by the time at which they want attention, or earlier.
    schedule: BTreeSet<(Instant, PeerNumber)>,
    sources: Sources,
    interner: Interner,
    ipv4: FamilyRib<Ipv4Net>,
    ipv6: FamilyRib<Ipv6Net>,
    /// We say R in OPENs.
    restarting: bool,
    /// The shell was told to stop: nothing is learned or told any more, and the kernel's routes stay as they are.
    stopped: bool,
    started_as: Start,
    /// When route selection no longer waits for End-of-RIBs.
    deferral: Option<Instant>,
    /// What BFD has said of the paths to peers.
    paths: BTreeMap<PeerId, crate::bfd::Path>,
    seed: u64,
    now: Instant,
    outputs: VecDeque<Output>,
    /// Stations that are told what peers say.
    monitor: Monitor,
}

impl Speaker {
    /// A speaker with its first complete configuration; it starts at once. The configuration must name all peers
    /// that are to be waited for: with the End-of-RIB of the last of them, routes are [complete](Output::RibComplete).
    pub fn new(config: SpeakerConfig, start: Start, seed: u64, now: Instant) -> Self {
        let first = SpeakerConfig::new(config.local_as, config.router_id);
        let deferral = config.selection_deferral;
        let mut speaker =
            Self::bare(SpeakerConfig { selection_deferral: deferral, ..first }, start, seed, now);
        speaker.reconfigure(config);
        speaker.check_complete();
        speaker
    }

    /// One without peers and routes.
    fn bare(config: SpeakerConfig, start: Start, seed: u64, now: Instant) -> Self {
        let deferred = start == Start::Restarting;
        let ourselves = reconfigure::aggregator(&config);
        let local = Source {
            kind: SourceKind::Local,
            router_id: config.router_id,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Self {
            deferral: Some(now + config.selection_deferral),
            config,
            peers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            schedule: BTreeSet::new(),
            sources: Sources::from([(PeerNumber::LOCAL, local)]),
            interner: Interner::new(seed),
            ipv4: FamilyRib::new(deferred, seed, ourselves),
            ipv6: FamilyRib::new(deferred, seed, ourselves),
            restarting: deferred,
            stopped: false,
            started_as: start,
            paths: BTreeMap::new(),
            seed,
            now,
            outputs: VecDeque::new(),
            monitor: Monitor::default(),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> &SpeakerConfig {
        &self.config
    }

    /// What the socket of a connection has to do.
    pub fn transport(&self, connection: ConnectionId) -> Option<Transport> {
        Some(self.peers.get(&number_of(connection))?.config.transport())
    }

    /// Takes something that happened.
    pub fn handle_input(&mut self, input: Input<'_>, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        let Some(input) = self.station_input(input) else { return };
        match input {
            Input::Configure(config) => self.reconfigure(config),
            Input::Originate { prefix, route } => self.originate(prefix, Some(route)),
            Input::Withdraw { prefix } => self.originate(prefix, None),
            Input::Connected { connection, endpoints } => {
                self.with_peer(connection, |peer| {
                    peer.endpoints.insert(connection, endpoints);
                    peer.session.handle_connected(connection, now);
                });
            }
            Input::ConnectFailed { connection, failure } => {
                self.with_peer(connection, |peer| {
                    peer.session.handle_connect_failed(connection, failure, now)
                });
            }
            Input::Received { connection, bytes } => self.received(connection, bytes),
            Input::Written { connection, bytes } => {
                self.with_peer(connection, |peer| peer.session.handle_written(connection, bytes, now));
                self.refresh_late(number_of(connection));
            }
            Input::Closed { connection, failure } => {
                self.with_peer(connection, |peer| peer.session.handle_closed(connection, failure, now));
            }
            Input::NextHop { address, resolution } => {
                self.interner.next_hops().resolve(address, resolution);
                self.check_complete();
            }
            Input::Refresh { peer } => self.ask_for_routes(&peer),
            Input::UnsignedDropped => self.suspect_signatures(),
            Input::Clock { since_epoch } => self.set_clock(since_epoch),
            Input::Path { peer, path } => self.path(&peer, path),
            Input::Shutdown(shutdown) => self.shutdown(&shutdown),
        }
    }

    /// Runs timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        while let Some((at, number)) = self.schedule.first().copied()
            && at <= self.now
        {
            self.schedule.remove(&(at, number));
            let Some(peer) = self.peers.get_mut(&number) else { continue };
            peer.scheduled = None;
            if peer.stale_until.is_some_and(|until| until <= self.now) {
                self.stale_time_over(number);
            }
            self.check_long_lived(number);
            self.end_doubts(number);
            self.peers.get_mut(&number).expect("still there").session.handle_timeout(self.now);
            self.act(number);
            self.forget_idle_member(number);
        }
        if self.deferral.is_some_and(|until| until <= self.now) {
            self.deferral = None;
            self.check_complete();
        }
        self.station_timeouts();
    }

    /// When [`Speaker::handle_timeout`] wants to be called; perhaps earlier than needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.schedule.first().map(|(at, _)| *at);
        peers.into_iter().chain(self.deferral).chain(self.monitor.poll_timeout()).min()
    }

    /// The next thing to be done. Until it gives `None`, what has changed is not told on completely.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.stopped || !self.work() {
                return None;
            }
        }
    }

    fn with_peer(&mut self, connection: ConnectionId, event: impl FnOnce(&mut Peer)) {
        let number = number_of(connection);
        if let Some(peer) = self.peers.get_mut(&number) {
            event(peer);
            self.act(number);
            self.forget_idle_member(number);
        }
    }

    fn received(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let number = number_of(connection);
        let mut input = bytes;
        while let Some(peer) = self.peers.get_mut(&number)
            && peer.session.handle_received(connection, &mut input, self.now)
        {
            self.act(number);
        }
        self.forget_idle_member(number);
    }

    /// Carries out what a session wants.
    fn act(&mut self, number: PeerNumber) {
        while let Some(peer) = self.peers.get_mut(&number)
            && let Some(action) = peer.session.poll_action()
        {
            match action {
                Action::Connect(connection) => {
                    let remote = (peer.config.address, peer.config.port).into();
                    let (id, source) = (peer.id.clone(), peer.config.source);
                    let transport = Box::new(peer.config.transport());
                    let limit = peer.session.dial_limit();
                    let dial = Output::Connect { connection, peer: id, remote, source, transport, limit };
                    self.outputs.push_back(dial);
                }
                Action::Send(connection, bytes) => {
                    peer.counts.sent += 1;
                    self.outputs.push_back(Output::Send { connection, bytes: bytes.into() });
                }
                Action::Close(connection) => {
                    peer.endpoints.remove(&connection);
                    self.outputs.push_back(Output::Close { connection });
                }
                Action::State(state, reason) => {
                    let peer = peer.id.clone();
                    self.outputs.push_back(Output::Session { peer, state, reason });
                }
                Action::Established(negotiated) => self.established(number, negotiated),
                Action::Down(loss, ending) => self.down(number, loss, ending),
                Action::Update(received) => self.update(number, &received),
                Action::Refresh(refresh) => self.refresh(number, &refresh),
            }
        }
        self.reschedule(number);
    }

    fn reschedule(&mut self, number: PeerNumber) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        let Some(next) = peer.next_deadline() else { return };
        // An entry that is too early costs one look; moving it with every message would cost more.
        if peer.scheduled.is_none_or(|at| next < at) {
            if let Some(old) = peer.scheduled.replace(next) {
                self.schedule.remove(&(old, number));
            }
            self.schedule.insert((next, number));
        }
    }

    /// A session is up: graceful restart as the helper, then the peer gets our routes.
    fn established(&mut self, number: PeerNumber, negotiated: Box<Negotiated>) {
        let peer = self.peers.get_mut(&number).expect("its session has just acted");
        peer.established_count += 1;
        peer.refresh_due = crate::types::FamilySet::EMPTY;
        peer.end_of_rib = crate::types::FamilySet::EMPTY;
        peer.heard = crate::types::FamilySet::EMPTY;
        peer.doubts.clear();
        let connection = peer.session.established_connection().expect("it is established");
        let endpoints = peer.endpoints.get(&connection);
        peer.local = endpoints.map(|endpoints| endpoints.local.ip());
        peer.remote = endpoints.map(|endpoints| endpoints.remote.ip());
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.finish_removals(number, shared);
        self.ipv6.finish_removals(number, shared);
        self.sources.insert(number, peer.source(negotiated.router_id));
        let kept = negotiated.kept_forwarding();
        let families = negotiated.context.families;
        let stale_time = peer.config.graceful_restart.map(|restart| restart.stale_time);
        peer.agreed = Some(negotiated);
        if peer.stale_until.is_some() {
            peer.stale_until = stale_time.map(|time| self.now + time);
        }
        // RFC 4724, section 4.2: without the F bit for a family its routes go at once.
        let lost: Vec<Family> = Family::ALL.into_iter().filter(|family| !kept.contains(*family)).collect();
        peer.long_lived_until.retain(|family, _| kept.contains(*family));
        self.sweep(number, &lost);
        if self.peers[&number].agreed.as_ref().is_some_and(|agreed| !agreed.context.add_path_send.is_empty())
        {
            self.widen_selection();
        }
        for family in families.iter() {
            let key = self.peers[&number].group(family, &self.config);
            match family {
                Family::Ipv4Unicast => self.ipv4.groups.join(number, key),
                Family::Ipv6Unicast => self.ipv6.groups.join(number, key),
            }
        }
        self.check_complete();
        self.observe_up(number);
    }

    /// The stale routes of a peer go.
    fn sweep(&mut self, number: PeerNumber, families: &[Family]) {
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        for family in families {
            match family {
                Family::Ipv4Unicast => self.ipv4.sweep(number, shared),
                Family::Ipv6Unicast => self.ipv6.sweep(number, shared),
            }
        }
    }

    /// Ends the waiting for routes where nothing is left to wait for (RFC 4724, section 4.1): first they are selected and
    /// told on; in the end, once all peers have told all, they are complete. For both it has to be known which next hops can
    /// be reached: otherwise routes whose next hop is being looked up would be swept.
    fn check_complete(&mut self) {
        if self.ipv4.complete && self.ipv6.complete && !self.restarting && self.deferral.is_none() {
            return;
        }
        let expired = self.deferral.is_none();
        if !expired && self.interner.next_hops().is_waiting() {
            return;
        }
        let all = |holds: fn(&Peer, Family) -> bool| {
            Family::ALL.map(|family| expired || self.peers.values().all(|peer| holds(peer, family)))
        };
        // What is forwarded by the routes of an earlier life depends on nobody's word being taken too early.
        let told: fn(&Peer, Family) -> bool = match self.started_as {
            Start::Restarting => {
                |peer: &Peer, family| peer.has_told_all(family) && !peer.doubts.contains_key(&family)
            }
            Start::Fresh => Peer::has_told_all,
        };
        let (settled, told) = (all(Peer::is_settled), all(told));
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.advance_start(settled[0], told[0], shared);
        self.ipv6.advance_start(settled[1], told[1], shared);
        let is_selecting = !self.ipv4.rib.is_deferred() && !self.ipv6.rib.is_deferred();
        if is_selecting && std::mem::replace(&mut self.restarting, false) {
            self.peers.values_mut().for_each(|peer| peer.session.set_restart(false, true));
        }
        if self.ipv4.complete && self.ipv6.complete {
            self.deferral = None;
        }
    }

    fn shutdown(&mut self, shutdown: &Shutdown) {
        while self.rounds() {}
        self.stopped = true;
        let notification = match shutdown {
            Shutdown::Restarting => None,
            Shutdown::Stopping { message } => Some(Notification::shutdown(message)),
        };
        let numbers: Vec<PeerNumber> = self.peers.keys().copied().collect();
        for number in numbers {
            let peer = self.peers.get_mut(&number).expect("just listed");
            peer.session.stop(notification.clone(), Reason::Stopped, self.now);
            self.act(number);
        }
        self.end_stations();
    }
}

fn number_of(connection: ConnectionId) -> PeerNumber {
    PeerNumber(u32::try_from(connection.0 >> 32).expect("32 bits are left"))
}

/// A router id for messages about a peer that has not said its own.
const UNKNOWN: RouterId = RouterId(Ipv4Addr::UNSPECIFIED);
