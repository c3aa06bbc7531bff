//! How connections end, what that means for the peer's routes, and when the next attempt is.

use std::time::{Duration, Instant};

use super::connection::{Connection, Stage};
use super::{Action, Negotiated, Reason, Session, negotiate};
use crate::iana::{cease, error, open_error};
use crate::packet::DecodeError;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::types::ConnectionId;

/// The first wait after an error; it doubles with every further one.
const IDLE_HOLD_FIRST: Duration = Duration::from_secs(1);
/// The first wait before dialling again; it doubles up to the configured time.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(500);
/// So many short sessions in a row may end without fault before the peer counts as flapping.
const FLAPS: u32 = 2;
/// A session that has been up for so long has not failed in vain: waits start from the beginning.
pub(super) const STABLE: Duration = Duration::from_secs(30);

/// What the end of an established session means for the peer's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// They go.
    ForGood,
    /// They are kept for a while: the peer does graceful restart, and this may be one.
    Restart,
    /// They are kept: the peer has only chosen another connection.
    Collision,
}

/// How an established session ended, as observers are told (RFC 7854, section 4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// We closed it with this NOTIFICATION.
    WeSaid(Notification),
    /// We closed it without one: the event of RFC 4271, section 8.1; 0 if none fits.
    WeClosed(u16),
    /// The peer closed it with this NOTIFICATION.
    PeerSaid(Notification),
    /// The connection ended without one.
    PeerClosed,
}

impl Ending {
    /// What follows from the reason: a fault that we found was told to the peer.
    fn of(reason: &Reason) -> Self {
        match reason {
            Reason::Received(notification) => Self::PeerSaid(notification.clone()),
            Reason::Sent(notification) => Self::WeSaid(notification.clone()),
            Reason::Malformed(error) => Self::WeSaid(error.notification.clone()),
            Reason::HoldTimerExpired(_) => Self::WeSaid(Notification::new(error::HOLD_TIMER, 0)),
            Reason::SendHoldTimerExpired(_) => Self::WeSaid(Notification::new(error::SEND_HOLD_TIMER, 0)),
            Reason::ConnectionLost(_) => Self::PeerClosed,
            // These end no established session, or do it by [`Session::stop`].
            Reason::ConnectFailed(_)
            | Reason::WrongAs { .. }
            | Reason::RoleMismatch { .. }
            | Reason::NoOpen(_)
            | Reason::PrefixLimit { .. }
            | Reason::TooFarAway { .. }
            | Reason::Unsigned
            | Reason::PathDown(_)
            | Reason::WaitsForPath
            | Reason::PeerRestarted
            | Reason::Reconfigured
            | Reason::Stopped => Self::WeClosed(0),
        }
    }
}

impl Session {
    /// The peer has sent a NOTIFICATION.
    pub(super) fn notified(&mut self, id: ConnectionId, notification: Notification, now: Instant) {
        let Some(connection) = self.take(id) else { return };
        self.actions.push_back(Action::Close(id));
        self.refused_as(connection.sent_as, &notification);
        let collision = is_collision(&notification);
        let reason = Reason::Received(notification);
        // The peer has chosen the other of our connections, or will choose among the next.
        if collision { self.lost(connection, reason, now) } else { self.failed(connection, reason, now) }
    }

    /// Why an OPEN is refused, in words that say what is configured.
    pub(super) fn refusal(&self, open: &Open, error: DecodeError) -> Reason {
        let settings = &self.settings;
        match (error.notification.subcode, settings.role) {
            (open_error::PEER_AS, _) => {
                Reason::WrongAs { configured: settings.remote_as, offered: open.effective_as() }
            }
            (open_error::ROLE, Some(ours)) => {
                Reason::RoleMismatch { ours: ours.role, theirs: negotiate::peer_role(open) }
            }
            _ => Reason::Malformed(Box::new(error)),
        }
    }

    pub(super) fn refuse_malformed(&mut self, id: ConnectionId, error: DecodeError, now: Instant) {
        self.refuse(id, error.notification.clone(), Reason::Malformed(Box::new(error)), now);
    }

    /// Closes a connection because of what came on it.
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        notification: Notification,
        reason: Reason,
        now: Instant,
    ) {
        let Some(connection) = self.take(id) else { return };
        self.farewell(&connection, Some(notification));
        self.failed(connection, reason, now);
    }

    /// A connection ended in an error: the peer rests for a while.
    pub(super) fn failed(&mut self, connection: Connection, reason: Reason, now: Instant) {
        self.went_down(&connection, &reason, Ending::of(&reason));
        self.release_held(now);
        self.reason = Some(reason);
        if self.has_connection() || !self.enabled {
            return self.report(now);
        }
        self.count_failure(&connection, now);
        self.rest(now);
        self.report(now);
    }

    pub(super) fn count_failure(&mut self, connection: &Connection, now: Instant) {
        let stable = matches!(connection.stage, Stage::Established { since, .. } if now - since >= STABLE);
        self.failures = if stable { 1 } else { self.failures.saturating_add(1) };
    }

    /// Idle for a while: the longer, the more often it has failed (RFC 4271, section 8.1.1, DampPeerOscillations).
    pub(super) fn rest(&mut self, now: Instant) {
        let times = self.failures.saturating_sub(1);
        let hold = doubled(IDLE_HOLD_FIRST, times, self.settings.timers.idle_hold_max);
        self.idle_until = Some(now + self.jitter.scale(hold));
        self.retry_at = None;
    }

    /// A connection ended, or never was, without anybody's fault: it is tried again.
    pub(super) fn lost(&mut self, connection: Connection, reason: Reason, now: Instant) {
        self.went_down(&connection, &reason, Ending::of(&reason));
        self.release_held(now);
        if matches!(connection.stage, Stage::Established { .. }) {
            self.attempts = 0;
            self.count_failure(&connection, now);
            // One short session may be a restart of the peer; a row of them is flapping.
            if self.failures > FLAPS && self.enabled && !self.has_connection() {
                self.reason = Some(reason);
                self.rest(now);
                return self.report(now);
            }
        }
        if !self.has_connection() {
            self.reason = Some(reason);
        }
        if !self.settings.passive && self.enabled && self.idle_until.is_none() && !self.has_connection() {
            let wait = doubled(RETRY_FIRST, self.attempts, self.settings.timers.connect_retry);
            self.attempts = self.attempts.saturating_add(1);
            self.retry_at = Some(now + self.jitter.scale(wait));
        }
        self.report(now);
    }

    pub(super) fn went_down(&mut self, connection: &Connection, reason: &Reason, ending: Ending) {
        let Stage::Established { negotiated, .. } = &connection.stage else { return };
        self.actions.push_back(Action::Down(loss(negotiated, reason), ending));
    }
}

/// Whether the peer's routes outlive the session (RFC 4724, section 4.2; RFC 8538, section 4).
fn loss(negotiated: &Negotiated, reason: &Reason) -> Loss {
    let Some(restart) = negotiated.graceful_restart.as_ref().filter(|_| negotiated.does_graceful_restart())
    else {
        return Loss::ForGood;
    };
    let kept = match reason {
        Reason::ConnectionLost(_) | Reason::PeerRestarted => true,
        Reason::Received(notification) if is_collision(notification) => return Loss::Collision,
        Reason::Received(notification) | Reason::Sent(notification) => {
            restart.notification && !notification.is_hard_reset()
        }
        Reason::Malformed(_) | Reason::HoldTimerExpired(_) | Reason::SendHoldTimerExpired(_) => {
            restart.notification
        }
        // These end no established session, or one for good.
        Reason::ConnectFailed(_)
        | Reason::WrongAs { .. }
        | Reason::RoleMismatch { .. }
        | Reason::NoOpen(_)
        | Reason::PrefixLimit { .. }
        | Reason::TooFarAway { .. }
        | Reason::Unsigned
        | Reason::PathDown(_)
        | Reason::WaitsForPath
        | Reason::Reconfigured
        | Reason::Stopped => false,
    };
    if kept { Loss::Restart } else { Loss::ForGood }
}

fn is_collision(notification: &Notification) -> bool {
    notification.code == error::CEASE && notification.subcode == cease::COLLISION
}

/// Cease/Hard Reset around another NOTIFICATION (RFC 8538, section 3.1).
pub(super) fn hard_reset(inner: &Notification) -> Notification {
    let mut data = vec![inner.code, inner.subcode];
    data.extend_from_slice(&inner.data);
    Notification::with_data(error::CEASE, cease::HARD_RESET, data)
}

fn doubled(first: Duration, times: u32, limit: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(limit)
}
