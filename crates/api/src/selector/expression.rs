//! The parsed form of a selector, its meaning and its canonical text.

use std::collections::BTreeSet;
use std::fmt;

use super::Labels;

/// A selector's tree. Invariants: a `Not` never holds a `Not`; `And` and `Or` have two operands or more; no string
/// holds both kinds of quote. They make the canonical text parse to the same tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    All,
    Global,
    Has(String),
    Equal(String, String),
    NotEqual(String, String),
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Contains(String, String),
    StartsWith(String, String),
    EndsWith(String, String),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

impl Expression {
    /// The opposite.
    pub(super) fn negated(self) -> Self {
        match self {
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// How deep brackets are nested in the canonical text.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Not(inner) => inner.depth(),
            Self::And(operands) | Self::Or(operands) => {
                1 + operands.iter().map(Self::depth).max().unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// Whether labels satisfy it.
    pub(super) fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::All | Self::Global => true,
            Self::Has(label) => labels.get(label).is_some(),
            Self::Equal(label, value) => labels.get(label) == Some(value),
            Self::NotEqual(label, value) => labels.get(label) != Some(value),
            Self::In(label, values) => labels.get(label).is_some_and(|actual| values.contains(actual)),
            Self::NotIn(label, values) => labels.get(label).is_none_or(|actual| !values.contains(actual)),
            Self::Contains(label, part) => {
                labels.get(label).is_some_and(|actual| actual.contains(part.as_str()))
            }
            Self::StartsWith(label, part) => {
                labels.get(label).is_some_and(|actual| actual.starts_with(part.as_str()))
            }
            Self::EndsWith(label, part) => {
                labels.get(label).is_some_and(|actual| actual.ends_with(part.as_str()))
            }
            Self::Not(inner) => !inner.matches(labels),
            Self::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Self::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
        }
    }

    /// The same tree with other label names.
    pub(super) fn map_labels(&self, rename: &impl Fn(&str) -> String) -> Self {
        match self {
            Self::All => Self::All,
            Self::Global => Self::Global,
            Self::Has(label) => Self::Has(rename(label)),
            Self::Equal(label, value) => Self::Equal(rename(label), value.clone()),
            Self::NotEqual(label, value) => Self::NotEqual(rename(label), value.clone()),
            Self::In(label, values) => Self::In(rename(label), values.clone()),
            Self::NotIn(label, values) => Self::NotIn(rename(label), values.clone()),
            Self::Contains(label, part) => Self::Contains(rename(label), part.clone()),
            Self::StartsWith(label, part) => Self::StartsWith(rename(label), part.clone()),
            Self::EndsWith(label, part) => Self::EndsWith(rename(label), part.clone()),
            Self::Not(inner) => Self::Not(Box::new(inner.map_labels(rename))),
            Self::And(operands) => Self::And(operands.iter().map(|part| part.map_labels(rename)).collect()),
            Self::Or(operands) => Self::Or(operands.iter().map(|part| part.map_labels(rename)).collect()),
        }
    }

    /// The same tree with its leaves replaced where `replace` says so.
    pub(super) fn replace_leaves(&self, replace: &impl Fn(&Self) -> Option<Self>) -> Self {
        match self {
            Self::Not(inner) => inner.replace_leaves(replace).negated(),
            Self::And(operands) => {
                Self::And(operands.iter().map(|part| part.replace_leaves(replace)).collect())
            }
            Self::Or(operands) => {
                Self::Or(operands.iter().map(|part| part.replace_leaves(replace)).collect())
            }
            leaf => replace(leaf).unwrap_or_else(|| leaf.clone()),
        }
    }

    /// Whether a condition holds for any part of it.
    pub(super) fn any(&self, condition: &impl Fn(&Self) -> bool) -> bool {
        condition(self)
            || match self {
                Self::Not(inner) => inner.any(condition),
                Self::And(operands) | Self::Or(operands) => operands.iter().any(|part| part.any(condition)),
                _ => false,
            }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(label) => write!(f, "has({label})"),
            Self::Equal(label, value) => write!(f, "{label} == {}", Quoted(value)),
            Self::NotEqual(label, value) => write!(f, "{label} != {}", Quoted(value)),
            Self::In(label, values) => write!(f, "{label} in {}", Set(values)),
            Self::NotIn(label, values) => write!(f, "{label} not in {}", Set(values)),
            Self::Contains(label, part) => write!(f, "{label} contains {}", Quoted(part)),
            Self::StartsWith(label, part) => write!(f, "{label} starts with {}", Quoted(part)),
            Self::EndsWith(label, part) => write!(f, "{label} ends with {}", Quoted(part)),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::And(operands) => write_joined(f, operands, " && "),
            Self::Or(operands) => write_joined(f, operands, " || "),
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, operands: &[Expression], operator: &str) -> fmt::Result {
    for (index, operand) in operands.iter().enumerate() {
        f.write_str(if index == 0 { "(" } else { operator })?;
        write!(f, "{operand}")?;
    }
    f.write_str(")")
}

/// A string in the quotes that it does not hold, double ones if it can be.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

/// A set in braces, in order.
struct Set<'a>(&'a BTreeSet<String>);

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, value) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            write!(f, "{}", Quoted(value))?;
        }
        f.write_str("}")
    }
}
