//! Helpers for the tests of the other crates.
//!
//! - [`vectors`] reads and runs the test vectors in `tests/vectors/`.
//! - [`objects`] makes rows of Kubernetes and Calico objects.
//! - [`clusters`] makes random clusters and packets from a seed, changes them, and shrinks a case that fails.
//! - [`namespace`] makes network namespaces that vanish with the test.
//! - [`simulation`] is a network under a virtual clock, with delays, loss and partitions, from a seed.
//! - [`Process`] is killed when the test is over.
//! - [`Pings`] are a stream of pings, none of which may be lost.
//! - [`eventually`] waits for a condition, with a deadline.

pub mod clusters;
pub mod namespace;
pub mod objects;
mod pings;
mod process;
pub mod simulation;
pub mod vectors;
mod waiting;

pub use namespace::{TestNamespace, require_root};
pub use pings::Pings;
pub use process::Process;
pub use waiting::{WAIT_LIMIT, eventually};
