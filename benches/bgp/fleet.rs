//! Neighbours of the speaker under test, all on one thread: what each has sent, and which prefixes each has.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::stream::{Poller, Stream};
use super::wire::{self, Prefix, Said};

/// For all sessions together to come up.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// After this long without an end, a speaker has started.
const STEADY: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_millis(50);

/// Who a neighbour is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neighbour {
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u32,
}

/// The number of a prefix in the bit maps.
pub(crate) type Numbering = fn(Prefix) -> usize;

/// A neighbour's session.
struct Session {
    neighbour: Neighbour,
    stream: Stream,
    said_open: bool,
    established: bool,
    has: Bits,
    updates: u64,
}

/// A set of small numbers.
#[derive(Default)]
struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    fn set(&mut self, number: usize, present: bool) {
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
}

/// All neighbours.
pub(crate) struct Fleet {
    sessions: Vec<Session>,
    poller: Poller,
    numbering: Numbering,
    speaker: SocketAddrV4,
    /// While a speaker starts, it may end sessions and expect new ones.
    starting: bool,
}

impl Fleet {
    /// Brings up the sessions of all neighbours.
    pub(crate) fn connect(
        speaker: SocketAddrV4,
        neighbours: &[Neighbour],
        numbering: Numbering,
    ) -> Result<Self> {
        let mut fleet =
            Self { sessions: Vec::new(), poller: Poller::new()?, numbering, speaker, starting: true };
        let deadline = Instant::now() + UP_LIMIT;
        for (number, neighbour) in neighbours.iter().enumerate() {
            let session = fleet.dial(number, *neighbour, deadline)?;
            fleet.sessions.push(session);
        }
        let all = |fleet: &Self| fleet.sessions.iter().all(|session| session.established);
        fleet.run(deadline, all)?;
        fleet.settle(STEADY)?;
        fleet.run(deadline, all)?;
        fleet.starting = false;
        Ok(fleet)
    }

    /// A speaker that has just been started may not listen yet.
    fn dial(&self, number: usize, neighbour: Neighbour, deadline: Instant) -> Result<Session> {
        let mut stream = loop {
            match Stream::connect(neighbour.address, self.speaker) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(RETRY),
            }
        };
        stream.queue(&wire::open(neighbour.asn, neighbour.address));
        stream.flush()?;
        self.poller.add(number, &stream)?;
        Ok(Session {
            neighbour,
            stream,
            said_open: false,
            established: false,
            has: Bits::default(),
            updates: 0,
        })
    }

    /// Sends octets from a neighbour: the first of them before this returns.
    pub(crate) fn send(&mut self, number: usize, octets: &[u8]) -> Result<()> {
        let stream = &mut self.sessions[number].stream;
        stream.queue(octets);
        stream.flush()?;
        self.poller.update(number, stream)
    }

    /// Ends a neighbour's session without a word, as a crash does.
    pub(crate) fn close(&mut self, number: usize) -> Result<()> {
        let session = &mut self.sessions[number];
        self.poller.remove(&session.stream)?;
        session.stream.shut();
        Ok(())
    }

    /// How many prefixes a neighbour has.
    pub(crate) fn count(&self, number: usize) -> usize {
        self.sessions[number].has.count
    }

    /// Whether all of these neighbours have so many.
    pub(crate) fn all_have(&self, mut numbers: std::ops::Range<usize>, count: usize) -> bool {
        numbers.all(|number| self.count(number) == count)
    }

    /// UPDATEs that all together have received.
    pub(crate) fn received(&self) -> u64 {
        self.sessions.iter().map(|session| session.updates).sum()
    }

    /// Carries on until a condition holds.
    pub(crate) fn run(&mut self, deadline: Instant, mut until: impl FnMut(&Self) -> bool) -> Result<()> {
        while !until(self) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let (least, most) = self.spread();
                bail!("not done in time: neighbours have between {least} and {most} prefixes");
            };
            for ready in self.poller.wait(left)? {
                self.serve(ready.number, ready.readable)?;
            }
        }
        Ok(())
    }

    /// Carries on until nothing has come for so long.
    pub(crate) fn settle(&mut self, quiet: Duration) -> Result<()> {
        loop {
            let before = self.received();
            let end = Instant::now() + quiet;
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                for ready in self.poller.wait(left)? {
                    self.serve(ready.number, ready.readable)?;
                }
            }
            if self.received() == before {
                return Ok(());
            }
        }
    }

    fn spread(&self) -> (usize, usize) {
        let counts = || self.sessions.iter().map(|session| session.has.count);
        (counts().min().unwrap_or_default(), counts().max().unwrap_or_default())
    }

    fn serve(&mut self, number: usize, readable: bool) -> Result<()> {
        let session = &mut self.sessions[number];
        if session.stream.closed {
            return Ok(());
        }
        let had_output = session.stream.has_output();
        session.stream.flush()?;
        if readable {
            let taken = session.take_in(self.numbering);
            if self.starting && (taken.is_err() || session.stream.closed) {
                return self.dial_again(number);
            }
            taken?;
            ensure!(!session.stream.closed, "the speaker closed the session of neighbour {number}");
        }
        if had_output != session.stream.has_output() {
            self.poller.update(number, &session.stream)?;
        }
        Ok(())
    }
}

impl Fleet {
    fn dial_again(&mut self, number: usize) -> Result<()> {
        let session = &self.sessions[number];
        self.poller.remove(&session.stream)?;
        std::thread::sleep(RETRY);
        self.sessions[number] = self.dial(number, session.neighbour, Instant::now() + UP_LIMIT)?;
        Ok(())
    }
}

impl Session {
    fn take_in(&mut self, numbering: Numbering) -> Result<()> {
        let (mut answer, mut refused) = (false, None);
        let Self { stream, said_open, established, has, updates, .. } = self;
        stream.receive(|octets| {
            wire::read(octets, |said| match said {
                Said::Announced(prefix) => has.set(numbering(prefix), true),
                Said::Withdrawn(prefix) => has.set(numbering(prefix), false),
                Said::Update => *updates += 1,
                Said::Open => *said_open = true,
                // The first says that our OPEN was taken; only then FRR wants to hear the same.
                Said::Keepalive => {
                    *established |= *said_open;
                    answer = true;
                }
                Said::Notification(code, subcode) => refused = Some((code, subcode)),
            })
        })?;
        if let Some((code, subcode)) = refused {
            bail!("the speaker sent a NOTIFICATION: code {code}, subcode {subcode}");
        }
        if answer {
            stream.queue(&wire::keepalive());
            stream.flush()?;
        }
        Ok(())
    }
}
