//! Octets taken off one after another, with the place for whoever has to say what is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::DecodeError;

/// What is left of a message.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// From an octet on.
    pub(super) fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is wrong here.
    pub(super) fn fault(&self, field: &'static str, reason: impl Into<String>) -> DecodeError {
        DecodeError { offset: self.offset, field, reason: reason.into() }
    }

    pub(super) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.fault(field, format!("{count} octets are needed, {} are left", self.rest.len())));
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        self.take(N, field).map(|taken| taken.try_into().expect("as many as asked for"))
    }

    /// All that is left.
    pub(super) fn remaining(&mut self) -> &'a [u8] {
        self.offset += self.rest.len();
        std::mem::take(&mut self.rest)
    }

    /// A part with its own end.
    pub(super) fn part(&mut self, count: usize, field: &'static str) -> Result<Self, DecodeError> {
        let offset = self.offset;
        self.take(count, field).map(|bytes| Self::new(bytes, offset))
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(super) fn ipv4(&mut self, field: &'static str) -> Result<Ipv4Addr, DecodeError> {
        self.array::<4>(field).map(Ipv4Addr::from)
    }

    /// An address in as many octets as its family has.
    pub(super) fn address(&mut self, is_ipv6: bool, field: &'static str) -> Result<IpAddr, DecodeError> {
        Ok(match is_ipv6 {
            true => Ipv6Addr::from(self.array::<16>(field)?).into(),
            false => self.ipv4(field)?.into(),
        })
    }

    /// Text; what is no UTF-8 in it is replaced.
    pub(super) fn text(&mut self, count: usize, field: &'static str) -> Result<String, DecodeError> {
        Ok(String::from_utf8_lossy(self.take(count, field)?).into_owned())
    }

    /// Nothing may be left.
    pub(super) fn end(&self, field: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.fault(field, format!("{left} octets too many"))),
        }
    }
}

/// Appends an address in as many octets as its family has.
pub(super) fn put_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}
