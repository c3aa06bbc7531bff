//! Names of chains and sets (datapath.md 4.3).

use std::sync::Arc;

use calc::contract::{IpSetId, IpVersion};
use calc::program::ChainId;

use crate::ip_sets::Shape;
use crate::nft::{NameLimits, chain_name_within, shorten};

/// `XT_EXTENSION_MAXNAMELEN` without the end.
const CHAINS: NameLimits = NameLimits { longest: 28, hash: 16 };

/// `IPSET_MAXNAMELEN` without the end.
const SETS: NameLimits = NameLimits { longest: 31, hash: 16 };

/// The name of a chain of the program; those of nf_tables, but shorter.
pub(super) fn chain_name(id: &ChainId) -> Arc<str> {
    chain_name_within(id, CHAINS)
}

/// The name of a node of a dispatch tree.
pub(super) fn dispatch_name(root: &str, prefix: &str) -> Arc<str> {
    shorten(&format!("{root}-{prefix}"), CHAINS).into()
}

/// What the names of a family's sets begin with.
pub(super) fn set_prefix(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => kernel::ownership::IP_SET_PREFIX_V4,
        IpVersion::V6 => kernel::ownership::IP_SET_PREFIX_V6,
    }
}

/// The name of a set. A set of another shape is another set, of another type.
pub(super) fn set_name(id: &IpSetId, shape: Shape, version: IpVersion) -> String {
    let suffix = match shape {
        Shape::Addresses | Shape::Ports => "",
        Shape::Networks | Shape::NetworkPorts => "-net",
    };
    name(&format!("{}{suffix}", id.0), version)
}

/// The name of the set with this identity.
pub(super) fn name(id: &str, version: IpVersion) -> String {
    let id: String = id.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '_' }).collect();
    shorten(&format!("{}0{id}", set_prefix(version)), SETS)
}

/// The name of a temporary set.
pub(super) fn temporary(number: usize, version: IpVersion) -> String {
    format!("{}t{number}", set_prefix(version))
}
