//! Policy is proven packet by packet: what the kernel does with real packets is what the resources say, whatever the backend.
//!
//! `truth` are the vectors, `clusters` random clusters from a seed, `changes` a cluster that changes while packets flow.

mod changes;
mod clusters;
mod packets;
mod reference;
mod stage;
mod truth;
