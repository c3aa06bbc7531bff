//! The managers of one family's rules: contract objects to chains, sets and what leads to them.
//!
//! Changes only mark what is to be rendered again; [`FamilyRules::render`] does so, in memory, into a [`RuleSink`]. The backend
//! behind it compares with what the kernel has, so rendering something again that comes out the same writes nothing.
//!
//! What has to be rendered again is found from what changed:
//! - a policy or profile: its own chains, whatever the number of endpoints; and the chains that walk it only when its
//!   [`Shape`](program::Shape) changed, which is what they know of it;
//! - an endpoint: two map elements, which lead to the chains of all endpoints that are judged alike ([`workloads`]);
//! - a set: just its members, unless its shape changed: then the chains that look into it.

pub(crate) mod hosts;
#[cfg(test)]
mod tests;
pub(crate) mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calc::contract::{
    Direction, IpSetId, IpSetKind, IpSetMember, IpVersion, Policy, PolicyId, ProfileId, WorkloadEndpoint,
};
use calc::evaluator::Members;
use calc::program::{self, BOTH, Chain, ChainId, Judgement, Match, Options};
use ipnet::IpNet;

use crate::backend::{Context, DscpMarks, Place, Pools, RuleSink, Stage};
use crate::config::Parameters;
use crate::ip_sets::{self, IpSet, Member};
use crate::model::Model;
use workloads::WorkloadChains;

/// Rules and sets of one family.
#[derive(Debug)]
pub(crate) struct FamilyRules {
    version: IpVersion,
    sets: BTreeMap<IpSetId, IpSet>,
    /// The shapes of `sets`.
    shapes: BTreeMap<IpSetId, ip_sets::Shape>,
    /// Those of `sets` that the calculation has not sent, with the chains that look into them.
    stand_ins: BTreeMap<IpSetId, BTreeSet<Arc<str>>>,
    policy_shapes: BTreeMap<(PolicyId, Direction), program::Shape>,
    profile_shapes: BTreeMap<(ProfileId, Direction), program::Shape>,
    host_chains: BTreeSet<Arc<str>>,
    workloads: WorkloadChains,
    dirty: Dirty,
    /// Some endpoint of the node has the family. If none has, no policy is rendered and no set is filled: what cannot come
    /// costs the kernel (and us) nothing.
    in_use: bool,
}

/// What is to be rendered again.
#[derive(Debug, Default)]
struct Dirty {
    policies: BTreeSet<PolicyId>,
    profiles: BTreeSet<ProfileId>,
    interfaces: BTreeSet<Arc<str>>,
    hosts: bool,
    pools: bool,
}

impl FamilyRules {
    pub(crate) fn new(version: IpVersion) -> Self {
        Self {
            version,
            sets: BTreeMap::new(),
            shapes: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            policy_shapes: BTreeMap::new(),
            profile_shapes: BTreeMap::new(),
            host_chains: BTreeSet::new(),
            workloads: WorkloadChains::default(),
            dirty: Dirty { hosts: true, pools: true, ..Dirty::default() },
            in_use: false,
        }
    }

    /// The same members of sets, and nothing that is said to be written.
    pub(crate) fn begun_anew(mut self, model: &Model) -> Self {
        self.sets.retain(|id, _| !self.stand_ins.contains_key(id));
        let shapes = self.sets.iter().map(|(id, set)| (id.clone(), set.shape())).collect();
        let mut anew = Self { sets: self.sets, shapes, ..Self::new(self.version) };
        anew.dirty.interfaces.extend(model.interfaces().cloned());
        anew
    }

    pub(crate) fn on_policy(&mut self, id: &PolicyId) {
        self.dirty.policies.insert(id.clone());
    }

    pub(crate) fn on_profile(&mut self, id: &ProfileId) {
        self.dirty.profiles.insert(id.clone());
    }

    pub(crate) fn on_interfaces(&mut self, interfaces: &BTreeSet<Arc<str>>) {
        self.dirty.interfaces.extend(interfaces.iter().cloned());
    }

    pub(crate) fn on_hosts(&mut self) {
        self.dirty.hosts = true;
    }

    pub(crate) fn on_pools(&mut self) {
        self.dirty.pools = true;
    }

    /// Parameters go into every chain.
    pub(crate) fn on_parameters(&mut self, model: &Model) {
        self.dirty.policies.extend(model.policies.keys().cloned());
        self.dirty.profiles.extend(model.profiles.keys().cloned());
        self.dirty.interfaces.extend(model.interfaces().cloned());
        self.workloads.mark(|_, _| true);
        self.dirty.hosts = true;
        self.dirty.pools = true;
    }

    /// The set has exactly these members.
    pub(crate) fn set_ip_set<'a>(
        &mut self,
        id: &IpSetId,
        kind: IpSetKind,
        members: impl IntoIterator<Item = &'a IpSetMember>,
        model: &Model,
        sink: &mut dyn RuleSink,
    ) {
        let mut set = IpSet::new(kind);
        set.change([], members, self.version);
        let shape = set.shape();
        self.write_set(id, &set, sink);
        self.sets.insert(id.clone(), set);
        self.stand_ins.remove(id);
        self.reshape(id, shape, model, sink);
    }

    fn write_set(&self, id: &IpSetId, set: &IpSet, sink: &mut dyn RuleSink) {
        if self.in_use {
            sink.set_set(id, set.shape(), &set.members());
        }
    }

    /// The set gains and loses members.
    pub(crate) fn change_ip_set(
        &mut self,
        id: &IpSetId,
        removed: &[IpSetMember],
        added: &[IpSetMember],
        model: &Model,
        sink: &mut dyn RuleSink,
    ) {
        let Some(set) = self.sets.get_mut(id) else { return };
        let before = set.shape();
        let delta = set.change(removed, added, self.version);
        let shape = set.shape();
        if before == shape {
            if self.in_use && !delta.is_empty() {
                sink.change_set(id, shape, &delta);
            }
            return;
        }
        if self.in_use {
            sink.set_set(id, shape, &set.members());
        }
        self.reshape(id, shape, model, sink);
    }

    pub(crate) fn remove_ip_set(&mut self, id: &IpSetId, sink: &mut dyn RuleSink) {
        if let Some(set) = self.sets.remove(id) {
            self.shapes.remove(id);
            self.stand_ins.remove(id);
            sink.remove_set(id, set.shape());
        }
    }

    /// A set of another shape is another set of the kernel; the chains that look into it have to name it.
    fn reshape(&mut self, id: &IpSetId, shape: ip_sets::Shape, model: &Model, sink: &mut dyn RuleSink) {
        let before = self.shapes.insert(id.clone(), shape);
        let Some(before) = before.filter(|before| *before != shape) else { return };
        sink.remove_set(id, before);
        let policies = model.policies.iter().filter(|(_, policy)| {
            policy.inbound.iter().chain(&policy.outbound).any(|rule| looks_into(rule, id))
        });
        self.dirty.policies.extend(policies.map(|(id, _)| id.clone()));
        let profiles = model.profiles.iter().filter(|(_, profile)| {
            profile.inbound.iter().chain(&profile.outbound).any(|rule| looks_into(rule, id))
        });
        self.dirty.profiles.extend(profiles.map(|(id, _)| id.clone()));
    }

    /// Brings the desired table up to date with the model.
    pub(crate) fn render(&mut self, model: &Model, parameters: &Parameters, sink: &mut dyn RuleSink) {
        self.find_use(model, sink);
        for id in std::mem::take(&mut self.dirty.policies) {
            self.policy(&id, model, parameters, sink);
        }
        for id in std::mem::take(&mut self.dirty.profiles) {
            self.profile(&id, model, parameters, sink);
        }
        for interface in std::mem::take(&mut self.dirty.interfaces) {
            self.interface(&interface, model, parameters, sink);
        }
        self.workload_chains(parameters, sink);
        if std::mem::take(&mut self.dirty.hosts) {
            let features = self.hosts(model, parameters, sink);
            sink.set_hooks(parameters, &features);
        }
        if std::mem::take(&mut self.dirty.pools) {
            self.pools(model, parameters, sink);
        }
        let idle: Vec<_> = self.stand_ins.extract_if(.., |_, chains| chains.is_empty()).collect();
        idle.iter().for_each(|(id, _)| self.remove_ip_set(id, sink));
    }

    /// When the first endpoint with the family comes (or the last one goes), everything is rendered (or taken away).
    fn find_use(&mut self, model: &Model, sink: &mut dyn RuleSink) {
        if self.dirty.interfaces.is_empty() && !self.dirty.hosts {
            return;
        }
        let in_use = !model.hosts.is_empty()
            || model.workloads().values().any(|endpoint| has_family(endpoint, self.version));
        if std::mem::replace(&mut self.in_use, in_use) == in_use {
            return;
        }
        self.on_parameters(model);
        for (id, set) in &self.sets {
            match in_use {
                true => self.write_set(id, set, sink),
                false => sink.remove_set(id, set.shape()),
            }
        }
    }

    fn policy(&mut self, id: &PolicyId, model: &Model, parameters: &Parameters, sink: &mut dyn RuleSink) {
        let policy = model.policies.get(id).filter(|_| self.in_use && !id.kind.is_staged());
        for direction in BOTH {
            let chain = policy.map(|policy| program::policy_chain(policy, direction, self.version));
            let name = sink.chain_name(&ChainId::Policy(id.clone(), direction));
            let place = policy.map_or(Place::FILTER, |policy| place_of(policy));
            self.shared_chain(&name, chain.as_ref(), parameters, place, sink);
            let shape = chain.as_ref().map(Chain::shape);
            if replace(&mut self.policy_shapes, (id.clone(), direction), shape) != shape {
                self.dirty_walks(model, direction, |judgement| judgement.walks_policy(id));
            }
        }
    }

    fn profile(&mut self, id: &ProfileId, model: &Model, parameters: &Parameters, sink: &mut dyn RuleSink) {
        let profile = model.profiles.get(id).filter(|_| self.in_use);
        for direction in BOTH {
            let chain = profile.map(|profile| program::profile_chain(profile, direction, self.version));
            let name = sink.chain_name(&ChainId::Profile(id.clone(), direction));
            self.shared_chain(&name, chain.as_ref(), parameters, Place::FILTER, sink);
            let shape = chain.as_ref().map(Chain::shape);
            if replace(&mut self.profile_shapes, (id.clone(), direction), shape) != shape {
                self.dirty_walks(model, direction, |judgement| judgement.walks_profile(id));
            }
        }
    }

    /// A chain that nothing jumps to (without rules) is not there.
    fn shared_chain(
        &mut self,
        name: &Arc<str>,
        chain: Option<&Chain>,
        parameters: &Parameters,
        place: Place<'_>,
        sink: &mut dyn RuleSink,
    ) {
        for chains in self.stand_ins.values_mut() {
            chains.remove(name);
        }
        match chain.filter(|chain| !chain.rules.is_empty()) {
            None => sink.remove_chain(name),
            Some(chain) => {
                self.ensure_sets(name, chain, sink);
                sink.set_chain(name, chain, &self.context(parameters, place));
            }
        }
    }

    /// A set that the calculation has not sent (yet) is empty: one missing set must not hold up the others' rules.
    /// Such a set stays as long as a chain looks into it.
    fn ensure_sets(&mut self, name: &Arc<str>, chain: &Chain, sink: &mut dyn RuleSink) {
        for condition in chain.rules.iter().flat_map(|rule| &rule.matches) {
            let (id, kind) = match condition {
                Match::IpSet { set, .. } => (set, IpSetKind::Net),
                Match::PortSet { set, .. } => (set, IpSetKind::NetPort),
                _ => continue,
            };
            if !self.sets.contains_key(id) {
                let set = IpSet::new(kind);
                self.write_set(id, &set, sink);
                self.shapes.insert(id.clone(), set.shape());
                self.sets.insert(id.clone(), set);
                self.stand_ins.insert(id.clone(), BTreeSet::new());
            }
            if let Some(chains) = self.stand_ins.get_mut(id) {
                chains.insert(name.clone());
            }
        }
    }

    /// Chains of endpoints that know of something that changed.
    fn dirty_walks(&mut self, model: &Model, direction: Direction, walks: impl Fn(&Judgement) -> bool) {
        self.workloads.mark(|judgement, of| of == direction && walks(judgement));
        self.dirty.hosts |= !model.hosts.is_empty();
    }

    /// Whose traffic is masqueraded.
    fn pools(&self, model: &Model, parameters: &Parameters, sink: &mut dyn RuleSink) {
        let nets = |nets: Vec<IpSetMember>| {
            let mut set = IpSet::new(IpSetKind::Net);
            set.change([], &nets, self.version);
            set.members()
        };
        let pools = |only_nat: bool| {
            let wanted = model.pools.iter().filter(|(_, pool)| !only_nat || pool.nat_outgoing);
            nets(wanted.map(|(cidr, _)| IpSetMember::Net(*cidr)).collect())
        };
        let sources = pools(true);
        let hosts = model.nodes.values().flatten().map(|address| IpSetMember::Net((*address).into()));
        let pools = (!sources.is_empty()).then(|| Pools {
            sources,
            pools: pools(false),
            hosts: nets(hosts.collect()),
        });
        sink.set_masquerading(parameters, pools.as_ref());
        self.dscp(model, sink);
    }

    /// Whose traffic is marked. With none, nothing is said of pools and hosts.
    fn dscp(&self, model: &Model, sink: &mut dyn RuleSink) {
        let mut marks = DscpMarks::default();
        let endpoints = model.interfaces().filter_map(|interface| model.on_interface(interface));
        for (_, endpoint) in endpoints {
            let Some(value) = endpoint.qos.dscp else { continue };
            let own = match self.version {
                IpVersion::V4 => &endpoint.ipv4_nets,
                IpVersion::V6 => &endpoint.ipv6_nets,
            };
            if !own.is_empty() {
                marks
                    .sources
                    .entry(value)
                    .or_default()
                    .extend(own.iter().map(|net| Member { net: *net, port: None }));
            }
        }
        if !marks.sources.is_empty() {
            let hosts = model.nodes.values().flatten().map(|address| IpNet::from(*address));
            let networks: Vec<_> = model.pools.keys().copied().chain(hosts).map(IpSetMember::Net).collect();
            let mut set = IpSet::new(IpSetKind::Net);
            set.change([], &networks, self.version);
            marks.inside = set.members();
        }
        sink.set_dscp(&marks);
    }

    fn context<'a>(&'a self, parameters: &'a Parameters, place: Place<'a>) -> Context<'a> {
        Context { version: self.version, shapes: &self.shapes, parameters, place }
    }
}

fn place_of(policy: &Policy) -> Place<'_> {
    let stages: &[Stage] = match policy {
        Policy { untracked: true, .. } => &[Stage::Untracked],
        Policy { pre_dnat: true, .. } => &[Stage::PreDnat],
        _ => &[Stage::Filter],
    };
    Place { stages, is_final: stages[0].is_early(), tier: &policy.tier }
}

fn options(parameters: &Parameters) -> Options {
    Options { drop_invalid: !parameters.disable_conntrack_invalid_check }
}

/// Whether an endpoint has an address (or may send from one) of a family.
fn has_family(endpoint: &WorkloadEndpoint, version: IpVersion) -> bool {
    let own = match version {
        IpVersion::V4 => &endpoint.ipv4_nets,
        IpVersion::V6 => &endpoint.ipv6_nets,
    };
    !own.is_empty()
        || endpoint.allow_spoofed_source_prefixes.iter().any(|net| IpVersion::of(net.addr()) == version)
}

/// Puts in or takes out; the answer is what was there.
fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn looks_into(rule: &calc::contract::Rule, id: &IpSetId) -> bool {
    [&rule.source, &rule.destination].iter().any(|entity| {
        let lists = [
            &entity.ip_sets,
            &entity.not_ip_sets,
            &entity.named_port_sets,
            &entity.not_named_port_sets,
            &entity.ip_port_sets,
        ];
        lists.iter().any(|list| list.contains(id))
    })
}

impl Members for FamilyRules {
    fn contains(&self, id: &IpSetId, address: IpAddr) -> bool {
        self.sets.get(id).is_some_and(|set| set.holds(address, None))
    }

    fn contains_port(&self, id: &IpSetId, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.sets.get(id).is_some_and(|set| set.holds(address, Some((protocol, port))))
    }
}

/// The chains that have been rendered, for those that walk them.
struct Known<'a>(&'a FamilyRules);

impl program::Shapes for Known<'_> {
    fn policy(&self, id: &PolicyId, direction: Direction) -> Option<program::Shape> {
        self.0.policy_shapes.get(&(id.clone(), direction)).copied()
    }

    fn profile(&self, id: &ProfileId, direction: Direction) -> Option<program::Shape> {
        self.0.profile_shapes.get(&(id.clone(), direction)).copied()
    }
}
