//! The kernel's side of a rule: expressions on registers, in the form in which the kernel dumps them.

use std::sync::Arc;

use super::bytes::Bytes;
use super::set::{Element, SetKind};
use super::statement::Verdict;

/// A register of four bytes, 0 to 15. The kernel's old names for registers of sixteen bytes cover four of them each:
/// it dumps register 0 as `NFT_REG_1`, 4 as `NFT_REG_2`, and the others as `NFT_REG32_nn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Register(pub u8);

impl Register {
    const REG_1: u32 = 1;
    const REG32_00: u32 = 8;

    /// The number in a message.
    pub fn number(self) -> u32 {
        match u32::from(self.0) {
            slot if slot.is_multiple_of(4) => Register::REG_1 + slot / 4,
            slot => Register::REG32_00 + slot,
        }
    }

    /// The register with that number; none for the verdict register and numbers that do not exist.
    pub fn from_number(number: u32) -> Option<Self> {
        let slot = match number {
            1..=4 => (number - Register::REG_1) * 4,
            8..=23 => number - Register::REG32_00,
            _ => return None,
        };
        u8::try_from(slot).ok().map(Register)
    }
}

/// The content of an anonymous set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnonymousSet {
    /// The kind.
    pub kind: SetKind,
    /// The elements, in order.
    pub elements: Vec<Element>,
}

/// The set that a lookup uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetRef {
    /// A set or map of the table.
    Named(Arc<str>),
    /// A set that belongs to the rule.
    Anonymous(Arc<AnonymousSet>),
}

/// One expression. Numbers are those of `linux/netfilter/nf_tables.h`. Values that the kernel changes by itself
/// (counters) are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the fields are the attributes NFTA_* of the expression, under the same names"
)]
pub enum Expression {
    Meta {
        key: u32,
        dreg: Register,
    },
    MetaSet {
        key: u32,
        sreg: Register,
    },
    Payload {
        base: u32,
        offset: u32,
        len: u32,
        dreg: Register,
    },
    PayloadSet {
        sreg: Register,
        base: u32,
        offset: u32,
        len: u32,
        /// Where the checksum of the Internet is that the change is worked into.
        checksum: Option<u32>,
    },
    Ct {
        key: u32,
        dreg: Register,
    },
    Fib {
        result: u32,
        flags: u32,
        dreg: Register,
    },
    Bitwise {
        sreg: Register,
        dreg: Register,
        mask: Bytes,
        xor: Bytes,
    },
    Byteorder {
        sreg: Register,
        dreg: Register,
        to_network: bool,
        len: u32,
        size: u32,
    },
    Compare {
        sreg: Register,
        operator: u32,
        value: Bytes,
    },
    Range {
        sreg: Register,
        inverted: bool,
        from: Bytes,
        to: Bytes,
    },
    Lookup {
        set: SetRef,
        sreg: Register,
        verdict: bool,
        inverted: bool,
    },
    Load {
        dreg: Register,
        value: Bytes,
    },
    Verdict(Verdict),
    Counter,
    Limit {
        rate: u64,
        unit: u64,
        burst: u32,
        bytes: bool,
        over: bool,
    },
    ConnectionLimit {
        count: u32,
        over: bool,
    },
    LogKernel {
        prefix: String,
        level: u32,
        flags: u32,
    },
    LogGroup {
        prefix: String,
        group: u16,
        snaplen: u32,
        threshold: u16,
    },
    Reject {
        kind: u32,
        code: u8,
    },
    Masquerade {
        flags: u32,
        ports: Option<(Register, Register)>,
    },
    Nat {
        nat: NatRegisters,
    },
    Notrack,
    /// Something that we never write: it differs from everything that is wanted.
    Unknown {
        name: String,
        data: Vec<u8>,
    },
}

/// Registers of a `nat` expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NatRegisters {
    /// 0 source, 1 destination (`enum nft_nat_types`).
    pub kind: u32,
    /// `NFPROTO_*` of the addresses.
    pub family: u32,
    /// Lowest and highest address.
    pub addresses: Option<(Register, Register)>,
    /// Lowest and highest port.
    pub ports: Option<(Register, Register)>,
    /// `NF_NAT_RANGE_*` but for those that follow from the registers.
    pub flags: u32,
}

/// A rule as the kernel keeps it: what is compared to see whether a rule is the wanted one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct RuleBody {
    /// The expressions.
    pub expressions: Vec<Expression>,
    /// The comment, and whatever else other programs put into the rule's user data.
    pub userdata: Vec<u8>,
}

impl RuleBody {
    /// The rule's comment.
    pub fn comment(&self) -> Option<String> {
        userdata_comment(&self.userdata)
    }

    /// The named sets and maps that the rule looks up.
    pub fn sets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.expressions.iter().filter_map(|expression| match expression {
            Expression::Lookup { set: SetRef::Named(name), .. } => Some(name),
            _ => None,
        })
    }

    /// The chains that the rule leads to by itself (not by way of a map).
    pub fn targets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.expressions.iter().filter_map(|expression| match expression {
            Expression::Verdict(verdict) => verdict.target(),
            _ => None,
        })
    }

    /// The sets that belong to the rule.
    pub fn anonymous_sets(&self) -> impl Iterator<Item = &Arc<AnonymousSet>> {
        self.expressions.iter().filter_map(|expression| match expression {
            Expression::Lookup { set: SetRef::Anonymous(set), .. } => Some(set),
            _ => None,
        })
    }
}

/// The user data of a rule with a comment (libnftnl's type 0, a string with its NUL).
pub(crate) fn comment_userdata(comment: &str) -> Vec<u8> {
    let len = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![0, len];
    data.extend(&comment.as_bytes()[..usize::from(len) - 1]);
    data.push(0);
    data
}

/// The comment in a rule's user data.
pub(crate) fn userdata_comment(mut data: &[u8]) -> Option<String> {
    const COMMENT: u8 = 0;
    while let [kind, len, rest @ ..] = data {
        let (value, rest) = rest.split_at_checked(usize::from(*len))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        data = rest;
    }
    None
}
