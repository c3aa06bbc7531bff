//! What a speaker tells whom: propagation rules, attributes, grouping, refresh, reconfiguration, restarts.

mod aggregates;
mod bench;
mod dumps;
mod handover;
mod kernel;
mod long_lived;
mod model;
mod options;
mod paths;
mod propagation;
mod queries;
mod restart;
mod stations;
mod telling;
mod watched;
