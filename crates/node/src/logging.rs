//! Structured logs on standard error: text, or JSON with `TORTIE_LOG_FORMAT=json`. `RUST_LOG` refines LogSeverityScreen.

use std::io;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

/// Changes the level of a log that runs.
pub(crate) struct LogLevel(Box<dyn Fn(Level) + Send>);

impl LogLevel {
    /// One that calls this.
    pub(crate) fn from_fn(set: impl Fn(Level) + Send + 'static) -> Self {
        Self(Box::new(set))
    }

    /// From now on, what is less severe is not written, unless `RUST_LOG` says so.
    pub(crate) fn set(&self, level: Level) {
        (self.0)(level);
    }
}

/// Starts the log of this process.
pub(crate) fn start(level: Level) -> LogLevel {
    let format = std::env::var("TORTIE_LOG_FORMAT").unwrap_or_default();
    let json = format.eq_ignore_ascii_case("json");
    let level = if json { start_json(level) } else { start_text(level) };
    if !json && !matches!(format.to_ascii_lowercase().as_str(), "" | "text") {
        tracing::warn!(TORTIE_LOG_FORMAT = format, "unknown format of the log: use text or json");
    }
    level
}

fn start_text(level: Level) -> LogLevel {
    let builder = builder().with_env_filter(filter(level)).with_filter_reloading();
    let handle = builder.reload_handle();
    // A second subscriber in one process can only be a test's.
    let _ = builder.try_init();
    LogLevel::from_fn(move |level| note(handle.reload(filter(level))))
}

fn start_json(level: Level) -> LogLevel {
    let builder = builder().json().with_env_filter(filter(level)).with_filter_reloading();
    let handle = builder.reload_handle();
    let _ = builder.try_init();
    LogLevel::from_fn(move |level| note(handle.reload(filter(level))))
}

fn builder() -> SubscriberBuilder<DefaultFields, Format, LevelFilter, fn() -> io::Stderr> {
    tracing_subscriber::fmt().with_writer(io::stderr as fn() -> io::Stderr).with_ansi(false)
}

fn filter(level: Level) -> EnvFilter {
    EnvFilter::builder().with_default_directive(LevelFilter::from_level(level).into()).from_env_lossy()
}

fn note(outcome: Result<(), tracing_subscriber::reload::Error>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the level of the log cannot be changed");
    }
}
