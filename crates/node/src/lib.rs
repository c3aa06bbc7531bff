//! The per-node daemon: start-up, the agent with its dataplane, BGP, the CNI server, health and metrics.
//!
//! [`run()`] puts the parts together; each part is a module that knows the others only by its handle. The threads and
//! their queues are drawn in ARCHITECTURE.md.

mod addresses;
mod agent;
mod auto_host_endpoints;
pub mod autodetect;
mod bfd;
mod bgp;
mod cni;
pub mod config;
mod confirmation;
pub mod felix;
mod flows;
mod handover;
pub mod health;
mod http;
mod instance;
mod logging;
mod node_status;
mod packet;
mod recovery;
mod reflector;
mod rounds;
mod run;
mod signals;
pub mod speaker;
pub mod startup;
mod status;
mod telemetry;
mod unbuilt;

pub use reflector::{ReflectorArgs, run as run_reflector};
pub use run::{EXIT_CANNOT_START, EXIT_RULESET_REFUSED, NodeArgs, run};
