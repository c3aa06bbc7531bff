//! Servers that send back what they get, and the question whether one can be reached.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::netns::Netns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::worker::Worker;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP: a connection is made, and data comes back.
    Tcp,
    /// UDP: a datagram comes back.
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// How long a blocking call waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(50);
const PAYLOAD: &[u8] = b"tortoiseshell";

/// A TCP and a UDP server on one port in a namespace, until dropped.
pub(crate) struct EchoServer {
    #[expect(dead_code, reason = "they serve for as long as they are held")]
    servers: [Worker<()>; 2],
}

impl EchoServer {
    /// Listens on a port, on all addresses of the namespace.
    ///
    /// # Errors
    /// The port is taken.
    pub(crate) fn start(namespace: &Netns, port: u16) -> Result<Self> {
        let (tcp, udp) = namespace
            .run(|| -> io::Result<_> {
                Ok((TcpListener::bind(("0.0.0.0", port))?, UdpSocket::bind(("0.0.0.0", port))?))
            })?
            .with_context(|| format!("cannot listen on port {port}"))?;
        tcp.set_nonblocking(true)?;
        udp.set_read_timeout(Some(TICK))?;
        let servers = [
            Worker::start(move |stop| serve_tcp(&tcp, stop)),
            Worker::start(move |stop| serve_udp(&udp, stop)),
        ];
        Ok(Self { servers })
    }
}

/// Its connections end with it.
fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    std::thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(move || echo(stream, stop))),
                Err(_) => wait_for_news(listener),
            }
        }
    });
}

fn wait_for_news(listener: &TcpListener) {
    let mut polled = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
    let limit = Timespec::try_from(TICK).unwrap_or_default();
    // Whatever comes of it, the next accept tells.
    let _ = poll(&mut polled, Some(&limit));
}

fn echo(mut stream: TcpStream, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    if stream.set_nonblocking(false).is_err() || stream.set_read_timeout(Some(TICK)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // A reply that cannot be sent is a packet lost, which is what the other end measures.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Whether a server answers within a time limit. Each call is a new connection, from a new port.
pub(crate) fn reaches(
    from: &Netns,
    transport: Transport,
    target: Ipv4Addr,
    port: u16,
    limit: Duration,
) -> bool {
    let target = SocketAddr::from((target, port));
    let attempt = || match transport {
        Transport::Tcp => tcp_round_trip(target, limit),
        Transport::Udp => udp_round_trip(target, limit),
    };
    matches!(from.run(attempt), Ok(Ok(())))
}

/// Connections that are tried one after the other, all the time.
pub(crate) struct Attempts(Worker<usize>);

impl Attempts {
    /// Begins.
    pub(crate) fn start(from: Netns, transport: Transport, target: Ipv4Addr, port: u16) -> Self {
        const LIMIT: Duration = Duration::from_millis(40);
        Self(Worker::start(move |stop| {
            let mut tried = 0;
            while !stop.load(Ordering::Relaxed) {
                reaches(&from, transport, target, port, LIMIT);
                tried += 1;
            }
            tried
        }))
    }

    /// How many there were.
    ///
    /// # Errors
    /// The thread panicked.
    pub(crate) fn finish(self) -> Result<usize> {
        self.0.finish()
    }
}

fn tcp_round_trip(target: SocketAddr, limit: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(PAYLOAD)?;
    stream.read_exact(&mut [0; PAYLOAD.len()])
}

fn udp_round_trip(target: SocketAddr, limit: Duration) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(target)?;
    socket.send(PAYLOAD)?;
    socket.recv(&mut [0; PAYLOAD.len()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_while_it_serves_and_not_afterwards() {
        testkit::require_root();
        let namespace = Netns::make().unwrap();
        let mut rtnetlink = kernel::Rtnetlink::open_in(&namespace).unwrap();
        let lo = rtnetlink.links().unwrap()[0].name.clone();
        rtnetlink.change_link(&lo, &kernel::link::LinkChange::up()).unwrap();
        let reached =
            |transport| reaches(&namespace, transport, Ipv4Addr::LOCALHOST, 8080, Duration::from_secs(5));
        let server = EchoServer::start(&namespace, 8080).unwrap();
        assert!(reached(Transport::Tcp) && reached(Transport::Udp));
        drop(server);
        assert!(!reached(Transport::Tcp) && !reached(Transport::Udp));
    }
}
