//! Messages of ctnetlink.
//!
//! ```text
//! nfgenmsg  | family (1) | version (1) | resource (2) |
//! CTA_TUPLE_ORIG, CTA_TUPLE_REPLY { CTA_TUPLE_IP { CTA_IP_V4_SRC … }, CTA_TUPLE_PROTO {…}, CTA_TUPLE_ZONE }
//! CTA_FILTER { CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS }                       numbers of the machine
//! CTA_ID, CTA_ZONE                                                                   numbers in network order
//! ```

use std::net::IpAddr;

use super::{Connection, Ends};
use crate::netlink::{Attribute, Message, attributes, flags};
use crate::nflog::Headers;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_*`.
mod kind {
    const SUBSYSTEM: u16 = 1 << 8;
    pub(super) const GET: u16 = SUBSYSTEM | 1;
    pub(super) const DELETE: u16 = SUBSYSTEM | 2;
    pub(super) const GET_STATS: u16 = SUBSYSTEM | 5;
}

/// `CTA_*`.
mod attribute {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    /// `CTA_TUPLE_IP`, inside a tuple.
    pub(super) const TUPLE_IP: u16 = 1;
    /// `CTA_TUPLE_PROTO`, inside a tuple.
    pub(super) const TUPLE_PROTOCOL: u16 = 2;
    /// `CTA_STATS_GLOBAL_ENTRIES`, of the answer to `GET_STATS`.
    pub(super) const STATS_GLOBAL_ENTRIES: u16 = 1;
}

/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;

/// A direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Original,
    Reply,
}

/// An end of a direction. Its number is that of its address's attribute, less one, and of its flag (`CTA_FILTER_FLAG`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

/// All ends that a connection has.
pub(super) const ENDS: [(Direction, End); 4] = [
    (Direction::Original, End::Source),
    (Direction::Original, End::Destination),
    (Direction::Reply, End::Source),
    (Direction::Reply, End::Destination),
];

fn family(address: Option<IpAddr>) -> u8 {
    const UNSPECIFIED: u8 = 0;
    const IPV4: u8 = 2;
    const IPV6: u8 = 10;
    match address {
        None => UNSPECIFIED,
        Some(IpAddr::V4(_)) => IPV4,
        Some(IpAddr::V6(_)) => IPV6,
    }
}

fn header(family: u8) -> [u8; HEADER] {
    [family, 0, 0, 0]
}

/// Asks for every entry, of one family if an address of it is given.
pub(super) fn list(of_family: Option<IpAddr>) -> Message {
    let mut message = Message::new(kind::GET, flags::DUMP);
    message.push(&header(family(of_family)));
    message
}

/// Asks for the entries that have this address at this end. A kernel that knows no filters answers with all of the
/// family.
pub(super) fn list_with(address: IpAddr, (direction, end): (Direction, End)) -> Message {
    let (tuple, flags_of) = match direction {
        Direction::Original => (attribute::TUPLE_ORIG, 1),
        Direction::Reply => (attribute::TUPLE_REPLY, 2),
    };
    let flag = 1_u32 << end as u32;
    let mut message = list(Some(address));
    message.nested(tuple, |tuple| {
        tuple.nested(attribute::TUPLE_IP, |ip| match address {
            IpAddr::V4(address) => {
                ip.attribute(1 + end as u16, &address.octets());
            }
            IpAddr::V6(address) => {
                ip.attribute(3 + end as u16, &address.octets());
            }
        });
    });
    message.nested(attribute::FILTER, |filter| {
        filter.attribute(flags_of, &flag.to_ne_bytes());
    });
    message
}

/// Asks how many entries there are.
pub(super) fn count() -> Message {
    let mut message = Message::new(kind::GET_STATS, 0);
    message.push(&header(family(None)));
    message
}

/// Reads the answer to [`count`].
pub(super) fn read_count(payload: &[u8]) -> Option<u32> {
    let mut found = attributes(payload.get(HEADER..)?);
    let entries = found.find(|attribute| attribute.kind == attribute::STATS_GLOBAL_ENTRIES)?;
    Some(u32::from_be_bytes(entries.value.try_into().ok()?))
}

/// Deletes exactly this entry.
pub(super) fn delete(connection: &Connection) -> Message {
    let mut message = Message::new(kind::DELETE, 0);
    message.push(&header(family(Some(connection.original.source)))).push(&connection.key);
    message
}

/// Reads the body of an `IPCTNL_MSG_CT_NEW`. An entry of which an address is missing cannot be anyone's.
pub(super) fn read(payload: &[u8]) -> Option<Connection> {
    let (mut original, mut reply, mut id, mut zone) = (None, None, None, None);
    for attribute in attributes(payload.get(HEADER..)?) {
        match attribute.kind {
            attribute::TUPLE_ORIG => original = Some(attribute),
            attribute::TUPLE_REPLY => reply = Some(attribute),
            attribute::ID => id = Some(attribute),
            attribute::ZONE => zone = Some(attribute),
            _ => {}
        }
    }
    let (original, reply, id) = (original?, reply?, id?);
    let (asking, answering) = (ends(&original)?, ends(&reply)?);
    Some(Connection {
        headers: headers(asking.source, answering.source, &original, &reply),
        original: asking,
        reply: answering,
        id: u32::from_be_bytes(id.value.try_into().ok()?),
        key: key(&original, &id, zone.as_ref()),
    })
}

fn ends(tuple: &Attribute<'_>) -> Option<Ends> {
    let ip = tuple.nested().find(|attribute| attribute.kind == attribute::TUPLE_IP)?;
    let (mut source, mut destination) = (None, None);
    for address in ip.nested() {
        match address.kind {
            1 | 3 => source = address.address(),
            2 | 4 => destination = address.address(),
            _ => {}
        }
    }
    Some(Ends { source: source?, destination: destination? })
}

/// The first packet: ports of who asks are in the one tuple, those of who answers in the other.
fn headers(source: IpAddr, destination: IpAddr, original: &Attribute<'_>, reply: &Attribute<'_>) -> Headers {
    let mut headers = Headers::bare(source, destination, 0);
    for attribute in protocol(original) {
        match (attribute.kind, attribute.value) {
            (1, [number]) => headers.protocol = *number,
            (2, [high, low]) => headers.source_port = u16::from_be_bytes([*high, *low]),
            (5 | 8, [kind]) => headers.icmp.0 = *kind,
            (6 | 9, [code]) => headers.icmp.1 = *code,
            _ => {}
        }
    }
    for attribute in protocol(reply) {
        if let (2, [high, low]) = (attribute.kind, attribute.value) {
            headers.destination_port = u16::from_be_bytes([*high, *low]);
        }
    }
    headers
}

/// `CTA_PROTO_*`: 1 number, 2 and 3 ports, 5 and 6 type and code of ICMP, 8 and 9 those of ICMPv6.
fn protocol<'a>(tuple: &Attribute<'a>) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
    let found = tuple.nested().find(|attribute| attribute.kind == attribute::TUPLE_PROTOCOL);
    found.into_iter().flat_map(|attribute| attribute.nested())
}

/// The attributes that name an entry, as they were given. A zone may be in the tuple (of one direction only) or beside it.
fn key(original: &Attribute<'_>, id: &Attribute<'_>, zone: Option<&Attribute<'_>>) -> Box<[u8]> {
    let mut message = Message::new(0, 0);
    message.nested(attribute::TUPLE_ORIG, |tuple| {
        tuple.push(original.value);
    });
    message.attribute(attribute::ID, id.value);
    if let Some(zone) = zone {
        message.attribute(attribute::ZONE, zone.value);
    }
    message.body().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(message: &mut Message, kind: u16, source: &[u8], destination: &[u8], ports: [u16; 2]) {
        message.nested(kind, |tuple| {
            tuple.nested(1, |ip| {
                ip.attribute(1, source).attribute(2, destination);
            });
            tuple.nested(2, |protocol| {
                protocol.attribute(1, &[6]);
                protocol.attribute(2, &ports[0].to_be_bytes()).attribute(3, &ports[1].to_be_bytes());
            });
        });
    }

    /// A TCP connection through a service address, in zone 7.
    fn translated() -> Message {
        let mut message = Message::new(0, 0);
        message.push(&header(2));
        tuple(&mut message, 1, &[10, 0, 0, 1], &[10, 96, 0, 1], [40000, 80]);
        tuple(&mut message, 2, &[10, 0, 0, 2], &[10, 0, 0, 1], [8080, 40000]);
        message.attribute(3, &8_u32.to_be_bytes()).attribute(12, &77_u32.to_be_bytes());
        message.attribute(18, &7_u16.to_be_bytes());
        message
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_directions_are_read_and_a_request_to_delete_names_tuple_number_and_zone() {
        let connection = read(translated().body()).unwrap();
        assert_eq!(connection.addresses(), ["10.0.0.1", "10.96.0.1", "10.0.0.2", "10.0.0.1"].map(ip));
        assert_eq!(connection.id, 77);
        let headers = connection.headers;
        assert_eq!((headers.source, headers.destination), (ip("10.0.0.1"), ip("10.0.0.2")));
        assert_eq!((headers.protocol, headers.source_port, headers.destination_port), (6, 40000, 8080));
        let request = delete(&connection);
        assert_eq!(request.body()[..4], [2, 0, 0, 0]);
        let kinds: Vec<_> = attributes(&request.body()[4..]).map(|attribute| attribute.kind).collect();
        assert_eq!(kinds, [1, 12, 18]);
        let original = attributes(&request.body()[4..]).next().unwrap();
        assert_eq!(ends(&original), Some(connection.original));
    }

    #[test]
    fn a_filter_names_one_end() {
        let request = list_with(ip("fd00::1"), (Direction::Reply, End::Destination));
        let found: Vec<_> = attributes(&request.body()[4..]).collect();
        assert_eq!((request.body()[0], found[0].kind, found[1].kind), (10, 2, 25));
        let address = found[0].nested().next().unwrap().nested().next().unwrap();
        assert_eq!((address.kind, address.address()), (4, Some(ip("fd00::1"))));
        let flags = found[1].nested().next().unwrap();
        assert_eq!((flags.kind, flags.u32()), (2, Some(2)));
    }

    #[test]
    fn a_truncated_entry_is_no_panic_and_nobodys() {
        let whole = translated();
        for length in 0..whole.body().len() {
            if let Some(connection) = read(&whole.body()[..length]) {
                assert_eq!(connection.id, 77);
            }
        }
        assert_eq!(read(&[]), None);
    }
}
