//! Liveness detection towards a peer.

use std::time::Duration;

/// Bidirectional forwarding detection (RFC 5880) beside the session with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bfd {
    /// The peer may be several hops away: UDP port 4784 and any TTL (RFC 5883), else 3784 and TTL 255 only (RFC 5881).
    pub multihop: bool,
    /// How often we want to send, and are ready to receive, while the path is up.
    pub interval: Duration,
    /// After how many missed packets the peer takes the path for down. At least 1.
    pub multiplier: u8,
    /// The session is only begun while BFD says that the path is up. Otherwise it is begun at once, and BFD only ends it.
    pub strict: bool,
}

impl Bfd {
    /// The shortest interval that is accepted.
    pub const MIN_INTERVAL: Duration = Duration::from_millis(10);
    /// The longest: more than this is what the hold timer is for.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(60);
}

impl Default for Bfd {
    /// A single hop, 300 ms three times.
    fn default() -> Self {
        Self { multihop: false, interval: Duration::from_millis(300), multiplier: 3, strict: false }
    }
}
