//! An established TCP connection: what waits to be written, and the last words of one that is being closed.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::TransportFailure;

use super::poller::{Interest, Poller};
use super::transport;

/// How long what was sent before a close may take to go out, and the peer to close its end.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// Messages that one write takes at most.
const GATHER: usize = 64;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    token: u64,
    waiting: VecDeque<Arc<[u8]>>,
    /// So many octets of the first that waits are written.
    done: usize,
    interest: Interest,
    /// Our end is closed.
    is_shut: bool,
}

impl Connection {
    /// Takes over a stream that does not block, and waits for bytes.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) fn new(stream: TcpStream, token: u64, poller: &Poller, is_known: bool) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let interest = Interest::Read;
        match is_known {
            true => poller.change(&stream, token, interest)?,
            false => poller.add(&stream, token, interest)?,
        }
        Ok(Self { stream, token, waiting: VecDeque::new(), done: 0, interest, is_shut: false })
    }

    /// Queues bytes. The speaker knows how much a peer has not taken, and holds back.
    pub(super) fn queue(&mut self, bytes: Arc<[u8]>) {
        self.waiting.push_back(bytes);
    }

    /// What is queued and not written.
    pub(super) fn unsent(&self) -> Vec<u8> {
        self.waiting.iter().flat_map(|bytes| bytes.iter().copied()).skip(self.done).collect()
    }

    /// Reads once into a buffer. `None`: there is nothing now.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, TransportFailure> {
        match self.stream.read(buffer) {
            Ok(0) => Err(TransportFailure::ClosedByPeer),
            Ok(octets) => Ok(Some(octets)),
            Err(error) if is_transient(&error) => Ok(None),
            Err(error) => Err(transport::failure(&error)),
        }
    }

    /// Writes what the socket takes, and says how much that was; waits for room when something is left.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn flush(&mut self, poller: &Poller) -> Result<usize, TransportFailure> {
        let mut written = 0;
        while !self.waiting.is_empty() {
            match self.write_some() {
                Ok(octets) => {
                    written += octets;
                    self.done = take(&mut self.waiting, self.done + octets);
                }
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(transport::failure(&error)),
            }
        }
        let interest = if self.waiting.is_empty() { Interest::Read } else { Interest::ReadAndWrite };
        if interest != self.interest {
            self.interest = interest;
            poller.change(&self.stream, self.token, interest).map_err(|error| transport::failure(&error))?;
        }
        Ok(written)
    }

    /// Writes what fits, of several messages at once.
    fn write_some(&mut self) -> io::Result<usize> {
        let written = match self.waiting.len() {
            // The most frequent case by far, for which the kernel has a shorter way.
            1 => self.stream.write(&self.waiting[0][self.done..]),
            _ => {
                let waiting = self.waiting.iter().take(GATHER).enumerate();
                let rest = waiting.map(|(index, bytes)| if index == 0 { &bytes[self.done..] } else { bytes });
                let slices: Vec<_> = rest.map(IoSlice::new).collect();
                self.stream.write_vectored(&slices)
            }
        };
        match written {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

/// A connection that writes its last bytes, and then waits for the peer to close: a socket that is closed with bytes
/// unread resets the connection, and the peer may never see why.
#[derive(Debug)]
pub(super) struct Closing {
    connection: Connection,
    pub(super) until: Instant,
}

impl Closing {
    pub(super) fn new(connection: Connection, now: Instant) -> Self {
        Self { connection, until: now + DRAIN_LIMIT }
    }

    /// Goes on; false when it is over.
    pub(super) fn advance(&mut self, poller: &Poller, buffer: &mut [u8]) -> bool {
        let connection = &mut self.connection;
        if connection.flush(poller).is_err() {
            return false;
        }
        if connection.waiting.is_empty() && !connection.is_shut {
            if connection.stream.shutdown(Shutdown::Write).is_err() {
                return false;
            }
            connection.is_shut = true;
        }
        connection.read(buffer).is_ok()
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

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
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
