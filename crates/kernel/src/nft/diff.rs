//! Which rules of a chain can stay.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::expression::RuleBody;
use super::transport::CompiledRule;

/// A rule that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActualRule {
    pub(crate) handle: u64,
    pub(crate) content: Content,
}

/// What a rule of the kernel does: as we wrote it, or as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Written(Arc<CompiledRule>),
    Read(Box<RuleBody>),
}

impl Content {
    pub(crate) fn body(&self) -> &RuleBody {
        match self {
            Content::Written(rule) => &rule.body,
            Content::Read(body) => body,
        }
    }

    fn is(&self, wanted: &Arc<CompiledRule>) -> bool {
        match self {
            Content::Written(rule) if Arc::ptr_eq(rule, wanted) => true,
            other => *other.body() == wanted.body,
        }
    }
}

/// For each wanted rule the index of the actual rule that already is it and can stay in place; the indices ascend.
///
/// What is equal at both ends stays; between, a longest ascending run of equal rules does. So a rule that was inserted,
/// removed or changed costs one operation each, and every other rule keeps its counter.
pub(crate) fn keep(actual: &[ActualRule], wanted: &[Arc<CompiledRule>]) -> Vec<Option<usize>> {
    let equal = |(rule, wanted): &(&ActualRule, &Arc<CompiledRule>)| rule.content.is(wanted);
    let head = actual.iter().zip(wanted).take_while(equal).count();
    let (rest_actual, rest_wanted) = (&actual[head..], &wanted[head..]);
    let tail = rest_actual.iter().rev().zip(rest_wanted.iter().rev()).take_while(equal).count();
    let middle_actual = &rest_actual[..rest_actual.len() - tail];
    let middle_wanted = &rest_wanted[..rest_wanted.len() - tail];

    let mut kept: Vec<Option<usize>> = (0..head).map(Some).collect();
    let middle = keep_some(middle_actual, middle_wanted);
    kept.extend(middle.into_iter().map(|index| index.map(|index| index + head)));
    kept.extend((actual.len() - tail..actual.len()).map(Some));
    kept
}

fn keep_some(actual: &[ActualRule], wanted: &[Arc<CompiledRule>]) -> Vec<Option<usize>> {
    if actual.is_empty() || wanted.is_empty() {
        return vec![None; wanted.len()];
    }
    let mut by_content: HashMap<u64, Vec<usize>> = HashMap::new();
    for (index, rule) in actual.iter().enumerate().rev() {
        by_content.entry(hash(rule.content.body())).or_default().push(index);
    }
    // Equal rules are paired in order; a hash that lies only costs a rule its counter.
    let pairs: Vec<Option<usize>> = wanted
        .iter()
        .map(|rule| {
            let candidates = by_content.get_mut(&hash(&rule.body))?;
            let index = candidates.pop()?;
            actual[index].content.is(rule).then_some(index)
        })
        .collect();
    longest_ascending(pairs)
}

fn hash(body: &RuleBody) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// Keeps a longest ascending subsequence of the numbers and drops the others.
fn longest_ascending(mut numbers: Vec<Option<usize>>) -> Vec<Option<usize>> {
    // ends[n]: the position of the smallest number that ends an ascending run of n + 1 numbers.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; numbers.len()];
    for position in 0..numbers.len() {
        if numbers[position].is_none() {
            continue;
        }
        let length = ends.partition_point(|end| numbers[*end] < numbers[position]);
        before[position] = length.checked_sub(1).map(|shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = position,
            None => ends.push(position),
        }
    }
    let mut stays = vec![false; numbers.len()];
    let mut next = ends.last().copied();
    while let Some(position) = next {
        stays[position] = true;
        next = before[position];
    }
    numbers.iter_mut().zip(stays).filter(|(_, stays)| !stays).for_each(|(number, _)| *number = None);
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Family, Rule, Verdict};

    fn rule(number: u32) -> Arc<CompiledRule> {
        let rule = Rule::always(Verdict::Accept).comment(number.to_string());
        let body = rule.compile(Family::Ip).unwrap();
        Arc::new(CompiledRule { rule, body })
    }

    fn kept(actual: &[u32], wanted: &[u32]) -> Vec<Option<usize>> {
        let actual: Vec<ActualRule> = actual
            .iter()
            .map(|number| ActualRule { handle: 1, content: Content::Read(rule(*number).body.clone().into()) })
            .collect();
        let wanted: Vec<_> = wanted.iter().map(|number| rule(*number)).collect();
        keep(&actual, &wanted)
    }

    #[test]
    fn an_inserted_rule_leaves_all_others_in_place() {
        assert_eq!(kept(&[1, 2, 3], &[1, 9, 2, 3]), [Some(0), None, Some(1), Some(2)]);
    }

    #[test]
    fn a_removed_rule_leaves_all_others_in_place() {
        assert_eq!(kept(&[1, 2, 3], &[1, 3]), [Some(0), Some(2)]);
    }

    #[test]
    fn a_rule_that_moved_is_the_only_one_written_anew() {
        assert_eq!(kept(&[1, 2, 3, 4, 5], &[5, 1, 2, 3, 4]), [None, Some(0), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn equal_rules_are_paired_in_order() {
        assert_eq!(kept(&[7, 7, 8], &[7, 8, 7]), [Some(0), None, Some(1)]);
        assert_eq!(kept(&[7], &[7, 7]), [Some(0), None]);
    }

    #[test]
    fn what_is_kept_always_ascends_and_is_equal() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let actual: Vec<u32> = (0..random.usize(0..12)).map(|_| random.u32(0..6)).collect();
            let wanted: Vec<u32> = (0..random.usize(0..12)).map(|_| random.u32(0..6)).collect();
            let kept = kept(&actual, &wanted);
            assert_eq!(kept.len(), wanted.len());
            let indices: Vec<usize> = kept.iter().flatten().copied().collect();
            assert!(indices.windows(2).all(|pair| pair[0] < pair[1]), "{actual:?} {wanted:?} {kept:?}");
            for (index, wanted) in kept.iter().zip(&wanted) {
                assert!(index.is_none_or(|index| actual[index] == *wanted));
            }
        }
    }
}
