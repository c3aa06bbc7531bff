//! The agent's parameters: environment, then file, then datastore, then default (resources.md 8.1).
//!
//! Only what this node does is a field here. A parameter that is set but that this version does not act on is reported
//! by [`Parameters::resolve`], never swallowed.

use std::collections::BTreeMap;

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

/// What happens to a packet from a workload to its own host, after the workload's egress policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointToHost {
    /// Dropped.
    Drop,
    /// Accepted.
    Accept,
    /// Left to the host's own rules.
    Return,
}

/// The effective parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// HealthEnabled, HealthHost, HealthPort: where to serve `/liveness` and `/readiness`.
    pub health: Option<(String, u16)>,
    /// PrometheusMetricsEnabled, …Host, …Port: where to serve `/metrics`.
    pub metrics: Option<(String, u16)>,
    /// InterfacePrefix: prefixes of workload interfaces.
    pub interface_prefixes: Vec<String>,
    /// DefaultEndpointToHostAction.
    pub endpoint_to_host: EndpointToHost,
    /// LogSeverityScreen, as a level of `tracing`.
    pub log_level: tracing::Level,
}

impl Parameters {
    /// Merges the sources. The second part names each value that was not used, and why.
    ///
    /// # Errors
    /// A bad value of a parameter that resources.md section 8 marks `!`: the agent must not run on a guess.
    pub fn resolve(sources: &Sources) -> Result<(Self, Vec<String>), String> {
        let mut lookup = Lookup { sources, warnings: Vec::new() };
        let parameters = Self {
            health: lookup.endpoint("health", "localhost", 9099),
            metrics: lookup.endpoint("prometheusmetrics", "", 9091),
            interface_prefixes: lookup.interface_prefixes()?,
            endpoint_to_host: lookup.endpoint_to_host()?,
            log_level: lookup.log_level(),
        };
        lookup.warn_unused();
        Ok((parameters, lookup.warnings))
    }
}

/// What this version acts on; everything else that is set gets a warning.
const KNOWN: &[&str] = &[
    "healthenabled",
    "healthhost",
    "healthport",
    "prometheusmetricsenabled",
    "prometheusmetricshost",
    "prometheusmetricsport",
    "interfaceprefix",
    "defaultendpointtohostaction",
    "logseverityscreen",
];

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

    fn interface_prefixes(&mut self) -> Result<Vec<String>, String> {
        let (text, place) = self.raw("interfaceprefix").unwrap_or(("cali", "default"));
        let prefixes: Vec<_> = text.split(',').map(|prefix| prefix.trim().to_owned()).collect();
        let legal = |prefix: &String| {
            (1..=14).contains(&prefix.len())
                && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        match prefixes.iter().find(|prefix| !legal(prefix)) {
            None => Ok(prefixes),
            Some(bad) => Err(format!(
                "InterfacePrefix={text:?} in {place}: {bad:?} is not the beginning of an interface name (1 to 14 of a-z A-Z 0-9 _ . -)"
            )),
        }
    }

    fn endpoint_to_host(&mut self) -> Result<EndpointToHost, String> {
        let Some((text, place)) = self.raw("defaultendpointtohostaction") else {
            return Ok(EndpointToHost::Drop);
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "drop" => Ok(EndpointToHost::Drop),
            "accept" => Ok(EndpointToHost::Accept),
            "return" => Ok(EndpointToHost::Return),
            _ => Err(format!("DefaultEndpointToHostAction={text:?} in {place}: use Drop, Accept or Return")),
        }
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

    fn warn_unused(&mut self) {
        let sources = [&self.sources.environment, &self.sources.file, &self.sources.datastore];
        let mut unused: Vec<_> = sources
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|name| !KNOWN.contains(&name.as_str()))
            .collect();
        unused.sort();
        unused.dedup();
        self.warnings.extend(
            unused.into_iter().map(|name| format!("{name} is set, but this version does not act on it")),
        );
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
        let (parameters, warnings) = Parameters::resolve(&sources).unwrap();
        assert_eq!(parameters.health, Some(("localhost".to_owned(), 1)));
        assert_eq!(parameters.metrics, Some(("::".to_owned(), 3)));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_bad_value_warns_and_a_critical_one_stops() {
        let mut sources =
            Sources { environment: map(&[("logseverityscreen", "loud")]), ..Sources::default() };
        let (parameters, warnings) = Parameters::resolve(&sources).unwrap();
        assert_eq!(parameters.log_level, tracing::Level::INFO);
        assert!(warnings[0].contains("\"loud\" in the environment"), "{warnings:?}");
        sources.environment = map(&[("defaultendpointtohostaction", "maybe")]);
        assert!(Parameters::resolve(&sources).unwrap_err().contains("use Drop, Accept or Return"));
        sources.environment = map(&[("interfaceprefix", "cali,way-too-long-prefix")]);
        assert!(Parameters::resolve(&sources).unwrap_err().contains("way-too-long-prefix"));
    }

    #[test]
    fn what_is_not_acted_on_is_said() {
        let sources = Sources { datastore: map(&[("bpfenabled", "true")]), ..Sources::default() };
        let (_, warnings) = Parameters::resolve(&sources).unwrap();
        assert_eq!(warnings, ["bpfenabled is set, but this version does not act on it"]);
    }

    #[test]
    fn the_file_has_sections_and_comments() {
        let values = parse_file("# c\n[global]\nHealthPort = 9\n;x=1\n[other]\nHealthHost=h\n");
        assert_eq!(values, map(&[("healthport", "9")]));
    }
}
