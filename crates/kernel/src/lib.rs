//! Everything that touches Linux: links, addresses, neighbours, routes, sysctls, network namespaces and nf_tables.
//!
//! Each kind of kernel object has one writer, a reconciler: the desired state is set (memory only), the actual
//! state is read back, and `apply` makes the smallest change between them. What is ours is told by the marks in
//! [`ownership`], never by resemblance; everything else is foreign and is left alone.
//!
//! - [`monitor`]: events from the kernel
//! - [`fake`]: a strict kernel in memory, with faults on order
//! - [`netlink`]: blocking sockets, one for each namespace and protocol, batches, the kernel's own error texts
//! - [`netns`]: network namespaces, named and unnamed, and running code inside
//! - [`userns`]: root over one's own namespaces, for whoever is not root
//! - [`nflog`]: packets that rules have logged
//! - [`nft`]: nf_tables: typed rules and sets, encoder, decoder, and the reconciler for a table
//! - [`ownership`]: every mark by which a restarted process knows its own objects
//! - [`Rtnetlink`]: a socket for [`link`], [`address`], [`neighbour`] and [`route`]
//! - [`datagram`]: UDP packets with their hop limit
//! - [`conntrack`]: tracked connections, and forgetting those of an address
//! - [`route::RouteTable`]: the one writer of the main table
//! - [`pod`]: the plumbing of a workload
//! - [`interface`]: what the agent keeps as it should be on workloads' interfaces
//! - [`sysctl`]: settings below `/proc/sys`
//! - [`tcp`]: signatures, TTL security and first segments of TCP sockets
//! - [`passing`]: messages with open files, to another process
//! - [`memory`]: the process's own heap
//! - [`delta`]: what is wanted beside what is there

pub mod address;
pub mod conntrack;
pub mod datagram;
pub mod delta;
pub mod fake;
pub mod interface;
pub mod link;
pub mod memory;
pub mod monitor;
mod name;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nflog;
pub mod nft;
pub mod ownership;
pub mod passing;
pub mod pod;
pub mod route;
mod rtnetlink;
pub mod shaping;
mod sys;
pub mod sysctl;
pub mod tcp;
pub mod userns;

pub use name::{InterfaceName, InvalidInterfaceName, InvalidMacAddress, MacAddress};
pub use rtnetlink::Rtnetlink;
