//! Communities (RFC 1997, RFC 8092) and how they are written.

use std::fmt;
use std::str::FromStr;

/// A community: four octets, usually an AS number and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// Not to be passed on to external peers (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not to be passed on to anyone (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not to be passed on to external peers, those of a confederation included (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// Kept beyond graceful restart: the least preferred of all (RFC 9494).
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// Not to be kept beyond graceful restart (RFC 9494).
    pub const NO_LLGR: Self = Self(0xffff_0007);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A text that is not a community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a community: write {form}")]
pub struct CommunityError {
    text: String,
    form: &'static str,
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CommunityError { text: text.to_owned(), form: "ASN:VALUE, both 0 to 65535" };
        let (high, low) = text.split_once(':').ok_or_else(error)?;
        let (high, low): (u16, u16) = (high.parse().map_err(|_| error())?, low.parse().map_err(|_| error())?);
        Ok(Self(u32::from(high) << 16 | u32::from(low)))
    }
}

/// A large community: three times four octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity(pub u32, pub u32, pub u32);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0, self.1, self.2)
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            || CommunityError { text: text.to_owned(), form: "ASN:VALUE:VALUE, each 0 to 4294967295" };
        let parts: Vec<u32> =
            text.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| error())?;
        let [a, b, c] = parts[..] else { return Err(error()) };
        Ok(Self(a, b, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_read_as_they_are_written() {
        assert_eq!("65000:7".parse::<Community>().unwrap().to_string(), "65000:7");
        assert_eq!(
            "65000:7:4294967295".parse::<LargeCommunity>().unwrap(),
            LargeCommunity(65000, 7, u32::MAX)
        );
        assert!("65536:1".parse::<Community>().is_err());
        assert!("1:2".parse::<LargeCommunity>().is_err());
    }
}
