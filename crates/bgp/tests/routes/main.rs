//! What a speaker tells whom: propagation rules, attributes, grouping, refresh, reconfiguration, restarts.

mod bench;
mod kernel;
mod model;
mod paths;
mod propagation;
mod queries;
mod restart;
mod telling;
