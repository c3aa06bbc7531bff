//! The reconciler of one table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::diff::{ActualRule, Content};
use super::encode::SetSchema;
use super::error::{InvalidRule, NftError, Refusal};
use super::family::{BaseChain, Family, TableId};
use super::listing::Listing;
use super::plan::{Actual, ActualChain, ActualSet, Dirty, Name, Plan, Wanted, WantedChain, plan};
use super::quarantine::Quarantine;
use super::rule::Rule;
use super::set::{Element, SetKind};
use super::statement::Verdict;
use super::tracker::SetTracker;
use super::transport::{
    ChainBase, ChainState, Committed, CompiledRule, Operation, RuleCount, TableState, Transport,
};
use super::value::Member;

/// How often a transaction is planned anew because others changed the ruleset meanwhile.
const ATTEMPTS: usize = 50;

/// How often objects that the kernel refuses are taken out before apply gives up.
const ROUNDS: usize = 16;

/// What an [`apply`](NftTable::apply) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Operations in the transaction; 0 when there was nothing to do.
    pub operations: usize,
    /// The table was read back first: at the start, after a failure, or because someone else changed it.
    pub resynced: bool,
    /// What the kernel refuses; each stays as [`NftTable`] describes until it is set anew or
    /// [`retry_refused`](NftTable::retry_refused) is called.
    pub refused: Vec<Refusal>,
}

/// One table of the kernel, kept as it is wanted.
///
/// Everything in the table is ours, because the name says so: chains, rules, sets and elements that were put there by
/// hand go away again. Other tables are never written, and not even decoded. (Objects of kinds that this module does
/// not know, such as flowtables and named counters, are left alone.)
///
/// Setting what is wanted costs memory only. [`apply`](Self::apply) asks the kernel for the generation of its ruleset,
/// and then:
/// - nobody else committed since: the difference is known without reading; with none, nothing more is done;
/// - somebody committed, but not to this table: the same;
/// - the table was changed, or is not known: it is read back and compared, and only what differs is written.
///
/// One transaction does it, all or nothing. Rules that stay keep their counters.
///
/// # Refusals fail closed
/// When the kernel refuses part of a transaction, nothing of it is done. By default ([`isolate`](Self::isolate)) the
/// refused objects are then taken out, so that they do not hold up all others:
/// - a chain (other than a base chain) gets one rule that drops everything, in place of its rules;
/// - a set stays as it is, and the chains that look it up drop everything.
///
/// A refused base chain or map cannot be taken out; then, and without isolation, the table stays as it was, and apply
/// gives [`NftError::Refused`].
#[derive(Debug)]
pub struct NftTable<T> {
    transport: T,
    id: TableId,
    wanted: Wanted,
    dirty: Dirty,
    /// None: has to be read.
    actual: Option<Actual>,
    generation: u32,
    isolate: bool,
    quarantine: Quarantine,
}

impl<T: Transport> NftTable<T> {
    /// The reconciler of the table `name`; nothing is asked of the kernel yet.
    pub fn new(transport: T, family: Family, name: impl Into<String>) -> Self {
        Self {
            transport,
            id: TableId::new(family, name),
            wanted: Wanted::default(),
            dirty: Dirty::default(),
            actual: None,
            generation: 0,
            isolate: true,
            quarantine: Quarantine::default(),
        }
    }

    /// The table's family and name.
    pub fn id(&self) -> &TableId {
        &self.id
    }

    /// The way to the kernel.
    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Whether a refused object may be taken out of a transaction (the default), or the whole is given up.
    pub fn isolate(&mut self, isolate: bool) {
        self.isolate = isolate;
    }

    /// Sets the rules of a chain that other chains lead to.
    ///
    /// # Errors
    /// When a rule cannot be expressed; the chain stays as it was.
    pub fn set_chain(&mut self, name: impl Into<Arc<str>>, rules: Vec<Rule>) -> Result<(), InvalidRule> {
        self.put_chain(name.into(), None, rules)
    }

    /// Sets a base chain and its rules.
    ///
    /// # Errors
    /// When a rule cannot be expressed; the chain stays as it was.
    pub fn set_base_chain(
        &mut self,
        name: impl Into<Arc<str>>,
        base: BaseChain,
        rules: Vec<Rule>,
    ) -> Result<(), InvalidRule> {
        self.put_chain(name.into(), Some(base), rules)
    }

    fn put_chain(
        &mut self,
        name: Name,
        base: Option<BaseChain>,
        rules: Vec<Rule>,
    ) -> Result<(), InvalidRule> {
        check_name("chain name", &name)?;
        let old = self.wanted.chains.get(&name);
        let family = self.id.family;
        if let Some(base) = base.filter(|base| !base.exists_in(family)) {
            return Err(InvalidRule::BaseChain { base: base.to_string(), family: family.name() });
        }
        let rules = compile(family, old.map_or(&[], |chain| &chain.rules), rules)?;
        let chain = WantedChain { base, rules };
        if old != Some(&chain) {
            self.wanted.chains.insert(name.clone(), chain);
            self.quarantine.release_chain(&name);
            self.dirty.chains.insert(name);
        }
        Ok(())
    }

    /// Removes a chain; nothing may lead to it when this is applied.
    pub fn remove_chain(&mut self, name: &str) {
        if let Some((name, _)) = self.wanted.chains.remove_entry(name) {
            self.quarantine.release_chain(&name);
            self.dirty.chains.insert(name);
        }
    }

    /// The names of the wanted chains, in order.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.wanted.chains.keys().map(|name| &**name)
    }

    /// The wanted rules of a chain.
    pub fn rules(&self, chain: &str) -> Option<impl Iterator<Item = &Rule>> {
        Some(self.wanted.chains.get(chain)?.rules.iter().map(|rule| &rule.rule))
    }

    /// Sets a set to exactly these members. Of a set that is there already, only what differs is written.
    ///
    /// In a set of intervals members may overlap; the kernel is given their union.
    ///
    /// # Errors
    /// When a member does not fit the kind; the set stays as it was.
    pub fn set_set(
        &mut self,
        name: impl Into<Arc<str>>,
        kind: SetKind,
        members: impl IntoIterator<Item = impl Into<Member>>,
    ) -> Result<(), InvalidRule> {
        let elements = elements(&kind, members)?;
        let wanted = elements.into_iter().map(|element| (element, None)).collect();
        self.put_set(name.into(), SetSchema { kind, map: false }, wanted)
    }

    /// Sets a verdict map to exactly these entries.
    ///
    /// # Errors
    /// When a key does not fit the kind; the map stays as it was.
    pub fn set_map(
        &mut self,
        name: impl Into<Arc<str>>,
        kind: SetKind,
        entries: impl IntoIterator<Item = (impl Into<Member>, Verdict)>,
    ) -> Result<(), InvalidRule> {
        let wanted = entries
            .into_iter()
            .map(|(member, verdict)| Ok((kind.element(&member.into())?, Some(verdict))))
            .collect::<Result<_, InvalidRule>>()?;
        self.put_set(name.into(), SetSchema { kind, map: true }, wanted)
    }

    fn put_set(
        &mut self,
        name: Name,
        schema: SetSchema,
        wanted: BTreeMap<Element, Option<Verdict>>,
    ) -> Result<(), InvalidRule> {
        check_name("set name", &name)?;
        schema.kind.check()?;
        let same = self.wanted.sets.get(&name).is_some_and(|tracker| tracker.schema == schema);
        if !same {
            self.wanted.sets.insert(name.clone(), SetTracker::new(schema));
        }
        let tracker = self.wanted.sets.get_mut(&name).expect("it was there or was just put there");
        for element in tracker.wanted().iter().filter(|element| !wanted.contains_key(element)) {
            tracker.remove(element);
        }
        wanted.into_iter().for_each(|(element, verdict)| tracker.add(element, verdict));
        self.touch_set(name);
        Ok(())
    }

    fn touch_set(&mut self, name: Name) {
        self.dirty.chains.extend(self.quarantine.release_set(&name));
        self.dirty.sets.insert(name);
    }

    /// Removes a set or map; no rule may use it when this is applied.
    pub fn remove_set(&mut self, name: &str) {
        if let Some((name, _)) = self.wanted.sets.remove_entry(name) {
            self.touch_set(name);
        }
    }

    /// The names of the wanted sets and maps, in order.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.wanted.sets.keys().map(|name| &**name)
    }

    /// Adds members to a set.
    ///
    /// # Errors
    /// When there is no such set, or a member does not fit its kind; the set stays as it was.
    pub fn add_members(
        &mut self,
        set: &str,
        members: impl IntoIterator<Item = impl Into<Member>>,
    ) -> Result<(), InvalidRule> {
        self.change_members(set, members, |tracker, element| tracker.add(element, None))
    }

    /// Removes members from a set; those that are not in it do not matter.
    ///
    /// # Errors
    /// When there is no such set, or a member does not fit its kind; the set stays as it was.
    pub fn remove_members(
        &mut self,
        set: &str,
        members: impl IntoIterator<Item = impl Into<Member>>,
    ) -> Result<(), InvalidRule> {
        self.change_members(set, members, |tracker, element| tracker.remove(&element))
    }

    fn change_members(
        &mut self,
        set: &str,
        members: impl IntoIterator<Item = impl Into<Member>>,
        change: impl Fn(&mut SetTracker, Element),
    ) -> Result<(), InvalidRule> {
        let (name, tracker) = self.tracker(set, false)?;
        let elements = elements(&tracker.schema.kind, members)?;
        elements.into_iter().for_each(|element| change(tracker, element));
        self.touch_set(name);
        Ok(())
    }

    /// Sets the verdict of one key of a map.
    ///
    /// # Errors
    /// When there is no such map, or the key does not fit its kind.
    pub fn set_entry(
        &mut self,
        map: &str,
        key: impl Into<Member>,
        verdict: Verdict,
    ) -> Result<(), InvalidRule> {
        let (name, tracker) = self.tracker(map, true)?;
        let element = tracker.schema.kind.element(&key.into())?;
        tracker.add(element, Some(verdict));
        self.touch_set(name);
        Ok(())
    }

    /// Removes one key of a map; one that is not in it does not matter.
    ///
    /// # Errors
    /// When there is no such map, or the key does not fit its kind.
    pub fn remove_entry(&mut self, map: &str, key: impl Into<Member>) -> Result<(), InvalidRule> {
        let (name, tracker) = self.tracker(map, true)?;
        let element = tracker.schema.kind.element(&key.into())?;
        tracker.remove(&element);
        self.touch_set(name);
        Ok(())
    }

    fn tracker(&mut self, set: &str, map: bool) -> Result<(Name, &mut SetTracker), InvalidRule> {
        let name = self.wanted.sets.get_key_value(set).map(|(name, _)| name.clone());
        let tracker = self.wanted.sets.get_mut(set).filter(|tracker| tracker.schema.map == map);
        name.zip(tracker)
            .ok_or_else(|| InvalidRule::NoSuchSet { kind: if map { "map" } else { "set" }, name: set.into() })
    }

    /// The table that is wanted, as nft lists it, but for the order (by name) and the breaking of lines.
    pub fn listing(&self) -> String {
        Listing { id: &self.id, wanted: &self.wanted }.to_string()
    }

    /// Makes the kernel's table what is wanted; see [`NftTable`].
    ///
    /// # Errors
    /// The table is as it was, or ([`NftError::Io`]) is read back by the next apply. All are worth a retry.
    pub fn apply(&mut self) -> Result<Applied, NftError> {
        let mut applied = Applied::default();
        for _ in 0..ATTEMPTS {
            applied.resynced |= self.refresh()?;
            match self.attempt() {
                Err(NftError::Raced) => {}
                Ok(operations) => {
                    applied.operations = operations;
                    applied.refused = self.quarantine.refusals();
                    return Ok(applied);
                }
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Raced)
    }

    /// Whether the kernel had all that is wanted when it was last looked at: [`apply`](Self::apply) would only ask whether
    /// someone else has changed the table since.
    pub fn is_settled(&self) -> bool {
        self.actual.is_some() && self.dirty.is_empty()
    }

    /// Reads the table back, whatever the generation says.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn resync(&mut self) -> Result<(), NftError> {
        self.actual = None;
        self.retry_refused();
        self.refresh().map(drop)
    }

    /// Tries what the kernel refused again at the next apply.
    pub fn retry_refused(&mut self) {
        let (chains, sets) = self.quarantine.release_all();
        self.dirty.chains.extend(chains);
        self.dirty.sets.extend(sets);
    }

    /// Whether someone else changed the table since the last apply, so that another one is due.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn changed(&mut self) -> Result<bool, NftError> {
        let now = self.transport.generation()?;
        if self.actual.is_none() {
            return Ok(true);
        }
        Ok(now != self.generation && self.transport.touched(&self.id, self.generation, now)?)
    }

    /// The counters of the rules that are in the kernel, each with its rule's comment.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self) -> Result<Vec<RuleCount>, NftError> {
        self.transport.counters(&self.id)
    }

    /// Removes the table from the kernel, and all that was wanted in it: first what packets come by, then the rest.
    ///
    /// # Errors
    /// The table is as it was, or no packet comes by it any more.
    pub fn remove(&mut self) -> Result<(), NftError> {
        for _ in 0..ATTEMPTS {
            let (generation, state) = self.transport.read(&self.id)?;
            if let Some(state) = state {
                // A packet that is being judged while all goes at once would not find the elements of sets and maps any more, but
                // still the rules behind them. So first no further packet comes.
                let base = state
                    .chains
                    .iter()
                    .filter(|(_, chain)| chain.base != ChainBase::Regular)
                    .map(|(name, _)| name);
                let base: Vec<Operation> = base
                    .flat_map(|name| {
                        let (flush, delete): (Arc<str>, Arc<str>) =
                            (name.as_str().into(), name.as_str().into());
                        [Operation::FlushChain { name: flush }, Operation::DeleteChain { name: delete }]
                    })
                    .collect();
                let first = if base.is_empty() { vec![Operation::DeleteTable] } else { base };
                let is_last = first == [Operation::DeleteTable];
                match self.transport.commit(&self.id, generation, &first) {
                    Err(NftError::Raced) => continue,
                    other => other.map(drop)?,
                }
                if !is_last {
                    continue;
                }
            }
            (self.wanted, self.dirty, self.actual) = (Wanted::default(), Dirty::default(), None);
            self.quarantine = Quarantine::default();
            return Ok(());
        }
        Err(NftError::Raced)
    }

    /// Makes sure that `actual` is of the current generation; whether it had to be read.
    fn refresh(&mut self) -> Result<bool, NftError> {
        if self.actual.is_some() {
            let now = self.transport.generation()?;
            if now == self.generation {
                return Ok(false);
            }
            if !self.transport.touched(&self.id, self.generation, now)? {
                self.generation = now;
                return Ok(false);
            }
        }
        self.actual = None;
        let (generation, state) = self.transport.read(&self.id)?;
        self.generation = generation;
        self.take_over(state);
        Ok(true)
    }

    /// Takes what was read for what is; everything may differ from it.
    fn take_over(&mut self, state: Option<TableState>) {
        let ready = state.as_ref().is_some_and(|state| !state.dormant);
        let state = state.unwrap_or_default();
        let mut actual = Actual { ready, ..Actual::default() };
        for (name, set) in state.sets {
            if let Some(tracker) = self.wanted.sets.get_mut(&*name) {
                let usable = set.schema.as_ref() == Some(&tracker.schema) && !set.irregular;
                tracker.set_actual(if usable { &set.elements } else { &EMPTY });
            }
            actual.sets.insert(name.into(), ActualSet { schema: set.schema, irregular: set.irregular });
        }
        for (name, tracker) in &mut self.wanted.sets {
            if !actual.sets.contains_key(name) {
                tracker.set_actual(&EMPTY);
            }
        }
        actual.chains = state.chains.into_iter().map(|(name, chain)| (name.into(), adopt(chain))).collect();
        self.dirty.chains = actual.chains.keys().chain(self.wanted.chains.keys()).cloned().collect();
        self.dirty.sets = actual.sets.keys().chain(self.wanted.sets.keys()).cloned().collect();
        self.actual = Some(actual);
    }

    /// Plans and commits; takes out what is refused. Gives the number of operations.
    fn attempt(&mut self) -> Result<usize, NftError> {
        for _ in 0..ROUNDS {
            let Some(actual) = &self.actual else { return Err(NftError::Raced) };
            let plan = plan(actual, &self.wanted, &self.quarantine, &self.dirty);
            if plan.operations.is_empty() {
                self.settle(plan, None);
                return Ok(0);
            }
            match self.transport.commit(&self.id, self.generation, &plan.operations) {
                Ok(committed) => {
                    let operations = plan.operations.len();
                    self.settle(plan, Some(committed));
                    return Ok(operations);
                }
                Err(NftError::Refused(refusals)) if self.isolate => {
                    let taken = self.quarantine.take(&plan.operations, &refusals, &self.wanted);
                    let Some(chains) = taken else { return Err(NftError::Refused(refusals)) };
                    self.dirty.chains.extend(chains);
                }
                Err(NftError::Io { what, source }) => {
                    // It may have been done, so what the kernel has is not known any more.
                    self.actual = None;
                    return Err(NftError::Io { what, source });
                }
                Err(error) => return Err(error),
            }
        }
        Err(NftError::Refused(self.quarantine.refusals()))
    }

    /// The kernel now has what was planned.
    fn settle(&mut self, plan: Plan, committed: Option<Committed>) {
        let Some(actual) = &mut self.actual else { return };
        let handles = match committed {
            None => Some(Vec::new()),
            Some(Committed { generation, handles }) => {
                self.generation = generation;
                actual.ready = true;
                handles
            }
        };
        for name in &plan.sets {
            if let Some(tracker) = self.wanted.sets.get_mut(name) {
                tracker.done();
            }
        }
        for name in std::mem::take(&mut self.dirty.sets) {
            if self.quarantine.holds_set(&name) {
                continue;
            }
            match self.wanted.sets.get(&name) {
                Some(tracker) => {
                    let schema = Some(tracker.schema.clone());
                    actual.sets.insert(name, ActualSet { schema, irregular: false });
                }
                None => drop(actual.sets.remove(&name)),
            }
        }
        self.dirty.chains.clear();
        let known = handles.is_some();
        let mut handles = handles.unwrap_or_default().into_iter();
        for (name, slots) in plan.chains {
            let Some(slots) = slots else {
                actual.chains.remove(&name);
                continue;
            };
            let base = self.wanted.chains.get(&name).and_then(|chain| chain.base);
            let base = base.map_or(ChainBase::Regular, ChainBase::Base);
            let rules = slots.into_iter().map(|(handle, content)| {
                let handle = handle.or_else(|| handles.next()).unwrap_or(0);
                ActualRule { handle, content }
            });
            actual.chains.insert(name, ActualChain { base, rules: rules.collect() });
        }
        if !known {
            self.actual = None;
        }
    }
}

static EMPTY: BTreeMap<Element, Option<Verdict>> = BTreeMap::new();

fn adopt(chain: ChainState) -> ActualChain {
    let rules = chain
        .rules
        .into_iter()
        .map(|rule| ActualRule { handle: rule.handle, content: Content::Read(rule.body.into()) });
    ActualChain { base: chain.base, rules: rules.collect() }
}

fn elements(
    kind: &SetKind,
    members: impl IntoIterator<Item = impl Into<Member>>,
) -> Result<BTreeSet<Element>, InvalidRule> {
    members.into_iter().map(|member| kind.element(&member.into())).collect()
}

/// Compiles the rules that `old` does not have already.
fn compile(
    family: Family,
    old: &[Arc<CompiledRule>],
    rules: Vec<Rule>,
) -> Result<Vec<Arc<CompiledRule>>, InvalidRule> {
    let mut by_rule: Option<HashMap<&Rule, &Arc<CompiledRule>>> = None;
    let mut compiled = Vec::with_capacity(rules.len());
    for (index, mut rule) in rules.into_iter().enumerate() {
        if let Some(same) = old.get(index).filter(|old| old.rule == rule) {
            compiled.push(same.clone());
            continue;
        }
        let known = by_rule.get_or_insert_with(|| old.iter().map(|rule| (&rule.rule, rule)).collect());
        match known.get(&rule) {
            Some(same) => compiled.push((*same).clone()),
            None => {
                rule.statements.shrink_to_fit();
                let body = rule.compile(family)?;
                compiled.push(Arc::new(CompiledRule { rule, body }));
            }
        }
    }
    Ok(compiled)
}

/// `NFT_NAME_MAXLEN` without the NUL.
fn check_name(what: &'static str, name: &str) -> Result<(), InvalidRule> {
    const LIMIT: usize = 255;
    if name.is_empty() || name.len() > LIMIT || name.contains('\0') {
        return Err(InvalidRule::Text { what, text: name.into(), limit: LIMIT });
    }
    Ok(())
}
