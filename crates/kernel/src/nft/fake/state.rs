//! Playing a transaction on one table.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::check;
use crate::nft::Count;
use crate::nft::encode::SetSchema;
use crate::nft::family::{BaseChain, Family};
use crate::nft::set::Element;
use crate::nft::statement::Verdict;
use crate::nft::transport::{
    ChainBase, ChainState, CompiledRule, Operation, RuleState, SetState, TableState,
};

/// A table, and the numbers that it gave out.
#[derive(Debug, Clone, Default)]
pub(super) struct FakeTable {
    pub(super) state: TableState,
    pub(super) counts: BTreeMap<u64, Count>,
    next_handle: u64,
}

impl FakeTable {
    fn handle(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }

    /// Puts a state in place of this one; new rules get handles.
    pub(super) fn replace(&mut self, mut state: TableState) {
        for rule in state.chains.values_mut().flat_map(|chain| &mut chain.rules) {
            if rule.handle == 0 {
                rule.handle = self.handle();
            }
        }
        self.state = state;
    }
}

/// Plays all operations; gives the handles of new rules, and what was refused. On a refusal the rest is played as well,
/// as the kernel does, and the result must be thrown away.
pub(super) fn play(
    family: Family,
    table: &mut Option<FakeTable>,
    operations: &[Operation],
) -> (Vec<u64>, Vec<(usize, Errno)>) {
    let (mut handles, mut refused) = (Vec::new(), Vec::new());
    for (index, operation) in operations.iter().enumerate() {
        match play_one(family, table, operation) {
            Ok(handle) => handles.extend(handle),
            Err(errno) => refused.push((index, errno)),
        }
    }
    (handles, refused)
}

fn play_one(
    family: Family,
    table: &mut Option<FakeTable>,
    operation: &Operation,
) -> Result<Option<u64>, Errno> {
    match operation {
        Operation::AddTable => {
            table.get_or_insert_default().state.dormant = false;
            return Ok(None);
        }
        Operation::DeleteTable => return table.take().map(|_| None).ok_or(Errno::NOENT),
        _ => {}
    }
    let table = table.as_mut().ok_or(Errno::NOENT)?;
    match operation {
        Operation::AddTable | Operation::DeleteTable => {}
        Operation::AddChain { name, base } => add_chain(family, table, name, *base)?,
        Operation::DeleteChain { name } => delete_chain(table, name)?,
        Operation::FlushChain { name } => chain(table, name)?.rules.clear(),
        Operation::AddRule { chain, before, rule } => {
            return add_rule(table, chain, *before, rule).map(Some);
        }
        Operation::DeleteRule { chain: name, handle } => {
            let rules = &mut chain(table, name)?.rules;
            let position = rules.iter().position(|rule| rule.handle == *handle).ok_or(Errno::NOENT)?;
            rules.remove(position);
        }
        Operation::AddSet { name, schema } => add_set(table, name, schema)?,
        Operation::DeleteSet { name } => {
            set(table, name)?;
            if check::set_is_used(&table.state, name) {
                return Err(Errno::BUSY);
            }
            table.state.sets.remove(&**name);
        }
        Operation::FlushSet { name } => {
            let set = set(table, name)?;
            set.elements.clear();
            set.irregular = false;
        }
        Operation::AddElements { set, schema, elements } => add_elements(table, set, schema, elements)?,
        Operation::DeleteElements { set, schema, elements } => {
            delete_elements(table, set, schema, elements)?;
        }
    }
    Ok(None)
}

fn chain<'a>(table: &'a mut FakeTable, name: &str) -> Result<&'a mut ChainState, Errno> {
    table.state.chains.get_mut(name).ok_or(Errno::NOENT)
}

fn set<'a>(table: &'a mut FakeTable, name: &str) -> Result<&'a mut SetState, Errno> {
    table.state.sets.get_mut(name).ok_or(Errno::NOENT)
}

fn add_chain(
    family: Family,
    table: &mut FakeTable,
    name: &str,
    base: Option<BaseChain>,
) -> Result<(), Errno> {
    if base.is_some_and(|base| !base.exists_in(family)) {
        return Err(Errno::OPNOTSUPP);
    }
    let wanted = base.map_or(ChainBase::Regular, ChainBase::Base);
    match (table.state.chains.get_mut(name), base) {
        (None, _) => {
            table.handle();
            table.state.chains.insert(name.into(), ChainState { base: wanted, rules: Vec::new() });
            Ok(())
        }
        (Some(ChainState { base: ChainBase::Base(is), .. }), Some(base))
            if *is == (BaseChain { policy: is.policy, ..base }) =>
        {
            is.policy = base.policy;
            Ok(())
        }
        (Some(_), _) => Err(Errno::EXIST),
    }
}

fn delete_chain(table: &mut FakeTable, name: &str) -> Result<(), Errno> {
    chain(table, name)?;
    if check::chain_is_used(&table.state, name) {
        return Err(Errno::BUSY);
    }
    table.state.chains.remove(name);
    Ok(())
}

fn add_rule(
    table: &mut FakeTable,
    chain_name: &str,
    before: Option<u64>,
    rule: &CompiledRule,
) -> Result<u64, Errno> {
    check::rule(&table.state, &rule.body)?;
    for _ in rule.body.anonymous_sets() {
        table.handle();
    }
    let handle = table.handle();
    let rules = &mut chain(table, chain_name)?.rules;
    let position = match before {
        None => rules.len(),
        Some(handle) => rules.iter().position(|rule| rule.handle == handle).ok_or(Errno::NOENT)?,
    };
    rules.insert(position, RuleState { handle, body: rule.body.clone() });
    check::no_loops(&table.state)?;
    Ok(handle)
}

fn add_set(table: &mut FakeTable, name: &str, schema: &SetSchema) -> Result<(), Errno> {
    if table.state.sets.contains_key(name) {
        return Err(Errno::EXIST);
    }
    schema.kind.check().map_err(|_| Errno::INVAL)?;
    table.handle();
    let schema = Some(schema.clone());
    table.state.sets.insert(name.into(), SetState { schema, elements: BTreeMap::new(), irregular: false });
    Ok(())
}

fn add_elements(
    table: &mut FakeTable,
    name: &str,
    schema: &SetSchema,
    elements: &[(Element, Option<Verdict>)],
) -> Result<(), Errno> {
    if set(table, name)?.schema.as_ref() != Some(schema) {
        return Err(Errno::INVAL);
    }
    for (element, verdict) in elements {
        check::element(&table.state, schema, element, verdict.as_ref())?;
        let set = set(table, name)?;
        if check::overlaps(&schema.kind, &set.elements, element) {
            return Err(Errno::EXIST);
        }
        set.elements.insert(element.clone(), verdict.clone());
    }
    check::no_loops(&table.state)
}

fn delete_elements(
    table: &mut FakeTable,
    name: &str,
    schema: &SetSchema,
    elements: &[Element],
) -> Result<(), Errno> {
    let set = set(table, name)?;
    if set.schema.as_ref() != Some(schema) {
        return Err(Errno::INVAL);
    }
    let gone: BTreeSet<&Element> = elements.iter().collect();
    if gone.len() != elements.len() || !gone.iter().all(|element| set.elements.contains_key(*element)) {
        return Err(Errno::NOENT);
    }
    set.elements.retain(|element, _| !gone.contains(element));
    Ok(())
}
