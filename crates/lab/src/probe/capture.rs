//! What passes through a namespace's links: IPv4 packets with their addresses, protocol and TTL.

use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};

use super::worker::Worker;

/// How long a blocking call waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(20);
/// linux/if_ether.h, in network order: every protocol.
const ETH_P_ALL: u16 = 0x0003;

/// An IPv4 packet as it was on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
}

/// A packet socket that hears all links of a namespace.
pub(crate) struct Capture(Socket);

impl Capture {
    /// Begins to listen.
    ///
    /// # Errors
    /// No packet socket: that needs CAP_NET_RAW.
    pub(crate) fn start(namespace: &Netns) -> Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = namespace
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol)))?
            .context("cannot open a packet socket")?;
        socket.set_read_timeout(Some(TICK))?;
        Ok(Self(socket))
    }

    /// Reads until a packet satisfies `wanted`, or the time is over.
    ///
    /// # Errors
    /// The socket fails.
    pub(crate) fn find(&mut self, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Option<Seen>> {
        let deadline = Instant::now() + limit;
        let mut frame = [0; 2048];
        while Instant::now() < deadline {
            match self.0.read(&mut frame) {
                Ok(length) => {
                    if let Some(seen) = read_frame(&frame[..length]).filter(&wanted) {
                        return Ok(Some(seen));
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error).context("cannot read captured packets"),
            }
        }
        Ok(None)
    }
}

/// Counts packets all the time.
pub(crate) struct Watch(Worker<Result<usize>>);

impl Watch {
    /// Begins to count those that are wanted.
    ///
    /// # Errors
    /// No packet socket.
    pub(crate) fn start(namespace: &Netns, wanted: impl Fn(&Seen) -> bool + Send + 'static) -> Result<Self> {
        let mut capture = Capture::start(namespace)?;
        Ok(Self(Worker::start(move |stop| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += usize::from(capture.find(TICK, &wanted)?.is_some());
            }
            Ok(count)
        })))
    }

    /// How many there were.
    ///
    /// # Errors
    /// The socket failed.
    pub(crate) fn finish(self) -> Result<usize> {
        self.0.finish()?
    }
}

/// An Ethernet frame that carries IPv4 without a VLAN tag.
fn read_frame(frame: &[u8]) -> Option<Seen> {
    let ip = frame.get(14..34)?;
    if frame[12..14] != [0x08, 0x00] || ip[0] >> 4 != 4 {
        return None;
    }
    let address = |offset: usize| Ipv4Addr::new(ip[offset], ip[offset + 1], ip[offset + 2], ip[offset + 3]);
    Some(Seen { source: address(12), destination: address(16), protocol: ip[9], ttl: ip[8] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_and_anything_else_is_none() {
        let mut frame = vec![0; 34];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[14 + 8] = 63;
        frame[14 + 9] = 1;
        frame[26..30].copy_from_slice(&[10, 65, 0, 1]);
        frame[30..34].copy_from_slice(&[10, 65, 1, 1]);
        let seen = read_frame(&frame).unwrap();
        assert_eq!((seen.ttl, seen.protocol), (63, 1));
        assert_eq!(seen.source, Ipv4Addr::new(10, 65, 0, 1));
        assert_eq!(read_frame(&frame[..33]), None);
        frame[12] = 0x86;
        assert_eq!(read_frame(&frame), None);
    }
}
