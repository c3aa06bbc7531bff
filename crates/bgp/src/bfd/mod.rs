//! Bidirectional forwarding detection without I/O (RFC 5880; single hop RFC 5881; multihop RFC 5883).
//!
//! [`packet`] is the wire, [`session`] the state machine of one path, [`Table`] all sessions of a host: who a packet is for
//! and when whose timers are due. Sockets and time are the shell's. What is not done is refused by name: authentication
//! and demand mode. There is no echo function: we say that we take no echo packets, and send none.
//!
//! Calling order of [`Table`]: any of [`Table::configure`], [`Table::receive`] and [`Table::handle_timeout`], then
//! [`Table::poll_output`] until it gives `None`, then sleep until [`Table::poll_timeout`] or the next packet. Time must not
//! go backwards.

mod handover;
pub mod packet;
pub mod session;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use packet::Diagnostic;

pub use handover::{HandedPath, HandedPaths};
pub use table::{Arrival, Output, Refused, SessionStatus, Table, Target};

/// The UDP port of control packets over a single hop (RFC 5881, section 4).
pub const SINGLE_HOP_PORT: u16 = 3784;
/// The UDP port of control packets over several hops (RFC 5883, section 5).
pub const MULTIHOP_PORT: u16 = 4784;
/// The UDP ports that control packets may be sent from (RFC 5881, section 4).
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;
/// The TTL of control packets; over a single hop the only one that is accepted (RFC 5881, section 5).
pub const TTL: u8 = 255;

/// What BFD says about the path to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Both ends hear each other.
    Up,
    /// They did, and no longer do.
    Down {
        /// How that was noticed.
        diagnostic: Diagnostic,
        /// The peer's packets do not depend on its control plane (bit C): its forwarding has failed, and not just its
        /// routing process.
        independent: bool,
    },
    /// The peer's operator holds BFD down, which says nothing about the path (RFC 5882, section 3.2).
    AdminDown,
}

impl Path {
    /// Whether a session that waits for BFD (`strict`) may be begun.
    pub fn lets_begin(self) -> bool {
        matches!(self, Self::Up | Self::AdminDown)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down { diagnostic, .. } => write!(f, "down: {diagnostic}"),
            Self::AdminDown => f.write_str("held down by the peer's operator"),
        }
    }
}
