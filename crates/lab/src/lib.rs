//! `tortie lab`: N hosts on one machine, each a network namespace with a real node, on a fabric of their own.
//!
//! [`topology`] says who is where, [`fabric`] makes the wires, [`node`] runs the nodes, [`pods`] calls the CNI plugin as a
//! container runtime does; [`lifecycle`] ties them together, [`state`] remembers, [`process`] finds again what runs, and
//! [`privilege`] gets by without root. [`cli`] are the verbs and [`commands`] what they do, [`faults`] what can go wrong on purpose. [`demo`] is the main job
//! proven end to end with the [`probe`]s.

mod cli;
mod commands;
mod demo;
mod fabric;
mod faults;
mod interrupt;
mod lifecycle;
mod node;
mod output;
mod pods;
mod privilege;
mod probe;
mod process;
mod state;
mod topology;

pub use cli::{LabArgs, run};
