//! NOTIFICATION (RFC 4271, section 4.5; RFC 9003; RFC 8538).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! | Error code    | Error subcode |   Data (variable)
//! +---------------+---------------+-------------------------------+
//! ```

use std::fmt;

use super::{HEADER_LEN, MAX_LEN};
use crate::iana::{self, cease};

/// The longest data that fits into a message of 4,096 octets.
const LONGEST_DATA: usize = MAX_LEN - HEADER_LEN - 2;

/// The reason why a speaker closes a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 when there is nothing more specific.
    pub subcode: u8,
    /// What the error is about, as far as the code defines it.
    pub data: Vec<u8>,
}

impl Notification {
    /// Without data.
    pub fn new(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// With data.
    pub fn with_data(code: u8, subcode: u8, data: impl Into<Vec<u8>>) -> Self {
        Self { code, subcode, data: data.into() }
    }

    /// Cease, administrative shutdown, with a message for the peer's operator, cut at 255 octets (RFC 9003).
    pub fn shutdown(message: &str) -> Self {
        let end = message.floor_char_boundary(255);
        let mut data = vec![u8::try_from(end).expect("at most 255")];
        data.extend_from_slice(&message.as_bytes()[..end]);
        Self::with_data(iana::error::CEASE, cease::SHUTDOWN, data)
    }

    /// The operator's message of a shutdown or reset, when there is one and it is well-formed (RFC 9003, section 2).
    pub fn shutdown_message(&self) -> Option<&str> {
        let communicates = matches!(self.subcode, cease::SHUTDOWN | cease::RESET);
        if self.code != iana::error::CEASE || !communicates {
            return None;
        }
        let (&length, rest) = self.data.split_first()?;
        let text = rest.get(..usize::from(length))?;
        std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
    }

    /// Whether the peer wants its routes gone, graceful restart or not (RFC 8538, section 3).
    pub fn is_hard_reset(&self) -> bool {
        self.code == iana::error::CEASE && self.subcode == cease::HARD_RESET
    }

    /// What a hard reset is for: the NOTIFICATION in it (RFC 8538, section 3.1).
    pub fn reset_for(&self) -> Option<Self> {
        Self::decode(&self.data).filter(|_| self.is_hard_reset())
    }

    /// Reads the body (without the header). A body of less than two octets is caught as a bad message length.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let [code, subcode, data @ ..] = body else { return None };
        Some(Self { code: *code, subcode: *subcode, data: data.to_vec() })
    }

    pub(crate) fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.code, self.subcode]);
        out.extend_from_slice(&self.data[..self.data.len().min(LONGEST_DATA)]);
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, subcode) = iana::notification_name(self.code, self.subcode);
        write!(f, "{code}")?;
        if !subcode.is_empty() {
            write!(f, ", {subcode}")?;
        }
        write!(f, " ({}/{})", self.code, self.subcode)?;
        if let Some(inner) = self.reset_for().filter(|inner| !inner.is_hard_reset()) {
            return write!(f, " for {inner}");
        }
        match self.shutdown_message() {
            Some(message) => write!(f, ": {message:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_shutdown_message_is_cut_between_characters() {
        let notification = Notification::shutdown(&"ä".repeat(200));
        assert_eq!(notification.data.len(), 255);
        assert_eq!(notification.shutdown_message(), Some("ä".repeat(127).as_str()));
    }

    #[test]
    fn it_says_what_it_means() {
        assert_eq!(
            Notification::shutdown("maintenance").to_string(),
            "cease, administrative shutdown (6/2): \"maintenance\""
        );
        assert_eq!(Notification::new(4, 0).to_string(), "hold timer expired (4/0)");
        let reset = Notification::with_data(6, 9, [6, 1]);
        assert_eq!(
            reset.to_string(),
            "cease, hard reset (6/9) for cease, maximum number of prefixes reached (6/1)"
        );
        // One in another says no more than one.
        assert_eq!(Notification::with_data(6, 9, [6, 9, 6, 9]).to_string(), "cease, hard reset (6/9)");
    }
}
