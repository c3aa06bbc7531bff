//! A policy's decision, step by step.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::evaluate::Applied;
use super::{Actions, Policy, Route, Verdict};
use crate::packet::PeerKind;

/// How a policy came to its decision about a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The rules that were looked at, in order; those after the decision were not.
    pub steps: Vec<Step>,
    /// The decision.
    pub verdict: Verdict,
    /// The rule that took it; `None`: no rule did, the policy's default holds.
    pub decided_by: Option<usize>,
    /// All that is changed in a route that is accepted.
    pub changes: Actions,
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its index in the policy.
    pub rule: usize,
    /// Its name.
    pub name: Arc<str>,
    /// What it asks for, in words.
    pub condition: String,
    /// What came of it.
    pub outcome: StepOutcome,
}

/// What came of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It does not match: the first condition that does not hold.
    NotMatched(Mismatch),
    /// It matches, changes the route, and leaves the decision to others.
    Continued(Actions),
    /// It accepts the route, with changes.
    Accepted(Actions),
    /// It rejects the route.
    Rejected,
}

/// A condition that does not hold, with what the route has instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The family of the prefix.
    Family,
    /// The prefix.
    Prefix,
    /// The peer's type.
    PeerType(Option<PeerKind>),
    /// Where it comes from.
    Source,
    /// The interface.
    Interface,
    /// The next hop.
    NextHop(Option<IpAddr>),
    /// The priority.
    Priority(Option<u32>),
    /// The community.
    Community,
    /// The AS_PATH.
    AsPath,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family => f.write_str("another address family"),
            Self::Prefix => f.write_str("another prefix"),
            Self::PeerType(Some(PeerKind::External)) => f.write_str("the peer is external"),
            Self::PeerType(Some(PeerKind::Internal)) => f.write_str("the peer is internal"),
            Self::PeerType(None) => f.write_str("there is no peer"),
            Self::Source => f.write_str("it comes from elsewhere"),
            Self::Interface => f.write_str("another interface, or none that is known"),
            Self::NextHop(Some(address)) => write!(f, "the next hop is {address}"),
            Self::NextHop(None) => f.write_str("it has no next hop"),
            Self::Priority(Some(priority)) => write!(f, "the priority is {priority}"),
            Self::Priority(None) => f.write_str("it has no priority"),
            Self::Community => f.write_str("it does not carry the community"),
            Self::AsPath => f.write_str("its AS path begins otherwise"),
        }
    }
}

impl Policy {
    /// What becomes of a route, and why. The same decision as [`Policy::evaluate`], and the same changes.
    pub fn trace(&self, route: &Route<'_>) -> Trace {
        let (mut steps, mut applied) = (Vec::new(), Applied::default());
        let mut decision = None;
        for (index, rule) in self.rules.iter().enumerate() {
            let mismatch = self.mismatch(&rule.when, route, &applied);
            let outcome = match (mismatch, rule.verdict) {
                (Some(mismatch), _) => StepOutcome::NotMatched(mismatch),
                (None, Some(Verdict::Reject)) => StepOutcome::Rejected,
                (None, Some(Verdict::Accept)) => StepOutcome::Accepted(rule.set.clone()),
                (None, None) => StepOutcome::Continued(rule.set.clone()),
            };
            if mismatch.is_none() {
                self.note(index, &mut applied);
                decision = rule.verdict.map(|verdict| (verdict, index));
            }
            let condition = rule.when.to_string();
            steps.push(Step { rule: index, name: rule.name.clone(), condition, outcome });
            if decision.is_some() {
                break;
            }
        }
        let verdict = decision.map_or(self.otherwise, |(verdict, _)| verdict);
        let changes = if verdict == Verdict::Accept { self.changes(&applied) } else { Actions::default() };
        Trace { steps, verdict, decided_by: decision.map(|(_, index)| index), changes }
    }
}
