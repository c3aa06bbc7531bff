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

mod alias;
mod collision;
mod connection;
mod ending;
mod handover;
mod handshake;
mod jitter;
mod negotiate;
mod open_check;
mod path;
mod reason;
mod remedy;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use collision::{Direction, survivor};
use ending::hard_reset;
pub use ending::{Ending, Loss};
pub use negotiate::{Negotiated, Opens, PeerLongLived, PeerRestart};
pub use open_check::check_peer;
pub use reason::Reason;
pub(crate) use remedy::waiting;
pub use settings::Settings;
pub use state::SessionState;

use crate::iana::fsm_event;
use crate::packet::capability::Capability;
use crate::packet::notification::Notification;
use crate::packet::route_refresh::RouteRefresh;
use crate::packet::update::Received;
use crate::speaker::TransportFailure;
use crate::types::{Asn, ConnectionId};
use connection::{Connection, Stage};
pub(crate) use jitter::Jitter;

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
    /// The AS number of our next OPEN.
    speaks_as: Asn,
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
            speaks_as: settings.local_as,
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

    /// The capabilities that our OPENs offer.
    pub fn offered(&self) -> Vec<Capability> {
        negotiate::our_open(&self.spoken(), self.restarting, self.forwarding_preserved).capabilities
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

    fn next_id(&mut self) -> ConnectionId {
        self.connections_made += 1;
        ConnectionId(u64::from(self.number) << 32 | u64::from(self.connections_made))
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slots = [&mut self.outgoing, &mut self.incoming, &mut self.established];
        slots.into_iter().flatten().find(|connection| connection.id == id)
    }

    fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let slots = [&mut self.outgoing, &mut self.incoming, &mut self.established];
        slots.into_iter().find_map(|slot| slot.take_if(|connection| connection.id == id))
    }
}
