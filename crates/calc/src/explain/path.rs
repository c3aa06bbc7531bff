//! The way of a packet: which judgements it meets, in order (datapath.md 4.4 to 4.8 and section 5).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::Judge;
use super::{Decider, Explanation, Question, Ruling, Stage, network, words};
use crate::cluster::{Cluster, HostPlace, NodeModel, Place, WorkloadPlace};
use crate::contract::{Direction, HostEndpoint, IpVersion};
use crate::evaluator::{Evaluator, Packet};
use crate::program::{ChainId, HostHook, Program};

/// Judges the packet at every stage.
pub(super) fn walk(
    cluster: &Cluster,
    models: &BTreeMap<String, NodeModel>,
    question: &Question,
) -> Explanation {
    let version = IpVersion::of(question.packet.destination);
    let mut walk = Walk {
        cluster,
        version,
        packet: question.packet.clone(),
        original: question.packet.clone(),
        stages: Vec::new(),
        notes: Vec::new(),
        accepted_early: false,
    };
    let model = |place: &Place| place.node().and_then(|node| models.get(node));
    let (sender, receiver) = (model(&question.from), model(&question.to));
    let same_node = sender.zip(receiver).is_some_and(|(a, b)| a.node == b.node);
    let mut nat = Vec::new();
    if let Some(model) = sender {
        walk.leave(model, &question.from, &question.to, same_node);
        if !same_node
            && let Some(translation) = network::outgoing(model, walk.packet.source, walk.packet.destination)
        {
            walk.packet.source = translation.source.unwrap_or(walk.packet.source);
            nat.push(translation);
        }
    }
    if let Some(model) = receiver {
        walk.arrive(model, &question.from, &question.to, same_node);
    }
    let route = sender.map(|model| network::way(model, &question.to, question.packet.destination));
    let (verdict, because) = walk.outcome();
    Explanation {
        from: question.from.clone(),
        to: question.to.clone(),
        packet: words::packet(&question.packet),
        verdict,
        because,
        stages: walk.stages,
        route,
        nat,
        notes: walk.notes,
    }
}

struct Walk<'a> {
    cluster: &'a Cluster,
    version: IpVersion,
    /// As it is at the stage.
    packet: Packet,
    /// As it left its sender.
    original: Packet,
    stages: Vec<Stage>,
    notes: Vec<String>,
    /// An untracked or pre-DNAT policy of the node at hand has accepted it, which later policies of host endpoints cannot
    /// take back.
    accepted_early: bool,
}

impl Walk<'_> {
    /// What is judged on the sender's node, but for the receiver's own policy.
    fn leave(&mut self, model: &NodeModel, from: &Place, to: &Place, same_node: bool) {
        let program = model.program(self.version);
        match from {
            Place::Workload(workload) => {
                self.workload(model, &program, workload, Direction::Egress);
                match to {
                    Place::Host(_) if same_node => self.own_host_action(model),
                    _ if same_node => {}
                    _ => self.host_endpoint(model, &program, &[HostHook::Forward], Direction::Egress),
                }
            }
            Place::Host(_) if same_node => {}
            Place::Host(_) => {
                let hooks = [HostHook::Untracked, HostHook::Normal];
                self.host_endpoint(model, &program, &hooks, Direction::Egress);
            }
            Place::Outside { .. } => {}
        }
    }

    /// What is judged on the receiver's node.
    fn arrive(&mut self, model: &NodeModel, from: &Place, to: &Place, same_node: bool) {
        self.accepted_early = false;
        let program = model.program(self.version);
        if !same_node {
            let last = if matches!(to, Place::Host(_)) { HostHook::Normal } else { HostHook::Forward };
            let hooks = [HostHook::Untracked, HostHook::PreDnat, last];
            self.host_endpoint(model, &program, &hooks, Direction::Ingress);
        }
        match (from, to) {
            (Place::Host(host), Place::Workload(workload)) if same_node => {
                self.own_host_is_free(host, workload)
            }
            (Place::Host(_), Place::Host(_)) if same_node => {
                self.notes.push("a node talks to itself over the loopback, which nothing polices".to_owned());
            }
            (_, Place::Workload(workload)) => self.workload(model, &program, workload, Direction::Ingress),
            _ => {}
        }
    }

    fn workload(
        &mut self,
        model: &NodeModel,
        program: &Program,
        place: &WorkloadPlace,
        direction: Direction,
    ) {
        let evaluator = Evaluator::new(program, &model.sets);
        let run = evaluator.explain_workload(&place.interface, direction, &self.packet);
        let packet = self.packet.clone();
        let judge = Judge { cluster: self.cluster, model, program, packet: &packet, direction, run: &run };
        let endpoint = model.workloads.get(&place.id);
        let tiers = endpoint.map_or(&[][..], |endpoint| &endpoint.tiers);
        let profiles = endpoint.map_or(&[][..], |endpoint| &endpoint.profiles);
        self.stages.push(Stage {
            node: model.node.to_string(),
            at: format!("pod {}/{} {direction}", place.namespace, place.name),
            packet: self.translated(),
            verdict: run.outcome.decision.into(),
            decided_by: judge.decider(),
            tiers: judge.tiers(tiers),
            profiles: judge.profiles(profiles),
            others: judge.others(Some(&place.namespace), tiers),
        });
    }

    /// The host endpoint that stands between the node and the network, at some hooks in order.
    fn host_endpoint(
        &mut self,
        model: &NodeModel,
        program: &Program,
        hooks: &[HostHook],
        direction: Direction,
    ) {
        for hook in hooks {
            let is_early = matches!(hook, HostHook::Untracked | HostHook::PreDnat);
            if self.accepted_early && !is_early {
                let text = "an untracked or pre-DNAT policy accepted it on this node: no later policy of a host endpoint is asked";
                self.notes.push(format!("node {}: {text}", model.node));
                return;
            }
            let Some((name, endpoint)) = self.endpoint_at(model, *hook) else { continue };
            let verdict = self.host_hook(model, program, (&name, &endpoint), *hook, direction);
            self.accepted_early |= is_early && verdict == Ruling::Allow;
        }
    }

    fn host_hook(
        &mut self,
        model: &NodeModel,
        program: &Program,
        (name, endpoint): (&Arc<str>, &HostEndpoint),
        hook: HostHook,
        direction: Direction,
    ) -> Ruling {
        let chain = ChainId::Host(name.clone(), hook, direction);
        let run = Evaluator::new(program, &model.sets).explain_chain(&chain, &self.packet);
        let packet = self.packet.clone();
        let judge = Judge { cluster: self.cluster, model, program, packet: &packet, direction, run: &run };
        let tiers = hook.tiers(endpoint);
        let profiles = if hook == HostHook::Normal { &endpoint.profiles[..] } else { &[] };
        let verdict = Ruling::from(run.outcome.decision);
        self.stages.push(Stage {
            node: model.node.to_string(),
            at: format!("host endpoint {name} {hook} {direction}"),
            packet: self.translated(),
            verdict,
            decided_by: judge.decider(),
            tiers: judge.tiers(tiers),
            profiles: judge.profiles(profiles),
            others: judge.others(None, tiers),
        });
        verdict
    }

    /// The host endpoint by which the node's traffic with others is judged at a hook. Which interface that traffic takes
    /// only the node's kernel knows: one that claims an address of the node is taken to be it, then the only one that
    /// names an interface, then that for every interface.
    fn endpoint_at(&mut self, model: &NodeModel, hook: HostHook) -> Option<(Arc<str>, Arc<HostEndpoint>)> {
        let has_chain =
            |endpoint: &HostEndpoint| hook == HostHook::Normal || !hook.tiers(endpoint).is_empty();
        let is_any = |endpoint: &HostEndpoint| endpoint.interface.as_deref() == Some("*");
        let addresses = model.nodes.get(&model.node);
        let claims = |endpoint: &HostEndpoint| {
            endpoint.expected_ips.iter().any(|it| addresses.is_some_and(|ours| ours.contains(it)))
        };
        let candidates = || model.hosts.iter().filter(|(_, endpoint)| has_chain(endpoint));
        let found = |(name, endpoint): (&Arc<str>, &Arc<HostEndpoint>)| (name.clone(), endpoint.clone());
        if let Some(claiming) = candidates().find(|(_, endpoint)| !is_any(endpoint) && claims(endpoint)) {
            return Some(found(claiming));
        }
        let mut named =
            candidates().filter(|(_, endpoint)| endpoint.interface.is_some() && !is_any(endpoint));
        let (first, more) = (named.next(), named.count());
        if let Some(first) = first {
            let interface = first.1.interface.clone().unwrap_or_default();
            let others = if more > 0 { format!(", and not one of {more} others") } else { String::new() };
            self.note(format!(
                "node {}: taken to send and receive over {interface} (host endpoint {}){others}; spec.expectedIPs with the \
                 node's address would say so",
                model.node, first.0
            ));
            return Some(found(first));
        }
        candidates().find(|(_, endpoint)| is_any(endpoint)).map(found)
    }

    /// What egress policy lets through to the workload's own host meets `defaultEndpointToHostAction`.
    fn own_host_action(&mut self, model: &NodeModel) {
        let action = model.parameter("DefaultEndpointToHostAction").unwrap_or("DROP").to_ascii_uppercase();
        let verdict = if action == "DROP" { Ruling::Deny } else { Ruling::Allow };
        let text = format!("FelixConfiguration, spec.defaultEndpointToHostAction ({action})");
        self.stages.push(Stage {
            node: model.node.to_string(),
            at: "workload to its own host".to_owned(),
            packet: None,
            verdict,
            decided_by: Decider {
                text,
                field: Some("spec.defaultEndpointToHostAction".to_owned()),
                ..Decider::default()
            },
            tiers: Vec::new(),
            profiles: Vec::new(),
            others: Vec::new(),
        });
        if action == "RETURN" {
            self.note("RETURN leaves it to the host's other rules, which are not looked at here".to_owned());
        }
    }

    fn own_host_is_free(&mut self, host: &HostPlace, workload: &WorkloadPlace) {
        self.stages.push(Stage {
            node: host.node.clone(),
            at: format!("pod {}/{} from its own host", workload.namespace, workload.name),
            packet: None,
            verdict: Ruling::Allow,
            decided_by: Decider {
                text: "a host always reaches its own workloads; their policy is not asked".to_owned(),
                ..Decider::default()
            },
            tiers: Vec::new(),
            profiles: Vec::new(),
            others: Vec::new(),
        });
    }

    fn translated(&self) -> Option<String> {
        (self.packet != self.original).then(|| words::packet(&self.packet))
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The first stage that denies decides, else the last one that allows.
    fn outcome(&self) -> (Ruling, String) {
        let denied = self.stages.iter().find(|stage| stage.verdict == Ruling::Deny);
        let allowed = self.stages.iter().rev().find(|stage| stage.verdict == Ruling::Allow);
        match (denied, allowed) {
            (Some(stage), _) => (Ruling::Deny, because(stage)),
            (None, Some(stage)) => (Ruling::Allow, because(stage)),
            (None, None) => (Ruling::Allow, "no policy of this cluster is on the packet's way".to_owned()),
        }
    }
}

fn because(stage: &Stage) -> String {
    format!("{} on node {}: {}", stage.at, stage.node, stage.decided_by.text)
}
