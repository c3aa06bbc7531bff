//! Addresses of interfaces.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use crate::Rtnetlink;
use crate::link::{list, present};
use crate::netlink::{Error, Message, attributes, flags};

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Number of the interface.
    pub index: u32,
    /// The address with the length of its prefix; host bits are kept.
    pub address: IpNet,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// Whether IPv6 is still looking for duplicates and does not use it yet.
    pub tentative: bool,
}

/// How to add an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressOptions {
    /// IPv6: do not look for duplicates, use it at once.
    pub no_duplicate_detection: bool,
    /// Make no route for its prefix.
    pub no_prefix_route: bool,
    /// IPv4: it means something on its link only, and the host does not speak from it elsewhere. IPv6 goes by the address.
    pub link_scope: bool,
}

impl Rtnetlink {
    /// All addresses, of both families.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, Error> {
        let message = list(&RouteNetlinkMessage::GetAddress(AddressMessage::default()));
        self.socket.dump(&message, "addresses", |reply| read_address(reply.payload))
    }

    /// Adds an address, or changes the options of one that is there.
    ///
    /// # Errors
    /// [`Error::Refused`], naming the address.
    pub fn add_address(&mut self, index: u32, address: IpNet, options: AddressOptions) -> Result<(), Error> {
        self.socket.acknowledge(&add_address(index, address, options), name(index, address))
    }

    /// Removes an address. Gives false if it was not there.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> Result<bool, Error> {
        let body = RouteNetlinkMessage::DelAddress(body(index, address));
        present(self.socket.acknowledge(&Message::route(&body, 0), name(index, address)))
    }
}

pub(crate) fn name(index: u32, address: IpNet) -> String {
    format!("address {address} on link number {index}")
}

pub(crate) fn add_address(index: u32, address: IpNet, options: AddressOptions) -> Message {
    let mut message = body(index, address);
    if options.link_scope {
        message.header.scope = AddressScope::Link;
    }
    let mut bits = AddressFlags::empty();
    bits.set(AddressFlags::Nodad, options.no_duplicate_detection && address.addr().is_ipv6());
    bits.set(AddressFlags::Noprefixroute, options.no_prefix_route);
    if !bits.is_empty() {
        message.attributes.push(AddressAttribute::Flags(bits));
    }
    Message::route(&RouteNetlinkMessage::NewAddress(message), flags::CREATE | flags::REPLACE)
}

fn body(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = crate::route::family(address.addr());
    message.header.scope = match address.addr() {
        IpAddr::V6(address) if address.is_unicast_link_local() => AddressScope::Link,
        IpAddr::V4(address) if address.is_link_local() => AddressScope::Link,
        address if address.is_loopback() => AddressScope::Host,
        _ => AddressScope::Universe,
    };
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

/// Reads the body of an `RTM_NEWADDR` or `RTM_DELADDR` (`struct ifaddrmsg`, then `IFA_*`).
///
/// ```text
/// | family (1) | prefix length (1) | flags (1) | scope (1) | index (4) | attributes… |
/// ```
pub(crate) fn read_address(payload: &[u8]) -> Option<InterfaceAddress> {
    let (header, rest) = payload.split_at_checked(8)?;
    let mut bits = u32::from(header[2]);
    let (mut local, mut address) = (None, None);
    for attribute in attributes(rest) {
        match attribute.kind {
            libc::IFA_LOCAL => local = attribute.address(),
            libc::IFA_ADDRESS => address = attribute.address(),
            libc::IFA_FLAGS => bits = attribute.u32()?,
            _ => {}
        }
    }
    Some(InterfaceAddress {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        // On a point-to-point link IFA_ADDRESS is the other end's.
        address: IpNet::new(local.or(address)?, header[1]).ok()?,
        scope: header[3],
        tentative: bits & libc::IFA_F_TENTATIVE != 0,
    })
}
