//! Network layer reachability information: prefixes on the wire (RFC 4271, section 4.3; RFC 7911).
//!
//! ```text
//! +---------------------------+  only where add-path is agreed
//! |   Path identifier (4)     |
//! +---------------------------+
//! |   Length in bits (1)      |
//! +---------------------------+
//! |   Prefix (0..16)          |
//! +---------------------------+
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::types::Family;

/// A prefix, with a path identifier where the session uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nlri {
    /// The prefix; bits past its length are zero.
    pub prefix: IpNet,
    /// The path identifier (RFC 7911).
    pub path_id: Option<u32>,
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, path_id: None }
    }
}

impl Nlri {
    /// How many octets it takes on the wire.
    pub fn encoded_len(&self) -> usize {
        let id = if self.path_id.is_some() { 4 } else { 0 };
        id + 1 + usize::from(self.prefix.prefix_len()).div_ceil(8)
    }
}

/// What is wrong with a list of prefixes, and how far into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NlriError {
    /// Octets from the start of the list.
    pub offset: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Reads prefixes until the bytes end. Bits past a prefix's length are ignored.
pub(crate) fn decode(bytes: &[u8], family: Family, add_path: bool) -> Result<Vec<Nlri>, NlriError> {
    let mut out = Vec::with_capacity(bytes.len() / 4);
    let mut rest = bytes;
    while !rest.is_empty() {
        let error = |reason| NlriError { offset: bytes.len() - rest.len(), reason };
        let path_id = match (add_path, rest.split_first_chunk::<4>()) {
            (false, _) => None,
            (true, Some((id, after))) => {
                rest = after;
                Some(u32::from_be_bytes(*id))
            }
            (true, None) => return Err(error("a path identifier is cut short")),
        };
        let Some((&length, after)) = rest.split_first() else {
            return Err(error("a prefix length is missing"));
        };
        let octets = usize::from(length).div_ceil(8);
        if length > max_length(family) {
            return Err(error("a prefix length is too large"));
        }
        let Some((prefix, after)) = after.split_at_checked(octets) else {
            return Err(error("a prefix is cut short"));
        };
        rest = after;
        out.push(Nlri { prefix: to_prefix(prefix, length, family), path_id });
    }
    Ok(out)
}

fn max_length(family: Family) -> u8 {
    match family {
        Family::Ipv4Unicast => 32,
        Family::Ipv6Unicast => 128,
    }
}

fn to_prefix(octets: &[u8], length: u8, family: Family) -> IpNet {
    match family {
        Family::Ipv4Unicast => {
            let mut address = [0; 4];
            address[..octets.len()].copy_from_slice(octets);
            Ipv4Net::new_assert(Ipv4Addr::from(address), length).trunc().into()
        }
        Family::Ipv6Unicast => {
            let mut address = [0; 16];
            address[..octets.len()].copy_from_slice(octets);
            Ipv6Net::new_assert(Ipv6Addr::from(address), length).trunc().into()
        }
    }
}

/// Appends a prefix.
pub(crate) fn encode(nlri: &Nlri, out: &mut Vec<u8>) {
    if let Some(id) = nlri.path_id {
        out.extend_from_slice(&id.to_be_bytes());
    }
    let length = nlri.prefix.prefix_len();
    let octets = usize::from(length).div_ceil(8);
    out.push(length);
    match nlri.prefix {
        IpNet::V4(net) => out.extend_from_slice(&net.addr().octets()[..octets]),
        IpNet::V6(net) => out.extend_from_slice(&net.addr().octets()[..octets]),
    }
}
