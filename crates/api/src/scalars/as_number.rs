use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{ScalarError, deserialize_number_or_text};

/// A 4-octet autonomous system number (RFC 6793). Read as a number or as `high.low` with 16-bit halves (RFC 5396
/// asdot), always written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsNumber(pub u32);

impl fmt::Display for AsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AsNumber {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let number = match text.split_once('.') {
            None => digits(text),
            Some((high, low)) => half(high).zip(half(low)).map(|(high, low)| (high << 16) | low),
        };
        number.map(Self).ok_or_else(|| {
            ScalarError::new(text, "is not an AS number: 0..4294967295, or high.low with halves of 0..65535")
        })
    }
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn half(text: &str) -> Option<u32> {
    digits(text).filter(|half| *half <= 0xffff)
}

impl Serialize for AsNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

deserialize_number_or_text!(AsNumber);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_give_the_number() {
        for (text, number) in
            [("64512", 64512), ("0.64512", 64512), ("1.10", 65546), ("4294967295", u32::MAX)]
        {
            assert_eq!(text.parse(), Ok(AsNumber(number)), "{text}");
        }
    }

    #[test]
    fn what_is_too_large_negative_or_no_number_is_refused() {
        for text in ["4294967296", "65536.1", "1.65536", "-1", "+1", "1.2.3", "", ".", "as1"] {
            assert!(text.parse::<AsNumber>().is_err(), "{text}");
        }
    }
}
