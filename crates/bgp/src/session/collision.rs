//! Which of two connections with the same peer stays (RFC 4271, section 6.8; RFC 6286, section 2.3).

use crate::types::{Asn, RouterId};

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
