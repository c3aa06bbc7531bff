//! Structured logs on standard error: text, or JSON with `TORTIE_LOG_FORMAT=json`. `RUST_LOG` refines LogSeverityScreen.

use std::io;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};

/// The modules that BGPConfiguration's logSeverityScreen is about.
const BGP: [&str; 2] = ["node::bgp", "node::speaker"];

/// Changes the levels of a log that runs.
pub(crate) struct LogLevel {
    apply: Box<dyn Fn(Levels) + Send>,
    levels: Levels,
}

/// What is written: nothing less severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Of everything.
    pub(crate) all: Level,
    /// Of BGP, if it has one of its own.
    pub(crate) bgp: Option<Level>,
}

impl LogLevel {
    /// One that calls this.
    pub(crate) fn from_fn(level: Level, apply: impl Fn(Levels) + Send + 'static) -> Self {
        Self { apply: Box::new(apply), levels: Levels { all: level, bgp: None } }
    }

    /// From now on, what is less severe is not written, unless `RUST_LOG` says so.
    pub(crate) fn set(&mut self, level: Level) {
        self.change(Levels { all: level, ..self.levels });
    }

    /// Likewise, for BGP alone; `None`: as everything else.
    pub(crate) fn set_bgp(&mut self, level: Option<Level>) {
        self.change(Levels { bgp: level, ..self.levels });
    }

    fn change(&mut self, levels: Levels) {
        if levels != self.levels {
            self.levels = levels;
            (self.apply)(levels);
        }
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
    let builder = builder().with_env_filter(filter(Levels { all: level, bgp: None })).with_filter_reloading();
    let handle = builder.reload_handle();
    // A second subscriber in one process can only be a test's.
    let _ = builder.try_init();
    LogLevel::from_fn(level, move |levels| note(handle.reload(filter(levels))))
}

fn start_json(level: Level) -> LogLevel {
    let builder =
        builder().json().with_env_filter(filter(Levels { all: level, bgp: None })).with_filter_reloading();
    let handle = builder.reload_handle();
    let _ = builder.try_init();
    LogLevel::from_fn(level, move |levels| note(handle.reload(filter(levels))))
}

fn builder() -> SubscriberBuilder<DefaultFields, Format, LevelFilter, fn() -> io::Stderr> {
    tracing_subscriber::fmt().with_writer(io::stderr as fn() -> io::Stderr).with_ansi(false)
}

fn filter(levels: Levels) -> EnvFilter {
    let default = LevelFilter::from_level(levels.all).into();
    let filter = EnvFilter::builder().with_default_directive(default).from_env_lossy();
    let finer = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let Some(level) = levels.bgp else { return filter };
    let modules = BGP.iter().filter(|module| !finer.contains(*module));
    let directives = modules.filter_map(|module| format!("{module}={level}").parse().ok());
    directives.fold(filter, EnvFilter::add_directive)
}

fn note(outcome: Result<(), tracing_subscriber::reload::Error>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the level of the log cannot be changed");
    }
}
