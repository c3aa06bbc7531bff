//! When a session dials, gives up, and says that it is alive.

use std::time::{Duration, Instant};

use super::connection::{Connection, Stage};
use super::{Action, Direction, Reason, Session};
use crate::iana::{cease, error};
use crate::packet::Message;
use crate::packet::notification::Notification;
use crate::speaker::TransportFailure;
use crate::types::ConnectionId;

/// By how much the shell may be late to say that nobody answers.
const DIAL_MARGIN: Duration = Duration::from_secs(2);

impl Session {
    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connections = [&self.outgoing, &self.incoming, &self.established];
        let deadlines = connections.into_iter().flatten().filter_map(Connection::next_deadline);
        deadlines.chain(self.idle_until).chain(self.retry_at).min()
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

    pub(super) fn connection_timeout(&mut self, id: ConnectionId, now: Instant) {
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

    pub(super) fn deadline(&mut self, id: ConnectionId, now: Instant) {
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

    pub(super) fn begin(&mut self, now: Instant) {
        self.attempts = 0;
        if !self.settings.passive {
            self.dial(now);
        }
    }

    pub(super) fn dial(&mut self, now: Instant) {
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
}
