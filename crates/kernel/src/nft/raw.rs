//! Opening and reading netlink sockets.

use std::io;

use netlink_sys::{Socket as RawSocket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use super::error::NftError;
use super::wire::malformed;

/// Opens a netlink socket; gives its port too, by which the kernel names whose doing an event is.
pub(super) fn open_socket() -> Result<(RawSocket, u32), NftError> {
    let mut raw = RawSocket::new(NETLINK_NETFILTER).map_err(failed("open a socket"))?;
    let address = raw.bind_auto().map_err(failed("bind the socket"))?;
    raw.connect(&SocketAddr::new(0, 0)).map_err(failed("connect the socket to the kernel"))?;
    Ok((raw, address.port_number()))
}

pub(super) fn set_receive_buffer(raw: &RawSocket, bytes: usize) -> Result<(), NftError> {
    sockopt::set_socket_recv_buffer_size_force(raw, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(raw, bytes))
        .map_err(|source| io_error("set the receive buffer", source))
}

/// Receives one datagram; gives its length.
pub(super) fn receive(raw: &RawSocket, buffer: &mut [u8], flags: RecvFlags) -> Result<usize, NftError> {
    loop {
        match rustix::net::recv(raw, &mut *buffer, flags | RecvFlags::TRUNC) {
            Ok((length, full)) if full <= length => return Ok(length),
            Ok(_) => return Err(malformed("a datagram longer than the kernel makes them")),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io_error("receive from the kernel", errno)),
        }
    }
}

pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> NftError {
    move |source| NftError::Io { what, source }
}

pub(super) fn io_error(what: &'static str, errno: Errno) -> NftError {
    NftError::Io { what, source: errno.into() }
}
