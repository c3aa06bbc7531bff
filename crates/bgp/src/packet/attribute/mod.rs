//! Path attributes (RFC 4271, sections 4.3 and 5, and the RFCs that added some).
//!
//! ```text
//! +---------------+---------------+---------------+---------------+
//! | O T P E  0    |     Code      |  Length (1 octet, 2 with E)   |
//! +---------------+---------------+-------------------------------+
//! |  Value (variable)
//! +---------------------------------------------------------------+
//! ```
//!
//! What is known about a code point is one row of [`table`]: name, flags, what a fault in it costs (RFC 7606), and
//! how it is read. Attributes that are not in the table are kept as they came and passed on if they are transitive.

mod as_path;
mod community;
mod mp;
mod table;

use std::fmt;
use std::net::Ipv4Addr;

use crate::iana::{attribute as code, flag};
use crate::packet::Context;
use crate::types::Asn;

pub use as_path::{AsPath, Segment, SegmentKind};
pub use community::{Community, CommunityError, LargeCommunity};
pub use mp::{MpReach, MpUnreach};
pub(crate) use mp::{encode_family, encode_next_hops};
pub(crate) use table::{Fail, Scope, row};

/// A path attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The flags octet as it came, or as it shall be sent (the extended-length bit follows the length).
    pub flags: u8,
    /// The value.
    pub value: AttributeValue,
}

/// The value of a path attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// ORIGIN.
    Origin(Origin),
    /// AS_PATH.
    AsPath(AsPath),
    /// NEXT_HOP.
    NextHop(Ipv4Addr),
    /// MULTI_EXIT_DISC.
    Med(u32),
    /// LOCAL_PREF.
    LocalPref(u32),
    /// ATOMIC_AGGREGATE.
    AtomicAggregate,
    /// AGGREGATOR.
    Aggregator(Aggregator),
    /// COMMUNITIES.
    Communities(Vec<Community>),
    /// ORIGINATOR_ID.
    OriginatorId(Ipv4Addr),
    /// CLUSTER_LIST.
    ClusterList(Vec<Ipv4Addr>),
    /// MP_REACH_NLRI.
    MpReach(MpReach),
    /// MP_UNREACH_NLRI.
    MpUnreach(MpUnreach),
    /// EXTENDED COMMUNITIES.
    ExtendedCommunities(Vec<[u8; 8]>),
    /// AS4_PATH.
    As4Path(AsPath),
    /// AS4_AGGREGATOR.
    As4Aggregator(Aggregator),
    /// IPv6 Address Specific Extended Community.
    Ipv6ExtendedCommunities(Vec<[u8; 20]>),
    /// AIGP: its TLVs, checked but not taken apart (RFC 7311).
    Aigp(Vec<u8>),
    /// LARGE_COMMUNITY.
    LargeCommunities(Vec<LargeCommunity>),
    /// Only to Customer (RFC 9234).
    Otc(Asn),
    /// A code that is not in the table.
    Unknown {
        /// The code.
        code: u8,
        /// The value.
        value: Vec<u8>,
    },
}

/// ORIGIN: where a route comes from. The smaller the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Interior to the originating AS.
    Igp = 0,
    /// Learned by EGP.
    Egp = 1,
    /// By some other means.
    Incomplete = 2,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        })
    }
}

/// Who aggregated a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its address.
    pub address: Ipv4Addr,
}

/// The name of a code in our table; `None` for those that are carried unread.
pub fn name(code: u8) -> Option<&'static str> {
    row(code).map(|row| row.name)
}

impl AttributeValue {
    /// The code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Origin(_) => code::ORIGIN,
            Self::AsPath(_) => code::AS_PATH,
            Self::NextHop(_) => code::NEXT_HOP,
            Self::Med(_) => code::MULTI_EXIT_DISC,
            Self::LocalPref(_) => code::LOCAL_PREF,
            Self::AtomicAggregate => code::ATOMIC_AGGREGATE,
            Self::Aggregator(_) => code::AGGREGATOR,
            Self::Communities(_) => code::COMMUNITIES,
            Self::OriginatorId(_) => code::ORIGINATOR_ID,
            Self::ClusterList(_) => code::CLUSTER_LIST,
            Self::MpReach(_) => code::MP_REACH_NLRI,
            Self::MpUnreach(_) => code::MP_UNREACH_NLRI,
            Self::ExtendedCommunities(_) => code::EXTENDED_COMMUNITIES,
            Self::As4Path(_) => code::AS4_PATH,
            Self::As4Aggregator(_) => code::AS4_AGGREGATOR,
            Self::Ipv6ExtendedCommunities(_) => code::IPV6_EXTENDED_COMMUNITIES,
            Self::Aigp(_) => code::AIGP,
            Self::LargeCommunities(_) => code::LARGE_COMMUNITIES,
            Self::Otc(_) => code::OTC,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// The name in our table.
    pub fn name(&self) -> Option<&'static str> {
        row(self.code()).map(|row| row.name)
    }

    fn encode(&self, context: &Context, out: &mut Vec<u8>) {
        match self {
            Self::Origin(origin) => out.push(*origin as u8),
            Self::AsPath(path) => path.encode(context.as4, out),
            Self::NextHop(address) | Self::OriginatorId(address) => out.extend_from_slice(&address.octets()),
            Self::Med(number) | Self::LocalPref(number) | Self::Otc(Asn(number)) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Self::AtomicAggregate => {}
            Self::Aggregator(aggregator) => aggregator.encode(context.as4, out),
            Self::As4Aggregator(aggregator) => aggregator.encode(true, out),
            Self::Communities(list) => list.iter().for_each(|c| out.extend_from_slice(&c.0.to_be_bytes())),
            Self::ClusterList(list) => list.iter().for_each(|id| out.extend_from_slice(&id.octets())),
            Self::MpReach(reach) => reach.encode(out),
            Self::MpUnreach(unreach) => unreach.encode(out),
            Self::ExtendedCommunities(list) => list.iter().for_each(|c| out.extend_from_slice(c)),
            Self::As4Path(path) => path.encode(true, out),
            Self::Ipv6ExtendedCommunities(list) => list.iter().for_each(|c| out.extend_from_slice(c)),
            Self::LargeCommunities(list) => {
                let parts = list.iter().flat_map(|LargeCommunity(a, b, c)| [a, b, c]);
                parts.for_each(|part| out.extend_from_slice(&part.to_be_bytes()));
            }
            Self::Aigp(value) | Self::Unknown { value, .. } => out.extend_from_slice(value),
        }
    }
}

impl Aggregator {
    fn encode(&self, four_octets: bool, out: &mut Vec<u8>) {
        match four_octets {
            true => out.extend_from_slice(&self.asn.0.to_be_bytes()),
            false => out.extend_from_slice(&self.asn.to_two_octets().to_be_bytes()),
        }
        out.extend_from_slice(&self.address.octets());
    }
}

impl Attribute {
    /// An attribute with the flags that its code has in the table. Unknown ones: optional and transitive.
    pub fn new(value: AttributeValue) -> Self {
        let flags = row(value.code()).map_or(flag::OPTIONAL | flag::TRANSITIVE, |row| row.flags);
        Self { flags, value }
    }

    /// Appends the attribute.
    pub(crate) fn encode(&self, context: &Context, out: &mut Vec<u8>) {
        self.value.encode_with(self.flags, context, out);
    }
}

impl AttributeValue {
    /// Appends the attribute, with these flags.
    pub(crate) fn encode_with(&self, flags: u8, context: &Context, out: &mut Vec<u8>) {
        let flags = flags & (flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL);
        let start = out.len();
        out.extend_from_slice(&[flags, self.code(), 0]);
        self.encode(context, out);
        let length = out.len() - start - 3;
        match u8::try_from(length) {
            Ok(length) => out[start + 2] = length,
            Err(_) => {
                let length = u16::try_from(length).expect("a value is shorter than a message");
                out[start] |= flag::EXTENDED_LENGTH;
                out.splice(start + 2..start + 3, length.to_be_bytes());
            }
        }
    }
}

impl Attribute {
    /// What becomes of the attribute when its route is passed on.
    #[must_use]
    pub fn passed_on(&self) -> Option<Self> {
        Some(Self { flags: self.flags_passed_on()?, value: self.value.clone() })
    }

    /// The flags with which the attribute is passed on with its route, if it is (RFC 4271, section 5): unknown ones only
    /// when transitive, marked as partial; the MP attributes belong to one message only; the AS4 attributes have been
    /// merged into what they stand for.
    pub(crate) fn flags_passed_on(&self) -> Option<u8> {
        match self.value {
            AttributeValue::MpReach(_)
            | AttributeValue::MpUnreach(_)
            | AttributeValue::As4Path(_)
            | AttributeValue::As4Aggregator(_) => None,
            AttributeValue::Unknown { .. } if self.flags & flag::TRANSITIVE == 0 => None,
            AttributeValue::Unknown { .. } => Some(self.flags | flag::PARTIAL),
            _ => Some(self.flags),
        }
    }
}

/// Appends an attribute whose value is already encoded. Values are shorter than 65,536 octets.
pub(crate) fn encode_raw(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    let flags = flags & (flag::OPTIONAL | flag::TRANSITIVE | flag::PARTIAL);
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, code, length]),
        Err(_) => {
            let length = u16::try_from(value.len()).expect("a value is shorter than a message");
            out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, code]);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}
