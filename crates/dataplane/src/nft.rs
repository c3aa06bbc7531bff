//! The translation to nf_tables: one table `calico` for each of `ip`, `ip6` and `arp` (datapath.md 4.1, 2.2).
//!
//! # The path of a packet
//! Each side of a packet's path is judged in a base chain of its own, because `accept` ends one base chain and lets the next
//! one on the same hook still speak. So *Allow* is `accept`, in any chain however deep, with no mark and no check after it:
//!
//! | base chain | judges |
//! |---|---|
//! | `raw-PREROUTING` | spoofed sources from workloads; untracked policy of host endpoints |
//! | `mangle-PREROUTING` | pre-DNAT policy of host endpoints |
//! | `filter-INPUT` | what the sender may send to this host: a workload's egress policy, a host endpoint's ingress policy |
//! | `filter-INPUT-to-host` | whether this host takes it from a workload (`DefaultEndpointToHostAction`) |
//! | `filter-FORWARD` | by the interface it came from: a workload's egress policy, a host endpoint's forward policy |
//! | `filter-FORWARD-to` | by the interface it leaves by: a workload's ingress policy, a host endpoint's forward policy |
//! | `filter-FORWARD-services` | what nobody has taken that is addressed to a Service (`ServiceLoopPrevention`) |
//! | `filter-OUTPUT` | host endpoints' egress policy; towards own workloads nothing is judged |
//! | `filter-OUTPUT` of the table of ARP | answers to a workload for its own address |
//! | `mangle-POSTROUTING` | the DSCP of workloads that have one |
//! | `nat-POSTROUTING` | masquerade of pools with natOutgoing |
//!
//! In front of every judgement the same two rules accept packets of known connections and drop invalid ones, then a
//! verdict map finds the endpoint's chain by interface name: the cost for a packet depends neither on the number of
//! endpoints nor on the number of policies of others. A workload interface that is not in the map drops.
//!
//! # What a change costs
//! Members of IP sets are plain set elements. The kernel checks a whole table again only for rules with verdicts and map
//! elements, so label changes and new pods elsewhere never cost that. What it checks is every chain that an element leads to:
//! one that many pods share is cheap. A new local pod costs two map elements, and the chains of its judgement if it is the
//! first; a changed policy its one chain, whatever the number of endpoints it applies to.
//!
//! # Who watches
//! A rule that drops logs to a netlink group first, with its origin as the prefix; of what is allowed, one rule for each base hook
//! logs the first packets, behind all judgements (`filter-…-flows`), and only while somebody wants to know. A log statement
//! costs its packet a quarter of a microsecond even if nobody listens, which is why rules that accept have none.
//!
//! # Identity
//! The table is ours as a whole. Every rule carries its [`calc::program::Origin`] as its comment, and every rule that decides a
//! counter, so counters can be read back by policy rule.

mod base;
mod chain;
mod dscp;
mod names;
mod nat;
mod set;
mod sink;

pub use base::{BASE_DENIALS, BaseRules, base_chains};
pub(crate) use base::{NO_SERVICE, SPOOFED, TO_HOST, UNKNOWN_INTERFACE};
pub(crate) use chain::joined;
pub use chain::translate;
pub(crate) use names::{NameLimits, chain_name_within, hash, shorten};
pub use names::{chain_name, comment, host_map, log_prefix, map, origin_comment};
pub use nat::{Masquerading, nat_outgoing};
pub use set::{members as set_members, spec as set_spec};
pub(crate) use sink::NftRules;
