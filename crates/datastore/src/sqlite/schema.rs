//! Opening the file: whose is it, which version, and what if it is new?

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{self, Step, not_a_database, unavailable};
use super::file::{self, DatabaseFile};
use super::transaction;
use crate::StoreError;

/// `PRAGMA application_id` of our files: "Tort".
const APPLICATION_ID: i32 = 0x546f_7274;

/// `PRAGMA user_version`: the schema below. A change that old programs must not write to counts it up.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE log (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        value TEXT,
        previous INTEGER
    ) STRICT;
    CREATE TABLE rows (key TEXT PRIMARY KEY NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE checkpoint (revision INTEGER PRIMARY KEY, at_secs INTEGER NOT NULL) STRICT;
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('compacted', 0);
";

/// How long an operation waits for other processes' writes before it is [`StoreError::Unavailable`].
const BUSY_LIMIT: Duration = Duration::from_secs(5);

/// Pages in the `-wal` file (4 KiB each) after which the writer that gets there copies them to the database file and
/// syncs it: some milliseconds on a disk. With SQLite's own 1,000 that met more than one CNI ADD in a hundred.
const CHECKPOINT_PAGES: u32 = 4_000;

/// Prepared statements kept per connection; more than there are.
const STATEMENTS: usize = 32;

/// Opens the file, or makes it, and returns it with a connection for writing.
pub(super) fn open(path: &Path) -> Result<(DatabaseFile, Connection), StoreError> {
    let absolute = file::check_usable(path)?;
    if !absolute.exists() {
        make(&absolute)?;
    }
    let connection = connect_with(&absolute, OpenFlags::empty())?;
    match identify(&connection).map_err(|failure| failure_of(&absolute, failure))? {
        Contents::Ours => check_version(&absolute, &connection)?,
        Contents::Foreign => {
            let reason = "is an SQLite database, but not a datastore of Tortie; name another file";
            return Err(unavailable(&absolute, reason, false));
        }
        Contents::Nothing => create(&absolute, &connection)?,
    }
    use_wal(&absolute, &connection)?;
    Ok((DatabaseFile::at(absolute)?, connection))
}

/// One more connection to a file that has been opened before.
pub(super) fn connect(file: &DatabaseFile) -> Result<Connection, StoreError> {
    connect_with(file.path(), OpenFlags::empty())
}

fn connect_with(path: &Path, more: OpenFlags) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connect = || {
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Otherwise a statement that is kept is planned anew whenever a parameter of its LIMIT or range is bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.busy_handler(Some(busy_handler()))?;
        // Losing the last commits in a power failure is accepted: see the module's page.
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok(connection)
    };
    connect().map_err(|error| error::explain(path, &error))
}

/// Waits in small steps, since a write takes well under a millisecond, and gives up after [`BUSY_LIMIT`].
fn busy_handler() -> impl FnMut(i32) -> bool {
    let mut since = Instant::now();
    move |tries| {
        if tries == 0 {
            since = Instant::now();
        }
        let pause = if tries < 200 { Duration::from_micros(50) } else { Duration::from_millis(1) };
        std::thread::sleep(pause);
        since.elapsed() < BUSY_LIMIT
    }
}

enum Contents {
    Nothing,
    Ours,
    Foreign,
}

fn identify(connection: &Connection) -> Step<Contents> {
    // `application_id` alone does not look at the file's header as strictly as reading a table does.
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match pragma(connection, "application_id")? {
        APPLICATION_ID => Contents::Ours,
        0 if tables == 0 => Contents::Nothing,
        _ => Contents::Foreign,
    })
}

fn pragma(connection: &Connection, name: &str) -> Step<i32> {
    Ok(connection.pragma_query_value(None, name, |row| row.get(0))?)
}

fn check_version(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let version = pragma(connection, "user_version").map_err(|failure| failure_of(path, failure))?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let reason = format!(
        "has schema version {version}, but this version of Tortie knows only {SCHEMA_VERSION}; use the version that made it, or a newer one"
    );
    Err(unavailable(path, reason, false))
}

/// Makes a new file in a folder of its own, and gives it its name when it is whole: nobody ever sees a part of it, and on a
/// full disk nothing is left behind. If another process is faster, its file is the one.
fn make(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().expect("an absolute path of a file");
    let io = |error: io::Error| error::explain_io(path, &error);
    let draft = tempfile::Builder::new().prefix(".tortie-new-").tempdir_in(parent).map_err(io)?;
    let file = draft.path().join("new.db");
    let made = connect_with(&file, OpenFlags::SQLITE_OPEN_CREATE)
        .and_then(|connection| create(&file, &connection).and_then(|()| use_wal(&file, &connection)));
    // Whoever reads the message knows the file by the name that it was to get.
    made.map_err(|error| error::located(path, error))?;
    match std::fs::hard_link(&file, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io(error)),
        _ => Ok(()),
    }
}

/// Makes the tables, unless another process was faster.
fn create(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let made = transaction(connection, "BEGIN EXCLUSIVE", |connection| {
        if !matches!(identify(connection)?, Contents::Nothing) {
            return Ok(());
        }
        connection.execute_batch(SCHEMA)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(())
    });
    made.map_err(|failure| failure_of(path, failure))?;
    DatabaseFile::make_private(path)
        .map_err(|error| unavailable(path, format!("its mode cannot be set ({error})"), false))?;
    check_version(path, connection)
}

/// Switches to write-ahead logging, once for the life of the file. SQLite does not call the busy handler here, so two
/// processes that open a new file at once have to wait for each other by themselves.
fn use_wal(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        let mode = connection
            .pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0))
            .and_then(|mode| {
                if mode == "wal" {
                    return Ok(mode);
                }
                connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            });
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let reason =
                    "cannot be shared between processes: its file system has no shared memory; use another";
                return Err(unavailable(path, reason, false));
            }
            Err(error) if is_busy(&error) && begun.elapsed() < BUSY_LIMIT => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error::explain(path, &error)),
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
    )
}

fn failure_of(path: &Path, failure: super::Failure) -> StoreError {
    match failure {
        super::Failure::Store(error) => error,
        super::Failure::Sql(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) =>
        {
            unavailable(path, not_a_database(), false)
        }
        super::Failure::Sql(error) => error::explain(path, &error),
    }
}
