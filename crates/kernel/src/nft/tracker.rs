//! The members of one set: what is wanted, what the kernel has, and the difference, kept up to date so that a change
//! of one member costs the same in a set of ten and of a hundred thousand.

use std::collections::{BTreeMap, BTreeSet};

use super::encode::SetSchema;
use super::set::{Delta, Element, Intervals};
use super::statement::Verdict;

/// One set or map.
#[derive(Debug, Clone)]
pub(crate) struct SetTracker {
    pub(crate) schema: SetSchema,
    members: Members,
}

#[derive(Debug, Clone)]
enum Members {
    /// A set of single keys, or of intervals in more than one dimension.
    Plain(DeltaTracker<()>),
    /// A set of intervals in one dimension.
    Intervals(Intervals, DeltaTracker<()>),
    /// A map.
    Map(DeltaTracker<Verdict>),
}

/// The elements to remove and to add, with their verdicts in a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    pub(crate) removed: Vec<Element>,
    pub(crate) added: Vec<(Element, Option<Verdict>)>,
}

impl SetTracker {
    pub(crate) fn new(schema: SetSchema) -> Self {
        let joins = schema.kind.intervals && !schema.kind.is_concatenation();
        let members = match (schema.map, joins) {
            (true, _) => Members::Map(DeltaTracker::default()),
            (false, true) => Members::Intervals(Intervals::default(), DeltaTracker::default()),
            (false, false) => Members::Plain(DeltaTracker::default()),
        };
        Self { schema, members }
    }

    /// Adds a member, with its verdict in a map; replaces the verdict of one that is there.
    pub(crate) fn add(&mut self, element: Element, verdict: Option<Verdict>) {
        match (&mut self.members, verdict) {
            (Members::Plain(tracker), _) => tracker.want(element, Some(())),
            (Members::Intervals(intervals, tracker), _) => follow(tracker, intervals.add(&element)),
            (Members::Map(tracker), Some(verdict)) => tracker.want(element, Some(verdict)),
            (Members::Map(_), None) => {}
        }
    }

    /// Removes a member.
    pub(crate) fn remove(&mut self, element: &Element) {
        match &mut self.members {
            Members::Plain(tracker) => tracker.want(element.clone(), None),
            Members::Intervals(intervals, tracker) => follow(tracker, intervals.remove(element)),
            Members::Map(tracker) => tracker.want(element.clone(), None),
        }
    }

    /// The wanted members, as they were given (before intervals are joined).
    pub(crate) fn wanted(&self) -> BTreeSet<Element> {
        match &self.members {
            Members::Plain(tracker) => tracker.wanted().map(|(element, _)| element.clone()).collect(),
            Members::Intervals(intervals, _) => intervals.members().collect(),
            Members::Map(tracker) => tracker.wanted().map(|(element, _)| element.clone()).collect(),
        }
    }

    /// The elements that the kernel is to have, with their verdicts in a map.
    pub(crate) fn effective(&self) -> Box<dyn Iterator<Item = (&Element, Option<&Verdict>)> + '_> {
        match &self.members {
            Members::Plain(tracker) | Members::Intervals(_, tracker) => {
                Box::new(tracker.wanted().map(|(element, ())| (element, None)))
            }
            Members::Map(tracker) => {
                Box::new(tracker.wanted().map(|(element, verdict)| (element, Some(verdict))))
            }
        }
    }

    /// Tells what the kernel has.
    pub(crate) fn set_actual(&mut self, actual: &BTreeMap<Element, Option<Verdict>>) {
        match &mut self.members {
            Members::Plain(tracker) | Members::Intervals(_, tracker) => {
                tracker.set_actual(actual.keys().map(|element| (element.clone(), ())));
            }
            Members::Map(tracker) => tracker.set_actual(actual.iter().filter_map(|(element, verdict)| {
                verdict.as_ref().map(|verdict| (element.clone(), verdict.clone()))
            })),
        }
    }

    /// What has to change.
    pub(crate) fn changes(&self) -> Changes {
        match &self.members {
            Members::Plain(tracker) | Members::Intervals(_, tracker) => tracker.changes(|()| None),
            Members::Map(tracker) => tracker.changes(|verdict| Some(verdict.clone())),
        }
    }

    /// Tells that the kernel now has what is wanted.
    pub(crate) fn done(&mut self) {
        match &mut self.members {
            Members::Plain(tracker) | Members::Intervals(_, tracker) => tracker.done(),
            Members::Map(tracker) => tracker.done(),
        }
    }
}

fn follow(tracker: &mut DeltaTracker<()>, delta: Delta) {
    delta.removed.into_iter().for_each(|element| tracker.want(element, None));
    delta.added.into_iter().for_each(|element| tracker.want(element, Some(())));
}

#[derive(Debug, Clone)]
struct Entry<V> {
    wanted: Option<V>,
    actual: Option<V>,
}

#[derive(Debug, Clone)]
struct DeltaTracker<V> {
    entries: BTreeMap<Element, Entry<V>>,
    pending: BTreeSet<Element>,
}

impl<V> Default for DeltaTracker<V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), pending: BTreeSet::new() }
    }
}

impl<V: Clone + PartialEq> DeltaTracker<V> {
    fn want(&mut self, element: Element, value: Option<V>) {
        let entry = self.entries.entry(element.clone()).or_insert(Entry { wanted: None, actual: None });
        entry.wanted = value;
        self.settle(element);
    }

    /// Files the element under what its entry says.
    fn settle(&mut self, element: Element) {
        let Some(entry) = self.entries.get(&element) else { return };
        if entry.wanted == entry.actual {
            if entry.wanted.is_none() {
                self.entries.remove(&element);
            }
            self.pending.remove(&element);
        } else {
            self.pending.insert(element);
        }
    }

    fn wanted(&self) -> impl Iterator<Item = (&Element, &V)> {
        self.entries.iter().filter_map(|(element, entry)| Some((element, entry.wanted.as_ref()?)))
    }

    fn set_actual(&mut self, actual: impl Iterator<Item = (Element, V)>) {
        self.entries.values_mut().for_each(|entry| entry.actual = None);
        for (element, value) in actual {
            self.entries.entry(element).or_insert(Entry { wanted: None, actual: None }).actual = Some(value);
        }
        self.entries.retain(|_, entry| entry.wanted.is_some() || entry.actual.is_some());
        let differ = self.entries.iter().filter(|(_, entry)| entry.wanted != entry.actual);
        self.pending = differ.map(|(element, _)| element.clone()).collect();
    }

    fn changes(&self, verdict: impl Fn(&V) -> Option<Verdict>) -> Changes {
        let mut changes = Changes::default();
        for element in &self.pending {
            let Some(entry) = self.entries.get(element) else { continue };
            if entry.actual.is_some() {
                changes.removed.push(element.clone());
            }
            if let Some(value) = &entry.wanted {
                changes.added.push((element.clone(), verdict(value)));
            }
        }
        changes
    }

    fn done(&mut self) {
        for element in std::mem::take(&mut self.pending) {
            if let Some(entry) = self.entries.get_mut(&element) {
                entry.actual = entry.wanted.clone();
                self.settle(element);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Bytes, DataType, SetKind};

    fn range(low: u8, high: u8) -> Element {
        Element { low: Bytes::from([low]), high: Some(Bytes::from([high])) }
    }

    fn protocols() -> SetTracker {
        SetTracker::new(SetSchema { kind: SetKind::intervals([DataType::InetProto]), map: false })
    }

    #[test]
    fn a_member_inside_another_changes_nothing_until_the_other_goes() {
        let mut set = protocols();
        set.add(range(10, 20), None);
        set.done();
        set.add(range(12, 13), None);
        assert_eq!(set.changes(), Changes::default());
        set.remove(&range(10, 20));
        let changes = set.changes();
        assert_eq!(changes.removed, [range(10, 20)]);
        assert_eq!(changes.added, [(range(12, 13), None)]);
    }

    #[test]
    fn overlapping_members_are_joined_and_touching_ones_are_not() {
        let mut set = protocols();
        for member in [range(1, 5), range(4, 8), range(9, 9)] {
            set.add(member, None);
        }
        let added: Vec<Element> = set.changes().added.into_iter().map(|(element, _)| element).collect();
        assert_eq!(added, [range(1, 8), range(9, 9)]);
    }

    #[test]
    fn taking_back_an_unapplied_change_leaves_nothing_to_do() {
        let mut set = protocols();
        set.add(range(1, 5), None);
        set.remove(&range(1, 5));
        assert_eq!(set.changes(), Changes::default());
    }

    #[test]
    fn any_order_of_changes_gives_the_union_and_no_overlaps() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..300 {
            let mut set = protocols();
            let mut wanted: BTreeSet<Element> = BTreeSet::new();
            let mut kernel: BTreeSet<Element> = BTreeSet::new();
            for _ in 0..30 {
                let low = random.u8(0..60);
                let member = range(low, low + random.u8(0..8));
                if random.bool() {
                    wanted.insert(member.clone());
                    set.add(member, None);
                } else if let Some(member) = random.choice(&wanted).cloned() {
                    wanted.remove(&member);
                    set.remove(&member);
                }
                if random.u8(0..3) == 0 {
                    play(&mut kernel, &set.changes());
                    set.done();
                }
            }
            play(&mut kernel, &set.changes());
            set.done();
            let covered = |sets: &BTreeSet<Element>| -> Vec<u8> {
                let inside =
                    |at: u8| sets.iter().any(|e| e.low <= [at].into() && Bytes::from([at]) <= *e.high());
                (0..=255).filter(|at| inside(*at)).collect()
            };
            assert_eq!(covered(&kernel), covered(&wanted), "round {round}");
            assert_eq!(set.wanted(), wanted);
        }
    }

    /// Plays changes as the kernel would: what is removed must be there, what is added must not overlap.
    fn play(kernel: &mut BTreeSet<Element>, changes: &Changes) {
        for element in &changes.removed {
            assert!(kernel.remove(element), "{element:?} is not there");
        }
        for (element, _) in &changes.added {
            let overlaps =
                kernel.iter().any(|other| other.low <= *element.high() && element.low <= *other.high());
            assert!(!overlaps, "{element:?} overlaps");
            kernel.insert(element.clone());
        }
    }
}
