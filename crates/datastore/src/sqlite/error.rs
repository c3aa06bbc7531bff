//! What SQLite's errors mean to a user of the datastore.

use std::io;
use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::StoreError;

/// The outcome of a step inside a transaction.
pub(super) type Step<T> = Result<T, Failure>;

/// Why a step failed: an answer to the caller, or trouble with the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Sql(#[from] Error),
}

impl Failure {
    /// A column that should hold text does not.
    pub(super) fn not_text(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sql(error.into())
    }
}

const NO_SPACE: &str = "cannot be written: no space left on its file system; free some and try again";
/// What SQLite allocates at once for the file of its shared memory (-shm).
const SHARED_MEMORY_BYTES: u64 = 32 * 1024;

/// Whether the file system of a datastore has no room for what SQLite needs beside it.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new("."));
    rustix::fs::statvfs(folder).is_ok_and(|space| space.f_bavail * space.f_frsize < SHARED_MEMORY_BYTES)
}

/// What is wrong with the file at `path`, in words.
pub(super) fn explain(path: &Path, error: &Error) -> StoreError {
    let (reason, temporary) = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("is busy: other processes have been writing all the time; try again".to_owned(), true)
        }
        Some(ErrorCode::DiskFull) => (NO_SPACE.to_owned(), true),
        // SQLite reports a failure to make its shared memory as any other failure of the disk.
        Some(ErrorCode::SystemIoFailure) if is_full(path) => (NO_SPACE.to_owned(), true),
        Some(ErrorCode::ReadOnly) => {
            ("is read-only; make it and its folder writable for this user".to_owned(), false)
        }
        Some(ErrorCode::NotADatabase) => (not_a_database(), false),
        Some(ErrorCode::DatabaseCorrupt) => {
            (format!("is damaged ({error}); restore it from a copy, or remove it to start anew"), false)
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            let remedy = "its folder must be writable too, for the -wal and -shm files beside it";
            (format!("cannot be opened ({error}); {remedy}"), false)
        }
        Some(ErrorCode::SystemIoFailure) => (format!("cannot be read or written ({error})"), true),
        _ => (format!("does not do what it should ({error})"), false),
    };
    unavailable(path, reason, temporary)
}

/// What went wrong when the file at `path` was to be made, in words.
pub(super) fn explain_io(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull => unavailable(path, NO_SPACE, true),
        _ => unavailable(path, format!("cannot be made ({error})"), false),
    }
}

/// The same error, of another file.
pub(super) fn located(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable { reason, temporary, .. } => unavailable(path, reason, temporary),
        other => other,
    }
}

pub(super) fn not_a_database() -> String {
    "is not a datastore: it is not an SQLite database; name another file".to_owned()
}

pub(super) fn unavailable(path: &Path, reason: impl Into<String>, temporary: bool) -> StoreError {
    StoreError::Unavailable { location: path.display().to_string(), reason: reason.into(), temporary }
}
