//! What observers are told: BMP for stations that listen (RFC 7854), MRT for files (RFC 6396).
//!
//! Encoders and decoders only; what is said when is the business of the speaker. Decoders are total: any bytes give a value
//! or a [`DecodeError`]. Messages of BGP in them stay octets, which [`packet`](crate::packet) reads with the context of their
//! session.

pub mod bmp;
pub mod mrt;
mod reader;
mod recorder;

use std::time::Duration;

pub use recorder::Recorder;

/// A moment, since the beginning of 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds.
    pub secs: u32,
    /// Microseconds of the second that has begun.
    pub micros: u32,
}

impl Timestamp {
    /// Not known (RFC 7854, section 4.2).
    pub const UNKNOWN: Self = Self { secs: 0, micros: 0 };

    /// From a time since the epoch. The year 2106 is as far as it goes.
    pub fn since_epoch(time: Duration) -> Self {
        let secs = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        Self { secs, micros: time.subsec_micros() }
    }
}

/// Bytes that are no message or record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} at octet {offset}: {reason}")]
pub struct DecodeError {
    /// Where, from the first octet of the message or record.
    pub offset: usize,
    /// The field, in the standard's words.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}
