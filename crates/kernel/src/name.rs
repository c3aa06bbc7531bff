use std::fmt;
use std::str::FromStr;

/// The name of a network interface: 1 to 15 bytes, none of them white space, `/`, `:` or `%`, and not `.` or `..`
/// (`dev_valid_name` in the kernel; `%` would be taken for a template). Safe as one element of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Box<str>);

/// Not the name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interface name {0:?}: must have 1 to 15 bytes, without white space, '/', ':' and '%'")]
pub struct InvalidInterfaceName(String);

impl InterfaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// When the kernel would not take it.
    pub fn new(name: &str) -> Result<Self, InvalidInterfaceName> {
        let bad = |character: char| character.is_whitespace() || "/:%\0".contains(character);
        if matches!(name, "" | "." | "..") || name.len() > 15 || name.contains(bad) {
            return Err(InvalidInterfaceName(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// A name that the kernel gave us.
    pub(crate) fn from_kernel(name: String) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl AsRef<str> for InterfaceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for InterfaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

/// Not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MAC address {0:?}: must be six pairs of hexadecimal digits between colons, as in 0a:1b:2c:3d:4e:5f")]
pub struct InvalidMacAddress(String);

impl MacAddress {
    /// The IPv6 link-local address that the kernel derives from it (modified EUI-64, RFC 4291 appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        octets.into()
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidMacAddress(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(invalid)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_or_a_path_would_not_bear_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "cali%d", "sixteen-bytes-xx", "tab\t"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(InterfaceName::new("eth0.100").unwrap().as_str(), "eth0.100");
    }

    #[test]
    fn mac_addresses_are_read_and_written() {
        let mac: MacAddress = "EE:ee:ee:ee:ee:0f".parse().unwrap();
        assert_eq!(mac.to_string(), "ee:ee:ee:ee:ee:0f");
        for bad in ["", "ee:ee:ee:ee:ee", "ee:ee:ee:ee:ee:ee:ee", "e:ee:ee:ee:ee:ee", "+e:ee:ee:ee:ee:ee"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_link_local_address_of_our_host_side_is_the_known_one() {
        assert_eq!(MacAddress([0xee; 6]).link_local().to_string(), "fe80::ecee:eeff:feee:eeee");
    }
}
