//! Prefixes that a rule is about.

use std::sync::Arc;

use ipnet::IpNet;

/// So few ranges are tried one by one.
const FEW: usize = 6;

/// Prefixes of some lengths that lie in another one.
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
        Self { within: prefix.trunc(), min_len: prefix.prefix_len(), max_len: prefix.prefix_len() }
    }

    /// This prefix and everything in it.
    pub fn within(prefix: IpNet) -> Self {
        Self { within: prefix.trunc(), min_len: prefix.prefix_len(), max_len: prefix.max_prefix_len() }
    }

    /// Whether a prefix matches.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        self.has_length(prefix) && self.within.contains(prefix)
    }

    fn has_length(&self, prefix: &IpNet) -> bool {
        (self.min_len..=self.max_len).contains(&prefix.prefix_len())
    }
}

/// Ranges of prefixes, any of which may match. Looking a prefix up costs no more than a search for each length that the
/// ranges have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixSet {
    /// By `within`, without duplicates.
    ranges: Arc<[PrefixMatch]>,
    /// The lengths of their `within`, ascending.
    lengths: Arc<[u8]>,
}

impl PrefixSet {
    /// The ranges, in order.
    pub fn ranges(&self) -> &[PrefixMatch] {
        &self.ranges
    }

    /// Whether nothing matches.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a prefix lies in one of the ranges.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        if self.ranges.len() <= FEW {
            return self.ranges.iter().any(|range| range.matches(prefix));
        }
        let shorter = self.lengths.iter().take_while(|length| **length <= prefix.prefix_len());
        shorter.into_iter().any(|length| self.has(prefix, *length))
    }

    /// Whether one of the ranges that begin at a length has a prefix.
    fn has(&self, prefix: &IpNet, length: u8) -> bool {
        let Ok(outer) = IpNet::new(prefix.addr(), length).map(|net| net.trunc()) else { return false };
        let first = self.ranges.partition_point(|range| range.within < outer);
        let same = self.ranges[first..].iter().take_while(|range| range.within == outer);
        same.into_iter().any(|range| range.has_length(prefix))
    }
}

impl FromIterator<PrefixMatch> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = PrefixMatch>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup();
        let mut lengths: Vec<_> = ranges.iter().map(|range| range.within.prefix_len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { ranges: ranges.into(), lengths: lengths.into() }
    }
}

impl From<PrefixMatch> for PrefixSet {
    fn from(range: PrefixMatch) -> Self {
        Self::from_iter([range])
    }
}

/// Prefixes in a set, or all but those.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrefixCondition {
    /// The set.
    pub set: PrefixSet,
    /// Only what is not in the set matches.
    pub is_negated: bool,
}

impl PrefixCondition {
    /// Whether a prefix matches.
    pub fn matches(&self, prefix: &IpNet) -> bool {
        self.set.matches(prefix) != self.is_negated
    }
}
