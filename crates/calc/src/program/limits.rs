//! Limits on a workload's traffic (datapath.md 4.10, points 2 and 4).

use std::collections::BTreeSet;

use super::{Chain, ChainId, Conntrack, Match, Origin, Rule, Verdict};
use crate::contract::{Direction, Limits};

const TCP: u8 = 6;

/// Stands before the chain that judges a workload's packets of a direction, which many workloads share: what is counted here is
/// one workload's. `None` where nothing is limited that rules can limit.
///
/// A connection counts from its first packet on; beyond the limit none begins.
pub fn limits_chain(limits: &Limits, direction: Direction, judged: ChainId) -> Option<Chain> {
    let packets = limits
        .packets
        .map(|rate| Rule::new(vec![Match::OverRate(rate)], Verdict::Discard, Origin::PacketRate(direction)));
    let connections = limits.max_connections.map(|most| {
        let matches = vec![
            Match::Protocol { protocols: vec![TCP], negated: false },
            Match::Conntrack(BTreeSet::from([Conntrack::New])),
            Match::OverConnections(most),
        ];
        Rule::new(matches, Verdict::Reset, Origin::ConnectionLimit(direction))
    });
    let mut rules: Vec<Rule> = packets.into_iter().chain(connections).collect();
    if rules.is_empty() {
        return None;
    }
    rules.push(Rule::new(Vec::new(), Verdict::Jump(judged), Origin::Walk));
    Some(Chain { rules, ..Chain::default() })
}
