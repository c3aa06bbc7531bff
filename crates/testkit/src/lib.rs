//! Helpers for the tests of the other crates.
//!
//! - [`vectors`] reads and runs the test vectors in `tests/vectors/`.
//! - [`namespace`] makes network namespaces that vanish with the test.
//! - [`eventually`] waits for a condition, with a deadline.

pub mod namespace;
pub mod vectors;
mod waiting;

pub use namespace::{TestNamespace, require_root};
pub use waiting::{WAIT_LIMIT, eventually};
