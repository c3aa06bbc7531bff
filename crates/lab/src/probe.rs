//! Traffic between namespaces and what came of it: the proofs of `lab demo`, with nothing but sockets.
//!
//! A socket belongs to the namespace that it was opened in, so each is opened inside and used from here.

mod capture;
mod echo;
mod ping;
mod stream;
mod worker;

pub(crate) use capture::{Capture, Seen, Watch};
pub(crate) use echo::{Attempts, EchoServer, Transport, reaches};
pub(crate) use ping::{PingStream, ping};
pub(crate) use stream::TcpStreamProbe;
