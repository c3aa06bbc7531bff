//! Rules as `nft list` writes them.
//!
//! nft leaves out what a later part of the rule says anyway: `meta l4proto tcp` before `tcp dport 80`, for one. So a
//! rule is written as a whole, with an eye on the protocol that is known at each place.

use std::fmt;
use std::net::IpAddr;

use super::field::{Dependency, Field};
use super::names;
use super::rule::Rule;
use super::set::{self, Element, SetKind};
use super::statement::{
    Limit, Log, LogTarget, Masquerade, Match, Nat, NatFlags, Pattern, Reject, SetMark, Statement, Verdict,
};
use super::value::{DataType, Member, Part, Value};

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut protocol = None;
        for (index, statement) in self.statements.iter().enumerate() {
            protocol = known_protocol(statement).or(protocol);
            if is_implied(statement, &self.statements[index + 1..]) {
                continue;
            }
            write!(f, "{separator}{}", Text { statement, protocol })?;
            separator = " ";
        }
        match &self.comment {
            Some(comment) => write!(f, "{separator}comment \"{comment}\""),
            None => Ok(()),
        }
    }
}

/// The transport protocol that holds once `statement` held.
pub(crate) fn known_protocol(statement: &Statement) -> Option<u8> {
    let Statement::Match(condition) = statement else { return None };
    match (&condition.fields[..], &condition.pattern) {
        ([Field::L4proto], Pattern::Is(Value::Number(number))) if !condition.negated => {
            u8::try_from(*number).ok()
        }
        (fields, _) => fields.iter().find_map(|field| match field.dependency() {
            Some(Dependency::Transport(protocol)) => Some(protocol),
            _ => None,
        }),
    }
}

/// Whether nft leaves the statement out because a later one, with only conditions between, says the same.
fn is_implied(statement: &Statement, later: &[Statement]) -> bool {
    let Statement::Match(Match { fields, .. }) = statement else { return false };
    let Some(protocol) = known_protocol(statement).filter(|_| fields[..] == [Field::L4proto]) else {
        return false;
    };
    let conditions = later.iter().take_while(|statement| matches!(statement, Statement::Match(_))).count();
    later.iter().take(conditions + 1).any(|statement| match statement {
        Statement::Match(Match { fields, .. }) | Statement::VerdictMap { fields, .. } => {
            fields.iter().any(|field| implies(*field, protocol))
        }
        Statement::Reject(Reject::TcpReset) => protocol == 6,
        _ => false,
    })
}

fn implies(field: Field, protocol: u8) -> bool {
    let specific = field.of_protocol(protocol);
    specific.dependency() == Some(Dependency::Transport(protocol))
}

/// One statement, with the transport protocol that is known when it runs.
struct Text<'a> {
    statement: &'a Statement,
    protocol: Option<u8>,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.statement {
            Statement::Match(condition) => write_match(f, condition, self.protocol),
            Statement::Counter => f.write_str("counter"),
            Statement::Log(log) => log.fmt(f),
            Statement::Limit(limit) => limit.fmt(f),
            Statement::ConnectionLimit { count, over } => {
                write!(f, "ct count {}{count}", if *over { "over " } else { "" })
            }
            Statement::Reject(reject) => reject.fmt(f),
            Statement::SetMark(change) => change.fmt(f),
            Statement::SetDscp { family, value } => {
                write!(f, "{} dscp set ", family.name())?;
                names::write_dscp(f, *value)
            }
            Statement::Masquerade(masquerade) => masquerade.fmt(f),
            Statement::Snat(nat) => write!(f, "snat to {nat}"),
            Statement::Dnat(nat) => write!(f, "dnat to {nat}"),
            Statement::Notrack => f.write_str("notrack"),
            Statement::VerdictMap { fields, map } => {
                write_fields(f, fields, self.protocol)?;
                write!(f, " vmap @{map}")
            }
            Statement::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text { statement: self, protocol: None }.fmt(f)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_match(f, self, None)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Continue => f.write_str("continue"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[Field], protocol: Option<u8>) -> fmt::Result {
    let mut separator = "";
    for field in fields {
        let field = protocol.map_or(*field, |protocol| field.of_protocol(protocol));
        write!(f, "{separator}{field}")?;
        separator = " . ";
    }
    Ok(())
}

fn write_match(f: &mut fmt::Formatter<'_>, condition: &Match, protocol: Option<u8>) -> fmt::Result {
    let Match { fields, negated, pattern } = condition;
    let kind = fields.first().map_or(DataType::IfName, |field| field.data_type());
    write_fields(f, fields, protocol)?;
    let not = if *negated { "!= " } else { "" };
    match pattern {
        Pattern::Is(value) => {
            write!(f, " {not}")?;
            value.write(f, kind)
        }
        Pattern::Net(net) => write!(f, " {not}{net}"),
        Pattern::Range(low, high) => {
            write!(f, " {not}")?;
            write_range(f, kind, low, high)
        }
        Pattern::AtLeast(value) => write_order(f, if *negated { "<" } else { ">=" }, value, kind),
        Pattern::AtMost(value) => write_order(f, if *negated { ">" } else { "<=" }, value, kind),
        Pattern::Masked { mask, value } => write_masked(f, *negated, *mask, *value),
        Pattern::AnyOf(bits) => {
            f.write_str(if *negated { " ! " } else { " " })?;
            names::write_number(f, kind, *bits)
        }
        Pattern::OneOf(members) => write_members(f, not, fields, members),
        Pattern::InSet(name) => write!(f, " {not}@{name}"),
        Pattern::Missing => f.write_str(if *negated { " exists" } else { " missing" }),
    }
}

fn write_order(f: &mut fmt::Formatter<'_>, operator: &str, value: &Value, kind: DataType) -> fmt::Result {
    write!(f, " {operator} ")?;
    value.write(f, kind)
}

fn write_range(f: &mut fmt::Formatter<'_>, kind: DataType, low: &Value, high: &Value) -> fmt::Result {
    low.write(f, kind)?;
    f.write_str("-")?;
    high.write(f, kind)
}

/// A mask of leading ones is written as a prefix, as for an address.
fn write_masked(f: &mut fmt::Formatter<'_>, negated: bool, mask: u32, value: u32) -> fmt::Result {
    let ones = mask.leading_ones();
    if ones > 0 && mask.count_ones() == ones {
        return write!(f, " {}{value:#010x}/{ones}", if negated { "!= " } else { "" });
    }
    write!(f, " & {mask:#010x} {} {value:#010x}", if negated { "!=" } else { "==" })
}

fn write_members(f: &mut fmt::Formatter<'_>, not: &str, fields: &[Field], members: &[Member]) -> fmt::Result {
    let kind = set_kind(fields, members);
    let Ok(mut elements) = set::elements(&kind, members) else {
        return write!(f, " {not}{{ {members:?} }}");
    };
    if kind.is_concatenation() || kind.key.iter().any(|part| part.is_host_order()) {
        elements.sort_by_cached_key(as_number);
    }
    write!(f, " {not}{{")?;
    let mut separator = " ";
    for member in elements.iter().filter_map(|element| kind.member(element)) {
        f.write_str(separator)?;
        write_member(f, &kind, &member)?;
        separator = ", ";
    }
    f.write_str(" }")
}

/// nft sorts concatenations, and what is in the machine's byte order, as one number in that order.
fn as_number(element: &Element) -> Vec<u8> {
    let mut bytes = element.low.as_slice().to_vec();
    if cfg!(target_endian = "little") {
        bytes.reverse();
    }
    bytes
}

/// The kind of the anonymous set that holds `members`.
pub(crate) fn set_kind(fields: &[Field], members: &[Member]) -> SetKind {
    let ranged = |member: &Member| member.0.iter().any(|part| matches!(part, Part::Range(..)));
    SetKind {
        key: fields.iter().map(|field| field.data_type()).collect(),
        intervals: members.iter().any(ranged),
    }
}

/// Writes a member as nft lists an element of a set of this kind.
pub(crate) fn write_member(f: &mut fmt::Formatter<'_>, kind: &SetKind, member: &Member) -> fmt::Result {
    let mut separator = "";
    for (part, kind) in member.0.iter().zip(&kind.key) {
        f.write_str(separator)?;
        match part {
            Part::One(value) => value.write(f, *kind)?,
            Part::Range(low, high) => write_interval(f, *kind, low, high)?,
        }
        separator = " . ";
    }
    Ok(())
}

/// A range of addresses that is a network is written as one.
fn write_interval(f: &mut fmt::Formatter<'_>, kind: DataType, low: &Value, high: &Value) -> fmt::Result {
    let bits = match (low, high) {
        (Value::Ipv4(low), Value::Ipv4(high)) => prefix_len(low.to_bits().into(), high.to_bits().into(), 32),
        (Value::Ipv6(low), Value::Ipv6(high)) => prefix_len(low.to_bits(), high.to_bits(), 128),
        _ => None,
    };
    match bits {
        Some(bits) => {
            low.write(f, kind)?;
            write!(f, "/{bits}")
        }
        None => write_range(f, kind, low, high),
    }
}

fn prefix_len(low: u128, high: u128, width: u32) -> Option<u32> {
    let host = low ^ high;
    let host_bits = 128 - host.leading_zeros();
    let is_network = host.count_ones() == host_bits && low & host == 0;
    is_network.then(|| width - host_bits)
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("log")?;
        if !self.prefix.is_empty() {
            write!(f, " prefix \"{}\"", self.prefix)?;
        }
        match self.target {
            LogTarget::Kernel { level } => write_level(f, level),
            LogTarget::Group { group, snaplen: 0 } => write!(f, " group {group}"),
            LogTarget::Group { group, snaplen } => write!(f, " group {group} snaplen {snaplen}"),
        }
    }
}

/// The level `warn` is the default, which nft does not write.
fn write_level(f: &mut fmt::Formatter<'_>, level: u8) -> fmt::Result {
    const LEVELS: [&str; 9] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"];
    match LEVELS.get(usize::from(level)) {
        Some(&"warn") => Ok(()),
        Some(name) => write!(f, " level {name}"),
        None => write!(f, " level {level}"),
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DEFAULT_BURST: u32 = 5;
        let over = if self.over { "over " } else { "" };
        write!(f, "limit rate {over}{}/{}", self.rate, self.unit.name())?;
        match self.burst {
            DEFAULT_BURST => Ok(()),
            burst => write!(f, " burst {burst} packets"),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, names, code, default) = match self {
            Reject::PortUnreachable => return f.write_str("reject"),
            Reject::TcpReset => return f.write_str("reject with tcp reset"),
            Reject::Icmp(code) => ("icmp", names::ICMP_CODES, *code, 3),
            Reject::Icmpv6(code) => ("icmpv6", names::ICMPV6_CODES, *code, 4),
            Reject::Icmpx(code) => ("icmpx", names::ICMPX_CODES, *code, 1),
        };
        f.write_str("reject")?;
        match names.iter().find(|(value, _)| *value == u32::from(code)) {
            _ if code == default => Ok(()),
            Some((_, name)) => write!(f, " with {protocol} {name}"),
            None => write!(f, " with {protocol} {code}"),
        }
    }
}

/// `mask` and `xor` taken apart into `&`, `^` and `|`, as nft does.
impl fmt::Display for SetMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetMark { mask, xor } = *self;
        f.write_str("meta mark set ")?;
        if mask == 0 {
            return write!(f, "{xor:#010x}");
        }
        let or = xor & !mask;
        let (and, flip) = (mask | or, xor & mask);
        f.write_str("meta mark")?;
        if and != u32::MAX {
            write!(f, " & {and:#010x}")?;
        }
        if flip != 0 {
            write!(f, " ^ {flip:#010x}")?;
        }
        if or != 0 {
            write!(f, " | {or:#010x}")?;
        }
        Ok(())
    }
}

impl fmt::Display for NatFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(self.random, "random"), (self.fully_random, "fully-random"), (self.persistent, "persistent")];
        let mut separator = " ";
        for (_, name) in names.iter().filter(|(set, _)| *set) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

fn write_ports(f: &mut fmt::Formatter<'_>, (low, high): (u16, u16)) -> fmt::Result {
    if low == high { write!(f, ":{low}") } else { write!(f, ":{low}-{high}") }
}

impl fmt::Display for Masquerade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("masquerade")?;
        if let Some(ports) = self.ports {
            f.write_str(" to ")?;
            write_ports(f, ports)?;
        }
        self.flags.fmt(f)
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.addresses;
        let range = if low == high { low.to_string() } else { format!("{low}-{high}") };
        match (low, self.ports) {
            (IpAddr::V6(_), Some(_)) => write!(f, "[{range}]")?,
            _ => f.write_str(&range)?,
        }
        self.ports.map_or(Ok(()), |ports| write_ports(f, ports))?;
        self.flags.fmt(f)
    }
}
