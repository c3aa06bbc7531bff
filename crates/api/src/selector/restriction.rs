//! Necessary conditions on single labels, for indexes.

use std::collections::{BTreeMap, BTreeSet};

use super::expression::Expression;

/// What one label must look like for a selector to match: all parts that are set have to hold. A label without a
/// restriction may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelRestriction {
    /// The label has to be there.
    pub must_be_present: bool,
    /// The label must not be there.
    pub must_be_absent: bool,
    /// The value has to be one of these; none at all means that nothing matches.
    pub one_of: Option<BTreeSet<String>>,
}

impl LabelRestriction {
    fn present() -> Self {
        Self { must_be_present: true, ..Self::default() }
    }

    fn absent() -> Self {
        Self { must_be_absent: true, ..Self::default() }
    }

    fn values(values: BTreeSet<String>) -> Self {
        Self { one_of: Some(values), ..Self::present() }
    }

    /// Whether no value, nor absence, meets it.
    pub fn is_impossible(&self) -> bool {
        self.must_be_present && self.must_be_absent || self.one_of.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// Whether a label with this value (`None`: absent) meets it.
    pub fn allows(&self, value: Option<&str>) -> bool {
        let presence = if value.is_some() { !self.must_be_absent } else { !self.must_be_present };
        let one_of = |values: &BTreeSet<String>| value.is_some_and(|value| values.contains(value));
        presence && self.one_of.as_ref().is_none_or(one_of)
    }

    fn both(self, other: Self) -> Self {
        let one_of = match (self.one_of, other.one_of) {
            (Some(left), Some(right)) => Some(left.intersection(&right).cloned().collect()),
            (left, right) => left.or(right),
        };
        Self {
            must_be_present: self.must_be_present || other.must_be_present,
            must_be_absent: self.must_be_absent || other.must_be_absent,
            one_of,
        }
    }

    /// What holds if either does; `None` if that is nothing.
    fn either(self, other: Self) -> Option<Self> {
        let one_of = match (self.one_of, other.one_of) {
            (Some(left), Some(right)) => Some(left.into_iter().chain(right).collect()),
            _ => None,
        };
        let restriction = Self {
            must_be_present: self.must_be_present && other.must_be_present,
            must_be_absent: self.must_be_absent && other.must_be_absent,
            one_of,
        };
        (restriction != Self::default()).then_some(restriction)
    }
}

type Restrictions = BTreeMap<String, LabelRestriction>;

/// The restrictions that an expression puts on labels.
pub(super) fn of(expression: &Expression) -> Restrictions {
    let one = |label: &String, restriction| BTreeMap::from([(label.clone(), restriction)]);
    match expression {
        Expression::Has(label)
        | Expression::Contains(label, _)
        | Expression::StartsWith(label, _)
        | Expression::EndsWith(label, _) => one(label, LabelRestriction::present()),
        Expression::Equal(label, value) => {
            one(label, LabelRestriction::values(BTreeSet::from([value.clone()])))
        }
        Expression::In(label, values) => one(label, LabelRestriction::values(values.clone())),
        Expression::Not(inner) => match &**inner {
            Expression::Has(label) => one(label, LabelRestriction::absent()),
            _ => Restrictions::new(),
        },
        Expression::And(operands) => operands.iter().map(of).reduce(both).unwrap_or_default(),
        Expression::Or(operands) => operands.iter().map(of).reduce(either).unwrap_or_default(),
        Expression::All | Expression::Global | Expression::NotEqual(..) | Expression::NotIn(..) => {
            Restrictions::new()
        }
    }
}

fn both(mut left: Restrictions, right: Restrictions) -> Restrictions {
    for (label, restriction) in right {
        let known = left.remove(&label).unwrap_or_default();
        left.insert(label, known.both(restriction));
    }
    left
}

fn either(left: Restrictions, mut right: Restrictions) -> Restrictions {
    left.into_iter()
        .filter_map(|(label, restriction)| {
            let restriction = restriction.either(right.remove(&label)?)?;
            Some((label, restriction))
        })
        .collect()
}
