//! The managers of one family's table: contract objects to chains, sets and verdict maps.
//!
//! Changes only mark what is to be rendered again; [`FamilyRules::render`] does so, in memory, into a [`DesiredTable`]. The reconciler
//! below it compares with what the kernel has, so rendering something again that comes out the same writes nothing.
//!
//! What has to be rendered again is found from what changed:
//! - a policy or profile: its own chains, whatever the number of endpoints; and the chains that walk it only when its
//!   [`Shape`](program::Shape) changed, which is what they know of it;
//! - an endpoint: two map elements, which lead to the chains of all endpoints that are judged alike ([`workloads`]);
//! - a set: just its members, unless its shape changed: then the chains that look into it.

mod hosts;
#[cfg(test)]
mod tests;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calc::contract::{
    Direction, IpSetId, IpSetKind, IpSetMember, IpVersion, PolicyId, ProfileId, WorkloadEndpoint,
};
use calc::program::{self, BOTH, Chain, ChainId, Judgement, Match, Options};
use kernel::nft::{BaseChain, ChainType, Hook, Policy, Rule, Verdict, priority};

use crate::config::{DenyAction, Parameters};
use crate::ip_sets::{self, IpSet};
use crate::model::Model;
use crate::nft::{self, BaseRules, Context, Masquerading, base_chains, chain_name, map};
use crate::table::DesiredTable;
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
    base: BTreeSet<&'static str>,
    host_chains: BTreeSet<Arc<str>>,
    workloads: WorkloadChains,
    dirty: Dirty,
    /// The verdict maps of workloads are there.
    maps: bool,
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
            base: BTreeSet::new(),
            host_chains: BTreeSet::new(),
            workloads: WorkloadChains::default(),
            dirty: Dirty { hosts: true, pools: true, ..Dirty::default() },
            maps: false,
            in_use: false,
        }
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
        table: &mut impl DesiredTable,
    ) {
        let mut set = IpSet::new(kind);
        set.change([], members, self.version);
        let shape = set.shape();
        self.write_set(id, &set, table);
        self.sets.insert(id.clone(), set);
        self.stand_ins.remove(id);
        self.reshape(id, shape, model, table);
    }

    fn write_set(&self, id: &IpSetId, set: &IpSet, table: &mut impl DesiredTable) {
        if self.in_use {
            let spec = nft::set_spec(set.shape(), self.version);
            table.set_set(&self.set_name(id, set), spec, nft::set_members(&set.members()));
        }
    }

    /// The set gains and loses members.
    pub(crate) fn change_ip_set(
        &mut self,
        id: &IpSetId,
        removed: &[IpSetMember],
        added: &[IpSetMember],
        model: &Model,
        table: &mut impl DesiredTable,
    ) {
        let Some(set) = self.sets.get_mut(id) else { return };
        let before = set.shape();
        let delta = set.change(removed, added, self.version);
        let shape = set.shape();
        let name = ip_sets::kernel_name(id, shape, self.version);
        if before == shape {
            if self.in_use && !delta.is_empty() {
                table.change_set(&name, nft::set_members(&delta.removed), nft::set_members(&delta.added));
            }
            return;
        }
        if self.in_use {
            table.set_set(&name, nft::set_spec(shape, self.version), nft::set_members(&set.members()));
        }
        self.reshape(id, shape, model, table);
    }

    pub(crate) fn remove_ip_set(&mut self, id: &IpSetId, table: &mut impl DesiredTable) {
        if let Some(set) = self.sets.remove(id) {
            self.shapes.remove(id);
            self.stand_ins.remove(id);
            table.remove_set(&self.set_name(id, &set));
        }
    }

    /// A set of another shape is another set of the kernel; the chains that look into it have to name it.
    fn reshape(&mut self, id: &IpSetId, shape: ip_sets::Shape, model: &Model, table: &mut impl DesiredTable) {
        let before = self.shapes.insert(id.clone(), shape);
        let Some(before) = before.filter(|before| *before != shape) else { return };
        table.remove_set(&ip_sets::kernel_name(id, before, self.version));
        let policies = model.policies.iter().filter(|(_, policy)| {
            policy.inbound.iter().chain(&policy.outbound).any(|rule| looks_into(rule, id))
        });
        self.dirty.policies.extend(policies.map(|(id, _)| id.clone()));
        let profiles = model.profiles.iter().filter(|(_, profile)| {
            profile.inbound.iter().chain(&profile.outbound).any(|rule| looks_into(rule, id))
        });
        self.dirty.profiles.extend(profiles.map(|(id, _)| id.clone()));
    }

    fn set_name(&self, id: &IpSetId, set: &IpSet) -> String {
        ip_sets::kernel_name(id, set.shape(), self.version)
    }

    /// Brings the desired table up to date with the model.
    pub(crate) fn render(&mut self, model: &Model, parameters: &Parameters, table: &mut impl DesiredTable) {
        if !std::mem::replace(&mut self.maps, true) {
            [map::FROM_WORKLOAD, map::TO_WORKLOAD].iter().for_each(|map| table.set_map(map, BTreeMap::new()));
        }
        self.find_use(model, table);
        for id in std::mem::take(&mut self.dirty.policies) {
            self.policy(&id, model, parameters, table);
        }
        for id in std::mem::take(&mut self.dirty.profiles) {
            self.profile(&id, model, parameters, table);
        }
        for interface in std::mem::take(&mut self.dirty.interfaces) {
            self.interface(&interface, model, table);
        }
        self.workload_chains(parameters, table);
        if std::mem::take(&mut self.dirty.hosts) {
            let features = self.hosts(model, parameters, table);
            let chains = base_chains(self.version, parameters, &features);
            self.base_chains(chains, table);
        }
        if std::mem::take(&mut self.dirty.pools) {
            self.pools(model, parameters, table);
        }
        let idle: Vec<_> = self.stand_ins.extract_if(.., |_, chains| chains.is_empty()).collect();
        idle.iter().for_each(|(id, _)| self.remove_ip_set(id, table));
    }

    /// When the first endpoint with the family comes (or the last one goes), everything is rendered (or taken away).
    fn find_use(&mut self, model: &Model, table: &mut impl DesiredTable) {
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
                true => self.write_set(id, set, table),
                false => table.remove_set(&self.set_name(id, set)),
            }
        }
    }

    fn policy(
        &mut self,
        id: &PolicyId,
        model: &Model,
        parameters: &Parameters,
        table: &mut impl DesiredTable,
    ) {
        let policy = model.policies.get(id).filter(|_| self.in_use && !id.kind.is_staged());
        for direction in BOTH {
            let chain = policy.map(|policy| program::policy_chain(policy, direction, self.version));
            let name = chain_name(&ChainId::Policy(id.clone(), direction));
            let place = Place {
                early: policy.is_some_and(|policy| policy.untracked || policy.pre_dnat),
                tier: policy.map_or("", |policy| &policy.tier),
            };
            self.shared_chain(&name, chain.as_ref(), parameters, place, table);
            let shape = chain.as_ref().map(Chain::shape);
            if replace(&mut self.policy_shapes, (id.clone(), direction), shape) != shape {
                self.dirty_walks(model, direction, |judgement| judgement.walks_policy(id));
            }
        }
    }

    fn profile(
        &mut self,
        id: &ProfileId,
        model: &Model,
        parameters: &Parameters,
        table: &mut impl DesiredTable,
    ) {
        let profile = model.profiles.get(id).filter(|_| self.in_use);
        for direction in BOTH {
            let chain = profile.map(|profile| program::profile_chain(profile, direction, self.version));
            let name = chain_name(&ChainId::Profile(id.clone(), direction));
            self.shared_chain(&name, chain.as_ref(), parameters, Place::default(), table);
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
        table: &mut impl DesiredTable,
    ) {
        for chains in self.stand_ins.values_mut() {
            chains.remove(name);
        }
        match chain.filter(|chain| !chain.rules.is_empty()) {
            None => table.remove_chain(name),
            Some(chain) => {
                self.ensure_sets(name, chain, table);
                let rules = nft::translate(chain, &self.context(parameters, place));
                table.set_chain(name, None, rules);
            }
        }
    }

    /// A set that the calculation has not sent (yet) is empty: one missing set must not hold up the others' rules.
    /// Such a set stays as long as a chain looks into it.
    fn ensure_sets(&mut self, name: &Arc<str>, chain: &Chain, table: &mut impl DesiredTable) {
        for condition in chain.rules.iter().flat_map(|rule| &rule.matches) {
            let (id, kind) = match condition {
                Match::IpSet { set, .. } => (set, IpSetKind::Net),
                Match::PortSet { set, .. } => (set, IpSetKind::NetPort),
                _ => continue,
            };
            if !self.sets.contains_key(id) {
                let set = IpSet::new(kind);
                self.write_set(id, &set, table);
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

    fn base_chains(&mut self, chains: Vec<BaseRules>, table: &mut impl DesiredTable) {
        let names: BTreeSet<&'static str> = chains.iter().map(|chain| chain.name).collect();
        for gone in self.base.difference(&names) {
            table.remove_chain(gone);
        }
        for chain in chains {
            table.set_chain(chain.name, Some(chain.base), chain.rules);
        }
        self.base = names;
    }

    /// `nat-POSTROUTING` and the sets of pools; nothing of it where no pool asks for it.
    fn pools(&mut self, model: &Model, parameters: &Parameters, table: &mut impl DesiredTable) {
        let names = Masquerading::new(self.version);
        let nets = |nets: Vec<IpSetMember>| {
            let mut set = IpSet::new(IpSetKind::Net);
            set.change([], &nets, self.version);
            nft::set_members(&set.members())
        };
        let pools = |only_nat: bool| {
            let wanted = model.pools.iter().filter(|(_, pool)| !only_nat || pool.nat_outgoing);
            wanted.map(|(cidr, _)| IpSetMember::Net(*cidr)).collect::<Vec<_>>()
        };
        let sources = nets(pools(true));
        let (base, chain) = ("nat-POSTROUTING", "cali-nat-outgoing");
        if sources.is_empty() {
            [base, chain].iter().for_each(|chain| table.remove_chain(chain));
            [&names.sources, &names.pools, &names.hosts].iter().for_each(|set| table.remove_set(set));
            return;
        }
        let hosts =
            model.nodes.values().flatten().map(|address| IpSetMember::Net((*address).into())).collect();
        let networks = nft::set_spec(ip_sets::Shape::Networks, self.version);
        for (name, members) in
            [(&names.sources, sources), (&names.pools, nets(pools(false))), (&names.hosts, nets(hosts))]
        {
            table.set_set(name, networks.clone(), members);
        }
        table.set_chain(chain, None, nft::nat_outgoing(self.version, parameters));
        let base_chain = BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT + 10,
            policy: Policy::Accept,
        };
        table.set_chain(base, Some(base_chain), vec![Rule::always(Verdict::jump(chain))]);
    }

    fn context<'a>(&'a self, parameters: &'a Parameters, place: Place<'a>) -> Context<'a> {
        let (final_bit, pass_bit) = mark_bits(parameters);
        Context {
            version: self.version,
            shapes: &self.shapes,
            pass_bit,
            final_bit: place.early.then_some(final_bit),
            // Before connection tracking and NAT nothing can be rejected politely.
            deny: if place.early { DenyAction::Drop } else { parameters.filter_deny_action },
            log_prefix: &parameters.log_prefix,
            log_limit: parameters.log_limit(),
            tier: place.tier,
        }
    }
}

/// Where a chain stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place<'a> {
    /// Before connection tracking or destination NAT, where an accept is final for all later hooks.
    early: bool,
    /// The tier, for the prefix of Log rules.
    tier: &'a str,
}

/// The first bits of the mask, as Calico allots them (datapath.md 4.2): accept, pass. The configuration sees to it that there are two.
fn mark_bits(parameters: &Parameters) -> (u32, u32) {
    let lowest = |bits: u32| bits & bits.wrapping_neg();
    let accept = lowest(parameters.mark_mask);
    (accept, lowest(parameters.mark_mask & !accept))
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
