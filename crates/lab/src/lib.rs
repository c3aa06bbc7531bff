//! `tortie lab`: N hosts on one machine, each a network namespace with a real node, on a fabric of their own.
//!
//! [`topology`] says who is where, [`fabric`] makes the wires, [`process`] runs the nodes, [`pods`] calls the CNI plugin
//! as a container runtime does; [`lifecycle`] ties them together, [`state`] remembers. [`demo`] is the main job proven
//! end to end with the [`probe`]s.

mod cli;
mod demo;
mod fabric;
mod lifecycle;
mod pods;
mod probe;
mod process;
mod state;
mod topology;

pub use cli::{LabArgs, run};
