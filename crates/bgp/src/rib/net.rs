//! IPv4 and IPv6 prefixes as one kind of key.

use std::fmt::Debug;
use std::hash::Hash;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::types::Family;

/// A prefix of one family: small, ordered by address and then by length.
pub trait Net: Copy + Ord + Hash + Debug + Into<IpNet> {
    /// The family.
    const FAMILY: Family;

    /// The prefix, when it is of this family.
    fn from_prefix(prefix: IpNet) -> Option<Self>;
}

impl Net for Ipv4Net {
    const FAMILY: Family = Family::Ipv4Unicast;

    fn from_prefix(prefix: IpNet) -> Option<Self> {
        match prefix {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
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
}
