//! Which events of routes the kernel does not queue at all.

use socket2::{SockFilter, SockRef};

use super::RouteNews;
use crate::netlink::{Errno, Error, Socket};

/// Where things are in a message: its type and the asking port in `struct nlmsghdr`, the protocol in `struct rtmsg` behind it.
const KIND: u32 = 4;
const PORT: u32 = 12;
const PROTOCOL: u32 = 16 + 5;

/// Has the kernel leave out what is not wanted.
///
/// # Errors
/// The kernel does not take the filter.
pub(super) fn attach(socket: &Socket, news: RouteNews) -> Result<(), Error> {
    let Some(filter) = filter(news) else { return Ok(()) };
    SockRef::from(socket).attach_filter(&filter).map_err(|error| Error::Socket {
        action: "filter the events of routes",
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })
}

/// Takes every message that is not of a route, and of those of routes the ones that differ in what is loaded. An event is a
/// datagram of its own.
fn filter(news: RouteNews) -> Option<[SockFilter; 7]> {
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let (load, at, unwanted) = match news {
        RouteNews::All => return None,
        // The filter reads big-endian numbers, the header is in the machine's order.
        RouteNews::ByOthersThan(port) => (LOAD_WORD, PORT, u32::from_be_bytes(port.to_ne_bytes())),
        RouteNews::OfOthersThan(protocol) => (LOAD_BYTE, PROTOCOL, protocol.into()),
    };
    let kind = |kind: u16| u32::from(u16::from_be_bytes(kind.to_ne_bytes()));
    let step = |code: u32, k, when, otherwise| SockFilter::new(code as u16, when, otherwise, k);
    Some([
        step(LOAD_HALF, KIND, 0, 0),
        step(IF_EQUAL, kind(libc::RTM_NEWROUTE), 1, 0),
        step(IF_EQUAL, kind(libc::RTM_DELROUTE), 0, 2),
        step(load, at, 0, 0),
        step(IF_EQUAL, unwanted, 1, 0),
        step(RETURN, u32::MAX, 0, 0),
        step(RETURN, 0, 0, 0),
    ])
}
