//! Listening to what others commit.
//!
//! Every transaction of anyone changes the generation of the ruleset, also one that has nothing to do with our table
//! (kube-proxy commits several a second). Reading our table back each time would make us slow exactly when the host is
//! busy. The kernel multicasts every change with the table's name and the port of the socket that made it, and ends
//! each transaction with its generation; so we know which generations touched a table of ours.
//!
//! Of our own transactions only that end is of interest; the kernel is told to keep the rest to itself, for one of a few
//! rules makes as many events.
//!
//! The kernel makes the generation visible just before it multicasts, so the events of a generation that was read may
//! still be on their way: they are waited for. Lost events (`ENOBUFS`) count as a touch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::Socket as RawSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use socket2::{SockFilter, SockRef};

use super::error::NftError;
use super::family::TableId;
use super::raw::{failed, io_error, open_socket, receive, set_receive_buffer};
use super::wire::{Message, SUBSYSTEM, be32, kind, messages, text};
use crate::netlink::filter::{LEAVE_OUT, LOAD_KIND, LOAD_PORT, TAKE, if_kind, if_port};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;

const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
const DATAGRAM_BYTES: usize = 128 * 1024;

/// The events of a generation follow within microseconds; after this long they are taken for lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// A table that is watched.
#[derive(Debug)]
struct Watched {
    table: TableId,
    /// The last generation in which someone else changed it.
    touched_in: Option<u32>,
    /// Changed in the transaction whose events are being read.
    pending: bool,
}

/// The events of the namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Monitor {
    raw: RawSocket,
    buffer: Vec<u8>,
    watched: Vec<Watched>,
    /// The last generation whose events were read.
    seen: Option<u32>,
    /// The last generation in which someone else made or removed a chain or table, of any name: such a change can make the
    /// listing of chains, which is of all tables, skip one.
    structure_changed_in: Option<u32>,
    /// Such a change is in the transaction whose events are being read.
    structure_pending: bool,
    /// Events were lost since a table was last asked about.
    lost: bool,
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Monitor {
    /// Listens to what others than the socket of this port commit.
    pub(crate) fn open(own_port: u32) -> Result<Self, NftError> {
        let (raw, _) = open_socket()?;
        set_receive_buffer(&raw, RECEIVE_BUFFER_BYTES)?;
        SockRef::from(&raw)
            .attach_filter(&all_but_changes_by(own_port))
            .map_err(failed("filter changes of the ruleset"))?;
        raw.add_membership(GROUP).map_err(failed("subscribe to changes of the ruleset"))?;
        Ok(Self {
            raw,
            buffer: vec![0; DATAGRAM_BYTES],
            watched: Vec::new(),
            seen: None,
            structure_changed_in: None,
            structure_pending: false,
            lost: false,
        })
    }

    /// Stops listening, for the time of a large transaction of our own: the kernel would make an event of each rule in it,
    /// which costs as much again as a quarter of the transaction.
    pub(crate) fn suspend(&mut self) -> Result<(), NftError> {
        self.raw.drop_membership(GROUP).map_err(failed("stop listening to changes of the ruleset"))
    }

    /// Listens again. Whoever calls this reads the generation afterwards and tells it to [`caught_up`](Self::caught_up).
    pub(crate) fn resume(&mut self) -> Result<(), NftError> {
        self.raw.add_membership(GROUP).map_err(failed("listen to changes of the ruleset again"))
    }

    /// Nothing was missed while not listening if the generation is what our own transaction made it.
    pub(crate) fn caught_up(&mut self, expected: u32, generation: u32) {
        if generation == expected {
            self.seen = Some(generation);
        } else {
            self.lose();
        }
    }

    /// Events are missing: of generations up to the current one, and maybe some of the one that comes next.
    fn lose(&mut self) {
        self.lost = true;
        self.watched.iter_mut().for_each(|watched| watched.pending = true);
    }

    /// Starts to watch a table that is about to be read: what was seen before the reading does not matter any more.
    pub(crate) fn watch(&mut self, table: &TableId) {
        if !self.watched.iter().any(|watched| watched.table == *table) {
            self.watched.push(Watched { table: table.clone(), touched_in: None, pending: false });
        }
    }

    /// Whether someone else may have changed the table after generation `since`, up to `until`.
    pub(crate) fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        let complete = self.catch_up(until)?;
        if self.lost {
            // Whoever reads back now is right again from `until` on, for every table that is watched.
            self.lost = false;
            self.watched.iter_mut().for_each(|watched| watched.touched_in = Some(until));
        }
        let Some(watched) = self.watched.iter().find(|watched| watched.table == *table) else {
            return Ok(true);
        };
        let touched = watched.touched_in.is_some_and(|generation| is_after(generation, since));
        Ok(touched || !complete)
    }

    /// Whether a reading of the table that went on from generation `since` to `until` is good: others committed, but
    /// nothing that it saw.
    pub(crate) fn undisturbed(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        let touched = self.touched(table, since, until)?;
        let moved = self.structure_changed_in.is_some_and(|generation| is_after(generation, since));
        Ok(!touched && !moved)
    }

    /// Reads events until those of `until` are in; false when they do not come.
    fn catch_up(&mut self, until: u32) -> Result<bool, NftError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.drain()?;
            if self.lost || self.seen.is_some_and(|seen| !is_after(until, seen)) {
                return Ok(true);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return Ok(false) };
            self.wait(left)?;
        }
    }

    fn wait(&self, left: Duration) -> Result<(), NftError> {
        let timeout = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.raw, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(io_error("wait for events", errno)),
        }
    }

    /// Reads what is queued. The kernel tells of an overrun first, but what it dropped came after what is queued.
    fn drain(&mut self) -> Result<(), NftError> {
        let mut overrun = false;
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = loop {
            match receive(&self.raw, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(length) => messages(&buffer[..length]).for_each(|message| self.take(&message)),
                Err(NftError::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                    break Ok(());
                }
                Err(NftError::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = true;
                }
                Err(error) => break Err(error),
            }
        };
        self.buffer = buffer;
        if overrun {
            self.lose();
        }
        result
    }

    fn take(&mut self, message: &Message<'_>) {
        const NAME: u16 = 1;
        const GENERATION: u16 = 1;
        let first = message.attributes().next();
        if message.nft_kind() == Some(kind::NEWGEN) {
            let generation = first.filter(|attribute| attribute.kind == GENERATION);
            if let Some(generation) = generation.and_then(|attribute| be32(&attribute)) {
                self.end_of(generation);
            }
            return;
        }
        let structural = [kind::NEWTABLE, kind::DELTABLE, kind::NEWCHAIN, kind::DELCHAIN];
        self.structure_pending |= message.nft_kind().is_some_and(|kind| structural.contains(&kind));
        let name = first.filter(|attribute| attribute.kind == NAME);
        let (Some(name), Some(family)) = (name.as_ref().and_then(text), message.family()) else { return };
        self.watched
            .iter_mut()
            .filter(|watched| watched.table.name == name && watched.table.family.number() == family)
            .for_each(|watched| watched.pending = true);
    }

    fn end_of(&mut self, generation: u32) {
        if self.seen.is_none_or(|seen| is_after(generation, seen)) {
            self.seen = Some(generation);
        }
        if std::mem::take(&mut self.structure_pending) {
            self.structure_changed_in = Some(generation);
        }
        for watched in self.watched.iter_mut().filter(|watched| watched.pending) {
            watched.pending = false;
            watched.touched_in = Some(generation);
        }
    }
}

/// A socket filter that takes the end of every transaction, and whatever another port than this one has caused. What the
/// kernel sends in one piece is of one transaction, so its first header tells.
fn all_but_changes_by(port: u32) -> [SockFilter; 6] {
    let end = SUBSYSTEM << 8 | kind::NEWGEN;
    [LOAD_KIND, if_kind(end, 2, 0), LOAD_PORT, if_port(port, 1, 0), TAKE, LEAVE_OUT]
}

/// Whether generation `a` comes after `b`; they wrap around.
fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < u32::MAX / 2
}
