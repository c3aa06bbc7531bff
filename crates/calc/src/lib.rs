//! Cluster state to this node's desired state, incrementally, and the reference policy evaluator.

pub mod contract;
pub mod evaluator;
pub mod program;

mod ip_sets;
mod label_index;
mod names;
mod policies;
mod published;
mod routes;
mod services;
mod slab;
