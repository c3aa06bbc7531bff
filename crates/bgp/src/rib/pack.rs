//! Packing routes into UPDATEs: as many prefixes as fit to each set of attributes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::attributes::{AttributeSet, canonical, encode_next_hop};
use super::net::Net;
use crate::iana::{attribute as code, flag};
use crate::packet::attribute::{Attribute, AttributeValue};
use crate::packet::nlri::{self, Nlri};
use crate::packet::{Context, MAX_LEN, update};
use crate::types::{Asn, Family};

/// Header, and the two lengths of an UPDATE.
const FIXED: usize = 19 + 2 + 2;

/// Encoded messages, one after another.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) octets: Vec<u8>,
    pub(crate) messages: u64,
}

/// Appends UPDATEs that withdraw prefixes.
pub(crate) fn withdraw<N: Net>(prefixes: &[N], out: &mut Packed) {
    match N::FAMILY {
        Family::Ipv4Unicast => split(prefixes, MAX_LEN - FIXED, |nlri| {
            update::encode_parts_into(&mut out.octets, nlri, &[], &[]);
            out.messages += 1;
        }),
        Family::Ipv6Unicast => split(prefixes, MAX_LEN - FIXED - 7, |nlri| {
            let mut attributes = Vec::new();
            let value = [&[0, 2, 1], nlri].concat();
            encode_mp(code::MP_UNREACH_NLRI, &value, &mut attributes);
            update::encode_parts_into(&mut out.octets, &[], &attributes, &[]);
            out.messages += 1;
        }),
    }
}

/// Appends UPDATEs that announce prefixes with the same attributes. Returns false, and appends nothing, when the
/// attributes leave no room for a prefix in a message of the longest length.
pub(crate) fn announce<N: Net>(
    prefixes: &[N],
    set: &AttributeSet,
    as4: bool,
    max_len: usize,
    out: &mut Packed,
) -> bool {
    let adapted = if as4 { None } else { Some(for_two_octets(set)) };
    let (before, after) = match &adapted {
        Some(octets) => (&octets.0[..], &octets.1[..]),
        None => set.octets_around_next_hop(),
    };
    match (N::FAMILY, set.next_hop) {
        (Family::Ipv4Unicast, IpAddr::V4(next_hop)) => {
            let mut attributes = before.to_vec();
            encode_next_hop(next_hop, &mut attributes);
            attributes.extend_from_slice(after);
            let Some(room) = (max_len - FIXED).checked_sub(attributes.len()).filter(|room| *room >= 5) else {
                return false;
            };
            split(prefixes, room, |nlri| {
                update::encode_parts_into(&mut out.octets, &[], &attributes, nlri);
                out.messages += 1;
            });
        }
        _ => {
            let head = mp_head::<N>(set);
            let used = before.len() + after.len() + 4 + head.len();
            let Some(room) = (max_len - FIXED).checked_sub(used).filter(|room| *room >= 17) else {
                return false;
            };
            split(prefixes, room, |nlri| {
                // RFC 7606, section 5.1: the MP attribute comes first.
                let mut attributes = Vec::with_capacity(used + nlri.len());
                encode_mp(code::MP_REACH_NLRI, &[&head, nlri].concat(), &mut attributes);
                attributes.extend_from_slice(before);
                attributes.extend_from_slice(after);
                update::encode_parts_into(&mut out.octets, &[], &attributes, &[]);
                out.messages += 1;
            });
        }
    }
    true
}

/// MP_REACH_NLRI up to its NLRI.
fn mp_head<N: Net>(set: &AttributeSet) -> Vec<u8> {
    let mut head = Vec::with_capacity(40);
    crate::packet::attribute::encode_family(N::FAMILY.into(), &mut head);
    let link_local = set.link_local.map(IpAddr::V6);
    let next_hops: Vec<IpAddr> = std::iter::once(set.next_hop).chain(link_local).collect();
    crate::packet::attribute::encode_next_hops(&next_hops, &mut head);
    head.push(0);
    head
}

fn encode_mp(code: u8, value: &[u8], out: &mut Vec<u8>) {
    crate::packet::attribute::encode_raw(flag::OPTIONAL, code, value, out);
}

/// Encodes prefixes and hands them on in pieces that fit.
fn split<N: Net>(prefixes: &[N], room: usize, mut emit: impl FnMut(&[u8])) {
    let mut piece = Vec::with_capacity(room.min(prefixes.len() * 5));
    for prefix in prefixes {
        let prefix: IpNet = (*prefix).into();
        let nlri = Nlri::from(prefix);
        if piece.len() + nlri.encoded_len() > room {
            emit(&piece);
            piece.clear();
        }
        nlri::encode(&nlri, &mut piece);
    }
    if !piece.is_empty() {
        emit(&piece);
    }
}

/// The attributes for a speaker with two-octet AS numbers: what does not fit goes into AS4_PATH and AS4_AGGREGATOR
/// (RFC 6793, section 4.2.2).
fn for_two_octets(set: &AttributeSet) -> (Vec<u8>, Vec<u8>) {
    let mut attributes = set.decode();
    let mut extra = Vec::new();
    for attribute in &attributes {
        match &attribute.value {
            AttributeValue::AsPath(path) if path.needs_four_octets() => {
                extra.push(Attribute::new(AttributeValue::As4Path(path.clone())));
            }
            AttributeValue::Aggregator(aggregator) if aggregator.asn > Asn(0xffff) => {
                extra.push(Attribute::new(AttributeValue::As4Aggregator(*aggregator)));
            }
            _ => {}
        }
    }
    attributes.extend(extra);
    attributes.sort_by_key(|attribute| attribute.value.code());
    let context = Context { as4: false, ..canonical() };
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for attribute in &attributes {
        let out = if attribute.value.code() < code::NEXT_HOP { &mut before } else { &mut after };
        attribute.encode(&context, out);
    }
    (before, after)
}
