//! The backend of iptables: one family's rules and sets, and the programs that write them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use calc::contract::{Direction, IpSetId, IpVersion};
use calc::program::{BOTH, Chain, ChainId, HostHook};
use kernel::nft::RuleCount;

use super::dispatch::{is_plain, tree};
use super::hooks;
use super::names::{self, chain_name, set_name};
use super::rule::{Rule, Translated, translate};
use super::sets::{self, Sets};
use super::tables::{self, Actual, Hook, TableName, Tables};
use super::tools::{LOCK_SECONDS, ToolError, Tools};
use super::variant::{Variant, detect};
use crate::backend::{Backend, BackendError, Context, DscpMarks, Features, Pools, RuleSink};
use crate::config::{IptablesVariant, Parameters};
use crate::ip_sets::{Delta, Member, Shape};

/// Longest time until the tables are read back again.
const LONGEST_CHECK: Duration = Duration::from_secs(180);

/// One family's rules in iptables, and its sets.
#[derive(Debug)]
pub(crate) struct Iptables {
    version: IpVersion,
    tools: Arc<dyn Tools>,
    parameters: Parameters,
    tables: Tables,
    sets: Sets,
    /// How many chains look into each set of networks that stands for a list in rules.
    lists: BTreeMap<String, usize>,
    /// Those sets by chain.
    lists_of: BTreeMap<Arc<str>, BTreeSet<String>>,
    workloads: BTreeMap<Direction, BTreeMap<Arc<str>, Arc<str>>>,
    hosts: BTreeMap<(HostHook, Direction), BTreeMap<Arc<str>, Arc<str>>>,
    features: Features,
    /// Names of chains of the layout.
    layout: BTreeSet<(TableName, Arc<str>)>,
    /// Names of chains of dispatch trees.
    trees: BTreeSet<(TableName, Arc<str>)>,
    hooks: BTreeMap<(TableName, &'static str), Hook>,
    /// The tables in which POSTROUTING leads to a chain of ours.
    postrouting: BTreeSet<TableName>,
    /// The DSCPs that have a set.
    dscps: BTreeSet<u8>,
    /// By chain or interface.
    invalid: BTreeMap<Arc<str>, String>,
    /// The dispatch trees are to be made again.
    dirty: bool,
    /// What is wanted may differ from what is there.
    changed: bool,
    kernel: Kernel,
}

/// What is known of the kernel.
#[derive(Debug, Default)]
struct Kernel {
    /// The variant that is written.
    variant: Option<Variant>,
    /// What is there; not known when absent.
    tables: Option<Actual>,
    sets: Option<BTreeMap<String, sets::Actual>>,
    /// Nothing of ours is in the other variant's tables.
    other_is_clean: bool,
    /// When to read it back, and how long after that the next time.
    check: Option<(Instant, Duration)>,
    /// Sets that could not be deleted.
    stuck: BTreeMap<String, String>,
}

impl Iptables {
    pub(crate) fn new(version: IpVersion, tools: Arc<dyn Tools>) -> Self {
        Self {
            version,
            tools,
            parameters: Parameters::default(),
            tables: Tables::default(),
            sets: Sets::new(version),
            lists: BTreeMap::new(),
            lists_of: BTreeMap::new(),
            workloads: BTreeMap::new(),
            hosts: BTreeMap::new(),
            features: Features::default(),
            layout: BTreeSet::new(),
            trees: BTreeSet::new(),
            hooks: BTreeMap::new(),
            postrouting: BTreeSet::new(),
            dscps: BTreeSet::new(),
            invalid: BTreeMap::new(),
            dirty: true,
            changed: true,
            kernel: Kernel::default(),
        }
    }

    /// What depends on parameters but on no chain.
    pub(crate) fn set_parameters(&mut self, parameters: &Parameters) {
        if self.parameters.iptables_backend != parameters.iptables_backend {
            self.kernel = Kernel::default();
        }
        self.parameters = parameters.clone();
    }

    fn put(&mut self, table: TableName, name: &Arc<str>, rules: &[Rule], targets: BTreeSet<Arc<str>>) {
        self.changed |= self.tables.set_chain(table, name, rules, targets);
    }

    /// The sets of a chain's lists are there as long as the chain is.
    fn keep_lists(&mut self, chain: &Arc<str>, lists: &BTreeMap<String, BTreeSet<Member>>) {
        for (name, members) in lists {
            let users = self.lists.entry(name.clone()).or_insert(0);
            *users += 1;
            if *users == 1 {
                self.sets.set(name.clone(), Shape::Networks, members);
                self.changed = true;
            }
        }
        let before = match lists.is_empty() {
            true => self.lists_of.remove(chain),
            false => self.lists_of.insert(chain.clone(), lists.keys().cloned().collect()),
        };
        for name in before.unwrap_or_default() {
            let Some(users) = self.lists.get_mut(&name) else { continue };
            *users -= 1;
            if *users == 0 {
                self.lists.remove(&name);
                self.sets.remove(&name);
                self.changed = true;
            }
        }
    }

    /// The trees that lead from interfaces to chains.
    fn dispatch(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let mut wanted = BTreeMap::new();
        let fresh = hooks::fresh(&self.parameters);
        for direction in BOTH {
            let root: Arc<str> = hooks::workload_root(direction).into();
            let nothing = BTreeMap::new();
            let interfaces = self.workloads.get(&direction).unwrap_or(&nothing);
            let last = hooks::unknown_interface(&self.parameters);
            let chains = tree(&root, hooks::workload_end(direction), interfaces, fresh.clone(), &last);
            let targets = interfaces.values().cloned().collect::<BTreeSet<_>>();
            wanted.extend(
                chains.into_iter().map(|(name, rules)| ((TableName::Filter, name), (rules, targets.clone()))),
            );
        }
        for (hook, direction) in &self.features.host_hooks {
            let (table, root) = hooks::host_root(*hook, *direction);
            let any = self.features.any_host.get(&(*hook, *direction));
            let last =
                any.map(|chain| hooks::any_host(*direction, chain, &self.parameters)).unwrap_or_default();
            let nothing = BTreeMap::new();
            let interfaces = self.hosts.get(&(*hook, *direction)).unwrap_or(&nothing);
            let chains = tree(&root.into(), hooks::host_end(*direction), interfaces, fresh.clone(), &last);
            let targets = interfaces.values().chain(any).cloned().collect::<BTreeSet<_>>();
            wanted.extend(chains.into_iter().map(|(name, rules)| ((table, name), (rules, targets.clone()))));
        }
        let names: BTreeSet<(TableName, Arc<str>)> = wanted.keys().cloned().collect();
        for (table, gone) in std::mem::replace(&mut self.trees, names).difference(&self.trees) {
            self.changed |= self.tables.remove_chain(*table, gone);
        }
        for ((table, name), (rules, targets)) in wanted {
            self.put(table, &name, &rules, targets);
        }
    }

    /// An interface that iptables cannot name has no chain; a workload's then drops.
    fn nameable(&mut self, interface: &Arc<str>) -> bool {
        if is_plain(interface) {
            self.invalid.remove(interface);
            return true;
        }
        let what = "iptables cannot name this interface: give it a name of letters, digits and _ . : @ -";
        self.invalid.insert(interface.clone(), what.to_owned());
        false
    }

    /// The rules that lead from the kernel's chains to ours.
    fn apply_hooks(&mut self) {
        for table in TableName::ALL {
            let of_table = self.hooks.iter().filter(|((of, _), _)| *of == table);
            let mut hooks: BTreeMap<_, _> =
                of_table.map(|((_, chain), hook)| (*chain, hook.clone())).collect();
            if self.postrouting.contains(&table) {
                hooks.insert("POSTROUTING", hooks::hook(POSTROUTING, &self.parameters));
            }
            self.tables.set_hooks(table, hooks);
        }
        self.changed = true;
    }

    fn save(&self, variant: Variant, arguments: &[&str]) -> Result<String, ToolError> {
        self.tools.run(&variant.program(self.version, "save"), arguments, "")
    }

    fn restore(&self, variant: Variant, input: &str) -> Result<(), ToolError> {
        let program = variant.program(self.version, "restore");
        self.tools.run(&program, &["--noflush", "-w", LOCK_SECONDS], input).map(drop)
    }

    fn ipset(&self, input: &str) -> Result<(), ToolError> {
        self.tools.run("ipset", &["-exist", "restore"], input).map(drop)
    }

    /// The variant that is written: the one that is asked for, or the one that others use.
    fn variant(&mut self) -> Result<Variant, ToolError> {
        if let Some(variant) = self.kernel.variant {
            return Ok(variant);
        }
        let variant = match self.parameters.iptables_backend {
            IptablesVariant::Nft => Variant::Nft,
            IptablesVariant::Legacy => Variant::Legacy,
            IptablesVariant::Auto => self.detect()?,
        };
        tracing::info!(family = ?self.version, ?variant, "policy is written to iptables");
        self.kernel.variant = Some(variant);
        Ok(variant)
    }

    fn detect(&self) -> Result<Variant, ToolError> {
        let saved = |variant| match self.save(variant, &[]) {
            Ok(saved) => Ok(Some(saved)),
            Err(error) if error.is_missing() => Ok(None),
            // A kernel without the one has the other.
            Err(error) => {
                tracing::warn!(%error, "a variant of iptables cannot be used");
                Ok(None)
            }
        };
        let found = detect(saved(Variant::Nft)?.as_deref(), saved(Variant::Legacy)?.as_deref());
        let program = || Variant::Nft.program(self.version, "save");
        found.ok_or_else(|| ToolError::Missing { program: program() })
    }

    /// Reads what is not known, or has not been looked at for a while.
    fn read(&mut self, variant: Variant, now: Instant) -> Result<(), ToolError> {
        if let Some((at, step)) = self.kernel.check
            && at <= now
        {
            (self.kernel.tables, self.kernel.sets) = (None, None);
            let step = (step * 2).min(LONGEST_CHECK);
            self.kernel.check = Some((now + step, step));
        }
        if self.kernel.tables.is_none() {
            self.kernel.tables = Some(tables::parse(&self.save(variant, &[])?));
            self.changed = true;
        }
        if self.kernel.sets.is_none() {
            self.kernel.sets = Some(self.saved_sets()?);
            self.changed = true;
        }
        Ok(())
    }

    fn saved_sets(&self) -> Result<BTreeMap<String, sets::Actual>, ToolError> {
        Ok(sets::parse(&self.tools.run("ipset", &["save"], "")?, self.version))
    }

    /// Sets first, then the rules that name them, then the sets that nothing names any more.
    fn write(&mut self, variant: Variant, now: Instant) -> Result<(), ToolError> {
        let (Some(mut tables), Some(mut sets)) = (self.kernel.tables.take(), self.kernel.sets.take()) else {
            return Ok(());
        };
        // What fails leaves it open what is there: both are read again.
        let members = self.sets.plan(&mut sets, self.parameters.max_ipset_size);
        if !members.is_empty() {
            self.ipset(&members)?;
        }
        let rules = self.tables.plan(&mut tables);
        if !rules.is_empty() {
            self.restore(variant, &rules)?;
        }
        if !self.kernel.other_is_clean {
            self.clean(other(variant))?;
            self.kernel.other_is_clean = true;
        }
        let destroyed = self.destroy(&mut sets);
        let wrote = destroyed || !members.is_empty() || !rules.is_empty();
        (self.kernel.tables, self.kernel.sets) = (Some(tables), Some(sets));
        self.changed = false;
        let interval = self.parameters.iptables_post_write_check_interval;
        if wrote {
            self.kernel.check = (!interval.is_zero()).then(|| (now + interval, interval));
        }
        Ok(())
    }

    /// Deletes sets that nothing of ours names. One that someone else uses stays, and is said.
    fn destroy(&mut self, sets: &mut BTreeMap<String, sets::Actual>) -> bool {
        let unwanted = self.sets.unwanted(sets);
        self.kernel.stuck.clear();
        if unwanted.is_empty() {
            return false;
        }
        let all: String = unwanted.iter().map(|name| format!("destroy {name}\n")).collect();
        if self.ipset(&all).is_ok() {
            unwanted.iter().for_each(|name| drop(sets.remove(name)));
            return true;
        }
        // Some of them are gone already, then.
        for name in unwanted {
            match self.tools.run("ipset", &["-exist", "destroy", &name], "") {
                Ok(_) => drop(sets.remove(&name)),
                Err(error) if error.to_string().contains("does not exist") => drop(sets.remove(&name)),
                Err(error) => drop(self.kernel.stuck.insert(name, error.to_string())),
            }
        }
        true
    }

    /// Takes what is ours out of a variant's tables. Without its programs, or its tables, there is nothing of it.
    fn clean(&self, variant: Variant) -> Result<(), ToolError> {
        let family = match self.version {
            IpVersion::V4 => "ip",
            IpVersion::V6 => "ip6",
        };
        if variant == Variant::Legacy && !self.tools.may_have_legacy_tables(family) {
            return Ok(());
        }
        let saved = match self.save(variant, &[]) {
            Ok(saved) => saved,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "it is not known whether there are rules of ours in these tables");
                return Ok(());
            }
        };
        let input = Tables::default().plan(&mut tables::parse(&saved));
        if input.is_empty() { Ok(()) } else { self.restore(variant, &input) }
    }

    /// Takes everything of ours, of both variants, out of the kernel, and wants nothing any more.
    pub(crate) fn withdraw(&mut self) -> Result<(), BackendError> {
        Variant::ALL.iter().try_for_each(|variant| self.clean(*variant))?;
        let saved = match self.saved_sets() {
            Ok(saved) => saved,
            // Without the program, or without sets in the kernel, there are none of ours.
            Err(error) => {
                tracing::debug!(%error, "no IP sets");
                BTreeMap::new()
            }
        };
        let (version, tools, parameters) = (self.version, self.tools.clone(), self.parameters.clone());
        *self = Self { parameters, ..Self::new(version, tools) };
        let mut sets = saved;
        self.destroy(&mut sets);
        match self.kernel.stuck.first_key_value() {
            Some((name, why)) => Err(BackendError::Stuck { set: name.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }
}

fn other(variant: Variant) -> Variant {
    match variant {
        Variant::Nft => Variant::Legacy,
        Variant::Legacy => Variant::Nft,
    }
}

impl RuleSink for Iptables {
    fn chain_name(&self, id: &ChainId) -> Arc<str> {
        chain_name(id)
    }

    fn set_chain(&mut self, name: &Arc<str>, chain: &Chain, context: &Context<'_>) {
        let translated = match translate(name, chain, context) {
            Ok(translated) => {
                self.invalid.remove(name);
                translated
            }
            Err(error) => {
                tracing::error!(chain = %name, %error, "cannot be expressed in iptables");
                self.invalid.insert(name.clone(), error.to_string());
                // Whatever it was to decide, it is dropped.
                let closed = Rule::because("closed: a rule cannot be expressed", "-j DROP");
                Translated { rules: vec![closed], ..Translated::default() }
            }
        };
        let wanted: BTreeSet<TableName> =
            context.place.stages.iter().map(|stage| TableName::of(*stage)).collect();
        for table in TableName::ALL {
            if wanted.contains(&table) {
                self.put(table, name, &translated.rules, translated.targets.clone());
            } else {
                self.changed |= self.tables.remove_chain(table, name);
            }
        }
        self.keep_lists(name, &translated.sets);
    }

    fn remove_chain(&mut self, name: &Arc<str>) {
        self.invalid.remove(name);
        for table in TableName::ALL {
            self.changed |= self.tables.remove_chain(table, name);
        }
        self.keep_lists(name, &BTreeMap::new());
    }

    fn set_set(&mut self, id: &IpSetId, shape: Shape, members: &BTreeSet<Member>) {
        self.sets.set(set_name(id, shape, self.version), shape, members);
        self.changed = true;
    }

    fn change_set(&mut self, id: &IpSetId, shape: Shape, delta: &Delta) {
        self.sets.change(&set_name(id, shape, self.version), delta);
        self.changed = true;
    }

    fn remove_set(&mut self, id: &IpSetId, shape: Shape) {
        self.sets.remove(&set_name(id, shape, self.version));
        self.changed = true;
    }

    fn set_workload(&mut self, direction: Direction, interface: &Arc<str>, chain: Option<&Arc<str>>) {
        let chain = chain.filter(|_| self.nameable(interface));
        let interfaces = self.workloads.entry(direction).or_default();
        match chain {
            Some(chain) => drop(interfaces.insert(interface.clone(), chain.clone())),
            None => drop(interfaces.remove(interface)),
        }
        self.dirty = true;
    }

    fn set_hosts(&mut self, hook: HostHook, direction: Direction, chains: &BTreeMap<Arc<str>, Arc<str>>) {
        let mut chains = chains.clone();
        chains.retain(|interface, _| self.nameable(interface));
        self.hosts.insert((hook, direction), chains);
        self.dirty = true;
    }

    fn set_hooks(&mut self, parameters: &Parameters, features: &Features) {
        self.set_parameters(parameters);
        self.features = features.clone();
        self.dirty = true;
        let layout = hooks::layout(self.version, parameters, features);
        let names = layout.chains.keys().map(|(table, name)| (*table, Arc::from(*name))).collect();
        for (table, gone) in std::mem::replace(&mut self.layout, names).difference(&self.layout) {
            self.changed |= self.tables.remove_chain(*table, gone);
        }
        for ((table, name), rules) in &layout.chains {
            self.put(*table, &Arc::from(*name), rules, BTreeSet::new());
        }
        self.hooks = layout.hooks;
        self.apply_hooks();
    }

    fn set_dscp(&mut self, marks: &DscpMarks) {
        let (chain, wanted) = (Arc::from(POSTROUTING), marks.sources.keys().copied().collect());
        let inside = names::name("dscp-inside", self.version);
        for gone in std::mem::replace(&mut self.dscps, wanted).difference(&self.dscps) {
            self.sets.remove(&dscp_set(*gone, self.version));
        }
        if marks.sources.is_empty() {
            self.sets.remove(&inside);
            self.tables.remove_chain(TableName::Mangle, &chain);
            self.postrouting.remove(&TableName::Mangle);
            self.apply_hooks();
            return;
        }
        let mut rules = Vec::new();
        for (value, members) in &marks.sources {
            let set = dscp_set(*value, self.version);
            let marked = format!(
                "-m set --match-set {set} src -m set ! --match-set {inside} dst -j DSCP --set-dscp {value:#04x}"
            );
            rules.push(Rule::because(&format!("DSCP {value}"), &marked));
            self.sets.set(set, Shape::Addresses, members);
        }
        self.sets.set(inside, Shape::Networks, &marks.inside);
        self.put(TableName::Mangle, &chain, &rules, BTreeSet::new());
        self.postrouting.insert(TableName::Mangle);
        self.apply_hooks();
    }

    fn set_masquerading(&mut self, parameters: &Parameters, pools: Option<&Pools>) {
        let sets = [hooks::MASQUERADED, hooks::POOLS, hooks::HOSTS].map(|id| names::name(id, self.version));
        let (base, outgoing) = (Arc::from(POSTROUTING), Arc::from("cali-nat-outgoing"));
        let Some(pools) = pools else {
            sets.iter().for_each(|set| self.sets.remove(set));
            for chain in [&base, &outgoing] {
                self.tables.remove_chain(TableName::Nat, chain);
            }
            self.postrouting.remove(&TableName::Nat);
            self.apply_hooks();
            return;
        };
        let members = [&pools.sources, &pools.pools, &pools.hosts];
        let shapes = [Shape::Networks, Shape::Networks, Shape::Addresses];
        for ((set, members), shape) in sets.into_iter().zip(members).zip(shapes) {
            self.sets.set(set, shape, members);
        }
        self.put(TableName::Nat, &outgoing, &hooks::nat_outgoing(self.version, parameters), BTreeSet::new());
        let jump = Rule::new(format!("-j {outgoing}"));
        self.put(TableName::Nat, &base, &[jump], BTreeSet::from([outgoing.clone()]));
        self.postrouting.insert(TableName::Nat);
        self.apply_hooks();
    }
}

/// The set of the workloads with a DSCP.
fn dscp_set(value: u8, version: IpVersion) -> String {
    names::name(&format!("dscp-src-{value}"), version)
}

/// Our chain behind POSTROUTING.
const POSTROUTING: &str = "cali-POSTROUTING";

impl Backend for Iptables {
    fn apply(&mut self, now: Instant) -> Result<(), BackendError> {
        self.dispatch();
        let variant = self.variant()?;
        self.read(variant, now)?;
        if self.changed {
            self.write(variant, now)?;
        }
        Ok(())
    }

    fn next_apply(&self) -> Option<Instant> {
        self.kernel.check.map(|(at, _)| at)
    }

    /// Asking costs a process: the time after a write has its own checks.
    fn look_again(&mut self) {}

    fn queue_resync(&mut self) {
        (self.kernel.tables, self.kernel.sets) = (None, None);
    }

    fn faults(&self) -> Vec<String> {
        let invalid = self.invalid.iter().map(|(name, why)| format!("{name}: {why}"));
        let stuck = self.kernel.stuck.iter().map(|(name, why)| format!("IP set {name}: {why}"));
        invalid.chain(stuck).collect()
    }

    fn counters(&mut self) -> Result<Vec<RuleCount>, BackendError> {
        let variant = self.variant()?;
        Ok(tables::counters(&self.save(variant, &["-c"])?))
    }
}
