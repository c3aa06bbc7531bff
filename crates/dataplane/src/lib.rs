//! Desired state to kernel objects: rule rendering, managers and the apply loop.
//!
//! # Calling order
//! [`Dataplane::on_change`], the link, route and address events, [`Dataplane::set_blocks`] and [`Dataplane::bgp_routes`] only change
//! what is wanted, in memory; [`Dataplane::apply`] brings the kernel there and says when it wants to be called again. Nothing is
//! touched before [`calc::contract::Change::InSync`]. [`Dataplane::resync`], called periodically, repairs what others changed.
//!
//! # What it promises
//! - Each family's rules change in one transaction; when the kernel refuses it the last ruleset stays in force, and endpoints that
//!   it does not know carry no traffic (fail closed). Routes stay as they are (fail static).
//! - Rules come before routes: an address is reachable only once the endpoint's policy is in force.
//! - An address goes from one workload to another only after the routes to the first one and its connections are gone.
//! - A second apply writes nothing, nor does the first one of a restarted node that finds what it wants.
//! - What fails is tried again, without holding up what does not depend on it.
//!
//! # Modules
//! - [`backend`]: what enforces the rule program, as the managers see it
//! - [`nft`]: the translation of the rule program to nf_tables; how tables are laid out and why
//! - [`iptables`]: its translation to iptables and ipset
//! - [`ip_sets`]: members by family and shape
//! - [`config`]: the Felix parameters that matter here
//! - [`judge`]: which rules have decided about a packet that was logged
//! - [`Dataplane`]: the apply loop; [`ApplyReport`] what it did

mod arp;
pub mod backend;
mod choice;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
pub mod config;
mod dataplane;
mod family;
pub mod ip_sets;
pub mod iptables;
pub mod judge;
mod model;
pub mod nft;
mod owners;
mod report;
mod rules;
mod table;

pub use config::{DataplaneConfig, Parameters};
pub use dataplane::{BgpRoutes, Dataplane, Kernel, OpenError, RealDataplane};
pub use report::{ApplyError, ApplyReport};
