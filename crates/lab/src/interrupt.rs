//! Ctrl-C and SIGTERM, noticed instead of deadly, so that what was made can be taken down.
//!
//! The work goes on in one thread; it asks with [`check`] between steps and waits with [`pause`], both of which fail as
//! soon as a signal has come. So nothing is ever taken down while it is still being made.

use std::process::ExitCode;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

static RECEIVED: Mutex<Option<Interrupted>> = Mutex::new(None);
static NEWS: Condvar = Condvar::new();

/// A signal asked for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by {}", if *.0 == SignalKind::interrupt().as_raw_value() { "SIGINT" } else { "SIGTERM" })]
pub(crate) struct Interrupted(i32);

/// What a command that was cut off ends with: as shells count when it was a signal, the error itself when it was not.
///
/// # Errors
/// The error.
pub(crate) fn exit_code(error: anyhow::Error) -> Result<ExitCode> {
    let Some(interrupted @ Interrupted(signal)) = error.downcast_ref() else { return Err(error) };
    eprintln!("tortie lab: {interrupted}; nothing is left");
    Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)))
}

/// From now on, for the rest of the process, signals are noticed.
///
/// # Errors
/// No thread, or no signal handler.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = async move {
        loop {
            let kind = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            lock().get_or_insert(Interrupted(kind.as_raw_value()));
            NEWS.notify_all();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(wait))?;
    Ok(())
}

/// Whether to go on.
///
/// # Errors
/// [`Interrupted`].
pub(crate) fn check() -> Result<(), Interrupted> {
    lock().map_or(Ok(()), Err)
}

/// Sleeps, but not through a signal.
///
/// # Errors
/// [`Interrupted`].
pub(crate) fn pause(time: Duration) -> Result<(), Interrupted> {
    let waited = NEWS.wait_timeout_while(lock(), time, |received| received.is_none());
    let (received, _) = waited.unwrap_or_else(PoisonError::into_inner);
    received.map_or(Ok(()), Err)
}

fn lock() -> std::sync::MutexGuard<'static, Option<Interrupted>> {
    RECEIVED.lock().unwrap_or_else(PoisonError::into_inner)
}
