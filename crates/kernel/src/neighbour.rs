//! Neighbours: entries that we fix (permanent) or answer for (proxy), and what the kernel found out.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::link::{list, present};
use crate::netlink::{Error, Message, attributes, flags};
use crate::{MacAddress, Rtnetlink};

/// An entry of the ARP or ND table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the interface.
    pub index: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address, if known.
    pub mac: Option<MacAddress>,
    /// How it is known (`NUD_*`).
    pub state: State,
    /// Whether it is an address for which we answer on that interface.
    pub proxy: bool,
}

/// How far a neighbour is known (`linux/neighbour.h` `NUD_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Set by hand; never asked for.
    Permanent,
    /// Confirmed lately, or being confirmed again (reachable, stale, delay, probe).
    Known,
    /// Asked for, no answer yet.
    Incomplete,
    /// Nobody answers.
    Failed,
    /// Needs no resolution, or none is known.
    Other,
}

impl State {
    fn from_bits(bits: u16) -> Self {
        match bits {
            libc::NUD_PERMANENT => Self::Permanent,
            libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE => Self::Known,
            libc::NUD_INCOMPLETE => Self::Incomplete,
            libc::NUD_FAILED => Self::Failed,
            _ => Self::Other,
        }
    }
}

impl Rtnetlink {
    /// All neighbours of both families, then all addresses for which we answer.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let mut body = NeighbourMessage::default();
        let mut found = self.list_neighbours(&body)?;
        body.header.flags = NeighbourFlags::Proxy;
        found.extend(self.list_neighbours(&body)?);
        Ok(found)
    }

    fn list_neighbours(&mut self, body: &NeighbourMessage) -> Result<Vec<Neighbour>, Error> {
        let message = list(&RouteNetlinkMessage::GetNeighbour(body.clone()));
        self.socket.dump(&message, "neighbours", |reply| read_neighbour(reply.payload))
    }

    /// Fixes a neighbour's Ethernet address, whatever was known before.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the neighbour.
    pub fn set_permanent_neighbour(
        &mut self,
        index: u32,
        address: IpAddr,
        mac: MacAddress,
    ) -> Result<(), Error> {
        let mut body = body(index, address);
        body.header.state = NeighbourState::Permanent;
        body.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(body), name(index, address))
    }

    /// Answers ARP or ND questions for an address on that interface.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the neighbour.
    pub fn add_proxy_neighbour(&mut self, index: u32, address: IpAddr) -> Result<(), Error> {
        let mut body = body(index, address);
        body.header.flags = NeighbourFlags::Proxy;
        self.change(RouteNetlinkMessage::NewNeighbour(body), name(index, address))
    }

    /// Removes a neighbour, or with `proxy` an address for which we answer. Gives false if there was none.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn delete_neighbour(&mut self, index: u32, address: IpAddr, proxy: bool) -> Result<bool, Error> {
        let mut body = body(index, address);
        if proxy {
            body.header.flags = NeighbourFlags::Proxy;
        }
        present(self.change(RouteNetlinkMessage::DelNeighbour(body), name(index, address)))
    }

    fn change(&mut self, body: RouteNetlinkMessage, object: String) -> Result<(), Error> {
        let flags = match body {
            RouteNetlinkMessage::DelNeighbour(_) => 0,
            _ => flags::CREATE | flags::REPLACE,
        };
        self.socket.acknowledge(&Message::route(&body, flags), object)
    }
}

fn name(index: u32, address: IpAddr) -> String {
    format!("neighbour {address} on link number {index}")
}

fn body(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut body = NeighbourMessage::default();
    body.header.family = crate::route::family(address);
    body.header.ifindex = index;
    body.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }));
    body
}

/// Reads the body of an `RTM_NEWNEIGH` or `RTM_DELNEIGH` (`struct ndmsg`, then `NDA_*`). Entries of bridges are skipped.
///
/// ```text
/// | family (1) | 0 (3) | index (4) | state (2) | flags (1) | type (1) | attributes… |
/// ```
pub(crate) fn read_neighbour(payload: &[u8]) -> Option<Neighbour> {
    let (header, rest) = payload.split_at_checked(12)?;
    let (mut address, mut mac) = (None, None);
    for attribute in attributes(rest) {
        match attribute.kind {
            libc::NDA_DST => address = attribute.address(),
            libc::NDA_LLADDR => mac = attribute.value.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    Some(Neighbour {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        address: address?,
        mac,
        state: State::from_bits(u16::from_ne_bytes([header[8], header[9]])),
        proxy: header[10] & libc::NTF_PROXY != 0,
    })
}
