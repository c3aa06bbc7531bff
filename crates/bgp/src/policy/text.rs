//! Policies in words.

use std::fmt;

use super::{
    Actions, AnyCommunity, InterfacePattern, Match, PrefixCondition, PrefixMatch, PriorityMatch, SourceMatch,
    Verdict,
};
use crate::packet::PeerKind;

/// So many ranges of a set are written out.
const SHOWN: usize = 3;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
        })
    }
}

impl fmt::Display for AnyCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(community) => community.fmt(f),
            Self::Large(community) => community.fmt(f),
        }
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PriorityMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(priority) => priority.fmt(f),
            Self::BetterThan(limit) => write!(f, "better than {limit}"),
        }
    }
}

/// `10.0.0.0/8`, `10.0.0.0/8 (24..32)`.
impl fmt::Display for PrefixMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.within.prefix_len();
        match (self.min_len, self.max_len) {
            (min, max) if min == length && max == length => write!(f, "{}", self.within),
            (min, max) => write!(f, "{} ({min}..{max})", self.within),
        }
    }
}

impl fmt::Display for PrefixCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_negated { "not in " } else { "in " })?;
        let ranges = self.set.ranges();
        let shown: Vec<_> = ranges.iter().take(SHOWN).map(ToString::to_string).collect();
        f.write_str(&shown.join(", "))?;
        match ranges.len().saturating_sub(SHOWN) {
            0 if ranges.is_empty() => f.write_str("nothing"),
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// All conditions, `any route` without.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.family.map(|family| family.to_string()));
        parts.extend(self.prefix.as_ref().map(|condition| format!("prefix {condition}")));
        parts.extend(self.peer.map(|kind| match kind {
            PeerKind::External => "external peer".to_owned(),
            PeerKind::Internal => "internal peer".to_owned(),
        }));
        parts.extend(self.source.map(|source| match source {
            SourceMatch::Local => "our own".to_owned(),
            SourceMatch::Learned => "from a peer".to_owned(),
        }));
        if !self.interfaces.is_empty() {
            parts.push(format!("interface {}", joined(&self.interfaces, "|")));
        }
        parts.extend(self.community.map(|community| format!("community {community}")));
        if !self.as_path_prefix.is_empty() {
            parts.push(format!("AS path begins {}", joined(&self.as_path_prefix, " ")));
        }
        parts.extend(self.priority.map(|priority| format!("priority {priority}")));
        parts.extend(self.next_hop.as_ref().map(|condition| format!("next hop {condition}")));
        f.write_str(&if parts.is_empty() { "any route".to_owned() } else { parts.join(", ") })
    }
}

/// All changes, `no change` without.
impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.local_pref.map(|value| format!("local preference {value}")));
        parts.extend(self.med.map(|value| format!("MED {value}")));
        parts.extend(self.preference.map(|value| format!("preference {value}")));
        let (standard, large) = (&self.add_communities, &self.add_large_communities);
        if !standard.is_empty() {
            parts.push(format!("add communities {}", joined(standard, " ")));
        }
        if !large.is_empty() {
            parts.push(format!("add large communities {}", joined(large, " ")));
        }
        if !self.prepend.is_empty() {
            parts.push(format!("prepend {}", joined(&self.prepend, " ")));
        }
        parts.extend(self.tunnel.as_ref().map(|device| format!("through {device}")));
        f.write_str(&if parts.is_empty() { "no change".to_owned() } else { parts.join(", ") })
    }
}

fn joined<T: fmt::Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let texts: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(separator)
}
