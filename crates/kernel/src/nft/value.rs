//! Data types, values, and how a value becomes the bytes of a register or set key.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::bytes::Bytes;
use super::error::InvalidRule;
use super::names;

/// The data type of a field and of the keys of a set, as nft names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DataType {
    /// `ipv4_addr`.
    Ipv4Addr,
    /// `ipv6_addr`.
    Ipv6Addr,
    /// `arp_op`: an ARP operation.
    ArpOp,
    /// `inet_proto`: a protocol number.
    InetProto,
    /// `inet_service`: a port.
    InetService,
    /// `mark`: a packet mark.
    Mark,
    /// `ifname`: an interface name.
    IfName,
    /// `icmp_type`.
    IcmpType,
    /// `icmp_code`.
    IcmpCode,
    /// `icmpv6_type`.
    Icmpv6Type,
    /// `icmpv6_code`.
    Icmpv6Code,
    /// `ct_state`: bits.
    CtState,
    /// `ct_dir`: which way along its connection.
    CtDirection,
    /// `ct_status`: bits.
    CtStatus,
    /// `nf_proto`: `ipv4` or `ipv6`.
    NfProto,
    /// `iface_index`.
    IfIndex,
    /// `fib_addrtype`: what the routing table says an address is.
    AddrType,
}

impl DataType {
    /// All of them.
    pub const ALL: [DataType; 17] = [
        DataType::Ipv4Addr,
        DataType::Ipv6Addr,
        DataType::ArpOp,
        DataType::InetProto,
        DataType::InetService,
        DataType::Mark,
        DataType::IfName,
        DataType::IcmpType,
        DataType::IcmpCode,
        DataType::Icmpv6Type,
        DataType::Icmpv6Code,
        DataType::CtState,
        DataType::CtDirection,
        DataType::CtStatus,
        DataType::NfProto,
        DataType::IfIndex,
        DataType::AddrType,
    ];

    /// nft's number for it (`enum datatypes` of nft, the value of `NFTA_SET_KEY_TYPE`).
    pub fn number(self) -> u32 {
        match self {
            DataType::NfProto => 2,
            DataType::Ipv4Addr => 7,
            DataType::Ipv6Addr => 8,
            DataType::ArpOp => 11,
            DataType::InetProto => 12,
            DataType::InetService => 13,
            DataType::IcmpType => 14,
            DataType::Mark => 19,
            DataType::IfIndex => 20,
            DataType::CtState => 26,
            DataType::CtDirection => 27,
            DataType::CtStatus => 28,
            DataType::Icmpv6Type => 29,
            DataType::IcmpCode => 32,
            DataType::Icmpv6Code => 33,
            DataType::AddrType => 38,
            DataType::IfName => 41,
        }
    }

    /// The type with that number.
    pub fn from_number(number: u32) -> Option<Self> {
        DataType::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Length of a value in bytes.
    pub fn width(self) -> usize {
        match self {
            DataType::Ipv4Addr | DataType::Mark | DataType::IfIndex | DataType::AddrType => 4,
            DataType::CtState | DataType::CtStatus => 4,
            DataType::Ipv6Addr | DataType::IfName => 16,
            DataType::InetService | DataType::ArpOp => 2,
            DataType::InetProto | DataType::NfProto | DataType::CtDirection => 1,
            DataType::IcmpType | DataType::IcmpCode | DataType::Icmpv6Type | DataType::Icmpv6Code => 1,
        }
    }

    /// Length that a value takes in a concatenation: whole registers of four bytes.
    pub fn padded_width(self) -> usize {
        self.width().next_multiple_of(4)
    }

    /// Whether the kernel keeps it in the byte order of the machine, not of the network.
    pub fn is_host_order(self) -> bool {
        matches!(
            self,
            DataType::Mark
                | DataType::IfName
                | DataType::CtState
                | DataType::CtStatus
                | DataType::IfIndex
                | DataType::AddrType
        )
    }

    /// nft's name.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Ipv4Addr => "ipv4_addr",
            DataType::Ipv6Addr => "ipv6_addr",
            DataType::ArpOp => "arp_op",
            DataType::InetProto => "inet_proto",
            DataType::InetService => "inet_service",
            DataType::Mark => "mark",
            DataType::IfName => "ifname",
            DataType::IcmpType => "icmp_type",
            DataType::IcmpCode => "icmp_code",
            DataType::Icmpv6Type => "icmpv6_type",
            DataType::Icmpv6Code => "icmpv6_code",
            DataType::CtState => "ct_state",
            DataType::CtDirection => "ct_dir",
            DataType::CtStatus => "ct_status",
            DataType::NfProto => "nf_proto",
            DataType::IfIndex => "iface_index",
            DataType::AddrType => "fib_addrtype",
        }
    }
}

/// One value on the right of a match, or one part of a set member.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// A number: port, protocol, mark, ICMP type, bits.
    Number(u32),
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// An IPv6 address.
    Ipv6(Ipv6Addr),
    /// An interface name; in a match (not in a set) a last `*` stands for any rest.
    Name(Arc<str>),
}

impl Value {
    /// The bytes of this value as `kind`, in the order in which the kernel keeps them.
    pub(crate) fn encode(&self, kind: DataType) -> Result<Bytes, InvalidRule> {
        let mismatch = || InvalidRule::ValueOfOtherType { value: self.to_string(), kind: kind.name() };
        match (self, kind) {
            (Value::Ipv4(address), DataType::Ipv4Addr) => Ok(address.octets().into()),
            (Value::Ipv6(address), DataType::Ipv6Addr) => Ok(address.octets().into()),
            (Value::Name(name), DataType::IfName) => interface_name(name),
            (Value::Number(number), _) => match (kind.width(), kind) {
                (_, DataType::Ipv4Addr | DataType::Ipv6Addr | DataType::IfName) => Err(mismatch()),
                (1, _) => u8::try_from(*number).map(|n| [n].into()).map_err(|_| mismatch()),
                (2, _) => u16::try_from(*number).map(|n| n.to_be_bytes().into()).map_err(|_| mismatch()),
                _ if kind.is_host_order() => Ok(number.to_ne_bytes().into()),
                _ => Ok(number.to_be_bytes().into()),
            },
            _ => Err(mismatch()),
        }
    }

    /// The value that `bytes` are as `kind`; none when they cannot be.
    pub(crate) fn decode(kind: DataType, bytes: &[u8]) -> Option<Value> {
        match kind {
            DataType::Ipv4Addr => Some(Value::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
            DataType::Ipv6Addr => Some(Value::Ipv6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
            DataType::IfName => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                Some(Value::Name(String::from_utf8_lossy(&bytes[..end]).into()))
            }
            _ => match (bytes.len() == kind.width(), bytes) {
                (true, [a]) => Some(Value::Number(u32::from(*a))),
                (true, [a, b]) => Some(Value::Number(u32::from(u16::from_be_bytes([*a, *b])))),
                (true, [a, b, c, d]) if kind.is_host_order() => {
                    Some(Value::Number(u32::from_ne_bytes([*a, *b, *c, *d])))
                }
                (true, [a, b, c, d]) => Some(Value::Number(u32::from_be_bytes([*a, *b, *c, *d]))),
                _ => None,
            },
        }
    }

    /// Writes the value as nft lists one of type `kind`.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>, kind: DataType) -> fmt::Result {
        match self {
            Value::Number(number) => names::write_number(f, kind, *number),
            Value::Ipv4(address) => write!(f, "{address}"),
            Value::Ipv6(address) => write!(f, "{address}"),
            Value::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

/// An interface name in its sixteen bytes, padded with zeroes (`IFNAMSIZ`).
fn interface_name(name: &str) -> Result<Bytes, InvalidRule> {
    if name.is_empty() || name.len() > 15 || name.bytes().any(|byte| byte == 0) {
        return Err(InvalidRule::InterfaceName { name: name.into() });
    }
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Ok(bytes.into())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number}"),
            other => other.write(f, DataType::IfName),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$name:ident| $into:expr),* $(,)?) => {$(
        impl From<$from> for Value {
            fn from($name: $from) -> Self {
                $into
            }
        }
    )*};
}

value_from! {
    u8 => |number| Value::Number(number.into()),
    u16 => |number| Value::Number(number.into()),
    u32 => |number| Value::Number(number),
    Ipv4Addr => |address| Value::Ipv4(address),
    Ipv6Addr => |address| Value::Ipv6(address),
    &str => |name| Value::Name(name.into()),
    String => |name| Value::Name(name.into()),
    Arc<str> => |name| Value::Name(name),
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Value::Ipv4(address),
            IpAddr::V6(address) => Value::Ipv6(address),
        }
    }
}

/// One component of a set member: a value, or a range of values where the set has intervals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Exactly this.
    One(Value),
    /// From the first to the second, both included.
    Range(Value, Value),
}

impl Part {
    /// From `low` to `high`, both included.
    pub fn range(low: impl Into<Value>, high: impl Into<Value>) -> Self {
        let (low, high) = (low.into(), high.into());
        if low == high { Part::One(low) } else { Part::Range(low, high) }
    }

    /// The bytes of the lowest and highest value as `kind`.
    pub(crate) fn encode(&self, kind: DataType) -> Result<(Bytes, Bytes), InvalidRule> {
        match self {
            Part::One(value) => value.encode(kind).map(|bytes| (bytes.clone(), bytes)),
            Part::Range(low, high) => {
                let (low_bytes, high_bytes) = (low.encode(kind)?, high.encode(kind)?);
                if kind.is_host_order() || low_bytes > high_bytes {
                    return Err(InvalidRule::Range { low: low.to_string(), high: high.to_string() });
                }
                Ok((low_bytes, high_bytes))
            }
        }
    }
}

impl<V: Into<Value>> From<V> for Part {
    fn from(value: V) -> Self {
        Part::One(value.into())
    }
}

impl From<IpNet> for Part {
    fn from(net: IpNet) -> Self {
        Part::range(net.network(), net.broadcast())
    }
}

/// A member of a set: one [`Part`] for each data type of the set's key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(pub Vec<Part>);

impl<P: Into<Part>> From<P> for Member {
    fn from(part: P) -> Self {
        Member(vec![part.into()])
    }
}

impl<const N: usize> From<[Part; N]> for Member {
    fn from(parts: [Part; N]) -> Self {
        Member(parts.into())
    }
}
