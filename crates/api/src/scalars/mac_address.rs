use std::fmt;
use std::str::FromStr;

use super::{ScalarError, serde_as_text};

/// A 48-bit link-layer address. Read as `ee:ee:ee:ee:ee:ee`, with dashes, or as `eeee.eeee.eeee`; written with colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let octets = match (text.contains(':'), text.contains('-'), text.contains('.')) {
            (true, false, false) => groups(text, ':', 2),
            (false, true, false) => groups(text, '-', 2),
            (false, false, true) => groups(text, '.', 4),
            _ => None,
        };
        octets
            .map(Self)
            .ok_or_else(|| ScalarError::new(text, "is not a MAC address such as ee:ee:ee:ee:ee:ee"))
    }
}

/// The octets of groups of so many hexadecimal digits.
fn groups(text: &str, separator: char, width: usize) -> Option<[u8; 6]> {
    let well_formed =
        |group: &str| group.len() == width && group.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !text.split(separator).all(well_formed) {
        return None;
    }
    let digits: String = text.split(separator).collect();
    if digits.len() != 12 {
        return None;
    }
    let mut octets = [0; 6];
    for (index, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(octets)
}

serde_as_text!(MacAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_notations_give_the_same_address() {
        for text in ["0a:1B:2c:3d:4e:5f", "0a-1b-2c-3d-4e-5f", "0a1b.2c3d.4e5f"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "0a:1b:2c:3d:4e:5f");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "0a:1b:2c:3d:4e", "0a:1b:2c:3d:4e:5f:60", "0a:1b-2c:3d:4e:5f", "ga:1b:2c:3d:4e:5f", "é:é"]
        {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
