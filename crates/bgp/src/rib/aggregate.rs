//! Aggregates and what they are made of (RFC 4271, section 9.2.2.2).
//!
//! An aggregate is a route of ours, beside one that is configured for the same prefix. It is made of the selected routes that
//! lie in it, but for other aggregates (which are made of the same ones) and for those that nobody is to be told of. They are
//! kept by their prefixes, and counted by their attributes, since many have the same: what comes in costs a look-up for each
//! length that aggregates have, and only what takes the last of a set of attributes away costs a look at all sets.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::attributes::AttributeSet;
use super::interner::{AttributeId, Interner};
use super::net::Net;
use super::selected::Best;
use super::table::{Path, PeerNumber, Rib, Slot, Sources, key};
use crate::config::Aggregate;
use crate::packet::attribute::{
    Aggregator, AsPath, Attribute, AttributeValue, Community, LargeCommunity, Origin, SegmentKind,
};
use crate::types::Asn;

/// What tells an aggregate from a route of ours for the same prefix.
pub(crate) const PATH_ID: u32 = 1;
/// How it ranks beside others for the same prefix: a route that is learned leads somewhere, and is taken in its place.
const PREFERENCE: u32 = 50;

/// The aggregates of a family.
#[derive(Debug)]
pub(crate) struct Aggregates<N> {
    entries: BTreeMap<N, Entry<N>>,
    /// The lengths of their prefixes.
    lengths: BTreeSet<u8>,
    /// We, as AGGREGATOR.
    ourselves: Aggregator,
}

#[derive(Debug)]
struct Entry<N> {
    config: Aggregate,
    /// The routes that it is made of. Each owns a use of its attributes.
    parts: BTreeMap<N, AttributeId>,
    /// How many have the same attributes.
    uses: BTreeMap<AttributeId, usize>,
    /// What they have in common; `None` without any, or when it has to be worked out anew.
    common: Option<Common>,
    /// Its route, as it is in the table.
    route: Option<AttributeId>,
    /// Something has changed since.
    is_due: bool,
}

/// What an aggregate is made of, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) config: Aggregate,
    pub(crate) count: usize,
    pub(crate) first: Vec<IpNet>,
}

impl<N: Net> Aggregates<N> {
    pub(crate) fn new(ourselves: Aggregator) -> Self {
        Self { entries: BTreeMap::new(), lengths: BTreeSet::new(), ourselves }
    }

    /// Whether there is none, so that nothing has to be noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The best route for a prefix is another one, or there is none any more.
    pub(crate) fn note(&mut self, prefix: N, best: Option<&Best>, interner: &mut Interner) {
        let part = best.filter(|best| self.contributes(prefix, best, interner)).map(|best| best.attributes);
        let net: IpNet = prefix.into();
        for length in self.lengths.range(..net.prefix_len()) {
            let outer = IpNet::new(net.addr(), *length).expect("shorter than one of its family").trunc();
            if let Some(entry) = key::<N>(outer).and_then(|outer| self.entries.get_mut(&outer)) {
                entry.set(prefix, part, interner);
            }
        }
    }

    fn contributes(&self, prefix: N, best: &Best, interner: &Interner) -> bool {
        let own = self.entries.get(&prefix).and_then(|entry| entry.route);
        let is_aggregate = best.peer == PeerNumber::LOCAL && own == Some(best.attributes);
        !is_aggregate && !interner.get(best.attributes).no_advertise
    }

    /// Goes over to other aggregates of this family. What is in the table already counts at once.
    pub(crate) fn configure(
        &mut self,
        wanted: &BTreeMap<IpNet, Aggregate>,
        ourselves: Aggregator,
        rib: &mut Rib<N>,
        sources: &Sources,
        interner: &mut Interner,
    ) {
        let wanted: BTreeMap<N, Aggregate> =
            wanted.iter().filter_map(|(prefix, config)| Some((key(prefix.trunc())?, *config))).collect();
        let gone: Vec<N> =
            self.entries.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        for prefix in gone {
            let entry = self.entries.remove(&prefix).expect("just listed");
            entry.end(prefix, rib, sources, interner);
        }
        let is_other = std::mem::replace(&mut self.ourselves, ourselves) != ourselves;
        let mut is_more = false;
        for (prefix, config) in wanted {
            let entry = self.entries.entry(prefix).or_insert_with(|| {
                is_more = true;
                Entry::new(config)
            });
            entry.is_due |= is_other || entry.config != config;
            entry.config = config;
        }
        self.lengths = self.entries.keys().map(|prefix| Into::<IpNet>::into(*prefix).prefix_len()).collect();
        if is_more {
            self.look_through(rib, sources, interner);
        }
        self.settle(rib, sources, interner);
    }

    /// Notes everything that is in the table.
    fn look_through(&mut self, rib: &Rib<N>, sources: &Sources, interner: &mut Interner) {
        for (slot, prefix) in rib.prefixes_from(Slot::FIRST) {
            let selected = rib.selected_at(slot, sources);
            self.note(prefix, selected.best(), interner);
        }
    }

    /// Aggregates come, change and go as what they are made of does.
    pub(crate) fn settle(&mut self, rib: &mut Rib<N>, sources: &Sources, interner: &mut Interner) {
        for (prefix, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.is_due) {
            entry.is_due = false;
            match entry.attributes(self.ourselves, interner) {
                Some(set) => {
                    let attributes = interner.intern(set);
                    if entry.route.replace(attributes) == Some(attributes) {
                        interner.release(attributes);
                        continue;
                    }
                    let peer = PeerNumber::LOCAL;
                    let path = Path { peer, path_id: PATH_ID, attributes, ineligible: false, stale: false };
                    rib.insert(*prefix, path, sources, interner);
                }
                None => entry.withdraw(*prefix, rib, sources, interner),
            }
        }
    }

    /// What the aggregate with a prefix is made of: the first so many of its routes.
    pub(crate) fn parts(&self, prefix: N, limit: usize) -> Option<Parts> {
        let entry = self.entries.get(&prefix)?;
        let first = entry.parts.keys().take(limit).map(|prefix| (*prefix).into()).collect();
        Some(Parts { config: entry.config, count: entry.parts.len(), first })
    }
}

impl<N: Net> Entry<N> {
    fn new(config: Aggregate) -> Self {
        let (parts, uses) = (BTreeMap::new(), BTreeMap::new());
        Self { config, parts, uses, common: None, route: None, is_due: false }
    }

    /// One of its routes has these attributes now, or is no more.
    fn set(&mut self, prefix: N, new: Option<AttributeId>, interner: &mut Interner) {
        if self.parts.get(&prefix).copied() == new {
            return;
        }
        let old = match new {
            Some(id) => self.parts.insert(prefix, id),
            None => self.parts.remove(&prefix),
        };
        if let Some(id) = new {
            interner.retain(id);
            self.count(id, interner);
        }
        if let Some(id) = old {
            self.discount(id);
            interner.release(id);
        }
        self.is_due = true;
    }

    fn count(&mut self, id: AttributeId, interner: &Interner) {
        let uses = self.uses.entry(id).or_insert(0);
        *uses += 1;
        let is_first = *uses == 1;
        if is_first && (self.common.is_some() || self.uses.len() == 1) {
            let more = Common::of(interner.get(id));
            self.common = Some(self.common.take().map_or(more.clone(), |common| common.with(more)));
        }
    }

    fn discount(&mut self, id: AttributeId) {
        let uses = self.uses.get_mut(&id).expect("it is counted");
        *uses -= 1;
        if *uses == 0 {
            self.uses.remove(&id);
            self.common = None;
        }
    }

    fn attributes(&mut self, ourselves: Aggregator, interner: &Interner) -> Option<AttributeSet> {
        if self.common.is_none() {
            let all = self.uses.keys().map(|id| Common::of(interner.get(*id)));
            self.common = all.reduce(Common::with);
        }
        self.common.as_ref().map(|common| common.attributes(self.config, ourselves))
    }

    fn withdraw(&mut self, prefix: N, rib: &mut Rib<N>, sources: &Sources, interner: &mut Interner) {
        if self.route.take().is_some() {
            rib.remove(prefix, (PeerNumber::LOCAL, PATH_ID), sources, interner);
        }
    }

    fn end(mut self, prefix: N, rib: &mut Rib<N>, sources: &Sources, interner: &mut Interner) {
        self.withdraw(prefix, rib, sources, interner);
        self.parts.into_values().for_each(|id| interner.release(id));
    }
}

/// What follows from the attributes of several routes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Common {
    origin: Origin,
    /// The ASes that all paths begin with.
    path: Vec<Asn>,
    /// Some paths have others behind them.
    is_atomic: bool,
    communities: BTreeSet<Community>,
    large_communities: BTreeSet<LargeCommunity>,
    /// All are for our AS only.
    is_internal: bool,
    /// Of some that are for customers only: the least of those who say so (RFC 9234).
    otc: Option<Asn>,
}

impl Common {
    fn of(set: &AttributeSet) -> Self {
        let mut common = Self {
            origin: set.origin,
            path: Vec::new(),
            is_atomic: false,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
            is_internal: set.no_export,
            otc: set.otc,
        };
        for attribute in set.decode() {
            match attribute.value {
                AttributeValue::AsPath(path) => {
                    let ordered = |kind| kind == SegmentKind::Sequence;
                    let leading = path.segments.iter().take_while(|segment| ordered(segment.kind));
                    common.path = leading.flat_map(|segment| segment.asns.iter().copied()).collect();
                    common.is_atomic |= !path.segments.iter().all(|segment| ordered(segment.kind));
                }
                AttributeValue::AtomicAggregate => common.is_atomic = true,
                AttributeValue::Communities(list) => common.communities.extend(list),
                AttributeValue::LargeCommunities(list) => common.large_communities.extend(list),
                _ => {}
            }
        }
        // These say how a route is kept while its peer is away (RFC 9494).
        common.communities.remove(&Community::LLGR_STALE);
        common.communities.remove(&Community::NO_LLGR);
        common
    }

    fn with(mut self, other: Self) -> Self {
        let length = self.path.iter().zip(&other.path).take_while(|(a, b)| a == b).count();
        self.is_atomic |= other.is_atomic || length < self.path.len().max(other.path.len());
        self.path.truncate(length);
        self.origin = self.origin.max(other.origin);
        self.communities.extend(other.communities);
        self.large_communities.extend(other.large_communities);
        self.is_internal &= other.is_internal;
        self.otc = [self.otc, other.otc].into_iter().flatten().min();
        self
    }

    fn attributes(&self, config: Aggregate, ourselves: Aggregator) -> AttributeSet {
        let mut values = vec![
            AttributeValue::Origin(self.origin),
            AttributeValue::AsPath(AsPath::sequence(self.path.iter().map(|asn| asn.0))),
            AttributeValue::LocalPref(config.local_pref.unwrap_or(super::DEFAULT_LOCAL_PREF)),
            AttributeValue::Aggregator(ourselves),
        ];
        if self.is_atomic {
            values.push(AttributeValue::AtomicAggregate);
            // What was not to leave our AS does not do so in a summary of nothing else.
            values.extend(self.is_internal.then(|| AttributeValue::Communities(vec![Community::NO_EXPORT])));
        } else {
            let (standard, large) = (&self.communities, &self.large_communities);
            values.extend(
                (!standard.is_empty())
                    .then(|| AttributeValue::Communities(standard.iter().copied().collect())),
            );
            values.extend(
                (!large.is_empty())
                    .then(|| AttributeValue::LargeCommunities(large.iter().copied().collect())),
            );
        }
        values.extend(self.otc.map(AttributeValue::Otc));
        AttributeSet::of_ours(values.into_iter().map(Attribute::new).collect(), PREFERENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str, more: &[AttributeValue]) -> Common {
        let asns = path.split_whitespace().map(|asn| asn.parse().expect("a number"));
        let mut values =
            vec![AttributeValue::Origin(Origin::Igp), AttributeValue::AsPath(AsPath::sequence(asns))];
        values.extend_from_slice(more);
        Common::of(&AttributeSet::of_ours(values.into_iter().map(Attribute::new).collect(), 100))
    }

    fn path_of(parts: &[&str]) -> (Vec<u32>, bool) {
        let common = parts.iter().map(|path| with(path, &[])).reduce(Common::with).expect("some parts");
        (common.path.iter().map(|asn| asn.0).collect(), common.is_atomic)
    }

    #[test]
    fn a_path_is_what_all_begin_with_and_says_when_something_is_left_out() {
        assert_eq!(path_of(&["1 2 3"]), (vec![1, 2, 3], false));
        assert_eq!(path_of(&["1 2", "1 2"]), (vec![1, 2], false));
        assert_eq!(path_of(&["1 2", "1 3"]), (vec![1], true));
        assert_eq!(path_of(&["1 2", "1"]), (vec![1], true));
        assert_eq!(path_of(&["1", "2"]), (vec![], true));
        assert_eq!(path_of(&["", ""]), (vec![], false));
    }

    #[test]
    fn communities_are_those_of_all_unless_something_is_left_out() {
        let communities = |list: &[u32]| {
            AttributeValue::Communities(list.iter().map(|community| Community(*community)).collect())
        };
        let of = |common: Common| {
            let set = common
                .attributes(Aggregate::default(), Aggregator { asn: Asn(1), address: [1, 1, 1, 1].into() });
            crate::policy::Attributes::communities(&set)
                .iter()
                .map(|community| community.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(with("1", &[communities(&[7])]).with(with("1", &[communities(&[8])]))), [7, 8]);
        assert_eq!(of(with("1", &[communities(&[7])]).with(with("2", &[communities(&[7])]))), [0_u32; 0]);
        let no_export = [communities(&[Community::NO_EXPORT.0])];
        assert_eq!(of(with("1", &no_export).with(with("2", &no_export))), [Community::NO_EXPORT.0]);
        assert_eq!(of(with("1", &no_export).with(with("2", &[]))), [0_u32; 0]);
    }
}
