//! One row per attribute code: name, flags, what a fault costs, how the value is read.

use std::net::Ipv4Addr;

use super::{Aggregator, AsPath, AttributeValue, Community, LargeCommunity, MpReach, MpUnreach, Origin};
use crate::iana::{attribute as code, flag, update_error};
use crate::packet::Context;
use crate::packet::update::Disposition;
use crate::types::Asn;

/// What is known about a code.
pub(crate) struct Row {
    pub(crate) code: u8,
    pub(crate) name: &'static str,
    /// The optional and transitive bits that it must have.
    pub(crate) flags: u8,
    /// What wrong flags cost.
    pub(crate) wrong_flags: Disposition,
    /// What a wrong length or value costs.
    pub(crate) wrong_value: Disposition,
    /// From whom it is taken.
    pub(crate) scope: Scope,
    pub(crate) decode: fn(&[u8], &Context) -> Result<AttributeValue, Fail>,
}

/// From whom an attribute is taken; from others it is discarded unread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Everyone,
    /// Internal peers (RFC 7606, sections 7.5, 7.9, 7.10; RFC 7311, section 3.2).
    InternalPeers,
    /// Peers with two-octet AS numbers (RFC 6793, section 4.1).
    TwoOctetPeers,
}

/// A value that cannot be read.
pub(crate) struct Fail {
    pub(crate) subcode: u8,
    pub(crate) reason: &'static str,
}

const WELL_KNOWN: u8 = flag::TRANSITIVE;
const TRANSITIVE: u8 = flag::OPTIONAL | flag::TRANSITIVE;
const NON_TRANSITIVE: u8 = flag::OPTIONAL;
const DISCARD: Disposition = Disposition::AttributeDiscard;
const WITHDRAW: Disposition = Disposition::TreatAsWithdraw;
const RESET: Disposition = Disposition::SessionReset;

/// The row of a code.
pub(crate) fn row(code: u8) -> Option<&'static Row> {
    TABLE.binary_search_by_key(&code, |row| row.code).ok().map(|index| &TABLE[index])
}

const fn entry(
    code: u8,
    name: &'static str,
    flags: u8,
    costs: (Disposition, Disposition),
    scope: Scope,
    decode: fn(&[u8], &Context) -> Result<AttributeValue, Fail>,
) -> Row {
    Row { code, name, flags, wrong_flags: costs.0, wrong_value: costs.1, scope, decode }
}

/// In ascending order of the code.
static TABLE: &[Row] = &[
    entry(code::ORIGIN, "origin", WELL_KNOWN, (WITHDRAW, WITHDRAW), Scope::Everyone, origin),
    entry(code::AS_PATH, "as-path", WELL_KNOWN, (WITHDRAW, WITHDRAW), Scope::Everyone, as_path),
    entry(code::NEXT_HOP, "next-hop", WELL_KNOWN, (WITHDRAW, WITHDRAW), Scope::Everyone, |v, _| {
        address(v).map(AttributeValue::NextHop)
    }),
    entry(code::MULTI_EXIT_DISC, "med", NON_TRANSITIVE, (WITHDRAW, WITHDRAW), Scope::Everyone, |v, _| {
        number(v).map(AttributeValue::Med)
    }),
    entry(code::LOCAL_PREF, "local-pref", WELL_KNOWN, (WITHDRAW, WITHDRAW), Scope::InternalPeers, |v, _| {
        number(v).map(AttributeValue::LocalPref)
    }),
    entry(
        code::ATOMIC_AGGREGATE,
        "atomic-aggregate",
        WELL_KNOWN,
        (WITHDRAW, DISCARD),
        Scope::Everyone,
        |v, _| if v.is_empty() { Ok(AttributeValue::AtomicAggregate) } else { Err(length("is not empty")) },
    ),
    entry(code::AGGREGATOR, "aggregator", TRANSITIVE, (WITHDRAW, DISCARD), Scope::Everyone, |v, context| {
        aggregator(v, context.as4).map(AttributeValue::Aggregator)
    }),
    entry(code::COMMUNITIES, "communities", TRANSITIVE, (WITHDRAW, WITHDRAW), Scope::Everyone, |v, _| {
        let list = list::<4>(v)?.map(|octets| Community(u32::from_be_bytes(octets))).collect();
        Ok(AttributeValue::Communities(list))
    }),
    entry(
        code::ORIGINATOR_ID,
        "originator-id",
        NON_TRANSITIVE,
        (WITHDRAW, WITHDRAW),
        Scope::InternalPeers,
        |v, _| address(v).map(AttributeValue::OriginatorId),
    ),
    entry(
        code::CLUSTER_LIST,
        "cluster-list",
        NON_TRANSITIVE,
        (WITHDRAW, WITHDRAW),
        Scope::InternalPeers,
        |v, _| Ok(AttributeValue::ClusterList(list::<4>(v)?.map(Ipv4Addr::from).collect())),
    ),
    entry(code::MP_REACH_NLRI, "mp-reach", NON_TRANSITIVE, (RESET, RESET), Scope::Everyone, |v, context| {
        MpReach::decode(v, context).map(AttributeValue::MpReach)
    }),
    entry(
        code::MP_UNREACH_NLRI,
        "mp-unreach",
        NON_TRANSITIVE,
        (RESET, RESET),
        Scope::Everyone,
        |v, context| MpUnreach::decode(v, context).map(AttributeValue::MpUnreach),
    ),
    entry(
        code::EXTENDED_COMMUNITIES,
        "extended-communities",
        TRANSITIVE,
        (WITHDRAW, WITHDRAW),
        Scope::Everyone,
        |v, _| Ok(AttributeValue::ExtendedCommunities(list::<8>(v)?.collect())),
    ),
    entry(code::AS4_PATH, "as4-path", TRANSITIVE, (DISCARD, DISCARD), Scope::TwoOctetPeers, as4_path),
    entry(
        code::AS4_AGGREGATOR,
        "as4-aggregator",
        TRANSITIVE,
        (DISCARD, DISCARD),
        Scope::TwoOctetPeers,
        |v, _| aggregator(v, true).map(AttributeValue::As4Aggregator),
    ),
    entry(
        code::IPV6_EXTENDED_COMMUNITIES,
        "ipv6-extended-communities",
        TRANSITIVE,
        (WITHDRAW, WITHDRAW),
        Scope::Everyone,
        |v, _| Ok(AttributeValue::Ipv6ExtendedCommunities(list::<20>(v)?.collect())),
    ),
    entry(code::AIGP, "aigp", NON_TRANSITIVE, (DISCARD, DISCARD), Scope::InternalPeers, |v, _| aigp(v)),
    entry(
        code::LARGE_COMMUNITIES,
        "large-communities",
        TRANSITIVE,
        (WITHDRAW, WITHDRAW),
        Scope::Everyone,
        |v, _| {
            let list = list::<12>(v)?.map(|o| {
                let part = |at: usize| u32::from_be_bytes([o[at], o[at + 1], o[at + 2], o[at + 3]]);
                LargeCommunity(part(0), part(4), part(8))
            });
            Ok(AttributeValue::LargeCommunities(list.collect()))
        },
    ),
    entry(code::OTC, "otc", TRANSITIVE, (WITHDRAW, WITHDRAW), Scope::Everyone, |v, _| match number(v)? {
        0 => Err(Fail { subcode: update_error::OPTIONAL, reason: "AS 0" }),
        asn => Ok(AttributeValue::Otc(Asn(asn))),
    }),
];

fn length(reason: &'static str) -> Fail {
    Fail { subcode: update_error::LENGTH, reason }
}

fn number(value: &[u8]) -> Result<u32, Fail> {
    let octets = <[u8; 4]>::try_from(value).map_err(|_| length("does not have 4 octets"))?;
    Ok(u32::from_be_bytes(octets))
}

fn address(value: &[u8]) -> Result<Ipv4Addr, Fail> {
    number(value).map(Ipv4Addr::from)
}

/// A list of one and more values of equal size.
fn list<const N: usize>(value: &[u8]) -> Result<impl Iterator<Item = [u8; N]>, Fail> {
    let (chunks, rest) = value.as_chunks::<N>();
    if chunks.is_empty() || !rest.is_empty() {
        return Err(length("is not a whole number of values"));
    }
    Ok(chunks.iter().copied())
}

fn origin(value: &[u8], _: &Context) -> Result<AttributeValue, Fail> {
    let [octet] = value else { return Err(length("does not have 1 octet")) };
    let origin = match octet {
        0 => Origin::Igp,
        1 => Origin::Egp,
        2 => Origin::Incomplete,
        _ => return Err(Fail { subcode: update_error::ORIGIN, reason: "is none of IGP, EGP, INCOMPLETE" }),
    };
    Ok(AttributeValue::Origin(origin))
}

fn as_path(value: &[u8], context: &Context) -> Result<AttributeValue, Fail> {
    let fail = |reason| Fail { subcode: update_error::AS_PATH, reason };
    let path = AsPath::decode(value, context.as4).map_err(fail)?;
    if path.asns().any(|asn| asn.0 == 0) {
        return Err(fail("AS 0 (RFC 7607)"));
    }
    Ok(AttributeValue::AsPath(path))
}

fn as4_path(value: &[u8], _: &Context) -> Result<AttributeValue, Fail> {
    let fail = |reason| Fail { subcode: update_error::AS_PATH, reason };
    let mut path = AsPath::decode(value, true).map_err(fail)?;
    if path.segments.is_empty() || path.asns().any(|asn| asn.0 == 0) {
        return Err(fail("is empty or has AS 0"));
    }
    // RFC 6793, section 6: confederation segments are discarded, the rest goes on.
    path.segments.retain(|segment| !segment.kind.is_confederation());
    Ok(AttributeValue::As4Path(path))
}

fn aggregator(value: &[u8], four_octets: bool) -> Result<Aggregator, Fail> {
    let (asn, address) = match (four_octets, value) {
        (true, [a, b, c, d, address @ ..]) => (u32::from_be_bytes([*a, *b, *c, *d]), address),
        (false, [a, b, address @ ..]) => (u32::from(u16::from_be_bytes([*a, *b])), address),
        _ => return Err(length("is cut short")),
    };
    let octets = <[u8; 4]>::try_from(address).map_err(|_| length("is not AS number and address"))?;
    if asn == 0 {
        return Err(Fail { subcode: update_error::OPTIONAL, reason: "AS 0 (RFC 7607)" });
    }
    Ok(Aggregator { asn: Asn(asn), address: octets.into() })
}

/// TLVs; the first of type 1 must be there and have 11 octets (RFC 7311, section 3).
fn aigp(value: &[u8]) -> Result<AttributeValue, Fail> {
    let fail = |reason| Fail { subcode: update_error::OPTIONAL, reason };
    let mut rest = value;
    let mut found = false;
    while !rest.is_empty() {
        let Some((&[kind, high, low], _)) = rest.split_first_chunk::<3>() else {
            return Err(fail("a TLV is cut short"));
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 3 || length > rest.len() {
            return Err(fail("a TLV has a wrong length"));
        }
        if kind == 1 && !found {
            if length != 11 {
                return Err(fail("the AIGP TLV does not have 11 octets"));
            }
            found = true;
        }
        rest = &rest[length..];
    }
    if found { Ok(AttributeValue::Aigp(value.to_vec())) } else { Err(fail("has no AIGP TLV")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_so_that_each_is_found() {
        assert!(TABLE.is_sorted_by(|a, b| a.code < b.code));
        for entry in TABLE {
            assert_eq!(row(entry.code).map(|found| found.name), Some(entry.name));
        }
        assert!(row(99).is_none());
    }
}
