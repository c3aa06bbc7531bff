//! The networks of the host's interfaces: by which interface a route's packets leave.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::policy::{InterfacePattern, Policy};

/// Networks and the names of their interfaces, as far as policies need them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Interfaces(Arc<[(IpNet, Arc<str>)]>);

impl Interfaces {
    /// The interface that an address is reached by: that of the longest network that has it.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        let found = self.0.iter().find(|(network, _)| network.contains(&address));
        found.map(|(_, name)| &**name)
    }

    /// Those that a policy can tell apart: networks of interfaces that it names, and networks inside of those. Nothing for
    /// a policy that does not ask for interfaces, so that it is not concerned when they change.
    #[must_use]
    pub fn relevant_to(&self, policy: &Policy) -> Self {
        let patterns: Vec<&InterfacePattern> =
            policy.rules.iter().flat_map(|rule| &rule.when.interfaces).collect();
        let is_named = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        let named: Vec<&IpNet> =
            self.0.iter().filter(|(_, name)| is_named(name)).map(|(network, _)| network).collect();
        let counts = |network: &IpNet| named.iter().any(|outer| outer.contains(network));
        let relevant = self.0.iter().filter(|(network, _)| counts(network)).cloned();
        Self(relevant.collect())
    }
}

impl FromIterator<(IpNet, Arc<str>)> for Interfaces {
    fn from_iter<I: IntoIterator<Item = (IpNet, Arc<str>)>>(networks: I) -> Self {
        let mut networks: Vec<_> =
            networks.into_iter().map(|(network, name)| (network.trunc(), name)).collect();
        networks.sort_unstable_by_key(|(network, name)| {
            (std::cmp::Reverse(network.prefix_len()), *network, name.clone())
        });
        Self(networks.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Match, Rule, Verdict};

    fn interfaces() -> Interfaces {
        [("10.0.0.0/8", "tunl0"), ("10.1.0.0/16", "eth1"), ("192.0.2.0/24", "eth0")]
            .into_iter()
            .map(|(network, name)| (network.parse().unwrap(), name.into()))
            .collect()
    }

    #[test]
    fn the_longest_network_that_has_an_address_counts() {
        let interfaces = interfaces();
        let of = |address: &str| interfaces.of(address.parse().unwrap()).map(str::to_owned);
        assert_eq!(of("10.1.2.3").as_deref(), Some("eth1"));
        assert_eq!(of("10.2.2.3").as_deref(), Some("tunl0"));
        assert_eq!(of("198.51.100.1"), None);
    }

    #[test]
    fn a_policy_is_concerned_by_what_it_names_and_by_what_is_cut_out_of_that() {
        let policy = |pattern: &str| {
            let when = Match { interfaces: vec![pattern.into()], ..Match::default() };
            Policy::new(vec![Rule::deciding("r", when, Verdict::Reject)], Verdict::Accept)
        };
        let relevant = interfaces().relevant_to(&policy("tunl0"));
        assert_eq!(relevant.of([10, 1, 2, 3].into()), Some("eth1"), "not taken for tunl0");
        assert_eq!(relevant.of([192, 0, 2, 1].into()), None);
        assert_eq!(interfaces().relevant_to(&policy("*.cali")), Interfaces::default());
        assert_eq!(interfaces().relevant_to(&Policy::accept_all()), Interfaces::default());
    }
}
