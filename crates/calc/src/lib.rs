//! Cluster state to this node's desired state, incrementally, and the reference policy evaluator.
//!
//! - [`Graph`] takes rows of the datastore and gives [`contract::Change`]s: policies, IP sets, endpoints and routes.
//! - [`contract`] has the types that the dataplane consumes; they know neither the datastore nor the kernel.
//! - [`reflection`] chooses route reflectors among the nodes.
//! - [`bgp_plan`] makes the plan of the BGP speaker from the same rows.
//! - [`cluster`] is the whole cluster as rows, and what a node makes of it; [`explain`] says why a packet passes or does not,
//!   [`reach`] who can reach an endpoint.
//! - [`flow_plan`] says what a change does to flows that were seen.
//! - [`program`] renders policy to a rule program for any backend; [`evaluator`] interprets such a program.
//!
//! Everything here is pure and synchronous: no clock, no I/O, no randomness. Equal rows give equal state, in whatever
//! order and batches they come.

pub mod bgp_plan;
mod blocks;
pub mod cluster;
mod compile;
pub mod contract;
mod convert;
mod endpoints;
pub mod evaluator;
pub mod explain;
mod felix_config;
pub mod flow_plan;
mod graph;
mod ip_sets;
mod label_index;
mod names;
mod policies;
mod pools;
mod profiles;
pub mod program;
mod published;
pub mod reach;
pub mod reflection;
mod routes;
mod services;
mod slab;

pub use compile::CompileError;
pub use convert::workload_id;
pub use felix_config::felix_parameters;
pub use graph::{Graph, GraphConfig, Problem, RouteSource};
pub use services::EndpointSlice;
