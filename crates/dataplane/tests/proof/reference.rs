//! What has to become of a packet: the way over the host, put together from what the evaluator says of each chain
//! (datapath.md 4.4 to 4.8), without looking at how the dataplane does it.

use std::sync::Arc;

use calc::cluster::NodeModel;
use calc::contract::{Direction, HostEndpoint, IpVersion, WorkloadEndpoint};
use calc::evaluator::{Decision, Evaluator, Packet};
use calc::program::{HostHook, Origin, Program};
use testkit::clusters::{HOST_ADDRESSES, UPLINK};
use testkit::objects::NODE;

use super::stage::{Probe, Spot, Stage, interface};

/// A node's desired state, with the programs of both families.
pub(crate) struct Reference {
    model: NodeModel,
    programs: [Program; 2],
}

impl Reference {
    pub(crate) fn new(stage: &Stage) -> Self {
        let model = stage.cluster().node_model(NODE);
        let programs = [IpVersion::V4, IpVersion::V6].map(|version| model.program(version));
        Self { model, programs }
    }

    /// Whether the packet arrives.
    pub(crate) fn allows(&self, probe: &Probe) -> bool {
        let Probe { from, to, packet } = probe;
        match (from, to) {
            (Spot::Workload(from), Spot::Host) => {
                self.workload(*from, Direction::Egress, packet) && self.host_takes_workloads()
            }
            (Spot::Workload(from), Spot::Outside) => {
                self.workload(*from, Direction::Egress, packet)
                    && self.uplink(&[HostHook::Forward], Direction::Egress, packet)
            }
            (Spot::Workload(from), Spot::Workload(to)) => {
                self.workload(*from, Direction::Egress, packet)
                    && self.workload(*to, Direction::Ingress, packet)
            }
            (Spot::Outside, Spot::Workload(to)) => {
                let hooks = [HostHook::Untracked, HostHook::PreDnat, HostHook::Forward];
                self.uplink(&hooks, Direction::Ingress, packet)
                    && self.workload(*to, Direction::Ingress, packet)
            }
            (Spot::Outside, Spot::Host) => {
                let hooks = [HostHook::Untracked, HostHook::PreDnat, HostHook::Normal];
                self.uplink(&hooks, Direction::Ingress, packet)
            }
            (Spot::Host, Spot::Outside) => {
                self.uplink(&[HostHook::Untracked, HostHook::Normal], Direction::Egress, packet)
            }
            // A host always reaches its own workloads.
            (Spot::Host, Spot::Workload(_)) => true,
            (Spot::Host, Spot::Host) | (Spot::Outside, Spot::Outside) => {
                panic!("not over the host: {probe:?}")
            }
        }
    }

    fn evaluator(&self, packet: &Packet) -> Evaluator<'_> {
        Evaluator::new(&self.programs[usize::from(packet.source.is_ipv6())], &self.model.sets)
    }

    /// Nothing goes to an address that the workload does not have, and what comes from one is spoofed.
    fn workload(&self, number: usize, direction: Direction, packet: &Packet) -> bool {
        let own = match direction {
            Direction::Ingress => packet.destination,
            Direction::Egress => packet.source,
        };
        let is_ours = |endpoint: &WorkloadEndpoint| {
            let mut nets = endpoint.ipv4_nets.iter().chain(&endpoint.ipv6_nets);
            *endpoint.interface == *interface(number) && nets.any(|net| net.addr() == own)
        };
        if !self.model.workloads.values().any(|endpoint| is_ours(endpoint)) {
            return false;
        }
        self.evaluator(packet).workload(&interface(number), direction, packet).decision == Decision::Allow
    }

    fn host_takes_workloads(&self) -> bool {
        !self.model.parameter("DefaultEndpointToHostAction").unwrap_or("DROP").eq_ignore_ascii_case("DROP")
    }

    /// The host endpoint of the uplink at these hooks, one after the other. What one of the early ones accepts, no later one
    /// denies, but for a failsafe port, which each hook opens for itself.
    fn uplink(&self, hooks: &[HostHook], direction: Direction, packet: &Packet) -> bool {
        for hook in hooks {
            let Some(name) = self.uplinks_endpoint(*hook) else { continue };
            let outcome = self.evaluator(packet).host(name, *hook, direction, packet);
            let is_failsafe = matches!(outcome.deciding, Some(Origin::Failsafe(_)));
            match outcome.decision {
                Decision::Deny => return false,
                Decision::Allow if is_early(*hook) && !is_failsafe => return true,
                Decision::Allow | Decision::NoMatch => {}
            }
        }
        true
    }

    /// The one that names the uplink or claims its address, else the one for every interface. One without policies before
    /// tracking and NAT leaves those to that one.
    fn uplinks_endpoint(&self, hook: HostHook) -> Option<&Arc<str>> {
        let is_named = |endpoint: &HostEndpoint| match endpoint.interface.as_deref() {
            Some(name) => name == UPLINK,
            None => {
                HOST_ADDRESSES.iter().any(|own| endpoint.expected_ips.iter().any(|it| it.to_string() == *own))
            }
        };
        let has_a_say = |endpoint: &HostEndpoint| {
            matches!(hook, HostHook::Normal | HostHook::Forward) || !hook.tiers(endpoint).is_empty()
        };
        let hosts = || self.model.hosts.iter().filter(|(_, endpoint)| has_a_say(endpoint));
        let named = hosts().find(|(_, endpoint)| is_named(endpoint));
        let any = || hosts().find(|(_, endpoint)| endpoint.interface.as_deref() == Some("*"));
        named.or_else(any).map(|(name, _)| name)
    }
}

/// Before connection tracking, or before NAT.
fn is_early(hook: HostHook) -> bool {
    matches!(hook, HostHook::Untracked | HostHook::PreDnat)
}
