//! End to end: labs, and what happens to their nodes. All in network namespaces; needs root.
//!
//! Every wait has a deadline and ends as soon as what is waited for is there.

mod addresses;
mod bgp;
mod bgp_questions;
mod confirm;
mod datastore;
mod demo;
mod explain;
mod flows;
mod health;
mod host;
mod lab;
mod labs;
mod policy_kinds;
mod reflection;
mod repair;
mod restart;
mod start;
mod workload_peers;
