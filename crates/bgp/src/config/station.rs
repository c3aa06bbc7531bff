//! Stations that are told what peers say (BMP, RFC 7854).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

/// A monitoring station. It is dialled, told everything that there is, and then what changes. One that cannot be reached, or
/// does not read, delays nobody. A change begins its connection anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is told; sessions that come and go in any case.
    pub views: BTreeSet<StationView>,
    /// Between reports of statistics; `None`: there are none.
    pub statistics: Option<Duration>,
}

/// A table that a station is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StationView {
    /// What peers say, before the import policy. What the policy changes or turns away is then kept, and the peers that have
    /// one are asked for their routes again when the first station wants this.
    PrePolicy,
    /// What peers say, behind the import policy.
    PostPolicy,
    /// The best route for each prefix, our own among them (RFC 9069).
    LocRib,
}

impl StationConfig {
    /// What peers say, as they say it, without statistics.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, views: BTreeSet::from([StationView::PrePolicy]), statistics: None }
    }
}
