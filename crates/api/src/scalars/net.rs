use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{ScalarError, serde_as_text};

/// An address with a prefix length, or an address alone (which then stands for itself only). Prints as it was written,
/// but for the spelling of the address. Host bits are kept: [`Net::net`] masks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    with_prefix: IpNet,
    is_bare: bool,
}

impl Net {
    /// The network, host bits cleared.
    pub fn net(&self) -> IpNet {
        self.with_prefix.trunc()
    }

    /// The address as written, host bits included.
    pub fn addr(&self) -> IpAddr {
        self.with_prefix.addr()
    }

    /// The address as written with its prefix length, host bits included.
    pub fn interface(&self) -> IpNet {
        self.with_prefix
    }

    /// The prefix length in bits; 32 or 128 for an address alone.
    pub fn prefix_len(&self) -> u8 {
        self.with_prefix.prefix_len()
    }

    /// Whether it is IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.addr().is_ipv6()
    }

    /// Whether it was written without a prefix length.
    pub fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Whether no bit is set beyond the prefix length.
    pub fn is_masked(&self) -> bool {
        self.with_prefix.trunc() == self.with_prefix
    }
}

impl From<IpNet> for Net {
    fn from(net: IpNet) -> Self {
        Self { with_prefix: net, is_bare: false }
    }
}

impl From<IpAddr> for Net {
    fn from(address: IpAddr) -> Self {
        Self { with_prefix: address.into(), is_bare: true }
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_bare {
            true => self.addr().fmt(f),
            false => self.with_prefix.fmt(f),
        }
    }
}

impl FromStr for Net {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let network = |text: &str| text.parse::<IpNet>().ok().map(Self::from);
        let address = |text: &str| text.parse::<IpAddr>().ok().map(Self::from);
        network(text).or_else(|| address(text)).ok_or_else(|| {
            ScalarError::new(text, "is not an address or CIDR such as 10.0.0.1, 10.0.0.0/24 or fd00::/64")
        })
    }
}

serde_as_text!(Net);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_as_it_was_written() {
        for text in ["10.0.0.1", "10.0.0.1/32", "10.0.0.5/24", "fd00::/64", "::1"] {
            assert_eq!(text.parse::<Net>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn host_bits_are_kept_and_can_be_masked() {
        let net: Net = "10.0.0.5/24".parse().unwrap();
        assert_eq!(net.net().to_string(), "10.0.0.0/24");
        assert_eq!(net.addr().to_string(), "10.0.0.5");
        assert!(!net.is_masked());
    }

    #[test]
    fn bad_prefix_lengths_and_octets_are_refused() {
        for text in ["10.0.0.0/33", "fd00::/129", "10.0.0.256", "10.0.0", "10.0.0.0/", "x", ""] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
