//! Settings that this version knows and does not follow. Each is said once, so that nobody waits for an effect that will
//! not come.
//!
//! A setting that asks for nothing (its default, `false`, `none`) is not worth a word: Calico's manifests are full of them.

use std::collections::BTreeSet;

use api::felix::Parameter;
use api::{BGPConfigurationSpec, Resource, Row};
use calc::contract::{Change, EncapMode, Pool};
use ipnet::IpNet;

use crate::felix;

/// Fields of BGPConfiguration that the BGP plan follows, or refuses by itself (the password).
const BGP_FIELDS: [&str; 6] = [
    "nodeToNodeMeshEnabled",
    "asNumber",
    "listenPort",
    "bindMode",
    "nodeMeshPassword",
    "nodeMeshMaxRestartTime",
];

/// What has been said.
#[derive(Debug, Default)]
pub(crate) struct Unbuilt {
    told: BTreeSet<String>,
}

impl Unbuilt {
    /// Looks at a change on its way to the dataplane.
    pub(crate) fn on_change(&mut self, change: &Change) {
        match change {
            Change::PoolUpdate { cidr, pool } => self.tell(of_pool(cidr, pool)),
            Change::ConfigUpdate { parameters } => {
                let values = || parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                self.tell(of_parameters(values()));
                self.tell(of_process(values()));
            }
            _ => {}
        }
    }

    /// Looks at a row that only the BGP plan reads.
    pub(crate) fn on_row(&mut self, row: &Row) {
        if let Row::Resource(Resource::BGPConfiguration(configuration)) = row {
            self.tell(of_bgp(&configuration.metadata.name, &configuration.spec));
        }
    }

    fn tell(&mut self, notices: impl IntoIterator<Item = String>) {
        for notice in notices {
            if !self.told.contains(&notice) {
                tracing::warn!("{notice}");
                self.told.insert(notice);
            }
        }
    }
}

/// Felix parameters by name, in any case.
pub(crate) fn of_parameters<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    parameters.filter_map(|(name, value)| of_parameter(name, value.trim())).collect()
}

fn of_parameter(name: &str, value: &str) -> Option<String> {
    let Some(parameter) = Parameter::by_name(name) else {
        return Some(format!("there is no Felix parameter {name}; its value {value:?} has no effect"));
    };
    let follows = felix::Parameters::follows(name) || dataplane::Parameters::follows(name);
    let asks_for_nothing = value.is_empty()
        || ["false", "none", "disabled", parameter.default]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(value));
    (!follows && !asks_for_nothing).then(|| {
        format!(
            "Felix parameter {} is {value:?}: this version does not follow it, it has no effect",
            parameter.name
        )
    })
}

/// Parameters of the process itself, which are read when it starts, before there is a datastore.
fn of_process<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let of_process = parameters.filter(|(name, _)| felix::Parameters::follows(name));
    of_process
        .map(|(name, value)| {
            format!(
                "Felix parameter {name} is {value:?} in FelixConfiguration: this version takes it from the environment \
                 (FELIX_{}) or felix.cfg only",
                name.to_ascii_uppercase()
            )
        })
        .collect()
}

fn of_pool(cidr: &IpNet, pool: &Pool) -> Option<String> {
    let mode = match (pool.ipip, pool.vxlan) {
        (EncapMode::Never, EncapMode::Never) => return None,
        (EncapMode::Never, _) => "vxlanMode",
        _ => "ipipMode",
    };
    Some(format!(
        "pool {cidr} asks for {mode}: this version makes no tunnels, its packets go between hosts as they are, and arrive only \
         where the network routes them"
    ))
}

fn of_bgp(name: &str, spec: &BGPConfigurationSpec) -> Vec<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(spec) else { return Vec::new() };
    let unknown = fields.keys().filter(|field| !BGP_FIELDS.contains(&field.as_str()));
    unknown
        .map(|field| {
            format!(
                "BGPConfiguration {name}: spec.{field}: this version does not follow it, it has no effect"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Vec<String> {
        of_parameters(pairs.iter().copied())
    }

    #[test]
    fn what_is_followed_or_asks_for_nothing_is_not_worth_a_word() {
        let quiet = [
            ("HealthEnabled", "true"),
            ("logseverityscreen", "Debug"),
            ("DefaultEndpointToHostAction", "ACCEPT"),
            ("NftablesMarkMask", "0xff"),
            ("BPFEnabled", "false"),
            ("TyphaK8sServiceName", "none"),
            ("IptablesRefreshInterval", "180"),
        ];
        assert_eq!(parameters(&quiet), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_followed_and_what_does_not_exist_is_named() {
        assert_eq!(
            parameters(&[("bpfenabled", "true"), ("heathport", "9")]),
            [
                "Felix parameter BPFEnabled is \"true\": this version does not follow it, it has no effect",
                "there is no Felix parameter heathport; its value \"9\" has no effect",
            ]
        );
    }

    #[test]
    fn what_is_read_at_the_start_says_where_it_is_read_from() {
        let notices = of_process([("LogSeverityScreen", "Debug"), ("LogPrefix", "x")].into_iter());
        assert_eq!(notices.len(), 1);
        assert!(notices[0].contains("FELIX_LOGSEVERITYSCREEN"), "{notices:?}");
    }

    #[test]
    fn every_parameter_that_is_followed_exists() {
        let followed = |name: &str| felix::Parameters::follows(name) || dataplane::Parameters::follows(name);
        let known = api::felix::PARAMETERS.iter().filter(|parameter| followed(parameter.name)).count();
        assert!(known > 25, "{known} of the table are followed");
        assert!(felix::NAMES.iter().all(|name| Parameter::by_name(name).is_some()));
    }

    #[test]
    fn a_pool_with_a_tunnel_is_said_and_one_without_is_not() {
        let cidr = "10.66.0.0/16".parse().unwrap();
        let mut pool = Pool { ipip: EncapMode::Never, vxlan: EncapMode::Never, nat_outgoing: true };
        assert_eq!(of_pool(&cidr, &pool), None);
        pool.vxlan = EncapMode::CrossSubnet;
        assert!(of_pool(&cidr, &pool).unwrap().starts_with("pool 10.66.0.0/16 asks for vxlanMode"));
    }

    #[test]
    fn fields_of_bgp_configuration_that_the_plan_does_not_read_are_named() {
        let spec = serde_json::json!({
            "asNumber": 64513, "nodeToNodeMeshEnabled": true, "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}]
        });
        let spec: BGPConfigurationSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(
            of_bgp("default", &spec),
            [
                "BGPConfiguration default: spec.serviceClusterIPs: this version does not follow it, it has no effect"
            ]
        );
    }

    #[test]
    fn each_is_said_once() {
        let mut unbuilt = Unbuilt::default();
        unbuilt.tell(["a".to_owned(), "a".to_owned()]);
        unbuilt.tell(["a".to_owned()]);
        assert_eq!(unbuilt.told.len(), 1);
    }
}
