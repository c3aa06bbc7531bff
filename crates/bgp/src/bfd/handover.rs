//! BFD's sessions on their way from one process to another. They are handed over last, and by themselves, since a path whose
//! packets stay away for a few tens of milliseconds is down.

use std::time::{Duration, Instant};

use super::Path;
use super::packet::{Diagnostic, State};
use super::session::{Heard, Session};
use super::table::{Table, Target};
use crate::config::Bfd;
use crate::handover::HandoverError;
use crate::handover::wire::{self, choices, fields};
use crate::types::PeerId;

/// All sessions of a [`Table`], at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandedPaths {
    /// Them, by the names of their peers.
    pub paths: Vec<HandedPath>,
}

/// A session. The names are those of RFC 5880, section 6.8.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedPath {
    /// Whose.
    pub peer: PeerId,
    /// The path.
    pub target: Target,
    /// bfd.LocalDiscr.
    discriminator: u32,
    /// bfd.RemoteDiscr.
    remote: u32,
    /// bfd.SessionState.
    state: State,
    /// bfd.LocalDiag.
    diagnostic: Diagnostic,
    /// What the other end said last.
    heard: Option<Heard>,
    /// A poll sequence is going on.
    polling: bool,
    /// What our sending goes by.
    desired_min_tx: Duration,
    /// What detection goes by.
    required_min_rx: Duration,
    /// Until the next packet.
    send_in: Duration,
    /// Until it counts as silent.
    detect_in: Option<Duration>,
    /// How long it has had its state.
    age: Duration,
    /// What was said of the path last.
    pub told: Option<Path>,
}

choices!(State { AdminDown = 0, Down = 1, Init = 2, Up = 3 });
fields!(Bfd { multihop, interval, multiplier, strict });
fields!(Target { local, remote, interface, bfd });
fields!(Heard { state, desired_min_tx, required_min_rx, multiplier, independent });
fields!(HandedPaths { paths });
fields!(HandedPath {
    peer,
    target,
    discriminator,
    remote,
    state,
    diagnostic,
    heard,
    polling,
    desired_min_tx,
    required_min_rx,
    send_in,
    detect_in,
    age,
    told,
});

impl HandedPaths {
    /// As octets, with the version of [`Handover`](crate::handover::Handover) first.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// From octets.
    ///
    /// # Errors
    /// They are another version's, or no such thing at all.
    pub fn decode(octets: &[u8]) -> Result<Self, HandoverError> {
        wire::decode(octets)
    }
}

impl Session {
    fn hand_over(&self, peer: &PeerId, target: &Target, now: Instant) -> HandedPath {
        HandedPath {
            peer: peer.clone(),
            target: target.clone(),
            discriminator: self.discriminator,
            remote: self.remote,
            state: self.state,
            diagnostic: self.diagnostic,
            heard: self.heard,
            polling: self.polling,
            desired_min_tx: self.desired_min_tx,
            required_min_rx: self.required_min_rx,
            send_in: self.next_send.saturating_duration_since(now),
            detect_in: self.detect_at.map(|at| at.saturating_duration_since(now)),
            age: now.saturating_duration_since(self.since),
            told: self.told,
        }
    }

    fn take_over(handed: &HandedPath, seed: u64, now: Instant) -> Self {
        Self {
            remote: handed.remote,
            state: handed.state,
            diagnostic: handed.diagnostic,
            heard: handed.heard,
            polling: handed.polling,
            desired_min_tx: handed.desired_min_tx,
            required_min_rx: handed.required_min_rx,
            next_send: now + handed.send_in,
            detect_at: handed.detect_in.map(|left| now + left),
            since: now.checked_sub(handed.age).unwrap_or(now),
            told: handed.told,
            ..Self::new(handed.target.bfd, handed.discriminator, seed, now)
        }
    }
}

impl Table {
    /// Everything that another process needs to go on in this one's place. [`Table::poll_output`] has given `None`.
    pub fn hand_over(&self, now: Instant) -> HandedPaths {
        let entries = self.names.values().map(|number| &self.sessions[number]);
        HandedPaths {
            paths: entries.map(|entry| entry.session.hand_over(&entry.peer, &entry.target, now)).collect(),
        }
    }

    /// A table that goes on in the place of another one.
    pub fn take_over(handed: &HandedPaths, seed: u64, now: Instant) -> Self {
        let mut table = Self::new(seed);
        for path in &handed.paths {
            let number = path.discriminator;
            let session = Session::take_over(path, table.random.next(), now);
            table.insert(&path.peer, &path.target, number, session);
        }
        table
    }
}
