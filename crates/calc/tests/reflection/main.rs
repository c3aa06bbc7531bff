//! Nodes that choose their own route reflectors: planners and speakers of whole clusters under a virtual clock, with joins,
//! leaves, partitions and restarts, from seeds that are printed. No route may go that has a live path.

mod scenarios;
mod world;
