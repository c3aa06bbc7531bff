//! What the BGP speaker of this node should do: a function of the datastore's rows (control-plane.md 3.1 to 3.3).
//!
//! [`BgpPlanner`] keeps the few rows that matter (nodes, BGP configurations and peers, pools, this node's block affinities
//! and workloads, the labels that profiles lend these) and makes the [`BgpPlan`] anew whenever one of them has changed: a plan is small, and whole plans can
//! be compared.
//!
//! Sessions come from four sources: the node-to-node mesh, peers of this node, global peers, and workloads of this node
//! that speak BGP. A session that two sources ask for (same address and port) is made once, as the more special of them
//! says. One address family per session, as Calico makes it.
//!
//! Originated prefixes follow from IPAM, not from the kernel's routes: the blocks that this node owns, addresses of services,
//! of its workloads and tunnels. All of them are offered; what is told to a peer is the business of its export policy, which
//! has the `BGPFilter`s first and then Calico's own rules. The speaker's policies are made here, as data.
//!
//! What resources ask for and cannot be had is a [`Problem`] in the plan, never silence.

mod aggregates;
mod changes;
mod filter_tests;
mod filters;
mod originate;
mod peers;
mod planner;
mod policy;
mod problems;
mod reflection;
mod services;
mod session_watch;
mod speaker;
mod stations;
mod types;
mod workloads;

pub use changes::{
    AddressChange, AnnouncementChange, AnnouncementEffect, PlanChanges, SessionChange, SessionEffect,
};
pub use filter_tests::{ANNOTATION as FILTER_TESTS, FilterTestError, check_filter};
pub use planner::{BgpPlanner, RouterIdSource, Tunnels};
pub use problems::Problem;
pub use services::{Service, ServiceEndpoints};
pub use session_watch::SessionWatch;
pub use speaker::Passwords;
pub use types::{
    BgpPlan, Listen, NextHop, Originated, OriginatedKind, PasswordRef, Peer, PeerSource, ReflectionPlan,
    ReflectionRole, SessionFeedback, StaticRoute, label,
};

#[cfg(test)]
mod tests;
