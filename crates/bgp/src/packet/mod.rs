//! The wire: messages to values and back.
//!
//! Decoders are total: any bytes give a value or a [`DecodeError`], which says where, what, and which NOTIFICATION
//! ends the session. Faults in an UPDATE that RFC 7606 survives do not become errors but
//! [`Fault`](update::Fault)s beside the value. What a session has negotiated is handed in as [`Context`]; codecs
//! keep no state.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------------------------------------------------------+
//! |                     Marker (16 octets of ones)                |
//! +-------------------------------+---------------+---------------+
//! |          Length               |      Type     |  body
//! +-------------------------------+---------------+---------------+
//! ```

pub mod attribute;
pub mod capability;
mod header;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod route_refresh;
pub mod update;

use crate::iana::message;
use crate::types::{Asn, FamilySet};

pub use header::{Framer, HEADER_LEN, MAX_EXTENDED_LEN, MAX_LEN};
use notification::Notification;
use open::Open;
use route_refresh::RouteRefresh;
use update::Received;

/// Whether a peer is in our AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerKind {
    /// The same AS (iBGP).
    Internal,
    /// Another AS (eBGP).
    External,
}

/// What the two ends of a session have agreed on, as far as it changes the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// AS numbers have four octets (RFC 6793).
    pub as4: bool,
    /// The families of the session.
    pub families: FamilySet,
    /// Families whose NLRI we receive with a path identifier (RFC 7911).
    pub add_path: FamilySet,
    /// Families whose NLRI we send with a path identifier.
    pub add_path_send: FamilySet,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Messages may have 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// ROUTE-REFRESH has subtypes (RFC 7313).
    pub enhanced_refresh: bool,
    /// Whether the peer is internal.
    pub peer: PeerKind,
    /// The peer's AS, when it is known.
    pub peer_as: Option<Asn>,
}

impl Context {
    /// Before anything is agreed.
    pub fn initial(peer: PeerKind) -> Self {
        Self {
            as4: false,
            families: FamilySet::EMPTY,
            add_path: FamilySet::EMPTY,
            add_path_send: FamilySet::EMPTY,
            extended_next_hop: false,
            extended_message: false,
            enhanced_refresh: false,
            peer,
            peer_as: None,
        }
    }

    /// The longest message that may be sent.
    pub fn max_len(&self) -> usize {
        if self.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN }
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// OPEN.
    Open(Open),
    /// UPDATE, with what is wrong in it.
    Update(Received),
    /// KEEPALIVE.
    Keepalive,
    /// NOTIFICATION.
    Notification(Notification),
    /// ROUTE-REFRESH.
    RouteRefresh(RouteRefresh),
}

impl Message {
    /// Reads a whole message, header included.
    ///
    /// # Errors
    /// [`DecodeError`] with the NOTIFICATION to send; the session cannot go on.
    pub fn decode(bytes: &[u8], context: &Context) -> Result<Self, DecodeError> {
        let (kind, body) = header::decode(bytes, context)?;
        match kind {
            message::OPEN => Open::decode(body).map(Self::Open),
            message::UPDATE => update::decode(body, context).map(Self::Update),
            message::KEEPALIVE => Ok(Self::Keepalive),
            message::NOTIFICATION => Notification::decode(body)
                .map(Self::Notification)
                .ok_or_else(|| header::bad_length(bytes.len(), "NOTIFICATION")),
            message::ROUTE_REFRESH => RouteRefresh::decode(bytes, body, context).map(Self::RouteRefresh),
            other => Err(header::bad_type(other)),
        }
    }

    /// The bytes of a KEEPALIVE.
    pub fn keepalive() -> Vec<u8> {
        header::frame(message::KEEPALIVE, |_| {})
    }
}

impl Notification {
    /// The whole message. Data that would make it longer than what every peer takes (4,096 octets) is cut: of its own faulty
    /// message a peer needs no more.
    pub fn encode(&self) -> Vec<u8> {
        header::frame(message::NOTIFICATION, |out| self.encode_body(out))
    }
}

/// Bytes that are not a message of this session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} at octet {offset}: {reason}")]
pub struct DecodeError {
    /// Where, counted from the start of the message's body (of the header, for header errors).
    pub offset: usize,
    /// The field, in the standard's words.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
    /// What the peer is told before the session is closed.
    pub notification: Notification,
}

impl DecodeError {
    pub(crate) fn new(
        offset: usize,
        field: &'static str,
        reason: impl Into<String>,
        notification: Notification,
    ) -> Self {
        Self { offset, field, reason: reason.into(), notification }
    }
}
