//! A session on its way from one process to another.

use std::time::{Duration, Instant};

use super::connection::{Connection, Stage};
use super::{Negotiated, Session, SessionState, Settings};
use crate::handover::{HandedSession, Octets};
use crate::packet::Framer;
use crate::types::Endpoints;

impl Session {
    /// Whether a connection is between being made and being a session, or held beside one: in a moment more will be known.
    pub(crate) fn is_opening(&self) -> bool {
        let opens = |connection: &Connection| !matches!(connection.stage, Stage::Connecting);
        [&self.outgoing, &self.incoming].into_iter().flatten().any(opens)
    }

    /// The established session.
    pub(crate) fn hand_over(&self, endpoints: Endpoints, now: Instant) -> Option<HandedSession> {
        let connection = self.established.as_ref()?;
        let Stage::Established { since, .. } = connection.stage else { return None };
        let left = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        Some(HandedSession {
            connection: connection.id,
            direction: connection.direction,
            endpoints,
            age: now.saturating_duration_since(since),
            hold_left: left(connection.deadline),
            keepalive_left: left(connection.keepalive),
            send_hold_left: left(connection.send_hold),
            messages_received: self.messages_received,
            input: Octets(connection.framer.pending().to_vec()),
            unsent: Octets::default(),
        })
    }

    /// A session that has been taken over.
    pub(crate) fn take_over(
        settings: Settings,
        number: u32,
        seed: u64,
        (handed, agreed): (&HandedSession, Negotiated),
        now: Instant,
    ) -> Self {
        let since = now.checked_sub(handed.age).unwrap_or(now);
        let mut session = Self::new(settings, number, seed, now);
        let after = |left: Option<Duration>| left.map(|left| now + left);
        session.enabled = true;
        session.forwarding_preserved = true;
        session.messages_received = handed.messages_received;
        let connection = Connection::new(session.next_id(), handed.direction);
        session.established = Some(Connection {
            stage: Stage::Established { negotiated: Box::new(agreed), since },
            framer: Framer::resume(handed.input.0.clone()),
            deadline: after(handed.hold_left),
            keepalive: after(handed.keepalive_left),
            outstanding: handed.unsent.0.len(),
            send_hold: after(handed.send_hold_left).filter(|_| !handed.unsent.0.is_empty()),
            ..connection
        });
        session.reported = SessionState::Established;
        session.since = since;
        session
    }
}
