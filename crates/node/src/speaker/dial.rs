//! A connection that is being made.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bgp::{Transport, TransportFailure};
use kernel::tcp::{self, Dropped};
use rustix::io::Errno;
use socket2::Socket;

use super::{neighbour, transport};

/// A socket whose connect(2) has not come to an end.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) socket: Socket,
    pub(super) until: Instant,
    transport: Transport,
    /// What the kernel had dropped when it began.
    before: Dropped,
}

/// How dialling went on.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Not decided yet.
    Waiting(Dial),
    /// It is up.
    Connected(TcpStream),
    /// It failed.
    Failed(TransportFailure),
}

impl Dial {
    /// Begins.
    ///
    /// # Errors
    /// It has failed already.
    pub(super) fn start(
        remote: SocketAddr,
        source: Option<IpAddr>,
        transport: Transport,
        limit: Duration,
    ) -> Result<Self, TransportFailure> {
        let remote = match (&transport.interface, remote.ip().is_unspecified()) {
            (Some(interface), true) => SocketAddr::new(neighbour::on(interface)?.into(), remote.port()),
            _ => remote,
        };
        let remote = transport::with_scope(remote, &transport)?;
        let socket = transport::dialling_socket(remote, source, &transport)?;
        let before = tcp::dropped().unwrap_or_default();
        match socket.connect(&remote.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(transport::failure(&error)),
        }
        Ok(Self { socket, until: Instant::now() + limit, transport, before })
    }

    /// The socket has something to say.
    pub(super) fn look(self) -> Outcome {
        let error = match self.socket.take_error() {
            Ok(None) => match self.socket.peer_addr() {
                Ok(_) => return Outcome::Connected(self.socket.into()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Outcome::Waiting(self),
                Err(error) => error,
            },
            Ok(Some(error)) | Err(error) => error,
        };
        Outcome::Failed(match transport::failure(&error) {
            TransportFailure::TimedOut => self.timed_out(),
            failure => failure,
        })
    }

    /// Nobody answered, or nobody that the kernel let through.
    pub(super) fn timed_out(&self) -> TransportFailure {
        let now = tcp::dropped().unwrap_or_default();
        if self.transport.ttl_security.is_some() && now.too_far > self.before.too_far {
            TransportFailure::TooFarAway
        } else if self.transport.authentication.is_some() || now.unsigned > self.before.unsigned {
            TransportFailure::Unsigned
        } else {
            TransportFailure::TimedOut
        }
    }
}
