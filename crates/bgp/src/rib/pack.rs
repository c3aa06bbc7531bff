//! Packing routes into UPDATEs: as many prefixes as fit to each set of attributes.

use std::net::{IpAddr, Ipv6Addr};

use super::attributes::{canonical, decode_octets, encode_next_hop};
use super::export::Exported;
use super::net::Net;
use crate::iana::{attribute as code, flag};
use crate::packet::attribute::{Attribute, AttributeValue, encode_family, encode_next_hops};
use crate::packet::{Context, MAX_LEN, update};
use crate::types::{Asn, Family};

/// Header, and the two lengths of an UPDATE.
const FIXED: usize = 19 + 2 + 2;
/// NEXT_HOP, encoded.
const NEXT_HOP_LEN: usize = 7;

/// How a group wants its UPDATEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Four-octet AS numbers.
    pub(crate) as4: bool,
    /// With path identifiers.
    pub(crate) add_path: bool,
    /// The longest message.
    pub(crate) max_len: usize,
}

/// A prefix as a group is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item<N> {
    pub(crate) prefix: N,
    /// Our path identifier; 0 without add-path.
    pub(crate) path_id: u32,
}

impl<N: Net> Item<N> {
    fn encoded_len(&self, format: Format) -> usize {
        self.prefix.encoded_len() + if format.add_path { 4 } else { 0 }
    }

    fn encode(&self, format: Format, out: &mut Vec<u8>) {
        if format.add_path {
            out.extend_from_slice(&self.path_id.to_be_bytes());
        }
        self.prefix.encode(out);
    }
}

/// Encoded messages, one after another.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) octets: Vec<u8>,
    pub(crate) messages: u64,
}

impl Packed {
    fn message(&mut self, body: impl FnOnce(&mut Vec<u8>)) {
        update::encode_into(&mut self.octets, body);
        self.messages += 1;
    }
}

/// Appends UPDATEs that withdraw prefixes.
pub(crate) fn withdraw<N: Net>(items: &[Item<N>], format: Format, out: &mut Packed) {
    match N::FAMILY {
        Family::Ipv4Unicast => split(items, MAX_LEN - FIXED, format, |items, length| {
            out.message(|out| {
                push_length(length, out);
                items.iter().for_each(|item| item.encode(format, out));
                push_length(0, out);
            });
        }),
        Family::Ipv6Unicast => split(items, MAX_LEN - FIXED - 7, format, |items, length| {
            out.message(|out| {
                push_length(0, out);
                let header = attribute_header(code::MP_UNREACH_NLRI, 3 + length);
                push_length(header.len() + 3 + length, out);
                out.extend_from_slice(&header);
                encode_family(N::FAMILY.into(), out);
                items.iter().for_each(|item| item.encode(format, out));
            });
        }),
    }
}

/// Appends UPDATEs that announce prefixes with the same attributes. Returns false, and appends nothing, when the
/// attributes leave no room for a prefix in a message of the longest length.
pub(crate) fn announce<N: Net>(
    items: &[Item<N>],
    exported: Exported<'_>,
    format: Format,
    out: &mut Packed,
) -> bool {
    let adapted = (!format.as4).then(|| for_two_octets(exported));
    let (before, after) = match &adapted {
        Some((before, after)) => (&before[..], &after[..]),
        None => (exported.before, exported.after),
    };
    match (N::FAMILY, exported.next_hop) {
        (Family::Ipv4Unicast, IpAddr::V4(next_hop)) => {
            let attributes = before.len() + NEXT_HOP_LEN + after.len();
            let most = (format.max_len - FIXED).checked_sub(attributes);
            let Some(room) = most.filter(|room| *room >= 9) else {
                return false;
            };
            split(items, room, format, |items, _| {
                out.message(|out| {
                    push_length(0, out);
                    push_length(attributes, out);
                    out.extend_from_slice(before);
                    encode_next_hop(next_hop, out);
                    out.extend_from_slice(after);
                    items.iter().for_each(|item| item.encode(format, out));
                });
            });
        }
        (_, next_hop) => {
            let head = mp_head::<N>(next_hop, exported.link_local);
            let used = before.len() + after.len() + 4 + head.len();
            let Some(room) = (format.max_len - FIXED).checked_sub(used).filter(|room| *room >= 21) else {
                return false;
            };
            split(items, room, format, |items, length| {
                out.message(|out| {
                    // RFC 7606, section 5.1: the MP attribute comes first.
                    let header = attribute_header(code::MP_REACH_NLRI, head.len() + length);
                    push_length(0, out);
                    push_length(header.len() + head.len() + length + before.len() + after.len(), out);
                    out.extend_from_slice(&header);
                    out.extend_from_slice(&head);
                    items.iter().for_each(|item| item.encode(format, out));
                    out.extend_from_slice(before);
                    out.extend_from_slice(after);
                });
            });
        }
    }
    true
}

fn push_length(length: usize, out: &mut Vec<u8>) {
    let length = u16::try_from(length).expect("a part fits into a message");
    out.extend_from_slice(&length.to_be_bytes());
}

/// Flags, code and length of an optional attribute.
fn attribute_header(code: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(length) => vec![flag::OPTIONAL, code, length],
        Err(_) => {
            let mut header = vec![flag::OPTIONAL | flag::EXTENDED_LENGTH, code];
            push_length(length, &mut header);
            header
        }
    }
}

/// MP_REACH_NLRI up to its NLRI.
fn mp_head<N: Net>(next_hop: IpAddr, link_local: Option<Ipv6Addr>) -> Vec<u8> {
    let mut head = Vec::with_capacity(40);
    encode_family(N::FAMILY.into(), &mut head);
    let next_hops: Vec<IpAddr> = std::iter::once(next_hop).chain(link_local.map(IpAddr::V6)).collect();
    encode_next_hops(&next_hops, &mut head);
    head.push(0);
    head
}

/// Cuts a list into pieces that fit, and hands each on with its length in octets. There is room for at least one.
fn split<N: Net>(
    mut items: &[Item<N>],
    room: usize,
    format: Format,
    mut emit: impl FnMut(&[Item<N>], usize),
) {
    while !items.is_empty() {
        let (mut count, mut length) = (0, 0);
        for item in items {
            let next = length + item.encoded_len(format);
            if next > room {
                break;
            }
            (count, length) = (count + 1, next);
        }
        let (piece, rest) = items.split_at(count);
        emit(piece, length);
        items = rest;
    }
}

/// The attributes for a speaker with two-octet AS numbers: what does not fit goes into AS4_PATH and AS4_AGGREGATOR
/// (RFC 6793, section 4.2.2).
fn for_two_octets(exported: Exported<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut attributes = decode_octets(&[exported.before, exported.after].concat());
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
