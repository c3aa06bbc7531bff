use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{ScalarError, deserialize_number_or_text};

/// A port, an inclusive range of ports, or the name of a port that endpoints declare. A single port is a number in JSON,
/// the others are strings: `80`, `"8000:8080"`, `"http"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// One port.
    Number(u16),
    /// From the first to the last, both included.
    Range(u16, u16),
    /// By name.
    Named(String),
}

impl Port {
    /// The first and last port, unless it is a name.
    pub fn range(&self) -> Option<(u16, u16)> {
        match self {
            Self::Number(port) => Some((*port, *port)),
            Self::Range(first, last) => Some((*first, *last)),
            Self::Named(_) => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(port) => port.fmt(f),
            Self::Range(first, last) => write!(f, "{first}:{last}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl FromStr for Port {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if is_number(text) {
            return number(text).map(Self::Number).ok_or_else(|| ScalarError::new(text, "is above 65535"));
        }
        match text.split_once(':') {
            Some((first, last)) if is_number(first) && is_number(last) => range(text, first, last),
            None if is_name(text) => Ok(Self::Named(text.to_owned())),
            _ => Err(ScalarError::new(
                text,
                "is not a port: 0..65535, \"first:last\", or a name of at most 128 of a-z, A-Z, 0-9, _, . and -",
            )),
        }
    }
}

fn range(text: &str, first: &str, last: &str) -> Result<Port, ScalarError> {
    match number(first).zip(number(last)) {
        None => Err(ScalarError::new(text, "has a port above 65535")),
        Some((first, last)) if first > last => Err(ScalarError::new(text, "ends before it begins")),
        Some((first, last)) => Ok(Port::Range(first, last)),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok()
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(port) => serializer.serialize_u16(*port),
            other => serializer.collect_str(other),
        }
    }
}

deserialize_number_or_text!(Port);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ranges_and_names_are_told_apart() {
        assert_eq!("80".parse(), Ok(Port::Number(80)));
        assert_eq!("80:90".parse(), Ok(Port::Range(80, 90)));
        assert_eq!("http".parse(), Ok(Port::Named("http".to_owned())));
        assert_eq!("80x".parse(), Ok(Port::Named("80x".to_owned())));
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for text in ["", "65536", "90:80", "1:65536", "a:b", "http!", "1:2:3"] {
            assert!(text.parse::<Port>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_single_port_is_a_number_in_json() {
        let ports = [Port::Number(80), Port::Range(1, 2), Port::Named("a".to_owned())];
        let text = serde_json::to_string(&ports).unwrap();
        assert_eq!(text, r#"[80,"1:2","a"]"#);
        assert_eq!(serde_json::from_str::<Vec<Port>>(&text).unwrap(), ports);
    }
}
