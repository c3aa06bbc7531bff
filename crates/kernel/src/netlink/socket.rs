use std::cell::Cell;
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket as RawSocket, SocketAddr, protocols};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::message::{HEADER, Message, flags};
use super::{Errno, Error, Refusal};
use crate::netns::{self, Netns};

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const MULTIPART: u16 = 2;
const DUMP_INTERRUPTED: u16 = 16;

/// How often a dump that the kernel reports as inconsistent is started again.
const DUMP_ATTEMPTS: u32 = 10;

/// A batch is cut into sends of about this many bytes: well below the kernel's default send buffer (208 KiB).
const CHUNK_BYTES: usize = 96 * 1024;

/// Room for the refusals of one chunk, should all of its messages be refused.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// The kernel never sends a larger datagram than 32 KiB for a dump, nor one for an event.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// The kernel answers inside `send`, so waiting longer than this means that no answer will come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which part of the kernel the socket speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours (`NETLINK_ROUTE`).
    Route,
    /// nf_tables, conntrack, NFLOG (`NETLINK_NETFILTER`).
    Netfilter,
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Message type.
    pub kind: u16,
    /// Header flags.
    pub flags: u16,
    /// The sequence number of the request that it answers; 0 for an event.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Reply<'_> {
    /// Whether it ends a request: an acknowledgement, a refusal, or the end of a dump.
    pub fn outcome(&self) -> Option<Result<(), Refusal>> {
        match self.kind {
            NLMSG_ERROR => Some(Refusal::decode(self.flags, self.payload).map_or(Ok(()), Err)),
            NLMSG_DONE => Some(Refusal::decode(0, self.payload).map_or(Ok(()), Err)),
            _ => None,
        }
    }
}

/// A blocking netlink socket, bound for good to the namespace in which it was opened.
///
/// Extended acknowledgements and strict checking of requests are on.
#[derive(Debug)]
pub struct Socket {
    raw: RawSocket,
    sequence: u32,
}

thread_local! {
    /// Where datagrams are received, whichever socket they come from: sockets are many, and some live for two exchanges.
    static DATAGRAM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`] when the system refuses it.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => protocols::NETLINK_ROUTE,
            Protocol::Netfilter => protocols::NETLINK_NETFILTER,
        };
        let mut raw = RawSocket::new(number).map_err(failed("open a socket"))?;
        raw.bind_auto().map_err(failed("bind the socket"))?;
        raw.connect(&SocketAddr::new(0, 0)).map_err(failed("connect the socket to the kernel"))?;
        raw.set_ext_ack(true).map_err(failed("ask for extended acknowledgements"))?;
        raw.set_cap_ack(true).map_err(failed("ask for short acknowledgements"))?;
        raw.set_netlink_get_strict_chk(true).map_err(failed("ask for strict checking"))?;
        let socket = Self { raw, sequence: 0 };
        socket.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .map_err(|source| Error::Socket { action: "set the time limit", source })?;
        Ok(socket)
    }

    /// Opens a socket in that network namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(namespace: &Netns, protocol: Protocol) -> Result<Self, netns::Error> {
        Ok(namespace.run(|| Self::open(protocol))??)
    }

    /// Sets how much the kernel may queue for us; past the system's limit if we have the right to.
    ///
    /// # Errors
    /// [`Error::Socket`] when the system refuses it.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Error> {
        sockopt::set_socket_recv_buffer_size_force(self, bytes)
            .or_else(|_| sockopt::set_socket_recv_buffer_size(self, bytes))
            .map_err(|source| Error::Socket { action: "set the receive buffer", source })
    }

    /// Sets how much can be sent in one go; past the system's limit if we have the right to.
    ///
    /// # Errors
    /// [`Error::Socket`] when the system refuses it.
    pub fn set_send_buffer(&self, bytes: usize) -> Result<(), Error> {
        sockopt::set_socket_send_buffer_size_force(self, bytes)
            .or_else(|_| sockopt::set_socket_send_buffer_size(self, bytes))
            .map_err(|source| Error::Socket { action: "set the send buffer", source })
    }

    /// The number by which the kernel knows the socket, as events say who has asked for a change.
    ///
    /// # Errors
    /// [`Error::Socket`] when the system refuses it.
    pub fn port(&self) -> Result<u32, Error> {
        let mut address = SocketAddr::new(0, 0);
        self.raw.get_address(&mut address).map_err(failed("ask for the socket's port"))?;
        Ok(address.port_number())
    }

    /// Subscribes to a multicast group (`RTNLGRP_*`, `NFNLGRP_*`).
    ///
    /// # Errors
    /// [`Error::Socket`] when the system refuses it.
    pub fn subscribe(&self, group: u32) -> Result<(), Error> {
        self.raw.add_membership(group).map_err(failed("subscribe to events"))
    }

    /// Sends one request and waits until it is done. `object` names what is changed in the error.
    ///
    /// # Errors
    /// [`Error::Refused`] and nothing was changed, or the socket failed.
    pub fn acknowledge(&mut self, message: &Message, object: impl Display) -> Result<(), Error> {
        let first = self.send(std::slice::from_ref(message), &object)?;
        let mut outcome = None;
        while outcome.is_none() {
            self.receive(&object, RecvFlags::empty(), |reply| {
                if reply.sequence == first {
                    outcome = outcome.take().or(reply.outcome());
                }
            })?;
        }
        outcome.unwrap_or(Ok(())).map_err(|refusal| Error::refused(object, refusal))
    }

    /// Sends one request that is answered with one message, which `read` turns into a value.
    ///
    /// # Errors
    /// [`Error::Refused`] (for example when the object does not exist), or the socket failed.
    pub fn get<T>(
        &mut self,
        message: &Message,
        object: impl Display,
        mut read: impl FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let first = self.send(std::slice::from_ref(message), &object)?;
        let (mut outcome, mut value) = (None, None);
        while outcome.is_none() {
            self.receive(&object, RecvFlags::empty(), |reply| {
                if reply.sequence != first {
                    return;
                }
                match reply.outcome() {
                    Some(end) => outcome = outcome.take().or(Some(end)),
                    None => value = value.take().or_else(|| read(reply)),
                }
            })?;
        }
        outcome.unwrap_or(Ok(())).map_err(|refusal| Error::refused(object, refusal))?;
        Ok(value)
    }

    /// Lists all objects that a request with [`flags::DUMP`] asks for; `read` turns each into a value or skips it.
    ///
    /// A listing during which the table changed is started again.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the table never stopped changing, [`Error::Refused`], or the socket failed.
    pub fn dump<T>(
        &mut self,
        message: &Message,
        object: impl Display,
        mut read: impl FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let (values, consistent) = self.dump_once(message, &object, &mut read)?;
            if consistent {
                return Ok(values);
            }
        }
        Err(Error::Interrupted { object: object.to_string(), attempts: DUMP_ATTEMPTS })
    }

    fn dump_once<T>(
        &mut self,
        message: &Message,
        object: &dyn Display,
        read: &mut dyn FnMut(Reply<'_>) -> Option<T>,
    ) -> Result<(Vec<T>, bool), Error> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let sequence = self.sequence;
        let mut wire = Vec::with_capacity(message.len());
        message.write(sequence, 0, &mut wire);
        self.transmit(&wire, object)?;
        let (mut values, mut consistent, mut outcome) = (Vec::new(), true, None);
        while outcome.is_none() {
            self.receive(object, RecvFlags::empty(), |reply| {
                if reply.sequence != sequence {
                    return;
                }
                consistent &= reply.flags & DUMP_INTERRUPTED == 0;
                match reply.outcome() {
                    Some(end) => outcome = Some(end),
                    None => values.extend(read(reply)),
                }
            })?;
        }
        match outcome {
            Some(Err(refusal)) => Err(Error::refused(object, refusal)),
            _ => Ok((values, consistent)),
        }
    }

    /// Sends all requests, in order, in as few system calls as possible, and gives the outcome of each. One that is
    /// refused does not stop the ones behind it.
    ///
    /// # Errors
    /// [`Error::Overrun`] when outcomes were lost, or the socket failed: what was done is then unknown.
    pub fn batch(
        &mut self,
        messages: &[Message],
        object: impl Display,
    ) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut rest = messages;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(chunk_length(rest));
            outcomes.extend(self.exchange(chunk, &object)?);
            rest = behind;
        }
        Ok(outcomes)
    }

    /// As [`Socket::batch`], in one send whatever its size, for transactions (nf_tables): all or nothing. The send
    /// buffer must be large enough, see [`Socket::set_send_buffer`].
    ///
    /// The last message made with [`flags::ACKNOWLEDGE`] is the one whose outcome ends the exchange; when there is
    /// none, the last message is. (nf_tables: the last before the end marker, which old kernels do not answer.)
    ///
    /// # Errors
    /// As [`Socket::batch`].
    pub fn exchange(
        &mut self,
        messages: &[Message],
        object: impl Display,
    ) -> Result<Vec<Result<(), Refusal>>, Error> {
        let mut outcomes: Vec<_> = std::iter::repeat_n(Ok(()), messages.len()).collect();
        let Some(last) = acknowledged_last(messages) else { return Ok(outcomes) };
        let first = self.send(messages, &object)?;
        let mut acknowledged = false;
        while !acknowledged {
            let received = self.receive(&object, RecvFlags::DONTWAIT, |reply| {
                let index = reply.sequence.wrapping_sub(first) as usize;
                if let (Some(outcome), Some(slot)) = (reply.outcome(), outcomes.get_mut(index)) {
                    *slot = outcome;
                    acknowledged |= index == last;
                }
            })?;
            if !received && !acknowledged {
                // A transaction that fails at its very beginning is answered with that one refusal only.
                let refused = outcomes.iter().any(Result::is_err);
                return if refused {
                    Ok(outcomes)
                } else {
                    Err(Error::NoAnswer { object: object.to_string() })
                };
            }
        }
        Ok(outcomes)
    }

    /// Waits for datagrams and hands each of their messages to `read`. Gives false when there was none (with
    /// `DONTWAIT`).
    pub(crate) fn receive(
        &mut self,
        object: &dyn Display,
        flags: RecvFlags,
        mut read: impl FnMut(Reply<'_>),
    ) -> Result<bool, Error> {
        // It is absent only while a reply is read that asks something itself.
        let mut buffer = DATAGRAM.take();
        buffer.resize(DATAGRAM_BYTES, 0);
        let received = self.receive_into(&mut buffer, object, flags);
        if let Ok(Some(length)) = received {
            replies(&buffer[..length]).filter(|reply| reply.kind != NLMSG_NOOP).for_each(&mut read);
        }
        DATAGRAM.set(buffer);
        received.map(|received| received.is_some())
    }

    /// Gives the length of the datagram, if there was one.
    fn receive_into(
        &self,
        buffer: &mut [u8],
        object: &dyn Display,
        flags: RecvFlags,
    ) -> Result<Option<usize>, Error> {
        loop {
            return match rustix::net::recv(self.raw.as_fd(), &mut *buffer, flags | RecvFlags::TRUNC) {
                Ok((_, length)) if length <= buffer.len() => Ok(Some(length)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) if flags.contains(RecvFlags::DONTWAIT) => Ok(None),
                Err(Errno::AGAIN) => Err(Error::NoAnswer { object: object.to_string() }),
                Ok(_) | Err(Errno::NOBUFS) => Err(Error::Overrun { object: object.to_string() }),
                Err(source) => Err(Error::Socket { action: "receive", source }),
            };
        }
    }

    /// Sends these with consecutive sequence numbers, the last asking for an acknowledgement. Gives the first number.
    fn send(&mut self, messages: &[Message], object: &dyn Display) -> Result<u32, Error> {
        let first = self.sequence.wrapping_add(1).max(1);
        let mut wire = Vec::with_capacity(messages.iter().map(Message::len).sum());
        let last = acknowledged_last(messages);
        for (index, message) in messages.iter().enumerate() {
            self.sequence =
                first.wrapping_add(u32::try_from(index).expect("a batch has fewer than 2^32 messages"));
            let extra = if last == Some(index) { flags::ACKNOWLEDGE } else { 0 };
            message.write(self.sequence, extra, &mut wire);
        }
        self.transmit(&wire, object)?;
        Ok(first)
    }

    fn transmit(&self, wire: &[u8], object: &dyn Display) -> Result<(), Error> {
        loop {
            match rustix::net::send(self.raw.as_fd(), wire, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => return Err(Error::Overrun { object: object.to_string() }),
                Err(source) => return Err(Error::Socket { action: "send", source }),
            }
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Socket { action, source: Errno::from_io_error(&error).unwrap_or(Errno::IO) }
}

/// The message whose acknowledgement ends an exchange.
fn acknowledged_last(messages: &[Message]) -> Option<usize> {
    messages.iter().rposition(Message::asks_for_acknowledgement).or(messages.len().checked_sub(1))
}

/// How many messages go into the next send: at least one.
fn chunk_length(messages: &[Message]) -> usize {
    let mut bytes = 0;
    messages
        .iter()
        .take_while(|message| {
            bytes += message.len();
            bytes <= CHUNK_BYTES
        })
        .count()
        .max(1)
}

/// The messages of one datagram, up to the first malformed one.
fn replies(mut rest: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            flags: u16::from_ne_bytes([message[6], message[7]]) & !MULTIPART,
            sequence: u32::from_ne_bytes(message[8..12].try_into().ok()?),
            payload: &message[HEADER..],
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_cut_into_its_messages() {
        let mut wire = Vec::new();
        Message::new(16, 0).push(&[1, 2, 3]).write(5, 0, &mut wire);
        Message::new(17, 0).write(6, 0, &mut wire);
        let found: Vec<_> =
            replies(&wire).map(|reply| (reply.kind, reply.sequence, reply.payload.len())).collect();
        assert_eq!(found, [(16, 5, 4), (17, 6, 0)]);
        assert_eq!(replies(&wire[..10]).count(), 0);
        assert_eq!(replies(&[8, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
    }

    #[test]
    fn chunks_hold_at_least_one_message_and_stay_below_the_limit() {
        let mut large = Message::new(16, 0);
        large.push(&vec![0; CHUNK_BYTES + 1]);
        let mut middle = Message::new(16, 0);
        middle.push(&vec![0; CHUNK_BYTES / 2 - HEADER]);
        assert_eq!(chunk_length(&[large, middle.clone()]), 1);
        assert_eq!(chunk_length(&[middle.clone(), middle.clone(), middle]), 2);
    }
}
