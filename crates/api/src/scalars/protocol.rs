use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{ScalarError, deserialize_number_or_text};

/// An IP protocol, by a name that Calico knows or by number 1..255. `Tcp` and `Number(6)` are the same protocol written
/// differently: compare [`Protocol::number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `TCP`, 6.
    Tcp,
    /// `UDP`, 17.
    Udp,
    /// `ICMP`, 1.
    Icmp,
    /// `ICMPv6`, 58.
    IcmpV6,
    /// `SCTP`, 132.
    Sctp,
    /// `UDPLite`, 136.
    UdpLite,
    /// Any, by its number.
    Number(u8),
}

const NAMED: [(Protocol, &str, u8); 6] = [
    (Protocol::Tcp, "TCP", 6),
    (Protocol::Udp, "UDP", 17),
    (Protocol::Icmp, "ICMP", 1),
    (Protocol::IcmpV6, "ICMPv6", 58),
    (Protocol::Sctp, "SCTP", 132),
    (Protocol::UdpLite, "UDPLite", 136),
];

impl Protocol {
    /// The number in the IP header (IANA protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::IcmpV6 => 58,
            Self::Sctp => 132,
            Self::UdpLite => 136,
            Self::Number(number) => number,
        }
    }

    /// Whether rules with this protocol may name ports: TCP, UDP and SCTP.
    pub fn has_ports(self) -> bool {
        matches!(self.number(), 6 | 17 | 132)
    }

    /// Whether this is ICMP or ICMPv6, written in either way.
    pub fn is_icmp(self) -> bool {
        matches!(self.number(), 1 | 58)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(protocol, ..)| protocol == self) {
            Some((_, name, _)) => f.write_str(name),
            None => self.number().fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let named = NAMED.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text)).map(|named| named.0);
        let numbered = || text.parse().ok().filter(|number| *number > 0).map(Self::Number);
        named.or_else(numbered).ok_or_else(|| {
            ScalarError::new(text, "is not a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1..255")
        })
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u8(*number),
            named => serializer.collect_str(named),
        }
    }
}

deserialize_number_or_text!(Protocol);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_in_the_canonical_one() {
        for (text, canonical) in [("tcp", "TCP"), ("icmpV6", "ICMPv6"), ("udplite", "UDPLite"), ("41", "41")]
        {
            assert_eq!(text.parse::<Protocol>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn zero_and_unknown_names_are_refused() {
        for text in ["0", "256", "tcpfoo", ""] {
            assert!(text.parse::<Protocol>().is_err(), "{text}");
        }
    }
}
