//! Helpers for the tests of the other crates.
//!
//! - [`vectors`] reads and runs the test vectors in `tests/vectors/`.
//! - [`namespace`] makes network namespaces that vanish with the test.

pub mod namespace;
pub mod vectors;

pub use namespace::{TestNamespace, require_root};
