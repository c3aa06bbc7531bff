//! Rules of policies and profiles (datapath.md 4.11).

use ipnet::IpNet;

use super::{Chain, Match, Origin, Rule, Side, Verdict};
use crate::contract::{self, Action, Direction, EntityMatch, IpVersion, Policy, Profile};

/// The protocols with ports that rules can name: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// The chain of one direction of a policy. Rules of the other family are not in it.
pub fn policy_chain(policy: &Policy, direction: Direction, version: IpVersion) -> Chain {
    let rules = match direction {
        Direction::Ingress => &policy.inbound,
        Direction::Egress => &policy.outbound,
    };
    Chain { rechecks: policy.rechecks, ..chain(rules, version, policy.untracked) }
}

/// The chain of one direction of a profile. A profile's Pass has no tier to leave; it ends the profile.
pub fn profile_chain(profile: &Profile, direction: Direction, version: IpVersion) -> Chain {
    let rules = match direction {
        Direction::Ingress => &profile.inbound,
        Direction::Egress => &profile.outbound,
    };
    chain(rules, version, false)
}

fn chain(rules: &[contract::Rule], version: IpVersion, untracked: bool) -> Chain {
    let rules = rules.iter().flat_map(|rule| render(rule, version, untracked)).collect();
    Chain { rules, ..Chain::default() }
}

fn render(rule: &contract::Rule, version: IpVersion, untracked: bool) -> Vec<Rule> {
    let Some(common) = common_matches(rule, version) else { return Vec::new() };
    let verdict = match rule.action {
        Action::Allow if untracked => Verdict::AcceptUntracked,
        Action::Allow => Verdict::Accept,
        Action::Deny => Verdict::Drop,
        Action::Pass => Verdict::Pass,
        Action::Log => Verdict::Log,
    };
    let mut rules = Vec::new();
    for source in port_alternatives(Side::Source, &rule.source) {
        for destination in port_alternatives(Side::Destination, &rule.destination) {
            let mut matches = common.clone();
            matches.extend(source.iter().cloned().chain(destination));
            matches.sort_by_key(cost);
            let rendered = Rule::new(matches, verdict.clone(), Origin::Rule(rule.id.clone()));
            rules.push(Rule { note: note(rule), ..rendered });
        }
    }
    rules
}

/// A rule's annotations as `name=value`, with blanks between.
pub fn note(rule: &contract::Rule) -> String {
    let annotations = rule.annotations.iter().map(|(name, value)| format!("{name}={value}"));
    annotations.collect::<Vec<_>>().join(" ")
}

/// Cheap conditions come first; and that on the protocol before those on its ports.
fn cost(condition: &Match) -> u8 {
    match condition {
        Match::Protocol { .. } => 0,
        Match::Icmp { .. } | Match::Ports { .. } | Match::Conntrack(_) | Match::Reply | Match::Passed(_) => 1,
        Match::OverRate(_) | Match::OverConnections(_) => 4,
        Match::Net { .. } => 2,
        Match::IpSet { .. } | Match::PortSet { .. } => 3,
    }
}

/// All conditions but the ports that are a disjunction; `None` when no packet of the family can match.
fn common_matches(rule: &contract::Rule, version: IpVersion) -> Option<Vec<Match>> {
    if rule.ip_version.is_some_and(|wanted| wanted != version) {
        return None;
    }
    let mut matches = Vec::new();
    protocol(rule, version, &mut matches)?;
    for (side, entity) in [(Side::Source, &rule.source), (Side::Destination, &rule.destination)] {
        nets(side, &entity.nets, version, &mut matches)?;
        ip_sets(side, entity, &mut matches);
        not_nets(side, &entity.not_nets, version, &mut matches)?;
        negated_ports(side, entity, &mut matches);
    }
    Some(matches)
}

fn protocol(rule: &contract::Rule, version: IpVersion, matches: &mut Vec<Match>) -> Option<()> {
    let icmp_protocol = match version {
        IpVersion::V4 => 1,
        IpVersion::V6 => 58,
    };
    if let Some(protocol) = rule.protocol {
        if (rule.icmp.is_some() || rule.not_icmp.is_some()) && protocol != icmp_protocol {
            return None;
        }
        matches.push(Match::Protocol { protocols: vec![protocol], negated: false });
    } else if needs_ports(rule) {
        matches.push(Match::Protocol { protocols: WITH_PORTS.to_vec(), negated: false });
    }
    if let Some(protocol) = rule.not_protocol {
        matches.push(Match::Protocol { protocols: vec![protocol], negated: true });
    }
    if let Some(icmp) = rule.icmp {
        matches.push(Match::Icmp { icmp, negated: false });
    }
    if let Some(icmp) = rule.not_icmp {
        matches.push(Match::Icmp { icmp, negated: true });
    }
    Some(())
}

/// Whether a numeric port condition needs the protocols with ports to be picked out first.
fn needs_ports(rule: &contract::Rule) -> bool {
    [&rule.source, &rule.destination]
        .iter()
        .any(|entity| !entity.ports.is_empty() || !entity.not_ports.is_empty())
}

fn of_family(nets: &[IpNet], version: IpVersion) -> Vec<IpNet> {
    nets.iter().copied().filter(|net| IpVersion::of(net.addr()) == version).map(|net| net.trunc()).collect()
}

fn nets(side: Side, all: &[IpNet], version: IpVersion, matches: &mut Vec<Match>) -> Option<()> {
    if all.is_empty() {
        return Some(());
    }
    let nets = of_family(all, version);
    if nets.is_empty() {
        return None;
    }
    if nets.iter().all(|net| net.prefix_len() > 0) {
        matches.push(Match::Net { side, nets, negated: false });
    }
    Some(())
}

/// A negated list whose networks are all of the other family marks the rule as one of that family.
fn not_nets(side: Side, all: &[IpNet], version: IpVersion, matches: &mut Vec<Match>) -> Option<()> {
    if all.is_empty() {
        return Some(());
    }
    let nets = of_family(all, version);
    if nets.is_empty() || nets.iter().any(|net| net.prefix_len() == 0) {
        return None;
    }
    matches.push(Match::Net { side, nets, negated: true });
    Some(())
}

fn ip_sets(side: Side, entity: &EntityMatch, matches: &mut Vec<Match>) {
    for set in &entity.ip_sets {
        matches.push(Match::IpSet { side, set: set.clone(), negated: false });
    }
    for set in &entity.ip_port_sets {
        matches.push(Match::PortSet { side, set: set.clone(), negated: false });
    }
    for set in &entity.not_ip_sets {
        matches.push(Match::IpSet { side, set: set.clone(), negated: true });
    }
}

fn negated_ports(side: Side, entity: &EntityMatch, matches: &mut Vec<Match>) {
    if !entity.not_ports.is_empty() {
        matches.push(Match::Ports { side, ranges: entity.not_ports.clone(), negated: true });
    }
    for set in &entity.not_named_port_sets {
        matches.push(Match::PortSet { side, set: set.clone(), negated: true });
    }
}

/// Numeric ports or any of the named-port sets: one alternative each; one without condition if there is none.
fn port_alternatives(side: Side, entity: &EntityMatch) -> Vec<Option<Match>> {
    let ranges = (!entity.ports.is_empty()).then(|| Match::Ports {
        side,
        ranges: entity.ports.clone(),
        negated: false,
    });
    let named =
        entity.named_port_sets.iter().map(|set| Match::PortSet { side, set: set.clone(), negated: false });
    let mut alternatives: Vec<Option<Match>> = ranges.into_iter().chain(named).map(Some).collect();
    if alternatives.is_empty() {
        alternatives.push(None);
    }
    alternatives
}
