//! Cluster state to this node's desired state, incrementally, and the reference policy evaluator.

pub mod contract;
pub mod evaluator;
pub mod program;
