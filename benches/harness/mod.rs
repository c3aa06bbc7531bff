//! What the subjects share: a host with a node, rows to load it with, the kernel's events, and statistics.

pub(crate) mod bits;
pub(crate) mod cluster;
pub(crate) mod cpu;
pub(crate) mod host;
pub(crate) mod interrupt;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod netlink;
pub(crate) mod nft_events;
pub(crate) mod route_events;
pub(crate) mod sample;
