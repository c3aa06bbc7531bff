//! Why a session is not up, in words.

use std::fmt;
use std::time::Duration;

use crate::bfd::packet::Diagnostic;
use crate::config::Role;
use crate::packet::DecodeError;
use crate::packet::notification::Notification;
use crate::speaker::TransportFailure;
use crate::types::{Asn, Family};

/// Why a session went down, or does not come up. Each way has words of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Dialling failed.
    ConnectFailed(TransportFailure),
    /// The connection ended without a NOTIFICATION.
    ConnectionLost(TransportFailure),
    /// The peer's OPEN has another AS than configured (OPEN error/2).
    WrongAs {
        /// What is configured.
        configured: Asn,
        /// What the peer says.
        offered: Asn,
    },
    /// The roles of the two ends do not fit together (OPEN error/11, RFC 9234).
    RoleMismatch {
        /// Ours.
        ours: Role,
        /// The peer's, when it has said one: the value of its capability.
        theirs: Option<u8>,
    },
    /// What the peer sent cannot be taken; it was told so.
    Malformed(Box<DecodeError>),
    /// We found another fault and said so.
    Sent(Notification),
    /// The peer found fault and said so.
    Received(Notification),
    /// Nothing came for the hold time.
    HoldTimerExpired(Duration),
    /// A connection was there, but no OPEN came for so long.
    NoOpen(Duration),
    /// The peer has not read anything for as long as this (RFC 9687).
    SendHoldTimerExpired(Duration),
    /// The peer has more prefixes than it may (Cease/1).
    PrefixLimit {
        /// Of which family.
        family: Family,
        /// How many it may have.
        max: u32,
        /// After how long it is tried again; `None`: not before the peer's configuration changes.
        restart: Option<Duration>,
    },
    /// The peer dialled from further away than TTL security allows (RFC 5082).
    TooFarAway {
        /// The TTL or hop limit that it arrived with.
        hop_limit: u8,
        /// What it must have at least.
        least: u8,
    },
    /// We wait for the peer to dial, and the kernel drops segments that are not signed as they should be (RFC 2385,
    /// RFC 5925); it does not say whose.
    Unsigned,
    /// BFD says that the path to the peer is down; the peer was told so, if it can be (Cease/10, RFC 9384).
    PathDown(Diagnostic),
    /// The session is not begun before BFD says that the path is up.
    WaitsForPath,
    /// The peer dialled again while a session was up: it has restarted (RFC 4724, section 4.2).
    PeerRestarted,
    /// The configuration changed in a way that a session cannot follow.
    Reconfigured,
    /// The speaker stops.
    Stopped,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(failure) => write!(f, "connect: {failure}"),
            Self::ConnectionLost(failure) => write!(f, "connection lost: {failure}"),
            Self::WrongAs { configured, offered } => {
                write!(f, "wrong AS: peer is in AS {offered}, but AS {configured} is configured")
            }
            Self::RoleMismatch { ours, theirs } => role_mismatch(*ours, *theirs, f),
            Self::Malformed(error) => {
                write!(f, "we closed: {}: {} ({})", error.field, error.reason, error.notification)
            }
            Self::Sent(notification) => write!(f, "we closed: {notification}"),
            Self::Received(notification) => write!(f, "peer closed: {notification}"),
            Self::HoldTimerExpired(hold) => write!(f, "hold timer expired ({} s)", hold.as_secs()),
            Self::NoOpen(wait) => write!(f, "connected, but no OPEN came for {} s", wait.as_secs()),
            Self::SendHoldTimerExpired(hold) => {
                write!(f, "peer has not read for {} s (send hold timer)", hold.as_secs())
            }
            Self::PrefixLimit { family, max, restart } => {
                write!(f, "prefix limit: more than {max} of {family}; ")?;
                match restart {
                    Some(after) => write!(f, "tried again after {} s", after.as_secs()),
                    None => f.write_str("stays down until the peer's configuration changes"),
                }
            }
            Self::TooFarAway { hop_limit, least } => {
                write!(f, "TTL security: peer dialled with TTL {hop_limit}, at least {least} is needed")
            }
            Self::Unsigned => f.write_str(
                "waiting for the peer, while the kernel drops segments with a wrong signature or without one: \
                 is the password (MD5, TCP-AO) the same at both ends?",
            ),
            Self::PathDown(diagnostic) => write!(f, "BFD: path down: {diagnostic}"),
            Self::WaitsForPath => f.write_str("waiting for BFD to say that the path is up"),
            Self::PeerRestarted => f.write_str("peer has restarted"),
            Self::Reconfigured => f.write_str("configuration changed"),
            Self::Stopped => f.write_str("speaker stopped"),
        }
    }
}

fn role_mismatch(ours: Role, theirs: Option<u8>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "role mismatch: we are {ours}, so the peer must be {}", ours.counterpart())?;
    match theirs.map(|code| (code, Role::from_code(code))) {
        None => f.write_str(", but it says nothing"),
        Some((_, Some(role))) => write!(f, ", but it says {role}"),
        Some((code, None)) => write!(f, ", but it says {code}, which is no role"),
    }
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable => f.write_str("no route to the peer"),
            Self::Unsigned => f.write_str(
                "timed out, no answer was signed as it should be: \
                 is the password (MD5, TCP-AO) the same at both ends, and does the peer listen?",
            ),
            Self::TooFarAway => f.write_str(
                "timed out, answers came with a lower TTL than TTL security allows: \
                 does the peer listen, and are ttlSecurity and the number of hops right at both ends?",
            ),
            Self::ClosedByPeer => f.write_str("closed by the peer"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Unsupported(text) => write!(f, "this host cannot do it: {text}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_read_the_same() {
        let failures = [
            TransportFailure::Refused,
            TransportFailure::TimedOut,
            TransportFailure::Unreachable,
            TransportFailure::Unsigned,
            TransportFailure::TooFarAway,
            TransportFailure::ClosedByPeer,
            TransportFailure::Reset,
            TransportFailure::Unsupported("TCP-AO".into()),
            TransportFailure::Other("no such device".into()),
        ];
        let second = Duration::from_secs(1);
        let shutdown = Notification::shutdown("back at noon");
        let error = DecodeError::new(1, "AS_PATH", "is odd", Notification::new(3, 11));
        let mut reasons: Vec<Reason> = failures.iter().cloned().map(Reason::ConnectFailed).collect();
        reasons.extend(failures.into_iter().map(Reason::ConnectionLost));
        reasons.extend([
            Reason::WrongAs { configured: Asn(1), offered: Asn(2) },
            Reason::RoleMismatch { ours: Role::Provider, theirs: None },
            Reason::RoleMismatch { ours: Role::Provider, theirs: Some(0) },
            Reason::RoleMismatch { ours: Role::Provider, theirs: Some(9) },
            Reason::Malformed(Box::new(error)),
            Reason::Sent(shutdown.clone()),
            Reason::Received(shutdown),
            Reason::HoldTimerExpired(second),
            Reason::NoOpen(second),
            Reason::SendHoldTimerExpired(second),
            Reason::PrefixLimit { family: Family::Ipv4Unicast, max: 1, restart: None },
            Reason::PrefixLimit { family: Family::Ipv4Unicast, max: 1, restart: Some(second) },
            Reason::TooFarAway { hop_limit: 64, least: 255 },
            Reason::Unsigned,
            Reason::PeerRestarted,
            Reason::Reconfigured,
            Reason::Stopped,
        ]);
        let texts: std::collections::BTreeSet<String> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), reasons.len(), "{texts:#?}");
        assert!(texts.iter().any(|text| text.contains("back at noon")));
    }
}
