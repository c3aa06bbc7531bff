//! Scalars of the v3 API: each parses once, prints in the canonical form, and says what is wrong with a bad value.

mod as_number;
mod dscp;
mod duration;
mod ip_version;
mod mac_address;
mod net;
mod port;
mod protocol;
mod words;

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de;

pub use as_number::AsNumber;
pub use dscp::Dscp;
pub use duration::GoDuration;
pub use ip_version::IpVersion;
pub use mac_address::MacAddress;
pub use net::Net;
pub use port::Port;
pub use protocol::Protocol;
pub(crate) use words::{serde_as_text, words};

/// A value that is no scalar of the wanted sort; displays the value, what is wrong and what is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} {reason}")]
pub struct ScalarError {
    /// The text as it was given.
    pub value: String,
    /// What is wrong with it and what would be right.
    pub reason: String,
}

impl ScalarError {
    pub(crate) fn new(value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { value: value.into(), reason: reason.into() }
    }

    pub(crate) fn not_one_of(value: &str, words: &[&str]) -> Self {
        Self::new(value, format!("is not one of {}", words.join(", ")))
    }
}

/// Takes a text (or whatever unquoted scalar a YAML author left without quotes) and parses it.
pub(crate) struct TextVisitor<T>(PhantomData<T>);

impl<T> TextVisitor<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = ScalarError>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// The name of the newtype under which scalars that are a number or a text ask for their value. A deserializer that has
/// the text as it was written hands it over as that, so that `64512.10` is not taken for a decimal fraction.
pub(crate) const NUMBER_OR_TEXT: &str = "number or text";

/// Takes a number or a text, and parses both as text.
pub(crate) struct NumberOrTextVisitor<T>(PhantomData<T>);

impl<T> NumberOrTextVisitor<T> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: FromStr<Err = ScalarError>> de::Visitor<'de> for NumberOrTextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a string")
    }

    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Deserialize through [`NumberOrTextVisitor`].
macro_rules! deserialize_number_or_text {
    ($name:ident) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_newtype_struct(
                    $crate::scalars::NUMBER_OR_TEXT,
                    $crate::scalars::NumberOrTextVisitor::new(),
                )
            }
        }
    };
}

pub(crate) use deserialize_number_or_text;
