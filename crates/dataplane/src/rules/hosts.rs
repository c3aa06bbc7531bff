//! Chains of host endpoints, and which hooks they need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calc::contract::{Direction, HostEndpoint};
use calc::program::{self, BOTH, ChainId, HostHook};

use super::{FamilyRules, Known, options};
use crate::backend::{Features, Place, RuleSink, Stage};
use crate::config::Parameters;
use crate::model::Model;

impl FamilyRules {
    /// Renders all host endpoints: there are few, and all of them share the failsafe ports.
    pub(super) fn hosts(
        &mut self,
        model: &Model,
        parameters: &Parameters,
        sink: &mut dyn RuleSink,
    ) -> Features {
        let placed = place(model);
        let mut chains = BTreeSet::new();
        let mut features = Features {
            spoofing: spoofing(model),
            service_networks: model.service_networks.clone(),
            ..Features::default()
        };
        if !placed.is_empty() {
            self.failsafe(parameters, &mut chains, sink);
        }
        for hook in HostHook::ALL {
            for direction in BOTH {
                self.host_hook(hook, direction, &placed, parameters, (&mut chains, &mut features), sink);
            }
        }
        for gone in self.host_chains.difference(&chains) {
            sink.remove_chain(gone);
        }
        self.host_chains = chains;
        features
    }

    fn failsafe(&self, parameters: &Parameters, chains: &mut BTreeSet<Arc<str>>, sink: &mut dyn RuleSink) {
        let (inbound, outbound) =
            (&parameters.failsafe_inbound_host_ports, &parameters.failsafe_outbound_host_ports);
        let both = [(Direction::Ingress, inbound, outbound), (Direction::Egress, outbound, inbound)];
        for (direction, own, opposite) in both {
            let rendered = [
                (
                    ChainId::Failsafe(direction),
                    program::failsafe_chain(own, direction, self.version),
                    &[Stage::PreDnat, Stage::Filter][..],
                ),
                (
                    ChainId::UntrackedFailsafe(direction),
                    program::untracked_failsafe_chain(own, opposite, direction, self.version),
                    &[Stage::Untracked],
                ),
            ];
            for (id, chain, stages) in rendered {
                let name = sink.chain_name(&id);
                // A later stage judges by its own failsafe ports.
                let place = Place { stages, is_final: false, tier: "" };
                sink.set_chain(&name, &chain, &self.context(parameters, place));
                chains.insert(name);
            }
        }
    }

    fn host_hook(
        &self,
        hook: HostHook,
        direction: Direction,
        placed: &BTreeMap<Arc<str>, (Arc<str>, Arc<HostEndpoint>)>,
        parameters: &Parameters,
        (chains, features): (&mut BTreeSet<Arc<str>>, &mut Features),
        sink: &mut dyn RuleSink,
    ) {
        let mut entries = BTreeMap::new();
        // What an endpoint of its own forwards is not for the one for every interface to judge.
        let for_any = placed.get("*").filter(|_| hook == HostHook::Forward);
        let shields = for_any.is_some_and(|(_, endpoint)| needs_chain(hook, direction, endpoint));
        for (interface, (name, endpoint)) in placed {
            if !needs_chain(hook, direction, endpoint) && !shields {
                continue;
            }
            let id = ChainId::Host(name.clone(), hook, direction);
            let chain = program::host_chain(endpoint, hook, direction, options(parameters), &Known(self));
            let stage = Stage::of(hook);
            let place = Place { stages: &[stage], is_final: stage.is_early(), tier: "" };
            let chain_name = sink.chain_name(&id);
            sink.set_chain(&chain_name, &chain, &self.context(parameters, place));
            chains.insert(chain_name.clone());
            if &**interface == "*" {
                features.any_host.insert((hook, direction), chain_name);
            } else {
                entries.insert(interface.clone(), chain_name);
            }
        }
        if !entries.is_empty() || features.any_host.contains_key(&(hook, direction)) {
            features.host_hooks.insert((hook, direction));
            sink.set_hosts(hook, direction, &entries);
        }
    }
}

/// Which hooks can matter for an endpoint. Pre-DNAT policy is for what comes in only.
fn needs_chain(hook: HostHook, direction: Direction, endpoint: &HostEndpoint) -> bool {
    match hook {
        HostHook::Normal => true,
        HostHook::PreDnat if direction == Direction::Egress => false,
        HostHook::Forward | HostHook::Untracked | HostHook::PreDnat => !hook.tiers(endpoint).is_empty(),
    }
}

/// The endpoint of each interface: by name, else by an address of the interface; the first by name where several claim it.
pub(crate) fn place(model: &Model) -> BTreeMap<Arc<str>, (Arc<str>, Arc<HostEndpoint>)> {
    let mut placed = BTreeMap::new();
    for (name, endpoint) in &model.hosts {
        let interfaces = match &endpoint.interface {
            Some(interface) => vec![interface.clone()],
            None => holders(model, &endpoint.expected_ips),
        };
        for interface in interfaces {
            placed.entry(interface).or_insert_with(|| (name.clone(), endpoint.clone()));
        }
    }
    placed
}

fn holders(model: &Model, expected: &[IpAddr]) -> Vec<Arc<str>> {
    let holds = |addresses: &BTreeSet<IpAddr>| expected.iter().any(|address| addresses.contains(address));
    model.addresses.iter().filter(|(_, addresses)| holds(addresses)).map(|(name, _)| name.clone()).collect()
}

fn spoofing(model: &Model) -> BTreeSet<(Arc<str>, ipnet::IpNet)> {
    let endpoints = model.interfaces().filter_map(|interface| model.on_interface(interface));
    endpoints
        .flat_map(|(_, endpoint)| {
            let prefixes = &endpoint.allow_spoofed_source_prefixes;
            prefixes.iter().map(|net| (endpoint.interface.clone(), *net))
        })
        .collect()
}
