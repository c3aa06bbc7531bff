use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkSerializable, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;

/// Flags of a request (`linux/netlink.h`). `NLM_F_REQUEST` is always set, `NLM_F_ACK` by the socket as needed.
pub mod flags {
    /// Do not create if it exists.
    pub const EXCLUSIVE: u16 = 0x200;
    /// Replace what exists.
    pub const REPLACE: u16 = 0x100;
    /// Create if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Add behind what exists.
    pub const APPEND: u16 = 0x800;
    /// Return all objects.
    pub const DUMP: u16 = 0x300;
    /// Answer even when it succeeded. The socket sets this on the last message of a send by itself.
    pub const ACKNOWLEDGE: u16 = 4;
    pub(super) const REQUEST: u16 = 1;
}

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Most requests are not longer. (glibc gives out memory of up to 120 octets again as it is, without merging pieces.)
const USUAL: usize = 96;

/// One request, as it goes over the wire; the socket fills in the sequence number.
///
/// ```text
/// | length (4) | kind (2) | flags (2) | sequence (4) | port (4) | family header | attributes… |
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of this kind with these [`flags`] and an empty body.
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | flags::REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes }
    }

    pub(crate) fn route(body: &RouteNetlinkMessage, flags: u16) -> Self {
        let mut message = Self::new(body.message_type(), flags);
        message.bytes.resize(HEADER + body.buffer_len(), 0);
        body.serialize(&mut message.bytes[HEADER..]);
        message
    }

    /// Appends the fixed header of the family, or anything else that needs no framing. Pads to four bytes.
    pub fn push(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self.pad()
    }

    /// Appends an attribute.
    ///
    /// # Panics
    /// When the value is longer than an attribute can be (65,531 bytes).
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("an attribute is at most 65,531 bytes long");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.push(value)
    }

    /// Appends an address as an attribute.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// Appends an attribute (`kind | NLA_F_NESTED`) that holds those which `fill` appends.
    ///
    /// # Panics
    /// When they are longer than an attribute can be.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        const NESTED: u16 = 0x8000;
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend((kind | NESTED).to_ne_bytes());
        fill(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("an attribute is at most 65,535 bytes long");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    /// Length on the wire in bytes, header included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing but the header.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= HEADER
    }

    pub(super) fn asks_for_acknowledgement(&self) -> bool {
        self.flags() & flags::ACKNOWLEDGE != 0
    }

    fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[6], self.bytes[7]])
    }

    fn pad(&mut self) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends the finished message to a batch.
    pub(super) fn write(&self, sequence: u32, extra_flags: u16, batch: &mut Vec<u8>) {
        let start = batch.len();
        batch.extend(&self.bytes);
        let length = u32::try_from(self.bytes.len()).expect("attributes bound a message far below 4 GiB");
        let flags = self.flags() | extra_flags;
        batch[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        batch[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        batch[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// One attribute of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its kind, without the flags for nesting and byte order.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes in these bytes, up to the first that is malformed.
///
/// Answers are read with this rather than with a typed decoder, so that an object of someone else's with attributes
/// that we do not know can never spoil a listing.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla| {
        let length = usize::from(nla.length()).max(4);
        let whole: &[u8] = nla.into_inner();
        Attribute { kind: u16::from_ne_bytes([whole[2], whole[3]]) & 0x3fff, value: &whole[4..length] }
    })
}

impl<'a> Attribute<'a> {
    /// The attributes nested in this one.
    pub fn nested(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        attributes(self.value)
    }

    /// A 32-bit number in the machine's byte order.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.get(..4)?.try_into().ok()?))
    }

    /// A 32-bit number in the machine's byte order, signed.
    pub fn i32(&self) -> Option<i32> {
        self.u32().map(u32::cast_signed)
    }

    /// A text, without its closing zero; what is not UTF-8 is replaced.
    pub fn string(&self) -> String {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end]).into_owned()
    }

    /// An address: the length tells the family.
    pub fn address(&self) -> Option<IpAddr> {
        match self.value.len() {
            4 => <[u8; 4]>::try_from(self.value).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
            16 => <[u8; 16]>::try_from(self.value).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_written() {
        let mut message = Message::new(16, 0);
        message.attribute(3, b"eth0\0").nested(18, |inner| {
            inner.attribute(1, &7_u32.to_ne_bytes());
        });
        let mut wire = Vec::new();
        message.write(9, flags::ACKNOWLEDGE, &mut wire);
        assert_eq!(wire.len() % 4, 0);
        assert_eq!(u32::from_ne_bytes(wire[..4].try_into().unwrap()) as usize, wire.len());
        let found: Vec<_> = attributes(&wire[HEADER..]).collect();
        assert_eq!((found[0].kind, found[0].string()), (3, "eth0".to_owned()));
        assert_eq!(found[1].kind, 18);
        assert_eq!(found[1].nested().next().and_then(|inner| inner.u32()), Some(7));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        assert_eq!(attributes(&[1, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 0, 0, 1]).count(), 0);
        assert_eq!(attributes(&[4, 0, 7, 0]).next(), Some(Attribute { kind: 7, value: &[] }));
    }
}
