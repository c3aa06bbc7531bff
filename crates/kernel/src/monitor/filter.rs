//! Which events of routes the kernel does not queue at all.

use socket2::{SockFilter, SockRef};

use super::RouteNews;
use crate::netlink::filter::{LEAVE_OUT, LOAD_KIND, LOAD_PORT, TAKE, if_kind, if_octet, if_port, load_octet};
use crate::netlink::{Errno, Error, Socket};

/// `rtm_protocol` in `struct rtmsg`.
const PROTOCOL: u32 = 5;

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
    let (load, if_unwanted) = match news {
        RouteNews::All => return None,
        RouteNews::ByOthersThan(port) => (LOAD_PORT, if_port(port, 1, 0)),
        RouteNews::OfOthersThan(protocol) => (load_octet(PROTOCOL), if_octet(protocol, 1, 0)),
    };
    let (comes, goes) = (if_kind(libc::RTM_NEWROUTE, 1, 0), if_kind(libc::RTM_DELROUTE, 0, 2));
    Some([LOAD_KIND, comes, goes, load, if_unwanted, TAKE, LEAVE_OUT])
}
