//! How long everything may take: the old process altogether less than the new one waits.

use std::time::Duration;

use crate::speaker::FREEZER_ANSWER;

/// How long the other end may take for a message.
pub(super) const MESSAGE: Duration = Duration::from_secs(60);
/// How long the old process waits, while everything goes on, until BGP could hold still: until peers that are far behind have
/// read, and it is known what becomes of connections.
pub(super) const SETTLE: Duration = Duration::from_secs(15);
/// How long CNI requests that are under way may take before nothing more is written. From here on others wait.
pub(super) const REQUESTS: Duration = Duration::from_secs(10);
/// How long the thread that writes to the kernel may take to hold still: it is in the middle of that.
pub(super) const HOLD: Duration = Duration::from_secs(15);
/// How long BGP may take to hold still, and to say all that it knows.
pub(super) const FREEZE: Duration = Duration::from_secs(14);

const _: () = assert!(
    SETTLE.as_secs() + FREEZER_ANSWER.as_secs() + REQUESTS.as_secs() + HOLD.as_secs() + FREEZE.as_secs()
        < MESSAGE.as_secs(),
    "the new process would give up while the old one still gets ready"
);
