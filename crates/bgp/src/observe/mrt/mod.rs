//! The Multi-Threaded Routing Toolkit's export format (RFC 6396; additional paths: RFC 8050).
//!
//! ```text
//! +---------------------------------------------------------------+
//! |                       Timestamp (seconds)                     |
//! +-------------------------------+-------------------------------+
//! |             Type              |            Subtype            |
//! +-------------------------------+-------------------------------+
//! |                             Length                            |
//! +---------------------------------------------------------------+
//! |  microseconds (4, with the types whose names end in _ET), then the body
//! +---------------------------------------------------------------+
//! ```
//!
//! Tables are TABLE_DUMP_V2: a PEER_INDEX_TABLE, then a record for each prefix. Messages are BGP4MP. Numbers of ASes have four
//! octets in all that we write; of the older forms, with two, messages and changes of state can be read. Other types stay
//! octets.

mod attributes;
mod messages;
mod table;
#[cfg(test)]
mod tests;

use super::reader::Reader;
use super::{DecodeError, Timestamp};

pub use attributes::{read_attributes, write_attributes};
pub use messages::{Ends, StateChange, Traffic};
pub use table::{Entry, IndexedPeer, PeerIndex, Prefix};

/// Octets of the common header.
pub const COMMON_LEN: usize = 12;
/// The longest record that is read: one with as many entries as there are peers is much shorter.
pub const MAX_LEN: usize = 1 << 24;

/// Types (RFC 6396, section 4).
mod kind {
    pub(super) const TABLE_DUMP_V2: u16 = 13;
    pub(super) const BGP4MP: u16 = 16;
    pub(super) const BGP4MP_ET: u16 = 17;
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it was written, or what it tells of happened. Microseconds are kept in messages and changes of state only.
    pub timestamp: Timestamp,
    /// What it tells.
    pub body: Body,
}

/// What a record tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The peers that the records of prefixes behind it name by number.
    PeerIndex(PeerIndex),
    /// The routes for a prefix.
    Prefix(Prefix),
    /// A message between a peer and us.
    Message(Traffic),
    /// A session has changed its state.
    StateChange(StateChange),
    /// Something else.
    Unknown {
        /// The type.
        kind: u16,
        /// The subtype.
        subtype: u16,
        /// All behind the common header.
        body: Vec<u8>,
    },
}

/// A record that does not fit its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {count} do not fit into a record, which has room for {limit}")]
pub struct TooMany {
    /// What there are too many of.
    pub what: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many fit.
    pub limit: usize,
}

impl Record {
    /// Appends the record.
    ///
    /// # Errors
    /// It has more parts than its counts have room for; nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooMany> {
        let start = out.len();
        let encoded = self.encode_into(out);
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), TooMany> {
        let start = out.len();
        let (kind, subtype) = match &self.body {
            Body::PeerIndex(_) => (kind::TABLE_DUMP_V2, table::PEER_INDEX_TABLE),
            Body::Prefix(prefix) => (kind::TABLE_DUMP_V2, prefix.subtype()),
            Body::Message(traffic) => (kind::BGP4MP_ET, traffic.subtype()),
            Body::StateChange(_) => (kind::BGP4MP_ET, messages::STATE_CHANGE_AS4),
            Body::Unknown { kind, subtype, .. } => (*kind, *subtype),
        };
        out.extend_from_slice(&self.timestamp.secs.to_be_bytes());
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&subtype.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        if kind == kind::BGP4MP_ET && !matches!(self.body, Body::Unknown { .. }) {
            out.extend_from_slice(&self.timestamp.micros.to_be_bytes());
        }
        match &self.body {
            Body::PeerIndex(index) => index.encode(out)?,
            Body::Prefix(prefix) => prefix.encode(out)?,
            Body::Message(traffic) => traffic.encode(out),
            Body::StateChange(change) => change.encode(out),
            Body::Unknown { body, .. } => out.extend_from_slice(body),
        }
        let length = out.len() - start - COMMON_LEN;
        let field = u32::try_from(length).map_err(|_| too_many("octets", length, u32::MAX as usize))?;
        out[start + 8..start + COMMON_LEN].copy_from_slice(&field.to_be_bytes());
        Ok(())
    }

    /// Reads the record at the beginning of a file, and says how long it is. `None`: it is not there whole.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(header) = bytes.first_chunk::<COMMON_LEN>() else { return Ok(None) };
        let mut reader = Reader::new(header, 0);
        let secs = reader.u32("Timestamp")?;
        let (kind, subtype) = (reader.u16("Type")?, reader.u16("Subtype")?);
        let too_long = reader.clone();
        let length = usize::try_from(reader.u32("Length")?).unwrap_or(usize::MAX);
        if length > MAX_LEN {
            return Err(too_long.fault("Length", format!("{length} octets are no record")));
        }
        let end = COMMON_LEN + length;
        let Some(body) = bytes.get(COMMON_LEN..end) else { return Ok(None) };
        let mut reader = Reader::new(body, COMMON_LEN);
        let whole = reader.clone();
        let micros = if kind == kind::BGP4MP_ET { reader.u32("Microsecond Timestamp")? } else { 0 };
        let known = Self::decode_body(kind, subtype, &mut reader)?;
        let (body, timestamp) = match known {
            Some(body) => (body, Timestamp { secs, micros }),
            None => {
                let body = whole.clone().remaining().to_vec();
                (Body::Unknown { kind, subtype, body }, Timestamp { secs, micros: 0 })
            }
        };
        Ok(Some((Self { timestamp, body }, end)))
    }

    fn decode_body(kind: u16, subtype: u16, body: &mut Reader<'_>) -> Result<Option<Body>, DecodeError> {
        let known = match (kind, subtype) {
            (kind::TABLE_DUMP_V2, table::PEER_INDEX_TABLE) => Body::PeerIndex(PeerIndex::decode(body)?),
            (kind::TABLE_DUMP_V2, _) => match Prefix::decode(subtype, body)? {
                Some(prefix) => Body::Prefix(prefix),
                None => return Ok(None),
            },
            (kind::BGP4MP | kind::BGP4MP_ET, messages::STATE_CHANGE | messages::STATE_CHANGE_AS4) => {
                Body::StateChange(StateChange::decode(subtype, body)?)
            }
            (kind::BGP4MP | kind::BGP4MP_ET, _) => match Traffic::decode(subtype, body)? {
                Some(traffic) => Body::Message(traffic),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        body.end("Length")?;
        Ok(Some(known))
    }
}

fn too_many(what: &'static str, count: usize, limit: usize) -> TooMany {
    TooMany { what, count, limit }
}

/// A count of two octets.
fn count(what: &'static str, count: usize) -> Result<[u8; 2], TooMany> {
    let limit = usize::from(u16::MAX);
    u16::try_from(count).map(u16::to_be_bytes).map_err(|_| too_many(what, count, limit))
}
