//! What the kernel refused, taken out of the transactions so that it does not hold up everything else.
//!
//! Whatever a refused chain or set was to decide, nobody knows now; so the packets that reach it are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;

use super::error::Refusal;
use super::expression::RuleBody;
use super::family::Family;
use super::plan::{Name, Wanted, WantedChain};
use super::rule::Rule;
use super::statement::Verdict;
use super::transport::{CompiledRule, Operation};

/// A chain whose rules are replaced.
#[derive(Debug)]
struct Closed {
    /// The set that it is closed for; none when its own rules were refused.
    set: Option<Name>,
    chain: WantedChain,
}

#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    chains: BTreeMap<Name, Closed>,
    sets: BTreeSet<Name>,
    refusals: BTreeMap<Name, Refusal>,
}

impl Quarantine {
    /// Takes out what the refusals are about. Gives the chains that change by it; none when nothing can be taken out.
    pub(crate) fn take(
        &mut self,
        operations: &[Operation],
        refusals: &[Refusal],
        wanted: &Wanted,
    ) -> Option<Vec<Name>> {
        // "No such object" mostly follows from another refusal in the same transaction.
        let own = |refusal: &&Refusal| refusal.cause.errno != Errno::NOENT;
        let causes: Vec<&Refusal> = match refusals.iter().any(|refusal| own(&refusal)) {
            true => refusals.iter().filter(own).collect(),
            false => refusals.iter().collect(),
        };
        let mut changed = Vec::new();
        for refusal in causes {
            self.take_one(operations.get(refusal.index)?, refusal, wanted, &mut changed)?;
        }
        Some(changed)
    }

    fn take_one(
        &mut self,
        operation: &Operation,
        refusal: &Refusal,
        wanted: &Wanted,
        changed: &mut Vec<Name>,
    ) -> Option<()> {
        match operation {
            Operation::AddRule { chain, .. } => {
                if self.refusals.contains_key(chain) && changed.contains(chain) {
                    return Some(());
                }
                self.close(chain, None, wanted)?;
                self.refusals.insert(chain.clone(), refusal.clone());
                changed.push(chain.clone());
            }
            Operation::AddSet { name: set, schema }
            | Operation::AddElements { set, schema, .. }
            | Operation::DeleteElements { set, schema, .. } => {
                if schema.map {
                    return None;
                }
                if self.sets.insert(set.clone()) {
                    for chain in users(set, wanted) {
                        self.close(&chain, Some(set.clone()), wanted)?;
                        changed.push(chain);
                    }
                    self.refusals.insert(set.clone(), refusal.clone());
                }
            }
            Operation::AddTable
            | Operation::DeleteTable
            | Operation::AddChain { .. }
            | Operation::DeleteChain { .. }
            | Operation::FlushChain { .. }
            | Operation::DeleteRule { .. }
            | Operation::DeleteSet { .. }
            | Operation::FlushSet { .. } => return None,
        }
        Some(())
    }

    /// Replaces the rules of a chain; none when that is no help, or would cut the host off.
    fn close(&mut self, name: &Name, set: Option<Name>, wanted: &Wanted) -> Option<()> {
        let is_base = wanted.chains.get(name).is_none_or(|chain| chain.base.is_some());
        if is_base {
            return None;
        }
        let closed = self.chains.get(name).is_some_and(|closed| closed.set.is_none());
        if closed && set.is_none() {
            return None;
        }
        if !closed {
            let chain = WantedChain { base: None, rules: vec![drop_everything()] };
            self.chains.insert(name.clone(), Closed { set, chain });
        }
        Some(())
    }

    /// The chain as it is to be, if it is closed.
    pub(crate) fn chain(&self, name: &str) -> Option<&WantedChain> {
        self.chains.get(name).map(|closed| &closed.chain)
    }

    /// Whether the set is left as it is.
    pub(crate) fn holds_set(&self, name: &str) -> bool {
        self.sets.contains(name)
    }

    /// The chain was set anew: its rules get another chance.
    pub(crate) fn release_chain(&mut self, name: &str) {
        if self.chains.get(name).is_some_and(|closed| closed.set.is_none()) {
            self.chains.remove(name);
            self.refusals.remove(name);
        }
    }

    /// The set was changed: it gets another chance. Gives the chains that were closed for it.
    pub(crate) fn release_set(&mut self, name: &str) -> Vec<Name> {
        if !self.sets.remove(name) {
            return Vec::new();
        }
        self.refusals.remove(name);
        let closed_for = |closed: &Closed| closed.set.as_deref() == Some(name);
        self.chains.extract_if(.., |_, closed| closed_for(closed)).map(|(chain, _)| chain).collect()
    }

    /// Everything gets another chance. Gives the chains and sets.
    pub(crate) fn release_all(&mut self) -> (Vec<Name>, BTreeSet<Name>) {
        self.refusals.clear();
        (std::mem::take(&mut self.chains).into_keys().collect(), std::mem::take(&mut self.sets))
    }

    /// What is out, and why.
    pub(crate) fn refusals(&self) -> Vec<Refusal> {
        self.refusals.values().cloned().collect()
    }
}

fn users(set: &Name, wanted: &Wanted) -> Vec<Name> {
    let uses = |chain: &WantedChain| chain.rules.iter().any(|rule| rule.body.sets().any(|name| name == set));
    wanted.chains.iter().filter(|(_, chain)| uses(chain)).map(|(name, _)| name.clone()).collect()
}

fn drop_everything() -> Arc<CompiledRule> {
    let rule = Rule::new()
        .counter()
        .verdict(Verdict::Drop)
        .comment("the kernel refused this chain: everything is dropped");
    let body: RuleBody = rule.compile(Family::Inet).expect("the rule is fixed and of no family");
    Arc::new(CompiledRule { rule, body })
}
