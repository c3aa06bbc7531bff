//! ICMP echo over a raw socket, once or as a stream that counts its losses.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kernel::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};

use super::worker::Worker;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// Longest time that a reply may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends one echo request from a namespace and waits for its reply.
///
/// # Errors
/// No reply within the time limit, or no socket.
pub(crate) fn ping(from: &Netns, target: Ipv4Addr, limit: Duration) -> Result<Duration> {
    let socket = EchoSocket::open(from, target)?;
    let start = Instant::now();
    socket.send(1)?;
    while start.elapsed() < limit {
        if socket.receive(limit.saturating_sub(start.elapsed()))? == Some(1) {
            return Ok(start.elapsed());
        }
    }
    bail!("no reply from {target} within {} ms", limit.as_millis())
}

static NEXT_IDENTIFIER: AtomicU16 = AtomicU16::new(0x7401);

struct EchoSocket {
    socket: Socket,
    target: SocketAddr,
    identifier: u16,
}

impl EchoSocket {
    fn open(from: &Netns, target: Ipv4Addr) -> Result<Self> {
        let socket = from
            .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?
            .context("cannot open an ICMP socket")?;
        // Distinguishes our replies from those to other probes in the same namespace.
        let identifier = NEXT_IDENTIFIER.fetch_add(1, Ordering::Relaxed);
        Ok(Self { socket, target: SocketAddr::new(IpAddr::V4(target), 0), identifier })
    }

    fn send(&self, sequence: u16) -> Result<()> {
        let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
        packet.extend(self.identifier.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend([0x74; 16]);
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        self.socket.send_to(&packet, &self.target.into()).map(drop).context("cannot send an echo request")
    }

    /// The sequence number of a reply to us; `None` when none came in time, or something else came.
    fn receive(&self, limit: Duration) -> Result<Option<u16>> {
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
        let mut packet = [0; 256];
        match (&self.socket).read(&mut packet) {
            Ok(length) => Ok(self.reply_sequence(&packet[..length])),
            Err(error) if timed_out(&error) => Ok(None),
            Err(error) => Err(error).context("cannot receive echo replies"),
        }
    }

    /// An IPv4 raw socket delivers the IP header too.
    fn reply_sequence(&self, packet: &[u8]) -> Option<u16> {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let icmp = packet.get(header..header + 8)?;
        let ours = icmp[0] == ECHO_REPLY && icmp[4..6] == self.identifier.to_be_bytes();
        ours.then(|| u16::from_be_bytes([icmp[6], icmp[7]]))
    }
}

fn timed_out(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// A stream of echo requests at a fixed rate, which remembers every reply.
pub(crate) struct PingStream {
    sender: Worker<Result<u16>>,
    receiver: Worker<Result<BTreeSet<u16>>>,
}

impl PingStream {
    /// Starts sending, one request every `interval`.
    ///
    /// # Errors
    /// No socket.
    pub(crate) fn start(from: &Netns, target: Ipv4Addr, interval: Duration) -> Result<Self> {
        let sending = Arc::new(EchoSocket::open(from, target)?);
        let receiving = sending.clone();
        Ok(Self {
            sender: Worker::start(move |stop| send_until(&sending, stop, interval)),
            receiver: Worker::start(move |stop| receive_until(&receiving, stop)),
        })
    }

    /// Stops, waits for the last replies, and tells how many requests were sent and how many had no reply.
    ///
    /// # Errors
    /// A request could not be sent at all, which counts as much as a loss.
    pub(crate) fn finish(self) -> Result<(usize, usize)> {
        let sent = self.sender.finish()??;
        let received = self.receiver.finish()??;
        let lost = (1..=sent).filter(|sequence| !received.contains(sequence)).count();
        Ok((usize::from(sent), lost))
    }
}

fn send_until(socket: &EchoSocket, stop: &AtomicBool, interval: Duration) -> Result<u16> {
    let start = Instant::now();
    let mut sequence = 0;
    // One at least: a stream that is stopped at once has still been one.
    loop {
        sequence += 1;
        socket.send(sequence)?;
        // Against the start, so that the rate does not drift.
        let due = start + interval * u32::from(sequence);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) || sequence == u16::MAX {
            return Ok(sequence);
        }
    }
}

fn receive_until(socket: &EchoSocket, stop: &AtomicBool) -> Result<BTreeSet<u16>> {
    let mut received = BTreeSet::new();
    let mut last_chance = None;
    loop {
        received.extend(socket.receive(Duration::from_millis(50))?);
        if stop.load(Ordering::Relaxed) {
            let until = *last_chance.get_or_insert(Instant::now() + PATIENCE);
            if Instant::now() >= until {
                return Ok(received);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&example), !0xddf2);
        assert_eq!(checksum(&[0xff]), !0xff00);
    }

    #[test]
    fn a_namespace_answers_its_own_ping_and_nobody_else_does() {
        testkit::require_root();
        let namespace = Netns::make().unwrap();
        let mut rtnetlink = kernel::Rtnetlink::open_in(&namespace).unwrap();
        let lo = rtnetlink.links().unwrap()[0].name.clone();
        rtnetlink.change_link(&lo, &kernel::link::LinkChange::up()).unwrap();
        ping(&namespace, Ipv4Addr::LOCALHOST, Duration::from_secs(5)).unwrap();
        let stream = PingStream::start(&namespace, Ipv4Addr::LOCALHOST, Duration::from_millis(5)).unwrap();
        ping(&namespace, Ipv4Addr::LOCALHOST, Duration::from_secs(5)).unwrap();
        let (sent, lost) = stream.finish().unwrap();
        assert!(sent > 0 && lost == 0, "{lost} of {sent} lost");
        assert!(ping(&namespace, Ipv4Addr::new(192, 0, 2, 1), Duration::from_millis(50)).is_err());
    }
}
