//! Which chain judges a workload's packets. Workloads that are judged alike share one: a further pod of a known kind is two map
//! elements, in the kernel as here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calc::contract::{Direction, IpVersion, WorkloadEndpoint};
use calc::program::{self, BOTH, ChainId, Judgement};

use super::{FamilyRules, Known, has_family, options, replace};
use crate::backend::{Place, RuleSink};
use crate::config::Parameters;
use crate::model::Model;

/// The chains of workloads and who uses them.
#[derive(Debug, Default)]
pub(super) struct WorkloadChains {
    /// By interface and direction.
    placed: BTreeMap<(Arc<str>, Direction), Judged>,
    used: BTreeMap<Judged, Use>,
    /// Where a chain with the limits of one workload stands before the one that judges it.
    limited: BTreeSet<(Arc<str>, Direction)>,
    /// To be rendered again, or taken away where nobody uses them any more.
    dirty: BTreeSet<Judged>,
}

/// What a chain is of.
type Judged = (Arc<Judgement>, Direction);

fn name_of((judgement, direction): &Judged, sink: &dyn RuleSink) -> Arc<str> {
    sink.chain_name(&ChainId::Workload(judgement.clone(), *direction))
}

#[derive(Debug)]
struct Use {
    name: Arc<str>,
    interfaces: usize,
}

impl WorkloadChains {
    /// Every chain, or those that walk something: what they know of it has changed.
    pub(super) fn mark(&mut self, walks: impl Fn(&Judgement, Direction) -> bool) {
        let wanted = self.used.keys().filter(|(judgement, direction)| walks(judgement, *direction));
        self.dirty.extend(wanted.cloned());
    }

    /// An interface's packets go to another chain, or to none any more. Gives the chain's name, if that is news.
    fn place(
        &mut self,
        place: (Arc<str>, Direction),
        chain: Option<Judged>,
        sink: &dyn RuleSink,
    ) -> Option<Option<Arc<str>>> {
        if self.placed.get(&place) == chain.as_ref() {
            return None;
        }
        let entered = chain.map(|chain| self.enter(chain, sink));
        let (chain, name) = entered.unzip();
        if let Some(left) = replace(&mut self.placed, place, chain) {
            self.leave(left);
        }
        Some(name)
    }

    /// One interface more uses a chain; gives the identity that all its users share, and its name.
    fn enter(&mut self, chain: Judged, sink: &dyn RuleSink) -> (Judged, Arc<str>) {
        match self.used.entry(chain) {
            Entry::Occupied(mut known) => {
                known.get_mut().interfaces += 1;
                (known.key().clone(), known.get().name.clone())
            }
            Entry::Vacant(new) => {
                let (chain, name) = (new.key().clone(), name_of(new.key(), sink));
                new.insert(Use { name: name.clone(), interfaces: 1 });
                self.dirty.insert(chain.clone());
                (chain, name)
            }
        }
    }

    /// The chain that judges an interface's packets.
    fn name_at(&self, place: &(Arc<str>, Direction)) -> Option<&Arc<str>> {
        self.placed.get(place).and_then(|chain| self.used.get(chain)).map(|chain| &chain.name)
    }

    fn leave(&mut self, chain: Judged) {
        let Some(known) = self.used.get_mut(&chain) else { return };
        known.interfaces -= 1;
        if known.interfaces == 0 {
            self.used.remove(&chain);
            self.dirty.insert(chain);
        }
    }
}

impl FamilyRules {
    /// Leads an interface's packets to the chains that judge its endpoint, past its limits if it has any.
    pub(super) fn interface(
        &mut self,
        interface: &Arc<str>,
        model: &Model,
        parameters: &Parameters,
        sink: &mut dyn RuleSink,
    ) {
        let endpoint = model.on_interface(interface).map(|(_, endpoint)| endpoint);
        for direction in BOTH {
            let judged = |endpoint: &WorkloadEndpoint| judgement(endpoint, direction, self.version).into();
            let chain: Option<Judged> = endpoint.map(|endpoint| (judged(endpoint), direction));
            let limits = endpoint.zip(chain.as_ref()).and_then(|(endpoint, (judgement, _))| {
                let judged = ChainId::Workload(judgement.clone(), direction);
                program::limits_chain(endpoint.qos.limits(direction), direction, judged)
            });
            let place = (interface.clone(), direction);
            let news = self.workloads.place(place.clone(), chain, sink);
            let id = ChainId::Limits(interface.clone(), direction);
            if let Some(limits) = limits {
                let name = sink.chain_name(&id);
                sink.set_chain(&name, &limits, &self.context(parameters, Place::FILTER));
                sink.set_workload(direction, interface, Some(&name));
                self.workloads.limited.insert(place);
            } else if self.workloads.limited.remove(&place) {
                sink.set_workload(direction, interface, self.workloads.name_at(&place));
                sink.remove_chain(&sink.chain_name(&id));
            } else if let Some(news) = news {
                sink.set_workload(direction, interface, news.as_ref());
            }
        }
    }

    /// Renders the chains that are new or know of something that changed.
    pub(super) fn workload_chains(&mut self, parameters: &Parameters, sink: &mut dyn RuleSink) {
        for judged in std::mem::take(&mut self.workloads.dirty) {
            let Some(known) = self.workloads.used.get(&judged) else {
                sink.remove_chain(&name_of(&judged, sink));
                continue;
            };
            let (judgement, direction) = judged;
            let chain = program::workload_chain(&judgement, direction, options(parameters), &Known(self));
            sink.set_chain(&known.name, &chain, &self.context(parameters, Place::FILTER));
        }
    }
}

/// How a direction of an endpoint is judged in a family.
pub(crate) fn judgement(endpoint: &WorkloadEndpoint, direction: Direction, version: IpVersion) -> Judgement {
    match has_family(endpoint, version) {
        true => Judgement::of(endpoint, direction),
        false => Judgement::NoAddress,
    }
}
