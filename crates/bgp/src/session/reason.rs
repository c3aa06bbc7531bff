//! Why a session is not up, in words.

use std::fmt;
use std::time::Duration;

use crate::packet::notification::Notification;
use crate::speaker::TransportFailure;

/// Why a session went down, or does not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Dialling failed.
    ConnectFailed(TransportFailure),
    /// The connection ended without a NOTIFICATION.
    ConnectionLost(TransportFailure),
    /// We found fault and said so.
    Sent(Notification),
    /// The peer found fault and said so.
    Received(Notification),
    /// Nothing came for the hold time.
    HoldTimerExpired(Duration),
    /// The peer has not read anything for as long as this (RFC 9687).
    SendHoldTimerExpired(Duration),
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
            Self::Sent(notification) => write!(f, "we closed: {notification}"),
            Self::Received(notification) => write!(f, "peer closed: {notification}"),
            Self::HoldTimerExpired(hold) => write!(f, "hold timer expired ({} s)", hold.as_secs()),
            Self::SendHoldTimerExpired(hold) => {
                write!(f, "peer has not read for {} s (send hold timer)", hold.as_secs())
            }
            Self::PeerRestarted => f.write_str("peer has restarted"),
            Self::Reconfigured => f.write_str("configuration changed"),
            Self::Stopped => f.write_str("speaker stopped"),
        }
    }
}

impl fmt::Display for TransportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable => f.write_str("no route to the peer"),
            Self::ClosedByPeer => f.write_str("closed by the peer"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Other(text) => f.write_str(text),
        }
    }
}
