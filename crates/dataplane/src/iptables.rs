//! The translation to iptables and ipset, for hosts that need them: the second [`Backend`](crate::backend::Backend).
//!
//! # The path of a packet
//! In iptables a verdict ends the whole table, so each side of a packet's path cannot have a base chain of its own. *Allow* sets
//! the accept mark and returns, and whoever jumped looks at the mark, as Calico does it (datapath.md 4). The dispatch of each
//! side clears the mark before its judgement.
//!
//! | chain of ours | called from | does |
//! |---|---|---|
//! | raw `cali-PREROUTING` | PREROUTING | clears the marks; spoofed sources (`cali-rpf-skip`); untracked policy |
//! | raw `cali-OUTPUT` | OUTPUT | untracked policy |
//! | mangle `cali-PREROUTING` | PREROUTING | pre-DNAT policy |
//! | filter `cali-INPUT` | INPUT | `cali-wl-to-host`: a workload's egress policy, then `DefaultEndpointToHostAction`; host endpoints |
//! | filter `cali-FORWARD` | FORWARD | both sides one after the other; `cali-cidr-block` |
//! | filter `cali-OUTPUT` | OUTPUT | host endpoints' egress policy; towards own workloads nothing is judged |
//! | nat `cali-POSTROUTING` | POSTROUTING | `cali-nat-outgoing` |
//!
//! Policies, profiles and judgements have a chain each, as with nf_tables, in the tables whose stage they belong to. From an
//! interface to its chain lead trees over the characters of its name ([`dispatch`]). What is forwarded and accepted meets
//! a last rule of ours at the end of FORWARD, behind the rules of others.
//!
//! # Identity
//! Chains begin with `cali-`, sets with `cali4` or `cali6`. Each rule has a comment `cali:` with a hash of chain and text, by
//! which a restarted process knows what is there, and what others have changed; rules that decide have their
//! [`calc::program::Origin`] as a second comment.
//!
//! # How it is written
//! [`tables`] and [`sets`] compare what is wanted with what is there and write only the difference: sets first, then one
//! `iptables-restore --noflush` a family, in which each table is one atomic commit, then the sets that are no longer named.
//! Read is what `iptables-save` and `ipset save` say: at the start, a while after each write, when the node asks, and after a
//! failure. [`tools`] runs the programs; all else is pure.

mod dispatch;
mod hooks;
mod names;
mod rule;
mod sets;
mod sink;
mod tables;
#[cfg(test)]
mod tests;
pub mod tools;
mod variant;

pub(crate) use sink::Iptables;
