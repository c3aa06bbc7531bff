//! The speaker: sessions and RIBs joined.

mod io;
mod status;

pub use io::{BestRoute, Input, Output, Shutdown, TransportFailure};
pub use status::{EstablishedStatus, MessageCounts, PeerStatus};

/// Whether the kernel still forwards on routes of an earlier life of this speaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No: routes are used as they come.
    Fresh,
    /// Yes: peers are told so, and learned routes are used once they are complete (RFC 4724, section 4.1).
    Restarting,
}

/// A BGP speaker.
#[derive(Debug)]
pub struct Speaker {
    config: crate::config::SpeakerConfig,
}

impl Speaker {
    /// The configuration in force.
    pub fn config(&self) -> &crate::config::SpeakerConfig {
        &self.config
    }
}
