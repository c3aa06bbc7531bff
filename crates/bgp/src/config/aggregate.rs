//! Aggregates: one route for many.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::SpeakerConfig;
use crate::packet::PeerKind;
use crate::types::Family;

/// A route of ours that is there as long as a more specific one is selected (RFC 4271, section 9.2.2.2). Its attributes follow
/// from those of the more specific ones: the worst ORIGIN; the ASes that all of their paths begin with, and never an AS_SET
/// (RFC 9774); ATOMIC_AGGREGATE where ASes are left out, all their communities where none are (RFC 1997); AGGREGATOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Aggregate {
    /// Whoever is told of the aggregate is not told of the more specific routes.
    pub summary_only: bool,
    /// It is for internal peers, too. Off: only external ones are told, and internal ones are told all there is.
    pub internal: bool,
    /// LOCAL_PREF towards internal peers; 100 when absent.
    pub local_pref: Option<u32>,
}

/// What aggregates mean for a sort of peers and a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Summaries {
    /// Nothing inside of these is told.
    pub(crate) only: BTreeSet<IpNet>,
    /// Aggregates that are for others.
    pub(crate) others: BTreeSet<IpNet>,
}

impl Summaries {
    /// Whether a prefix lies in an aggregate that is told in its place.
    pub(crate) fn cover(&self, prefix: IpNet) -> bool {
        self.only.iter().any(|outer| outer.prefix_len() < prefix.prefix_len() && outer.contains(&prefix))
    }
}

impl SpeakerConfig {
    /// What its aggregates mean for peers of a sort.
    pub(crate) fn summaries(&self, peers: PeerKind, family: Family) -> Summaries {
        let mut summaries = Summaries::default();
        let of_family = self.aggregates.iter().filter(|(prefix, _)| Family::of(prefix) == family);
        for (prefix, aggregate) in of_family {
            if peers == PeerKind::Internal && !aggregate.internal {
                summaries.others.insert(*prefix);
            } else if aggregate.summary_only {
                summaries.only.insert(*prefix);
            }
        }
        summaries
    }
}
