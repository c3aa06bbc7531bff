//! What a session is told to be.

use crate::config::{AddPath, GracefulRestart, LongLived, RoleConfig, Timers};
use crate::packet::PeerKind;
use crate::types::{Asn, FamilySet, RouterId};

/// What a session has to know; a change needs a new session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Our AS, as the peer knows it.
    pub local_as: Asn,
    /// Our identifier.
    pub router_id: RouterId,
    /// The peer's AS.
    pub remote_as: Asn,
    /// Another number of our AS, which an internal peer may go and know us by (RFC 7705, section 4).
    pub alias: Option<Asn>,
    /// We do not dial.
    pub passive: bool,
    /// The families that we offer.
    pub families: FamilySet,
    /// Timers.
    pub timers: Timers,
    /// Graceful restart, when we offer it.
    pub graceful_restart: Option<GracefulRestart>,
    /// Add-path, as far as we offer it.
    pub add_path: AddPath,
    /// Long-lived graceful restart, when we offer it; counts only together with graceful restart.
    pub long_lived: Option<LongLived>,
    /// Our role; counts only towards external peers.
    pub role: Option<RoleConfig>,
    /// The session runs over IPv6: IPv4 routes may need IPv6 next hops (RFC 8950).
    pub over_ipv6: bool,
}

impl Settings {
    /// Whether the peer is in our AS.
    pub fn peer_kind(&self) -> PeerKind {
        if self.local_as == self.remote_as { PeerKind::Internal } else { PeerKind::External }
    }

    /// Our role, towards external peers.
    pub(crate) fn external_role(&self) -> Option<RoleConfig> {
        self.role.filter(|_| self.peer_kind() == PeerKind::External)
    }
}
