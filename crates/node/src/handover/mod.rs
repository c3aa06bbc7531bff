//! One process takes the place of another that runs, and no session goes down (`--take-over`).
//!
//! ```text
//!   new process                              old process
//!   reads rows, works out its plan,          serves on
//!   touches nothing
//!        ── Sessions: who I am, version ──▶  serves on until peers have read and connections are decided;
//!                                            finishes CNI requests, writes no more routes and rules,
//!                                            holds BGP still; BFD goes on
//!        ◀── Offer: state, open files ─────
//!   reads it
//!        ── Accept ───────────────────────▶  holds BFD still
//!        ◀── Commit: BFD's state, files ───
//!        ── Taken ────────────────────────▶  ends without a word to any peer
//!   goes on
//! ```
//!
//! Until it has read *Taken* the old process goes on as if nothing had been when the other end is gone; the new process uses
//! nothing of what it got before it has said so. So there is never more than one that serves, and none only while the last
//! three messages are under way. What two processes would fight over is open files, and goes along: sessions, listening
//! sockets of BGP, of the plugins and of HTTP, the lock on the node's name.
//!
//! What may take long is waited for before anybody is held up; how long everything may take at most is in `limits`.
//!
//! An offer that cannot be used is not accepted: the new process ends with an error, and the old one goes on.
//!
//! An old process that does not understand the request says so; then it is asked to end as for a restart
//! (`Restart`), and the new one starts as usual: graceful restart.

mod giver;
mod hold;
mod limits;
mod protocol;
mod taker;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use serde::{Deserialize, Serialize};

pub(crate) use giver::{Ending, Giver, Parts};
pub(crate) use hold::Hold;
pub(crate) use taker::{Predecessor, Taken};

use crate::signals::{OnHangup, work_until_stopped};

/// How long a process that is to take over may need to know everything.
const READINESS: Duration = Duration::from_secs(60);
/// How often one that waits for its end wakes up.
const LINGER: Duration = Duration::from_secs(60);

/// Which processes may take each other's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The node's name.
    pub(crate) node: String,
    /// Where its resources come from.
    pub(crate) source: PathBuf,
}

impl Owner {
    /// A node with the resources of a file, be it a datastore.
    pub(crate) fn new(node: &str, source: &Path) -> Self {
        let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
        Self { node: node.to_owned(), source }
    }
}

/// Waits until a process knows everything that it needs to go on at once in another one's place.
///
/// # Errors
/// It takes too long.
pub(crate) fn await_readiness(
    is_ready: impl Fn() -> bool,
    trouble: impl Fn() -> Option<String>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + READINESS;
    while !is_ready() {
        if Instant::now() > deadline {
            let trouble = trouble().unwrap_or_else(|| "no plan for BGP: has the node an address?".to_owned());
            bail!(
                "--take-over: not ready after {} s: {trouble}; the other process goes on",
                READINESS.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What a process does that has given everything away. Its end would end a container, which would be started anew and take
/// everything back, so the first process of a container waits until it is told to stop.
pub(crate) fn linger() {
    if std::process::id() == 1 {
        tracing::info!("this process waits for SIGTERM, since its end would end its container");
        work_until_stopped(LINGER, OnHangup::End, |_| ControlFlow::<()>::Continue(()));
    }
}

/// The socket for hand-overs, beside the one for requests.
fn path(requests: &Path) -> PathBuf {
    requests.with_extension("handover")
}
