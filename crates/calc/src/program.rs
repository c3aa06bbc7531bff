//! The rule program: what a node enforces, as chains of rules that no backend owns.
//!
//! # The problem
//! Policies are written once and apply to many endpoints; a packet between two local workloads is judged twice, once
//! where it leaves (egress policy) and once where it arrives (ingress policy). Two verdicts do not fit a plain
//! accept or drop: *Allow* in the first judgement must still let the second one speak, and *Pass* must leave the
//! tier from inside a policy that knows nothing of the tiers around it.
//!
//! # The approach
//! The program is rendered for one IP family, from contract types, into chains:
//!
//! - one for each policy (or profile) and direction, shared by all endpoints that it applies to;
//! - one for each judgement of workloads and direction, shared by all workloads that are judged alike, and one for each host
//!   endpoint, hook and direction; they walk tiers by jumps to those chains.
//!
//! *Allow* is simply [`Verdict::Accept`]: it ends the judgement of one side. A backend has to give each side a
//! judgement of its own; nftables does so with one base chain a side on the same hook, where `accept` ends a base
//! chain and the next one still runs. So there is no accept mark, and nothing to check after each jump.
//!
//! *Pass* sets a flag and returns; the endpoint's chain skips the other policies of the tier, and its end, while the
//! flag is set. The flag costs rules only where a policy really can pass ([`Shape::may_pass`]), so the usual endpoint
//! has one jump for each policy that has rules, and one drop. What follows a tier that always ends in a drop is not
//! rendered at all.
//!
//! Every rule is a conjunction of [`Match`]es. The only disjunction of the model that is not one lookup (numeric ports
//! or named-port sets) becomes several rules with the same [`Origin`].
//!
//! # Connection tracking
//! Replies and other packets of a known connection pass, and packets that tracking calls invalid do not; but only where the
//! endpoint is known and up, so these two rules stand in each endpoint's chain and not before all of them.
//!
//! A policy can ask for more ([`Policy::rechecks`]): where it has a say, only answers of known connections (and what is
//! related to one) pass unseen; what goes the way of the first packet is judged as that was. So a connection that policy
//! now denies hears nothing more, and its answers end as they are not acknowledged.
//!
//! # Missing things
//! A policy or profile that an endpoint names and that is not known denies, at its place in the order: nothing waits
//! for it, and nothing opens because it is late.

mod endpoint;
pub mod failsafe;
mod limits;
mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

pub use endpoint::{
    HostHook, Judgement, Options, ProtocolPort, TierWalk, failsafe_chain, host_chain,
    untracked_failsafe_chain, workload_chain,
};
pub use limits::limits_chain;
pub use policy::{note, policy_chain, profile_chain};

use crate::contract::{
    Direction, HostEndpoint, IcmpMatch, IpSetId, IpVersion, PacketRate, Policy, PolicyId, PortRange, Profile,
    ProfileId, RuleId, WorkloadEndpoint,
};

/// Identity of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainId {
    /// A policy's rules of one direction.
    Policy(PolicyId, Direction),
    /// A profile's rules of one direction.
    Profile(ProfileId, Direction),
    /// What the workloads of a judgement may receive (ingress) or send (egress).
    Workload(Arc<Judgement>, Direction),
    /// What the workload on an interface may receive or send in a time and at one time, and then its judgement.
    Limits(Arc<str>, Direction),
    /// A host endpoint's chain at a hook; named by the endpoint.
    Host(Arc<str>, HostHook, Direction),
    /// Ports of the host that host endpoint policy cannot close.
    Failsafe(Direction),
    /// The same before connection tracking, where replies have to be let through too.
    UntrackedFailsafe(Direction),
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(id, direction) => write!(f, "policy {id} {direction}"),
            Self::Profile(id, direction) => write!(f, "profile {id} {direction}"),
            Self::Workload(judgement, direction) => write!(f, "workloads {direction}: {judgement}"),
            Self::Limits(interface, direction) => write!(f, "limits {interface} {direction}"),
            Self::Host(name, hook, direction) => write!(f, "host endpoint {name} {hook} {direction}"),
            Self::Failsafe(direction) => write!(f, "failsafe {direction}"),
            Self::UntrackedFailsafe(direction) => write!(f, "untracked failsafe {direction}"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Rules in order; a packet that no rule decides returns to where the chain was entered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// In order.
    pub rules: Vec<Rule>,
    /// Who walks it judges established connections again.
    pub rechecks: bool,
}

impl Chain {
    /// What the callers of the chain have to know of it.
    pub fn shape(&self) -> Shape {
        Shape {
            is_empty: self.rules.is_empty(),
            may_pass: self.rules.iter().any(|rule| rule.verdict == Verdict::Pass),
            rechecks: self.rechecks,
        }
    }

    /// The IP sets that its rules look into.
    pub fn ip_sets(&self) -> BTreeSet<&IpSetId> {
        self.rules.iter().flat_map(|rule| &rule.matches).filter_map(Match::ip_set).collect()
    }
}

/// What the callers of a policy's chain have to know of its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// It has no rule (for the family): there is nothing to jump to.
    pub is_empty: bool,
    /// Some rule passes to the next tier.
    pub may_pass: bool,
    /// Established connections of whom it governs are judged again.
    pub rechecks: bool,
}

/// One rule of the program: when all matches hold, the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What happens then.
    pub verdict: Verdict,
    /// Why the rule is there.
    pub origin: Origin,
    /// The policy rule's annotations as `name=value`, with blanks between; empty if it has none.
    pub note: String,
}

impl Rule {
    pub(crate) fn new(matches: Vec<Match>, verdict: Verdict, origin: Origin) -> Self {
        Self { matches, verdict, origin, note: String::new() }
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This side of the packet's path allows it. Final for the side.
    Accept,
    /// As [`Verdict::Accept`], and the connection is not tracked.
    AcceptUntracked,
    /// Final.
    Drop,
    /// Final, and nobody is told, whatever is done with what policy denies.
    Discard,
    /// Final; the sender of the TCP packet is told that its connection is none.
    Reset,
    /// Log, and go on with the next rule.
    Log,
    /// Set the pass flag, and return from the chain.
    Pass,
    /// Clear the pass flag, and go on with the next rule.
    ClearPass,
    /// Run the chain, and come back if it does not decide.
    Jump(ChainId),
}

/// End of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It belongs to one of these states of connection tracking.
    Conntrack(BTreeSet<Conntrack>),
    /// It goes against the direction of its connection's first packet.
    Reply,
    /// More packets have come to the rule than this, lately. Never in the evaluator, which has no time.
    OverRate(PacketRate),
    /// More connections than this have come to the rule and are still there. Never in the evaluator, which has one packet.
    OverConnections(u32),
    /// The pass flag is set (or, negated by `false`, is not).
    Passed(bool),
    /// The IP protocol is one of these.
    Protocol {
        /// Numbers, ascending.
        protocols: Vec<u8>,
        /// None of them instead.
        negated: bool,
    },
    /// It is an ICMP message (of the program's family) of this type and code.
    Icmp {
        /// Type and code.
        icmp: IcmpMatch,
        /// An ICMP message, but not of this type and code.
        negated: bool,
    },
    /// The address is in one of the networks.
    Net {
        /// Whose address.
        side: Side,
        /// All of the program's family; not empty.
        nets: Vec<IpNet>,
        /// In none of them instead.
        negated: bool,
    },
    /// The port is in one of the ranges. Comes after a match that leaves only protocols with ports.
    Ports {
        /// Whose port.
        side: Side,
        /// Not empty.
        ranges: Vec<PortRange>,
        /// In none of them instead.
        negated: bool,
    },
    /// The address is in the set.
    IpSet {
        /// Whose address.
        side: Side,
        /// Which set; of kind `Net`.
        set: IpSetId,
        /// Not in it instead.
        negated: bool,
    },
    /// (address, protocol, port) is in the set.
    PortSet {
        /// Whose address and port.
        side: Side,
        /// Which set; of kind `NetPort`.
        set: IpSetId,
        /// Not in it instead.
        negated: bool,
    },
}

impl Match {
    /// The IP set that it looks into.
    pub fn ip_set(&self) -> Option<&IpSetId> {
        match self {
            Self::IpSet { set, .. } | Self::PortSet { set, .. } => Some(set),
            _ => None,
        }
    }
}

/// States of connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Conntrack {
    /// The first packet of a connection.
    #[default]
    New,
    /// Of a connection that has seen an answer.
    Established,
    /// Of a new connection that a known one announced (an ICMP error, an FTP data connection).
    Related,
    /// Of no connection, and not able to start one.
    Invalid,
}

/// Why a rule is in the program: its identity for `explain`, counters and comments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A rule of a policy or profile.
    Rule(RuleId),
    /// A jump, or the upkeep of the pass flag.
    Walk,
    /// The default action of a tier whose policies select the endpoint and did not decide.
    EndOfTier {
        /// The tier.
        tier: Arc<str>,
        /// In which direction.
        direction: Direction,
    },
    /// No tier and no profile decided.
    NoProfile(Direction),
    /// The endpoint is administratively down.
    Disabled,
    /// The endpoint has no address of the family.
    NoAddress,
    /// A policy that is not known.
    MissingPolicy(PolicyId),
    /// A profile that is not known.
    MissingProfile(ProfileId),
    /// The packet belongs to a known connection.
    Established,
    /// Connection tracking calls the packet invalid.
    Invalid,
    /// More packets than the workload may receive or send.
    PacketRate(Direction),
    /// More connections than the workload may have.
    ConnectionLimit(Direction),
    /// A port that is always open.
    Failsafe(Direction),
    /// Forwarded traffic of a host endpoint that no policy applies to.
    NoForwardPolicy,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(id) => write!(f, "{id}"),
            Self::Walk => f.write_str("walk"),
            Self::EndOfTier { tier, direction } => write!(f, "end of tier {tier} {direction}"),
            Self::NoProfile(direction) => write!(f, "no profile matched {direction}"),
            Self::Disabled => f.write_str("endpoint disabled"),
            Self::NoAddress => f.write_str("no address of the family"),
            Self::MissingPolicy(id) => write!(f, "policy not known: {id}"),
            Self::MissingProfile(id) => write!(f, "profile not known: {id}"),
            Self::Established => f.write_str("established"),
            Self::Invalid => f.write_str("invalid"),
            Self::PacketRate(direction) => write!(f, "over the packet rate {direction}"),
            Self::ConnectionLimit(direction) => write!(f, "over the connection limit {direction}"),
            Self::Failsafe(direction) => write!(f, "failsafe {direction}"),
            Self::NoForwardPolicy => f.write_str("no policy on forwarded traffic"),
        }
    }
}

/// `Kind/[namespace/]name direction index`, or `Profile/name direction index`.
impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            crate::contract::RuleOwner::Policy(id) => write!(f, "{id} {} {}", self.direction, self.index),
            crate::contract::RuleOwner::Profile(id) => {
                write!(f, "Profile/{id} {} {}", self.direction, self.index)
            }
        }
    }
}

/// Answers what an endpoint's chain has to know of the chains that it walks.
pub trait Shapes {
    /// The policy's chain of a direction; `None` if the policy is not known.
    fn policy(&self, id: &PolicyId, direction: Direction) -> Option<Shape>;
    /// The profile's chain of a direction; `None` if the profile is not known.
    fn profile(&self, id: &ProfileId, direction: Direction) -> Option<Shape>;
}

/// A whole program of one family, for the evaluator. Policies and profiles go in before the endpoints that name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    version: IpVersion,
    options: Options,
    chains: BTreeMap<ChainId, Chain>,
    /// The chains of the workload on an interface.
    workloads: BTreeMap<(Arc<str>, Direction), ChainId>,
}

impl Program {
    /// An empty program of a family, with the default options.
    pub fn new(version: IpVersion) -> Self {
        Self { version, options: Options::default(), chains: BTreeMap::new(), workloads: BTreeMap::new() }
    }

    /// Its family.
    pub fn version(&self) -> IpVersion {
        self.version
    }

    /// A chain, if there.
    pub fn chain(&self, id: &ChainId) -> Option<&Chain> {
        self.chains.get(id)
    }

    /// The chain of the workload on an interface, if there.
    pub fn workload(&self, interface: &str, direction: Direction) -> Option<&ChainId> {
        self.workloads.get(&(interface.into(), direction))
    }

    /// Every chain.
    pub fn chains(&self) -> &BTreeMap<ChainId, Chain> {
        &self.chains
    }

    /// Renders both directions of a policy.
    pub fn set_policy(&mut self, id: &PolicyId, policy: &Policy) {
        for direction in BOTH {
            let chain = policy_chain(policy, direction, self.version);
            self.chains.insert(ChainId::Policy(id.clone(), direction), chain);
        }
    }

    /// Renders both directions of a profile.
    pub fn set_profile(&mut self, id: &ProfileId, profile: &Profile) {
        for direction in BOTH {
            let chain = profile_chain(profile, direction, self.version);
            self.chains.insert(ChainId::Profile(id.clone(), direction), chain);
        }
    }

    /// Renders both directions of a workload endpoint.
    pub fn set_workload(&mut self, endpoint: &WorkloadEndpoint) {
        for direction in BOTH {
            self.set_judgement(&endpoint.interface, direction, Judgement::of(endpoint, direction));
        }
    }

    /// Renders one direction of a workload endpoint that is judged like this.
    pub fn set_judgement(&mut self, interface: &Arc<str>, direction: Direction, judgement: Judgement) {
        let judgement = Arc::new(judgement);
        let chain = workload_chain(&judgement, direction, self.options, self);
        let id = ChainId::Workload(judgement, direction);
        self.chains.insert(id.clone(), chain);
        self.workloads.insert((interface.clone(), direction), id);
    }

    /// Renders all chains of a host endpoint.
    pub fn set_host(&mut self, name: &Arc<str>, endpoint: &HostEndpoint) {
        for hook in HostHook::ALL {
            for direction in BOTH {
                let chain = host_chain(endpoint, hook, direction, self.options, self);
                self.chains.insert(ChainId::Host(name.clone(), hook, direction), chain);
            }
        }
    }

    /// The ports that are always open on host endpoints, inbound and outbound.
    pub fn set_failsafe(&mut self, inbound: &[ProtocolPort], outbound: &[ProtocolPort]) {
        for (direction, own, opposite) in
            [(Direction::Ingress, inbound, outbound), (Direction::Egress, outbound, inbound)]
        {
            let chain = failsafe_chain(own, direction, self.version);
            self.chains.insert(ChainId::Failsafe(direction), chain);
            let chain = untracked_failsafe_chain(own, opposite, direction, self.version);
            self.chains.insert(ChainId::UntrackedFailsafe(direction), chain);
        }
    }
}

/// Both directions, in order.
pub const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl Shapes for Program {
    fn policy(&self, id: &PolicyId, direction: Direction) -> Option<Shape> {
        self.chains.get(&ChainId::Policy(id.clone(), direction)).map(Chain::shape)
    }

    fn profile(&self, id: &ProfileId, direction: Direction) -> Option<Shape> {
        self.chains.get(&ChainId::Profile(id.clone(), direction)).map(Chain::shape)
    }
}
