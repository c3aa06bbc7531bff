//! Netlink messages: appending to one buffer, and cutting a received buffer up.
//!
//! ```text
//! nlmsghdr   | length (4) | type (2) | flags (2) | sequence (4) | port (4) |      the machine's byte order
//! nfgenmsg   | family (1) | version (1) | resource (2) |                          resource in network order
//! attribute  | length (2) | type (2) | value, padded to four bytes |              numbers in network order
//! ```

use std::fmt;

use super::error::NftError;
pub(crate) use crate::netlink::{Attribute, attributes};

/// `NFNL_SUBSYS_NFTABLES`.
pub(crate) const SUBSYSTEM: u16 = 10;

/// `NFT_MSG_*`.
pub(crate) mod kind {
    pub(crate) const NEWTABLE: u16 = 0;
    pub(crate) const GETTABLE: u16 = 1;
    pub(crate) const DELTABLE: u16 = 2;
    pub(crate) const NEWCHAIN: u16 = 3;
    pub(crate) const GETCHAIN: u16 = 4;
    pub(crate) const DELCHAIN: u16 = 5;
    pub(crate) const NEWRULE: u16 = 6;
    pub(crate) const GETRULE: u16 = 7;
    pub(crate) const DELRULE: u16 = 8;
    pub(crate) const NEWSET: u16 = 9;
    pub(crate) const GETSET: u16 = 10;
    pub(crate) const DELSET: u16 = 11;
    pub(crate) const NEWSETELEM: u16 = 12;
    pub(crate) const GETSETELEM: u16 = 13;
    pub(crate) const DELSETELEM: u16 = 14;
    pub(crate) const NEWGEN: u16 = 15;
    pub(crate) const GETGEN: u16 = 16;
}

/// `NLM_F_*` of `linux/netlink.h`.
pub(crate) mod flag {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const ECHO: u16 = 0x8;
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}

/// `NLMSG_ERROR`, `NLMSG_DONE`.
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
pub(crate) const BATCH_BEGIN: u16 = 16;
pub(crate) const BATCH_END: u16 = 17;

/// Length of `nlmsghdr`, and of it with `nfgenmsg`.
pub(crate) const HEADER: usize = 16;
pub(crate) const BODY: usize = HEADER + 4;

/// A buffer that messages are appended to.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    oversized: bool,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} bytes)", self.bytes.len())
    }
}

impl Writer {
    /// Appends a message of nf_tables whose attributes `fill` writes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        fill: impl FnOnce(&mut Self),
    ) {
        self.raw_message(SUBSYSTEM << 8 | kind, flags, sequence, family, 0, fill);
    }

    /// Appends a message of any type.
    pub(crate) fn raw_message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | flag::REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Appends an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = self.length(value.len() + 4);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Appends a string with its NUL.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let length = self.length(value.len() + 5);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value.as_bytes());
        self.bytes.resize((self.bytes.len() + 1).next_multiple_of(4), 0);
    }

    /// Appends a number of 32 bits.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends a number of 64 bits.
    pub(crate) fn u64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Appends an attribute that holds those which `fill` writes.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        const NESTED: u16 = 0x8000;
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length = self.length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Whether something did not fit the sixteen bits of an attribute's length: the buffer must not be sent.
    pub(crate) fn is_oversized(&self) -> bool {
        self.oversized
    }

    fn length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.oversized = true;
            u16::MAX
        })
    }
}

/// One received message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    /// `NLMSG_*`, or the subsystem and `NFT_MSG_*`.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// All after the `nlmsghdr`.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The `NFT_MSG_*` number of a message of nf_tables.
    pub(crate) fn nft_kind(&self) -> Option<u16> {
        (self.kind >> 8 == SUBSYSTEM).then_some(self.kind & 0xff)
    }

    /// The family of the object.
    pub(crate) fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    /// The attributes of the object.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.payload.get(BODY - HEADER..).unwrap_or_default())
    }

    /// The attribute of that kind.
    pub(crate) fn attribute(&self, kind: u16) -> Option<Attribute<'a>> {
        self.attributes().find(|attribute| attribute.kind == kind)
    }
}

/// The messages in a received buffer, up to the first that is malformed.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(u32_at(0)).ok()?;
        let payload = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16_at(4), flags: u16_at(6), sequence: u32_at(8), payload })
    })
}

/// A number of 32 bits in network order.
pub(crate) fn be32(attribute: &Attribute<'_>) -> Option<u32> {
    attribute.value.try_into().ok().map(u32::from_be_bytes)
}

/// A number of 64 bits in network order.
pub(crate) fn be64(attribute: &Attribute<'_>) -> Option<u64> {
    attribute.value.try_into().ok().map(u64::from_be_bytes)
}

/// A string that must be UTF-8, without its NUL.
pub(crate) fn text<'a>(attribute: &Attribute<'a>) -> Option<&'a str> {
    let value = attribute.value;
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// The error for an answer that lacks something.
pub(crate) fn malformed(what: &'static str) -> NftError {
    NftError::Malformed { what }
}
