//! Forgetting history.
//!
//! After compaction up to revision R the log holds, of all revisions up to R, exactly those that are the last write of
//! a row at R, plus everything after R. Since each line names the revision that it replaced, one pass over the lines
//! that newly fall below R finds all that has to go: what they replaced, and those that are deletes. If R is itself
//! the last revision, and a delete, its line stays until the next time, to say what the last revision is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};

use super::error::Step;
use super::{compacted, latest_revision};

/// How much history is kept for watchers that were away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// History older than this is dropped. Default: 10 minutes, as Calico compacts etcd.
    pub age: Duration,
    /// So is all but the last so many revisions, however young. Default: 50,000.
    pub revisions: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(600), revisions: 50_000 }
    }
}

/// A checkpoint is made, and old history looked for, every so many revisions.
pub(super) const INTERVAL: i64 = 1_000;

/// Whether the writer of this revision has to look for old history.
pub(super) fn is_due(revision: i64) -> bool {
    revision % INTERVAL == 0
}

/// Records the time of a revision that is due.
pub(super) fn note(connection: &Connection, revision: i64) -> Step<()> {
    if is_due(revision) {
        connection
            .prepare_cached("INSERT INTO checkpoint (revision, at_secs) VALUES (?1, ?2)")?
            .execute(params![revision, now_secs()])?;
    }
    Ok(())
}

fn now_secs() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// Up to which revision history may be forgotten, when `latest` is the present one.
pub(super) fn bound(connection: &Connection, latest: i64, retention: Retention) -> Step<Option<i64>> {
    let age = i64::try_from(retention.age.as_secs()).unwrap_or(i64::MAX);
    let bound = connection
        .prepare_cached(
            "SELECT revision FROM checkpoint WHERE at_secs < ?1 OR revision <= ?2
             ORDER BY revision DESC LIMIT 1",
        )?
        .query_row(params![now_secs().saturating_sub(age), latest - i64::from(retention.revisions)], |row| {
            row.get(0)
        })
        .optional()?;
    Ok(bound)
}

/// Whether there is more to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

/// Forgets at most [`INTERVAL`] revisions of the history up to `up_to`.
pub(super) fn step(connection: &Connection, up_to: i64) -> Step<Progress> {
    let from = compacted(connection)?;
    let latest = latest_revision(connection)?;
    let goal = up_to.min(latest);
    let to = goal.min(from + INTERVAL);
    if to <= from {
        return Ok(Progress::Done);
    }
    connection
        .prepare_cached(
            "DELETE FROM log WHERE revision IN (
                 SELECT previous FROM log WHERE revision > ?1 AND revision <= ?2 AND previous IS NOT NULL)",
        )?
        .execute([from, to])?;
    connection
        .prepare_cached(
            "DELETE FROM log WHERE revision BETWEEN ?1 AND ?2 AND value IS NULL AND revision < ?3",
        )?
        .execute([from, to, latest])?;
    connection.prepare_cached("DELETE FROM checkpoint WHERE revision <= ?1")?.execute([to])?;
    connection.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'compacted'")?.execute([to])?;
    Ok(if to < goal { Progress::More } else { Progress::Done })
}

#[cfg(test)]
mod tests {
    use api::Key;

    use super::super::{Shared, lock};
    use crate::{Retention, Revision, Scope, Sqlite, Store};

    fn lines(store: &Sqlite) -> Vec<i64> {
        let shared: &Shared = &store.shared;
        let connection = lock(&shared.writer);
        let mut statement = connection.prepare("SELECT revision FROM log ORDER BY revision").expect("a log");
        let lines = statement.query_map([], |row| row.get(0)).expect("a log");
        lines.collect::<Result<_, _>>().expect("numbers")
    }

    fn handle(id: &str) -> Key {
        Key::Handle(id.to_owned())
    }

    #[test]
    fn only_live_rows_and_the_last_revision_stay() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Sqlite::open(folder.path().join("x.db")).expect("a new datastore");
        store.create(&handle("kept"), "1").expect("new"); // 1
        store.create(&handle("changed"), "1").expect("new"); // 2
        store.update(&handle("changed"), "2", None).expect("there"); // 3
        store.create(&handle("gone"), "1").expect("new"); // 4
        store.delete(&handle("gone"), None).expect("there"); // 5
        store.compact(&Revision::from("2")).expect("compacted");
        assert_eq!(lines(&store), [1, 2, 3, 4, 5], "2 is replaced only by 3");
        store.compact(&Revision::from("5")).expect("compacted");
        assert_eq!(lines(&store), [1, 3, 5], "the last delete says what the last revision is");
        let listing = store.list(&Scope::Handles).expect("a list");
        assert_eq!(listing.revision, Revision::from("5"));
        store.update(&handle("kept"), "2", None).expect("there"); // 6
        store.compact(&Revision::from("6")).expect("compacted");
        assert_eq!(lines(&store), [3, 6]);
    }

    #[test]
    fn history_goes_by_age_at_each_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let retention = Retention { age: std::time::Duration::ZERO, revisions: 50_000 };
        let store = Sqlite::open_with(folder.path().join("x.db"), retention).expect("a new datastore");
        store.create(&handle("h"), "0").expect("new");
        let write = |until: i64| {
            for n in store.list(&Scope::Handles).expect("a list").revision.0.parse().expect("a number")..until
            {
                store.update(&handle("h"), &i64::to_string(&n), None).expect("there");
            }
        };
        write(1_999);
        assert_eq!(lines(&store).len(), 1_999, "nothing is older than this very second");
        // Half an hour passes.
        lock(&store.shared.writer)
            .execute("UPDATE checkpoint SET at_secs = at_secs - 1800", [])
            .expect("one checkpoint");
        write(2_000);
        assert_eq!(
            lines(&store).len(),
            1_001,
            "the last 1,000, and the line that the first of them replaced"
        );
    }
}
