//! The per-node daemon
