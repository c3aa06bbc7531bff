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
//! - A rule is compiled to the kernel's expressions ([`Expression`]), in the form in which the kernel dumps them, so that
//!   what is read back can be compared with what is wanted, byte order and registers included. What we would never
//!   write is kept as it is and differs from everything.
//! - [`NftTable`] owns one table: what is wanted is set in memory, and `apply` commits the difference as one transaction
//!   over a [`Transport`]: the kernel ([`NftSocket`]), or a strict ruleset in memory ([`Fake`]).
//!
//! ```
//! use kernel::nft::*;
//!
//! // `NftSocket::open()?` for the kernel; clones of one socket for several tables.
//! let mut table = NftTable::new(Fake::new(), Family::Ip, "calico");
//! table.set_set("cali40web", SetKind::hash([DataType::Ipv4Addr]), [std::net::Ipv4Addr::new(10, 0, 0, 1)])?;
//! let allow = Rule::new()
//!     .when(Match::in_set(Field::IpSaddr, "cali40web"))
//!     .when(Match::one_of(Field::TcpDport, [80_u16, 443]))
//!     .counter()
//!     .verdict(Verdict::Accept)
//!     .comment("default/allow-web rule 1");
//! table.set_chain("cali-tw-cali1", vec![allow, Rule::always(Verdict::Drop)])?;
//! table.set_map("dispatch", SetKind::hash([DataType::IfName]), [("cali1", Verdict::goto("cali-tw-cali1"))])?;
//! let applied = table.apply()?;
//! assert!(applied.refused.is_empty());
//! assert_eq!(
//!     table.rules("cali-tw-cali1").into_iter().flatten().next().map(Rule::to_string).as_deref(),
//!     Some(
//!         "ip saddr @cali40web tcp dport { 80, 443 } counter accept comment \"default/allow-web rule 1\""
//!     )
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Races, and how they are met
//! - *Others commit between our reading and our writing.* Every transaction carries the generation that it was planned
//!   for; the kernel refuses it when that has passed, and it is planned anew.
//! - *Others commit all the time, elsewhere.* The kernel's events say which table a generation touched. Only when it was
//!   ours, or events were lost, the table is read back. Our own transactions are never a reason to.
//! - *Others commit while we read.* A reading counts only when the generation is the same before and after it, or the
//!   events tell that nothing of what was read changed between. So others that never stop cannot keep us from reading.
//! - *An answer is lost.* Then the transaction may have been done or not; the table is read back before the next one.
//!
//! # What to mind when changing this
//! - A new kind of expression must be written exactly as the kernel dumps it, or it will be rewritten at every resync.
//!   `tests/nft/expressions.rs` shows that in one line.
//! - Rules with verdicts, and map elements that jump, make the kernel check the whole table again (linear in its rules);
//!   set members do not. Prefer sets and maps, and several small tables.

mod batch;
mod bytes;
#[cfg(test)]
mod codec_tests;
mod compile;
mod connection;
mod decode;
mod diff;
mod dump;
mod encode;
mod error;
mod expression;
mod fake;
mod family;
mod field;
mod listing;
mod monitor;
mod names;
mod plan;
mod quarantine;
mod raw;
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
pub use fake::{Fake, Fault};
pub use family::{BaseChain, ChainType, Family, Hook, Policy, TableId, priority};
pub use field::{FibAddress, FibQuery, FibResult, Field, ct_direction, ct_state, ct_status};
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
