//! A neighbour's session with the speaker, and which prefixes the neighbour has.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::{Result, bail};

use super::stream::Stream;
use super::wire::{self, Prefix, Said};

/// Who a neighbour is.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
    /// Numbers of the prefixes that it announces itself. A speaker may send them back, as FRR does to reflection clients,
    /// which drop them: they do not count.
    pub(crate) own: Range<usize>,
}

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
        stream.queue(&wire::open(neighbour.asn, neighbour.address));
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

/// A set of small numbers.
#[derive(Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    pub(super) fn set(&mut self, number: usize, present: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let had = self.words[word] & bit != 0;
        if had != present {
            self.words[word] ^= bit;
            self.count = if present { self.count + 1 } else { self.count - 1 };
        }
    }

    pub(super) fn has(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// How many are in it.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once_however_often_it_is_set() {
        let mut bits = Bits::default();
        for (number, present, count) in
            [(7, true, 1), (7, true, 1), (500, true, 2), (7, false, 1), (7, false, 1)]
        {
            bits.set(number, present);
            assert_eq!((bits.has(number), bits.count()), (present, count));
        }
        assert!(!bits.has(10_000));
    }
}
