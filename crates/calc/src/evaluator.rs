//! The reference evaluator: runs a [`Program`] on one packet.
//!
//! It is the meaning of the program. The kernel is compared with it packet by packet, and `explain` shows its trace.

mod packet;
mod sets;
#[cfg(test)]
mod tests;

pub use packet::Packet;
pub use sets::IpSets;

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

/// Runs packets through a program whose sets are resolved.
#[derive(Debug, Clone, Copy)]
pub struct Evaluator<'a> {
    program: &'a Program,
    sets: &'a IpSets,
}

impl<'a> Evaluator<'a> {
    /// An evaluator of a program.
    pub fn new(program: &'a Program, sets: &'a IpSets) -> Self {
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

    fn start(&self, packet: &'a Packet) -> Run<'a> {
        Run { program: self.program, sets: self.sets, packet, passed: false, trace: Vec::new() }
    }
}

enum Flow {
    Decided(Decision),
    Return,
}

struct Run<'a> {
    program: &'a Program,
    sets: &'a IpSets,
    packet: &'a Packet,
    passed: bool,
    trace: Vec<Step>,
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
        for rule in rules {
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

    /// `None` to go on with the next rule.
    fn act(&mut self, verdict: &Verdict) -> Option<Flow> {
        match verdict {
            Verdict::Accept | Verdict::AcceptUntracked => Some(Flow::Decided(Decision::Allow)),
            Verdict::Drop => Some(Flow::Decided(Decision::Deny)),
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

    fn finish(self, decision: Decision) -> Outcome {
        let deciding = match decision {
            Decision::NoMatch => None,
            Decision::Allow | Decision::Deny => self.trace.last().map(|step| step.origin.clone()),
        };
        Outcome { decision, deciding, trace: self.trace }
    }
}
