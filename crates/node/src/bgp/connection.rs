//! A TCP connection: one task that reads, one that writes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp::{ConnectionId, Endpoints, TransportFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::failure;

/// Linux' own limit would be minutes.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long what was sent before a close may take to go out.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 * 1024;
const BACKLOG: u32 = 1024;

/// What the tasks tell the worker. Its queue is bounded: when the speaker is busy, peers have to wait.
#[derive(Debug)]
pub(super) enum Event {
    /// A dialled connection is up.
    Connected(ConnectionId, TcpStream),
    /// Someone connected to us.
    Accepted(TcpStream),
    /// A dialled connection could not be made.
    ConnectFailed(ConnectionId, TransportFailure),
    /// Bytes from the peer.
    Received(ConnectionId, Vec<u8>),
    /// So many bytes have gone into the socket.
    Written(ConnectionId, usize),
    /// The connection is over.
    Closed(ConnectionId, TransportFailure),
}

/// Dials; the answer comes as an event.
pub(super) fn dial(
    connection: ConnectionId,
    remote: SocketAddr,
    source: Option<IpAddr>,
    events: Sender<Event>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let event = match timeout(CONNECT_LIMIT, connect(remote, source)).await {
            Ok(Ok(stream)) => Event::Connected(connection, stream),
            Ok(Err(error)) => Event::ConnectFailed(connection, failure(&error)),
            Err(_) => Event::ConnectFailed(connection, TransportFailure::TimedOut),
        };
        // The worker is gone only when everything ends.
        let _ = events.send(event).await;
    })
}

async fn connect(remote: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        socket.bind((source, 0).into())?;
    }
    socket.connect(remote).await
}

/// The ends of an established connection, with its own addresses.
pub(super) fn endpoints(stream: &TcpStream) -> io::Result<Endpoints> {
    stream.set_nodelay(true)?;
    Ok(Endpoints { local: plain(stream.local_addr()?), remote: plain(stream.peer_addr()?) })
}

/// An IPv4 address that a dual-stack socket shows as IPv6.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An open connection. Dropped, it stops reading at once, and closes once what was to be sent is sent.
#[derive(Debug)]
pub(super) struct Open {
    outgoing: UnboundedSender<Arc<[u8]>>,
    reader: JoinHandle<()>,
}

impl Open {
    pub(super) fn start(connection: ConnectionId, stream: TcpStream, events: &Sender<Event>) -> Self {
        let (read, write) = stream.into_split();
        let (outgoing, queue) = unbounded_channel();
        tokio::spawn(write_all(connection, write, queue, events.clone()));
        let reader = tokio::spawn(read_all(connection, read, events.clone()));
        Self { outgoing, reader }
    }

    /// Queues bytes. The speaker knows how much a peer has not taken, and holds back.
    pub(super) fn send(&self, bytes: Arc<[u8]>) {
        // A writer that has ended has said why.
        let _ = self.outgoing.send(bytes);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_all(connection: ConnectionId, mut read: OwnedReadHalf, events: Sender<Event>) {
    loop {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        let event = match read.read_buf(&mut bytes).await {
            Ok(0) => Event::Closed(connection, TransportFailure::ClosedByPeer),
            Ok(_) => Event::Received(connection, bytes),
            Err(error) => Event::Closed(connection, failure(&error)),
        };
        let over = matches!(event, Event::Closed(..));
        if events.send(event).await.is_err() || over {
            return;
        }
    }
}

async fn write_all(
    connection: ConnectionId,
    mut write: OwnedWriteHalf,
    mut queue: UnboundedReceiver<Arc<[u8]>>,
    events: Sender<Event>,
) {
    while let Some(bytes) = queue.recv().await {
        let written = match queue.is_closed() {
            // Closing: a peer that does not read must not keep us.
            true => {
                timeout(DRAIN_LIMIT, write.write_all(&bytes)).await.unwrap_or_else(|error| Err(error.into()))
            }
            false => write.write_all(&bytes).await,
        };
        match written {
            Ok(()) if queue.is_closed() => {}
            Ok(()) => drop(events.send(Event::Written(connection, bytes.len())).await),
            Err(error) => {
                let _ = events.send(Event::Closed(connection, failure(&error))).await;
                return;
            }
        }
    }
    let _ = timeout(DRAIN_LIMIT, write.shutdown()).await;
}

/// Listens on an address until the handle is aborted.
pub(super) fn listen(address: SocketAddr, events: Sender<Event>) -> io::Result<JoinHandle<()>> {
    let listener = bind(address)?;
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if events.send(Event::Accepted(stream)).await.is_err() {
                        return;
                    }
                }
                // Out of file descriptors, or a connection that died in the queue.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a BGP connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }))
}

/// A node that is restarted binds the port while connections of its predecessor are still in TIME-WAIT.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Everywhere: IPv6 sockets take IPv4 too, unless the host has no IPv6.
pub(super) fn everywhere(port: u16) -> [SocketAddr; 2] {
    [(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
}
