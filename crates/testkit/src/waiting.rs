//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long [`eventually`] waits: much longer than anything takes on a busy machine.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within [`WAIT_LIMIT`]; the message says `what`.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {WAIT_LIMIT:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}
