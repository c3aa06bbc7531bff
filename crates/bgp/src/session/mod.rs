//! Sessions (RFC 4271, section 8).
mod open_check;
mod reason;

pub use open_check::check_peer;
pub use reason::Reason;

/// The states of RFC 4271, section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionState {
    /// Not trying: just failed, or shut down.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the peer to dial, or for the time to dial again.
    Active,
    /// We have sent our OPEN.
    OpenSent,
    /// The OPENs fit; waiting for the peer's agreement.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl std::fmt::Display for SessionState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        })
    }
}
