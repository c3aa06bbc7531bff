//! Who is at the other end of a link: the peer of an unnumbered session (RFC 8950) is known by its interface only.
//!
//! The kernel's neighbour table says it, once there has been any traffic. So that there is some, both of these go to all
//! nodes of the link whenever we look in vain: an echo request, which makes the other end look us up to answer, and a
//! router advertisement that offers nothing (lifetime 0), by which routers that wait for one, as FRR does, learn of us.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use bgp::TransportFailure;
use kernel::Rtnetlink;
use kernel::neighbour::State;
use socket2::{Domain, Protocol, Socket, Type};

use super::transport;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Echo request (RFC 4443, section 4.1); the kernel fills in the checksum.
const ECHO_REQUEST: [u8; 8] = [128, 0, 0, 0, 0x42, 0x47, 0, 1];
/// Router advertisement (RFC 4861, section 4.2): no hop limit, no flags, lifetime 0, no timers.
const ROUTER_ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The link-local address of the only neighbour on an interface.
///
/// # Errors
/// None is known yet (it has been asked for), there are several, or there is no such interface.
pub(super) fn on(interface: &str) -> Result<Ipv6Addr, TransportFailure> {
    let other =
        |what: &dyn std::fmt::Display| TransportFailure::Other(format!("interface {interface}: {what}"));
    let index = transport::interface_index(interface).map_err(|error| other(&error))?;
    let known = link_local(index).map_err(|error| other(&error))?;
    // An address may be old: both ends are asked for anew in any case.
    let announced = announce(interface, index);
    match (known[..].first(), known.len()) {
        (Some(address), 1) => Ok(*address),
        (None, _) => match announced {
            Ok(()) => Err(other(&"no neighbour is known yet")),
            Err(error) => Err(other(&format_args!("cannot look for neighbours: {error}"))),
        },
        (Some(_), count) => {
            Err(other(&format_args!("{count} neighbours: say by its address which of them is the peer")))
        }
    }
}

/// Link-local neighbours that answer, or did.
fn link_local(index: u32) -> Result<Vec<Ipv6Addr>, kernel::netlink::Error> {
    let neighbours = Rtnetlink::open()?.neighbours()?.into_iter();
    let here = neighbours.filter(|neighbour| {
        neighbour.index == index
            && !neighbour.proxy
            && matches!(neighbour.state, State::Known | State::Permanent)
    });
    Ok(here
        .filter_map(|neighbour| match neighbour.address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        })
        .collect())
}

/// Makes ourselves known to the other end, and it to us.
fn announce(interface: &str, index: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    // RFC 4861, section 6.1.2: others are not taken.
    socket.set_multicast_hops_v6(255)?;
    let all_nodes = SocketAddrV6::new(ALL_NODES, 0, 0, index).into();
    socket.send_to(&ROUTER_ADVERTISEMENT, &all_nodes)?;
    socket.send_to(&ECHO_REQUEST, &all_nodes)?;
    Ok(())
}
