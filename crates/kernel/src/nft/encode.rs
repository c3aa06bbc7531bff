//! Expressions, sets and elements as netlink attributes.

use super::bytes::Bytes;
use super::expression::{Expression, NatRegisters, Register, SetRef};
use super::set::{Element, SetKind};
use super::statement::Verdict;
use super::wire::Writer;

/// The name with which a rule's own set is made; the kernel puts a number for `%d`.
pub(crate) const ANONYMOUS: &str = "__set%d";

/// `enum nft_set_flags`.
pub(crate) mod set_flag {
    pub(crate) const ANONYMOUS: u32 = 0x1;
    pub(crate) const CONSTANT: u32 = 0x2;
    pub(crate) const INTERVAL: u32 = 0x4;
    pub(crate) const MAP: u32 = 0x8;
    pub(crate) const CONCAT: u32 = 0x80;
}

/// `NFT_DATA_VERDICT`.
pub(crate) const DATA_VERDICT: u32 = 0xffff_ff00;

/// `NFT_SET_ELEM_INTERVAL_END`.
pub(crate) const INTERVAL_END: u32 = 1;

/// `enum nft_verdicts`, and `NF_DROP`, `NF_ACCEPT`.
pub(crate) fn verdict_code(verdict: &Verdict) -> i32 {
    match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Continue => -1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    }
}

/// Appends the list of a rule's expressions. Rules' own sets are referred to by consecutive ids from `first_set` on.
pub(crate) fn expressions(out: &mut Writer, kind: u16, expressions: &[Expression], first_set: u32) {
    const LIST_ELEM: u16 = 1;
    let mut next_set = first_set;
    out.nested(kind, |out| {
        for expression in expressions {
            out.nested(LIST_ELEM, |out| one(out, expression, &mut next_set));
        }
    });
}

fn one(out: &mut Writer, expression: &Expression, next_set: &mut u32) {
    const NAME: u16 = 1;
    const DATA: u16 = 2;
    out.string(NAME, name(expression));
    match expression {
        Expression::Notrack => {}
        Expression::Unknown { data, .. } => out.bytes(DATA, data),
        _ => out.nested(DATA, |out| attributes(out, expression, next_set)),
    }
}

fn name(expression: &Expression) -> &str {
    match expression {
        Expression::Meta { .. } | Expression::MetaSet { .. } => "meta",
        Expression::Payload { .. } | Expression::PayloadSet { .. } => "payload",
        Expression::Ct { .. } => "ct",
        Expression::Fib { .. } => "fib",
        Expression::Bitwise { .. } => "bitwise",
        Expression::Byteorder { .. } => "byteorder",
        Expression::Compare { .. } => "cmp",
        Expression::Range { .. } => "range",
        Expression::Lookup { .. } => "lookup",
        Expression::Load { .. } | Expression::Verdict(_) => "immediate",
        Expression::Counter => "counter",
        Expression::Limit { .. } => "limit",
        Expression::ConnectionLimit { .. } => "connlimit",
        Expression::LogKernel { .. } | Expression::LogGroup { .. } => "log",
        Expression::Reject { .. } => "reject",
        Expression::Masquerade { .. } => "masq",
        Expression::Nat { .. } => "nat",
        Expression::Notrack => "notrack",
        Expression::Unknown { name, .. } => name,
    }
}

/// The numbers are the values of `enum nft_*_attributes`, in the order of each enum.
fn attributes(out: &mut Writer, expression: &Expression, next_set: &mut u32) {
    match expression {
        Expression::Meta { key, dreg } => {
            register(out, 1, *dreg);
            out.u32(2, *key);
        }
        Expression::MetaSet { key, sreg } => {
            out.u32(2, *key);
            register(out, 3, *sreg);
        }
        Expression::Payload { base, offset, len, dreg } => {
            register(out, 1, *dreg);
            out.u32(2, *base);
            out.u32(3, *offset);
            out.u32(4, *len);
        }
        Expression::PayloadSet { sreg, base, offset, len, checksum } => {
            register(out, 5, *sreg);
            out.u32(2, *base);
            out.u32(3, *offset);
            out.u32(4, *len);
            out.u32(6, u32::from(checksum.is_some()));
            out.u32(7, checksum.unwrap_or(0));
            out.u32(8, 0);
        }
        Expression::Ct { key, dreg } => {
            register(out, 1, *dreg);
            out.u32(2, *key);
        }
        Expression::Fib { result, flags, dreg } => {
            register(out, 1, *dreg);
            out.u32(2, *result);
            out.u32(3, *flags);
        }
        Expression::Bitwise { sreg, dreg, mask, xor } => {
            register(out, 1, *sreg);
            register(out, 2, *dreg);
            out.u32(3, mask.len() as u32);
            value(out, 4, mask);
            value(out, 5, xor);
        }
        Expression::Byteorder { sreg, dreg, to_network, len, size } => {
            register(out, 1, *sreg);
            register(out, 2, *dreg);
            out.u32(3, u32::from(*to_network));
            out.u32(4, *len);
            out.u32(5, *size);
        }
        Expression::Compare { sreg, operator, value: right } => {
            register(out, 1, *sreg);
            out.u32(2, *operator);
            value(out, 3, right);
        }
        Expression::Range { sreg, inverted, from, to } => {
            register(out, 1, *sreg);
            out.u32(2, u32::from(*inverted));
            value(out, 3, from);
            value(out, 4, to);
        }
        Expression::Lookup { set, sreg, verdict, inverted } => {
            lookup(out, set, next_set);
            register(out, 2, *sreg);
            if *verdict {
                out.u32(3, 0);
            }
            out.u32(5, u32::from(*inverted));
        }
        Expression::Load { dreg, value: right } => {
            register(out, 1, *dreg);
            value(out, 2, right);
        }
        Expression::Verdict(verdict) => {
            out.u32(1, 0);
            verdict_data(out, 2, verdict);
        }
        Expression::Counter => {
            out.u64(1, 0);
            out.u64(2, 0);
        }
        Expression::Limit { rate, unit, burst, bytes, over } => {
            out.u64(1, *rate);
            out.u64(2, *unit);
            out.u32(3, *burst);
            out.u32(4, u32::from(*bytes));
            out.u32(5, u32::from(*over));
        }
        Expression::ConnectionLimit { count, over } => {
            out.u32(1, *count);
            out.u32(2, u32::from(*over));
        }
        Expression::LogKernel { prefix, level, flags } => {
            log_prefix(out, prefix);
            out.u32(5, *level);
            if *flags != 0 {
                out.u32(6, *flags);
            }
        }
        Expression::LogGroup { prefix, group, snaplen, threshold } => {
            out.bytes(1, &group.to_be_bytes());
            log_prefix(out, prefix);
            if *snaplen != 0 {
                out.u32(3, *snaplen);
            }
            if *threshold != 0 {
                out.bytes(4, &threshold.to_be_bytes());
            }
        }
        Expression::Reject { kind, code } => {
            out.u32(1, *kind);
            out.bytes(2, &[*code]);
        }
        Expression::Masquerade { flags, ports } => {
            if *flags != 0 {
                out.u32(1, *flags);
            }
            registers(out, 2, *ports);
        }
        Expression::Nat { nat } => self::nat(out, nat),
        Expression::Notrack | Expression::Unknown { .. } => {}
    }
}

fn lookup(out: &mut Writer, set: &SetRef, next_set: &mut u32) {
    const SET: u16 = 1;
    const SET_ID: u16 = 4;
    match set {
        SetRef::Named(name) => out.string(SET, name),
        SetRef::Anonymous(_) => {
            out.string(SET, ANONYMOUS);
            out.u32(SET_ID, *next_set);
            *next_set += 1;
        }
    }
}

fn log_prefix(out: &mut Writer, prefix: &str) {
    if !prefix.is_empty() {
        out.string(2, prefix);
    }
}

fn nat(out: &mut Writer, nat: &NatRegisters) {
    out.u32(1, nat.kind);
    out.u32(2, nat.family);
    registers(out, 3, nat.addresses);
    registers(out, 5, nat.ports);
    if nat.flags != 0 {
        out.u32(7, nat.flags);
    }
}

fn register(out: &mut Writer, kind: u16, register: Register) {
    out.u32(kind, register.number());
}

fn registers(out: &mut Writer, kind: u16, pair: Option<(Register, Register)>) {
    if let Some((low, high)) = pair {
        register(out, kind, low);
        register(out, kind + 1, high);
    }
}

/// `NFTA_DATA_VALUE` inside `kind`.
fn value(out: &mut Writer, kind: u16, value: &Bytes) {
    out.nested(kind, |out| out.bytes(1, value.as_slice()));
}

/// `NFTA_DATA_VERDICT` inside `kind`.
fn verdict_data(out: &mut Writer, kind: u16, verdict: &Verdict) {
    const CODE: u16 = 1;
    const CHAIN: u16 = 2;
    out.nested(kind, |out| {
        out.nested(2, |out| {
            out.u32(CODE, verdict_code(verdict).cast_unsigned());
            if let Some(chain) = verdict.target() {
                out.string(CHAIN, chain);
            }
        });
    });
}

/// The kind of a set and whether it maps to verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetSchema {
    /// The keys.
    pub kind: SetKind,
    /// Whether each key has a verdict.
    pub map: bool,
}

impl SetSchema {
    /// `NFTA_SET_FLAGS`.
    pub(crate) fn flags(&self) -> u32 {
        let mut flags = 0;
        if self.kind.intervals {
            flags |= set_flag::INTERVAL;
        }
        if self.kind.is_concatenation() && self.kind.intervals {
            flags |= set_flag::CONCAT;
        }
        if self.map {
            flags |= set_flag::MAP;
        }
        flags
    }
}

/// Appends what describes a set: flags, key, data, field lengths of concatenations, id.
pub(crate) fn set(out: &mut Writer, schema: &SetSchema, extra_flags: u32, id: u32) {
    const DESC_CONCAT: u16 = 2;
    const FIELD: u16 = 1;
    const FIELD_LEN: u16 = 1;
    let kind = &schema.kind;
    out.u32(3, schema.flags() | extra_flags);
    out.u32(4, kind.type_number());
    out.u32(5, kind.key_len() as u32);
    if schema.map {
        out.u32(6, DATA_VERDICT);
        out.u32(7, 0);
    }
    // The kernel refuses field lengths for a concatenation without intervals: it hashes the whole key.
    if kind.is_concatenation() && kind.intervals {
        out.nested(9, |out| {
            out.nested(DESC_CONCAT, |out| {
                for part in &kind.key {
                    out.nested(FIELD, |out| out.u32(FIELD_LEN, part.width() as u32));
                }
            });
        });
    }
    out.u32(10, id);
    out.bytes(13, &set_userdata(kind));
}

/// What `nft list` needs to print the elements: libnftnl's type 0, the byte order of the key.
fn set_userdata(kind: &SetKind) -> Vec<u8> {
    const KEY_BYTEORDER: u8 = 0;
    const HOST: u32 = 1;
    const NETWORK: u32 = 2;
    let host = matches!(&kind.key[..], [only] if only.is_host_order());
    let order = if host { HOST } else { NETWORK };
    let mut data = vec![KEY_BYTEORDER, 4];
    data.extend(order.to_ne_bytes());
    data
}

/// Appends one element: one or (the two ends of an interval) two entries of the list.
pub(crate) fn element(out: &mut Writer, kind: &SetKind, element: &Element, verdict: Option<&Verdict>) {
    const LIST_ELEM: u16 = 1;
    const KEY: u16 = 1;
    const DATA: u16 = 2;
    const FLAGS: u16 = 3;
    const KEY_END: u16 = 10;
    out.nested(LIST_ELEM, |out| {
        value(out, KEY, &element.low);
        if kind.intervals && kind.is_concatenation() {
            value(out, KEY_END, element.high());
        }
        if let Some(verdict) = verdict {
            verdict_data(out, DATA, verdict);
        }
    });
    if kind.intervals
        && !kind.is_concatenation()
        && let Some(end) = element.high().successor()
    {
        out.nested(LIST_ELEM, |out| {
            value(out, KEY, &end);
            out.u32(FLAGS, INTERVAL_END);
        });
    }
}
