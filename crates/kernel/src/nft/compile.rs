//! From statements to expressions.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::bytes::Bytes;
use super::error::InvalidRule;
use super::expression::{
    AnonymousSet, Expression, NatRegisters, Register, RuleBody, SetRef, comment_userdata,
};
use super::family::Family;
use super::field::{Dependency, Field, Load};
use super::rule::Rule;
use super::set::elements;
use super::statement::{
    Log, LogTarget, Masquerade, Match, Nat, Pattern, Reject, SetMark, Statement, Verdict,
};
use super::text::{known_protocol, set_kind};
use super::value::{DataType, Member, Part, Value};

/// `enum nft_cmp_ops`.
mod operator {
    pub(super) const EQ: u32 = 0;
    pub(super) const NEQ: u32 = 1;
    pub(super) const LT: u32 = 2;
    pub(super) const LTE: u32 = 3;
    pub(super) const GT: u32 = 4;
    pub(super) const GTE: u32 = 5;
}

const META_MARK: u32 = 3;
/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
const FIRST: Register = Register(0);

/// `NFT_RULE_MAXEXPRS`.
const MAX_EXPRESSIONS: usize = 128;

/// `NF_LOG_PREFIXLEN` without the NUL.
const MAX_PREFIX: usize = 127;

/// `NFTNL_UDATA_COMMENT_MAXLEN` without the NUL.
const MAX_COMMENT: usize = 127;

impl Rule {
    /// The rule as the kernel of a table of `family` keeps it.
    ///
    /// # Errors
    /// When the rule means nothing, or more than a rule can hold.
    pub fn compile(&self, family: Family) -> Result<RuleBody, InvalidRule> {
        let mut compiler = Compiler { family, protocol: None, network: None, expressions: Vec::new() };
        for (index, statement) in self.statements.iter().enumerate() {
            compiler.statement(statement)?;
            if ends_rule(statement) && index + 1 < self.statements.len() {
                return Err(InvalidRule::AfterVerdict);
            }
        }
        if compiler.expressions.len() > MAX_EXPRESSIONS {
            return Err(InvalidRule::TooLong { what: "expressions" });
        }
        let userdata = self.comment.as_deref().map(userdata).transpose()?.unwrap_or_default();
        compiler.expressions.shrink_to_fit();
        Ok(RuleBody { expressions: compiler.expressions, userdata })
    }
}

fn userdata(comment: &str) -> Result<Vec<u8>, InvalidRule> {
    check_text("comment", comment, MAX_COMMENT)?;
    Ok(comment_userdata(comment))
}

fn check_text(what: &'static str, text: &str, limit: usize) -> Result<(), InvalidRule> {
    if text.len() > limit || text.contains('\0') {
        return Err(InvalidRule::Text { what, text: text.into(), limit });
    }
    Ok(())
}

fn ends_rule(statement: &Statement) -> bool {
    match statement {
        Statement::Verdict(verdict) => *verdict != Verdict::Continue,
        Statement::Reject(_) | Statement::Masquerade(_) | Statement::Snat(_) | Statement::Dnat(_) => true,
        _ => false,
    }
}

struct Compiler {
    family: Family,
    /// The transport protocol that holds from here on.
    protocol: Option<u8>,
    /// The network protocol that a match in an `inet` table established.
    network: Option<Family>,
    expressions: Vec<Expression>,
}

impl Compiler {
    fn push(&mut self, expression: Expression) {
        self.expressions.push(expression);
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), InvalidRule> {
        match statement {
            Statement::Match(condition) => return self.condition(condition, statement),
            Statement::Counter => self.push(Expression::Counter),
            Statement::Log(log) => return self.log(log),
            Statement::Limit(limit) => self.push(Expression::Limit {
                rate: limit.rate,
                unit: limit.unit.seconds(),
                burst: limit.burst,
                bytes: false,
                over: limit.over,
            }),
            Statement::ConnectionLimit { count, over } => {
                self.push(Expression::ConnectionLimit { count: *count, over: *over });
            }
            Statement::Reject(reject) => return self.reject(*reject),
            Statement::SetMark(change) => self.set_mark(*change),
            Statement::SetDscp { family, value } => return self.set_dscp(*family, *value),
            Statement::Masquerade(masquerade) => return self.masquerade(masquerade),
            Statement::Snat(nat) => return self.nat("snat", 0, nat),
            Statement::Dnat(nat) => return self.nat("dnat", 1, nat),
            Statement::Notrack => self.push(Expression::Notrack),
            Statement::VerdictMap { fields, map } => {
                self.load_all(fields)?;
                self.push(Expression::Lookup {
                    set: SetRef::Named(map.clone()),
                    sreg: FIRST,
                    verdict: true,
                    inverted: false,
                });
            }
            Statement::Verdict(verdict) => self.push(Expression::Verdict(verdict.clone())),
        }
        Ok(())
    }

    fn condition(&mut self, condition: &Match, statement: &Statement) -> Result<(), InvalidRule> {
        self.load_all(&condition.fields)?;
        if let Some(protocol) = known_protocol(statement) {
            self.require_same(protocol)?;
        }
        match (&condition.pattern, &condition.fields[..]) {
            (Pattern::InSet(name), _) => {
                self.look_up(SetRef::Named(name.clone()), condition.negated);
                Ok(())
            }
            (Pattern::OneOf(members), fields) => self.one_of(fields, members, condition.negated),
            (pattern, [field]) => self.single(*field, pattern, condition.negated),
            (pattern, fields) => Err(wrong_pattern(fields, pattern)),
        }
    }

    fn look_up(&mut self, set: SetRef, inverted: bool) {
        self.push(Expression::Lookup { set, sreg: FIRST, verdict: false, inverted });
    }

    fn one_of(&mut self, fields: &[Field], members: &[Member], inverted: bool) -> Result<(), InvalidRule> {
        let kind = set_kind(fields, members);
        kind.check()?;
        if members.is_empty() {
            return Err(wrong_pattern(fields, &Pattern::OneOf(Vec::new())));
        }
        let elements = elements(&kind, members)?;
        self.look_up(SetRef::Anonymous(Arc::new(AnonymousSet { kind, elements })), inverted);
        Ok(())
    }

    /// Loads the fields into registers from the first on, each at the start of a register.
    fn load_all(&mut self, fields: &[Field]) -> Result<(), InvalidRule> {
        const REGISTERS: usize = 16;
        // What a field depends on is matched in the first register, so before anything is kept there.
        fields.iter().try_for_each(|field| self.depend_on(*field))?;
        let mut slot = 0;
        for field in fields {
            self.load(*field, Register(slot as u8));
            slot += field.data_type().padded_width() / 4;
            if slot > REGISTERS {
                return Err(InvalidRule::TooLong { what: "fields in one concatenation" });
            }
        }
        Ok(())
    }

    fn load(&mut self, field: Field, dreg: Register) {
        self.push(match field.load() {
            Load::Meta(key) => Expression::Meta { key, dreg },
            Load::Ct(key) => Expression::Ct { key, dreg },
            Load::Fib { result, flags } => Expression::Fib { result, flags, dreg },
            Load::Payload { base, offset } => {
                Expression::Payload { base, offset, len: field.data_type().width() as u32, dreg }
            }
        });
    }

    /// Matches the protocol without which the field would be read from something else.
    fn depend_on(&mut self, field: Field) -> Result<(), InvalidRule> {
        match field.dependency() {
            None => Ok(()),
            Some(Dependency::Transport(protocol)) => self.require_transport(protocol),
            Some(Dependency::Network(family)) => self.require_network(family, field),
        }
    }

    fn require_transport(&mut self, protocol: u8) -> Result<(), InvalidRule> {
        if self.protocol.is_none() {
            self.load(Field::L4proto, FIRST);
            self.compare(operator::EQ, [protocol].into());
        }
        self.require_same(protocol)
    }

    fn require_same(&mut self, protocol: u8) -> Result<(), InvalidRule> {
        match self.protocol.replace(protocol) {
            Some(first) if first != protocol => Err(InvalidRule::Protocols { first, second: protocol }),
            _ => Ok(()),
        }
    }

    fn require_network(&mut self, wanted: Family, field: Field) -> Result<(), InvalidRule> {
        let known = if self.family == Family::Inet { self.network } else { Some(self.family) };
        match known {
            Some(family) if family == wanted => Ok(()),
            Some(family) => Err(wrong_family(field.to_string(), family)),
            // An inet table sees no ARP.
            None if wanted == Family::Arp => Err(wrong_family(field.to_string(), self.family)),
            None => {
                self.network = Some(wanted);
                self.load(Field::Nfproto, FIRST);
                self.compare(operator::EQ, [wanted.number()].into());
                Ok(())
            }
        }
    }

    fn compare(&mut self, operator: u32, value: Bytes) {
        self.push(Expression::Compare { sreg: FIRST, operator, value });
    }

    fn single(&mut self, field: Field, pattern: &Pattern, negated: bool) -> Result<(), InvalidRule> {
        let kind = field.data_type();
        let equal = if negated { operator::NEQ } else { operator::EQ };
        match pattern {
            Pattern::Is(Value::Name(name)) if name.ends_with('*') && kind == DataType::IfName => {
                let stem = name_stem(name)?;
                self.compare(equal, stem);
            }
            Pattern::Is(value) => self.compare(equal, value.encode(kind)?),
            Pattern::Net(net) => self.network(field, net, equal)?,
            Pattern::Range(low, high) => {
                let (from, to) = Part::Range(low.clone(), high.clone()).encode(kind)?;
                self.push(Expression::Range { sreg: FIRST, inverted: negated, from, to });
            }
            Pattern::AtLeast(value) if !kind.is_host_order() => {
                self.compare(if negated { operator::LT } else { operator::GTE }, value.encode(kind)?);
            }
            Pattern::AtMost(value) if !kind.is_host_order() => {
                self.compare(if negated { operator::GT } else { operator::LTE }, value.encode(kind)?);
            }
            Pattern::Masked { mask, value } if kind == DataType::Mark => {
                self.mask(mask.to_ne_bytes().into());
                self.compare(equal, value.to_ne_bytes().into());
            }
            Pattern::AnyOf(bits) if matches!(kind, DataType::CtState | DataType::CtStatus) => {
                self.mask(bits.to_ne_bytes().into());
                self.compare(if negated { operator::EQ } else { operator::NEQ }, [0; 4].into());
            }
            Pattern::Missing => self.missing(field, pattern, negated)?,
            other => return Err(wrong_pattern(&[field], other)),
        }
        Ok(())
    }

    fn network(&mut self, field: Field, net: &IpNet, equal: u32) -> Result<(), InvalidRule> {
        let kind = field.data_type();
        let address = Value::from(net.network()).encode(kind)?;
        let mask = Value::from(net.netmask()).encode(kind)?;
        self.mask(mask);
        self.compare(equal, address);
        Ok(())
    }

    fn mask(&mut self, mask: Bytes) {
        let xor = Bytes::from(&vec![0; mask.len()][..]);
        self.push(Expression::Bitwise { sreg: FIRST, dreg: FIRST, mask, xor });
    }

    /// Asks the routing tables only whether there is an answer: the kernel stores 0 or 1 in a register's first byte.
    fn missing(&mut self, field: Field, pattern: &Pattern, exists: bool) -> Result<(), InvalidRule> {
        const PRESENT: u32 = 1 << 5;
        let Some(Expression::Fib { flags, .. }) = self.expressions.last_mut() else {
            return Err(wrong_pattern(&[field], pattern));
        };
        *flags |= PRESENT;
        self.compare(operator::EQ, [u8::from(exists), 0, 0, 0].into());
        Ok(())
    }

    /// The first two octets as a whole: in IPv4 the checksum is made of such pairs, in IPv6 there is none.
    fn set_dscp(&mut self, family: Family, value: u8) -> Result<(), InvalidRule> {
        let dscp = u16::from(value);
        let (field, keep, bits, checksum) = match family {
            Family::Ip => (Field::IpSaddr, 0xff03_u16, dscp << 2, Some(10)),
            Family::Ip6 => (Field::Ip6Saddr, 0xf03f, dscp << 6, None),
            other => return Err(wrong_family("dscp set".to_owned(), other)),
        };
        if value > 63 {
            return Err(InvalidRule::ValueOfOtherType { value: value.to_string(), kind: "dscp" });
        }
        self.depend_on(field)?;
        let (base, offset, len) = (NETWORK_HEADER, 0, 2);
        self.push(Expression::Payload { base, offset, len, dreg: FIRST });
        let (mask, xor) = (keep.to_be_bytes().into(), bits.to_be_bytes().into());
        self.push(Expression::Bitwise { sreg: FIRST, dreg: FIRST, mask, xor });
        self.push(Expression::PayloadSet { sreg: FIRST, base, offset, len, checksum });
        Ok(())
    }

    fn set_mark(&mut self, change: SetMark) {
        if change.mask == 0 {
            self.push(Expression::Load { dreg: FIRST, value: change.xor.to_ne_bytes().into() });
        } else {
            self.push(Expression::Meta { key: META_MARK, dreg: FIRST });
            self.push(Expression::Bitwise {
                sreg: FIRST,
                dreg: FIRST,
                mask: change.mask.to_ne_bytes().into(),
                xor: change.xor.to_ne_bytes().into(),
            });
        }
        self.push(Expression::MetaSet { key: META_MARK, sreg: FIRST });
    }

    fn log(&mut self, log: &Log) -> Result<(), InvalidRule> {
        check_text("log prefix", &log.prefix, MAX_PREFIX)?;
        let prefix = log.prefix.clone();
        self.push(match log.target {
            LogTarget::Kernel { level } => Expression::LogKernel { prefix, level: level.into(), flags: 0 },
            LogTarget::Group { group, snaplen } => {
                Expression::LogGroup { prefix, group, snaplen, threshold: 0 }
            }
        });
        Ok(())
    }

    fn reject(&mut self, reject: Reject) -> Result<(), InvalidRule> {
        const ICMP: u32 = 0;
        const TCP_RESET: u32 = 1;
        const ICMPX: u32 = 2;
        let refuse = |this: &Self| Err(wrong_family(reject.to_string(), this.family));
        let (kind, code) = match (reject, self.family) {
            (Reject::PortUnreachable, Family::Ip) => (ICMP, 3),
            (Reject::PortUnreachable, Family::Ip6) => (ICMP, 4),
            (Reject::PortUnreachable, Family::Inet) => (ICMPX, 1),
            (Reject::Icmp(code), Family::Ip) | (Reject::Icmpv6(code), Family::Ip6) => (ICMP, code),
            (Reject::Icmpx(code), Family::Inet) => (ICMPX, code),
            (Reject::TcpReset, _) => {
                self.require_transport(6)?;
                (TCP_RESET, 0)
            }
            _ => return refuse(self),
        };
        self.push(Expression::Reject { kind, code });
        Ok(())
    }

    /// Loads the lowest and highest port into the registers from `slot` on.
    fn ports(
        &mut self,
        what: &'static str,
        ports: Option<(u16, u16)>,
        slot: u8,
    ) -> Result<Option<(Register, Register)>, InvalidRule> {
        let Some((low, high)) = ports else { return Ok(None) };
        if low > high {
            return Err(InvalidRule::Range { low: low.to_string(), high: high.to_string() });
        }
        if self.protocol.is_none() {
            return Err(InvalidRule::PortsWithoutProtocol { what });
        }
        Ok(Some(self.load_pair(low.to_be_bytes().into(), high.to_be_bytes().into(), slot, 1)))
    }

    fn load_pair(&mut self, low: Bytes, high: Bytes, slot: u8, width: u8) -> (Register, Register) {
        let first = Register(slot);
        self.push(Expression::Load { dreg: first, value: low.clone() });
        if low == high {
            return (first, first);
        }
        let second = Register(slot + width);
        self.push(Expression::Load { dreg: second, value: high });
        (first, second)
    }

    fn masquerade(&mut self, masquerade: &Masquerade) -> Result<(), InvalidRule> {
        let ports = self.ports("masquerade", masquerade.ports, 0)?;
        self.push(Expression::Masquerade { flags: masquerade.flags.bits(), ports });
        Ok(())
    }

    fn nat(&mut self, what: &'static str, kind: u32, nat: &Nat) -> Result<(), InvalidRule> {
        let (low, high) = nat.addresses;
        let family = match (low, high) {
            (IpAddr::V4(low), IpAddr::V4(high)) if low <= high => Family::Ip,
            (IpAddr::V6(low), IpAddr::V6(high)) if low <= high => Family::Ip6,
            _ => return Err(InvalidRule::Range { low: low.to_string(), high: high.to_string() }),
        };
        if self.family != Family::Inet && self.family != family {
            return Err(wrong_family(format!("{what} to {low}"), self.family));
        }
        let (data_type, width) = match family {
            Family::Ip6 => (DataType::Ipv6Addr, 4),
            Family::Ip | Family::Inet | Family::Arp => (DataType::Ipv4Addr, 1),
        };
        let (low, high) = (Value::from(low).encode(data_type)?, Value::from(high).encode(data_type)?);
        let addresses = Some(self.load_pair(low, high, 0, width));
        let ports = self.ports(what, nat.ports, width * 2)?;
        let family = family.number().into();
        self.push(Expression::Nat {
            nat: NatRegisters { kind, family, addresses, ports, flags: nat.flags.bits() },
        });
        Ok(())
    }
}

/// The bytes before the `*` of an interface pattern: a comparison that is shorter than a name.
fn name_stem(name: &str) -> Result<Bytes, InvalidRule> {
    let stem = name.trim_end_matches('*');
    if stem.is_empty() || stem.len() > 15 || stem.contains(['*', '\0']) {
        return Err(InvalidRule::InterfaceName { name: name.into() });
    }
    Ok(Bytes::from(stem.as_bytes()))
}

fn wrong_pattern(fields: &[Field], pattern: &Pattern) -> InvalidRule {
    let names: Vec<String> = fields.iter().map(ToString::to_string).collect();
    InvalidRule::Pattern { field: names.join(" . "), pattern: format!("{pattern:?}") }
}

fn wrong_family(field: String, family: Family) -> InvalidRule {
    InvalidRule::Family { field, family: family.name() }
}
