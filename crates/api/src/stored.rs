//! What a datastore holds: the identity of each row, whatever engine keeps it.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use crate::Kind;
use crate::scalars::ScalarError;

/// The identity of a row. The order of keys is the order of lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A v3 resource.
    Resource {
        /// Its kind.
        kind: Kind,
        /// Present exactly when the kind is namespaced.
        namespace: Option<String>,
        /// `metadata.name`.
        name: String,
    },
    /// An IPAM block.
    Block(IpNet),
    /// A host's (or virtual owner's) claim on a block.
    BlockAffinity {
        /// What claims it.
        owner: AffinityOwner,
        /// The block.
        cidr: IpNet,
    },
    /// The index of one owner's addresses.
    Handle(String),
    /// The settings of IPAM.
    IpamConfig,
    /// A change that is undone unless it is confirmed.
    Confirmation(String),
}

/// Who a block belongs to: a node, or something that is none, such as `load-balancer`.
/// Displayed as `host:NAME` or `virtual:NAME`, as blocks store it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityOwner {
    /// A node.
    Host(String),
    /// Something else.
    Virtual(String),
}

impl AffinityOwner {
    /// The node's (or other owner's) name.
    pub fn name(&self) -> &str {
        match self {
            Self::Host(name) | Self::Virtual(name) => name,
        }
    }
}

impl FromStr for AffinityOwner {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        match text.split_once(':') {
            Some(("host", name)) => Ok(Self::Host(name.to_owned())),
            Some(("virtual", name)) => Ok(Self::Virtual(name.to_owned())),
            _ => Err(ScalarError::new(text, "is not an owner of blocks: host:NAME or virtual:NAME")),
        }
    }
}

impl fmt::Display for AffinityOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "host:{name}"),
            Self::Virtual(name) => write!(f, "virtual:{name}"),
        }
    }
}

impl Key {
    /// The key of a resource without a namespace.
    pub fn cluster(kind: Kind, name: impl Into<String>) -> Self {
        Self::Resource { kind, namespace: None, name: name.into() }
    }

    /// The key of a resource in a namespace.
    pub fn namespaced(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self::Resource { kind, namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource { kind, namespace: Some(namespace), name } => {
                write!(f, "{kind} {namespace}/{name}")
            }
            Self::Resource { kind, namespace: None, name } => write!(f, "{kind} {name}"),
            Self::Block(cidr) => write!(f, "IPAM block {cidr}"),
            Self::BlockAffinity { owner, cidr } => write!(f, "affinity of {owner} for block {cidr}"),
            Self::Handle(id) => write!(f, "IPAM handle {id}"),
            Self::IpamConfig => f.write_str("IPAM configuration"),
            Self::Confirmation(id) => write!(f, "confirmation of change {id}"),
        }
    }
}
