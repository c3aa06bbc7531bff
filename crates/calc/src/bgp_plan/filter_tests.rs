//! Test cases that a `BGPFilter` carries: sample routes and what the filter has to say of them.
//!
//! They are in the annotation [`ANNOTATION`], a JSON list; a filter without it is checked by nobody, as in Calico:
//!
//! ```json
//! [{"name": "no default route from the fabric", "direction": "import", "peerType": "eBGP",
//!   "route": {"prefix": "0.0.0.0/0"}, "expect": {"action": "Reject"}},
//!  {"name": "customers are marked", "direction": "export",
//!   "route": {"prefix": "203.0.113.0/24", "source": "RemotePeers", "communities": ["65000:7"], "priority": 100},
//!   "expect": {"action": "Accept", "communities": ["65000:7", "65000:100"]}}]
//! ```
//!
//! `expect.action` is `Accept`, `Reject`, or `NoMatch` when no rule of the filter matches. The other fields of `expect` are
//! what the accepted route has to have; those that are absent are not looked at.

use std::collections::BTreeSet;

use api::{BGPFilter, BGPFilterPeerType, BGPFilterSource};
use bgp::Asn;
use bgp::packet::PeerKind;
use bgp::policy::{AnyCommunity, Policy, Route, RouteAttributes, SourceMatch, Verdict, mirrored};
use ipnet::IpNet;
use serde::Deserialize;

use super::filters::{self, Direction};
use super::originate::is_v6;

/// The annotation that has the cases.
pub const ANNOTATION: &str = "tortie.dev/filter-tests";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    direction: CaseDirection,
    peer_type: Option<BGPFilterPeerType>,
    route: Sample,
    expect: Expectation,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CaseDirection {
    Import,
    Export,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sample {
    prefix: IpNet,
    source: Option<BGPFilterSource>,
    interface: Option<String>,
    #[serde(default)]
    communities: Vec<String>,
    #[serde(default)]
    as_path: Vec<u32>,
    priority: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expectation {
    action: Action,
    communities: Option<BTreeSet<String>>,
    as_path: Option<Vec<u32>>,
    priority: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    Accept,
    Reject,
    NoMatch,
}

/// A filter that does not do what its test cases say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterTestError {
    /// The annotation cannot be read.
    #[error(
        "BGPFilter {filter}: metadata.annotations[{ANNOTATION}]: {reason}; see the documentation of BGP filters"
    )]
    Unreadable {
        /// The filter.
        filter: String,
        /// Why.
        reason: String,
    },
    /// A case fails.
    #[error(
        "BGPFilter {filter}: test case {case:?}: expected {expected}, got {actual} ({by}); correct the filter or the case"
    )]
    Failed {
        /// The filter.
        filter: String,
        /// The case's name.
        case: String,
        /// What it expects.
        expected: String,
        /// What comes of it.
        actual: String,
        /// The rule that decides.
        by: String,
    },
}

/// Checks a filter by its test cases. Gives how many there are.
///
/// # Errors
/// Every case that fails; or that the cases cannot be read.
pub fn check_filter(filter: &BGPFilter) -> Result<usize, Vec<FilterTestError>> {
    let Some(text) = filter.metadata.annotations.get(ANNOTATION) else { return Ok(0) };
    let unreadable =
        |reason: String| FilterTestError::Unreadable { filter: filter.metadata.name.clone(), reason };
    let cases: Vec<Case> = serde_json::from_str(text).map_err(|error| vec![unreadable(error.to_string())])?;
    let mut errors = Vec::new();
    for case in &cases {
        match try_case(filter, case) {
            Ok(None) => {}
            Ok(Some(failure)) => errors.push(failure),
            Err(reason) => errors.push(unreadable(format!("{:?}: {reason}", case.name))),
        }
    }
    if errors.is_empty() { Ok(cases.len()) } else { Err(errors) }
}

fn try_case(filter: &BGPFilter, case: &Case) -> Result<Option<FilterTestError>, String> {
    let direction = match case.direction {
        CaseDirection::Import => Direction::Import,
        CaseDirection::Export => Direction::Export,
    };
    let mut attributes = attributes(&case.route)?;
    let is_learned = direction == Direction::Import || case.route.source.is_some();
    let name = &filter.metadata.name;
    let (rules, _) = filters::rules(name, &filter.spec, direction, is_v6(&case.route.prefix));
    let trace = Policy::new(rules, Verdict::Reject).trace(&Route {
        prefix: case.route.prefix.trunc(),
        source: if is_learned { SourceMatch::Learned } else { SourceMatch::Local },
        peer: Some(match case.peer_type.unwrap_or(BGPFilterPeerType::EBGP) {
            BGPFilterPeerType::EBGP => PeerKind::External,
            BGPFilterPeerType::IBGP => PeerKind::Internal,
        }),
        next_hop: None,
        interface: case.route.interface.as_deref(),
        attributes: &attributes,
    });
    let action = match (trace.decided_by, trace.verdict) {
        (None, _) => Action::NoMatch,
        (_, Verdict::Accept) => Action::Accept,
        (_, Verdict::Reject) => Action::Reject,
    };
    attributes.apply(&trace.changes);
    let (expected, actual) = differing(&case.expect, action, &attributes);
    if expected == actual {
        return Ok(None);
    }
    let by = trace.steps.last().filter(|_| trace.decided_by.is_some());
    let by = by.map_or_else(|| "no rule matches".to_owned(), |step| format!("by {}", step.name));
    Ok(Some(FilterTestError::Failed {
        filter: name.clone(),
        case: case.name.clone(),
        expected: expected.join(", "),
        actual: actual.join(", "),
        by,
    }))
}

/// What is expected and what is, in the same words, as far as the case says anything.
fn differing(expect: &Expectation, action: Action, after: &RouteAttributes) -> (Vec<String>, Vec<String>) {
    let (mut expected, mut actual) = (vec![format!("{:?}", expect.action)], vec![format!("{action:?}")]);
    if let Some(communities) = &expect.communities {
        let standard = after.communities.iter().map(ToString::to_string);
        let all: BTreeSet<_> =
            standard.chain(after.large_communities.iter().map(ToString::to_string)).collect();
        expected.push(format!("communities {communities:?}"));
        actual.push(format!("communities {all:?}"));
    }
    if let Some(path) = &expect.as_path {
        let after: Vec<u32> = after.as_path.iter().map(|asn| asn.0).collect();
        expected.push(format!("AS path {path:?}"));
        actual.push(format!("AS path {after:?}"));
    }
    if let Some(priority) = expect.priority {
        expected.push(format!("priority {priority}"));
        let after = after.local_pref.map_or("none".to_owned(), |value| mirrored(value).to_string());
        actual.push(format!("priority {after}"));
    }
    (expected, actual)
}

fn attributes(sample: &Sample) -> Result<RouteAttributes, String> {
    let mut attributes = RouteAttributes {
        local_pref: sample.priority.map(mirrored),
        as_path: sample.as_path.iter().copied().map(Asn).collect(),
        ..RouteAttributes::default()
    };
    for text in &sample.communities {
        match filters::community(text)? {
            AnyCommunity::Standard(community) => drop(attributes.communities.insert(community)),
            AnyCommunity::Large(community) => drop(attributes.large_communities.insert(community)),
        }
    }
    Ok(attributes)
}
