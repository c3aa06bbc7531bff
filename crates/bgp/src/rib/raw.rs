//! Encoded attributes, taken apart no further than needed to change some of them.
//!
//! What a route looks like to a group of peers differs from what it is in one or two attributes. The others are copied
//! as they are.

use std::borrow::Cow;

use super::attributes::{canonical, decode_octets};
use crate::iana::{attribute as code, flag};
use crate::packet::attribute::{Attribute, AttributeValue, encode_raw};
use crate::types::Asn;

/// AS_SEQUENCE (RFC 4271, section 4.3).
const SEQUENCE: u8 = 2;

/// Attributes in ascending order of their codes, four-octet AS numbers, well-formed.
#[derive(Debug)]
pub(crate) struct RawAttributes<'a>(Vec<Raw<'a>>);

#[derive(Debug)]
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: Cow<'a, [u8]>,
}

impl<'a> RawAttributes<'a> {
    /// Those that we have encoded.
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        let mut list = Vec::with_capacity(16);
        let mut rest = octets;
        while let [flags, code, length, after @ ..] = rest {
            let (length, after) = match (flags & flag::EXTENDED_LENGTH, after) {
                (0, _) => (usize::from(*length), after),
                (_, [low, after @ ..]) => (usize::from(u16::from_be_bytes([*length, *low])), after),
                (_, []) => break,
            };
            let Some((value, after)) = after.split_at_checked(length) else { break };
            list.push(Raw { flags: *flags, code: *code, value: value.into() });
            rest = after;
        }
        debug_assert!(rest.is_empty(), "they are well-formed");
        Self(list)
    }

    /// The value of an attribute.
    pub(crate) fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|raw| raw.code == code).map(|raw| &*raw.value)
    }

    /// Takes attributes out.
    pub(crate) fn remove(&mut self, codes: &[u8]) {
        self.0.retain(|raw| !codes.contains(&raw.code));
    }

    /// Sets an attribute, in place of one with the same code.
    pub(crate) fn put(&mut self, value: AttributeValue) {
        let attribute = Attribute::new(value);
        let mut octets = Vec::with_capacity(16);
        attribute.encode(&canonical(), &mut octets);
        let header = if octets[0] & flag::EXTENDED_LENGTH == 0 { 3 } else { 4 };
        let (flags, code) = (octets[0], octets[1]);
        octets.drain(..header);
        let raw = Raw { flags, code, value: octets.into() };
        match self.0.binary_search_by_key(&code, |raw| raw.code) {
            Ok(index) => self.0[index] = raw,
            Err(index) => self.0.insert(index, raw),
        }
    }

    /// Puts an AS number in front of the AS_PATH (RFC 4271, section 5.1.2).
    pub(crate) fn prepend(&mut self, asn: Asn) {
        let Some(raw) = self.0.iter_mut().find(|raw| raw.code == code::AS_PATH) else { return };
        let number = asn.0.to_be_bytes();
        raw.value = match &*raw.value {
            [SEQUENCE, count @ ..=254, rest @ ..] => [&[SEQUENCE, count + 1], &number[..], rest].concat(),
            path => [&[SEQUENCE, 1], &number[..], path].concat(),
        }
        .into();
    }

    /// Changes them as values.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Vec<Attribute>)) {
        let mut octets = Vec::new();
        self.encode(&mut octets);
        let mut list = decode_octets(&octets);
        change(&mut list);
        list.sort_by_key(|attribute| attribute.value.code());
        self.0.clear();
        for attribute in list {
            let flags = attribute.flags;
            self.put(attribute.value);
            if let Some(raw) = self.0.last_mut() {
                raw.flags = flags;
            }
        }
    }

    /// Appends them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|raw| encode_raw(raw.flags, raw.code, &raw.value, out));
    }

    /// Appends those that come before NEXT_HOP, or those that come after it.
    pub(crate) fn encode_part(&self, before_next_hop: bool, out: &mut Vec<u8>) {
        let part = self.0.iter().filter(|raw| (raw.code < code::NEXT_HOP) == before_next_hop);
        part.for_each(|raw| encode_raw(raw.flags, raw.code, &raw.value, out));
    }
}
