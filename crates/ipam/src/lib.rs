//! IP address management: which host owns which block of addresses, and who has which address.
//!
//! # The problem
//! Many hosts take addresses from common pools at the same time, each may die at any moment, and the datastore offers nothing
//! but compare-and-swap on single rows. No address may ever belong to two, none may be lost for good, and the common case
//! (a pod starts, a pod stops) must be cheap.
//!
//! # The approach (Calico's)
//! A pool is divided in blocks; a host claims whole blocks, so that routing needs one route a block and hosts rarely meet.
//! All that matters about an address is in its block's row, so one conditional write assigns or releases it. Other rows are
//! secondary: affinities say which blocks a host has, handles which addresses an owner has; affinity and
//! handle rows are written in an order that leaves them on the safe side when an operation dies (a handle counts too many,
//! never too few; an affinity is `pending`, never wrongly `confirmed`).
//!
//! # The parts
//! - [`Ipam`]: all operations. [`Ipam::auto_assign`] and [`Ipam::release_by_handle`] are what CNI needs.
//! - [`block`]: the arithmetic of a block. [`candidate`]: in which order a host looks at blocks. [`reserved`]: addresses that
//!   are not assigned unasked. All three are pure.
//! - [`IpamError`] is why an operation was not done; [`Shortfall`] why it got less than it wanted.
//!
//! # Races and crashes
//! Every operation decides on rows that it has read itself and makes each write conditional on them; when someone else was
//! faster it reads again, a hundred times at most. Sequence numbers tell an assignment of an address from any later one, so
//! that a slow release cannot hit the next owner. An operation that died leaves nothing that blocks others: the next walk
//! over a host's blocks mends pending claims, and [`Ipam::recover`] the rest.

mod affinity;
mod assign;
mod assign_ip;
pub mod block;
pub mod candidate;
mod config;
mod error;
mod handles;
mod hosts;
mod ipam;
mod owner;
mod pools;
mod query;
mod recover;
mod release;
mod request;
pub mod reserved;
mod rows;

pub use assign_ip::AssignIp;
pub use config::check_config;
pub use error::{Family, IpamError, RejectedPool, Rejection, Shortfall};
pub use hosts::Claimed;
pub use ipam::Ipam;
pub use owner::{Change, Expect, OwnerUpdate};
pub use query::{Assignment, BlockUtilization, PoolUtilization, Usage};
pub use recover::{GRACE_SECS, Leak};
pub use release::{Release, Released};
pub use request::{Assigned, Attributes, AutoAssign, AutoAssigned, HostReserved};
