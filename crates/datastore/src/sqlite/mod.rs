//! The embedded engine: one SQLite file that several processes of one machine read, write and watch.
//!
//! # Model
//! As in etcd, history is the truth and the current state an index into it:
//!
//! | table | holds |
//! |---|---|
//! | `log` | one line for each write: revision, key, value (none: the row was deleted), and the revision it replaced |
//! | `rows` | for each key that exists the revision of its last write |
//! | `checkpoint` | for every 1,000th revision the time it was made |
//! | `meta` | `compacted`: history up to and including that revision may be gone |
//!
//! A value is so written once. A revision is the last one of the log plus one, and every write is one `BEGIN IMMEDIATE`
//! transaction, thus the order of revisions is the order of commits and the log has no gaps. Compaction never removes
//! the log's last line, so that no revision is given twice. (SQLite's AUTOINCREMENT would promise the same, at the
//! price of one more page to write for each commit.)
//!
//! # Watching
//! After each commit the writer touches the modification time of the database file; every watcher, in whatever
//! process, has an inotify watch for that, then asks `PRAGMA data_version` whether anything was committed, and reads
//! `log` from where it was. Watching the file's content instead would wake too early: SQLite writes the frames of a
//! transaction to the `-wal` file first and makes them visible afterwards, in shared memory. A writer killed between
//! commit and touch, or one that is not ours (the `sqlite3` shell), is noticed by a look once a second.
//!
//! # Compaction
//! Every 1,000th write, by whichever process makes it, records a checkpoint and then drops superseded values and
//! deletes older than ten minutes, or beyond the last 50,000 revisions (see [`Retention`]). A watch from before that
//! is answered with [`StoreError::Compacted`]. [`Sqlite::compact`] does the same at will. Freed pages are used again;
//! the file does not shrink.
//!
//! # Durability
//! `synchronous=NORMAL` in WAL mode: a commit costs no fsync. A crash of any process, at any moment, loses nothing that
//! was acknowledged. A power failure may lose the last commits before it, never the file's consistency; the kernel
//! state that those commits described is lost with them.
//!
//! # Limits
//! WAL needs memory shared between the processes, so the file can not be on a network file system: [`Sqlite::open`]
//! refuses. A connection must not be carried across `fork`.

mod compact;
mod error;
mod file;
mod schema;
mod watch;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::Key;
use rusqlite::{Connection, OptionalExtension, params};

pub use compact::Retention;

use crate::layout::{self, KeyRange};
use crate::{Entry, Listing, Revision, Scope, Store, StoreError, Watch};
use error::{Failure, Step};
use file::DatabaseFile;

/// Connections for reading that are kept open for the next reader.
const IDLE_READERS: usize = 4;

/// An embedded datastore in one file. Clones share its connections; other processes (or other [`Sqlite::open`] calls in
/// this one) may use the same file at the same time.
#[derive(Debug, Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: DatabaseFile,
    /// Writes of this process queue here rather than in SQLite's busy handler, which is not fair.
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    retention: Retention,
}

impl Sqlite {
    /// Opens the datastore in a file, which is made (mode 0600) if it does not exist. The folder must exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], and nothing was changed: no such folder, no permission, read-only, a network file
    /// system, not a database, a database of something else, or of a newer Tortie.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Retention::default())
    }

    /// As [`Sqlite::open`], with other limits for the history that writers of this handle keep.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open_with(path: impl AsRef<Path>, retention: Retention) -> Result<Self, StoreError> {
        let (file, writer) = schema::open(path.as_ref())?;
        let readers = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { file, writer: Mutex::new(writer), readers, retention }) })
    }

    /// The absolute path of the file.
    pub fn path(&self) -> &Path {
        self.shared.file.path()
    }

    /// Forgets the history up to and including a revision (at most the present one), in steps that let other writers
    /// in between.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn compact(&self, up_to: &Revision) -> Result<(), StoreError> {
        let up_to = up_to.0.parse().unwrap_or(0);
        while self.write(|connection| compact::step(connection, up_to))? == compact::Progress::More {}
        Ok(())
    }

    /// Runs `work` in one immediate transaction, which is rolled back if it fails.
    fn write<T>(&self, work: impl FnOnce(&Connection) -> Step<T>) -> Result<T, StoreError> {
        let file = &self.shared.file;
        file.verify()?;
        let connection = lock(&self.shared.writer);
        transaction(&connection, "BEGIN IMMEDIATE", work).map_err(|failure| file.store_error(failure))
    }

    /// A write that makes a new revision: tells the watchers, and compacts when it is this write's turn.
    fn write_revision(&self, work: impl FnOnce(&Connection) -> Step<Written>) -> Result<Entry, StoreError> {
        let retention = self.shared.retention;
        let written = self.write(|connection| {
            let written = work(connection)?;
            compact::note(connection, written.revision)?;
            Ok(written)
        })?;
        self.shared.file.touch();
        if compact::is_due(written.revision) {
            self.compact_old(written.revision, retention);
        }
        Ok(written.entry)
    }

    /// Drops old history. The write that it follows is done, so a failure here only leaves the work to a later one.
    fn compact_old(&self, now: i64, retention: Retention) {
        let result = self.write(|connection| compact::bound(connection, now, retention));
        let result = result.and_then(|bound| match bound {
            Some(bound) => self.compact(&Revision(bound.to_string())),
            None => Ok(()),
        });
        if let Err(error) = result {
            tracing::warn!(%error, "old history of the datastore was not compacted; the next checkpoint tries again");
        }
    }

    /// Runs `work` in a transaction that sees one state of the file.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Step<T>) -> Result<T, StoreError> {
        let file = &self.shared.file;
        file.verify()?;
        let idle = lock(&self.shared.readers).pop();
        let connection = idle.map_or_else(|| schema::connect(file), Ok)?;
        let result = work(&connection);
        let mut readers = lock(&self.shared.readers);
        if readers.len() < IDLE_READERS && connection.is_autocommit() {
            readers.push(connection);
        }
        drop(readers);
        result.map_err(|failure| file.store_error(failure))
    }
}

/// A revision that was just made.
struct Written {
    entry: Entry,
    revision: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a transaction rolls it back when the next one begins, so the connection stays usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` between `begin` and COMMIT, or ROLLBACK if either fails.
fn transaction<T>(
    connection: &Connection,
    begin: &str,
    work: impl FnOnce(&Connection) -> Step<T>,
) -> Step<T> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.prepare_cached(begin)?.execute([])?;
    let result = work(connection).and_then(|value| {
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(value)
    });
    if result.is_err() && !connection.is_autocommit() {
        connection.prepare_cached("ROLLBACK")?.execute([])?;
    }
    result
}

impl Store for Sqlite {
    fn get(&self, key: &Key) -> Result<Entry, StoreError> {
        let text = layout::encode(key);
        let found = self.read(|connection| current(connection, key, &text))?;
        found.map(|(entry, _)| entry).ok_or_else(|| StoreError::NotFound(key.clone()))
    }

    fn list_scopes(&self, scopes: &[Scope]) -> Result<Listing, StoreError> {
        let ranges = ranges(scopes);
        let (mut entries, revision) = self.read(|connection| {
            transaction(connection, "BEGIN", |connection| {
                let mut entries = Vec::new();
                for range in &ranges {
                    list_range(connection, range, &mut entries)?;
                }
                Ok((entries, latest_revision(connection)?))
            })
        })?;
        // Byte order of the text keys is nearly the order of keys, but not quite: `/` sorts after `-` and `.`.
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|a, b| a.key == b.key);
        Ok(Listing { entries, revision: revision_of(revision) })
    }

    fn create(&self, key: &Key, value: &str) -> Result<Entry, StoreError> {
        let text = layout::encode(key);
        self.write_revision(|connection| {
            if current_revision(connection, &text)?.is_some() {
                return Err(StoreError::AlreadyExists(key.clone()).into());
            }
            put(connection, key, &text, value, None)
        })
    }

    fn update(&self, key: &Key, value: &str, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        let text = layout::encode(key);
        self.write_revision(|connection| {
            let previous = check(key, current_revision(connection, &text)?, expected)?;
            put(connection, key, &text, value, Some(previous))
        })
    }

    fn delete(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        let text = layout::encode(key);
        self.write_revision(|connection| {
            let found = current(connection, key, &text)?;
            let previous = check(key, found.as_ref().map(|(_, revision)| *revision), expected)?;
            let revision = append(connection, &text, None, Some(previous))?;
            connection.prepare_cached("DELETE FROM rows WHERE key = ?1")?.execute([&text])?;
            let (entry, _) = found.ok_or_else(|| StoreError::NotFound(key.clone()))?;
            Ok(Written { entry, revision })
        })
    }

    fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.shared.file.verify()?;
        Ok(Box::new(watch::SqliteWatch::start(&self.shared.file, ranges(scopes), from)?))
    }
}

fn revision_of(revision: i64) -> Revision {
    Revision(revision.to_string())
}

/// The ranges of several scopes; those that coincide only once.
fn ranges(scopes: &[Scope]) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = scopes.iter().flat_map(layout::ranges).collect();
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    ranges.dedup();
    ranges
}

/// The revision of the last write of all; 0 if there was none.
fn latest_revision(connection: &Connection) -> Step<i64> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(revision), 0) FROM log")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn compacted(connection: &Connection) -> Step<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'compacted'")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn current_revision(connection: &Connection, text: &str) -> Step<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM rows WHERE key = ?1")?;
    Ok(statement.query_row([text], |row| row.get(0)).optional()?)
}

fn current(connection: &Connection, key: &Key, text: &str) -> Step<Option<(Entry, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT log.value, log.revision FROM rows JOIN log ON log.revision = rows.revision WHERE rows.key = ?1",
    )?;
    let found = statement.query_row([text], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.map(|(value, revision)| {
        (Entry { key: key.clone(), value, revision: revision_of(revision) }, revision)
    }))
}

/// The row's revision, if it is there and is what the caller expects.
fn check(key: &Key, current: Option<i64>, expected: Option<&Revision>) -> Result<i64, StoreError> {
    let current = current.ok_or_else(|| StoreError::NotFound(key.clone()))?;
    match expected {
        Some(expected) if *expected != revision_of(current) => {
            Err(StoreError::Conflict { key: key.clone(), expected: expected.clone() })
        }
        _ => Ok(current),
    }
}

fn put(connection: &Connection, key: &Key, text: &str, value: &str, previous: Option<i64>) -> Step<Written> {
    let revision = append(connection, text, Some(value), previous)?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO rows (key, revision) VALUES (?1, ?2)")?
        .execute(params![text, revision])?;
    let entry = Entry { key: key.clone(), value: value.to_owned(), revision: revision_of(revision) };
    Ok(Written { entry, revision })
}

fn append(connection: &Connection, text: &str, value: Option<&str>, previous: Option<i64>) -> Step<i64> {
    connection
        .prepare_cached("INSERT INTO log (key, value, previous) VALUES (?1, ?2, ?3)")?
        .execute(params![text, value, previous])?;
    Ok(connection.last_insert_rowid())
}

fn list_range(connection: &Connection, range: &KeyRange, entries: &mut Vec<Entry>) -> Step<()> {
    let mut statement = connection.prepare_cached(
        "SELECT rows.key, log.value, log.revision FROM rows JOIN log ON log.revision = rows.revision
         WHERE rows.key >= ?1 AND rows.key < ?2 ORDER BY rows.key",
    )?;
    let mut rows = statement.query([&range.start, &range.end])?;
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(Failure::not_text)?;
        if let Some(key) = layout::decode(text) {
            entries.push(Entry { key, value: row.get(1)?, revision: revision_of(row.get(2)?) });
        }
    }
    Ok(())
}
