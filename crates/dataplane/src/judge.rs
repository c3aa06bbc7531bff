//! Which rules have decided about a packet that the kernel has logged, and what those that are staged would have done.
//!
//! The kernel says that a packet was denied, and by which rule; or that it was allowed by all. The rest, who allowed it and what
//! is staged, says the reference evaluator ([`calc::evaluator`]), on the objects and sets that the kernel has. It is asked once a
//! flow and not once a packet, so it may be slow; it renders the chains of just those endpoints that it is asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calc::contract::{Action, Direction, HostEndpoint, IpVersion, PolicyId, Tier, WorkloadEndpoint};
use calc::evaluator::{Decision, Evaluator, Members, Outcome, Packet};
use calc::program::{BOTH, ChainId, Conntrack, HostHook, Judgement, Origin, Program, Verdict, note};

use crate::config::Parameters;
use crate::family::Family;
use crate::model::Model;
use crate::nft::{comment, log_prefix};
use crate::rules::hosts::place;
use crate::rules::workloads::judgement;

/// Where on its way a packet was logged (`NF_INET_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before it is routed.
    Prerouting,
    /// For this host.
    Input,
    /// From one interface to another.
    Forward,
    /// From this host.
    Output,
}

impl Hook {
    /// By its number in `linux/netfilter.h`.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Prerouting,
            1 => Self::Input,
            2 => Self::Forward,
            3 => Self::Output,
            _ => return None,
        })
    }
}

/// A packet that the kernel has logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The packet, as a new one.
    pub packet: Packet,
    /// Where it was.
    pub hook: Hook,
    /// The interface by which it came.
    pub input: Option<Arc<str>>,
    /// The interface by which it was to leave.
    pub output: Option<Arc<str>>,
    /// The prefix of the rule that denied it ([`log_prefix`]); none: it was allowed.
    pub denied: Option<Arc<str>>,
}

/// What the endpoints at the two ends of a packet's way through this host had to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// What its sender may send: a workload's egress, or a host endpoint's ingress if it came from outside.
    pub from: Option<Side>,
    /// What its receiver may receive: a workload's ingress, or a host endpoint's egress if it leaves the host.
    pub to: Option<Side>,
}

/// What one endpoint had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Which one: `namespace/pod`, or a host endpoint's name.
    pub endpoint: Arc<str>,
    /// Whether it is a host endpoint.
    pub is_host: bool,
    /// In which of its directions.
    pub direction: Direction,
    /// Whether it let the packet through.
    pub allowed: bool,
    /// The rule that decided; none: it is not known any more.
    pub rule: Option<Origin>,
    /// What would have happened if what is staged were enforced; none: nothing is staged here.
    pub staged: Option<Staged>,
}

/// What staged policies would have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Whether they would have let the packet through.
    pub allowed: bool,
    /// The rule that would have decided.
    pub rule: Option<Origin>,
}

/// Judges packets of one family.
pub(crate) struct Judge<'a> {
    model: &'a Model,
    parameters: &'a Parameters,
    families: [&'a dyn Members; 2],
    replaced: &'a BTreeSet<PolicyId>,
    /// The host endpoint of each interface that has one.
    placed: BTreeMap<Arc<str>, (Arc<str>, Arc<HostEndpoint>)>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new<B>(
        model: &'a Model,
        parameters: &'a Parameters,
        families: &'a [Family<B>; 2],
        replaced: &'a BTreeSet<PolicyId>,
    ) -> Self {
        let families: [&dyn Members; 2] = [&families[0].rules, &families[1].rules];
        Self { model, parameters, families, replaced, placed: place(model) }
    }

    pub(crate) fn judge(&self, sight: &Sight) -> Judged {
        let mut judged = Judged::default();
        let [from, to] = self.ends(sight);
        judged.from = from.and_then(|end| self.side(&end, sight));
        // Who was denied by the sender's policy never comes to the receiver's.
        if judged.from.as_ref().is_none_or(|side| side.allowed) {
            judged.to = to.and_then(|end| self.side(&end, sight));
        }
        judged
    }

    fn ends(&self, sight: &Sight) -> [Option<End>; 2] {
        let workload = |interface: &Option<Arc<str>>, direction| {
            let (id, endpoint) = self.model.on_interface(interface.as_deref()?)?;
            let endpoint = endpoint.clone();
            Some(End { name: id.workload.clone(), direction, of: Of::Workload(endpoint) })
        };
        let host = |interface: &Option<Arc<str>>, hook, direction| {
            let found = self.placed.get(interface.as_deref()?).or_else(|| self.placed.get("*"));
            found.map(|(name, endpoint)| End {
                name: name.clone(),
                direction,
                of: Of::Host(endpoint.clone(), hook),
            })
        };
        let early = match sight.denied {
            Some(_) if sight.hook == Hook::Prerouting => HostHook::Untracked,
            _ => HostHook::PreDnat,
        };
        let (input, output) = (&sight.input, &sight.output);
        match sight.hook {
            Hook::Prerouting => [host(input, early, Direction::Ingress), None],
            Hook::Input => [
                workload(input, Direction::Egress)
                    .or_else(|| host(input, HostHook::Normal, Direction::Ingress)),
                None,
            ],
            Hook::Forward => [
                workload(input, Direction::Egress)
                    .or_else(|| host(input, HostHook::Forward, Direction::Ingress)),
                workload(output, Direction::Ingress)
                    .or_else(|| host(output, HostHook::Forward, Direction::Egress)),
            ],
            Hook::Output => [None, host(output, HostHook::Normal, Direction::Egress)],
        }
    }

    /// `None`: the endpoint has nothing to say about it.
    fn side(&self, end: &End, sight: &Sight) -> Option<Side> {
        let version = IpVersion::of(sight.packet.source);
        let mut packet = sight.packet.clone();
        if sight.denied.as_deref() == Some(&*log_prefix(&Origin::Invalid)) {
            packet.conntrack = Conntrack::Invalid;
        }
        let (program, chain) = self.program(end, version, None);
        let outcome = self.run(&program, &chain, &packet);
        if outcome.decision == Decision::NoMatch && sight.denied.is_none() {
            return None;
        }
        let by_this = |origin: &Origin| sight.denied.as_deref() == Some(&*log_prefix(origin));
        let denying = match &outcome.deciding {
            Some(origin) if outcome.decision == Decision::Deny && by_this(origin) => Some(origin.clone()),
            // Rules or members have changed since, or the packet is not what it was: the kernel's word counts.
            _ => denials(&program).find(|origin| by_this(origin)),
        };
        let allowed = denying.is_none();
        let agreed = outcome.decision == Decision::Allow;
        let rule = denying.or(outcome.deciding.filter(|_| agreed));
        let staged = self.staged(end, version, &packet);
        let is_host = matches!(end.of, Of::Host(..));
        Some(Side { endpoint: end.name.clone(), is_host, direction: end.direction, allowed, rule, staged })
    }

    fn staged(&self, end: &End, version: IpVersion, packet: &Packet) -> Option<Staged> {
        let Of::Workload(endpoint) = &end.of else { return None };
        let judgement = Judgement::staged(endpoint, end.direction, self.replaced)?;
        let (program, chain) = self.program(end, version, Some(judgement));
        let outcome = self.run(&program, &chain, packet);
        Some(Staged { allowed: outcome.decision == Decision::Allow, rule: outcome.deciding })
    }

    fn run(&self, program: &Program, chain: &ChainId, packet: &Packet) -> Outcome {
        let members = match program.version() {
            IpVersion::V4 => self.families[0],
            IpVersion::V6 => self.families[1],
        };
        Evaluator::new(program, members).chain(chain, packet)
    }

    /// The chains of an endpoint, judged as it is or in another way; and where to begin.
    fn program(&self, end: &End, version: IpVersion, other: Option<Judgement>) -> (Program, ChainId) {
        let mut program = Program::new(version);
        match &end.of {
            Of::Workload(endpoint) => {
                self.policies(&mut program, &endpoint.tiers, end.direction, &endpoint.profiles);
                let judgement = other.unwrap_or_else(|| judgement(endpoint, end.direction, version));
                program.set_judgement(&endpoint.interface, end.direction, judgement.clone());
                (program, ChainId::Workload(Arc::new(judgement), end.direction))
            }
            Of::Host(endpoint, hook) => {
                for hook in HostHook::ALL {
                    self.policies(&mut program, hook.tiers(endpoint), end.direction, &endpoint.profiles);
                }
                let Parameters { failsafe_inbound_host_ports, failsafe_outbound_host_ports, .. } =
                    self.parameters;
                program.set_failsafe(failsafe_inbound_host_ports, failsafe_outbound_host_ports);
                program.set_host(&end.name, endpoint);
                (program, ChainId::Host(end.name.clone(), *hook, end.direction))
            }
        }
    }

    fn policies(
        &self,
        program: &mut Program,
        tiers: &[Tier],
        direction: Direction,
        profiles: &[calc::contract::ProfileId],
    ) {
        for tier in tiers {
            let policies = match direction {
                Direction::Ingress => &tier.ingress,
                Direction::Egress => &tier.egress,
            };
            for id in policies {
                if let Some(policy) = self.model.policies.get(id) {
                    program.set_policy(id, policy);
                }
            }
        }
        for id in profiles {
            if let Some(profile) = self.model.profiles.get(id) {
                program.set_profile(id, profile);
            }
        }
    }
}

/// An endpoint that a packet comes by.
struct End {
    name: Arc<str>,
    direction: Direction,
    of: Of,
}

enum Of {
    Workload(Arc<WorkloadEndpoint>),
    Host(Arc<HostEndpoint>, HostHook),
}

/// The origins of all rules that deny.
fn denials(program: &Program) -> impl Iterator<Item = Origin> {
    let rules = program.chains().values().flat_map(|chain| &chain.rules);
    rules.filter(|rule| rule.verdict == Verdict::Drop).map(|rule| rule.origin.clone())
}

/// The comments of all rules that deny.
pub(crate) fn denial_comments(model: &Model) -> BTreeSet<Arc<str>> {
    let origins = [Origin::Disabled, Origin::NoAddress, Origin::Invalid];
    let mut comments: BTreeSet<Arc<str>> = crate::nft::BASE_DENIALS.iter().map(|&why| why.into()).collect();
    comments.extend(origins.iter().map(|origin| comment(origin, "")));
    for direction in BOTH {
        comments.insert(comment(&Origin::NoProfile(direction), ""));
        for policy in model.policies.values() {
            comments.insert(comment(&Origin::EndOfTier { tier: policy.tier.clone(), direction }, ""));
        }
    }
    let policies = model.policies.values().flat_map(|policy| policy.inbound.iter().chain(&policy.outbound));
    let profiles =
        model.profiles.values().flat_map(|profile| profile.inbound.iter().chain(&profile.outbound));
    let denials = policies.chain(profiles).filter(|rule| rule.action == Action::Deny);
    comments.extend(denials.map(|rule| comment(&Origin::Rule(rule.id.clone()), &note(rule))));
    comments
}
