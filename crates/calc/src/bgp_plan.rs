//! What the BGP speaker of this node should do: a function of the datastore's rows (control-plane.md 3.1 to 3.3).
//!
//! [`BgpPlanner`] keeps the few rows that matter (nodes, BGP configurations and peers, pools, this node's block affinities
//! and workloads) and makes the [`BgpPlan`] anew whenever one of them has changed: a plan is small, and whole plans can
//! be compared.
//!
//! Sessions come from four sources: the node-to-node mesh, peers of this node, global peers, and workloads of this node
//! that speak BGP. A session that two sources ask for (same address and port) is made once, as the more special of them
//! says. One address family per session, as Calico makes it.
//!
//! Originated prefixes follow from IPAM, not from the kernel's routes: the blocks that this node owns, and the addresses of
//! its workloads and tunnels outside of those, as far as pools allow.

mod originate;
mod peers;
mod planner;
mod types;

pub use planner::{BgpPlanner, RouterIdSource};
pub use types::{BgpPlan, Listen, NextHop, PasswordRef, Peer, PeerSource, StaticRoute};

#[cfg(test)]
mod tests;
