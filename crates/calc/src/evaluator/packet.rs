//! What the evaluator looks at.

use std::net::IpAddr;

use crate::contract::{IcmpMatch, IpVersion};
use crate::program::{Conntrack, Side};

/// A packet as one hook sees it: after whatever NAT has happened before the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// For TCP, UDP and SCTP.
    pub source_port: u16,
    /// For TCP, UDP and SCTP.
    pub destination_port: u16,
    /// Type and code, for ICMP and ICMPv6.
    pub icmp: (u8, u8),
    /// What connection tracking says of it.
    pub conntrack: Conntrack,
    /// It goes against the direction of its connection's first packet.
    pub is_reply: bool,
}

impl Packet {
    /// The first packet of a TCP connection.
    pub fn tcp(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self::new(source, destination, 6, port)
    }

    /// The first packet of a UDP flow.
    pub fn udp(source: IpAddr, destination: IpAddr, port: u16) -> Self {
        Self::new(source, destination, 17, port)
    }

    /// The first packet of a flow of any protocol; from port 40000 if it has ports, an echo request if it is ICMP.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, port: u16) -> Self {
        let icmp = if protocol == 58 { (128, 0) } else { (8, 0) };
        Self {
            source,
            destination,
            protocol,
            source_port: 40000,
            destination_port: port,
            icmp,
            conntrack: Conntrack::New,
            is_reply: false,
        }
    }

    /// The address of an end.
    pub fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Source => self.source,
            Side::Destination => self.destination,
        }
    }

    /// The port of an end, if the protocol has ports that rules can name (TCP, UDP, SCTP).
    pub fn port(&self, side: Side) -> Option<u16> {
        matches!(self.protocol, 6 | 17 | 132).then_some(match side {
            Side::Source => self.source_port,
            Side::Destination => self.destination_port,
        })
    }

    pub(super) fn is_icmp(&self, version: IpVersion) -> bool {
        match version {
            IpVersion::V4 => self.protocol == 1,
            IpVersion::V6 => self.protocol == 58,
        }
    }

    pub(super) fn icmp_is(&self, wanted: &IcmpMatch) -> bool {
        self.icmp.0 == wanted.icmp_type && wanted.code.is_none_or(|code| self.icmp.1 == code)
    }
}
