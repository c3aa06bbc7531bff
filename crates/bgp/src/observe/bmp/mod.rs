//! The BGP Monitoring Protocol, version 3 (RFC 7854; Adj-RIB-Out: RFC 8671, Loc-RIB: RFC 9069).
//!
//! ```text
//! +---------------+
//! |    Version    |
//! +---------------+-----------------------------------------------+
//! |                        Message length                         |
//! +---------------+-----------------------------------------------+
//! |     Type      |  per-peer header (42 octets), then the body
//! +---------------+-----------------------------------------------+
//! ```
//!
//! Initiation and Termination have no per-peer header. Types that we do not know are kept as octets; a station has to skip
//! them (RFC 7854, section 4.1).

mod peer;
mod statistics;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use super::DecodeError;
use super::reader::Reader;
use crate::packet::HEADER_LEN;

pub use peer::{Instance, PeerHeader, View};
pub use statistics::{Statistic, Value, statistic};

/// Octets of the common header.
pub const COMMON_LEN: usize = 6;
/// The longest message that is read: two OPENs of the longest length, and room for information.
pub const MAX_LEN: usize = 1 << 20;

const VERSION: u8 = 3;

/// Message types (RFC 7854, section 10.1).
mod kind {
    pub(super) const ROUTE_MONITORING: u8 = 0;
    pub(super) const STATISTICS: u8 = 1;
    pub(super) const PEER_DOWN: u8 = 2;
    pub(super) const PEER_UP: u8 = 3;
    pub(super) const INITIATION: u8 = 4;
    pub(super) const TERMINATION: u8 = 5;
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first: who speaks.
    Initiation(Vec<Information>),
    /// A session has come up.
    PeerUp(PeerHeader, PeerUp),
    /// A session has gone down; all its routes with it.
    PeerDown(PeerHeader, DownReason),
    /// Routes come and go: a whole UPDATE.
    RouteMonitoring(PeerHeader, Vec<u8>),
    /// Counters.
    Statistics(PeerHeader, Vec<Statistic>),
    /// The last: why it ends.
    Termination(Vec<Farewell>),
    /// Another type, Route Mirroring among them.
    Unknown {
        /// The type.
        kind: u8,
        /// All that comes behind the common header.
        body: Vec<u8>,
    },
}

/// An Information TLV (RFC 7854, section 4.4; RFC 9069, section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Information {
    /// Free text (type 0).
    Text(String),
    /// sysDescr: what the speaker is (type 1).
    Description(String),
    /// sysName: its name (type 2).
    Name(String),
    /// The name of the table that a Loc-RIB is (type 3).
    TableName(String),
    /// Another type.
    Unknown {
        /// The type.
        kind: u16,
        /// The value.
        value: Vec<u8>,
    },
}

/// How a session came up (RFC 7854, section 4.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUp {
    /// Our end of the connection; of the peer's family.
    pub local_address: IpAddr,
    /// Our port; 0: not known.
    pub local_port: u16,
    /// The peer's port; 0: not known.
    pub remote_port: u16,
    /// The OPEN that we sent: the whole message.
    pub sent_open: Vec<u8>,
    /// The OPEN that came: the whole message.
    pub received_open: Vec<u8>,
    /// More about the peer.
    pub information: Vec<Information>,
}

/// Why a session went down (RFC 7854, section 4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownReason {
    /// We closed it and said why: the whole NOTIFICATION (1).
    LocalNotification(Vec<u8>),
    /// We closed it without a word: the event of our state machine (RFC 4271, section 8.1), 0 if none fits (2).
    LocalEvent(u16),
    /// The peer closed it and said why: the whole NOTIFICATION (3).
    RemoteNotification(Vec<u8>),
    /// The connection ended without a NOTIFICATION (4).
    RemoteClosed,
    /// Nothing more is said about the peer, whose session may go on (5).
    NoLongerMonitored,
    /// A Loc-RIB is no longer told (6, RFC 9069, section 5.3).
    LocRibEnds(Vec<Information>),
    /// Another reason.
    Unknown {
        /// The reason.
        reason: u8,
        /// What comes with it.
        data: Vec<u8>,
    },
}

/// A TLV of Termination (RFC 7854, section 4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// Free text (type 0).
    Text(String),
    /// The reason (type 1).
    Reason(u16),
    /// Another type.
    Unknown {
        /// The type.
        kind: u16,
        /// The value.
        value: Vec<u8>,
    },
}

/// Reasons in [`Farewell::Reason`] (RFC 7854, section 4.5).
pub mod farewell {
    /// The session has been closed by configuration; it may come back.
    pub const ADMINISTRATIVE: u16 = 0;
    /// No particular one.
    pub const UNSPECIFIED: u16 = 1;
    /// The speaker runs out of something.
    pub const OUT_OF_RESOURCES: u16 = 2;
}

impl Message {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Initiation(list) => frame(kind::INITIATION, out, |out| information(list, out)),
            Self::PeerUp(peer, up) => with_peer(kind::PEER_UP, peer, out, |out| up.encode(peer, out)),
            Self::PeerDown(peer, reason) => with_peer(kind::PEER_DOWN, peer, out, |out| reason.encode(out)),
            Self::RouteMonitoring(peer, update) => route_monitoring(peer, update, out),
            Self::Statistics(peer, list) => with_peer(kind::STATISTICS, peer, out, |out| {
                out.extend_from_slice(&count(list.len()));
                list.iter().for_each(|statistic| statistic.encode(out));
            }),
            Self::Termination(list) => frame(kind::TERMINATION, out, |out| {
                list.iter().for_each(|farewell| farewell.encode(out));
            }),
            Self::Unknown { kind, body } => frame(*kind, out, |out| out.extend_from_slice(body)),
        }
    }

    /// Reads the message at the beginning of a stream, and says how long it is. `None`: it is not there whole yet.
    ///
    /// # Errors
    /// It is none; the stream cannot be read any further.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, DecodeError> {
        let Some(header) = bytes.first_chunk::<COMMON_LEN>() else { return Ok(None) };
        let [version, length @ .., kind] = *header;
        let mut reader = Reader::new(header, 0);
        if version != VERSION {
            return Err(reader.fault("Version", format!("{version} is not 3")));
        }
        reader.u8("Version")?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(COMMON_LEN..=MAX_LEN).contains(&length) {
            return Err(reader.fault("Message Length", format!("{length} is outside of what is allowed")));
        }
        let Some(body) = bytes.get(COMMON_LEN..length) else { return Ok(None) };
        Ok(Some((Self::decode_body(kind, Reader::new(body, COMMON_LEN))?, length)))
    }

    fn decode_body(kind: u8, mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let body = &mut reader;
        Ok(match kind {
            kind::INITIATION => Self::Initiation(decode_information(body)?),
            kind::PEER_UP => {
                let peer = PeerHeader::decode(body)?;
                Self::PeerUp(peer, PeerUp::decode(&peer, body)?)
            }
            kind::PEER_DOWN => Self::PeerDown(PeerHeader::decode(body)?, DownReason::decode(body)?),
            kind::ROUTE_MONITORING => {
                let peer = PeerHeader::decode(body)?;
                let update = decode_bgp(body, "BGP Update")?.to_vec();
                body.end("BGP Update")?;
                Self::RouteMonitoring(peer, update)
            }
            kind::STATISTICS => Self::Statistics(PeerHeader::decode(body)?, statistics::decode(body)?),
            kind::TERMINATION => Self::Termination(tlvs(body, Farewell::decode)?),
            kind => Self::Unknown { kind, body: body.remaining().to_vec() },
        })
    }
}

/// Appends Route Monitoring with an UPDATE.
pub fn route_monitoring(peer: &PeerHeader, update: &[u8], out: &mut Vec<u8>) {
    with_peer(kind::ROUTE_MONITORING, peer, out, |out| out.extend_from_slice(update));
}

fn with_peer(kind: u8, peer: &PeerHeader, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    frame(kind, out, |out| {
        peer.encode(out);
        body(out);
    });
}

fn frame(kind: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, kind]);
    body(out);
    let length = u32::try_from(out.len() - start).expect("parts are limited to 65,535 octets");
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

fn count(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("fewer than 2^32 fit into memory").to_be_bytes()
}

/// Appends type, length and value; of a value, 65,535 octets at most.
fn tlv(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).expect("just cut").to_be_bytes());
    out.extend_from_slice(value);
}

fn text(kind: u16, text: &str, out: &mut Vec<u8>) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    tlv(kind, &text.as_bytes()[..end], out);
}

/// All TLVs up to the end.
fn tlvs<T>(
    body: &mut Reader<'_>,
    mut read: impl FnMut(u16, &mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut list = Vec::new();
    while !body.is_empty() {
        let kind = body.u16("Type")?;
        let length = usize::from(body.u16("Length")?);
        let mut value = body.part(length, "Value")?;
        list.push(read(kind, &mut value)?);
        value.end("Value")?;
    }
    Ok(list)
}

fn lossy(value: &mut Reader<'_>) -> String {
    String::from_utf8_lossy(value.remaining()).into_owned()
}

fn information(list: &[Information], out: &mut Vec<u8>) {
    for information in list {
        match information {
            Information::Text(value) => text(0, value, out),
            Information::Description(value) => text(1, value, out),
            Information::Name(value) => text(2, value, out),
            Information::TableName(value) => text(3, value, out),
            Information::Unknown { kind, value } => tlv(*kind, value, out),
        }
    }
}

fn decode_information(body: &mut Reader<'_>) -> Result<Vec<Information>, DecodeError> {
    tlvs(body, |kind, value| {
        Ok(match kind {
            0 => Information::Text(lossy(value)),
            1 => Information::Description(lossy(value)),
            2 => Information::Name(lossy(value)),
            3 => Information::TableName(lossy(value)),
            kind => Information::Unknown { kind, value: value.remaining().to_vec() },
        })
    })
}

impl PeerUp {
    fn encode(&self, peer: &PeerHeader, out: &mut Vec<u8>) {
        peer::put_padded(self.local_address, peer.address.is_ipv6(), out);
        out.extend_from_slice(&self.local_port.to_be_bytes());
        out.extend_from_slice(&self.remote_port.to_be_bytes());
        out.extend_from_slice(&self.sent_open);
        out.extend_from_slice(&self.received_open);
        information(&self.information, out);
    }

    fn decode(peer: &PeerHeader, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            local_address: peer::padded(body, peer.address.is_ipv6(), "Local Address")?,
            local_port: body.u16("Local Port")?,
            remote_port: body.u16("Remote Port")?,
            sent_open: decode_bgp(body, "Sent OPEN")?.to_vec(),
            received_open: decode_bgp(body, "Received OPEN")?.to_vec(),
            information: decode_information(body)?,
        })
    }
}

impl DownReason {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::LocalNotification(message) => {
                out.push(1);
                out.extend_from_slice(message);
            }
            Self::LocalEvent(event) => {
                out.push(2);
                out.extend_from_slice(&event.to_be_bytes());
            }
            Self::RemoteNotification(message) => {
                out.push(3);
                out.extend_from_slice(message);
            }
            Self::RemoteClosed => out.push(4),
            Self::NoLongerMonitored => out.push(5),
            Self::LocRibEnds(list) => {
                out.push(6);
                information(list, out);
            }
            Self::Unknown { reason, data } => {
                out.push(*reason);
                out.extend_from_slice(data);
            }
        }
    }

    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let decoded = match body.u8("Reason")? {
            1 => Self::LocalNotification(decode_bgp(body, "Notification")?.to_vec()),
            2 => Self::LocalEvent(body.u16("FSM Event Code")?),
            3 => Self::RemoteNotification(decode_bgp(body, "Notification")?.to_vec()),
            4 => Self::RemoteClosed,
            5 => Self::NoLongerMonitored,
            6 => Self::LocRibEnds(decode_information(body)?),
            reason => Self::Unknown { reason, data: body.remaining().to_vec() },
        };
        body.end("Reason")?;
        Ok(decoded)
    }
}

impl Farewell {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(value) => text(0, value, out),
            Self::Reason(reason) => tlv(1, &reason.to_be_bytes(), out),
            Self::Unknown { kind, value } => tlv(*kind, value, out),
        }
    }

    fn decode(kind: u16, value: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            0 => Self::Text(lossy(value)),
            1 => Self::Reason(value.u16("Reason")?),
            kind => Self::Unknown { kind, value: value.remaining().to_vec() },
        })
    }
}

/// A whole message of BGP, as long as its header says.
fn decode_bgp<'a>(body: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], DecodeError> {
    let mut ahead = body.clone();
    let header: [u8; HEADER_LEN] = ahead.array(field)?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    if length < HEADER_LEN {
        return Err(body.fault(field, format!("a message of {length} octets")));
    }
    body.take(length, field)
}
