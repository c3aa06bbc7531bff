//! What can be wrong with a rule or a set, and what the kernel can answer.

use std::io;

use crate::netlink;

/// A rule or set that cannot be expressed; found before anything is sent. Not retryable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// A value that is not one of the type.
    #[error("{value} is not a value of type {kind}")]
    ValueOfOtherType {
        /// The value.
        value: String,
        /// nft's name of the type.
        kind: &'static str,
    },
    /// A name that no interface can have.
    #[error("interface name {name:?} must have 1 to 15 bytes")]
    InterfaceName {
        /// The name.
        name: String,
    },
    /// A wildcard where only whole names work.
    #[error("interface pattern {name:?} cannot be a member of a set: match it on its own")]
    Wildcard {
        /// The name.
        name: String,
    },
    /// A range that is upside down, or of a type that has no order.
    #[error("range {low}-{high} is not an ascending range of numbers, ports or addresses")]
    Range {
        /// The first value.
        low: String,
        /// The last value.
        high: String,
    },
    /// A pattern that makes no sense for the field.
    #[error("{field} cannot be compared with {pattern}")]
    Pattern {
        /// The field.
        field: String,
        /// The pattern.
        pattern: String,
    },
    /// Members with more or fewer parts than the key.
    #[error("a member of {parts} parts in a set whose key has {wanted}")]
    Parts {
        /// Parts that the member has.
        parts: usize,
        /// Parts that the key has.
        wanted: usize,
    },
    /// A text that is too long or has bytes that cannot be stored.
    #[error("{what} {text:?} must have at most {limit} bytes and no NUL")]
    Text {
        /// What it is.
        what: &'static str,
        /// The text.
        text: String,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// A verdict, reject or NAT statement that is not the last one.
    #[error("a statement after the verdict would never run")]
    AfterVerdict,
    /// A field of the other address family.
    #[error("{field} never matches in a table of family {family}")]
    Family {
        /// The field or statement.
        field: String,
        /// The table's family.
        family: &'static str,
    },
    /// A base chain of a type or at a hook that the family does not have.
    #[error("there is no base chain \"{base}\" in a table of family {family}")]
    BaseChain {
        /// The base chain.
        base: String,
        /// The table's family.
        family: &'static str,
    },
    /// Two transport protocols at once.
    #[error("one rule cannot match both protocol {first} and protocol {second}")]
    Protocols {
        /// The protocol that an earlier statement requires.
        first: u8,
        /// The protocol that a later one requires.
        second: u8,
    },
    /// Ports to translate without a protocol that has them.
    #[error("{what} with ports needs a match on the transport protocol before it")]
    PortsWithoutProtocol {
        /// The statement.
        what: &'static str,
    },
    /// More expressions than the kernel takes (`NFT_RULE_MAXEXPRS`), or more registers than there are.
    #[error("the rule is too long: {what}")]
    TooLong {
        /// What there is too much of.
        what: &'static str,
    },
    /// A set with this combination of key types and kind does not exist.
    #[error("set key: {what}")]
    SetKey {
        /// What is wrong.
        what: &'static str,
    },
    /// An operation on a set or map that was not declared, or is of the other kind.
    #[error("there is no {kind} named {name}")]
    NoSuchSet {
        /// `set` or `map`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// One object that the kernel refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the operation in the transaction.
    pub index: usize,
    /// The operation, readable: `add rule ip calico cali-INPUT …`.
    pub operation: String,
    /// The kernel's reason: error number, its own words, the offset of the attribute that is at fault.
    pub cause: netlink::Refusal,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.operation, self.cause)?;
        self.cause.offset.map_or(Ok(()), |offset| write!(f, " [attribute at byte {offset}]"))
    }
}

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// A system call failed. The ruleset is as it was, or (when the failure was in reading the answer) is read back by
    /// the next apply. Retryable.
    #[error("netlink: {what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Someone else changed the ruleset meanwhile. Retryable; apply does so by itself a number of times.
    #[error("the ruleset changed while it was being read or written")]
    Raced,
    /// The kernel refused the transaction; nothing of it was done. Retrying the same helps only when the refused
    /// object depends on something that changes (a kernel module, another table's state).
    #[error("the kernel refused {}{}", .0.first().map(ToString::to_string).unwrap_or_default(), more(.0))]
    Refused(Vec<Refusal>),
    /// The kernel answered something that cannot be read.
    #[error("unreadable answer of the kernel: {what}")]
    Malformed {
        /// What was wrong.
        what: &'static str,
    },
}

fn more(refusals: &[Refusal]) -> String {
    match refusals.len() {
        0 | 1 => String::new(),
        n => format!(" and {} more operations", n - 1),
    }
}
