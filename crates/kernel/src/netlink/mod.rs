//! Netlink sockets: blocking, kept, one for each namespace and protocol.
//!
//! A netlink socket stays bound to the network namespace in which it was opened, whichever thread uses it later, so
//! one that was opened inside ([`Socket::open_in`]) serves a namespace for as long as it is kept.
//!
//! The kernel handles a request inside `send`: when `send` returns, every answer but the later parts of a dump is
//! in the socket's queue. A batch is therefore one `send` of many messages of which only the last asks to be
//! acknowledged; refusals of the others arrive before that acknowledgement, each with its sequence number.
//!
//! Lost answers (`ENOBUFS`) are [`Error::Overrun`]: what was asked may or may not have been done, so the caller
//! reads the state back.

mod error;
pub(crate) mod filter;
mod message;
mod socket;

pub use error::{Errno, Error, Refusal};
pub use message::{Attribute, Message, attributes, flags};
pub use socket::{Protocol, Reply, Socket};
