//! Import and export policy: ordered rules, the first that matches decides.
//!
//! A policy is data, not code: it can be compared (peers with equal export policy share their UPDATEs), printed
//! and explained. Rules match on the prefix, on communities and on where a route came from.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::packet::attribute::{Community, LargeCommunity};

/// Rules in order, and what happens to a route that none of them matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// The first that matches decides.
    pub rules: Vec<Rule>,
    /// For routes that no rule matches.
    pub otherwise: Verdict,
}

impl Policy {
    /// Lets everything through unchanged.
    pub fn accept_all() -> Self {
        Self { rules: Vec::new(), otherwise: Verdict::Accept }
    }

    /// Lets nothing through.
    pub fn reject_all() -> Self {
        Self { rules: Vec::new(), otherwise: Verdict::Reject }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// All that is given must hold.
    pub when: Match,
    /// What is changed in a route that is accepted.
    pub set: Actions,
    /// What becomes of the route.
    pub verdict: Verdict,
}

/// Conditions; what is absent always holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Match {
    /// The prefix.
    pub prefix: Option<PrefixMatch>,
    /// A community that the route carries.
    pub community: Option<Community>,
    /// Where the route came from.
    pub source: Option<SourceMatch>,
}

/// Prefixes that lie in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixMatch {
    /// What the prefix lies in.
    pub within: IpNet,
    /// The shortest prefix length, inclusive.
    pub min_len: u8,
    /// The longest prefix length, inclusive.
    pub max_len: u8,
}

impl PrefixMatch {
    /// Exactly this prefix.
    pub fn exactly(prefix: IpNet) -> Self {
        Self { within: prefix, min_len: prefix.prefix_len(), max_len: prefix.prefix_len() }
    }

    /// This prefix and everything in it.
    pub fn within(prefix: IpNet) -> Self {
        Self { within: prefix, min_len: prefix.prefix_len(), max_len: prefix.max_prefix_len() }
    }

    /// Whether a prefix matches.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        (self.min_len..=self.max_len).contains(&prefix.prefix_len()) && self.within.contains(prefix)
    }
}

/// Where a route came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceMatch {
    /// We originate it.
    Local,
    /// From a peer.
    Learned,
}

/// What becomes of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It passes.
    Accept,
    /// It is dropped.
    Reject,
}

/// Changes to a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Actions {
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities that are added.
    pub add_communities: BTreeSet<Community>,
    /// Large communities that are added.
    pub add_large_communities: BTreeSet<LargeCommunity>,
    /// How often our own AS is put in front of the AS_PATH, beyond what the protocol does.
    pub prepend: u8,
}

impl Actions {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
