//! Changes that are undone unless they are confirmed (`calicoctl apply --confirm`).
//!
//! # The problem
//!
//! A policy for hosts, a pool or an encapsulation can cut off the operator who applies it. Then nobody is left to take it
//! back, unless the nodes do.
//!
//! # The approach
//!
//! A row of ours, [`Confirmation`], holds what the change replaces, and a deadline. It is written *before* each row that the
//! change touches ([`Change::note`]), so whatever dies when, nothing is changed that the row does not know. Whoever
//! confirms deletes the row; when the deadline passes the first node that gets it by compare-and-swap puts back what was
//! there ([`undo`]), row by row, each by compare-and-swap too.
//!
//! # Races met
//!
//! - *Confirmation against deadline, node against node*: both write the row at the revision that they read; one wins.
//! - *The author dies* after the row, or between two rows: what was not written is found as it was, and left.
//! - *The author is stopped* between the note and the write, past the deadline: it looks at the row again after each write
//!   ([`Change::written`]), and puts back itself what came too late for the nodes.
//! - *A node dies* while it undoes: the claim lapses after [`CLAIM`], another goes on; what is back already stays.
//! - *Somebody else changed a row since*: it is neither what was nor what the change made of it; it is kept, and said.
//! - *Two such changes of one row*: the second is refused while the first waits, or undoing both would end in the first.
//!
//! Time is handed in. [`Watchlist`] says when what is due, for a node that sees the rows come and go.

mod restore;
#[cfg(test)]
mod tests;
mod watchlist;

use std::time::Duration;

use api::{Confirmation, ConfirmationPhase, Key, ReplacedRow, Row, Timestamp};

use crate::{Entry, Revision, Scope, Store, StoreError, layout};

pub use restore::{Restored, Undone};
pub use watchlist::{Moment, Watchlist};

/// How long somebody who undoes a change has for it, before another takes it over.
pub const CLAIM: Duration = Duration::from_secs(30);
/// How long it can be seen that a change was undone.
pub const REMEMBERED: Duration = Duration::from_secs(3600);
/// Most attempts of a write that others keep getting in the way of.
const MAX_ATTEMPTS: usize = 100;

/// Why a change that is to be confirmed was not begun, confirmed or undone.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not retryable.
    #[error("no change {0:?} waits for a confirmation; `calicoctl confirm` lists those that do")]
    Unknown(String),
    /// The deadline has passed. Not retryable.
    #[error("change {id} was not confirmed in time: {by} is putting back what was before")]
    Undoing {
        /// Which change.
        id: String,
        /// Who undoes it.
        by: String,
    },
    /// The deadline has passed. Not retryable.
    #[error(
        "change {id} was not confirmed in time: {by} put back what was before, at {at}{}",
        kept_text(kept)
    )]
    Undone {
        /// Which change.
        id: String,
        /// Who undid it.
        by: String,
        /// When.
        at: Timestamp,
        /// What was not put back.
        kept: Vec<String>,
    },
    /// Whoever is cut off would still have the connection from before. Retryable over another one.
    #[error(
        "this is the connection over which change {0} was made, which proves nothing: open a new one and confirm there, \
         or use --same-connection"
    )]
    SameConnection(String),
    /// Retryable when that one is confirmed or undone.
    #[error(
        "{key} is part of change {id}, which waits for its confirmation: confirm it, or undo it with --undo, first"
    )]
    Pending {
        /// What is to be changed.
        key: Box<Key>,
        /// By what it was changed.
        id: String,
    },
}

fn kept_text(kept: &[String]) -> String {
    match kept.is_empty() {
        true => String::new(),
        false => format!(" (but not {}, which somebody else has changed since)", kept.join(", ")),
    }
}

/// An identity for a change; short, since people type it.
pub fn new_id() -> String {
    let mut id = uuid::Uuid::new_v4().simple().to_string();
    id.truncate(8);
    id
}

/// On what terms a change is made.
#[derive(Debug, Clone)]
pub struct Terms {
    /// By which it will be confirmed; unique.
    pub id: String,
    /// How much time there is to do so.
    pub allowed_secs: u32,
    /// Who makes it, for people.
    pub author: String,
    /// Over which connection; empty if not known.
    pub connection: String,
}

/// A change that is being made.
pub struct Change<'a> {
    store: &'a dyn Store,
    row: Confirmation,
    /// Of the row; `None` until something was noted.
    revision: Option<Revision>,
}

impl<'a> Change<'a> {
    /// Nothing is written yet.
    pub fn new(store: &'a dyn Store, terms: Terms) -> Self {
        let Terms { id, allowed_secs, author, connection } = terms;
        let (changes, phase) = (Vec::new(), ConfirmationPhase::Waiting);
        let row = Confirmation {
            id,
            deadline: Timestamp::UNIX_EPOCH,
            allowed_secs,
            author,
            connection,
            changes,
            phase,
        };
        Self { store, row, revision: None }
    }

    /// The row as it is in the datastore; `None` if nothing was noted.
    pub fn row(&self) -> Option<&Confirmation> {
        self.revision.as_ref().map(|_| &self.row)
    }

    /// Notes that a row is about to be replaced, and starts the time anew. With `again`, the last that was noted came to
    /// nothing, and this is in its place.
    ///
    /// # Errors
    /// Another change of that row waits; this one is being undone; the store's.
    pub fn note(&mut self, replaced: ReplacedRow, again: bool, now: Timestamp) -> Result<(), ConfirmError> {
        if let (Some(id), Some(key)) = (self.pending_elsewhere(&replaced.key)?, layout::decode(&replaced.key))
        {
            return Err(ConfirmError::Pending { key: Box::new(key), id });
        }
        let mut row = self.row.clone();
        if again {
            row.changes.pop();
        }
        row.changes.push(replaced);
        row.deadline = later(now, Duration::from_secs(row.allowed_secs.into()));
        let (key, text) = (Key::Confirmation(row.id.clone()), Row::Confirmation(row.clone()).encode());
        let written = match &self.revision {
            None => self.store.create(&key, &text),
            Some(revision) => self.store.update(&key, &text, Some(revision)),
        };
        match written {
            Ok(entry) => {
                (self.row, self.revision) = (row, Some(entry.revision));
                Ok(())
            }
            Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => Err(self.ended()?),
            Err(error) => Err(error.into()),
        }
    }

    /// To be called when what was noted last has been written. If nobody would undo that any more, because the time was over
    /// before, it is put back here, unless somebody else has changed it since.
    ///
    /// # Errors
    /// It is not waiting any more; the store's.
    pub fn written(&self) -> Result<(), ConfirmError> {
        // Whoever ends it after this look finds what was written.
        match read(self.store, &self.row.id)? {
            Some((row, _)) if row.phase == ConfirmationPhase::Waiting => Ok(()),
            _ => {
                let last = self.row.changes.len().saturating_sub(1);
                restore::restore_all(self.store, &self.row.changes[last..])?;
                Err(self.ended()?)
            }
        }
    }

    /// What has become of it, if it is not waiting any more.
    fn ended(&self) -> Result<ConfirmError, StoreError> {
        let id = self.row.id.clone();
        Ok(match read(self.store, &id)? {
            Some((row, _)) => not_waiting(&row).unwrap_or(ConfirmError::Unknown(id)),
            None => ConfirmError::Unknown(id),
        })
    }

    fn pending_elsewhere(&self, key: &str) -> Result<Option<String>, StoreError> {
        let others = list(self.store)?.into_iter().filter(|other| other.id != self.row.id);
        let mut pending = others.filter(|other| !matches!(other.phase, ConfirmationPhase::Undone { .. }));
        Ok(pending.find(|other| other.changes.iter().any(|change| change.key == key)).map(|other| other.id))
    }
}

/// All changes that wait, are being undone, or were lately.
///
/// # Errors
/// The store's.
pub fn list(store: &dyn Store) -> Result<Vec<Confirmation>, StoreError> {
    let entries = store.list(&Scope::Confirmations)?.entries;
    // What cannot be read was written by a newer version, whose nodes undo it.
    Ok(entries.iter().filter_map(|entry| decode(entry).ok()).collect())
}

/// Confirms a change: it stays. `connection` is the one over which that is said; one that is known has to be another than
/// that over which the change was made. Returns what it was.
///
/// # Errors
/// There is none, it is too late, the connection is the same, or the store's.
pub fn confirm(store: &dyn Store, id: &str, connection: &str) -> Result<Confirmation, ConfirmError> {
    for _ in 0..MAX_ATTEMPTS {
        let (row, revision) = read(store, id)?.ok_or_else(|| ConfirmError::Unknown(id.to_owned()))?;
        if let Some(too_late) = not_waiting(&row) {
            return Err(too_late);
        }
        if !connection.is_empty() && connection == row.connection {
            return Err(ConfirmError::SameConnection(id.to_owned()));
        }
        match store.delete(&Key::Confirmation(id.to_owned()), Some(&revision)) {
            Ok(_) => return Ok(row),
            Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ConfirmError::Unknown(id.to_owned()))
}

/// Puts back what a change replaced. `by` names who does it. `None`: there is nothing to do for `by`, because it was
/// confirmed, or is another's to undo. Can be called again after an error, and goes on.
///
/// # Errors
/// The store's.
pub fn undo(
    store: &dyn Store,
    id: &str,
    by: &str,
    now: impl Fn() -> Timestamp,
) -> Result<Option<Undone>, StoreError> {
    let Some((row, revision)) = claim(store, id, by, now())? else { return Ok(None) };
    let undone = restore::restore_all(store, &row.changes)?;
    let kept = undone.kept.iter().map(ToString::to_string).collect();
    let at = Timestamp::from_second(now().as_second()).unwrap_or(Timestamp::MAX);
    let phase = ConfirmationPhase::Undone { by: by.to_owned(), at, kept };
    match write(store, &Confirmation { phase, ..row }, &revision) {
        // Somebody took it over meanwhile, and finds everything back.
        Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => Ok(Some(undone)),
        Err(error) => Err(error),
    }
}

/// Forgets a change that was undone.
///
/// # Errors
/// The store's.
pub fn forget(store: &dyn Store, id: &str) -> Result<(), StoreError> {
    let Some((row, revision)) = read(store, id)? else { return Ok(()) };
    if !matches!(row.phase, ConfirmationPhase::Undone { .. }) {
        return Ok(());
    }
    match store.delete(&Key::Confirmation(id.to_owned()), Some(&revision)) {
        Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a change `by`'s to undo.
fn claim(
    store: &dyn Store,
    id: &str,
    by: &str,
    now: Timestamp,
) -> Result<Option<(Confirmation, Revision)>, StoreError> {
    let Some((row, revision)) = read(store, id)? else { return Ok(None) };
    match &row.phase {
        ConfirmationPhase::Waiting => {}
        ConfirmationPhase::Undoing { by: other, since } if other == by || later(*since, CLAIM) <= now => {}
        ConfirmationPhase::Undoing { .. } | ConfirmationPhase::Undone { .. } => return Ok(None),
    }
    let phase = ConfirmationPhase::Undoing { by: by.to_owned(), since: now };
    let row = Confirmation { phase, ..row };
    match write(store, &row, &revision) {
        Ok(entry) => Ok(Some((row, entry.revision))),
        Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_waiting(row: &Confirmation) -> Option<ConfirmError> {
    let id = row.id.clone();
    match &row.phase {
        ConfirmationPhase::Waiting => None,
        ConfirmationPhase::Undoing { by, .. } => Some(ConfirmError::Undoing { id, by: by.clone() }),
        ConfirmationPhase::Undone { by, at, kept } => {
            Some(ConfirmError::Undone { id, by: by.clone(), at: *at, kept: kept.clone() })
        }
    }
}

fn read(store: &dyn Store, id: &str) -> Result<Option<(Confirmation, Revision)>, StoreError> {
    match store.get(&Key::Confirmation(id.to_owned())) {
        Ok(entry) => Ok(Some((decode(&entry)?, entry.revision))),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn write(store: &dyn Store, row: &Confirmation, expected: &Revision) -> Result<Entry, StoreError> {
    store.update(&Key::Confirmation(row.id.clone()), &Row::Confirmation(row.clone()).encode(), Some(expected))
}

fn decode(entry: &Entry) -> Result<Confirmation, StoreError> {
    match entry.row()? {
        Row::Confirmation(row) => Ok(row),
        _ => Err(StoreError::Malformed {
            key: entry.key.clone(),
            kind: "Confirmation",
            reason: "it is something else".to_owned(),
        }),
    }
}

/// Beyond the end of time there is nothing later.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
