//! The reference evaluator: runs a [`Program`] on one packet.
//!
//! It is the meaning of the program. The kernel is compared with it packet by packet. Asked to, it also writes down every
//! rule that it came by and the conditions that did not hold ([`Explained`]), which is what [`crate::explain`] shows: the
//! verdict and its explanation come from the same walk.

mod packet;
mod sets;
#[cfg(test)]
mod tests;

pub use packet::Packet;
pub use sets::{IpSets, Members};

use crate::contract::Direction;
use crate::program::{ChainId, HostHook, Match, Origin, Program, Rule, Verdict};

/// What becomes of a packet on one side of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This side lets it through.
    Allow,
    /// It is dropped.
    Deny,
    /// The chain leaves it to what comes after (only chains of host endpoints do).
    NoMatch,
}

/// A rule that matched on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The chain that the rule stands in.
    pub chain: ChainId,
    /// Why the rule is there.
    pub origin: Origin,
    /// What it did.
    pub verdict: Verdict,
}

/// A decision, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The decision.
    pub decision: Decision,
    /// The rule that decided; none for [`Decision::NoMatch`].
    pub deciding: Option<Origin>,
    /// Every rule that matched, in order; the last one decided.
    pub trace: Vec<Step>,
}

/// A rule that the packet came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The chain that the rule stands in.
    pub chain: ChainId,
    /// Its place in the chain, from 0.
    pub index: usize,
    /// Its conditions that did not hold; none: it matched.
    pub failed: Vec<Match>,
}

/// An outcome, and every rule on the way to it, whether it matched or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What becomes of the packet.
    pub outcome: Outcome,
    /// In the order in which the packet came by.
    pub considered: Vec<Considered>,
}

impl Explained {
    /// What becomes of the packets of an interface that has no program: they are dropped.
    pub fn unknown() -> Self {
        let outcome = Outcome { decision: Decision::Deny, deciding: None, trace: Vec::new() };
        Self { outcome, considered: Vec::new() }
    }
}

/// Runs packets through a program whose sets are resolved.
#[derive(Debug, Clone, Copy)]
pub struct Evaluator<'a> {
    program: &'a Program,
    sets: &'a dyn Members,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of a program.
    pub fn new(program: &'a Program, sets: &'a dyn Members) -> Self {
        Self { program, sets }
    }

    /// One side of a packet of a workload. An interface that has no program drops.
    pub fn workload(&self, interface: &str, direction: Direction, packet: &Packet) -> Outcome {
        let mut run = self.start(packet);
        let chain = self.program.workload(interface, direction);
        let decision = chain.map_or(Decision::Deny, |chain| run.enter(chain));
        run.finish(decision)
    }

    /// One hook of a host endpoint. A hook without chain leaves the packet to what comes after.
    pub fn host(&self, name: &str, hook: HostHook, direction: Direction, packet: &Packet) -> Outcome {
        self.chain(&ChainId::Host(name.into(), hook, direction), packet)
    }

    /// A chain by itself.
    pub fn chain(&self, chain: &ChainId, packet: &Packet) -> Outcome {
        let mut run = self.start(packet);
        let decision = run.enter(chain);
        run.finish(decision)
    }

    /// As [`Evaluator::workload`], with every rule that was considered.
    pub fn explain_workload(&self, interface: &str, direction: Direction, packet: &Packet) -> Explained {
        let mut run = Run { considered: Some(Vec::new()), ..self.start(packet) };
        let chain = self.program.workload(interface, direction);
        let decision = chain.map_or(Decision::Deny, |chain| run.enter(chain));
        run.explain(decision)
    }

    /// As [`Evaluator::chain`], with every rule that was considered.
    pub fn explain_chain(&self, chain: &ChainId, packet: &Packet) -> Explained {
        let mut run = Run { considered: Some(Vec::new()), ..self.start(packet) };
        let decision = run.enter(chain);
        run.explain(decision)
    }

    /// Whether a condition holds for a packet, outside of any walk: the pass flag is not set.
    pub fn holds(&self, condition: &Match, packet: &Packet) -> bool {
        self.start(packet).holds(condition)
    }

    fn start<'b>(&'b self, packet: &'b Packet) -> Run<'b> {
        let (program, sets) = (self.program, self.sets);
        Run { program, sets, packet, passed: false, trace: Vec::new(), considered: None }
    }
}

enum Flow {
    Decided(Decision),
    Return,
}

struct Run<'a> {
    program: &'a Program,
    sets: &'a dyn Members,
    packet: &'a Packet,
    passed: bool,
    trace: Vec<Step>,
    /// Where every rule is written down, if anyone wants to know.
    considered: Option<Vec<Considered>>,
}

impl Run<'_> {
    fn enter(&mut self, id: &ChainId) -> Decision {
        let program = self.program;
        match (program.chain(id), id) {
            (Some(chain), _) => match self.rules(id, &chain.rules) {
                Flow::Decided(decision) => decision,
                Flow::Return => Decision::NoMatch,
            },
            (None, ChainId::Host(..)) => Decision::NoMatch,
            (None, _) => Decision::Deny,
        }
    }

    fn rules(&mut self, chain: &ChainId, rules: &[Rule]) -> Flow {
        for (index, rule) in rules.iter().enumerate() {
            self.consider(chain, index, rule);
            if !rule.matches.iter().all(|condition| self.holds(condition)) {
                continue;
            }
            self.trace.push(Step {
                chain: chain.clone(),
                origin: rule.origin.clone(),
                verdict: rule.verdict.clone(),
            });
            if let Some(flow) = self.act(&rule.verdict) {
                return flow;
            }
        }
        Flow::Return
    }

    fn consider(&mut self, chain: &ChainId, index: usize, rule: &Rule) {
        let Some(mut considered) = self.considered.take() else { return };
        let failed = rule.matches.iter().filter(|condition| !self.holds(condition)).cloned().collect();
        considered.push(Considered { chain: chain.clone(), index, failed });
        self.considered = Some(considered);
    }

    /// `None` to go on with the next rule.
    fn act(&mut self, verdict: &Verdict) -> Option<Flow> {
        match verdict {
            Verdict::Accept | Verdict::AcceptUntracked => Some(Flow::Decided(Decision::Allow)),
            Verdict::Drop | Verdict::Discard | Verdict::Reset => Some(Flow::Decided(Decision::Deny)),
            Verdict::Log => None,
            Verdict::Pass => {
                self.passed = true;
                Some(Flow::Return)
            }
            Verdict::ClearPass => {
                self.passed = false;
                None
            }
            Verdict::Jump(id) => {
                let program = self.program;
                let rules = program.chain(id).map_or(&[][..], |chain| &chain.rules);
                match self.rules(id, rules) {
                    Flow::Return => None,
                    decided => Some(decided),
                }
            }
        }
    }

    fn holds(&self, condition: &Match) -> bool {
        let packet = self.packet;
        match condition {
            Match::Conntrack(states) => states.contains(&packet.conntrack),
            Match::Reply => packet.is_reply,
            Match::OverRate(_) | Match::OverConnections(_) => false,
            Match::Passed(wanted) => self.passed == *wanted,
            Match::Protocol { protocols, negated } => protocols.contains(&packet.protocol) != *negated,
            Match::Icmp { icmp, negated } => {
                packet.is_icmp(self.program.version()) && packet.icmp_is(icmp) != *negated
            }
            Match::Net { side, nets, negated } => {
                let address = packet.address(*side);
                nets.iter().any(|net| net.contains(&address)) != *negated
            }
            Match::Ports { side, ranges, negated } => packet.port(*side).is_some_and(|port| {
                ranges.iter().any(|range| (range.min..=range.max).contains(&port)) != *negated
            }),
            Match::IpSet { side, set, negated } => self.sets.contains(set, packet.address(*side)) != *negated,
            Match::PortSet { side, set, negated } => {
                let found = packet.port(*side).is_some_and(|port| {
                    self.sets.contains_port(set, packet.address(*side), packet.protocol, port)
                });
                found != *negated
            }
        }
    }

    fn explain(mut self, decision: Decision) -> Explained {
        let considered = self.considered.take().unwrap_or_default();
        Explained { outcome: self.finish(decision), considered }
    }

    fn finish(self, decision: Decision) -> Outcome {
        let deciding = match decision {
            Decision::NoMatch => None,
            Decision::Allow | Decision::Deny => self.trace.last().map(|step| step.origin.clone()),
        };
        Outcome { decision, deciding, trace: self.trace }
    }
}
