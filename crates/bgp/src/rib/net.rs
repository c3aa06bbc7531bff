//! IPv4 and IPv6 prefixes as one kind of key.

use std::fmt::Debug;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::index::{mix, mix_octets};
use crate::types::Family;

/// A prefix of one family: small, ordered by address and then by length.
pub trait Net: Copy + Ord + Debug + Into<IpNet> {
    /// The family.
    const FAMILY: Family;

    /// The prefix, when it is of this family.
    fn from_prefix(prefix: IpNet) -> Option<Self>;

    /// A hash of address and length under a key.
    fn hash(&self, key: u64) -> u64;

    /// How many octets [`Net::encode`] appends.
    fn encoded_len(&self) -> usize;

    /// Appends length and address as they are in NLRI.
    fn encode(&self, out: &mut Vec<u8>);
}

impl Net for Ipv4Net {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn from_prefix(prefix: IpNet) -> Option<Self> {
        match prefix {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    fn hash(&self, key: u64) -> u64 {
        mix(key, u64::from(u32::from(self.addr())) << 8 | u64::from(self.prefix_len()))
    }

    fn encoded_len(&self) -> usize {
        1 + usize::from(self.prefix_len()).div_ceil(8)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.prefix_len());
        out.extend_from_slice(&self.addr().octets()[..usize::from(self.prefix_len()).div_ceil(8)]);
    }
}

impl Net for Ipv6Net {
    const FAMILY: Family = Family::Ipv6Unicast;

    fn from_prefix(prefix: IpNet) -> Option<Self> {
        match prefix {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }

    fn hash(&self, key: u64) -> u64 {
        mix(mix_octets(key, &self.addr().octets()), u64::from(self.prefix_len()))
    }

    fn encoded_len(&self) -> usize {
        1 + usize::from(self.prefix_len()).div_ceil(8)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.prefix_len());
        out.extend_from_slice(&self.addr().octets()[..usize::from(self.prefix_len()).div_ceil(8)]);
    }
}
