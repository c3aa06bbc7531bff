//! Import, export and kernel policy: ordered rules, applied one after the other until one decides.
//!
//! A policy is data, not code: it can be compared (peers with equal export policy share their UPDATEs), printed and
//! explained. [`Policy::evaluate`] is what the tables use, [`Policy::trace`] says the same step by step, for people.
//!
//! A rule that matches changes the route, and then accepts it, rejects it, or leaves the decision to the rules after it,
//! which see the changed route. Which changes a route gets is told as the numbers of the rules that made them
//! ([`Applied`]), so that routes with equal attributes and equal changes are worked on once.
//!
//! Priorities are Calico's: the metric of a kernel route, lower is better. On the wire they are LOCAL_PREF, counted down
//! from [`PRIORITY_BASE`].

mod evaluate;
mod prefixes;
mod route;
mod text;
mod trace;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use evaluate::Applied;
pub use prefixes::{PrefixCondition, PrefixMatch, PrefixSet};
pub use route::{Attributes, Route, RouteAttributes};
pub use trace::{Mismatch, Step, StepOutcome, Trace};

use crate::packet::PeerKind;
use crate::packet::attribute::{Community, LargeCommunity};
use crate::types::{Asn, Family};

/// LOCAL_PREF of a route of priority 0.
pub const PRIORITY_BASE: u32 = 2_147_483_647;

/// The LOCAL_PREF that stands for a priority, and the priority that a LOCAL_PREF stands for.
pub const fn mirrored(priority_or_local_pref: u32) -> u32 {
    PRIORITY_BASE.saturating_sub(priority_or_local_pref)
}

/// Rules in order, and what happens to a route that none of them decides about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// Applied from first to last.
    pub rules: Arc<[Rule]>,
    /// For routes that no rule decides about.
    pub otherwise: Verdict,
}

impl Policy {
    /// Rules in order; what they do not decide about is treated as said.
    pub fn new(rules: Vec<Rule>, otherwise: Verdict) -> Self {
        Self { rules: rules.into(), otherwise }
    }

    /// Lets everything through unchanged.
    pub fn accept_all() -> Self {
        Self::new(Vec::new(), Verdict::Accept)
    }

    /// Lets nothing through.
    pub fn reject_all() -> Self {
        Self::new(Vec::new(), Verdict::Reject)
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Where it comes from, for people: `BGPFilter no-bogons importV4[2]`.
    pub name: Arc<str>,
    /// All that is given must hold.
    pub when: Match,
    /// What is changed in a route that matches, unless it is rejected.
    pub set: Actions,
    /// What becomes of a route that matches; `None`: the rules after this one decide.
    pub verdict: Option<Verdict>,
}

impl Rule {
    /// A rule that decides and changes nothing.
    pub fn deciding(name: impl Into<Arc<str>>, when: Match, verdict: Verdict) -> Self {
        Self { name: name.into(), when, set: Actions::default(), verdict: Some(verdict) }
    }
}

/// Conditions; what is absent (or an empty list) always holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Match {
    /// The family of the prefix.
    pub family: Option<Family>,
    /// The prefix.
    pub prefix: Option<PrefixCondition>,
    /// What the peer is to us that the route goes to or comes from.
    pub peer: Option<PeerKind>,
    /// Where the route comes from.
    pub source: Option<SourceMatch>,
    /// The interface through which the route's packets leave: one of these. Matches nothing but `*` when it is not known.
    pub interfaces: Vec<InterfacePattern>,
    /// A community that the route carries.
    pub community: Option<AnyCommunity>,
    /// How the AS_PATH begins, the peer's AS first.
    pub as_path_prefix: Vec<Asn>,
    /// The route's priority.
    pub priority: Option<PriorityMatch>,
    /// The next hop, as a prefix of one address. A route of our own has none, and does not match.
    pub next_hop: Option<PrefixCondition>,
}

impl Match {
    /// Everything.
    pub fn any() -> Self {
        Self::default()
    }

    /// Prefixes in a set.
    pub fn prefix(set: impl Into<PrefixSet>) -> Self {
        Self { prefix: Some(PrefixCondition { set: set.into(), is_negated: false }), ..Self::default() }
    }
}

/// A community of either sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnyCommunity {
    /// RFC 1997.
    Standard(Community),
    /// RFC 8092.
    Large(LargeCommunity),
}

/// Which priorities match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PriorityMatch {
    /// This one.
    Exactly(u32),
    /// Those that are better (lower).
    BetterThan(u32),
}

/// The name of an interface; `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfacePattern(pub Arc<str>);

/// Where a route comes from.
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
    /// AS numbers that are put in front of the AS_PATH, the first leftmost. Towards external peers our own AS still comes
    /// before them.
    pub prepend: Vec<Asn>,
    /// How the route ranks beside routes of our own: the highest preference is selected before anything else counts. Learned
    /// routes have 100, ours what [`Origination`](crate::config::Origination) says. Import only.
    pub preference: Option<u32>,
    /// The tunnel device that the route leads through. Kernel only.
    pub tunnel: Option<InterfacePattern>,
}

impl Actions {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Does another's changes after these.
    pub fn extend(&mut self, later: &Self) {
        self.local_pref = later.local_pref.or(self.local_pref);
        self.med = later.med.or(self.med);
        self.add_communities.extend(&later.add_communities);
        self.add_large_communities.extend(&later.add_large_communities);
        self.prepend.splice(0..0, later.prepend.iter().copied());
        self.preference = later.preference.or(self.preference);
        self.tunnel = later.tunnel.clone().or_else(|| self.tunnel.clone());
    }
}

#[cfg(test)]
mod tests;
