//! Helpers for the tests of the other crates.
//!
//! [`vectors`] reads and runs the test vectors in `tests/vectors/`.

pub mod vectors;
