//! Chains of the program to nftables rules.

use std::sync::Arc;

use calc::contract::{IpSetId, IpVersion, PortRange};
use calc::program::{self, Conntrack, Side, Verdict as Verdict_};
use ipnet::IpNet;
use kernel::nflog::Headers;
use kernel::nft::{
    Field, Limit, LimitUnit, Log, LogTarget, Match, Part, Reject, Rule, SetMark, Statement, Verdict,
    ct_direction, ct_state,
};
use kernel::ownership;

use super::names::{chain_name, comment, log_prefix};
use crate::backend::Context;
use crate::config::{DenyAction, MarkBits};
use crate::ip_sets::{Shape, Widest, kernel_name};

/// Longest prefix of a line that the kernel takes (`NF_LOG_PREFIXLEN`).
const LONGEST_LOG_PREFIX: usize = 127;

/// The rules of a chain, in order.
pub fn translate(chain: &program::Chain, context: &Context<'_>) -> Vec<Rule> {
    let translator = Translator { context, marks: context.parameters.mark_bits() };
    chain.rules.iter().map(|rule| translator.rule(rule)).collect()
}

struct Translator<'a> {
    context: &'a Context<'a>,
    marks: MarkBits,
}

impl Translator<'_> {
    pub(super) fn rule(&self, rule: &program::Rule) -> Rule {
        let conditions = rule.matches.iter().map(|condition| self.condition(condition));
        let matched = conditions.fold(Rule::new(), Rule::then);
        let rendered = self.verdict(matched, rule);
        match rule.origin {
            program::Origin::Walk => rendered,
            _ => rendered.comment(comment(&rule.origin, &rule.note)),
        }
    }

    fn verdict(&self, matched: Rule, rule: &program::Rule) -> Rule {
        match &rule.verdict {
            Verdict_::Accept => self.mark_final(matched.counter()).verdict(Verdict::Accept),
            Verdict_::AcceptUntracked => {
                self.mark_final(matched.counter().then(Statement::Notrack)).verdict(Verdict::Accept)
            }
            Verdict_::Drop => {
                let mut counted = matched.counter();
                if self.context.parameters.flow_log.denied {
                    counted = counted.log(denied(log_prefix(&rule.origin)));
                }
                match self.context.deny_action() {
                    DenyAction::Drop => counted.verdict(Verdict::Drop),
                    DenyAction::Reject => counted.reject(Reject::PortUnreachable),
                }
            }
            Verdict_::Discard => matched.counter().verdict(Verdict::Drop),
            Verdict_::Reset => matched.counter().reject(Reject::TcpReset),
            // What is counted is what is written.
            Verdict_::Log => {
                let limit = self.context.parameters.log_limit();
                let limited = limit.map(Statement::Limit).into_iter().fold(matched, Rule::then);
                let prefix = self.context.log_prefix(&rule.origin, LONGEST_LOG_PREFIX);
                limited.counter().log(Log { prefix, ..Log::default() })
            }
            Verdict_::Pass => {
                matched.counter().set_mark(SetMark::or(self.marks.pass)).verdict(Verdict::Return)
            }
            Verdict_::ClearPass => matched.set_mark(SetMark::clear(self.marks.pass)),
            Verdict_::Jump(id) => matched.verdict(Verdict::jump(chain_name(id))),
        }
    }

    fn mark_final(&self, rule: Rule) -> Rule {
        match self.context.place.is_final {
            true => rule.set_mark(SetMark::or(self.marks.accept)),
            false => rule,
        }
    }

    fn condition(&self, condition: &program::Match) -> Statement {
        let (one, negated) = match condition {
            program::Match::Conntrack(states) => {
                let bits = states.iter().fold(0, |bits, state| bits | conntrack_bit(*state));
                (Match::ct_state(bits), false)
            }
            program::Match::Reply => (Match::is(Field::CtDirection, ct_direction::REPLY), false),
            program::Match::OverRate(rate) => {
                let (unit, burst) = (LimitUnit::Second, rate.burst);
                return Statement::Limit(Limit { rate: rate.rate.into(), unit, burst, over: true });
            }
            program::Match::OverConnections(most) => {
                return Statement::ConnectionLimit { count: *most, over: true };
            }
            program::Match::Passed(set) => {
                (Match::mark(if *set { self.marks.pass } else { 0 }, self.marks.pass), false)
            }
            program::Match::Protocol { protocols, negated } => (protocol(protocols), *negated),
            program::Match::Icmp { icmp, negated } => (self.icmp(icmp), *negated),
            program::Match::Net { side, nets, negated } => {
                (in_networks(self.context.version, *side, nets), *negated)
            }
            program::Match::Ports { side, ranges, negated } => (ports(*side, ranges), *negated),
            program::Match::IpSet { side, set, negated } => {
                (Match::in_set(self.address(*side), self.set_name(set, Shape::Addresses)), *negated)
            }
            program::Match::PortSet { side, set, negated } => {
                let fields = [self.address(*side), Field::L4proto, port(*side)];
                (Match::fields_in_set(fields, self.set_name(set, Shape::Ports)), *negated)
            }
        };
        Statement::Match(if negated { one.negate() } else { one })
    }

    /// The set as the kernel knows it now. One that is not known has no members, hence the shape without networks.
    fn set_name(&self, id: &IpSetId, empty: Shape) -> Arc<str> {
        let shape = self.context.shapes.get(id).copied().unwrap_or(empty);
        kernel_name(id, shape, self.context.version).into()
    }

    fn icmp(&self, icmp: &calc::contract::IcmpMatch) -> Match {
        let (kind, code_field) = match self.context.version {
            IpVersion::V4 => (Field::IcmpType, Field::IcmpCode),
            IpVersion::V6 => (Field::Icmpv6Type, Field::Icmpv6Code),
        };
        match icmp.code {
            None => Match::is(kind, icmp.icmp_type),
            Some(code) => {
                Match::fields_one_of([kind, code_field], [[Part::from(icmp.icmp_type), Part::from(code)]])
            }
        }
    }

    pub(super) fn address(&self, side: Side) -> Field {
        address(self.context.version, side)
    }
}

/// The address at an end of a packet of the family.
pub(super) fn address(version: IpVersion, side: Side) -> Field {
    match (version, side) {
        (IpVersion::V4, Side::Source) => Field::IpSaddr,
        (IpVersion::V4, Side::Destination) => Field::IpDaddr,
        (IpVersion::V6, Side::Source) => Field::Ip6Saddr,
        (IpVersion::V6, Side::Destination) => Field::Ip6Daddr,
    }
}

/// The address lies in one of the networks, which may overlap.
pub(super) fn in_networks(version: IpVersion, side: Side, nets: &[IpNet]) -> Match {
    let field = address(version, side);
    let mut widest = Widest::default();
    for net in nets {
        widest.insert(*net);
    }
    let nets: Vec<IpNet> = widest.widest().collect();
    match nets[..] {
        [net] => Match::net(field, net),
        _ => Match::one_of(field, nets),
    }
}

/// Tells whoever listens of a packet that is denied.
pub(super) fn denied(prefix: String) -> Log {
    Log { prefix, target: group(ownership::NFLOG_DENIED) }
}

/// Tells whoever listens of a packet that is allowed.
pub(super) fn allowed() -> Log {
    Log { prefix: String::new(), target: group(ownership::NFLOG_ALLOWED) }
}

fn group(group: u16) -> LogTarget {
    LogTarget::Group { group, snaplen: Headers::SNAP_BYTES }
}

fn conntrack_bit(state: Conntrack) -> u32 {
    match state {
        Conntrack::New => ct_state::NEW,
        Conntrack::Established => ct_state::ESTABLISHED,
        Conntrack::Related => ct_state::RELATED,
        Conntrack::Invalid => ct_state::INVALID,
    }
}

fn protocol(protocols: &[u8]) -> Match {
    match *protocols {
        [one] => Match::is(Field::L4proto, one),
        _ => Match::one_of(Field::L4proto, protocols.iter().copied()),
    }
}

fn port(side: Side) -> Field {
    match side {
        Side::Source => Field::ThSport,
        Side::Destination => Field::ThDport,
    }
}

fn ports(side: Side, ranges: &[PortRange]) -> Match {
    match joined(ranges)[..] {
        [range] => Match::range(port(side), range.min, range.max),
        ref several => {
            Match::one_of(port(side), several.iter().map(|range| Part::range(range.min, range.max)))
        }
    }
}

/// The same ports as ranges that neither overlap nor touch, ascending.
pub(crate) fn joined(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted = ranges.to_vec();
    sorted.sort();
    let mut joined: Vec<PortRange> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if u32::from(range.min) <= u32::from(last.max) + 1 => {
                last.max = last.max.max(range.max)
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_that_overlap_or_touch_are_joined() {
        let range = |min, max| PortRange { min, max };
        let given = [range(90, 100), range(1, 5), range(6, 6), range(95, 120), range(65535, 65535)];
        assert_eq!(joined(&given), [range(1, 6), range(90, 120), range(65535, 65535)]);
    }
}
