//! Rules of the program as `iptables-restore` reads them.
//!
//! iptables knows one protocol, one source and one destination a rule, and 15 ports a match. A condition that does not fit
//! becomes a set where it is about addresses, and several rules where it is about protocols or ports: these exclude each
//! other, so a packet matches at most one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use calc::contract::{IpVersion, PortRange};
use calc::program::{self, Conntrack, Match, Side, Verdict};
use ipnet::IpNet;
use kernel::nflog::Headers;
use kernel::nft::LimitUnit;
use kernel::ownership;

use super::names;
use crate::backend::Context;
use crate::config::{DenyAction, MarkBits};
use crate::ip_sets::{Member, Shape, Widest};
use crate::nft::{comment, hash, log_prefix};

/// A rule without its chain and the comment with its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Conditions and target.
    pub(super) text: String,
    /// It only goes on with what the rule before it has found.
    pub(super) follows: bool,
}

/// What a chain becomes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Translated {
    pub(super) rules: Vec<Rule>,
    /// Chains that it jumps to.
    pub(super) targets: BTreeSet<Arc<str>>,
    /// Sets that only it looks into, by name: lists of networks.
    pub(super) sets: BTreeMap<String, BTreeSet<Member>>,
}

/// A rule that iptables has no words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Inexpressible {
    #[error("{origin}: iptables cannot exclude more than one protocol in a rule")]
    Protocols { origin: String },
    #[error("{origin}: iptables knows no ports of protocol {protocol}")]
    Ports { origin: String, protocol: String },
}

/// Protocols whose ports `multiport` knows.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Ports of one `multiport`; a range counts twice.
const PORTS: usize = 15;
/// `hashlimit` counts no more packets than this in a second.
const MOST: u64 = 1_000_000;
/// Longest prefix that the LOG target takes.
const LONGEST_LOG_PREFIX: usize = 29;

impl Rule {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), follows: false }
    }

    pub(super) fn following(text: impl Into<String>) -> Self {
        Self { text: text.into(), follows: true }
    }

    /// With a comment that says why it is there.
    pub(super) fn because(comment: &str, text: &str) -> Self {
        Self::new(format!("{}{text}", comment_text(comment)))
    }
}

fn comment_text(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!("-m comment --comment {} ", quoted(comment)) }
}

/// As `iptables-restore` reads it back.
fn quoted(text: &str) -> String {
    let clean = |c: char| if c == '"' || c == '\\' || c.is_control() { '_' } else { c };
    format!("\"{}\"", text.chars().map(clean).collect::<String>())
}

/// Sets bits of the mark.
pub(super) fn set_mark(bits: u32) -> String {
    format!("-j MARK --set-xmark {bits:#x}/{bits:#x}")
}

/// Clears bits of the mark.
pub(super) fn clear_mark(bits: u32) -> String {
    format!("-j MARK --set-xmark 0x0/{bits:#x}")
}

/// All of the bits are set.
pub(super) fn marked(bits: u32) -> String {
    format!("-m mark --mark {bits:#x}/{bits:#x}")
}

/// The rules of a chain, in order.
pub(super) fn translate(
    name: &str,
    chain: &program::Chain,
    context: &Context<'_>,
) -> Result<Translated, Inexpressible> {
    let marks = context.parameters.mark_bits();
    let mut translator = Translator { name, context, marks, out: Translated::default() };
    if chain.rules.iter().any(|rule| rule.verdict == Verdict::Pass) {
        // A profile's Pass may find the mark of an earlier tier.
        translator.out.rules.push(Rule::new(clear_mark(marks.pass)));
    }
    chain.rules.iter().try_for_each(|rule| translator.rule(rule))?;
    Ok(translator.out)
}

struct Translator<'a> {
    name: &'a str,
    context: &'a Context<'a>,
    marks: MarkBits,
    out: Translated,
}

/// Which protocols a rule is for.
enum Protocols {
    Any,
    Not(u8),
    OneOf(Vec<u8>),
}

impl Protocols {
    /// `None`: more than iptables can exclude.
    fn and(self, protocols: &[u8], negated: bool) -> Option<Self> {
        let listed = |protocol: &u8| protocols.contains(protocol) != negated;
        Some(match (self, negated) {
            (Self::Any, false) => Self::OneOf(protocols.to_vec()),
            (Self::OneOf(mut list), _) => {
                list.retain(listed);
                Self::OneOf(list)
            }
            (Self::Not(excluded), false) => {
                Self::OneOf(protocols.iter().copied().filter(|protocol| *protocol != excluded).collect())
            }
            (Self::Any, true) => match *protocols {
                [one] => Self::Not(one),
                _ => return None,
            },
            (Self::Not(excluded), true) => match *protocols {
                [one] if one == excluded => Self::Not(one),
                _ => return None,
            },
        })
    }

    fn texts(&self) -> Vec<String> {
        match self {
            Self::Any => vec![String::new()],
            Self::Not(protocol) => vec![format!("! -p {protocol} ")],
            Self::OneOf(list) => list.iter().map(|protocol| format!("-p {protocol} ")).collect(),
        }
    }
}

impl Translator<'_> {
    fn rule(&mut self, rule: &program::Rule) -> Result<(), Inexpressible> {
        let conditions = self.conditions(rule)?;
        let why = match rule.origin {
            program::Origin::Walk => String::new(),
            _ => comment_text(&comment(&rule.origin, &rule.note)),
        };
        let accept = self.marks.accept;
        let out = &mut self.out.rules;
        let mut push = |target: &str| {
            out.extend(conditions.iter().map(|when| Rule::new(format!("{why}{when}{target}"))));
        };
        match &rule.verdict {
            Verdict::Accept | Verdict::AcceptUntracked => {
                let early = self.marks.early.filter(|_| self.context.place.is_final);
                push(&set_mark(accept | early.unwrap_or(0)));
                if rule.verdict == Verdict::AcceptUntracked {
                    self.follow(format!("{} -j CT --notrack", marked(accept)));
                }
                self.follow(format!("{} -j RETURN", marked(accept)));
            }
            Verdict::Drop => {
                if self.context.parameters.flow_log.denied {
                    let told = denied(&log_prefix(&rule.origin));
                    out.extend(conditions.iter().map(|when| Rule::new(format!("{when}{told}"))));
                }
                let target = deny(self.context.deny_action());
                out.extend(conditions.iter().map(|when| Rule::new(format!("{why}{when}{target}"))));
            }
            Verdict::Discard => push(deny(DenyAction::Drop)),
            Verdict::Reset => push("-j REJECT --reject-with tcp-reset"),
            Verdict::Log => push(&log(self.context, &rule.origin)),
            Verdict::Pass => {
                push(&set_mark(self.marks.pass));
                self.follow(format!("{} -j RETURN", marked(self.marks.pass)));
            }
            Verdict::ClearPass => push(&clear_mark(self.marks.pass)),
            Verdict::Jump(id) => {
                let chain = names::chain_name(id);
                push(&format!("-j {chain}"));
                self.out.targets.insert(chain);
                self.follow(format!("{} -j RETURN", marked(accept)));
            }
        }
        Ok(())
    }

    fn follow(&mut self, text: String) {
        self.out.rules.push(Rule::following(text));
    }

    /// The texts of conditions that exclude each other; a packet that matches one of them matches the rule.
    fn conditions(&mut self, rule: &program::Rule) -> Result<Vec<String>, Inexpressible> {
        let origin = || rule.origin.to_string();
        let mut protocols = Protocols::Any;
        let mut common = String::new();
        let mut ports: Vec<(Side, Vec<PortRange>)> = Vec::new();
        let mut has_ports = false;
        for condition in &rule.matches {
            match condition {
                Match::Protocol { protocols: list, negated } => {
                    protocols = protocols
                        .and(list, *negated)
                        .ok_or_else(|| Inexpressible::Protocols { origin: origin() })?;
                }
                Match::Icmp { icmp, negated } => {
                    let (number, module, option) = match self.context.version {
                        IpVersion::V4 => (1, "icmp", "--icmp-type"),
                        IpVersion::V6 => (58, "icmp6", "--icmpv6-type"),
                    };
                    protocols = protocols
                        .and(&[number], false)
                        .ok_or_else(|| Inexpressible::Protocols { origin: origin() })?;
                    let code = icmp.code.map(|code| format!("/{code}")).unwrap_or_default();
                    let _ = write!(common, "-m {module} {}{option} {}{code} ", not(*negated), icmp.icmp_type);
                }
                Match::Ports { side, ranges, negated } => {
                    has_ports = true;
                    if *negated {
                        for group in port_groups(ranges) {
                            let _ = write!(common, "-m multiport ! {} {group} ", port_option(*side));
                        }
                    } else {
                        ports.push((*side, ranges.clone()));
                    }
                }
                other => self.simple(other, &mut common),
            }
        }
        if has_ports {
            protocols = self
                .with_ports(protocols)
                .map_err(|protocol| Inexpressible::Ports { origin: origin(), protocol })?;
        }
        let mut texts: Vec<String> =
            protocols.texts().into_iter().map(|protocol| protocol + &common).collect();
        for (side, ranges) in ports {
            let groups = port_groups(&ranges);
            let with = |text: &String| {
                let option = port_option(side);
                groups
                    .iter()
                    .map(move |group| format!("{text}-m multiport {option} {group} "))
                    .collect::<Vec<_>>()
            };
            texts = texts.iter().flat_map(with).collect();
        }
        Ok(texts)
    }

    /// The error is the protocol that has no ports, as far as iptables knows.
    fn with_ports(&self, protocols: Protocols) -> Result<Protocols, String> {
        match protocols {
            Protocols::OneOf(list) => match list.iter().find(|protocol| !WITH_PORTS.contains(protocol)) {
                Some(other) => Err(other.to_string()),
                None => Ok(Protocols::OneOf(list)),
            },
            Protocols::Any => Err("any".to_owned()),
            Protocols::Not(protocol) => Err(format!("not {protocol}")),
        }
    }

    /// A condition that is one text.
    fn simple(&mut self, condition: &Match, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = match condition {
            Match::Conntrack(states) => {
                let states: Vec<&str> = states.iter().map(|state| state_name(*state)).collect();
                write!(text, "-m conntrack --ctstate {} ", states.join(","))
            }
            Match::Reply => write!(text, "-m conntrack --ctdir REPLY "),
            Match::OverRate(rate) => {
                // Rules that share a name share what is counted.
                let name = hash(&format!("{} {text}", self.name), 11);
                let (rate, burst) = (u64::from(rate.rate).min(MOST), u64::from(rate.burst).clamp(1, MOST));
                write!(
                    text,
                    "-m hashlimit --hashlimit-above {rate}/sec --hashlimit-burst {burst} --hashlimit-name cali{name} "
                )
            }
            Match::OverConnections(most) => {
                write!(text, "-m connlimit --connlimit-above {most} --connlimit-mask 0 ")
            }
            Match::Passed(set) => {
                let pass = self.marks.pass;
                write!(text, "-m mark --mark {:#x}/{pass:#x} ", if *set { pass } else { 0 })
            }
            Match::Net { side, nets, negated } => {
                let condition = self.nets(*side, nets, *negated, text);
                write!(text, "{condition} ")
            }
            Match::IpSet { side, set, negated } => {
                let name = self.set_name(set, Shape::Addresses);
                write!(text, "-m set {}--match-set {name} {} ", not(*negated), side_name(*side))
            }
            Match::PortSet { side, set, negated } => {
                let (name, side) = (self.set_name(set, Shape::Ports), side_name(*side));
                write!(text, "-m set {}--match-set {name} {side},{side} ", not(*negated))
            }
            // They need the whole rule.
            Match::Protocol { .. } | Match::Icmp { .. } | Match::Ports { .. } => Ok(()),
        };
    }

    /// A single network stands in the rule, if there is not one yet; several are a set.
    fn nets(&mut self, side: Side, nets: &[IpNet], negated: bool, before: &str) -> String {
        let mut widest = Widest::default();
        nets.iter().for_each(|net| {
            widest.insert(*net);
        });
        let nets: Vec<IpNet> = widest.widest().collect();
        let option = match side {
            Side::Source => "-s",
            Side::Destination => "-d",
        };
        let used = before.split(' ').any(|word| word == option);
        if let ([net], false) = (&nets[..], used) {
            return format!("{}{option} {net}", not(negated));
        }
        let members: BTreeSet<Member> = nets.into_iter().map(|net| Member { net, port: None }).collect();
        let text: Vec<String> = members.iter().map(|member| member.net.to_string()).collect();
        let name = names::name(&format!("n:{}", hash(&text.join(" "), 20)), self.context.version);
        let condition = format!("-m set {}--match-set {name} {}", not(negated), side_name(side));
        self.out.sets.insert(name, members);
        condition
    }

    /// The set as it is now. One that is not known has no members, hence the shape without networks.
    fn set_name(&self, id: &calc::contract::IpSetId, empty: Shape) -> String {
        let shape = self.context.shapes.get(id).copied().unwrap_or(empty);
        names::set_name(id, shape, self.context.version)
    }
}

/// Tells whoever listens of a packet that is denied.
pub(super) fn denied(prefix: &str) -> String {
    format!("{} --nflog-prefix {}", nflog(ownership::NFLOG_DENIED), quoted(prefix))
}

/// Tells whoever listens of a packet that is allowed.
pub(super) fn allowed() -> String {
    format!("-m conntrack --ctstate NEW {}", nflog(ownership::NFLOG_ALLOWED))
}

fn nflog(group: u16) -> String {
    format!("-j NFLOG --nflog-group {group} --nflog-size {}", Headers::SNAP_BYTES)
}

fn log(context: &Context<'_>, origin: &program::Origin) -> String {
    let limit = context.parameters.log_limit().map(|limit| {
        let unit = match limit.unit {
            LimitUnit::Second => "second",
            LimitUnit::Minute => "minute",
            LimitUnit::Hour => "hour",
            LimitUnit::Day => "day",
            LimitUnit::Week => "week",
        };
        format!("-m limit --limit {}/{unit} --limit-burst {} ", limit.rate, limit.burst)
    });
    let prefix = quoted(&context.log_prefix(origin, LONGEST_LOG_PREFIX));
    format!("{}-j LOG --log-prefix {prefix}", limit.unwrap_or_default())
}

/// The target for what is denied.
pub(super) fn deny(action: DenyAction) -> &'static str {
    match action {
        DenyAction::Drop => "-j DROP",
        DenyAction::Reject => "-j REJECT",
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "! " } else { "" }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "src",
        Side::Destination => "dst",
    }
}

fn port_option(side: Side) -> &'static str {
    match side {
        Side::Source => "--sports",
        Side::Destination => "--dports",
    }
}

fn state_name(state: Conntrack) -> &'static str {
    match state {
        Conntrack::New => "NEW",
        Conntrack::Established => "ESTABLISHED",
        Conntrack::Related => "RELATED",
        Conntrack::Invalid => "INVALID",
    }
}

/// The ports in lists that one match takes each.
fn port_groups(ranges: &[PortRange]) -> Vec<String> {
    let mut groups: Vec<(usize, Vec<String>)> = Vec::new();
    for range in crate::nft::joined(ranges) {
        let (size, text) = match range.min == range.max {
            true => (1, range.min.to_string()),
            false => (2, format!("{}:{}", range.min, range.max)),
        };
        match groups.last_mut() {
            Some((used, group)) if *used + size <= PORTS => {
                *used += size;
                group.push(text);
            }
            _ => groups.push((size, vec![text])),
        }
    }
    groups.into_iter().map(|(_, group)| group.join(",")).collect()
}
