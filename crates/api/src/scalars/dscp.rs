use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{ScalarError, deserialize_number_or_text};

/// A differentiated services code point (RFC 2474), 0..63: by number, or by the name of a per-hop behaviour. Written as
/// it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dscp {
    code_point: u8,
    name: Option<&'static str>,
}

const NAMES: [(&str, u8); 21] = [
    ("DF", 0),
    ("EF", 46),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS0", 0),
    ("CS1", 8),
    ("CS2", 16),
    ("CS3", 24),
    ("CS4", 32),
    ("CS5", 40),
    ("CS6", 48),
];

impl Dscp {
    /// 0..63.
    pub fn code_point(self) -> u8 {
        self.code_point
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => self.code_point.fmt(f),
        }
    }
}

impl FromStr for Dscp {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if let Some((name, code_point)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self { code_point: *code_point, name: Some(name) });
        }
        let number = text.parse().ok().filter(|number| *number <= 63);
        number
            .map(|code_point| Self { code_point, name: None })
            .ok_or_else(|| ScalarError::new(text, "is not a DSCP: 0..63, DF, EF, AF11..AF43 or CS0..CS6"))
    }
}

impl Serialize for Dscp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.name {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_u8(self.code_point),
        }
    }
}

deserialize_number_or_text!(Dscp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_give_the_code_point_and_print_as_written() {
        for (text, code_point) in [("EF", 46), ("AF43", 38), ("CS6", 48), ("0", 0), ("63", 63)] {
            let dscp: Dscp = text.parse().unwrap();
            assert_eq!((dscp.code_point(), dscp.to_string().as_str()), (code_point, text));
        }
    }

    #[test]
    fn what_is_out_of_range_or_unnamed_is_refused() {
        for text in ["64", "-1", "ef", "AF44", "CS7", ""] {
            assert!(text.parse::<Dscp>().is_err(), "{text}");
        }
    }
}
