//! Netlink's datagrams (linux/netlink.h).

use anyhow::{Context, Result};
use netlink_sys::{Socket, SocketAddr};

/// Length of a message's header.
pub(crate) const HEADER: usize = 16;

/// The messages of a datagram: type and what follows the header.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
        let payload = datagram.get(HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// A socket of the calling thread's namespace that gets a group's events, with room for so many octets of them. It does not
/// block.
pub(crate) fn subscribe(protocol: isize, group: u32, octets: usize) -> Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, octets).context("the receive buffer")?;
    socket.add_membership(group)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}
