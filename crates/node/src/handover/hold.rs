//! A thread that writes to the kernel holds still while another process takes over.

use std::sync::mpsc::{SyncSender, sync_channel};

use super::limits::HOLD;
use crate::health::Reporter;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Hold {
    /// Write nothing any more, and say so.
    Still(SyncSender<()>),
    /// Write again, or begin to.
    GoOn,
}

impl Hold {
    /// Has a thread hold still, or go on; `tell` says whether the thread gets it. False: it does not, or is busy for too long.
    pub(crate) fn ask(still: bool, tell: impl FnOnce(Self) -> bool) -> bool {
        if !still {
            return tell(Self::GoOn);
        }
        let (held, is_held) = sync_channel(1);
        tell(Self::Still(held)) && is_held.recv_timeout(HOLD).is_ok()
    }

    /// On the thread: whether it holds still from now on.
    pub(crate) fn obey(self, health: &Reporter) -> bool {
        let Self::Still(held) = self else { return false };
        health.not_ready("another process takes over");
        // Whoever asked may have lost patience.
        let _ = held.send(());
        true
    }
}
