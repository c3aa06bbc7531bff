//! Signals, and a steady tick between them.

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The period is over.
    Tick,
    /// SIGHUP: read the configuration again.
    Hangup,
}

/// What SIGHUP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnHangup {
    /// What the system does with it: the process ends.
    End,
    /// It is told as [`Wake::Hangup`].
    Tell,
}

/// Calls `work` at once, then every `period` and at SIGHUP, until it breaks, or SIGTERM or SIGINT comes.
pub(crate) fn work_until_stopped<T>(
    period: Duration,
    hangup: OnHangup,
    work: impl FnMut(Wake) -> ControlFlow<T>,
) -> Option<T> {
    run(period, hangup, work).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot wait for signals");
        None
    })
}

fn run<T>(
    period: Duration,
    hangup: OnHangup,
    mut work: impl FnMut(Wake) -> ControlFlow<T>,
) -> io::Result<Option<T>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = match hangup {
            OnHangup::End => None,
            OnHangup::Tell => Some(signal(SignalKind::hangup())?),
        };
        let mut ticks = tokio::time::interval(period);
        loop {
            let wake = tokio::select! {
                _ = terminate.recv() => return Ok(None),
                _ = interrupt.recv() => return Ok(None),
                () = received(hangup.as_mut()) => Wake::Hangup,
                _ = ticks.tick() => Wake::Tick,
            };
            if let ControlFlow::Break(end) = work(wake) {
                return Ok(Some(end));
            }
        }
    })
}

/// Never, for a signal that is not waited for.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
