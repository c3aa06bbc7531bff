//! What a match looks at, and how the kernel loads it.

use std::fmt;

use super::family::Family;
use super::value::DataType;

/// A field of a packet, of its metadata or of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `iifname`: the interface by which the packet came.
    Iifname,
    /// `oifname`: the interface by which it will leave.
    Oifname,
    /// `meta mark`.
    Mark,
    /// `meta l4proto`: the transport protocol, after IPv6 extension headers.
    L4proto,
    /// `meta nfproto`: 2 for IPv4, 10 for IPv6.
    Nfproto,
    /// `ip saddr`.
    IpSaddr,
    /// `ip daddr`.
    IpDaddr,
    /// `ip6 saddr`.
    Ip6Saddr,
    /// `ip6 daddr`.
    Ip6Daddr,
    /// `tcp sport`.
    TcpSport,
    /// `tcp dport`.
    TcpDport,
    /// `udp sport`.
    UdpSport,
    /// `udp dport`.
    UdpDport,
    /// `sctp sport`.
    SctpSport,
    /// `sctp dport`.
    SctpDport,
    /// `th sport`: the source port of whatever transport protocol has ports there.
    ThSport,
    /// `th dport`.
    ThDport,
    /// `icmp type`.
    IcmpType,
    /// `icmp code`.
    IcmpCode,
    /// `icmpv6 type`.
    Icmpv6Type,
    /// `icmpv6 code`.
    Icmpv6Code,
    /// `arp operation`: 1 request, 2 reply …
    ArpOperation,
    /// `arp saddr ip`: the IPv4 address of who sends the ARP packet.
    ArpSaddrIp,
    /// `ct state`: see [`ct_state`].
    CtState,
    /// `ct direction`: see [`ct_direction`].
    CtDirection,
    /// `ct status`: see [`ct_status`].
    CtStatus,
    /// `ct mark`.
    CtMark,
    /// `fib …`: an answer of the routing tables.
    Fib(FibQuery),
}

/// Bits of [`Field::CtState`].
pub mod ct_state {
    /// Belongs to no connection and cannot start one.
    pub const INVALID: u32 = 1;
    /// Belongs to a connection that saw packets both ways.
    pub const ESTABLISHED: u32 = 2;
    /// Starts a connection that another one expects, or is its ICMP error.
    pub const RELATED: u32 = 4;
    /// Starts a connection.
    pub const NEW: u32 = 8;
    /// `notrack` was applied.
    pub const UNTRACKED: u32 = 64;
}

/// Values of [`Field::CtDirection`] (`enum ip_conntrack_dir`).
pub mod ct_direction {
    /// As the connection's first packet.
    pub const ORIGINAL: u8 = 0;
    /// Against it: an answer.
    pub const REPLY: u8 = 1;
}

/// Bits of [`Field::CtStatus`] (`IPS_*`).
pub mod ct_status {
    /// An expected (related) connection.
    pub const EXPECTED: u32 = 0x1;
    /// Packets were seen both ways.
    pub const SEEN_REPLY: u32 = 0x2;
    /// Is not expired early.
    pub const ASSURED: u32 = 0x4;
    /// Its first packet left this host.
    pub const CONFIRMED: u32 = 0x8;
    /// The source is translated.
    pub const SNAT: u32 = 0x10;
    /// The destination is translated.
    pub const DNAT: u32 = 0x20;
}

/// A question to the routing tables: `fib saddr . iif oif`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FibQuery {
    /// The address that is looked up.
    pub address: FibAddress,
    /// Whether the packet's mark selects the rules.
    pub mark: bool,
    /// Whether the answer is restricted to the interface by which the packet came.
    pub iif: bool,
    /// What is asked for.
    pub result: FibResult,
}

/// The address of a [`FibQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FibAddress {
    /// The packet's source.
    Source,
    /// The packet's destination.
    Destination,
}

/// The answer of a [`FibQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FibResult {
    /// `oif`: the index of the interface that the route leads to.
    Oif,
    /// `oifname`: its name.
    OifName,
    /// `type`: `RTN_*` of the address: 1 unicast, 2 local, 3 broadcast …
    Type,
}

/// Which protocol a packet must have for a field to be there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// This `meta l4proto`.
    Transport(u8),
    /// This `meta nfproto`, which the family of a table may already settle.
    Network(Family),
}

/// Where the kernel gets a field from (`enum nft_payload_bases`, `nft_meta_keys`, `nft_ct_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Meta(u32),
    Payload { base: u32, offset: u32 },
    Ct(u32),
    Fib { result: u32, flags: u32 },
}

const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

impl Field {
    /// The type of its values.
    pub fn data_type(self) -> DataType {
        match self {
            Field::Iifname | Field::Oifname => DataType::IfName,
            Field::Mark | Field::CtMark => DataType::Mark,
            Field::L4proto => DataType::InetProto,
            Field::Nfproto => DataType::NfProto,
            Field::IpSaddr | Field::IpDaddr => DataType::Ipv4Addr,
            Field::Ip6Saddr | Field::Ip6Daddr => DataType::Ipv6Addr,
            Field::TcpSport | Field::TcpDport | Field::UdpSport | Field::UdpDport => DataType::InetService,
            Field::SctpSport | Field::SctpDport | Field::ThSport | Field::ThDport => DataType::InetService,
            Field::IcmpType => DataType::IcmpType,
            Field::IcmpCode => DataType::IcmpCode,
            Field::Icmpv6Type => DataType::Icmpv6Type,
            Field::Icmpv6Code => DataType::Icmpv6Code,
            Field::ArpOperation => DataType::ArpOp,
            Field::ArpSaddrIp => DataType::Ipv4Addr,
            Field::CtState => DataType::CtState,
            Field::CtDirection => DataType::CtDirection,
            Field::CtStatus => DataType::CtStatus,
            Field::Fib(FibQuery { result: FibResult::Oif, .. }) => DataType::IfIndex,
            Field::Fib(FibQuery { result: FibResult::OifName, .. }) => DataType::IfName,
            Field::Fib(FibQuery { result: FibResult::Type, .. }) => DataType::AddrType,
        }
    }

    pub(crate) fn load(self) -> Load {
        let payload = |base, offset| Load::Payload { base, offset };
        match self {
            Field::Mark => Load::Meta(3),
            Field::Iifname => Load::Meta(6),
            Field::Oifname => Load::Meta(7),
            Field::Nfproto => Load::Meta(15),
            Field::L4proto => Load::Meta(16),
            Field::IpSaddr => payload(NETWORK, 12),
            Field::IpDaddr => payload(NETWORK, 16),
            Field::Ip6Saddr => payload(NETWORK, 8),
            Field::Ip6Daddr => payload(NETWORK, 24),
            Field::TcpSport | Field::UdpSport | Field::SctpSport | Field::ThSport => payload(TRANSPORT, 0),
            Field::TcpDport | Field::UdpDport | Field::SctpDport | Field::ThDport => payload(TRANSPORT, 2),
            Field::IcmpType | Field::Icmpv6Type => payload(TRANSPORT, 0),
            Field::IcmpCode | Field::Icmpv6Code => payload(TRANSPORT, 1),
            Field::ArpOperation => payload(NETWORK, 6),
            Field::ArpSaddrIp => payload(NETWORK, 14),
            Field::CtState => Load::Ct(0),
            Field::CtDirection => Load::Ct(1),
            Field::CtStatus => Load::Ct(2),
            Field::CtMark => Load::Ct(3),
            Field::Fib(query) => query.load(),
        }
    }

    /// What must be known about the packet before this field means anything.
    pub(crate) fn dependency(self) -> Option<Dependency> {
        match self {
            Field::IpSaddr | Field::IpDaddr => Some(Dependency::Network(Family::Ip)),
            Field::Ip6Saddr | Field::Ip6Daddr => Some(Dependency::Network(Family::Ip6)),
            Field::ArpOperation | Field::ArpSaddrIp => Some(Dependency::Network(Family::Arp)),
            Field::TcpSport | Field::TcpDport => Some(Dependency::Transport(6)),
            Field::UdpSport | Field::UdpDport => Some(Dependency::Transport(17)),
            Field::SctpSport | Field::SctpDport => Some(Dependency::Transport(132)),
            Field::IcmpType | Field::IcmpCode => Some(Dependency::Transport(1)),
            Field::Icmpv6Type | Field::Icmpv6Code => Some(Dependency::Transport(58)),
            _ => None,
        }
    }

    /// The field that nft lists for the generic `th` one once the transport protocol is known.
    pub(crate) fn of_protocol(self, protocol: u8) -> Field {
        match (self, protocol) {
            (Field::ThSport, 6) => Field::TcpSport,
            (Field::ThDport, 6) => Field::TcpDport,
            (Field::ThSport, 17) => Field::UdpSport,
            (Field::ThDport, 17) => Field::UdpDport,
            (Field::ThSport, 132) => Field::SctpSport,
            (Field::ThDport, 132) => Field::SctpDport,
            _ => self,
        }
    }
}

impl FibQuery {
    fn load(self) -> Load {
        let address = match self.address {
            FibAddress::Source => 1,
            FibAddress::Destination => 2,
        };
        let result = match self.result {
            FibResult::Oif => 1,
            FibResult::OifName => 2,
            FibResult::Type => 3,
        };
        Load::Fib { result, flags: address | u32::from(self.mark) << 2 | u32::from(self.iif) << 3 }
    }
}

impl fmt::Display for FibQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.address {
            FibAddress::Source => "fib saddr",
            FibAddress::Destination => "fib daddr",
        })?;
        if self.mark {
            f.write_str(" . mark")?;
        }
        if self.iif {
            f.write_str(" . iif")?;
        }
        f.write_str(match self.result {
            FibResult::Oif => " oif",
            FibResult::OifName => " oifname",
            FibResult::Type => " type",
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Iifname => "iifname",
            Field::Oifname => "oifname",
            Field::Mark => "meta mark",
            Field::L4proto => "meta l4proto",
            Field::Nfproto => "meta nfproto",
            Field::IpSaddr => "ip saddr",
            Field::IpDaddr => "ip daddr",
            Field::Ip6Saddr => "ip6 saddr",
            Field::Ip6Daddr => "ip6 daddr",
            Field::TcpSport => "tcp sport",
            Field::TcpDport => "tcp dport",
            Field::UdpSport => "udp sport",
            Field::UdpDport => "udp dport",
            Field::SctpSport => "sctp sport",
            Field::SctpDport => "sctp dport",
            Field::ThSport => "th sport",
            Field::ThDport => "th dport",
            Field::IcmpType => "icmp type",
            Field::IcmpCode => "icmp code",
            Field::Icmpv6Type => "icmpv6 type",
            Field::Icmpv6Code => "icmpv6 code",
            Field::ArpOperation => "arp operation",
            Field::ArpSaddrIp => "arp saddr ip",
            Field::CtState => "ct state",
            Field::CtDirection => "ct direction",
            Field::CtStatus => "ct status",
            Field::CtMark => "ct mark",
            Field::Fib(query) => return query.fmt(f),
        })
    }
}
