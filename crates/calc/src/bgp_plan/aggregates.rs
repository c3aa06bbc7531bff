//! Aggregates (`aggregates` of BGPConfiguration).

use std::collections::BTreeMap;

use bgp::config::Aggregate;
use bgp::policy::{Match, PrefixMatch, PrefixSet, Rule, SourceMatch, Verdict, mirrored};
use ipnet::IpNet;

use super::originate::is_v6;
use super::planner::BgpPlanner;

impl BgpPlanner {
    /// The aggregates of this node. They rank as its blocks do.
    pub(super) fn aggregates(&self) -> BTreeMap<IpNet, Aggregate> {
        let Some((_, spec)) = self.deciding_configuration(|spec| !spec.aggregates.is_empty()) else {
            return BTreeMap::new();
        };
        let all = spec.aggregates.iter().map(|aggregate| {
            let prefix = aggregate.cidr.net().trunc();
            let config = Aggregate {
                summary_only: aggregate.summary_only,
                internal: aggregate.internal_peers,
                local_pref: Some(mirrored(self.normal_priority(is_v6(&prefix)))),
            };
            (prefix, config)
        });
        all.collect()
    }

    /// Who asks for an aggregate wants it told, whichever pools it is about.
    pub(super) fn aggregates_are_told(&self, v6: bool) -> Option<Rule> {
        let aggregates = self.aggregates();
        let of_family = aggregates.keys().filter(|prefix| is_v6(prefix) == v6);
        let set: PrefixSet = of_family.map(|prefix| PrefixMatch::exactly(*prefix)).collect();
        let when = Match { source: Some(SourceMatch::Local), ..Match::prefix(set.clone()) };
        (!set.is_empty()).then(|| Rule::deciding("aggregates", when, Verdict::Accept))
    }
}
