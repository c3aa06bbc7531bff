//! Felix parameters of the process itself: environment, then file, then datastore, then default (resources.md 8.1).
//!
//! Those of rules and routes are [`dataplane::Parameters`], which get the same sources.

use std::collections::BTreeMap;

use api::{BGPLogSeverity, FelixConfigurationSpec, Metadata};
use datastore::{Store, StoreError, objects};
use tracing::Level;

use crate::logging::LogLevel;

/// Where parameter values come from, in falling precedence. Names are in lower case (`healthport`), as `FELIX_…`
/// variables are matched without regard to case.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `FELIX_…` variables.
    pub environment: BTreeMap<String, String>,
    /// `/etc/calico/felix.cfg`, section `[global]`.
    pub file: BTreeMap<String, String>,
    /// FelixConfiguration, `node.NAME` already laid over `default`.
    pub datastore: BTreeMap<String, String>,
}

/// The parameters that the process follows itself, in lower case.
pub(crate) const NAMES: [&str; 7] = [
    "healthenabled",
    "healthhost",
    "healthport",
    "prometheusmetricsenabled",
    "prometheusmetricshost",
    "prometheusmetricsport",
    "logseverityscreen",
];

/// The effective parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// HealthEnabled, HealthHost, HealthPort: where to serve `/liveness` and `/readiness`.
    pub health: Option<(String, u16)>,
    /// PrometheusMetricsEnabled, …Host, …Port: where to serve `/metrics`.
    pub metrics: Option<(String, u16)>,
    /// LogSeverityScreen, as a level of `tracing`.
    pub log_level: tracing::Level,
}

impl Sources {
    /// Reads FelixConfiguration. Its values are those of [`calc::contract::Change::ConfigUpdate`].
    ///
    /// # Errors
    /// The datastore's.
    pub(crate) fn read_datastore(&mut self, store: &dyn Store, node: &str) -> Result<(), StoreError> {
        let read = |name: &str| {
            let found = objects::read::<FelixConfigurationSpec>(store, &Metadata::named(name))?;
            Ok::<_, StoreError>(found.map(|(configuration, _)| configuration.spec))
        };
        let (global, own) = (read("default")?, read(&format!("node.{node}"))?);
        self.set_datastore(&calc::felix_parameters(global.as_ref(), own.as_ref()));
        Ok(())
    }

    fn set_datastore(&mut self, parameters: &BTreeMap<String, String>) {
        self.datastore =
            parameters.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    }

    /// What this host says itself, file under environment: what wins over the datastore everywhere.
    pub fn local(&self) -> BTreeMap<String, String> {
        let mut local = self.file.clone();
        local.extend(self.environment.clone());
        local
    }
}

impl Parameters {
    /// Whether a parameter (in any case) is one of these.
    pub(crate) fn follows(name: &str) -> bool {
        NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Merges the sources. The second part names each value that was not used, and why.
    pub fn resolve(sources: &Sources) -> (Self, Vec<String>) {
        let mut lookup = Lookup { sources, warnings: Vec::new() };
        let parameters = Self {
            health: lookup.endpoint("health", "localhost", 9099),
            metrics: lookup.endpoint("prometheusmetrics", "", 9091),
            log_level: lookup.log_level(),
        };
        (parameters, lookup.warnings)
    }
}

/// The process' parameters while it runs: the level of the log follows FelixConfiguration at once, ports are bound once.
pub(crate) struct Live {
    sources: Sources,
    /// What is in effect.
    parameters: Parameters,
    log: LogLevel,
}

impl Live {
    /// What the node has started with.
    pub(crate) fn new(sources: Sources, parameters: Parameters, log: LogLevel) -> Self {
        Self { sources, parameters, log }
    }

    /// One that has started with nothing set, and a log that stays as it is.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let sources = Sources::default();
        let (parameters, _) = Parameters::resolve(&sources);
        Self::new(sources, parameters, LogLevel::from_fn(tracing::Level::INFO, |_| {}))
    }

    /// BGPConfiguration's logSeverityScreen; `None`: it does not say.
    pub(crate) fn on_bgp_severity(&mut self, severity: Option<BGPLogSeverity>) {
        self.log.set_bgp(severity.map(|severity| match severity {
            BGPLogSeverity::Trace => Level::TRACE,
            BGPLogSeverity::Debug => Level::DEBUG,
            BGPLogSeverity::Info => Level::INFO,
            BGPLogSeverity::Warning => Level::WARN,
            BGPLogSeverity::Error | BGPLogSeverity::Fatal => Level::ERROR,
        }));
    }

    /// FelixConfiguration has changed. Gives what has no effect, and why.
    pub(crate) fn on_config(&mut self, datastore: &BTreeMap<String, String>) -> Vec<String> {
        self.sources.set_datastore(datastore);
        let (wanted, mut notices) = Parameters::resolve(&self.sources);
        if wanted.log_level != self.parameters.log_level {
            self.log.set(wanted.log_level);
            self.parameters.log_level = wanted.log_level;
            tracing::info!(level = %wanted.log_level, "LogSeverityScreen has changed");
        }
        let restart =
            |what| format!("{what} in FelixConfiguration take effect when the node is started again");
        notices.extend(
            (wanted.health != self.parameters.health)
                .then(|| restart("HealthEnabled, HealthHost and HealthPort")),
        );
        let metrics = "PrometheusMetricsEnabled, …Host and …Port";
        notices.extend((wanted.metrics != self.parameters.metrics).then(|| restart(metrics)));
        notices
    }
}

struct Lookup<'a> {
    sources: &'a Sources,
    warnings: Vec<String>,
}

impl<'a> Lookup<'a> {
    /// The value of the highest source that has one, and where it was.
    fn raw(&self, name: &str) -> Option<(&'a str, &'static str)> {
        let sources = self.sources;
        let places = [
            (&sources.environment, "the environment"),
            (&sources.file, "felix.cfg"),
            (&sources.datastore, "FelixConfiguration"),
        ];
        places.into_iter().find_map(|(values, place)| Some((values.get(name)?.as_str(), place)))
    }

    fn parsed<T>(&mut self, name: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let Some((text, place)) = self.raw(name) else { return default };
        parse(text.trim()).unwrap_or_else(|| {
            let warning =
                format!("{name}={text:?} in {place} is not a value it can have; the default is used");
            self.warnings.push(warning);
            default
        })
    }

    fn endpoint(&mut self, prefix: &str, host: &str, port: u16) -> Option<(String, u16)> {
        let enabled = self.parsed(&format!("{prefix}enabled"), false, boolean);
        let host = self.parsed(&format!("{prefix}host"), host.to_owned(), |text| Some(text.to_owned()));
        let port = self.parsed(&format!("{prefix}port"), port, |text| text.parse().ok());
        enabled.then_some((if host.is_empty() { "::".to_owned() } else { host }, port))
    }

    fn log_level(&mut self) -> tracing::Level {
        self.parsed("logseverityscreen", tracing::Level::INFO, |text| {
            Some(match text.to_ascii_lowercase().as_str() {
                "trace" => tracing::Level::TRACE,
                "debug" => tracing::Level::DEBUG,
                "info" => tracing::Level::INFO,
                "warn" | "warning" => tracing::Level::WARN,
                "error" | "fatal" => tracing::Level::ERROR,
                _ => return None,
            })
        })
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "t" => Some(true),
        "false" | "0" | "no" | "n" | "f" => Some(false),
        _ => None,
    }
}

/// Reads `felix.cfg`: `name = value` lines of the section `[global]`; `#` and `;` begin comments. Names in lower case.
pub fn parse_file(text: &str) -> BTreeMap<String, String> {
    let mut section = String::new();
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_ascii_lowercase();
        } else if let Some((name, value)) = line.split_once('=').filter(|_| section == "global") {
            values.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_environment_beats_the_file_which_beats_the_datastore() {
        let sources = Sources {
            environment: map(&[("healthport", "1")]),
            file: map(&[("healthport", "2"), ("prometheusmetricsport", "3")]),
            datastore: map(&[
                ("healthenabled", "true"),
                ("prometheusmetricsenabled", "true"),
                ("prometheusmetricsport", "4"),
            ]),
        };
        let (parameters, warnings) = Parameters::resolve(&sources);
        assert_eq!(parameters.health, Some(("localhost".to_owned(), 1)));
        assert_eq!(parameters.metrics, Some(("::".to_owned(), 3)));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn the_level_of_the_log_follows_the_datastore_and_ports_wait_for_a_restart() {
        let (told, levels) = std::sync::mpsc::channel();
        let log = LogLevel::from_fn(Level::INFO, move |levels| told.send((levels.all, levels.bgp)).unwrap());
        let sources = Sources { environment: map(&[("healthport", "1")]), ..Sources::default() };
        let (parameters, _) = Parameters::resolve(&sources);
        let mut live = Live::new(sources, parameters, log);
        assert_eq!(
            live.on_config(&map(&[("LogSeverityScreen", "DEBUG"), ("HealthPort", "2")])),
            Vec::<String>::new()
        );
        let notices = live.on_config(&map(&[("LogSeverityScreen", "DEBUG"), ("HealthEnabled", "true")]));
        assert_eq!(
            notices,
            [
                "HealthEnabled, HealthHost and HealthPort in FelixConfiguration take effect when the node is started again"
            ]
        );
        assert_eq!(live.on_config(&map(&[("LogSeverityScreen", "loud")])).len(), 1);
        assert_eq!(levels.try_iter().collect::<Vec<_>>(), [(Level::DEBUG, None), (Level::INFO, None)]);
        for severity in [Some(BGPLogSeverity::Trace), Some(BGPLogSeverity::Trace), None] {
            live.on_bgp_severity(severity);
        }
        let told: Vec<_> = levels.try_iter().collect();
        assert_eq!(told, [(Level::INFO, Some(Level::TRACE)), (Level::INFO, None)]);
    }

    #[test]
    fn a_bad_value_warns_and_the_default_holds() {
        let sources = Sources { environment: map(&[("logseverityscreen", "loud")]), ..Sources::default() };
        let (parameters, warnings) = Parameters::resolve(&sources);
        assert_eq!(parameters.log_level, tracing::Level::INFO);
        assert!(warnings[0].contains("\"loud\" in the environment"), "{warnings:?}");
    }

    #[test]
    fn the_file_has_sections_and_comments() {
        let values = parse_file("# c\n[global]\nHealthPort = 9\n;x=1\n[other]\nHealthHost=h\n");
        assert_eq!(values, map(&[("healthport", "9")]));
    }
}
