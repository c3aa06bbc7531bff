//! Neighbours of the speaker under test, all on one thread.

use std::net::SocketAddrV4;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::session::{Neighbour, Session};
use super::stream::{Poller, Stream};
use super::wire::Prefix;
use crate::harness::interrupt;

/// For all sessions together to come up.
const UP_LIMIT: Duration = Duration::from_secs(60);
/// After this long with all sessions up, a speaker has started.
const STEADY: Duration = Duration::from_millis(500);
/// How soon a session that the starting speaker has ended is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often it is looked whether the run is to end.
const LOOK: Duration = Duration::from_millis(50);

/// All neighbours.
pub(crate) struct Fleet {
    sessions: Vec<Session>,
    poller: Poller,
    speaker: SocketAddrV4,
    /// While a speaker starts, it may end sessions and expect new ones: those that are to be dialled again.
    starting: Option<Starting>,
}

#[derive(Default)]
struct Starting {
    down: Vec<(Instant, usize)>,
    /// Why the last one went down.
    cause: String,
}

impl Fleet {
    /// Brings up the sessions of all neighbours.
    ///
    /// # Errors
    /// One is not up in time, or does not stay up.
    pub(crate) fn connect(speaker: SocketAddrV4, neighbours: &[Neighbour]) -> Result<Self> {
        let mut fleet = Self {
            sessions: Vec::new(),
            poller: Poller::new()?,
            speaker,
            starting: Some(Starting::default()),
        };
        let deadline = Instant::now() + UP_LIMIT;
        for neighbour in neighbours {
            let stream = fleet.dial_first(neighbour, deadline)?;
            let mut session = Session::open(neighbour.clone(), stream)?;
            fleet.poller.add(fleet.sessions.len(), &mut session.stream)?;
            fleet.sessions.push(session);
        }
        fleet.come_up(deadline)?;
        fleet.starting = None;
        Ok(fleet)
    }

    /// A speaker that has just been started may not listen yet.
    fn dial_first(&self, neighbour: &Neighbour, deadline: Instant) -> Result<Stream> {
        loop {
            match Stream::connect(neighbour.address, self.speaker) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() >= deadline => return Err(error).context("it does not listen"),
                Err(_) => std::thread::sleep(LOOK),
            }
            interrupt::check()?;
        }
    }

    /// Waits until all sessions are up, and have been for a while.
    fn come_up(&mut self, deadline: Instant) -> Result<()> {
        let mut since = None;
        while since.is_none_or(|since: Instant| since.elapsed() < STEADY) {
            if Instant::now() > deadline {
                bail!("not all of its sessions came up and stayed up within {UP_LIMIT:?}: {}", self.down());
            }
            self.turn(LOOK)?;
            self.dial_again()?;
            let up = self.sessions.iter().all(|session| session.is_established && !session.stream.closed);
            since = if up { since.or(Some(Instant::now())) } else { None };
        }
        Ok(())
    }

    fn down(&self) -> String {
        let up = self.sessions.iter().filter(|session| session.is_established).count();
        let cause = self.starting.as_ref().map(|starting| starting.cause.as_str()).unwrap_or_default();
        format!("{up} of {} are up; {cause}", self.sessions.len())
    }

    fn dial_again(&mut self) -> Result<()> {
        let Some(starting) = &mut self.starting else { return Ok(()) };
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut starting.down).into_iter().partition(|(at, _)| *at <= now);
        starting.down = later;
        let due: Vec<(Instant, usize)> = due;
        for (_, number) in due {
            let neighbour = self.sessions[number].neighbour.clone();
            match Stream::connect(neighbour.address, self.speaker) {
                Ok(stream) => {
                    self.sessions[number] = Session::open(neighbour, stream)?;
                    self.poller.add(number, &mut self.sessions[number].stream)?;
                }
                Err(error) => self.is_down(number, &error),
            }
        }
        Ok(())
    }

    /// A session is to be dialled again, if it still may be.
    fn is_down(&mut self, number: usize, cause: &anyhow::Error) {
        if let Some(starting) = &mut self.starting {
            starting.cause = format!("{cause:#}");
            starting.down.push((Instant::now() + RETRY, number));
        }
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

    /// How many prefixes a neighbour has that are not its own.
    pub(crate) fn count(&self, number: usize) -> usize {
        self.sessions[number].has.count()
    }

    /// Whether a neighbour has a prefix.
    pub(crate) fn has(&self, number: usize, prefix: Prefix) -> bool {
        prefix.number().is_some_and(|prefix| self.sessions[number].has.has(prefix))
    }

    /// Whether all of these neighbours have so many.
    pub(crate) fn all_have(&self, mut numbers: Range<usize>, count: usize) -> bool {
        numbers.all(|number| self.count(number) == count)
    }

    /// UPDATEs that all together have received.
    pub(crate) fn received(&self) -> u64 {
        self.sessions.iter().map(|session| session.updates).sum()
    }

    /// Carries on until a condition holds.
    ///
    /// # Errors
    /// It does not hold at the deadline, or the speaker has ended a session.
    pub(crate) fn run(&mut self, deadline: Instant, mut until: impl FnMut(&Self) -> bool) -> Result<()> {
        while !until(self) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let counts = || self.sessions.iter().map(|session| session.has.count());
                let (least, most) = (counts().min().unwrap_or_default(), counts().max().unwrap_or_default());
                bail!("not done in time: neighbours have between {least} and {most} prefixes");
            };
            self.turn(left.min(LOOK))?;
        }
        Ok(())
    }

    /// Carries on for so long.
    pub(crate) fn carry_on(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(left.min(LOOK))?;
        }
        Ok(())
    }

    /// Carries on until nothing has come for so long; gives when the last thing came.
    ///
    /// # Errors
    /// Something still comes after the limit, or the speaker has ended a session.
    pub(crate) fn settle(&mut self, quiet: Duration, limit: Duration) -> Result<Instant> {
        let deadline = Instant::now() + limit;
        let (mut last, mut before) = (Instant::now(), self.received());
        while last.elapsed() < quiet {
            self.turn(quiet.min(LOOK))?;
            let now = Instant::now();
            if now > deadline {
                bail!("it still says something new {limit:?} after everybody had everything");
            }
            if self.received() != before {
                (last, before) = (now, self.received());
            }
        }
        Ok(last)
    }

    /// Waits once, and serves who is ready.
    pub(crate) fn turn(&mut self, limit: Duration) -> Result<()> {
        interrupt::check()?;
        for ready in self.poller.wait(limit)? {
            self.serve(ready.number, ready.readable)?;
        }
        Ok(())
    }

    fn serve(&mut self, number: usize, readable: bool) -> Result<()> {
        let session = &mut self.sessions[number];
        if session.stream.closed {
            return Ok(());
        }
        let served = session.stream.flush().and_then(|()| if readable { session.take_in() } else { Ok(()) });
        if let Err(error) = served {
            if self.starting.is_none() {
                return Err(error);
            }
            session.is_established = false;
            self.poller.remove(&session.stream)?;
            self.is_down(number, &error);
            return Ok(());
        }
        self.poller.update(number, &mut session.stream)
    }
}
