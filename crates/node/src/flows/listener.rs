//! One group, as long as it does not cost too much.

use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use kernel::nflog::{Group, Logged};

use super::budget::Budget;

/// After this, a group that could not be had is tried again: another process may be about to end.
const RETRY: Duration = Duration::from_secs(1);

/// A group that is listened to, or will be again.
#[derive(Debug)]
pub(super) struct Listener {
    number: u16,
    group: Option<Group>,
    budget: Budget,
    /// When to listen again.
    again: Option<Instant>,
    /// Since when nobody listens because there was too much.
    deaf_since: Option<Instant>,
    /// That it cannot be had was logged.
    complained: bool,
    pub(super) heard: Heard,
}

/// What has come, and what has not, since this was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heard {
    pub(super) packets: u64,
    pub(super) lost: u64,
    /// How long nobody listened.
    pub(super) deaf: Duration,
}

impl Listener {
    pub(super) fn new(number: u16, per_second: usize, now: Instant) -> Self {
        Self {
            number,
            group: None,
            budget: Budget::new(per_second, now),
            again: Some(now),
            deaf_since: None,
            complained: false,
            heard: Heard::default(),
        }
    }

    /// Listens again, if it is time.
    pub(super) fn revive(&mut self, now: Instant) {
        if self.again.is_none_or(|again| now < again) {
            return;
        }
        self.heard.deaf += self.deaf_since.take().map_or(Duration::ZERO, |since| now - since);
        match Group::open(self.number) {
            Ok(group) => {
                (self.group, self.again, self.complained) = (Some(group), None, false);
            }
            Err(error) => {
                self.again = Some(now + RETRY);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "flows cannot be watched; it is tried again");
                }
            }
        }
    }

    /// Hands on what has come, as far as the budget allows.
    pub(super) fn hear(&mut self, now: Instant, take: impl FnMut(Logged)) {
        let Some(group) = &mut self.group else { return };
        match group.receive(self.budget.left(now), take) {
            Ok(received) => {
                self.heard.packets += received.packets as u64;
                self.heard.lost += received.lost;
                if let Some(again) = self.budget.spend(received.packets) {
                    (self.group, self.again, self.deaf_since) = (None, Some(again), Some(now));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "flows were not seen");
                (self.group, self.again) = (None, Some(now + RETRY));
            }
        }
    }

    /// To be polled, while it listens.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.group.as_ref().map(|group| group.as_fd())
    }

    /// When [`Listener::revive`] has something to do.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Whether there is too much to be heard.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf_since.is_some()
    }
}
