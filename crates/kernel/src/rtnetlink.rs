use std::fmt::Display;

use crate::netlink::{Error, Message, Protocol, Refusal, Socket};
use crate::netns::{self, Netns};

/// A kept socket for links, addresses, neighbours and routes of one network namespace.
///
/// The operations are where their objects are: [`crate::link`], [`crate::address`], [`crate::neighbour`] and
/// [`crate::route`].
#[derive(Debug)]
pub struct Rtnetlink {
    pub(crate) socket: Socket,
}

impl Rtnetlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Opens a socket in that network namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(namespace: &Netns) -> Result<Self, netns::Error> {
        Ok(Self { socket: Socket::open_in(namespace, Protocol::Route)? })
    }

    /// The number by which the kernel knows the socket: see [`crate::monitor::RouteNews`].
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn port(&self) -> Result<u32, Error> {
        self.socket.port()
    }

    /// Sends all in as few calls as possible; the first refusal, with its object, is the error. The others behind it
    /// are tried all the same.
    pub(crate) fn all<N: Display>(&mut self, steps: Vec<(Message, N)>) -> Result<(), Error> {
        let (messages, names): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let Some(first) = names.first() else { return Ok(()) };
        let outcomes = self.socket.batch(&messages, first)?;
        let refused =
            outcomes.into_iter().zip(&names).find_map(|(outcome, name)| Some((outcome.err()?, name)));
        refused.map_or(Ok(()), |(refusal, name): (Refusal, _)| Err(Error::refused(name, refusal)))
    }
}
