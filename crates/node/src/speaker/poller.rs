//! Waiting for many sockets at once, and being woken by other threads: epoll(7) and eventfd(2).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Sockets that are looked at before it is looked at the others again, and at the clock.
pub(super) const AT_ONCE: usize = 64;
/// What the waker is known by. Sockets have other numbers.
const WAKER: u64 = 0;

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes, or the end of them.
    Read,
    /// Room for bytes, too.
    ReadAndWrite,
    /// Room for bytes: a connection that is being made.
    Write,
    /// Nothing for now.
    Nothing,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::ReadAndWrite => EventFlags::IN | EventFlags::OUT,
            Self::Write => EventFlags::OUT,
            Self::Nothing => EventFlags::empty(),
        }
    }
}

/// A socket that something can be done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// What it was added as.
    pub(crate) token: u64,
    /// It can be read, or is at its end or broken, which reading tells.
    pub(crate) read: bool,
    /// It can be written, or is broken.
    pub(crate) write: bool,
}

/// Sockets that are waited for. A socket that is closed is no longer waited for.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    waker: Waker,
}

/// Ends the waiting, from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Wakes. A waker that cannot be written is at its limit: the thread is about to wake anyway.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

impl Poller {
    /// # Errors
    /// Out of file descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = Waker(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        epoll::add(&epoll, &*waker.0, EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self { epoll, waker })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a socket from now on. The token is not 0.
    ///
    /// # Errors
    /// Out of memory, or over the user's limit of watches.
    pub(crate) fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), interest.flags())?)
    }

    /// Waits for something else of a socket.
    ///
    /// # Errors
    /// The socket is not waited for.
    pub(crate) fn change(&self, socket: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token), interest.flags())?)
    }

    /// Waits until there is something, the time is over, or somebody wakes; at most 64 sockets at once, each in turn.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<Ready>> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut events: Vec<epoll::Event> = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let broken = EventFlags::ERR | EventFlags::HUP;
        let mut ready = Vec::with_capacity(events.len());
        for event in &events {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == WAKER {
                let mut count = [0; 8];
                // It says how often it was written; that it was is enough.
                let _ = rustix::io::read(&*self.waker.0, &mut count);
                continue;
            }
            ready.push(Ready {
                token,
                read: flags.intersects(EventFlags::IN | broken),
                write: flags.intersects(EventFlags::OUT | broken),
            });
        }
        Ok(ready)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn it_tells_what_can_be_read_and_wakes_for_others() {
        let poller = Poller::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        poller.add(&server, 7, Interest::Read).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), []);
        poller.waker().wake();
        assert_eq!(poller.wait(None).unwrap(), [], "woken, and nothing else");
        client.write_all(b"x").unwrap();
        let ready = poller.wait(None).unwrap();
        assert_eq!(ready, [Ready { token: 7, read: true, write: false }]);
        poller.change(&server, 7, Interest::Nothing).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), []);
    }
}
