//! calicoctl over a datastore file, verb by verb.

mod bad_input;
mod bgp;
mod bgp_plan;
mod confirm;
mod delete;
mod explain;
mod flows;
mod get;
mod ipam;
mod label;
mod patch;
mod policy;
mod policy_kinds;
mod policy_plan;
mod status;
mod world;
mod write;
