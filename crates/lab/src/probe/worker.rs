//! A thread that goes on until it is told to stop, and never outlives its owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, bail};

/// The owner's end of it. Dropping it stops the thread and waits for it, so that no socket of a probe stays open in a
/// namespace that is to go away.
pub(super) struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts it. The work looks at the flag often enough that nobody has to wait long.
    pub(super) fn start(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || work(&stop)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops it; what it came to.
    ///
    /// # Errors
    /// It panicked.
    pub(super) fn finish(mut self) -> Result<T> {
        match self.join() {
            Some(Ok(outcome)) => Ok(outcome),
            _ => bail!("a probe's thread panicked"),
        }
    }
}

impl<T> Worker<T> {
    fn join(&mut self) -> Option<std::thread::Result<T>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // A thread that panicked has already said so.
        let _ = self.join();
    }
}
