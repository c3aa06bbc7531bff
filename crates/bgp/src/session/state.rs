//! The state of a session, as operators see it.

use std::fmt;
use std::time::Instant;

use super::connection::{Connection, Stage};
use super::{Action, Negotiated, Reason, Session};
use crate::types::ConnectionId;

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

impl Session {
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

    /// Whether nothing goes on: no connection, none under way.
    pub fn is_without_connection(&self) -> bool {
        !self.has_connection()
    }

    pub(super) fn has_connection(&self) -> bool {
        self.outgoing.is_some() || self.incoming.is_some() || self.established.is_some()
    }

    pub(super) fn report(&mut self, now: Instant) {
        let state = self.state();
        if state != self.reported {
            self.reported = state;
            self.since = now;
            self.actions.push_back(Action::State(state, self.reason.clone()));
        }
    }
}
