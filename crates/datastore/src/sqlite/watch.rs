//! Watching the file: see the module's page for how writers wake watchers.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::error::{Failure, Step};
use super::file::DatabaseFile;
use super::{compacted, latest_revision, revision_of, schema, transaction};
use crate::layout::{self, KeyRange};
use crate::{Entry, Event, Revision, StoreError, Watch};

/// At most so many lines of the log are read at once, so that a watcher that was away does not hold a huge answer.
const BATCH: i64 = 1_000;

/// A look at the file without having been woken: a writer may have died before it could, or not be ours.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The same where the kernel's limit for inotify instances (`fs.inotify.max_user_instances`) is used up.
const LOOK_EVERY_WITHOUT_INOTIFY: Duration = Duration::from_millis(5);

/// A watch with a connection of its own, so that every commit by others changes its `data_version`.
pub(super) struct SqliteWatch {
    file: DatabaseFile,
    connection: Connection,
    wake_up: Option<OwnedFd>,
    ranges: Vec<KeyRange>,
    /// The revision up to which everything has been told.
    position: i64,
    /// There is more to read.
    more: bool,
    /// `PRAGMA data_version` at the last look. It is older than what was read by being woken, so the look after that may read in
    /// vain, once.
    version: Option<i64>,
}

impl SqliteWatch {
    pub(super) fn start(
        file: &DatabaseFile,
        ranges: Vec<KeyRange>,
        from: &Revision,
    ) -> Result<Self, StoreError> {
        let connection = schema::connect(file)?;
        let wake_up = wake_up(file);
        // Not a number: no revision of this engine, thus of no history that it has.
        let position = from.0.parse().unwrap_or(-1);
        let file = file.clone();
        let watch = Self { file, connection, wake_up, ranges, position, more: true, version: None };
        transaction(&watch.connection, "BEGIN", |connection| check_history(connection, position))
            .map_err(|failure| watch.file.store_error(failure))?;
        Ok(watch)
    }

    /// Events that were committed since the last look, if anything was.
    fn look(&mut self) -> Step<Vec<Event>> {
        let version =
            self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if !self.more && self.version == Some(version) {
            return Ok(Vec::new());
        }
        let events = self.read()?;
        self.version = Some(version);
        Ok(events)
    }

    /// Events that were committed since the last look.
    fn read(&mut self) -> Step<Vec<Event>> {
        let mut events = Vec::new();
        let lines = transaction(&self.connection, "BEGIN", |connection| {
            check_history(connection, self.position)?;
            read_log(connection, &self.ranges, &mut self.position, &mut events)
        })?;
        self.more = lines >= BATCH;
        Ok(events)
    }

    /// Waits until the file was touched, but not longer than `limit`; whether it was.
    fn wait(&self, limit: Duration) -> bool {
        let Some(wake_up) = &self.wake_up else {
            std::thread::sleep(limit.min(LOOK_EVERY_WITHOUT_INOTIFY));
            return false;
        };
        let limit = Timespec::try_from(limit.min(LOOK_EVERY)).unwrap_or_default();
        let mut descriptors = [PollFd::new(wake_up, PollFlags::IN)];
        // An interrupted wait is an early look.
        let woken = matches!(rustix::event::poll(&mut descriptors, Some(&limit)), Ok(1..));
        if woken {
            drain(wake_up);
        }
        woken
    }
}

impl Watch for SqliteWatch {
    fn next(&mut self, timeout: Duration) -> Result<Vec<Event>, StoreError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Who has read everything is woken by what comes next, however soon.
            let woken = !self.more && self.wait(left);
            self.file.verify()?;
            let events = if woken { self.read() } else { self.look() };
            let events = events.map_err(|failure| self.file.store_error(failure))?;
            if !events.is_empty() || (left.is_zero() && !self.more) {
                return Ok(events);
            }
        }
    }
}

/// An inotify descriptor that becomes readable when the file's modification time or link count is set.
fn wake_up(file: &DatabaseFile) -> Option<OwnedFd> {
    let make = || {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&descriptor, file.path(), WatchFlags::ATTRIB)?;
        rustix::io::Result::Ok(descriptor)
    };
    make()
        .inspect_err(|error| {
            let remedy = "raise fs.inotify.max_user_instances";
            tracing::warn!(%error, remedy, "no inotify watch on the datastore, so it is polled");
        })
        .ok()
}

fn drain(wake_up: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut reader = inotify::Reader::new(wake_up, &mut buffer);
    // Identical events in a row are merged by the kernel, so this ends after a few.
    while reader.next().is_ok() {}
}

/// Whether everything after `position` is there to be told.
fn check_history(connection: &Connection, position: i64) -> Step<()> {
    let oldest = compacted(connection)?;
    if (oldest..=latest_revision(connection)?).contains(&position) {
        return Ok(());
    }
    let requested = revision_of(position);
    Err(StoreError::Compacted { requested, oldest: revision_of(oldest) }.into())
}

/// Reads a batch of the log after `position`, which it moves, and returns how many lines that were.
fn read_log(
    connection: &Connection,
    ranges: &[KeyRange],
    position: &mut i64,
    events: &mut Vec<Event>,
) -> Step<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT revision, key, value FROM log WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )?;
    let mut rows = statement.query([*position, BATCH])?;
    let mut lines = 0;
    while let Some(row) = rows.next()? {
        lines += 1;
        *position = row.get(0)?;
        let text = row.get_ref(1)?.as_str().map_err(Failure::not_text)?;
        if !ranges.iter().any(|range| range.contains(text)) {
            continue;
        }
        let Some(key) = layout::decode(text) else { continue };
        let revision = revision_of(*position);
        events.push(match row.get(2)? {
            Some(value) => Event::Put(Entry { key, value, revision }),
            None => Event::Delete { key, revision },
        });
    }
    Ok(lines)
}
