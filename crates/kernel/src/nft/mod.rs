//! nf_tables over netlink: a typed model, an encoder, a decoder, and a reconciler for one table.
//!
//! # The problem
//! Policy is a ruleset that changes a few rules or set members at a time, on a host where other programs keep rulesets
//! of their own, where people edit by hand, and where every packet passes through what we write. The `nft` program costs
//! milliseconds for each change and cannot be told what the kernel should look like, only what to do.
//!
//! # The approach
//! - [`Rule`], [`Match`], [`Statement`], [`SetKind`] and [`Member`] say what the nft manual says, typed. `Display` writes
//!   what `nft list ruleset` would.
//! - A rule is compiled to the kernel's expressions, in the form in which the kernel dumps them, so that what is read
//!   back can be compared with what is wanted, byte order and registers included.

mod batch;
mod bytes;
mod compile;
mod decode;
mod diff;
mod encode;
mod error;
mod expression;
mod family;
mod field;
mod monitor;
mod names;
mod plan;
mod quarantine;
mod rule;
mod set;
mod socket;
mod statement;
mod table;
mod text;
mod tracker;
mod transport;
mod value;
mod wire;

pub use bytes::Bytes;
pub use decode::Count;
pub use encode::SetSchema;
pub use error::{InvalidRule, NftError, Refusal};
pub use expression::{AnonymousSet, Expression, NatRegisters, Register, RuleBody, SetRef};
pub use family::{BaseChain, ChainType, Family, Hook, Policy, TableId, priority};
pub use field::{FibAddress, FibQuery, FibResult, Field, ct_state, ct_status};
pub use rule::Rule;
pub use set::{Element, SetKind};
pub use socket::NftSocket;
pub use statement::{
    Limit, LimitUnit, Log, LogTarget, Masquerade, Match, Nat, NatFlags, Pattern, Reject, SetMark, Statement,
    Verdict,
};
pub use table::{Applied, NftTable};
pub use transport::{
    ChainBase, ChainState, Committed, CompiledRule, Operation, RuleCount, RuleState, SetState, TableState,
    Transport,
};
pub use value::{DataType, Member, Part, Value};
