//! Calico v3 resources: what users write, with defaults, validation, selectors and conversion from Kubernetes objects.

pub mod cni;
mod kind;
pub mod kubernetes;
pub mod selector;
mod stored;
pub mod wire;

pub use kind::Kind;
pub use stored::{AffinityOwner, Key};
