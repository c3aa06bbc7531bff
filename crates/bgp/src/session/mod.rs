//! The finite state machine of one peer (RFC 4271, section 8), without I/O.
//!
//! ```text
//!            start                 dial            connected                OPEN           KEEPALIVE
//!   Idle ───────────▶ (Connect | Active) ─────────────────▶ OpenSent ───────────▶ OpenConfirm ─────▶ Established
//!    ▲                        ▲        │ accepted                │                     │                  │
//!    │ idle hold, after       └────────┘ retry                   │ error, NOTIFICATION, hold timer        │
//!    └─ an error ◀───────────────────────────────────────────────┴─────────────────────┴──────────────────┘
//! ```
//!
//! A peer owns room for three connections: one that we dial, one that the peer has dialled, and the established one.
//! So a collision (RFC 4271, section 6.8) is nothing special: when an OPEN comes and another connection is as far,
//! [`survivor`] says which stays. The rule has a gap: one end may be established on the connection that is to go before
//! it sees the other one, while its peer has just closed it in favour of the other. So for a while after a session
//! came up on the connection that would lose, the one that would win is held, without our KEEPALIVE, and takes over
//! should the peer choose it. A peer that dials while its session is established has usually restarted without
//! our noticing; with graceful restart the old session gives way (RFC 4724, section 4.2), else the new one does.
//!
//! The state of the peer, as operators see it, is that of the connection that got furthest.
//!
//! What RFC 4271 leaves to the implementer (section 8.1.1): flapping peers are damped; DelayOpen is not there, since a
//! collision is cheap; a passive peer is one that is not dialled.
//!
//! Calling order: any of the `handle_*` methods, then [`Session::poll_action`] until it is empty; wake up again at
//! [`Session::poll_timeout`].

mod collision;
mod connection;
mod ending;
mod handover;
mod jitter;
mod negotiate;
mod open_check;
mod path;
mod reason;
mod remedy;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use collision::Resolution;
pub use collision::{Direction, survivor};
use ending::hard_reset;
pub use ending::{Ending, Loss};
pub use negotiate::{Negotiated, Opens, PeerLongLived, PeerRestart};
pub use open_check::check_peer;
pub use reason::Reason;
pub(crate) use remedy::waiting;

use crate::config::{AddPath, GracefulRestart, LongLived, RoleConfig, Timers};
use crate::iana::{cease, error, fsm_error, fsm_event};
use crate::packet::capability::Capability;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::packet::route_refresh::RouteRefresh;
use crate::packet::update::Received;
use crate::packet::{Message, PeerKind};
use crate::speaker::TransportFailure;
use crate::types::{Asn, ConnectionId, FamilySet, RouterId};
use connection::{Connection, OPEN_WAIT, Stage};
pub(crate) use jitter::Jitter;

/// By how much the shell may be late to say that nobody answers.
const DIAL_MARGIN: Duration = Duration::from_secs(2);
/// How long a connection is held that the peer may still choose.
const COLLISION_HOLD: Duration = Duration::from_secs(5);

/// The states of RFC 4271, section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// Not trying: just failed, or shut down.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the peer to dial, or for the time to dial again.
    Active,
    /// We have sent our OPEN.
    OpenSent,
    /// The OPENs fit; waiting for the peer's agreement.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}

/// What a session has to know; a change needs a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our AS, as the peer knows it.
    pub local_as: Asn,
    /// Our identifier.
    pub router_id: RouterId,
    /// The peer's AS.
    pub remote_as: Asn,
    /// We do not dial.
    pub passive: bool,
    /// The families that we offer.
    pub families: FamilySet,
    /// Timers.
    pub timers: Timers,
    /// Graceful restart, when we offer it.
    pub graceful_restart: Option<GracefulRestart>,
    /// Add-path, as far as we offer it.
    pub add_path: AddPath,
    /// Long-lived graceful restart, when we offer it; counts only together with graceful restart.
    pub long_lived: Option<LongLived>,
    /// Our role; counts only towards external peers.
    pub role: Option<RoleConfig>,
    /// The session runs over IPv6: IPv4 routes may need IPv6 next hops (RFC 8950).
    pub over_ipv6: bool,
}

impl Settings {
    /// Whether the peer is in our AS.
    pub fn peer_kind(&self) -> PeerKind {
        if self.local_as == self.remote_as { PeerKind::Internal } else { PeerKind::External }
    }

    /// Our role, towards external peers.
    pub(crate) fn external_role(&self) -> Option<RoleConfig> {
        self.role.filter(|_| self.peer_kind() == PeerKind::External)
    }
}

/// Something that a session wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Dial the peer; the connection gets this name.
    Connect(ConnectionId),
    /// Send a message.
    Send(ConnectionId, Vec<u8>),
    /// Close a connection once everything is written.
    Close(ConnectionId),
    /// The state has changed.
    State(SessionState, Option<Reason>),
    /// Routes can be exchanged.
    Established(Box<Negotiated>),
    /// Routes can no longer be exchanged.
    Down(Loss, Ending),
    /// The peer has sent routes.
    Update(Box<Received>),
    /// The peer wants our routes again, or marks its own.
    Refresh(RouteRefresh),
}

/// The session with one peer.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    /// Connection ids carry the peer's number in the upper half.
    number: u32,
    connections_made: u32,
    messages_received: u64,
    enabled: bool,
    /// R in our OPENs: we have restarted and are not complete yet.
    restarting: bool,
    /// F in our OPENs.
    forwarding_preserved: bool,
    outgoing: Option<Connection>,
    incoming: Option<Connection>,
    established: Option<Connection>,
    /// Nothing is begun: BFD has not said that the path is up.
    waits_for_path: bool,
    /// Idle until then.
    idle_until: Option<Instant>,
    /// When to dial next.
    retry_at: Option<Instant>,
    failures: u32,
    attempts: u32,
    reported: SessionState,
    since: Instant,
    reason: Option<Reason>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Session {
    /// A session that is not started. `number` distinguishes the connections of different sessions.
    pub fn new(settings: Settings, number: u32, seed: u64, now: Instant) -> Self {
        Self {
            settings,
            number,
            connections_made: 0,
            messages_received: 0,
            enabled: false,
            restarting: false,
            forwarding_preserved: false,
            outgoing: None,
            incoming: None,
            established: None,
            waits_for_path: false,
            idle_until: None,
            retry_at: None,
            failures: 0,
            attempts: 0,
            reported: SessionState::Idle,
            since: now,
            reason: None,
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// What OPENs say about our own restart: whether it is under way, and whether forwarding has gone on over it.
    pub fn set_restart(&mut self, restarting: bool, forwarding_preserved: bool) {
        self.restarting = restarting;
        self.forwarding_preserved = forwarding_preserved;
    }

    /// Who dials from now on. What is under way goes on.
    pub fn set_passive(&mut self, passive: bool, now: Instant) {
        let was = std::mem::replace(&mut self.settings.passive, passive);
        let waits = self.enabled && self.idle_until.is_none() && self.retry_at.is_none();
        if was && !passive && waits && !self.has_connection() {
            self.dial(now);
            self.report(now);
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The state: that of the connection that got furthest.
    pub fn state(&self) -> SessionState {
        let of = |connection: &Option<Connection>| {
            connection.as_ref().map(|connection| match connection.stage {
                Stage::Connecting => SessionState::Connect,
                Stage::OpenSent => SessionState::OpenSent,
                Stage::OpenConfirm(_) => SessionState::OpenConfirm,
                Stage::Established { .. } => SessionState::Established,
            })
        };
        let furthest = [&self.outgoing, &self.incoming, &self.established].into_iter().filter_map(of).max();
        match furthest {
            Some(state) => state,
            None if !self.enabled || self.waits_for_path || self.idle_until.is_some() => SessionState::Idle,
            None => SessionState::Active,
        }
    }

    /// Since when the state is what it is.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why the session is not up; what last went wrong.
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// The capabilities that our OPENs offer.
    pub fn offered(&self) -> Vec<Capability> {
        negotiate::our_open(&self.settings, self.restarting, self.forwarding_preserved).capabilities
    }

    /// What was agreed on, while the session is established.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established.as_ref().and_then(Connection::negotiated)
    }

    /// The established connection.
    pub fn established_connection(&self) -> Option<ConnectionId> {
        self.established.as_ref().map(|connection| connection.id)
    }

    /// How many messages have come, on any connection.
    pub fn messages_received(&self) -> u64 {
        self.messages_received
    }

    /// Octets for the established peer that are not in the socket yet.
    pub fn outstanding(&self) -> usize {
        self.established.as_ref().map_or(0, |connection| connection.outstanding)
    }

    /// The speaker has itself sent octets to the established peer.
    pub fn queued(&mut self, octets: usize, now: Instant) {
        if let Some(connection) = &mut self.established {
            connection.queued(octets, now);
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connections = [&self.outgoing, &self.incoming, &self.established];
        let deadlines = connections.into_iter().flatten().filter_map(Connection::next_deadline);
        deadlines.chain(self.idle_until).chain(self.retry_at).min()
    }

    /// Starts trying.
    pub fn start(&mut self, now: Instant) {
        if !self.enabled {
            self.enabled = true;
            self.begin(now);
        }
        self.report(now);
    }

    /// Stops: closes every connection, with a NOTIFICATION if one is given. Routes are kept by the peer only without.
    pub fn stop(&mut self, notification: Option<Notification>, reason: Reason, now: Instant) {
        self.enabled = false;
        self.idle_until = None;
        self.retry_at = None;
        for connection in [self.outgoing.take(), self.incoming.take()].into_iter().flatten() {
            let told = !matches!(connection.stage, Stage::Connecting);
            self.farewell(&connection, notification.clone().filter(|_| told));
        }
        if let Some(connection) = self.established.take() {
            // RFC 8538, section 3: a peer with the N bit would keep our routes over any other NOTIFICATION.
            let keeps = connection
                .negotiated()
                .and_then(|negotiated| negotiated.graceful_restart.as_ref())
                .is_some_and(|restart| restart.notification);
            let notification = notification.map(|inner| if keeps { hard_reset(&inner) } else { inner });
            self.farewell(&connection, notification.clone());
            let ending = notification.map_or(Ending::WeClosed(fsm_event::MANUAL_STOP), Ending::WeSaid);
            self.actions.push_back(Action::Down(Loss::ForGood, ending));
        }
        self.reason = Some(reason);
        self.report(now);
    }

    /// Ends the session for a fault that lies in what the peer has, not in what it said (its prefix limit): routes go on
    /// both sides, and it is tried again after `restart`, or not before [`Session::start_again`].
    pub fn hold_down(
        &mut self,
        notification: Notification,
        reason: Reason,
        restart: Option<Duration>,
        now: Instant,
    ) {
        self.stop(Some(notification), reason, now);
        self.enabled = restart.is_some();
        self.idle_until = restart.map(|time| now + time);
    }

    /// Starts trying at once when the session rests, for whatever reason.
    pub fn start_again(&mut self, now: Instant) {
        if !self.enabled || self.idle_until.take().is_some() {
            self.enabled = true;
            self.failures = 0;
            self.begin(now);
        }
        self.report(now);
    }

    /// A connection of the peer was turned away before it began.
    pub fn turn_away(&mut self, reason: Reason) {
        if !self.has_connection() {
            self.reason = Some(reason);
        }
    }

    /// Whether nothing goes on: no connection, none under way.
    pub fn is_without_connection(&self) -> bool {
        !self.has_connection()
    }

    fn farewell(&mut self, connection: &Connection, notification: Option<Notification>) {
        if let Some(notification) = notification {
            self.actions.push_back(Action::Send(connection.id, notification.encode()));
        }
        self.actions.push_back(Action::Close(connection.id));
    }

    /// A connection from the peer's address. `None`: it is not wanted now and shall be closed.
    pub fn handle_accepted(&mut self, now: Instant) -> Option<ConnectionId> {
        if !self.enabled || self.waits_for_path || self.idle_until.is_some() {
            return None;
        }
        // The peer has given up an earlier attempt, whether we have heard of it or not.
        if let Some(old) = self.incoming.take() {
            self.actions.push_back(Action::Close(old.id));
        }
        let mut connection = Connection::new(self.next_id(), Direction::Incoming);
        let id = connection.id;
        self.open(&mut connection, now);
        self.incoming = Some(connection);
        self.retry_at = None;
        self.report(now);
        Some(id)
    }

    /// What we dialled has answered.
    pub fn handle_connected(&mut self, id: ConnectionId, now: Instant) {
        let wanted = self.established.is_none();
        match self.outgoing.take_if(|connection| connection.id == id) {
            Some(mut connection) if wanted => {
                self.open(&mut connection, now);
                self.outgoing = Some(connection);
                self.report(now);
            }
            _ => self.actions.push_back(Action::Close(id)),
        }
    }

    /// What we dialled has not answered.
    pub fn handle_connect_failed(&mut self, id: ConnectionId, failure: TransportFailure, now: Instant) {
        if let Some(connection) = self.take(id) {
            self.lost(connection, Reason::ConnectFailed(failure), now);
        }
    }

    /// The connection is no more.
    pub fn handle_closed(&mut self, id: ConnectionId, failure: TransportFailure, now: Instant) {
        if let Some(connection) = self.take(id) {
            self.lost(connection, Reason::ConnectionLost(failure), now);
        }
    }

    /// Octets have gone into the socket.
    pub fn handle_written(&mut self, id: ConnectionId, octets: usize, now: Instant) {
        if let Some(connection) = self.connection(id) {
            connection.written(octets, now);
        }
    }

    /// Takes a message off the bytes from the peer. Actions must be taken before what follows it, since it may bring the
    /// session up or down. False: what is left is kept until more comes, or the connection is gone.
    pub fn handle_received(&mut self, id: ConnectionId, input: &mut &[u8], now: Instant) -> bool {
        let peer = self.settings.peer_kind();
        let Some(connection) = self.connection(id) else { return false };
        let context = connection.context(peer);
        let message = match connection.framer.next(input, &context) {
            Ok(None) => return false,
            Ok(Some(octets)) => {
                let message = Message::decode(&octets, &context);
                if matches!(message, Ok(Message::Open(_))) {
                    connection.opens.received = octets.into_owned();
                }
                message
            }
            Err(error) => Err(error),
        };
        match message {
            Ok(message) => self.message(id, message, now),
            Err(error) => self.refuse_malformed(id, error, now),
        }
        true
    }

    /// Timers that have run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.idle_until.is_some_and(|until| until <= now) {
            self.idle_until = None;
            self.begin(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.dial(now);
        }
        let ids = [&self.outgoing, &self.incoming, &self.established].map(|slot| slot.as_ref().map(|c| c.id));
        for id in ids.into_iter().flatten() {
            self.connection_timeout(id, now);
        }
        self.report(now);
    }

    fn connection_timeout(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connection(id) else { return };
        if connection.send_hold.is_some_and(|at| at <= now) {
            let time = connection.send_hold_time();
            let connection = self.take(id).expect("it was there");
            self.farewell(&connection, Some(Notification::new(error::SEND_HOLD_TIMER, 0)));
            return self.failed(connection, Reason::SendHoldTimerExpired(time), now);
        }
        if connection.deadline.is_some_and(|at| at <= now) {
            return self.deadline(id, now);
        }
        if connection.keepalive.is_some_and(|at| at <= now) {
            let interval = connection.negotiated().map_or(Duration::ZERO, |negotiated| negotiated.keepalive);
            // A peer that does not read needs no more of them: its send hold timer is running.
            if connection.outstanding < 4096 {
                self.send(id, Message::keepalive(), now);
            }
            let next = now + self.jitter.scale(interval);
            self.connection(id).expect("it was there").keepalive = Some(next);
        }
    }

    fn deadline(&mut self, id: ConnectionId, now: Instant) {
        let connection = self.take(id).expect("checked by the caller");
        if self.established.is_some() {
            return self.farewell(&connection, Some(Notification::new(error::CEASE, cease::COLLISION)));
        }
        if matches!(connection.stage, Stage::Connecting) {
            self.actions.push_back(Action::Close(id));
            return self.lost(connection, Reason::ConnectFailed(TransportFailure::TimedOut), now);
        }
        let hold_time = connection.hold_time();
        let reason = match connection.stage {
            Stage::OpenSent => Reason::NoOpen(hold_time),
            _ => Reason::HoldTimerExpired(hold_time),
        };
        self.farewell(&connection, Some(Notification::new(error::HOLD_TIMER, 0)));
        self.failed(connection, reason, now);
    }

    fn begin(&mut self, now: Instant) {
        self.attempts = 0;
        if !self.settings.passive {
            self.dial(now);
        }
    }

    fn dial(&mut self, now: Instant) {
        if self.waits_for_path || self.has_connection() {
            return;
        }
        let mut connection = Connection::new(self.next_id(), Direction::Outgoing);
        connection.deadline = Some(now + self.dial_limit() + DIAL_MARGIN);
        self.actions.push_back(Action::Connect(connection.id));
        self.outgoing = Some(connection);
    }

    /// How long the shell waits for an answer to what we dial.
    pub fn dial_limit(&self) -> Duration {
        self.settings.timers.connect_retry.max(Duration::from_secs(1))
    }

    fn next_id(&mut self) -> ConnectionId {
        self.connections_made += 1;
        ConnectionId(u64::from(self.number) << 32 | u64::from(self.connections_made))
    }

    /// Sends our OPEN.
    fn open(&mut self, connection: &mut Connection, now: Instant) {
        let open = negotiate::our_open(&self.settings, self.restarting, self.forwarding_preserved);
        let bytes = open.encode();
        connection.opens.sent = bytes.clone();
        connection.queued(bytes.len(), now);
        self.actions.push_back(Action::Send(connection.id, bytes));
        connection.stage = Stage::OpenSent;
        connection.deadline = Some(now + OPEN_WAIT);
    }

    fn send(&mut self, id: ConnectionId, bytes: Vec<u8>, now: Instant) {
        if let Some(connection) = self.connection(id) {
            connection.queued(bytes.len(), now);
            self.actions.push_back(Action::Send(id, bytes));
        }
    }

    fn message(&mut self, id: ConnectionId, message: Message, now: Instant) {
        self.messages_received += 1;
        let Some(connection) = self.connection(id) else { return };
        match (&connection.stage, message) {
            (_, Message::Notification(notification)) => self.notified(id, notification, now),
            (Stage::OpenSent, Message::Open(open)) => self.opened(id, &open, now),
            (Stage::OpenConfirm(_), Message::Keepalive) => self.establish(id, now),
            (Stage::Established { .. }, Message::Keepalive) => connection.restart_hold_timer(now),
            (Stage::Established { .. }, Message::Update(received)) => {
                connection.restart_hold_timer(now);
                self.actions.push_back(Action::Update(Box::new(received)));
            }
            (Stage::Established { .. }, Message::RouteRefresh(refresh)) => {
                connection.restart_hold_timer(now);
                self.actions.push_back(Action::Refresh(refresh));
            }
            (stage, _) => {
                let subcode = match stage {
                    Stage::Connecting | Stage::OpenSent => fsm_error::OPEN_SENT,
                    Stage::OpenConfirm(_) => fsm_error::OPEN_CONFIRM,
                    Stage::Established { .. } => fsm_error::ESTABLISHED,
                };
                let notification = Notification::new(error::FSM, subcode);
                self.refuse(id, notification.clone(), Reason::Sent(notification), now);
            }
        }
    }

    /// The peer's OPEN.
    fn opened(&mut self, id: ConnectionId, open: &Open, now: Instant) {
        let settings = &self.settings;
        let agreed = check_peer(open, settings.remote_as, settings.local_as, settings.router_id)
            .and_then(|()| negotiate::negotiate(settings, open));
        let mut negotiated = match agreed {
            Ok(negotiated) => negotiated,
            Err(error) => {
                let (notification, reason) = (error.notification.clone(), self.refusal(open, error));
                return self.refuse(id, notification, reason, now);
            }
        };
        let held = match self.resolve_collision(id, open.router_id, now) {
            Resolution::Closed => return,
            Resolution::Held => true,
            Resolution::Stays => false,
        };
        let connection = self.connection(id).expect("it survived");
        negotiated.opens = std::mem::take(&mut connection.opens);
        connection.stage = Stage::OpenConfirm(Box::new(negotiated));
        connection.held = held;
        connection.deadline = Some(now + COLLISION_HOLD);
        if !held {
            self.confirm(id, now);
        }
        self.report(now);
    }

    /// Agrees to the peer's OPEN.
    fn confirm(&mut self, id: ConnectionId, now: Instant) {
        let jitter = &mut self.jitter;
        let slots = [&mut self.outgoing, &mut self.incoming];
        let Some(connection) = slots.into_iter().flatten().find(|connection| connection.id == id) else {
            return;
        };
        connection.held = false;
        connection.restart_hold_timer(now);
        let interval = connection.negotiated().map_or(Duration::ZERO, |negotiated| negotiated.keepalive);
        connection.keepalive = (!interval.is_zero()).then(|| now + jitter.scale(interval));
        self.send(id, Message::keepalive(), now);
    }

    fn establish(&mut self, id: ConnectionId, now: Instant) {
        // The peer agrees to a connection that we hold: it has given up the one that we are established on.
        if let Some(old) = self.established.take() {
            self.actions.push_back(Action::Close(old.id));
            let reason = Reason::Received(Notification::new(error::CEASE, cease::COLLISION));
            self.went_down(&old, &reason, Ending::WeClosed(fsm_event::OPEN_COLLISION_DUMP));
            self.confirm(id, now);
        }
        let mut connection = self.take(id).expect("its KEEPALIVE has just come");
        let Stage::OpenConfirm(negotiated) = connection.stage else { unreachable!("checked by the caller") };
        let ours = (self.settings.router_id, self.settings.local_as);
        let would_stay = survivor(ours, (negotiated.router_id, self.settings.remote_as));
        for mut other in [self.outgoing.take(), self.incoming.take()].into_iter().flatten() {
            if other.direction == would_stay && !matches!(other.stage, Stage::Connecting) {
                other.deadline = Some(now + COLLISION_HOLD);
                match other.direction {
                    Direction::Outgoing => self.outgoing = Some(other),
                    Direction::Incoming => self.incoming = Some(other),
                }
                continue;
            }
            let told = !matches!(other.stage, Stage::Connecting);
            let collision = Notification::new(error::CEASE, cease::COLLISION);
            self.farewell(&other, told.then_some(collision));
        }
        self.actions.push_back(Action::Established(negotiated.clone()));
        connection.stage = Stage::Established { negotiated, since: now };
        connection.restart_hold_timer(now);
        self.established = Some(connection);
        self.retry_at = None;
        self.reason = None;
        self.forwarding_preserved = true;
        self.report(now);
    }

    /// Connections that were held go on when the established one is gone.
    fn release_held(&mut self, now: Instant) {
        if self.established.is_some() {
            return;
        }
        let held = [&self.outgoing, &self.incoming].into_iter().flatten().find(|connection| connection.held);
        if let Some(id) = held.map(|connection| connection.id) {
            self.confirm(id, now);
        }
    }

    fn has_connection(&self) -> bool {
        self.outgoing.is_some() || self.incoming.is_some() || self.established.is_some()
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slots = [&mut self.outgoing, &mut self.incoming, &mut self.established];
        slots.into_iter().flatten().find(|connection| connection.id == id)
    }

    fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let slots = [&mut self.outgoing, &mut self.incoming, &mut self.established];
        slots.into_iter().find_map(|slot| slot.take_if(|connection| connection.id == id))
    }

    fn report(&mut self, now: Instant) {
        let state = self.state();
        if state != self.reported {
            self.reported = state;
            self.since = now;
            self.actions.push_back(Action::State(state, self.reason.clone()));
        }
    }
}
