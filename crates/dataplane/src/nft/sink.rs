//! The backend of nf_tables: one family's rules in a table of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use calc::contract::{Direction, IpSetId, IpVersion};
use calc::program::{Chain, ChainId, HostHook};
use kernel::nft::{
    BaseChain, ChainType, Hook, Member, NftError, Policy, Rule, RuleCount, Transport, Verdict, priority,
};

use super::dscp;
use super::{
    Masquerading, base_chains, chain_name, host_map, map, nat_outgoing, set_members, set_spec, translate,
};
use crate::backend::{Backend, BackendError, Context, DscpMarks, Features, Pools, RuleSink};
use crate::choice::HasSink;
use crate::config::Parameters;
use crate::ip_sets::{self, Delta, Shape, kernel_name};
use crate::table::{DesiredTable, Table};

const NAT_BASE: &str = "nat-POSTROUTING";
const DSCP_BASE: &str = "mangle-POSTROUTING";
const NAT_OUTGOING: &str = "cali-nat-outgoing";

/// One family's rules in an nf_tables table.
#[derive(Debug)]
pub(crate) struct NftRules<T> {
    pub(crate) table: T,
    version: IpVersion,
    /// The base chains that are there.
    base: BTreeSet<&'static str>,
    /// The verdict maps of workloads are there.
    maps: bool,
    /// The DSCPs that have a set.
    dscps: BTreeSet<u8>,
}

impl<T: DesiredTable> NftRules<T> {
    pub(crate) fn new(version: IpVersion, table: T) -> Self {
        Self { table, version, base: BTreeSet::new(), maps: false, dscps: BTreeSet::new() }
    }

    fn ensure_maps(&mut self) {
        if !std::mem::replace(&mut self.maps, true) {
            let table = &mut self.table;
            [map::FROM_WORKLOAD, map::TO_WORKLOAD].iter().for_each(|map| table.set_map(map, BTreeMap::new()));
        }
    }
}

impl<T: DesiredTable> HasSink for NftRules<T> {
    fn sink(&mut self) -> &mut dyn RuleSink {
        self
    }
}

impl<T: DesiredTable> RuleSink for NftRules<T> {
    fn chain_name(&self, id: &ChainId) -> Arc<str> {
        chain_name(id)
    }

    fn set_chain(&mut self, name: &Arc<str>, chain: &Chain, context: &Context<'_>) {
        self.table.set_chain(name, None, translate(chain, context));
    }

    fn remove_chain(&mut self, name: &Arc<str>) {
        self.table.remove_chain(name);
    }

    fn set_set(&mut self, id: &IpSetId, shape: Shape, members: &BTreeSet<ip_sets::Member>) {
        let name = kernel_name(id, shape, self.version);
        self.table.set_set(&name, set_spec(shape, self.version), set_members(members));
    }

    fn change_set(&mut self, id: &IpSetId, shape: Shape, delta: &Delta) {
        let name = kernel_name(id, shape, self.version);
        self.table.change_set(&name, set_members(&delta.removed), set_members(&delta.added));
    }

    fn remove_set(&mut self, id: &IpSetId, shape: Shape) {
        self.table.remove_set(&kernel_name(id, shape, self.version));
    }

    fn set_workload(&mut self, direction: Direction, interface: &Arc<str>, chain: Option<&Arc<str>>) {
        self.ensure_maps();
        let map = match direction {
            Direction::Egress => map::FROM_WORKLOAD,
            Direction::Ingress => map::TO_WORKLOAD,
        };
        let key = Member::from(interface.clone());
        match chain {
            Some(chain) => self.table.set_map_entry(map, key, Verdict::goto(chain.clone())),
            None => self.table.remove_map_entry(map, &key),
        }
    }

    fn set_hosts(&mut self, hook: HostHook, direction: Direction, chains: &BTreeMap<Arc<str>, Arc<str>>) {
        let entry = |(interface, chain): (&Arc<str>, &Arc<str>)| {
            (Member::from(interface.clone()), Verdict::goto(chain.clone()))
        };
        self.table.set_map(host_map(hook, direction), chains.iter().map(entry).collect());
    }

    fn set_hooks(&mut self, parameters: &Parameters, features: &Features) {
        self.ensure_maps();
        let chains = base_chains(self.version, parameters, features);
        let names: BTreeSet<&'static str> = chains.iter().map(|chain| chain.name).collect();
        for gone in self.base.difference(&names) {
            self.table.remove_chain(gone);
        }
        for chain in chains {
            self.table.set_chain(chain.name, Some(chain.base), chain.rules);
        }
        self.base = names;
        for hook in HostHook::ALL {
            for direction in calc::program::BOTH {
                if !features.host_hooks.contains(&(hook, direction)) {
                    self.table.remove_set(host_map(hook, direction));
                }
            }
        }
    }

    /// Nothing of it is there where no workload asks for it.
    fn set_dscp(&mut self, marks: &DscpMarks) {
        let (table, version) = (&mut self.table, self.version);
        let wanted: BTreeSet<u8> = marks.sources.keys().copied().collect();
        for gone in self.dscps.difference(&wanted) {
            table.remove_set(&dscp::sources(*gone, version));
        }
        self.dscps = wanted;
        if marks.sources.is_empty() {
            table.remove_chain(DSCP_BASE);
            table.remove_set(&dscp::inside(version));
            return;
        }
        let inside = set_spec(Shape::Networks, version);
        table.set_set(&dscp::inside(version), inside, set_members(&marks.inside));
        for (value, members) in &marks.sources {
            let spec = set_spec(Shape::Addresses, version);
            table.set_set(&dscp::sources(*value, version), spec, set_members(members));
        }
        let base_chain = BaseChain {
            kind: ChainType::Filter,
            hook: Hook::Postrouting,
            priority: priority::MANGLE,
            policy: Policy::Accept,
        };
        let rules = marks.sources.keys().map(|value| dscp::rule(*value, version)).collect();
        table.set_chain(DSCP_BASE, Some(base_chain), rules);
    }

    /// Nothing of it is there where no pool asks for it.
    fn set_masquerading(&mut self, parameters: &Parameters, pools: Option<&Pools>) {
        let names = Masquerading::new(self.version);
        let table = &mut self.table;
        let Some(pools) = pools else {
            [NAT_BASE, NAT_OUTGOING].iter().for_each(|chain| table.remove_chain(chain));
            [&names.sources, &names.pools, &names.hosts].iter().for_each(|set| table.remove_set(set));
            return;
        };
        let networks = set_spec(Shape::Networks, self.version);
        for (name, members) in
            [(&names.sources, &pools.sources), (&names.pools, &pools.pools), (&names.hosts, &pools.hosts)]
        {
            table.set_set(name, networks.clone(), set_members(members));
        }
        table.set_chain(NAT_OUTGOING, None, nat_outgoing(self.version, parameters));
        let base_chain = BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: priority::SRCNAT + 10,
            policy: Policy::Accept,
        };
        table.set_chain(NAT_BASE, Some(base_chain), vec![Rule::always(Verdict::jump(NAT_OUTGOING))]);
    }
}

impl<T: Transport> NftRules<Table<T>> {
    /// Takes the table out of the kernel, and wants nothing any more.
    pub(crate) fn withdraw(&mut self) -> Result<(), NftError> {
        self.table.remove()?;
        (self.base, self.maps, self.dscps) = (BTreeSet::new(), false, BTreeSet::new());
        Ok(())
    }
}

impl<T: Transport> Backend for NftRules<Table<T>> {
    fn apply(&mut self, now: Instant) -> Result<(), BackendError> {
        Ok(self.table.apply(now)?)
    }

    fn next_apply(&self) -> Option<Instant> {
        self.table.next_apply()
    }

    fn look_again(&mut self) {
        self.table.look_again();
    }

    fn queue_resync(&mut self) {
        self.table.queue_resync();
    }

    fn faults(&self) -> Vec<String> {
        self.table.faults().collect()
    }

    fn counters(&mut self) -> Result<Vec<RuleCount>, BackendError> {
        Ok(self.table.counters()?)
    }
}
