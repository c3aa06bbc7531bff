//! What the kernel would refuse.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use crate::nft::bytes::Bytes;
use crate::nft::encode::SetSchema;
use crate::nft::expression::{Expression, RuleBody, SetRef};
use crate::nft::set::{Element, SetKind};
use crate::nft::statement::Verdict;
use crate::nft::transport::{ChainBase, TableState};

/// `NFT_JUMP_STACK_SIZE`.
const MAX_DEPTH: usize = 16;

/// Whether a rule looks up the set.
pub(super) fn set_is_used(state: &TableState, set: &str) -> bool {
    let mut rules = state.chains.values().flat_map(|chain| &chain.rules);
    rules.any(|rule| rule.body.sets().any(|name| **name == *set))
}

/// Whether a rule of another chain, or an element of a map, leads to the chain.
pub(super) fn chain_is_used(state: &TableState, name: &str) -> bool {
    let by_rule =
        state.chains.iter().filter(|(other, _)| *other != name).any(|(_, chain)| {
            chain.rules.iter().any(|rule| rule.body.targets().any(|target| **target == *name))
        });
    let mut verdicts = state.sets.values().flat_map(|set| set.elements.values().flatten());
    by_rule || verdicts.any(|verdict| verdict.target().is_some_and(|target| **target == *name))
}

/// Everything that a rule refers to exists and is of the right kind.
pub(super) fn rule(state: &TableState, body: &RuleBody) -> Result<(), Errno> {
    for expression in &body.expressions {
        match expression {
            Expression::Unknown { .. } => return Err(Errno::OPNOTSUPP),
            Expression::Lookup { set: SetRef::Named(name), verdict, .. } => {
                let set = state.sets.get(&**name).ok_or(Errno::NOENT)?;
                if set.schema.as_ref().is_some_and(|schema| schema.map != *verdict) {
                    return Err(Errno::INVAL);
                }
            }
            Expression::Lookup { set: SetRef::Anonymous(set), .. } => {
                let schema = SetSchema { kind: set.kind.clone(), map: false };
                for (index, entry) in set.elements.iter().enumerate() {
                    element(state, &schema, entry, None)?;
                    let before = set.elements[..index].iter().map(|entry| (entry.clone(), None)).collect();
                    if overlaps(&set.kind, &before, entry) {
                        return Err(Errno::EXIST);
                    }
                }
            }
            Expression::Verdict(verdict) => target(state, verdict)?,
            _ => {}
        }
    }
    Ok(())
}

fn target(state: &TableState, verdict: &Verdict) -> Result<(), Errno> {
    let Some(target) = verdict.target() else { return Ok(()) };
    match state.chains.get(&**target).ok_or(Errno::NOENT)?.base {
        ChainBase::Regular => Ok(()),
        ChainBase::Base(_) | ChainBase::Other => Err(Errno::OPNOTSUPP),
    }
}

/// The element is of the set's kind.
pub(super) fn element(
    state: &TableState,
    schema: &SetSchema,
    element: &Element,
    verdict: Option<&Verdict>,
) -> Result<(), Errno> {
    let len = schema.kind.key_len();
    let fits = element.low.len() == len && element.high().len() == len && element.low <= *element.high();
    if !fits || schema.map != verdict.is_some() || schema.kind.intervals != element.high.is_some() {
        return Err(Errno::INVAL);
    }
    verdict.map_or(Ok(()), |verdict| target(state, verdict))
}

/// Whether the element covers a key of one that is there.
pub(super) fn overlaps(
    kind: &SetKind,
    elements: &BTreeMap<Element, Option<Verdict>>,
    element: &Element,
) -> bool {
    match element.high {
        None => elements.contains_key(element),
        Some(_) => elements.keys().any(|other| overlap(kind, other, element)),
    }
}

/// Intervals in several dimensions overlap when they do in each.
fn overlap(kind: &SetKind, one: &Element, other: &Element) -> bool {
    let mut from = 0;
    kind.key.iter().all(|part| {
        let to = from + if kind.is_concatenation() { part.padded_width() } else { part.width() };
        let part = |bytes: &Bytes| bytes.as_slice()[from..to].to_vec();
        let touch = part(&one.low) <= part(other.high()) && part(&other.low) <= part(one.high());
        from = to;
        touch
    })
}

/// No chain leads back to itself, nor deeper than the kernel's stack.
pub(super) fn no_loops(state: &TableState) -> Result<(), Errno> {
    let edges = edges(state);
    let mut done = BTreeMap::new();
    for chain in state.chains.keys() {
        let depth = depth(chain, &edges, &mut BTreeSet::new(), &mut done)?;
        if depth > MAX_DEPTH {
            return Err(Errno::MLINK);
        }
    }
    Ok(())
}

type Edges<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn edges(state: &TableState) -> Edges<'_> {
    let mut edges = Edges::new();
    for (name, chain) in &state.chains {
        let to = edges.entry(name).or_default();
        for rule in &chain.rules {
            to.extend(rule.body.targets().map(|target| &**target));
            for set in rule.body.sets().filter_map(|set| state.sets.get(&**set)) {
                to.extend(
                    set.elements.values().flatten().filter_map(Verdict::target).map(|target| &**target),
                );
            }
        }
    }
    edges
}

/// How many jumps deep it goes from `chain`.
fn depth<'a>(
    chain: &'a str,
    edges: &Edges<'a>,
    path: &mut BTreeSet<&'a str>,
    done: &mut BTreeMap<&'a str, usize>,
) -> Result<usize, Errno> {
    if let Some(depth) = done.get(chain) {
        return Ok(*depth);
    }
    if !path.insert(chain) {
        return Err(Errno::LOOP);
    }
    let mut deepest = 0;
    for next in edges.get(chain).into_iter().flatten() {
        deepest = deepest.max(1 + depth(next, edges, path, done)?);
    }
    path.remove(chain);
    done.insert(chain, deepest);
    Ok(deepest)
}
