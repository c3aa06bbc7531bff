//! When which change is due.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::{Confirmation, ConfirmationPhase, Timestamp};

use super::{CLAIM, REMEMBERED, later};

/// A moment, on the clock on the wall and on one that nobody sets.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What the author's deadline is compared with.
    pub wall: Timestamp,
    /// What the time that was allowed is measured with.
    pub steady: Instant,
}

/// The changes that wait, as one node sees them. A change is due at its deadline, or when the time that it was allowed has
/// passed since this node saw it, whatever is first: no clock that goes wrong keeps an operator locked out.
#[derive(Debug, Default)]
pub struct Watchlist(BTreeMap<String, Seen>);

#[derive(Debug)]
struct Seen {
    row: Confirmation,
    since: Instant,
}

impl Watchlist {
    /// A row is now this; `None`: it does not exist.
    pub fn on_row(&mut self, id: &str, row: Option<Confirmation>, now: Moment) {
        match row {
            Some(row) => drop(self.0.insert(id.to_owned(), Seen { row, since: now.steady })),
            None => drop(self.0.remove(id)),
        }
    }

    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes that are to be undone now, also those with which somebody else has not come to an end.
    pub fn due(&self, now: Moment) -> Vec<String> {
        self.select(now, |row| match row.phase {
            ConfirmationPhase::Waiting => Some((row.deadline, Duration::from_secs(row.allowed_secs.into()))),
            ConfirmationPhase::Undoing { since, .. } => Some((later(since, CLAIM), CLAIM)),
            ConfirmationPhase::Undone { .. } => None,
        })
    }

    /// Those that were undone, so long ago that nobody will ask.
    pub fn forgettable(&self, now: Moment) -> Vec<String> {
        self.select(now, |row| match row.phase {
            ConfirmationPhase::Undone { at, .. } => Some((later(at, REMEMBERED), REMEMBERED)),
            _ => None,
        })
    }

    fn select(
        &self,
        now: Moment,
        end: impl Fn(&Confirmation) -> Option<(Timestamp, Duration)>,
    ) -> Vec<String> {
        let is_over = |seen: &Seen| {
            end(&seen.row).is_some_and(|(deadline, allowed)| {
                now.wall >= deadline || now.steady.saturating_duration_since(seen.since) >= allowed
            })
        };
        self.0.iter().filter(|(_, seen)| is_over(seen)).map(|(id, _)| id.clone()).collect()
    }
}
