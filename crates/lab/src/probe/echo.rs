//! Servers that send back what they get, and the question whether one can be reached.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use kernel::netns::Netns;

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
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
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
        let stop = Arc::new(AtomicBool::new(false));
        let threads = vec![
            std::thread::spawn({
                let stop = stop.clone();
                move || serve_tcp(&tcp, &stop)
            }),
            std::thread::spawn({
                let stop = stop.clone();
                move || serve_udp(&udp, &stop)
            }),
        ];
        Ok(Self { stop, threads })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that panicked has already said so.
            let _ = thread.join();
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = stop.clone();
                std::thread::spawn(move || echo(stream, &stop));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
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
