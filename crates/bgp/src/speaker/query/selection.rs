//! How a route fared in selection, in words.

use std::fmt;

use crate::rib::PeerNumber;
use crate::rib::best_path::{Candidate, Rules, SourceKind, Step, explain};
use crate::types::PeerId;

/// A defeat in route selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defeat {
    /// The step that decided.
    pub step: Step,
    /// What the loser has.
    pub this: String,
    /// What the route has that beat it.
    pub better: String,
    /// The peer of the route that beat it; none: it is our own.
    pub beaten_by: Option<PeerId>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preference => "highest preference (ours before what we learn)",
            Self::LocalPref => "highest LOCAL_PREF (RFC 4271, 9.1.1)",
            Self::PathLength => "shortest AS_PATH (RFC 4271, 9.1.2.2 a)",
            Self::Origin => "lowest ORIGIN (RFC 4271, 9.1.2.2 b)",
            Self::Med => "lowest MED of the same neighbouring AS (RFC 4271, 9.1.2.2 c)",
            Self::External => "external before internal (RFC 4271, 9.1.2.2 d)",
            Self::InteriorCost => "nearest next hop (RFC 4271, 9.1.2.2 e)",
            Self::RouterId => "lowest BGP identifier (RFC 4271, 9.1.2.2 f)",
            Self::ClusterLength => "shortest CLUSTER_LIST (RFC 4456, 9)",
            Self::PeerAddress => "lowest peer address (RFC 4271, 9.1.2.2 g)",
            Self::PathId => "lowest path identifier (RFC 7911)",
        })
    }
}

/// What a step looks at.
fn value(step: Step, candidate: &Candidate<'_>) -> String {
    let (set, source) = (candidate.attributes, candidate.source);
    match step {
        Step::Preference => set.preference.to_string(),
        Step::LocalPref => set.local_pref.to_string(),
        Step::PathLength => set.path_length.to_string(),
        Step::Origin => set.origin.to_string(),
        Step::Med => set.med.map_or_else(|| "0 (none)".to_owned(), |med| med.to_string()),
        Step::External => match source.kind {
            SourceKind::Local => "our own",
            SourceKind::External | SourceKind::Behind => "external",
            SourceKind::Internal | SourceKind::Client => "internal",
        }
        .to_owned(),
        Step::InteriorCost => candidate.cost.to_string(),
        Step::RouterId => set.originator.unwrap_or(source.router_id.0).to_string(),
        Step::ClusterLength => set.cluster_length.to_string(),
        Step::PeerAddress => source.address.to_string(),
        Step::PathId => candidate.path_id.to_string(),
    }
}

/// Routes that took part in a selection.
pub(super) struct Contest<'a> {
    pub(super) entrants: Vec<(PeerNumber, Candidate<'a>)>,
    pub(super) rules: Rules,
}

impl Contest<'_> {
    /// The step at which each lost, and by whose hand, in the order of the entrants; `None` for the best.
    pub(super) fn defeats(&self, name: impl Fn(PeerNumber) -> Option<PeerId>) -> Vec<Option<Defeat>> {
        let candidates: Vec<Candidate<'_>> = self.entrants.iter().map(|(_, candidate)| *candidate).collect();
        let lost = explain(&candidates, self.rules);
        let defeat = |(index, step): (usize, &Option<Step>)| {
            let step = (*step)?;
            let victor = self.victor(index, step, &lost)?;
            let value = |of: usize| value(step, &candidates[of]);
            let beaten_by = name(self.entrants[victor].0);
            Some(Defeat { step, this: value(index), better: value(victor), beaten_by })
        };
        lost.iter().enumerate().map(defeat).collect()
    }

    /// A route that got further and was better at this step. MEDs only count within a neighbouring AS.
    fn victor(&self, loser: usize, step: Step, lost: &[Option<Step>]) -> Option<usize> {
        let candidate = |index: usize| &self.entrants[index].1;
        let further = |index: &usize| lost[*index].is_none_or(|at| at > step);
        let rival = |index: &usize| {
            step != Step::Med
                || self.rules.always_compare_med
                || candidate(*index).attributes.neighbour == candidate(loser).attributes.neighbour
        };
        // The one that got furthest: the best route, if it is a rival at all.
        let rivals = (0..self.entrants.len()).filter(|index| *index != loser).filter(further).filter(rival);
        rivals.max_by_key(|index| (lost[*index].is_none(), lost[*index]))
    }
}
