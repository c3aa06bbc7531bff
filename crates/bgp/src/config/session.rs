//! Options of a session beyond RFC 4271.

use std::fmt;
use std::time::Duration;

use crate::types::Asn;

/// Who we are towards an external peer (RFC 9234, section 3.1; the values are the capability's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// We are the peer's provider.
    Provider = 0,
    /// We are a route server.
    RouteServer = 1,
    /// We are a client of a route server.
    RouteServerClient = 2,
    /// We are the peer's customer.
    Customer = 3,
    /// We are the peer's equal.
    Peer = 4,
}

impl Role {
    /// The role with this value in the capability; `None` for values that are not assigned.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Provider, Self::RouteServer, Self::RouteServerClient, Self::Customer, Self::Peer]
            .into_iter()
            .find(|role| *role as u8 == code)
    }

    /// The role that the peer must have (RFC 9234, section 4.2, table 2).
    #[must_use]
    pub fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }

    /// Whether routes go up or across: from us to a provider, an equal or a route server (RFC 9234, section 5).
    pub fn looks_up(self) -> bool {
        matches!(self, Self::Customer | Self::Peer | Self::RouteServerClient)
    }

    /// Whether routes go down or across: from us to a customer, an equal or a route server's client.
    pub fn looks_down(self) -> bool {
        matches!(self, Self::Provider | Self::Peer | Self::RouteServer)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider",
            Self::RouteServer => "route server",
            Self::RouteServerClient => "route server client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        })
    }
}

/// Our role towards a peer. Ignored for internal peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleConfig {
    /// What we are.
    pub role: Role,
    /// Strict mode (RFC 9234, section 4.2): a peer that does not say its role is refused.
    pub strict: bool,
}

/// Another AS number than our own towards a peer (RFC 7705). Calico's `localASNumber` is
/// [`LocalAs::instead_of_ours`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAs {
    /// The number that the peer knows us by.
    pub asn: Asn,
    /// Received paths do not get this number put in front ("no prepend inbound").
    pub no_prepend: bool,
    /// Paths that we send have this number in place of our own, not in front of it ("replace old AS").
    pub replace_as: bool,
}

impl LocalAs {
    /// The peer sees this number only, and paths inside stay as they came: what `local as` means to BIRD.
    pub fn instead_of_ours(asn: Asn) -> Self {
        Self { asn, no_prepend: true, replace_as: true }
    }
}

/// How many prefixes a peer may have, for each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixLimit {
    /// More than so many end the session (Cease/1, RFC 4486).
    pub max: u32,
    /// At this share of it, in percent, there is a warning.
    pub warn_percent: u8,
    /// When the session is tried again; `None`: not before the configuration of the peer changes.
    pub restart: Option<Duration>,
}

impl PrefixLimit {
    /// With a warning at 80 %, and a new attempt after five minutes.
    pub fn new(max: u32) -> Self {
        Self { max, warn_percent: 80, restart: Some(Duration::from_secs(300)) }
    }

    /// From so many prefixes on there is a warning.
    pub fn warn_at(&self) -> u32 {
        let at = u64::from(self.max) * u64::from(self.warn_percent.min(100)) / 100;
        u32::try_from(at).expect("not above the maximum")
    }
}

/// Long-lived graceful restart (RFC 9494). It follows graceful restart, and is not offered without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LongLived {
    /// How long the peer shall keep our routes after its graceful restart timer has run out, and how long we keep its
    /// routes at most. Whole seconds, below 2^24.
    pub stale_time: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_counterpart_that_has_it() {
        for code in 0..5 {
            let role = Role::from_code(code).unwrap();
            assert_eq!(role as u8, code);
            assert_eq!(role.counterpart().counterpart(), role);
        }
        assert_eq!(Role::from_code(5), None);
    }

    #[test]
    fn the_warning_comes_at_its_share() {
        assert_eq!(PrefixLimit::new(1000).warn_at(), 800);
        assert_eq!(PrefixLimit { warn_percent: 200, ..PrefixLimit::new(u32::MAX) }.warn_at(), u32::MAX);
    }
}
