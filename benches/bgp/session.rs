//! A neighbour's session with the speaker, and which prefixes the neighbour has.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::{Result, bail};

use super::stream::Stream;
use super::wire::{self, Prefix, Said};
use crate::harness::bits::Bits;

/// Who a neighbour is.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    /// Numbers of the prefixes that it announces itself. A speaker may send them back, as FRR does to reflection clients,
    /// which drop them: they do not count.
    pub(crate) own: Range<usize>,
    /// What it says in its OPEN, in seconds.
    pub(crate) hold_time: u16,
}

/// What neighbours say where it does not matter, in seconds.
pub(crate) const LONG: u16 = 240;

/// A neighbour's session.
pub(super) struct Session {
    pub(super) neighbour: Neighbour,
    pub(super) stream: Stream,
    said_open: bool,
    pub(super) is_established: bool,
    pub(super) has: Bits,
    pub(super) updates: u64,
}

impl Session {
    /// Begins a session on a connection.
    pub(super) fn open(neighbour: Neighbour, mut stream: Stream) -> Result<Self> {
        stream.queue(&wire::open(neighbour.asn, neighbour.address, neighbour.hold_time));
        stream.flush()?;
        let has = Bits::default();
        Ok(Self { neighbour, stream, said_open: false, is_established: false, has, updates: 0 })
    }

    /// Reads once, and answers.
    ///
    /// # Errors
    /// The speaker has ended the session.
    pub(super) fn take_in(&mut self) -> Result<()> {
        let (mut answer, mut refused) = (false, None);
        let Self { neighbour, stream, said_open, is_established, has, updates } = self;
        let mut note = |prefix: Prefix, present| {
            if let Some(number) = prefix.number().filter(|number| !neighbour.own.contains(number)) {
                has.set(number, present);
            }
        };
        stream.receive(|octets| {
            wire::read(octets, |said| match said {
                Said::Announced(prefix) => note(prefix, true),
                Said::Withdrawn(prefix) => note(prefix, false),
                Said::Update => *updates += 1,
                Said::Open => *said_open = true,
                // The first says that our OPEN was taken; only then FRR wants to hear the same.
                Said::Keepalive => {
                    *is_established |= *said_open;
                    answer = true;
                }
                Said::Notification(code, subcode) => refused = Some((code, subcode)),
            })
        })?;
        let address = self.neighbour.address;
        if let Some((code, subcode)) = refused {
            bail!(
                "its session with {address} failed: it sent a NOTIFICATION, code {code}, subcode {subcode}"
            );
        }
        if self.stream.closed {
            bail!("its session with {address} failed: it closed the connection");
        }
        if answer {
            self.stream.queue(&wire::keepalive());
            self.stream.flush()?;
        }
        Ok(())
    }
}
