//! Traffic between namespaces and what came of it: the proofs of `lab demo`, with nothing but sockets.
//!
//! A socket belongs to the namespace that it was opened in, so each is opened inside and used from here.

mod capture;
mod echo;
mod ping;
mod stream;

pub use capture::{Capture, Seen};
pub use echo::{EchoServer, Transport, reaches};
pub use ping::{PingStream, ping};
pub use stream::TcpStreamProbe;
