//! A TCP connection: one task that reads, one that writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bgp::{ConnectionId, Endpoints, TransportFailure};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Linux' own limit would be minutes.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long what was sent before a close may take to go out.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 64 * 1024;
const BACKLOG: i32 = 1024;
/// Messages that one write takes at most.
const GATHER: usize = 64;

/// What the tasks tell the worker.
#[derive(Debug)]
pub(super) enum Event {
    /// Someone connected to us.
    Accepted(TcpStream),
    /// A dialled connection is up.
    Connected(ConnectionId, TcpStream),
    /// A dialled connection could not be made.
    ConnectFailed(ConnectionId, TransportFailure),
    /// Bytes from the peer.
    Received(ConnectionId, Vec<u8>),
    /// So many octets have gone into the socket.
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

/// The two ends of a connection.
pub(super) fn endpoints(stream: &TcpStream) -> io::Result<Endpoints> {
    stream.set_nodelay(true)?;
    Ok(Endpoints { local: stream.local_addr()?, remote: stream.peer_addr()? })
}

/// An open connection. Dropped, it stops reading at once, and closes once what was queued is written.
#[derive(Debug)]
pub(super) struct Open {
    outgoing: UnboundedSender<Arc<[u8]>>,
    reader: JoinHandle<()>,
    writer: Option<JoinHandle<()>>,
}

impl Open {
    pub(super) fn start(connection: ConnectionId, stream: TcpStream, events: &Sender<Event>) -> Self {
        let (read, write) = stream.into_split();
        let (outgoing, queue) = unbounded_channel();
        let writer = tokio::spawn(write_all(connection, write, queue, events.clone()));
        let reader = tokio::spawn(read_all(connection, read, events.clone()));
        Self { outgoing, reader, writer: Some(writer) }
    }

    /// Queues bytes. The speaker knows how much a peer has not taken, and holds back.
    pub(super) fn send(&self, bytes: Arc<[u8]>) {
        // A writer that has ended has said why.
        let _ = self.outgoing.send(bytes);
    }

    /// Ends it; what remains is the task that writes what was queued and closes.
    pub(super) fn close(mut self) -> JoinHandle<()> {
        self.writer.take().expect("taken only here")
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
    let mut waiting = VecDeque::new();
    let mut done = 0;
    loop {
        if waiting.is_empty() {
            match queue.recv().await {
                Some(bytes) => waiting.push_back(bytes),
                None => break,
            }
        }
        while let Ok(bytes) = queue.try_recv() {
            waiting.push_back(bytes);
        }
        // A peer that does not read must not keep a connection that is being closed.
        let closing = queue.is_closed();
        let limit = if closing { DRAIN_LIMIT } else { Duration::MAX };
        let written = match timeout(limit, write_some(&mut write, &waiting, done)).await {
            Ok(written) => written,
            Err(_) => return,
        };
        match written {
            Ok(octets) => {
                done = take(&mut waiting, done + octets);
                if !closing && events.send(Event::Written(connection, octets)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = events.send(Event::Closed(connection, failure(&error))).await;
                return;
            }
        }
    }
    let _ = timeout(DRAIN_LIMIT, write.shutdown()).await;
}

/// Writes what fits, of several messages at once; the first `done` octets are written already.
async fn write_some(
    write: &mut OwnedWriteHalf,
    waiting: &VecDeque<Arc<[u8]>>,
    done: usize,
) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = waiting
        .iter()
        .take(GATHER)
        .enumerate()
        .map(|(index, bytes)| IoSlice::new(if index == 0 { &bytes[done..] } else { bytes }))
        .collect();
    match write.write_vectored(&slices).await {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}

/// Drops what is written whole, and gives how much of the first that is left is written.
fn take(waiting: &mut VecDeque<Arc<[u8]>>, mut done: usize) -> usize {
    while let Some(first) = waiting.front()
        && done >= first.len()
    {
        done -= first.len();
        waiting.pop_front();
    }
    done
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

/// A node that is restarted binds the port while connections of its predecessor are still in TIME-WAIT; an IPv6 socket
/// leaves IPv4 to its own.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Why a socket could not be had, in the speaker's words.
pub(super) fn failure(error: &io::Error) -> TransportFailure {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => TransportFailure::Refused,
        Kind::TimedOut => TransportFailure::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable => TransportFailure::Unreachable,
        Kind::UnexpectedEof => TransportFailure::ClosedByPeer,
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => TransportFailure::Reset,
        _ => TransportFailure::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_part_is_remembered() {
        let message = |length: usize| -> Arc<[u8]> { vec![0; length].into() };
        let mut waiting = VecDeque::from([message(10), message(5), message(7)]);
        assert_eq!(take(&mut waiting, 4), 4);
        assert_eq!(take(&mut waiting, 4 + 12), 1);
        assert_eq!(waiting.iter().map(|bytes| bytes.len()).collect::<Vec<_>>(), [7]);
        assert_eq!(take(&mut waiting, 7), 0);
        assert!(waiting.is_empty());
    }
}
