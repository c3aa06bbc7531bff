//! Which of two connections with the same peer stays (RFC 4271, section 6.8; RFC 6286, section 2.3).

use std::time::{Duration, Instant};

use super::connection::{Connection, Stage};
use super::{Action, Ending, Negotiated, Reason, Session};
use crate::iana::{cease, error, fsm_event};
use crate::packet::notification::Notification;
use crate::types::{Asn, ConnectionId, RouterId};

/// How long after a session came up another connection is still a collision and not a restart of the peer.
pub(super) const COLLISION_WINDOW: Duration = Duration::from_secs(10);

/// Who dialled a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

/// "If the value of the local BGP Identifier is less than the remote one, the local system closes the BGP connection
/// that already exists […] and accepts the BGP connection initiated by the remote system", and the other way round:
/// the connection stays that the speaker with the higher identifier has dialled. With equal identifiers, in two ASes,
/// the higher AS number decides.
pub fn survivor(local: (RouterId, Asn), remote: (RouterId, Asn)) -> Direction {
    if (local.0, local.1) > (remote.0, remote.1) { Direction::Outgoing } else { Direction::Incoming }
}

/// What becomes of a connection after a collision.
pub(super) enum Resolution {
    Stays,
    Held,
    Closed,
}

impl Session {
    /// What becomes of a connection whose OPEN has come, and of those beside it.
    pub(super) fn resolve_collision(
        &mut self,
        id: ConnectionId,
        remote: RouterId,
        now: Instant,
    ) -> Resolution {
        let collision = Notification::new(error::CEASE, cease::COLLISION);
        let direction = self.connection(id).expect("its OPEN has just come").direction;
        let ours = (self.settings.router_id, self.settings.local_as);
        let stays = survivor(ours, (remote, self.settings.remote_as));
        if let Some(old) = &self.established {
            if gives_way(old, now) {
                let old = self.established.take().expect("it was there");
                self.actions.push_back(Action::Close(old.id));
                let ending = Ending::WeClosed(fsm_event::OPEN_COLLISION_DUMP);
                self.went_down(&old, &Reason::PeerRestarted, ending);
                self.reason = Some(Reason::PeerRestarted);
                return Resolution::Stays;
            }
            if stays == direction && old.direction != direction && is_recent(old, now) {
                return Resolution::Held;
            }
            let connection = self.take(id).expect("its OPEN has just come");
            self.farewell(&connection, Some(collision));
            return Resolution::Closed;
        }
        let other = match direction {
            Direction::Outgoing => &self.incoming,
            Direction::Incoming => &self.outgoing,
        };
        let Some(other) = other.as_ref().filter(|other| matches!(other.stage, Stage::OpenConfirm(_))) else {
            return Resolution::Stays;
        };
        let loser = if stays == direction { other.id } else { id };
        let connection = self.take(loser).expect("both are there");
        self.farewell(&connection, Some(collision));
        if loser == id { Resolution::Closed } else { Resolution::Stays }
    }
}

fn is_recent(connection: &Connection, now: Instant) -> bool {
    matches!(connection.stage, Stage::Established { since, .. } if now - since < COLLISION_WINDOW)
}

/// Whether an established session gives way to a new connection of its peer: with graceful restart, and when the
/// new connection cannot have been dialled together with the established one (RFC 4724, section 4.2).
fn gives_way(old: &Connection, now: Instant) -> bool {
    old.negotiated().is_some_and(Negotiated::does_graceful_restart) && !is_recent(old, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(last: u8, asn: u32) -> (RouterId, Asn) {
        (RouterId([192, 0, 2, last].into()), Asn(asn))
    }

    #[test]
    fn the_higher_identifier_keeps_what_it_dialled() {
        assert_eq!(survivor(speaker(2, 1), speaker(1, 1)), Direction::Outgoing);
        assert_eq!(survivor(speaker(1, 1), speaker(2, 1)), Direction::Incoming);
        assert_eq!(survivor(speaker(1, 9), speaker(2, 1)), Direction::Incoming);
    }

    #[test]
    fn both_ends_agree_also_when_identifiers_are_equal() {
        for (a, b) in [(speaker(1, 1), speaker(2, 1)), (speaker(1, 1), speaker(1, 2))] {
            assert_ne!(survivor(a, b), survivor(b, a));
        }
    }
}
