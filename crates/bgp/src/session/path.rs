//! What BFD means for a session (RFC 5882, section 4.3; RFC 9384).

use std::time::Instant;

use super::{Reason, Session};
use crate::bfd::packet::Diagnostic;
use crate::iana::{cease, error};
use crate::packet::notification::Notification;

impl Session {
    /// The path is down: an established session ends at once, and the peer's routes go. One that is being made goes on:
    /// its own timers decide.
    pub fn path_down(&mut self, diagnostic: Diagnostic, now: Instant) {
        let Some(connection) = self.established.take() else { return };
        self.count_failure(&connection, now);
        self.established = Some(connection);
        let notification = Notification::new(error::CEASE, cease::BFD_DOWN);
        self.stop(Some(notification), Reason::PathDown(diagnostic), now);
        self.enabled = true;
        self.rest(now);
    }

    /// Whether the session is held back until the path is up. When it need not wait any more, it is begun at once.
    pub fn wait_for_path(&mut self, waits: bool, now: Instant) {
        if std::mem::replace(&mut self.waits_for_path, waits) == waits {
            return;
        }
        if waits && self.established.is_none() {
            self.retry_at = None;
            for connection in [self.outgoing.take(), self.incoming.take()].into_iter().flatten() {
                self.farewell(&connection, None);
            }
            self.reason.get_or_insert(Reason::WaitsForPath);
        }
        if !waits && self.enabled && !self.has_connection() {
            self.idle_until = None;
            self.begin(now);
        }
        self.report(now);
    }
}
