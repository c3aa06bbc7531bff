//! The way of a packet: which judgements it meets, in order (datapath.md 4.4 to 4.8 and section 5).

use std::sync::Arc;

use super::judge::Judge;
use api::wire::packet::{StageHook, StagePlace};

use super::{
    Decider, Explanation, Question, Ruling, Site, Sites, Stage, StageChain, Translation, network, words,
};
use crate::cluster::{Cluster, HostPlace, NodeModel, Place, WorkloadPlace};
use crate::contract::{Direction, HostEndpoint, IpVersion, ProfileId, Tier, WorkloadEndpointId};
use crate::evaluator::{Decision, Evaluator, Explained, Packet};
use crate::program::{ChainId, HostHook, Judgement, Origin, Program};

/// What is shown of a stage beside its rules.
struct Shown<'a> {
    tiers: &'a [Tier],
    profiles: &'a [ProfileId],
    /// Of the endpoint, if it is in one.
    namespace: Option<&'a str>,
}

/// A node on the way.
#[derive(Clone, Copy)]
struct At<'a> {
    node: &'a str,
    model: &'a NodeModel,
    program: &'a Program,
}

/// Judges the packet at every stage, and writes down every rule.
pub(super) fn walk(cluster: &Cluster, sites: &Sites, question: &Question) -> Explanation {
    let Question { from, to, packet } = question;
    let (walk, nat) = judged(cluster, sites, (from, to), packet, true);
    let sender = at(sites, from, IpVersion::of(packet.destination));
    let route = sender.map(|at| network::way(at.model, at.node, to, packet.destination));
    let (verdict, because) = walk.outcome();
    Explanation {
        from: from.clone(),
        to: to.clone(),
        packet: words::packet(packet),
        verdict,
        because,
        stages: walk.stages,
        route,
        nat: nat.into_iter().collect(),
        notes: walk.notes,
    }
}

/// As [`walk`], and nothing but what becomes of the packet in the end.
pub(super) fn verdict(cluster: &Cluster, sites: &Sites, ends: (&Place, &Place), packet: &Packet) -> Ruling {
    let (walk, _) = judged(cluster, sites, ends, packet, false);
    let denied = walk.stages.iter().any(|stage| stage.verdict == Ruling::Deny);
    if denied { Ruling::Deny } else { Ruling::Allow }
}

fn judged<'a>(
    cluster: &'a Cluster,
    sites: &Sites,
    (from, to): (&Place, &Place),
    packet: &Packet,
    detail: bool,
) -> (Walk<'a>, Option<Translation>) {
    let version = IpVersion::of(packet.destination);
    let mut walk = Walk {
        cluster,
        packet: packet.clone(),
        original: packet.clone(),
        detail,
        stages: Vec::new(),
        notes: Vec::new(),
        accepted_early: false,
    };
    let (sender, receiver) = (at(sites, from, version), at(sites, to, version));
    let same_node = sender.zip(receiver).is_some_and(|(a, b)| a.node == b.node);
    let mut nat = None;
    if let Some(at) = sender {
        walk.leave(at, from, to, same_node);
        if matches!((from, to), (Place::Workload(_), Place::Outside { .. })) {
            walk.service_loop(at);
        }
        if !same_node {
            nat = network::outgoing(at.model, at.node, packet.source, packet.destination);
        }
    }
    if let Some(source) = nat.as_ref().and_then(|translation| translation.source) {
        walk.packet.source = source;
    }
    if let Some(at) = receiver {
        walk.arrive(at, from, to, same_node);
    }
    (walk, nat)
}

fn at<'a>(sites: &'a Sites, place: &'a Place, version: IpVersion) -> Option<At<'a>> {
    let node = place.node()?;
    let (model, program) = sites.site(node, version)?;
    Some(At { node, model, program })
}

/// The host endpoint by which the node's traffic with others is judged at a hook. Which interface that traffic takes only
/// the node's kernel knows: one that claims an address of the node is taken to be it, then the first that names an
/// interface, then that for every interface. Also how many others name an interface, where that had to be taken.
pub(super) fn host_endpoint_at(
    model: &NodeModel,
    node: &str,
    hook: HostHook,
) -> Option<(Arc<str>, Arc<HostEndpoint>, Option<usize>)> {
    // One without policies for forwarded traffic forwards all, whatever that for every interface says.
    let has_a_say = |endpoint: &HostEndpoint| {
        matches!(hook, HostHook::Normal | HostHook::Forward) || !hook.tiers(endpoint).is_empty()
    };
    let is_any = |endpoint: &HostEndpoint| endpoint.interface.as_deref() == Some("*");
    let addresses = model.nodes.get(node);
    let claims = |endpoint: &HostEndpoint| {
        endpoint.expected_ips.iter().any(|it| addresses.is_some_and(|ours| ours.contains(it)))
    };
    let candidates = || model.hosts.iter().filter(|(_, endpoint)| has_a_say(endpoint));
    if let Some((name, endpoint)) = candidates().find(|(_, endpoint)| !is_any(endpoint) && claims(endpoint)) {
        return Some((name.clone(), endpoint.clone(), None));
    }
    let mut named = candidates().filter(|(_, endpoint)| endpoint.interface.is_some() && !is_any(endpoint));
    if let Some((name, endpoint)) = named.next() {
        return Some((name.clone(), endpoint.clone(), Some(named.count())));
    }
    let (name, endpoint) = candidates().find(|(_, endpoint)| is_any(endpoint))?;
    Some((name.clone(), endpoint.clone(), None))
}

/// The chains of a node that a packet from outside to one of its workloads meets.
pub(super) fn arrival(site: &Site, node: &str, id: &WorkloadEndpointId) -> Vec<ChainId> {
    let hooks = [HostHook::Untracked, HostHook::PreDnat, HostHook::Forward];
    let hosts = hooks.into_iter().filter_map(|hook| {
        let (name, ..) = host_endpoint_at(&site.model, node, hook)?;
        Some(ChainId::Host(name, hook, Direction::Ingress))
    });
    hosts.chain(workload_chain(&site.model, id, Direction::Ingress)).collect()
}

fn workload_chain(model: &NodeModel, id: &WorkloadEndpointId, direction: Direction) -> Option<ChainId> {
    let endpoint = model.workloads.get(id)?;
    Some(ChainId::Workload(Arc::new(Judgement::of(endpoint, direction)), direction))
}

struct Walk<'a> {
    cluster: &'a Cluster,
    /// As it is at the stage.
    packet: Packet,
    /// As it left its sender.
    original: Packet,
    /// Every rule is wanted, not just verdicts.
    detail: bool,
    stages: Vec<Stage>,
    notes: Vec<String>,
    /// An untracked or pre-DNAT policy of the node at hand has accepted it, which later policies of host endpoints cannot
    /// take back.
    accepted_early: bool,
}

impl Walk<'_> {
    /// What is judged on the sender's node, but for the receiver's own policy.
    fn leave(&mut self, at: At<'_>, from: &Place, to: &Place, same_node: bool) {
        match from {
            Place::Workload(workload) => {
                self.workload(at, workload, Direction::Egress);
                match to {
                    Place::Host(_) if same_node => self.own_host_action(at),
                    _ if same_node => {}
                    _ => self.host_endpoint(at, &[HostHook::Forward], Direction::Egress),
                }
            }
            Place::Host(_) if same_node => {}
            Place::Host(_) => {
                let hooks = [HostHook::Untracked, HostHook::Normal];
                self.host_endpoint(at, &hooks, Direction::Egress);
            }
            Place::Outside { .. } => {}
        }
    }

    /// What is judged on the receiver's node.
    fn arrive(&mut self, at: At<'_>, from: &Place, to: &Place, same_node: bool) {
        self.accepted_early = false;
        if !same_node {
            let last = if matches!(to, Place::Host(_)) { HostHook::Normal } else { HostHook::Forward };
            let hooks = [HostHook::Untracked, HostHook::PreDnat, last];
            self.host_endpoint(at, &hooks, Direction::Ingress);
        }
        match (from, to) {
            (Place::Host(host), Place::Workload(workload)) if same_node => {
                self.own_host_is_free(host, workload)
            }
            (Place::Host(_), Place::Host(_)) if same_node => {
                self.notes.push("a node talks to itself over the loopback, which nothing polices".to_owned());
            }
            (_, Place::Workload(workload)) => self.workload(at, workload, Direction::Ingress),
            _ => {}
        }
    }

    fn workload(&mut self, at: At<'_>, place: &WorkloadPlace, direction: Direction) {
        let endpoint = at.model.workloads.get(&place.id);
        let chain = workload_chain(at.model, &place.id, direction);
        let run = chain.as_ref().map_or_else(Explained::unknown, |chain| self.run(at, chain));
        let shown = Shown {
            tiers: endpoint.map_or(&[], |endpoint| &endpoint.tiers),
            profiles: endpoint.map_or(&[], |endpoint| &endpoint.profiles),
            namespace: Some(&place.namespace),
        };
        let name = || format!("pod {}/{} {direction}", place.namespace, place.name);
        self.record(at, name, StagePlace::Workload(place.interface.clone()), direction, &run, &shown);
    }

    fn run(&self, at: At<'_>, chain: &ChainId) -> Explained {
        let evaluator = Evaluator::new(at.program, &at.model.sets);
        match self.detail {
            true => evaluator.explain_chain(chain, &self.packet),
            false => Explained { outcome: evaluator.chain(chain, &self.packet), considered: Vec::new() },
        }
    }

    fn record(
        &mut self,
        at: At<'_>,
        name: impl Fn() -> String,
        place: StagePlace,
        direction: Direction,
        run: &Explained,
        shown: &Shown<'_>,
    ) {
        let verdict = Ruling::from(run.outcome.decision);
        if !self.detail {
            return self.stages.push(Stage::bare(verdict));
        }
        let At { node, model, program } = at;
        let packet = self.packet.clone();
        let judge = Judge { cluster: self.cluster, model, program, packet: &packet, direction, run };
        self.stages.push(Stage {
            node: node.to_owned(),
            at: name(),
            packet: self.translated(),
            chain: Some(StageChain { at: place, direction, packet: packet.clone() }),
            decided_by: judge.decider(),
            tiers: judge.tiers(shown.tiers),
            profiles: judge.profiles(shown.profiles),
            others: judge.others(shown.namespace, shown.tiers),
            ..Stage::bare(verdict)
        });
    }

    /// The host endpoint that stands between the node and the network, at some hooks in order.
    fn host_endpoint(&mut self, at: At<'_>, hooks: &[HostHook], direction: Direction) {
        for hook in hooks {
            if self.accepted_early {
                let text = "an untracked or pre-DNAT policy accepted it on this node: no later policy of a host endpoint is asked";
                return self.note(format!("node {}: {text}", at.node));
            }
            let Some((name, endpoint, others)) = host_endpoint_at(at.model, at.node, *hook) else { continue };
            if *hook == HostHook::Forward && hook.tiers(&endpoint).is_empty() {
                continue;
            }
            if let Some(others) = others {
                self.taken(at.node, &name, &endpoint, others);
            }
            self.host_hook(at, (&name, &endpoint), *hook, direction);
        }
    }

    fn taken(&mut self, node: &str, name: &str, endpoint: &HostEndpoint, others: usize) {
        let interface = endpoint.interface.as_deref().unwrap_or_default();
        let others = if others > 0 { format!(", and not one of {others} others") } else { String::new() };
        self.note(format!(
            "node {node}: taken to send and receive over {interface} (host endpoint {name}){others}; spec.expectedIPs with the \
             node's address would say so"
        ));
    }

    fn host_hook(
        &mut self,
        at: At<'_>,
        (name, endpoint): (&Arc<str>, &HostEndpoint),
        hook: HostHook,
        direction: Direction,
    ) {
        let run = self.run(at, &ChainId::Host(name.clone(), hook, direction));
        let shown = Shown {
            tiers: hook.tiers(endpoint),
            profiles: if hook == HostHook::Normal { &endpoint.profiles } else { &[] },
            namespace: None,
        };
        let place = StagePlace::Host { name: name.to_string(), hook: wire_hook(hook) };
        let text = || format!("host endpoint {name} {hook} {direction}");
        self.record(at, text, place, direction, &run, &shown);
        // A failsafe port is open as far as this hook is concerned; the next one asks for itself.
        let is_early = matches!(hook, HostHook::Untracked | HostHook::PreDnat);
        let is_failsafe = matches!(run.outcome.deciding, Some(Origin::Failsafe(_)));
        self.accepted_early |= is_early && !is_failsafe && run.outcome.decision == Decision::Allow;
    }

    /// What egress policy lets through to the workload's own host meets `defaultEndpointToHostAction`.
    fn own_host_action(&mut self, at: At<'_>) {
        let set = at.model.parameter("DefaultEndpointToHostAction");
        let action = set.unwrap_or("DROP").to_ascii_uppercase();
        let text = format!("FelixConfiguration, spec.defaultEndpointToHostAction ({action})");
        let field = Some("spec.defaultEndpointToHostAction".to_owned());
        self.stages.push(Stage {
            node: at.node.to_owned(),
            at: "workload to its own host".to_owned(),
            decided_by: Decider { text, field, ..Decider::default() },
            ..Stage::bare(if action == "DROP" { Ruling::Deny } else { Ruling::Allow })
        });
        if action == "RETURN" {
            self.note("RETURN leaves it to the host's other rules, which are not looked at here".to_owned());
        }
    }

    /// What is still addressed to a Service when it is forwarded has been taken by none, and goes no further.
    fn service_loop(&mut self, at: At<'_>) {
        let destination = self.packet.destination;
        let Some(network) = at.model.service_networks.iter().find(|net| net.contains(&destination)) else {
            return;
        };
        let set = at.model.parameter("ServiceLoopPrevention").unwrap_or("Drop");
        if set.eq_ignore_ascii_case("Disabled") {
            return;
        }
        let text = format!(
            "FelixConfiguration, spec.serviceLoopPrevention ({set}): {destination} is in {network}, of Services, and none took it"
        );
        let field = Some("spec.serviceLoopPrevention".to_owned());
        self.stages.push(Stage {
            node: at.node.to_owned(),
            at: "packet to a Service".to_owned(),
            decided_by: Decider { text, field, ..Decider::default() },
            ..Stage::bare(Ruling::Deny)
        });
    }

    fn own_host_is_free(&mut self, host: &HostPlace, workload: &WorkloadPlace) {
        let text = "a host always reaches its own workloads; their policy is not asked".to_owned();
        self.stages.push(Stage {
            node: host.node.clone(),
            at: format!("pod {}/{} from its own host", workload.namespace, workload.name),
            decided_by: Decider { text, ..Decider::default() },
            ..Stage::bare(Ruling::Allow)
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

fn wire_hook(hook: HostHook) -> StageHook {
    match hook {
        HostHook::Normal => StageHook::Normal,
        HostHook::Forward => StageHook::Forward,
        HostHook::Untracked => StageHook::Untracked,
        HostHook::PreDnat => StageHook::PreDnat,
    }
}

fn because(stage: &Stage) -> String {
    format!("{} on node {}: {}", stage.at, stage.node, stage.decided_by.text)
}
