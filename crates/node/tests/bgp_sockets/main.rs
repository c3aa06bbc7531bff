//! What the sockets of BGP sessions do in a real kernel: speakers of ours in network namespaces of their own.

mod flood;
mod limits;
mod security;
mod unnumbered;
mod world;
