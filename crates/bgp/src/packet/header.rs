//! The message header and the cutting of a byte stream into messages.

use std::borrow::Cow;

use super::notification::Notification;
use super::{Context, DecodeError};
use crate::iana::{error, header_error, message};

/// Octets of a header.
pub const HEADER_LEN: usize = 19;
/// The longest message (RFC 4271, section 4.1).
pub const MAX_LEN: usize = 4096;
/// The longest message where extended messages are agreed (RFC 8654).
pub const MAX_EXTENDED_LEN: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// Writes a message: header, body, and then the length.
pub(crate) fn frame(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    frame_into(&mut out, kind, body);
    out
}

/// Appends a message. The body must leave it below 65,536 octets.
pub(crate) fn frame_into(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0, 0, kind]);
    body(out);
    let length = u16::try_from(out.len() - start).expect("callers keep messages within the maximum");
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

/// The type and body of a whole message.
pub(crate) fn decode<'a>(bytes: &'a [u8], context: &Context) -> Result<(u8, &'a [u8]), DecodeError> {
    let length = check(bytes, context)?;
    match bytes.get(HEADER_LEN..length) {
        Some(body) => Ok((bytes[18], body)),
        None => Err(bad_length(length, "the message is longer than what is there")),
    }
}

/// Checks a header and gives the length of its message. `bytes` holds at least a header, else the error says so.
fn check(bytes: &[u8], context: &Context) -> Result<usize, DecodeError> {
    let Some(header) = bytes.get(..HEADER_LEN) else {
        return Err(bad_length(bytes.len(), "shorter than a header"));
    };
    if header[..16] != MARKER {
        let at = header.iter().position(|octet| *octet != 0xff).unwrap_or(0);
        let notification = Notification::new(error::HEADER, header_error::NOT_SYNCHRONIZED);
        return Err(DecodeError::new(at, "Marker", "not all ones", notification));
    }
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let kind = header[18];
    // The limit of RFC 8654 is not for OPEN and KEEPALIVE.
    let extended = context.extended_message && !matches!(kind, message::OPEN | message::KEEPALIVE);
    let limit = if extended { MAX_EXTENDED_LEN } else { MAX_LEN };
    if length < HEADER_LEN || length > limit {
        return Err(bad_length(length, "outside of what is allowed"));
    }
    let allowed = match kind {
        message::OPEN => length >= 29,
        message::UPDATE => length >= 23,
        message::NOTIFICATION => length >= 21,
        message::KEEPALIVE => length == HEADER_LEN,
        // A wrong length here has an error code of its own (RFC 7313, section 5).
        message::ROUTE_REFRESH => true,
        other => return Err(bad_type(other)),
    };
    if allowed { Ok(length) } else { Err(bad_length(length, "wrong for this type of message")) }
}

pub(crate) fn bad_length(length: usize, reason: &str) -> DecodeError {
    let field = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let notification = Notification::with_data(error::HEADER, header_error::BAD_LENGTH, field);
    DecodeError::new(16, "Length", format!("{length}: {reason}"), notification)
}

pub(crate) fn bad_type(kind: u8) -> DecodeError {
    let notification = Notification::with_data(error::HEADER, header_error::BAD_TYPE, [kind]);
    DecodeError::new(18, "Type", format!("{kind} is not a message type"), notification)
}

/// Cuts a byte stream into messages. Holds at most one message that is not whole yet.
#[derive(Debug, Default)]
pub struct Framer {
    pending: Vec<u8>,
}

impl Framer {
    /// One that holds the beginning of a message already.
    pub(crate) fn resume(pending: Vec<u8>) -> Self {
        Self { pending }
    }

    /// The beginning of a message that has not come whole.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Takes the next message off `input`, which shrinks. `None`: more bytes are needed, all of `input` is kept.
    ///
    /// # Errors
    /// A header that is not one. The stream cannot be read any further.
    pub fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
        context: &Context,
    ) -> Result<Option<Cow<'a, [u8]>>, DecodeError> {
        if self.pending.is_empty() {
            if input.len() >= HEADER_LEN {
                let length = check(input, context)?;
                if let Some((message, rest)) = input.split_at_checked(length) {
                    *input = rest;
                    return Ok(Some(message.into()));
                }
            }
            self.pending.extend_from_slice(input);
            *input = &[];
            return Ok(None);
        }
        if !self.fill(HEADER_LEN, input) {
            return Ok(None);
        }
        let length = check(&self.pending, context)?;
        if !self.fill(length, input) {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.pending).into()))
    }

    fn fill(&mut self, length: usize, input: &mut &[u8]) -> bool {
        let missing = length.saturating_sub(self.pending.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.pending.extend_from_slice(taken);
        *input = rest;
        self.pending.len() >= length
    }
}

#[cfg(test)]
mod tests {
    use super::super::PeerKind;
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = frame(message::KEEPALIVE, |_| {});
        frame_into(&mut bytes, message::NOTIFICATION, |out| out.extend_from_slice(&[6, 2, 0]));
        frame_into(&mut bytes, message::KEEPALIVE, |_| {});
        bytes
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let context = Context::initial(PeerKind::Internal);
        let bytes = stream();
        for size in 1..=bytes.len() {
            let mut framer = Framer::default();
            let mut lengths = Vec::new();
            for chunk in bytes.chunks(size) {
                let mut input = chunk;
                while let Some(message) = framer.next(&mut input, &context).unwrap() {
                    lengths.push(message.len());
                }
            }
            assert_eq!(lengths, [19, 22, 19], "cut into pieces of {size}");
        }
    }

    #[test]
    fn a_bad_marker_is_found_before_the_message_is_whole() {
        let context = Context::initial(PeerKind::Internal);
        let mut bytes = stream();
        bytes[3] = 0;
        let error = Framer::default().next(&mut bytes[..19].as_ref(), &context).unwrap_err();
        assert_eq!((error.offset, error.field), (3, "Marker"));
    }
}
