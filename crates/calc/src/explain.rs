//! Why a packet passes, or does not: every judgement on its way, with each rule that was considered.
//!
//! The way of a packet is a list of [`Stage`]s: what its sender may send, what the hosts in between and at the ends say
//! ([host endpoints](crate::program::HostHook)), what its receiver may receive. Each stage is one run of the reference
//! [evaluator](crate::evaluator) over the rule program of the stage's node, written down rule by rule; what is added here is
//! words, and what the program leaves out because it could not matter: policies that select something else, rules of the
//! other family, staged policies. A stage after one that denies is judged too, so that both ends are known.
//!
//! Translations on the way count: a packet that leaves its node masqueraded (natOutgoing) meets the next stage with that
//! node's address.

mod judge;
mod network;
mod path;
#[cfg(test)]
mod tests;
pub mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{Kind, Resource};
use serde::Serialize;

use crate::cluster::{Cluster, NodeModel, Place};
use crate::contract::{IpVersion, WorkloadEndpointId};
use crate::evaluator::{Decision, Packet};
use crate::program::{ChainId, Program};
pub use network::{Translation, Way};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub from: Place,
    /// Who is to receive.
    pub to: Place,
    /// The first packet, as it leaves its sender; a connection that exists already is not judged again.
    pub packet: Packet,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who sends.
    pub from: Place,
    /// Who is to receive.
    pub to: Place,
    /// The packet, in words: `TCP 10.0.0.1:40000 -> 10.0.0.2:80`.
    pub packet: String,
    /// What becomes of it in the end.
    pub verdict: Ruling,
    /// What decided: the stage that denied it, or the last that allowed it.
    pub because: String,
    /// Every judgement on the way, in order.
    pub stages: Vec<Stage>,
    /// How it gets from its sender's node to the receiver; nothing for a packet from outside.
    pub route: Option<Way>,
    /// What is translated on the way.
    pub nat: Vec<Translation>,
    /// What else one should know.
    pub notes: Vec<String>,
}

/// What a judgement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ruling {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is left to what comes after.
    Pass,
    /// Nothing matched.
    NoMatch,
    /// It was decided before.
    NotReached,
}

impl From<Decision> for Ruling {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny => Self::Deny,
            Decision::NoMatch => Self::NoMatch,
        }
    }
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::NoMatch => "no match",
            Self::NotReached => "not reached",
        })
    }
}

/// One judgement.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// The node that judges.
    pub node: String,
    /// Whom it is about: `pod NAMESPACE/NAME egress`, `host endpoint NAME forward ingress`.
    pub at: String,
    /// The packet as it is then, if it has been translated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// The chain of the rule program; none where no policy is asked.
    #[serde(skip)]
    pub chain: Option<StageChain>,
    /// What it says.
    pub verdict: Ruling,
    /// Who says so.
    pub decided_by: Decider,
    /// Tiers that have a policy for the endpoint, in order.
    pub tiers: Vec<TierView>,
    /// The endpoint's profiles, which follow the tiers.
    pub profiles: Vec<PolicyView>,
    /// Policies that have no say here, and why.
    pub others: Vec<OtherPolicy>,
}

/// Where a node judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageChain {
    /// Whom it is about.
    pub at: api::wire::packet::StagePlace,
    /// Towards it, or from it.
    pub direction: crate::contract::Direction,
    /// The packet as it is there.
    pub packet: Packet,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decider {
    /// In words.
    pub text: String,
    /// The object, if one did: `NetworkPolicy prod/db`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The field of it that holds the rule: `spec.ingress[0]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The rule as the kernel's comments and flow records name it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
    /// The conditions that held.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TierView {
    /// Its name.
    pub name: String,
    /// Its policies for the endpoint and direction, in order.
    pub policies: Vec<PolicyView>,
    /// Its defaultAction, in words, with whether it was used.
    pub end: String,
}

/// A policy or profile and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// `NetworkPolicy prod/db`, `Profile kns.default`.
    pub object: String,
    /// It is evaluated, and never enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub staged: bool,
    /// What it says; what it would say, if it is staged.
    pub verdict: Ruling,
    /// Its rules of the direction, in order.
    pub rules: Vec<RuleView>,
    /// What of it cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A rule and why it did not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// `spec.ingress[0]`.
    pub field: String,
    /// `Allow`, `Deny`, `Pass` or `Log`.
    pub action: &'static str,
    /// Whether it matched.
    pub matched: bool,
    /// The conditions that did not hold; of each alternative, if there are several (numbered and named ports).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// A policy without a say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OtherPolicy {
    /// `NetworkPolicy prod/db`.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// Answers, from all rows.
pub fn explain(cluster: &Cluster, question: &Question) -> Explanation {
    Explainer::new(cluster).explain(question)
}

/// Answers any number of questions about one cluster; what a node makes of it is worked out once for each node.
#[derive(Debug)]
pub struct Explainer<'a> {
    cluster: &'a Cluster,
    sites: Sites,
}

impl<'a> Explainer<'a> {
    /// For a cluster.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, sites: Sites::default() }
    }

    /// Answers a question.
    pub fn explain(&mut self, question: &Question) -> Explanation {
        for node in [&question.from, &question.to].into_iter().filter_map(Place::node) {
            self.sites.add(self.cluster, node);
        }
        path::walk(self.cluster, &self.sites, question)
    }
}

/// What nodes make of a cluster.
#[derive(Debug, Default)]
pub struct Sites {
    own: BTreeMap<String, Site>,
    /// For all other nodes.
    shared: Option<Site>,
}

/// What a node makes of a cluster.
#[derive(Debug)]
struct Site {
    model: NodeModel,
    v4: Program,
    v6: Program,
}

impl Sites {
    /// For questions about every node. Policy of workloads does not depend on where they are; so nodes share what they make of
    /// it, but for those that have host endpoints or a Felix configuration of their own.
    pub fn many(cluster: &Cluster) -> Self {
        let mut sites = Self { own: BTreeMap::new(), shared: Some(Site::new(cluster.policy_model())) };
        for resource in
            cluster.resources(Kind::HostEndpoint).chain(cluster.resources(Kind::FelixConfiguration))
        {
            match resource {
                Resource::HostEndpoint(endpoint) => sites.add(cluster, &endpoint.spec.node),
                other => {
                    if let Some(node) = other.metadata().name.strip_prefix("node.") {
                        sites.add(cluster, node);
                    }
                }
            }
        }
        sites
    }

    /// What becomes of a packet, without reasons. The nodes of both ends have to be known.
    pub fn verdict(&self, cluster: &Cluster, ends: (&Place, &Place), packet: &Packet) -> Ruling {
        path::verdict(cluster, self, ends, packet)
    }

    /// The model and the program of a node.
    pub fn site(&self, node: &str, version: IpVersion) -> Option<(&NodeModel, &Program)> {
        let site = self.get(node)?;
        Some((&site.model, site.program(version)))
    }

    /// The models and programs of all.
    pub fn all(&self, version: IpVersion) -> impl Iterator<Item = (&NodeModel, &Program)> {
        let sites = self.own.values().chain(&self.shared);
        sites.map(move |site| (&site.model, site.program(version)))
    }

    /// The chains that a packet from outside the cluster meets on its way to a workload of a node.
    pub fn arrival(&self, node: &str, workload: &WorkloadEndpointId) -> Vec<ChainId> {
        self.get(node).map(|site| path::arrival(site, node, workload)).unwrap_or_default()
    }

    fn add(&mut self, cluster: &Cluster, node: &str) {
        if !self.own.contains_key(node) {
            self.own.insert(node.to_owned(), Site::new(cluster.node_model(node)));
        }
    }

    fn get(&self, node: &str) -> Option<&Site> {
        self.own.get(node).or(self.shared.as_ref())
    }
}

impl Site {
    fn new(model: NodeModel) -> Self {
        let (v4, v6) = (model.program(IpVersion::V4), model.program(IpVersion::V6));
        Self { model, v4, v6 }
    }

    fn program(&self, version: IpVersion) -> &Program {
        match version {
            IpVersion::V4 => &self.v4,
            IpVersion::V6 => &self.v6,
        }
    }
}

impl Stage {
    /// A verdict and nothing else.
    fn bare(verdict: Ruling) -> Self {
        Self {
            node: String::new(),
            at: String::new(),
            packet: None,
            chain: None,
            verdict,
            decided_by: Decider::default(),
            tiers: Vec::new(),
            profiles: Vec::new(),
            others: Vec::new(),
        }
    }
}

/// The first addresses of both ends that are of one family; IPv4 goes first.
pub fn common_family(from: &Place, to: &Place) -> Option<(IpAddr, IpAddr)> {
    [true, false].into_iter().find_map(|v4| {
        let first = |place: &Place| place.addresses().iter().copied().find(|it| it.is_ipv4() == v4);
        Some((first(from)?, first(to)?))
    })
}
