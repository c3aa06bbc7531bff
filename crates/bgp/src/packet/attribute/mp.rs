//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760; RFC 2545; RFC 8950).
//!
//! ```text
//! MP_REACH_NLRI                          MP_UNREACH_NLRI
//! +--------------------------------+     +-------------------------+
//! | AFI (2)                        |     | AFI (2)                 |
//! | SAFI (1)                       |     | SAFI (1)                |
//! | Length of next hop (1)         |     | Withdrawn routes        |
//! | Next hop                       |     +-------------------------+
//! | Reserved (1)                   |
//! | NLRI                           |
//! +--------------------------------+
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Fail;
use crate::iana::update_error;
use crate::packet::Context;
use crate::packet::capability::FamilyCode;
use crate::packet::nlri::{self, Nlri};
use crate::types::Family;

/// Routes of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MpReach {
    /// Of a family of the session.
    Routes {
        /// The family.
        family: Family,
        /// The next hop; for IPv6 perhaps followed by a link-local address (RFC 2545, section 3).
        next_hops: Vec<IpAddr>,
        /// The prefixes.
        nlri: Vec<Nlri>,
    },
    /// Of a family that was not agreed on: not looked into.
    Opaque {
        /// The family.
        family: FamilyCode,
        /// Everything after the family.
        rest: Vec<u8>,
    },
}

/// Withdrawn routes of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MpUnreach {
    /// Of a family of the session. No prefix at all is the End-of-RIB marker.
    Routes {
        /// The family.
        family: Family,
        /// The prefixes.
        nlri: Vec<Nlri>,
    },
    /// Of a family that was not agreed on: not looked into.
    Opaque {
        /// The family.
        family: FamilyCode,
        /// Everything after the family.
        rest: Vec<u8>,
    },
}

fn fail(reason: &'static str) -> Fail {
    Fail { subcode: update_error::OPTIONAL, reason }
}

/// The family, when the session has it, and the rest.
fn family<'a>(value: &'a [u8], context: &Context) -> Result<(FamilyCode, Option<Family>, &'a [u8]), Fail> {
    let Some((&[high, low, safi], rest)) = value.split_first_chunk::<3>() else {
        return Err(fail("is too short for a family"));
    };
    let code = FamilyCode { afi: u16::from_be_bytes([high, low]), safi };
    let agreed = code.known().filter(|family| context.families.contains(*family));
    Ok((code, agreed, rest))
}

impl MpReach {
    pub(crate) fn decode(value: &[u8], context: &Context) -> Result<Self, Fail> {
        let (code, agreed, rest) = family(value, context)?;
        let Some(family) = agreed else { return Ok(Self::Opaque { family: code, rest: rest.to_vec() }) };
        let (next_hop, rest) = rest
            .split_first()
            .and_then(|(&length, rest)| rest.split_at_checked(usize::from(length)))
            .ok_or_else(|| fail("the next hop overruns the attribute"))?;
        let next_hops = next_hops(next_hop, family, context)?;
        let Some((_reserved, rest)) = rest.split_first() else {
            return Err(fail("ends before the reserved octet"));
        };
        let nlri = nlri::decode(rest, family, context.add_path.contains(family))
            .map_err(|error| fail(error.reason))?;
        Ok(Self::Routes { family, next_hops, nlri })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Routes { family, next_hops, nlri } => {
                encode_family((*family).into(), out);
                encode_next_hops(next_hops, out);
                out.push(0);
                nlri.iter().for_each(|nlri| nlri::encode(nlri, out));
            }
            Self::Opaque { family, rest } => {
                encode_family(*family, out);
                out.extend_from_slice(rest);
            }
        }
    }
}

impl MpUnreach {
    pub(crate) fn decode(value: &[u8], context: &Context) -> Result<Self, Fail> {
        let (code, agreed, rest) = family(value, context)?;
        let Some(family) = agreed else { return Ok(Self::Opaque { family: code, rest: rest.to_vec() }) };
        let nlri = nlri::decode(rest, family, context.add_path.contains(family))
            .map_err(|error| fail(error.reason))?;
        Ok(Self::Routes { family, nlri })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Routes { family, nlri } => {
                encode_family((*family).into(), out);
                nlri.iter().for_each(|nlri| nlri::encode(nlri, out));
            }
            Self::Opaque { family, rest } => {
                encode_family(*family, out);
                out.extend_from_slice(rest);
            }
        }
    }
}

pub(crate) fn encode_family(family: FamilyCode, out: &mut Vec<u8>) {
    out.extend_from_slice(&family.afi.to_be_bytes());
    out.push(family.safi);
}

pub(crate) fn encode_next_hops(next_hops: &[IpAddr], out: &mut Vec<u8>) {
    let length: usize = next_hops.iter().map(|hop| if hop.is_ipv4() { 4 } else { 16 }).sum();
    out.push(u8::try_from(length).expect("at most two next hops"));
    for hop in next_hops {
        match hop {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
}

fn next_hops(bytes: &[u8], family: Family, context: &Context) -> Result<Vec<IpAddr>, Fail> {
    let v6_allowed = family == Family::Ipv6Unicast || context.extended_next_hop;
    match (bytes.len(), family) {
        (4, Family::Ipv4Unicast) => {
            let octets = <[u8; 4]>::try_from(bytes).expect("the length was just checked");
            Ok(vec![Ipv4Addr::from(octets).into()])
        }
        (16 | 32, _) if v6_allowed => {
            Ok(bytes.as_chunks::<16>().0.iter().map(|octets| Ipv6Addr::from(*octets).into()).collect())
        }
        _ => Err(fail("a next hop of this length is not one of this family")),
    }
}
