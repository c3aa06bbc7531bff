//! A TCP connection with what is still to be read and written, and waiting for many of them.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

/// Read in one go.
const CHUNK: usize = 256 * 1024;

/// A connection that never blocks.
pub(crate) struct Stream {
    socket: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    written: usize,
    /// It is waited for room, too.
    waits_for_room: bool,
    /// The other end has closed it.
    pub(crate) closed: bool,
}

impl Stream {
    /// Connects from one of our addresses; waits for it.
    pub(crate) fn connect(from: Ipv4Addr, to: SocketAddrV4) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddrV4::new(from, 0).into())?;
        socket.connect(&to.into())?;
        Self::new(socket.into())
    }

    pub(crate) fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (inbox, outbox) = (Vec::new(), Vec::new());
        Ok(Self { socket, inbox, outbox, written: 0, waits_for_room: false, closed: false })
    }

    /// Ends it at once: the other end gets a reset.
    pub(crate) fn shut(&mut self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.closed = true;
    }

    /// Queues octets; [`Stream::flush`] sends them.
    pub(crate) fn queue(&mut self, octets: &[u8]) {
        self.outbox.extend_from_slice(octets);
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        self.written < self.outbox.len()
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while self.has_output() {
            match self.socket.write(&self.outbox[self.written..]) {
                Ok(octets) => self.written += octets,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot send to the speaker"),
            }
        }
        self.outbox.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what is there, once, and gives it to `take`, which tells how many octets it has used up; the rest comes again.
    pub(crate) fn receive(&mut self, take: impl FnOnce(&[u8]) -> usize) -> Result<()> {
        // Memory that is only written where octets come: clearing all of it would cost more than to read an UPDATE.
        self.inbox.reserve(CHUNK);
        match rustix::io::read(&self.socket, spare_capacity(&mut self.inbox)) {
            Ok(0) => self.closed = true,
            Ok(_) => {
                let used = take(&self.inbox);
                self.inbox.drain(..used);
            }
            Err(Errno::WOULDBLOCK) => {}
            Err(Errno::CONNRESET) => self.closed = true,
            Err(error) => return Err(error).context("cannot read from the speaker"),
        }
        Ok(())
    }
}

/// Waits for streams, which are known by number.
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Told in one go.
const EVENTS: usize = 256;

/// What a stream is ready for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// Which.
    pub(crate) number: usize,
    /// There is something to read, or an end to be noticed.
    pub(crate) readable: bool,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Starts to wait for a stream: to read from it, and to write to it if that is wanted.
    pub(crate) fn add(&self, number: usize, stream: &mut Stream) -> Result<()> {
        stream.waits_for_room = stream.has_output();
        epoll::add(&self.epoll, &stream.socket, data(number), interest(stream))?;
        Ok(())
    }

    /// Something was queued or sent: what is waited for may have changed.
    pub(crate) fn update(&self, number: usize, stream: &mut Stream) -> Result<()> {
        if stream.waits_for_room == stream.has_output() {
            return Ok(());
        }
        stream.waits_for_room = stream.has_output();
        epoll::modify(&self.epoll, &stream.socket, data(number), interest(stream))?;
        Ok(())
    }

    /// Stops waiting for a stream.
    pub(crate) fn remove(&self, stream: &Stream) -> Result<()> {
        epoll::delete(&self.epoll, &stream.socket)?;
        Ok(())
    }

    /// Waits until one is ready, or for so long.
    pub(crate) fn wait(&self, limit: Duration) -> Result<Vec<Ready>> {
        let limit = Timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
        let mut events = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => bail!("epoll: {error}"),
        }
        let others = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let ready = events.iter().map(|event| Ready {
            number: event.data.u64() as usize,
            readable: { event.flags }.intersects(others),
        });
        Ok(ready.collect())
    }
}

fn data(number: usize) -> epoll::EventData {
    epoll::EventData::new_u64(number as u64)
}

fn interest(stream: &Stream) -> epoll::EventFlags {
    match stream.waits_for_room {
        true => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        false => epoll::EventFlags::IN,
    }
}
