//! The seam between what is to be enforced and what enforces it: the managers write to a [`RuleSink`], which says in its own words
//! what the program says in none, and the apply loop drives a [`Backend`], which brings the kernel there.
//!
//! There is a backend for each family. Everything up to [`Backend::apply`] is memory only, and idempotent: setting what is set,
//! and removing what is not there, change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use calc::contract::{Direction, IpSetId, IpVersion, RuleOwner};
use calc::program::{Chain, ChainId, HostHook, Origin};
use ipnet::IpNet;
use kernel::nft::{NftError, RuleCount};

use crate::config::{DenyAction, Parameters};
use crate::ip_sets::{Delta, Member, Shape};
use crate::iptables::tools::ToolError;

/// What the managers of a family write to.
pub(crate) trait RuleSink {
    /// The name that a chain has.
    fn chain_name(&self, id: &ChainId) -> Arc<str>;
    /// The chain has exactly these rules.
    fn set_chain(&mut self, name: &Arc<str>, chain: &Chain, context: &Context<'_>);
    /// There is no such chain.
    fn remove_chain(&mut self, name: &Arc<str>);
    /// The set has exactly these members. A set of another shape is another set.
    fn set_set(&mut self, id: &IpSetId, shape: Shape, members: &BTreeSet<Member>);
    /// The set, which is there, loses and gains these members.
    fn change_set(&mut self, id: &IpSetId, shape: Shape, delta: &Delta);
    /// There is no such set.
    fn remove_set(&mut self, id: &IpSetId, shape: Shape);
    /// Packets from (egress) or to (ingress) a workload's interface are judged by a chain; by none, so that they are dropped.
    fn set_workload(&mut self, direction: Direction, interface: &Arc<str>, chain: Option<&Arc<str>>);
    /// Packets from (ingress) or to (egress) these interfaces of the host, and no others, are judged at a hook by these chains.
    fn set_hosts(&mut self, hook: HostHook, direction: Direction, chains: &BTreeMap<Arc<str>, Arc<str>>);
    /// What every packet meets before an endpoint's chain. It comes after the first workloads and hosts.
    fn set_hooks(&mut self, parameters: &Parameters, features: &Features);
    /// What these workloads send to outside the cluster is marked; nothing is where there are none.
    fn set_dscp(&mut self, marks: &DscpMarks);
    /// What these pools send to outside all pools leaves with an address of the host; nothing does.
    fn set_masquerading(&mut self, parameters: &Parameters, pools: Option<&Pools>);
}

/// What enforces the rules of one family.
pub(crate) trait Backend: RuleSink {
    /// Brings the kernel to what is wanted. Without news it makes no system call. A single object that the kernel refuses is a
    /// fault, no error.
    fn apply(&mut self, now: Instant) -> Result<(), BackendError>;
    /// When to apply again though nothing changes.
    fn next_apply(&self) -> Option<Instant>;
    /// The next apply asks whether someone else has changed anything, as far as that is cheap, and repairs it.
    fn look_again(&mut self);
    /// The next apply reads everything back.
    fn queue_resync(&mut self);
    /// Objects that are closed because they cannot be programmed, and why.
    fn faults(&self) -> Vec<String>;
    /// Reads the counters of the rules back.
    fn counters(&mut self) -> Result<Vec<RuleCount>, BackendError>;
}

/// The kernel could not be brought to what is wanted, or not be asked. What was there stays in force.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// nf_tables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// iptables or ipset.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A set of a backend that is to go is still used.
    #[error("IP set {set} cannot be deleted: {why}")]
    Stuck {
        /// Which set.
        set: String,
        /// Why.
        why: String,
    },
}

impl BackendError {
    /// Whether the kernel knows nothing of nf_tables.
    pub(crate) fn is_without_nf_tables(&self) -> bool {
        matches!(self, Self::Nft(error) if is_without_nf_tables(error))
    }
}

/// Whether the kernel knows nothing of nf_tables.
pub(crate) fn is_without_nf_tables(error: &NftError) -> bool {
    let unknown = [std::io::ErrorKind::InvalidInput, std::io::ErrorKind::Unsupported];
    matches!(error, NftError::Io { source, .. } if unknown.contains(&source.kind()))
}

/// What the rules of a chain depend on besides the chain.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The family.
    pub version: IpVersion,
    /// The shape that each set has now.
    pub shapes: &'a BTreeMap<IpSetId, Shape>,
    /// The Felix parameters.
    pub parameters: &'a Parameters,
    /// Where the chain stands.
    pub place: Place<'a>,
}

impl Context<'_> {
    /// How the chain's denied packets are dropped: before connection tracking and NAT nothing can be rejected politely.
    pub fn deny_action(&self) -> DenyAction {
        if self.place.is_final { DenyAction::Drop } else { self.parameters.filter_deny_action }
    }

    /// `LogPrefix` with its specifiers filled in, and `: `, in so many bytes (datapath.md 4.11).
    pub fn log_prefix(&self, origin: &Origin, longest: usize) -> String {
        let (kind, name) = match origin {
            Origin::Rule(id) => match &id.owner {
                RuleOwner::Policy(policy) => (policy.kind.name(), policy.to_string()),
                RuleOwner::Profile(profile) => ("Profile", profile.to_string()),
            },
            _ => ("", String::new()),
        };
        let last = name.rsplit('/').next().unwrap_or_default();
        let policy = name.split_once('/').map_or(name.as_str(), |(_, rest)| rest);
        let text = self.parameters.log_prefix.replace("%t", self.place.tier).replace("%k", kind);
        let mut text = text.replace("%p", policy).replace("%n", last);
        while text.len() + 2 > longest {
            text.pop();
        }
        text + ": "
    }
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// All stages of a packet's path from which it is entered.
    pub stages: &'a [Stage],
    /// What the chain accepts, no later stage drops.
    pub is_final: bool,
    /// The tier, for the prefix of Log rules.
    pub tier: &'a str,
}

/// A stage of a packet's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Before connection tracking.
    Untracked,
    /// Before destination NAT.
    PreDnat,
    /// Where packets are filtered.
    Filter,
}

impl Stage {
    /// Where the chains of a hook stand.
    pub fn of(hook: HostHook) -> Self {
        match hook {
            HostHook::Normal | HostHook::Forward => Self::Filter,
            HostHook::Untracked => Self::Untracked,
            HostHook::PreDnat => Self::PreDnat,
        }
    }

    /// What is accepted there, no later stage drops.
    pub fn is_early(self) -> bool {
        self != Self::Filter
    }
}

impl Place<'_> {
    /// That of chains which judge workloads.
    pub const FILTER: Self = Self { stages: &[Stage::Filter], is_final: false, tier: "" };
}

/// What every packet's path has to make room for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// Hooks and directions at which some host endpoint has a chain.
    pub host_hooks: BTreeSet<(HostHook, Direction)>,
    /// The chain of the host endpoint for every interface (`*`), at those hooks where there is one.
    pub any_host: BTreeMap<(HostHook, Direction), Arc<str>>,
    /// Interfaces and the extra sources that they may send from.
    pub spoofing: BTreeSet<(Arc<str>, IpNet)>,
    /// Where the addresses of Services are.
    pub service_networks: BTreeSet<IpNet>,
}

impl Features {
    /// Whether something may have been accepted before the stage of filtering, for good.
    pub fn has_early_hook(&self) -> bool {
        self.host_hooks.iter().any(|(hook, _)| Stage::of(*hook).is_early())
    }
}

/// Whose traffic is marked with which DSCP, of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DscpMarks {
    /// Addresses of workloads by DSCP, 0..=63.
    pub sources: BTreeMap<u8, BTreeSet<Member>>,
    /// Pools and hosts: what goes there is not marked.
    pub inside: BTreeSet<Member>,
}

/// Whose traffic is masqueraded, of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pools {
    /// Pools with natOutgoing; not empty.
    pub sources: BTreeSet<Member>,
    /// All pools.
    pub pools: BTreeSet<Member>,
    /// Addresses of hosts.
    pub hosts: BTreeSet<Member>,
}
