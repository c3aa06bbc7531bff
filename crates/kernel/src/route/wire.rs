use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Hop, KernelRoute, RouteChange, RouteKind, family};
use crate::link::list;
use crate::netlink::{Attribute, Message, attributes, flags};

const RTA_VIA: u16 = 18;
const CLONED: u32 = 0x200;
const ONLINK: u32 = 4;

pub(super) fn list_main(family: AddressFamily) -> Message {
    let mut body = RouteMessage::default();
    body.header.address_family = family;
    body.header.table = RouteHeader::RT_TABLE_MAIN;
    list(&RouteNetlinkMessage::GetRoute(body))
}

/// Which route an address takes, as it lies in its table (`RTM_F_LOOKUP_TABLE`, `RTM_F_FIB_MATCH`).
pub(super) fn lookup(address: IpAddr) -> Message {
    let mut body = RouteMessage::default();
    body.header.address_family = family(address);
    body.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    body.header.flags = RouteFlags::LookupTable | RouteFlags::FibMatch;
    body.attributes.push(RouteAttribute::Destination(address.into()));
    Message::route(&RouteNetlinkMessage::GetRoute(body), 0)
}

pub(super) fn change(change: &RouteChange) -> Message {
    match change {
        RouteChange::Add(route) => add_route(route, flags::EXCLUSIVE),
        RouteChange::Replace(route) => add_route(route, flags::REPLACE),
        RouteChange::Delete(route) => encode(libc::RTM_DELROUTE, 0, route),
    }
}

/// A request to add a route, with [`flags::EXCLUSIVE`] or [`flags::REPLACE`].
pub(crate) fn add_route(route: &KernelRoute, mode: u16) -> Message {
    encode(libc::RTM_NEWROUTE, flags::CREATE | mode, route)
}

/// `struct rtmsg` as [`read_route`] reads it, then `RTA_*`.
fn encode(kind: u16, flags: u16, route: &KernelRoute) -> Message {
    let destination = route.destination;
    let bits = match route.hops.as_slice() {
        [Hop { onlink: true, .. }] => ONLINK,
        _ => 0,
    };
    let table = u8::try_from(route.table);
    let mut message = Message::new(kind, flags);
    message.push(&[
        family(destination.addr()).into(),
        destination.prefix_len(),
        0,
        route.tos,
        table.unwrap_or_default(),
        route.protocol,
        scope(route),
        kind_number(route.kind),
    ]);
    message.push(&bits.to_ne_bytes());
    if table.is_err() {
        message.attribute(libc::RTA_TABLE, &route.table.to_ne_bytes());
    }
    message.address(libc::RTA_DST, destination.network());
    if route.metric != 0 {
        message.attribute(libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
    }
    if let Some(source) = route.source {
        message.address(libc::RTA_PREFSRC, source);
    }
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            put_gateway(&mut message, hop, destination);
            if let Some(device) = hop.device {
                message.attribute(libc::RTA_OIF, &device.to_ne_bytes());
            }
        }
        hops => {
            message.attribute(libc::RTA_MULTIPATH, &several_hops(hops, destination));
        }
    }
    message
}

/// `struct rtnexthop` and the attributes of each, as [`read_hops`] reads them.
fn several_hops(hops: &[Hop], destination: IpNet) -> Vec<u8> {
    const HEADER: usize = 8;
    let mut list = Vec::new();
    for hop in hops {
        let mut attributes = Message::new(0, 0);
        put_gateway(&mut attributes, hop, destination);
        let length = u16::try_from(HEADER + attributes.body().len()).expect("one address");
        list.extend(length.to_ne_bytes());
        list.push(if hop.onlink { ONLINK as u8 } else { 0 });
        list.push(u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX));
        list.extend(hop.device.unwrap_or(0).to_ne_bytes());
        list.extend(attributes.body());
    }
    list
}

/// A gateway of the other family goes as `struct rtvia`: the family as a 16-bit number, then the address.
fn put_gateway(message: &mut Message, hop: &Hop, destination: IpNet) {
    let Some(address) = hop.gateway else { return };
    if address.is_ipv4() == destination.addr().is_ipv4() {
        message.address(libc::RTA_GATEWAY, address);
        return;
    }
    let mut via = u16::from(u8::from(family(address))).to_ne_bytes().to_vec();
    match address {
        IpAddr::V4(address) => via.extend(address.octets()),
        IpAddr::V6(address) => via.extend(address.octets()),
    }
    message.attribute(RTA_VIA, &via);
}

/// IPv4 tells routes straight to a device from those by a gateway by their scope; IPv6 has none.
fn scope(route: &KernelRoute) -> u8 {
    let straight = route.kind == RouteKind::Unicast && route.hops.iter().all(|hop| hop.gateway.is_none());
    let is_link = straight && route.destination.addr().is_ipv4();
    if is_link { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE }
}

fn kind_number(kind: RouteKind) -> u8 {
    u8::from(match kind {
        RouteKind::Unicast => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
        RouteKind::Throw => RouteType::Throw,
        RouteKind::Other(number) => return number,
    })
}

fn kind(number: u8) -> RouteKind {
    match RouteType::from(number) {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        _ => RouteKind::Other(number),
    }
}

/// Reads the body of an `RTM_NEWROUTE` or `RTM_DELROUTE` (`struct rtmsg`, then `RTA_*`). Cached routes are skipped.
///
/// ```text
/// | family (1) | dst len (1) | src len (1) | tos (1) | table (1) | protocol (1) | scope (1) | type (1) | flags (4) | …
/// ```
pub(crate) fn read_route(payload: &[u8]) -> Option<KernelRoute> {
    let (header, rest) = payload.split_at_checked(12)?;
    let bits = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    if bits & CLONED != 0 {
        return None;
    }
    let default = default_destination(header[0])?;
    let mut route = KernelRoute {
        destination: IpNet::new(default, header[1]).ok()?,
        table: header[4].into(),
        metric: 0,
        tos: header[3],
        protocol: header[5],
        kind: kind(header[7]),
        hops: Vec::new(),
        source: None,
    };
    let mut single = Hop { gateway: None, device: None, onlink: bits & ONLINK != 0, weight: 1 };
    for attribute in attributes(rest) {
        match attribute.kind {
            libc::RTA_DST => route.destination = IpNet::new(attribute.address()?, header[1]).ok()?,
            libc::RTA_TABLE => route.table = attribute.u32()?,
            libc::RTA_PRIORITY => route.metric = attribute.u32()?,
            libc::RTA_PREFSRC => route.source = attribute.address(),
            libc::RTA_MULTIPATH => route.hops = read_hops(attribute.value),
            _ => read_hop_attribute(&mut single, attribute),
        }
    }
    if route.kind != RouteKind::Unicast {
        // IPv6 hangs routes that drop on the loopback, which says nothing.
        route.hops.clear();
    } else if route.hops.is_empty() {
        route.hops.push(single);
    }
    route.hops.sort_unstable();
    Some(route)
}

fn default_destination(family: u8) -> Option<IpAddr> {
    match AddressFamily::from(family) {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

fn read_hop_attribute(hop: &mut Hop, attribute: Attribute<'_>) {
    match attribute.kind {
        libc::RTA_GATEWAY => hop.gateway = attribute.address(),
        libc::RTA_OIF => hop.device = attribute.u32(),
        // The family as a 16-bit number stands before the address.
        RTA_VIA => {
            let value = attribute.value.get(2..).unwrap_or_default();
            hop.gateway = Attribute { kind: RTA_VIA, value }.address();
        }
        _ => {}
    }
}

/// ```text
/// each: | length (2) | flags (1) | weight - 1 (1) | device (4) | attributes… |
/// ```
fn read_hops(mut rest: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some(header) = rest.get(..8) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(inner) = rest.get(8..length) else { break };
        let mut hop = Hop {
            gateway: None,
            device: Some(u32::from_ne_bytes([header[4], header[5], header[6], header[7]])),
            onlink: u32::from(header[2]) & ONLINK != 0,
            weight: u16::from(header[3]) + 1,
        };
        attributes(inner).for_each(|attribute| read_hop_attribute(&mut hop, attribute));
        hops.push(hop);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::MAIN_TABLE;

    fn round_trip(route: &KernelRoute) {
        let message = encode(libc::RTM_NEWROUTE, 0, route);
        assert_eq!(read_route(message.body()).as_ref(), Some(route));
    }

    fn route(destination: &str, hops: Vec<Hop>) -> KernelRoute {
        KernelRoute {
            destination: destination.parse().unwrap(),
            table: MAIN_TABLE,
            metric: 7,
            tos: 0,
            protocol: 80,
            kind: if hops.is_empty() { RouteKind::Blackhole } else { RouteKind::Unicast },
            hops,
            source: None,
        }
    }

    fn hop(gateway: &str, device: u32) -> Hop {
        Hop { gateway: gateway.parse().ok(), device: Some(device), onlink: true, weight: 1 }
    }

    #[test]
    fn routes_of_every_shape_come_back_as_they_were_written() {
        round_trip(&route("10.0.0.1/32", vec![hop("", 3)]));
        round_trip(&route("0.0.0.0/0", vec![hop("10.0.0.1", 3)]));
        round_trip(&route("10.1.0.0/26", vec![hop("fe80::1", 3)]));
        round_trip(&KernelRoute { table: 1000, ..route("10.1.0.0/26", vec![hop("10.0.0.1", 3)]) });
        round_trip(&route("fd00::/122", vec![hop("fe80::1", 3)]));
        round_trip(&route("10.1.0.0/26", vec![]));
        let weighted = Hop { weight: 256, ..hop("10.0.0.2", 4) };
        round_trip(&route("10.1.0.0/26", vec![hop("10.0.0.1", 3), weighted]));
        round_trip(&KernelRoute { source: "10.9.9.9".parse().ok(), ..route("10.0.0.0/8", vec![hop("", 3)]) });
    }

    #[test]
    fn truncated_routes_are_no_panic() {
        let mut bytes = vec![0; 12];
        bytes[0] = 2;
        bytes.extend([40, 0, 9, 0, 8, 0, 0, 0, 1, 0, 0, 0, 200, 0, 0, 0]);
        for length in 0..bytes.len() {
            let _ = read_route(&bytes[..length]);
        }
    }
}
