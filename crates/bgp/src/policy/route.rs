//! A route as a policy sees it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::SourceMatch;
use crate::packet::PeerKind;
use crate::packet::attribute::{Community, LargeCommunity};
use crate::types::Asn;

/// A route, and whom it goes to or comes from.
#[derive(Clone, Copy)]
pub struct Route<'a> {
    /// The prefix.
    pub prefix: IpNet,
    /// Where it comes from.
    pub source: SourceMatch,
    /// The peer that it goes to (export) or comes from (import); none for the kernel.
    pub peer: Option<PeerKind>,
    /// Where its packets go; none for routes of our own.
    pub next_hop: Option<IpAddr>,
    /// The interface through which they leave, as far as known.
    pub interface: Option<&'a str>,
    /// Its attributes.
    pub attributes: &'a dyn Attributes,
}

/// The attributes that policies look at, taken apart only when a rule asks for them.
pub trait Attributes {
    /// LOCAL_PREF, if the route has one.
    fn local_pref(&self) -> Option<u32>;
    /// COMMUNITIES.
    fn communities(&self) -> Vec<Community>;
    /// LARGE_COMMUNITY.
    fn large_communities(&self) -> Vec<LargeCommunity>;
    /// The AS numbers of AS_PATH, the nearest first.
    fn as_path(&self) -> Vec<Asn>;
}

/// Attributes by themselves, for routes that are in no table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteAttributes {
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: BTreeSet<Community>,
    /// LARGE_COMMUNITY.
    pub large_communities: BTreeSet<LargeCommunity>,
    /// AS_PATH, one sequence.
    pub as_path: Vec<Asn>,
}

impl RouteAttributes {
    /// With a policy's changes.
    pub fn apply(&mut self, changes: &super::Actions) {
        self.local_pref = changes.local_pref.or(self.local_pref);
        self.med = changes.med.or(self.med);
        self.communities.extend(&changes.add_communities);
        self.large_communities.extend(&changes.add_large_communities);
        self.as_path.splice(0..0, changes.prepend.iter().copied());
    }
}

impl Attributes for RouteAttributes {
    fn local_pref(&self) -> Option<u32> {
        self.local_pref
    }

    fn communities(&self) -> Vec<Community> {
        self.communities.iter().copied().collect()
    }

    fn large_communities(&self) -> Vec<LargeCommunity> {
        self.large_communities.iter().copied().collect()
    }

    fn as_path(&self) -> Vec<Asn> {
        self.as_path.clone()
    }
}
