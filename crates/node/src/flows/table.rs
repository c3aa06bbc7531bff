//! The flows that were seen lately. No clock: whoever calls says when.
//!
//! Packets that differ only in the port that they come from are one flow. A flow is judged (which rules have decided) when it is
//! new, when its verdict changes, and now and then while it lasts, because rules change; not packet by packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::wire::flows::{Flow, FlowAction, FlowEnd, FlowPolicy, StagedPolicy};
use calc::contract::Direction;
use dataplane::judge::{Judged, Side, Sight};

/// Flows that are remembered; the one that was quiet for longest makes room.
const MOST: usize = 4096;
/// For so long after its last packet, in milliseconds.
const RETENTION: i64 = 15 * 60 * 1000;
/// A flow that goes on is judged again after so many milliseconds.
const STALE: i64 = 10_000;
/// Rules of staged policies that are counted apart; what others would do is counted together.
const MOST_STAGED_RULES: usize = 512;

/// What makes packets one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Of the destination, or type and code of ICMP.
    port: u16,
}

impl Key {
    fn of(sight: &Sight) -> Self {
        let packet = &sight.packet;
        let port = match packet.protocol {
            1 | 58 => u16::from_be_bytes([packet.icmp.0, packet.icmp.1]),
            _ => packet.destination_port,
        };
        let (source, destination) = (packet.source, packet.destination);
        Self { source, destination, protocol: packet.protocol, port }
    }
}

/// How often a rule of a staged policy would have decided.
pub(crate) type StagedCounts = BTreeMap<(Arc<str>, FlowAction), u64>;

#[derive(Debug)]
struct Record {
    first: i64,
    last: i64,
    packets: u64,
    denied: u64,
    /// The last packet.
    sight: Sight,
    judged: Option<(i64, Judged)>,
    /// Packets since the last judgement that are not in the counts of staged rules.
    uncounted: u64,
}

/// The flows, oldest first to go.
#[derive(Debug, Default)]
pub(crate) struct FlowTable {
    records: BTreeMap<Key, Record>,
    /// By their last packet.
    ages: BTreeSet<(i64, Key)>,
    /// To be judged.
    unjudged: BTreeSet<Key>,
    /// Those that have changed since somebody was told.
    news: BTreeSet<Key>,
    staged: StagedCounts,
}

impl FlowTable {
    /// A packet was seen.
    pub(crate) fn on_packet(&mut self, at: i64, sight: Sight) {
        let key = Key::of(&sight);
        let denied = u64::from(sight.denied.is_some());
        let record = self.records.entry(key).or_insert_with(|| Record {
            first: at,
            last: at,
            packets: 0,
            denied: 0,
            sight: sight.clone(),
            judged: None,
            uncounted: 0,
        });
        self.ages.remove(&(record.last, key));
        let is_other = record.sight.denied != sight.denied
            || (&record.sight.input, &record.sight.output) != (&sight.input, &sight.output);
        if is_other || record.judged.as_ref().is_none_or(|(judged, _)| at - judged > STALE) {
            self.unjudged.insert(key);
        }
        if is_other {
            record.judged = None;
        }
        record.sight = sight;
        record.last = record.last.max(at);
        record.packets += 1;
        record.denied += denied;
        record.uncounted += 1;
        self.ages.insert((record.last, key));
        self.news.insert(key);
        self.count_staged(key);
        self.shrink(at);
    }

    fn shrink(&mut self, now: i64) {
        while let Some((last, key)) = self.ages.first().copied() {
            if self.records.len() <= MOST && now - last <= RETENTION {
                return;
            }
            self.ages.pop_first();
            self.records.remove(&key);
            self.unjudged.remove(&key);
            self.news.remove(&key);
        }
    }

    /// Up to so many that are to be judged, with their last packets.
    pub(crate) fn take_unjudged(&mut self, most: usize) -> (Vec<Key>, Vec<Sight>) {
        let keys: Vec<Key> = self.unjudged.iter().take(most).copied().collect();
        self.unjudged.retain(|key| keys.binary_search(key).is_err());
        let sights = keys.iter().filter_map(|key| Some(self.records.get(key)?.sight.clone())).collect();
        (keys, sights)
    }

    /// What is to be said of the packets that [`FlowTable::take_unjudged`] gave.
    pub(crate) fn on_judged(&mut self, at: i64, keys: &[Key], sights: &[Sight], judged: Vec<Judged>) {
        for ((key, sight), judged) in keys.iter().zip(sights).zip(judged) {
            let Some(record) = self.records.get_mut(key) else { continue };
            // It was denied and is allowed now, or the other way round: what is known is of yesterday.
            if record.sight.denied != sight.denied {
                continue;
            }
            if record.judged.as_ref().is_none_or(|(_, before)| *before != judged) {
                self.news.insert(*key);
            }
            record.judged = Some((at, judged));
            self.count_staged(*key);
        }
    }

    fn count_staged(&mut self, key: Key) {
        let Some(record) = self.records.get_mut(&key) else { return };
        let Some((_, judged)) = &record.judged else { return };
        let packets = std::mem::take(&mut record.uncounted);
        for staged in sides(judged).filter_map(|side| side.staged.as_ref()) {
            let rule = staged.rule.as_ref().map(ToString::to_string).unwrap_or_default();
            let mut counted = (Arc::from(rule), FlowAction::of(staged.allowed));
            if self.staged.len() >= MOST_STAGED_RULES && !self.staged.contains_key(&counted) {
                counted.0 = "others".into();
            }
            *self.staged.entry(counted).or_default() += packets;
        }
    }

    /// Whether somebody waits for a judgement.
    pub(crate) fn has_unjudged(&self) -> bool {
        !self.unjudged.is_empty()
    }

    /// Whether there is something to tell.
    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Those that have changed since this was last called, as far as they are judged or have waited for that for too long
    /// (`patience` milliseconds).
    pub(crate) fn take_news(&mut self, node: &str, now: i64, patience: i64) -> Vec<Flow> {
        let ready = |key: &Key| {
            self.records
                .get(key)
                .is_none_or(|record| record.judged.is_some() || now - record.last >= patience)
        };
        let keys: Vec<Key> = self.news.iter().filter(|key| ready(key)).copied().collect();
        self.news.retain(|key| keys.binary_search(key).is_err());
        keys.iter().filter_map(|key| Some(flow(node, self.records.get(key)?))).collect()
    }

    /// All, the last one last.
    pub(crate) fn flows(&mut self, node: &str, now: i64) -> Vec<Flow> {
        self.shrink(now);
        self.ages.iter().filter_map(|(_, key)| Some(flow(node, self.records.get(key)?))).collect()
    }

    /// What staged rules would have done, so far.
    pub(crate) fn staged(&self) -> &StagedCounts {
        &self.staged
    }
}

fn sides(judged: &Judged) -> impl Iterator<Item = &Side> {
    judged.from.iter().chain(&judged.to)
}

fn flow(node: &str, record: &Record) -> Flow {
    let packet = &record.sight.packet;
    let with_ports = matches!(packet.protocol, 6 | 17 | 132);
    let end = |address, port| FlowEnd { address, port: with_ports.then_some(port), name: None };
    let mut flow = Flow {
        node: node.to_owned(),
        first_seen: record.first,
        last_seen: record.last,
        action: FlowAction::of(record.sight.denied.is_none()),
        protocol: packet.protocol,
        icmp: matches!(packet.protocol, 1 | 58).then_some(packet.icmp),
        source: end(packet.source, packet.source_port),
        destination: end(packet.destination, packet.destination_port),
        packets: record.packets,
        denied_packets: record.denied,
        policies: Vec::new(),
    };
    if let Some((_, judged)) = &record.judged {
        flow.policies = sides(judged).map(policy).collect();
    }
    // A rule of no endpoint, or one that is gone: what the kernel called it.
    if let Some(prefix) = &record.sight.denied
        && !flow.policies.iter().any(|policy| policy.action == FlowAction::Deny)
    {
        flow.policies.push(FlowPolicy {
            endpoint: String::new(),
            direction: String::new(),
            action: FlowAction::Deny,
            rule: Some(prefix.to_string()),
            staged: None,
        });
    }
    flow
}

fn policy(side: &Side) -> FlowPolicy {
    FlowPolicy {
        endpoint: match side.is_host {
            true => format!("host endpoint {}", side.endpoint),
            false => side.endpoint.to_string(),
        },
        direction: match side.direction {
            Direction::Ingress => "ingress".to_owned(),
            Direction::Egress => "egress".to_owned(),
        },
        action: FlowAction::of(side.allowed),
        rule: side.rule.as_ref().map(ToString::to_string),
        staged: side.staged.as_ref().map(|staged| StagedPolicy {
            action: FlowAction::of(staged.allowed),
            rule: staged.rule.as_ref().map(ToString::to_string),
        }),
    }
}

#[cfg(test)]
mod tests {
    use calc::evaluator::Packet;
    use calc::program::Origin;
    use dataplane::judge::{Hook, Staged};

    use super::*;

    fn sight(last: u8, source_port: u16, denied: Option<&str>) -> Sight {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let packet = Packet { source_port, ..Packet::tcp(address(1), address(last), 80) };
        let denied = denied.map(Into::into);
        Sight { packet, hook: Hook::Forward, input: Some("cali1".into()), output: None, denied }
    }

    fn side(allowed: bool, staged: Option<bool>) -> Judged {
        let rule = Some(Origin::NoProfile(Direction::Ingress));
        let staged = staged.map(|allowed| Staged { allowed, rule: rule.clone() });
        let side = Side {
            endpoint: "ns/pod".into(),
            is_host: false,
            direction: Direction::Ingress,
            allowed,
            rule,
            staged,
        };
        Judged { from: None, to: Some(side) }
    }

    fn judge(table: &mut FlowTable, at: i64, judged: &Judged) -> usize {
        let (keys, sights) = table.take_unjudged(100);
        let all = vec![judged.clone(); keys.len()];
        table.on_judged(at, &keys, &sights, all);
        keys.len()
    }

    #[test]
    fn packets_from_other_ports_are_one_flow_that_is_judged_once() {
        let mut table = FlowTable::default();
        for port in 1..=5 {
            table.on_packet(i64::from(port), sight(2, port, None));
        }
        assert_eq!(judge(&mut table, 5, &side(true, None)), 1);
        table.on_packet(6, sight(2, 6, None));
        assert!(!table.has_unjudged());
        let flows = table.take_news("n", 6, 1000);
        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].packets, flows[0].denied_packets, flows[0].source.port), (6, 0, Some(6)));
        assert_eq!((flows[0].first_seen, flows[0].last_seen), (1, 6));
        assert_eq!(flows[0].policies[0].rule.as_deref(), Some("no profile matched ingress"));
        assert!(!table.has_news());
    }

    #[test]
    fn another_verdict_is_news_and_judged_anew() {
        let mut table = FlowTable::default();
        table.on_packet(0, sight(2, 1, None));
        judge(&mut table, 0, &side(true, None));
        table.take_news("n", 0, 1000);
        table.on_packet(1, sight(2, 1, Some("the rule")));
        assert!(table.take_news("n", 1, 1000).is_empty(), "not before it is known which rule it was");
        assert_eq!(judge(&mut table, 1, &side(false, None)), 1);
        let flows = table.take_news("n", 1, 1000);
        assert_eq!((flows[0].action, flows[0].packets, flows[0].denied_packets), (FlowAction::Deny, 2, 1));
    }

    #[test]
    fn a_judgement_of_a_packet_that_fared_otherwise_is_not_taken() {
        let mut table = FlowTable::default();
        table.on_packet(0, sight(2, 1, None));
        let (keys, sights) = table.take_unjudged(10);
        table.on_packet(1, sight(2, 1, Some("the rule")));
        table.on_judged(1, &keys, &sights, vec![side(true, None)]);
        // Nobody answers: the kernel's own word is told.
        let flows = table.take_news("n", 2000, 1000);
        assert_eq!(flows[0].action, FlowAction::Deny);
        assert_eq!(flows[0].policies.len(), 1);
        assert_eq!(flows[0].policies[0].rule.as_deref(), Some("the rule"));
    }

    #[test]
    fn a_flow_that_goes_on_is_judged_again_now_and_then() {
        let mut table = FlowTable::default();
        table.on_packet(0, sight(2, 1, None));
        judge(&mut table, 0, &side(true, None));
        table.on_packet(STALE, sight(2, 1, None));
        assert!(!table.has_unjudged());
        table.on_packet(STALE + 1, sight(2, 1, None));
        assert!(table.has_unjudged());
    }

    #[test]
    fn what_staged_rules_would_have_done_is_counted_packet_by_packet() {
        let mut table = FlowTable::default();
        for port in 0..3 {
            table.on_packet(0, sight(2, port, None));
        }
        assert!(table.staged().is_empty());
        judge(&mut table, 0, &side(true, Some(false)));
        table.on_packet(1, sight(2, 9, None));
        let counts: Vec<_> = table.staged().iter().collect();
        assert_eq!(counts, [(&("no profile matched ingress".into(), FlowAction::Deny), &4)]);
    }

    #[test]
    fn the_one_that_was_quiet_for_longest_makes_room() {
        let mut table = FlowTable::default();
        for last in 0..MOST + 10 {
            let mut sight = sight(2, 1, None);
            sight.packet.destination_port = u16::try_from(last).unwrap();
            table.on_packet(i64::try_from(last).unwrap(), sight);
        }
        let flows = table.flows("n", 5000);
        assert_eq!((flows.len(), flows[0].destination.port), (MOST, Some(10)));
        assert_eq!((table.ages.len(), table.news.len(), table.unjudged.len()), (MOST, MOST, MOST));
        assert!(table.flows("n", 5000 + RETENTION).is_empty());
        assert!(!table.has_news() && !table.has_unjudged());
    }
}
