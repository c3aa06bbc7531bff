//! Questions to a speaker: nothing in here changes anything.
//!
//! A table may have a million routes, and whoever asks shares the speaker's thread. So each answer is a page: it looks at
//! a bounded number of prefixes, holds a bounded amount of data, and says where the next one begins ([`Cursor`]).
//!
//! What a peer has been told is not stored anywhere (see [`crate::rib`]); it is worked out here by the very functions that
//! told it.

mod capabilities;
mod cursor;
mod dump;
mod future;
mod routes;
mod selection;
mod tally;
mod told;
mod view;
mod what_if;
mod why;

pub use capabilities::CapabilityPair;
pub use cursor::{Cursor, CursorError};
pub use dump::{DumpCursor, DumpPage};
pub use routes::{RouteFilter, RoutesPage, View};
pub use selection::Defeat;
pub use tally::Tally;
pub use told::{NotTold, ToldPeer};
pub use view::{RouteView, Unusable};
pub use what_if::{Hypothesis, RouteChange, SessionChange, SessionEvent, ToldChange, WhatIfPage};
pub use why::{AggregateView, Explanation, ImportTrace, PathExplanation, RejectedRoute};

use std::net::IpAddr;

use super::Speaker;
use crate::config::PeerConfig;
use crate::rib::PeerNumber;
use crate::types::PeerId;

/// Prefixes that a page looks at.
const EXAMINED: usize = 8192;
/// What a page may weigh, in octets of its text, roughly.
const WEIGHT: usize = 600_000;

/// Nobody of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No peer has this name or address.
    #[error("there is no peer {0}: see the names and addresses that `calicoctl bgp peers` shows")]
    Unknown(String),
    /// Several peers have this address.
    #[error("{address} is the address of several peers: name one of {}", names.join(", "))]
    Ambiguous {
        /// The address.
        address: IpAddr,
        /// Their names.
        names: Vec<String>,
    },
}

impl Speaker {
    /// The peer with this name, or else the one with this address.
    ///
    /// # Errors
    /// There is none, or several have the address.
    pub fn find_peer(&self, text: &str) -> Result<&PeerId, PeerError> {
        self.number(text).map(|number| &self.peers[&number].id)
    }

    /// How a peer is configured, members of ranges too.
    pub fn peer_config(&self, peer: &PeerId) -> Option<&PeerConfig> {
        self.numbers.get(peer).map(|number| &self.peers[number].config)
    }

    pub(super) fn number(&self, text: &str) -> Result<PeerNumber, PeerError> {
        if let Some(number) = self.numbers.get(&PeerId::from(text)) {
            return Ok(*number);
        }
        let unknown = || PeerError::Unknown(text.to_owned());
        let address: IpAddr = text.parse().map_err(|_| unknown())?;
        let of_it: Vec<PeerNumber> = self
            .numbers
            .values()
            .copied()
            .filter(|number| self.peers[number].config.address == address)
            .collect();
        match of_it[..] {
            [] => Err(unknown()),
            [number] => Ok(number),
            _ => {
                let names = of_it.iter().map(|number| self.peers[number].id.to_string()).collect();
                Err(PeerError::Ambiguous { address, names })
            }
        }
    }
}
