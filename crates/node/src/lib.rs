//! The per-node daemon.

pub mod autodetect;
pub mod config;
pub mod felix;
pub mod health;
pub mod http;
pub mod startup;
