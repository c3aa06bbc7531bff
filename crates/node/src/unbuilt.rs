//! Settings that this version knows and does not follow. Each is said once, so that nobody waits for an effect that will
//! not come.
//!
//! A setting that asks for nothing (its default, `false`, `none`) is not worth a word: Calico's manifests are full of them.

use std::collections::{BTreeMap, BTreeSet};

use api::felix::Parameter;
use calc::contract::{Change, EncapMode, Pool};
use ipnet::IpNet;

use crate::felix;
use crate::health::Health;

/// As what notices are known.
const SOURCE: &str = "settings";

/// What there is of such settings now, and what has been said. The former is in the readiness answer and `node status`.
#[derive(Debug)]
pub(crate) struct Unbuilt {
    health: Health,
    /// By what they are about.
    notices: BTreeMap<Subject, Vec<String>>,
    told: BTreeSet<String>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// What the environment and the file say.
    Local,
    /// FelixConfiguration.
    Felix,
    /// A pool.
    Pool(IpNet),
}

impl Unbuilt {
    /// Begins with what the environment and the file say.
    pub(crate) fn new(health: Health, local: &BTreeMap<String, String>) -> Self {
        let mut unbuilt = Self { health, notices: BTreeMap::new(), told: BTreeSet::new() };
        unbuilt.set(Subject::Local, of_parameters(local));
        unbuilt
    }

    /// Looks at a change on its way to the dataplane. `live` has the last word on the process' own parameters.
    pub(crate) fn on_change(&mut self, change: &Change, live: &mut felix::Live) {
        match change {
            Change::PoolUpdate { cidr, pool } => {
                self.set(Subject::Pool(*cidr), of_pool(cidr, pool).into_iter().collect());
            }
            Change::PoolRemove { cidr } => self.set(Subject::Pool(*cidr), Vec::new()),
            Change::ConfigUpdate { parameters } => {
                let mut notices = of_parameters(parameters);
                notices.extend(live.on_config(parameters));
                self.set(Subject::Felix, notices);
            }
            _ => {}
        }
    }

    fn set(&mut self, subject: Subject, notices: Vec<String>) {
        for notice in &notices {
            if !self.told.contains(notice) {
                tracing::warn!("{notice}");
                self.told.insert(notice.clone());
            }
        }
        let before = match notices.is_empty() {
            true => self.notices.remove(&subject),
            false => self.notices.insert(subject, notices.clone()),
        };
        if before.unwrap_or_default() != notices {
            self.health.set_notices(SOURCE, self.notices.values().flatten().cloned().collect());
        }
    }
}

/// Felix parameters by name, in any case.
fn of_parameters(parameters: &BTreeMap<String, String>) -> Vec<String> {
    parameters.iter().filter_map(|(name, value)| of_parameter(name, value.trim())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn parameters(pairs: &[(&str, &str)]) -> Vec<String> {
        of_parameters(&map(pairs))
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
    fn notices_last_as_long_as_their_cause() {
        let health = Health::default();
        let mut unbuilt = Unbuilt::new(health.clone(), &map(&[("bpfenabled", "true")]));
        let mut live = felix::Live::for_tests();
        assert_eq!(health.notices().len(), 1);
        let cidr = "10.66.0.0/16".parse().unwrap();
        let pool = Pool { ipip: EncapMode::Always, vxlan: EncapMode::Never, nat_outgoing: true };
        unbuilt.on_change(&Change::PoolUpdate { cidr, pool }, &mut live);
        assert!(health.notices()[1].contains("this version makes no tunnels"), "{:?}", health.notices());
        unbuilt.on_change(&Change::PoolRemove { cidr }, &mut live);
        assert_eq!(health.notices().len(), 1);
        assert_eq!(unbuilt.told.len(), 2);
    }
}
