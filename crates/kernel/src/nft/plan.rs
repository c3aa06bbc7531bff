//! From what differs to one transaction.
//!
//! Everything is atomic, but each operation must be possible after those before it, so they are ordered:
//!
//! 1. the table
//! 2. elements go, out of maps above all: an element that jumps holds its chain
//! 3. rules go; then chains and sets that are to be made anew with another kind
//! 4. sets come, and their elements; chains come; rules come; elements of maps come, which may jump to the new chains
//! 5. sets and chains go that nothing uses any more

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diff::{ActualRule, Content, keep};
use super::encode::SetSchema;
use super::family::BaseChain;
use super::quarantine::Quarantine;
use super::tracker::SetTracker;
use super::transport::{ChainBase, CompiledRule, Operation};

pub(crate) type Name = Arc<str>;

/// A chain as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedChain {
    pub(crate) base: Option<BaseChain>,
    pub(crate) rules: Vec<Arc<CompiledRule>>,
}

/// A chain as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActualChain {
    pub(crate) base: ChainBase,
    pub(crate) rules: Vec<ActualRule>,
}

/// What the kernel has, but for the elements of sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Actual {
    /// The table exists and is awake.
    pub(crate) ready: bool,
    pub(crate) chains: BTreeMap<Name, ActualChain>,
    /// None: of a kind that we never make.
    pub(crate) sets: BTreeMap<Name, ActualSet>,
}

/// A set as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActualSet {
    pub(crate) schema: Option<SetSchema>,
    pub(crate) irregular: bool,
}

/// What is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) chains: BTreeMap<Name, WantedChain>,
    pub(crate) sets: BTreeMap<Name, SetTracker>,
}

/// What may differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    pub(crate) chains: BTreeSet<Name>,
    pub(crate) sets: BTreeSet<Name>,
}

impl Dirty {
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.sets.is_empty()
    }
}

/// The rules of a chain after a transaction: the handle of each, none for a new one.
pub(crate) type Slots = Vec<(Option<u64>, Content)>;

/// A transaction, and how the chains will look after it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) operations: Vec<Operation>,
    /// The chains that change; none for one that goes. A rule without a handle is new; they are in the order of the
    /// transaction's new rules.
    pub(crate) chains: Vec<(Name, Option<Slots>)>,
    /// The sets whose elements change.
    pub(crate) sets: BTreeSet<Name>,
}

/// The operations by phase.
#[derive(Default)]
struct Phases {
    elements_go: Vec<Operation>,
    rules_go: Vec<Operation>,
    replaced_go: Vec<Operation>,
    sets_come: Vec<Operation>,
    chains_come: Vec<Operation>,
    rules_come: Vec<Operation>,
    map_elements_come: Vec<Operation>,
    unused_go: Vec<Operation>,
    chains_go: Vec<Operation>,
}

/// Plans the smallest transaction from `actual` to `wanted`, looking only at what may differ. What is in quarantine
/// replaces what is wanted.
pub(crate) fn plan(actual: &Actual, wanted: &Wanted, quarantine: &Quarantine, dirty: &Dirty) -> Plan {
    let (plan, phases) = (Plan::default(), Phases::default());
    let mut planner = Planner { actual, wanted, quarantine, plan, phases };
    let replaced = planner.sets(dirty);
    let mut chains = dirty.chains.clone();
    chains.extend(planner.users_of(&replaced));
    for name in &chains {
        planner.chain(name, &replaced);
    }
    planner.finish()
}

struct Planner<'a> {
    actual: &'a Actual,
    wanted: &'a Wanted,
    quarantine: &'a Quarantine,
    plan: Plan,
    phases: Phases,
}

impl<'a> Planner<'a> {
    fn wanted_chain(&self, name: &str) -> Option<&'a WantedChain> {
        self.quarantine.chain(name).or_else(|| self.wanted.chains.get(name))
    }

    /// Plans the sets; gives those that are made anew, whose rules must be made anew with them.
    fn sets(&mut self, dirty: &Dirty) -> BTreeSet<Name> {
        let mut replaced = BTreeSet::new();
        for name in dirty.sets.iter().filter(|name| !self.quarantine.holds_set(name)) {
            match (self.actual.sets.get(name), self.wanted.sets.get(name)) {
                (None, None) => {}
                (Some(_), None) => {
                    // Before Linux 6.4 a map that was removed held the chains in its elements to the transaction's end.
                    self.phases.elements_go.push(Operation::FlushSet { name: name.clone() });
                    self.phases.unused_go.push(Operation::DeleteSet { name: name.clone() });
                }
                (None, Some(tracker)) => self.new_set(name, tracker),
                (Some(set), Some(tracker)) if set.schema.as_ref() != Some(&tracker.schema) => {
                    self.phases.elements_go.push(Operation::FlushSet { name: name.clone() });
                    self.phases.replaced_go.push(Operation::DeleteSet { name: name.clone() });
                    self.new_set(name, tracker);
                    replaced.insert(name.clone());
                }
                (Some(set), Some(tracker)) => self.members(name, set.irregular, tracker),
            }
        }
        replaced
    }

    fn new_set(&mut self, name: &Name, tracker: &SetTracker) {
        let schema = tracker.schema.clone();
        self.phases.sets_come.push(Operation::AddSet { name: name.clone(), schema });
        self.members(name, false, tracker);
    }

    fn members(&mut self, name: &Name, irregular: bool, tracker: &SetTracker) {
        let schema = &tracker.schema;
        if irregular {
            self.phases.elements_go.push(Operation::FlushSet { name: name.clone() });
        }
        let changes = tracker.changes();
        if !changes.removed.is_empty() {
            let (set, schema, elements) = (name.clone(), schema.clone(), changes.removed);
            self.phases.elements_go.push(Operation::DeleteElements { set, schema, elements });
        }
        if !changes.added.is_empty() {
            let (set, schema, elements) = (name.clone(), schema.clone(), changes.added);
            let phase =
                if schema.map { &mut self.phases.map_elements_come } else { &mut self.phases.sets_come };
            phase.push(Operation::AddElements { set, schema, elements });
        }
        self.plan.sets.insert(name.clone());
    }

    /// The chains that the kernel has with rules that look up one of the sets.
    fn users_of(&self, sets: &BTreeSet<Name>) -> Vec<Name> {
        if sets.is_empty() {
            return Vec::new();
        }
        let uses = |chain: &ActualChain| chain.rules.iter().any(|rule| looks_up(rule, sets));
        self.actual.chains.iter().filter(|(_, chain)| uses(chain)).map(|(name, _)| name.clone()).collect()
    }

    fn chain(&mut self, name: &Name, replaced: &BTreeSet<Name>) {
        match (self.actual.chains.get(name), self.wanted_chain(name)) {
            (None, None) => {}
            (Some(chain), None) => {
                if !chain.rules.is_empty() {
                    self.phases.rules_go.push(Operation::FlushChain { name: name.clone() });
                }
                self.phases.chains_go.push(Operation::DeleteChain { name: name.clone() });
                self.plan.chains.push((name.clone(), None));
            }
            (None, Some(wanted)) => self.new_chain(name, wanted),
            (Some(chain), Some(wanted)) => match (chain.base, wanted.base) {
                (ChainBase::Regular, None) => self.rules(name, chain, wanted, replaced),
                (ChainBase::Base(is), Some(base)) if is == base => self.rules(name, chain, wanted, replaced),
                (ChainBase::Base(is), Some(base)) if (BaseChain { policy: base.policy, ..is }) == base => {
                    let base = Some(base);
                    self.phases.chains_come.push(Operation::AddChain { name: name.clone(), base });
                    self.rules(name, chain, wanted, replaced);
                }
                _ => {
                    if !chain.rules.is_empty() {
                        self.phases.rules_go.push(Operation::FlushChain { name: name.clone() });
                    }
                    self.phases.replaced_go.push(Operation::DeleteChain { name: name.clone() });
                    self.new_chain(name, wanted);
                }
            },
        }
    }

    fn new_chain(&mut self, name: &Name, wanted: &WantedChain) {
        self.phases.chains_come.push(Operation::AddChain { name: name.clone(), base: wanted.base });
        let mut slots = Vec::new();
        for rule in &wanted.rules {
            let (chain, rule) = (name.clone(), rule.clone());
            slots.push((None, Content::Written(rule.clone())));
            self.phases.rules_come.push(Operation::AddRule { chain, before: None, rule });
        }
        self.plan.chains.push((name.clone(), Some(slots)));
    }

    fn rules(&mut self, name: &Name, actual: &ActualChain, wanted: &WantedChain, replaced: &BTreeSet<Name>) {
        let stays = |index: &usize| !looks_up(&actual.rules[*index], replaced);
        let kept: Vec<Option<usize>> = keep(&actual.rules, &wanted.rules)
            .into_iter()
            .map(|index| index.filter(|index| replaced.is_empty() || stays(index)))
            .collect();
        let unchanged = kept.len() == actual.rules.len() && kept.iter().all(Option::is_some);
        if !unchanged {
            self.delete_rules(name, actual, &kept);
            self.add_rules(name, actual, wanted, &kept);
        }
        let slots = kept.iter().zip(&wanted.rules).map(|(index, rule)| {
            (index.map(|index| actual.rules[index].handle), Content::Written(rule.clone()))
        });
        self.plan.chains.push((name.clone(), Some(slots.collect())));
    }

    fn delete_rules(&mut self, name: &Name, actual: &ActualChain, kept: &[Option<usize>]) {
        let kept: BTreeSet<usize> = kept.iter().flatten().copied().collect();
        if kept.is_empty() && actual.rules.len() > 1 {
            self.phases.rules_go.push(Operation::FlushChain { name: name.clone() });
            return;
        }
        let gone = actual.rules.iter().enumerate().filter(|(index, _)| !kept.contains(index));
        self.phases
            .rules_go
            .extend(gone.map(|(_, rule)| Operation::DeleteRule { chain: name.clone(), handle: rule.handle }));
    }

    /// New rules go in front of the next one that stays, or to the end.
    fn add_rules(&mut self, name: &Name, actual: &ActualChain, wanted: &WantedChain, kept: &[Option<usize>]) {
        let mut next = None;
        let mut before: Vec<Option<u64>> = Vec::with_capacity(kept.len());
        for index in kept.iter().rev() {
            next = index.map(|index| actual.rules[index].handle).or(next);
            before.push(next);
        }
        let new = kept.iter().zip(before.into_iter().rev()).zip(&wanted.rules);
        self.phases.rules_come.extend(new.filter(|((index, _), _)| index.is_none()).map(
            |((_, before), rule)| Operation::AddRule { chain: name.clone(), before, rule: rule.clone() },
        ));
    }

    fn finish(self) -> Plan {
        let Planner { actual, wanted, mut plan, phases, .. } = self;
        let empty = wanted.chains.is_empty() && wanted.sets.is_empty();
        let table = (!actual.ready && !empty).then_some(Operation::AddTable);
        plan.operations = [
            phases.elements_go,
            phases.rules_go,
            phases.replaced_go,
            phases.sets_come,
            phases.chains_come,
            phases.rules_come,
            phases.map_elements_come,
            phases.unused_go,
            phases.chains_go,
        ]
        .into_iter()
        .fold(Vec::from_iter(table), |mut all, phase| {
            all.extend(phase);
            all
        });
        plan
    }
}

fn looks_up(rule: &ActualRule, sets: &BTreeSet<Name>) -> bool {
    rule.content.body().sets().any(|set| sets.contains(set))
}
