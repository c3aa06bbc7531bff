//! One TCP connection on its way to, or in, a session.

use std::time::{Duration, Instant};

use super::{Direction, Negotiated, Opens};
use crate::packet::{Context, Framer, PeerKind};
use crate::types::{Asn, ConnectionId};

/// How long the peer may take for its OPEN (RFC 4271, section 8.2.2 suggests 4 minutes).
pub(super) const OPEN_WAIT: Duration = Duration::from_secs(240);
/// The least time that a peer may leave our bytes unread (RFC 9687, section 4).
const SEND_HOLD_MIN: Duration = Duration::from_secs(480);

/// A connection and its timers.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) direction: Direction,
    pub(super) stage: Stage,
    pub(super) framer: Framer,
    /// When to give up: dialling, waiting for the OPEN, or the hold timer.
    pub(super) deadline: Option<Instant>,
    /// Its OPEN has come, but another connection is established that this one would have won against: the peer's next
    /// move decides.
    pub(super) held: bool,
    /// When to send the next KEEPALIVE.
    pub(super) keepalive: Option<Instant>,
    /// Octets handed out that are not in the socket yet.
    pub(super) outstanding: usize,
    /// When the peer has left them unread for too long.
    pub(super) send_hold: Option<Instant>,
    /// The AS number in our OPEN.
    pub(super) sent_as: Option<Asn>,
    /// The OPENs, until they are agreed on.
    pub(super) opens: Opens,
}

/// How far a connection has got.
#[derive(Debug)]
pub(super) enum Stage {
    Connecting,
    OpenSent,
    OpenConfirm(Box<Negotiated>),
    Established { negotiated: Box<Negotiated>, since: Instant },
}

impl Connection {
    pub(super) fn new(id: ConnectionId, direction: Direction) -> Self {
        Self {
            id,
            direction,
            stage: Stage::Connecting,
            framer: Framer::default(),
            deadline: None,
            held: false,
            keepalive: None,
            outstanding: 0,
            send_hold: None,
            sent_as: None,
            opens: Opens::default(),
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.stage {
            Stage::OpenConfirm(negotiated) | Stage::Established { negotiated, .. } => Some(negotiated),
            Stage::Connecting | Stage::OpenSent => None,
        }
    }

    /// How messages are to be read now.
    pub(super) fn context(&self, peer: PeerKind) -> Context {
        self.negotiated().map_or_else(|| Context::initial(peer), |negotiated| negotiated.context)
    }

    pub(super) fn hold_time(&self) -> Duration {
        self.negotiated().map_or(OPEN_WAIT, |negotiated| negotiated.hold_time)
    }

    /// Something came from the peer.
    pub(super) fn restart_hold_timer(&mut self, now: Instant) {
        let hold_time = self.hold_time();
        self.deadline = (!hold_time.is_zero()).then(|| now + hold_time);
    }

    pub(super) fn send_hold_time(&self) -> Duration {
        SEND_HOLD_MIN.max(self.hold_time() * 2)
    }

    pub(super) fn queued(&mut self, octets: usize, now: Instant) {
        if self.outstanding == 0 {
            self.send_hold = Some(now + self.send_hold_time());
        }
        self.outstanding += octets;
    }

    pub(super) fn written(&mut self, octets: usize, now: Instant) {
        self.outstanding = self.outstanding.saturating_sub(octets);
        self.send_hold = (self.outstanding > 0).then(|| now + self.send_hold_time());
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        [self.deadline, self.keepalive, self.send_hold].into_iter().flatten().min()
    }
}
