//! The apply loop.

mod hand_over;
mod interfaces;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calc::contract::{Change, IpVersion, PolicyId, WorkloadEndpoint, WorkloadEndpointId};
use ipnet::IpNet;
use kernel::address::InterfaceAddress;
use kernel::conntrack::{Conntrack, ConntrackKernel};
use kernel::interface::{HostInterfaces, InterfaceKernel, InterfaceTable};
use kernel::link::Link;
use kernel::monitor::Event;
use kernel::netlink::Errno;
use kernel::nft::{Family as NftFamily, NftError, NftSocket, Transport};
use kernel::route::{KernelRoute, Route, RouteClass, RouteKernel, RouteStatus, RouteTable};
use kernel::{InterfaceName, Rtnetlink, ownership};
use tracing::{info, warn};

use crate::arp::ArpRules;
use crate::backend::BackendError;
use crate::choice::{Backends, Kind};
use crate::config::{DataplaneConfig, FlowLog, Parameters};
use crate::family::Family;
use crate::iptables::tools::{HostTools, Tools};
use crate::judge::{Judge, Judged, Sight};
use crate::model::{Concerned, Model};
use crate::owners::Owners;
use crate::report::{ApplyError, ApplyReport};
use crate::table::Table;

/// Shortest and longest time until something that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The owner of blackhole routes in the route table.
const BLOCKS: &str = "blocks";
/// The owner of BGP's routes in the route table.
const BGP: &str = "bgp";

/// The kernels that a dataplane writes to: the real ones ([`Kernel::open`]) or fakes.
#[derive(Debug)]
pub struct Kernel<N, R, I, C> {
    /// For the table of IPv4.
    pub nft_v4: N,
    /// For the table of IPv6.
    pub nft_v6: N,
    /// For the table of ARP.
    pub nft_arp: N,
    /// For the rules and sets of both families, where iptables enforces them.
    pub iptables: Arc<dyn Tools>,
    /// For routes and links.
    pub routes: R,
    /// For the settings of interfaces and of the host.
    pub interfaces: I,
    /// For tracked connections.
    pub connections: C,
}

impl Kernel<NftSocket, Rtnetlink, HostInterfaces, Conntrack> {
    /// The kernel of the calling thread's network namespace. Settings are written in the namespace of the thread that
    /// calls [`Dataplane::apply`], which has to be the same.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub fn open() -> Result<Self, OpenError> {
        let nft = NftSocket::open()?;
        Ok(Self {
            nft_v4: nft.clone(),
            nft_v6: nft.clone(),
            nft_arp: nft,
            iptables: Arc::new(HostTools),
            routes: Rtnetlink::open()?,
            interfaces: HostInterfaces::open()?,
            connections: Conntrack::open()?,
        })
    }
}

/// A socket of the kernel cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// For rules.
    #[error("nf_tables: {0}")]
    Nft(#[from] kernel::nft::NftError),
    /// For routes, links or tracked connections.
    #[error(transparent)]
    Netlink(#[from] kernel::netlink::Error),
}

/// The dataplane over the kernel.
pub type RealDataplane = Dataplane<NftSocket, Rtnetlink, HostInterfaces, Conntrack>;

/// The routes that BGP has chosen. Memory only.
#[derive(Debug)]
pub struct BgpRoutes<'a, R>(&'a mut RouteTable<R>);

impl<R: RouteKernel> BgpRoutes<'_, R> {
    /// It has chosen this route in place of the one to the same destination.
    pub fn set(&mut self, route: Route) {
        self.0.set_route(RouteClass::Bgp, BGP, route);
    }

    /// It has no route there any more.
    pub fn remove(&mut self, destination: IpNet) {
        self.0.remove_route(RouteClass::Bgp, BGP, destination);
    }

    /// It has heard all that its peers have to say: its routes of an earlier process that nobody wants are deleted from now on.
    pub fn allow_sweep(&mut self) {
        self.0.allow_sweep(ownership::ROUTE_BIRD);
    }
}

/// Desired state to kernel objects. See the crate's documentation for the calling order.
#[derive(Debug)]
pub struct Dataplane<N, R, I, C> {
    config: DataplaneConfig,
    parameters: Parameters,
    in_sync: bool,
    model: Model,
    families: [Family<Backends<N>>; 2],
    arp: (ArpRules, Table<N>),
    /// The kernel has said that it filters no ARP.
    arp_is_missing: bool,
    /// The table of ARP is not there, because iptables enforces policy.
    arp_is_withdrawn: bool,
    /// The kernel has said that it has no nf_tables.
    nft_is_missing: bool,
    routes: RouteTable<R>,
    interfaces: InterfaceTable<I>,
    connections: C,
    owners: Owners,
    /// The owners of addresses that an earlier process has left are known.
    adopted: bool,
    /// The addresses are known that had connections when this process began.
    suspected: bool,
    /// Addresses of the host on workloads' interfaces, by interface.
    peering_addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Interfaces whose routes and settings are to be worked out again.
    dirty_interfaces: BTreeSet<Arc<str>>,
    /// Endpoints whose rules, routes and settings the kernel has.
    programmed: BTreeMap<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    /// Endpoints that may have become programmed, or have to be withdrawn.
    unsure: BTreeSet<WorkloadEndpointId>,
    /// The host's own settings are wanted as the parameters say.
    host_settings: bool,
    /// What the kernel gives to new interfaces; none: to be asked when it is needed.
    reverse_path_filter: Option<String>,
    /// The host's links by number, and their addresses.
    links: BTreeMap<u32, (Arc<str>, BTreeSet<IpAddr>)>,
    ruleset_failures: u32,
    failures: u32,
    /// Somebody follows what is allowed.
    flows_wanted: bool,
}

impl<N: Transport, R: RouteKernel, I: InterfaceKernel, C: ConntrackKernel> Dataplane<N, R, I, C> {
    /// A dataplane that wants nothing yet, over these kernels. Touches nothing.
    pub fn new(config: DataplaneConfig, kernel: Kernel<N, R, I, C>) -> Self {
        let (parameters, invalid) = Parameters::effective(&BTreeMap::new(), &config.local_parameters);
        invalid.iter().for_each(|error| warn!("{error}"));
        let mut interfaces = InterfaceTable::new(kernel.interfaces);
        interfaces.set_prefixes(&parameters.interface_prefix);
        let mut dataplane = Self {
            config,
            parameters,
            in_sync: false,
            model: Model::default(),
            families: [
                family(IpVersion::V4, kernel.nft_v4, &kernel.iptables),
                family(IpVersion::V6, kernel.nft_v6, &kernel.iptables),
            ],
            arp: (ArpRules::default(), Table::new(NftFamily::Arp, kernel.nft_arp)),
            arp_is_missing: false,
            arp_is_withdrawn: false,
            nft_is_missing: false,
            routes: RouteTable::new(kernel.routes, kernel::route::RouteTableConfig::default()),
            interfaces,
            connections: kernel.connections,
            owners: Owners::default(),
            adopted: false,
            suspected: false,
            host_settings: false,
            reverse_path_filter: None,
            links: BTreeMap::new(),
            peering_addresses: BTreeMap::new(),
            dirty_interfaces: BTreeSet::new(),
            programmed: BTreeMap::new(),
            unsure: BTreeSet::new(),
            ruleset_failures: 0,
            failures: 0,
            flows_wanted: false,
        };
        dataplane.parameters.flow_log = dataplane.flow_log(&dataplane.parameters);
        dataplane
    }

    /// Whether somebody wants to know the first packets of what is allowed, besides the parameters. Memory only.
    pub fn want_flows(&mut self, wanted: bool) {
        self.flows_wanted = wanted;
        let flow_log = self.flow_log(&self.parameters);
        if flow_log != self.parameters.flow_log {
            self.parameters.flow_log = flow_log;
            // What is allowed is logged where every packet comes by.
            self.families.iter_mut().for_each(|family| family.rules.on_hosts());
        }
    }

    fn flow_log(&self, parameters: &Parameters) -> FlowLog {
        let allowed = self.flows_wanted || parameters.flow_logs_local_reporter;
        FlowLog { denied: self.config.flow_log, allowed: self.config.flow_log && allowed }
    }

    /// Which rules have decided about packets that the kernel has logged. Policies of `replaced` do not count where it is said
    /// what staged ones would do ([`PolicyId::stands_for`]). Memory only.
    pub fn judge(&self, sights: &[Sight], replaced: &BTreeSet<PolicyId>) -> Vec<Judged> {
        let judge = Judge::new(&self.model, &self.parameters, &self.families, replaced);
        sights.iter().map(|sight| judge.judge(sight)).collect()
    }

    /// Whether something is staged that concerns an endpoint of this node: a policy, or one of `replaced` is in force.
    pub fn has_drafts(&self, replaced: &BTreeSet<PolicyId>) -> bool {
        let policies = &self.model.policies;
        policies.keys().next_back().is_some_and(|last| last.kind.is_staged())
            || replaced.iter().any(|id| policies.contains_key(id))
    }

    /// How many packets rules have denied, by the counters of those that are there now. The kernel lists all rules for it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn denied_packets(&mut self) -> Result<u64, BackendError> {
        let denials = crate::judge::denial_comments(&self.model);
        let counters = self.counters()?;
        let denied = counters
            .iter()
            .filter(|(_, rule)| rule.comment.as_deref().is_some_and(|comment| denials.contains(comment)));
        Ok(denied.map(|(_, rule)| rule.count.packets).sum())
    }

    /// Takes in a change of the desired state. Memory only.
    pub fn on_change(&mut self, change: Change) {
        match change {
            Change::IpSetUpdate { .. } | Change::IpSetDelta { .. } | Change::IpSetRemove { .. } => {
                self.families.iter_mut().for_each(|family| family.on_ip_set(&change, &self.model));
            }
            Change::PolicyUpdate { id, policy } => {
                self.families.iter_mut().for_each(|family| family.rules.on_policy(&id));
                self.model.policies.insert(id, policy);
            }
            Change::PolicyRemove { id } => {
                self.families.iter_mut().for_each(|family| family.rules.on_policy(&id));
                self.model.policies.remove(&id);
            }
            Change::ProfileUpdate { id, profile } => {
                self.families.iter_mut().for_each(|family| family.rules.on_profile(&id));
                self.model.profiles.insert(id, profile);
            }
            Change::ProfileRemove { id } => {
                self.families.iter_mut().for_each(|family| family.rules.on_profile(&id));
                self.model.profiles.remove(&id);
            }
            Change::WorkloadEndpointUpdate { id, endpoint } => self.on_workload(id, Some(endpoint)),
            Change::WorkloadEndpointRemove { id } => self.on_workload(id, None),
            Change::HostEndpointUpdate { name, endpoint } => {
                self.model.hosts.insert(name, endpoint);
                self.families.iter_mut().for_each(|family| family.rules.on_hosts());
            }
            Change::HostEndpointRemove { name } => {
                self.model.hosts.remove(&name);
                self.families.iter_mut().for_each(|family| family.rules.on_hosts());
            }
            Change::PoolUpdate { cidr, pool } => {
                self.model.pools.insert(cidr, pool);
                self.families.iter_mut().for_each(|family| family.rules.on_pools());
            }
            Change::PoolRemove { cidr } => {
                self.model.pools.remove(&cidr);
                self.families.iter_mut().for_each(|family| family.rules.on_pools());
            }
            Change::HostUpdate { node, addresses } => {
                self.model.nodes.insert(node, addresses);
                self.families.iter_mut().for_each(|family| family.rules.on_pools());
            }
            Change::HostRemove { node } => {
                self.model.nodes.remove(&node);
                self.families.iter_mut().for_each(|family| family.rules.on_pools());
            }
            Change::ServiceNetworksUpdate { networks } => {
                self.model.service_networks = networks;
                self.families.iter_mut().for_each(|family| family.rules.on_hosts());
            }
            // Routes between hosts are BGP's; those to our own workloads follow from the endpoints.
            Change::RouteUpdate { .. } | Change::RouteRemove { .. } => {}
            Change::ConfigUpdate { parameters } => self.on_parameters(&parameters),
            Change::InSync => self.on_in_sync(),
        }
    }

    fn on_workload(&mut self, id: WorkloadEndpointId, endpoint: Option<Arc<WorkloadEndpoint>>) {
        if self.model.workloads().get(&id) == endpoint.as_ref() {
            return;
        }
        let Concerned { interfaces, may_spoof, marks } = self.model.set_workload(id.clone(), endpoint);
        self.families.iter_mut().for_each(|family| family.rules.on_interfaces(&interfaces));
        // Allowed source prefixes stand in a base chain.
        if may_spoof {
            self.families.iter_mut().for_each(|family| family.rules.on_hosts());
        }
        if marks {
            self.families.iter_mut().for_each(|family| family.rules.on_pools());
        }
        self.arp.0.on_interfaces(&interfaces);
        self.unsure.insert(id);
        // The loser of a shared interface may have it now, or the other way round.
        for interface in interfaces {
            self.unsure.extend(self.model.on_interface(&interface).map(|(id, _)| id.clone()));
            self.dirty_interfaces.insert(interface);
        }
    }

    fn on_parameters(&mut self, datastore: &BTreeMap<String, String>) {
        let (mut parameters, invalid) = Parameters::effective(datastore, &self.config.local_parameters);
        parameters.flow_log = self.flow_log(&parameters);
        invalid.iter().for_each(|error| warn!("{error}"));
        if parameters == self.parameters {
            return;
        }
        self.parameters = parameters;
        self.interfaces.set_prefixes(&self.parameters.interface_prefix);
        self.families.iter_mut().for_each(|family| family.rules.on_parameters(&self.model));
        self.dirty_interfaces.extend(self.model.interfaces().cloned());
        self.host_settings = false;
        self.unsure.extend(self.model.workloads().keys().cloned());
    }

    fn on_in_sync(&mut self) {
        info!(node = %self.config.node_name, "datastore in sync: programming the kernel");
        self.in_sync = true;
        self.routes.allow_sweep(ownership::ROUTE_FELIX);
    }

    /// Something changed in the kernel. Memory only; the next apply looks at what it concerns.
    ///
    /// Host endpoints without an interface are found by address: hand in the addresses that are there at the start as
    /// [`Event::Address`] too.
    pub fn on_event(&mut self, event: &Event) {
        match event {
            Event::Resync => self.resync(),
            Event::Link(link) => self.on_link(link),
            Event::LinkGone { index, .. } => self.on_link_gone(*index),
            Event::Address(address) => self.on_address(address, true),
            Event::AddressGone(address) => self.on_address(address, false),
            Event::Route(route) => self.on_route(route, true),
            Event::RouteGone(route) => self.on_route(route, false),
            Event::Setting { index } => {
                if index.is_none() {
                    self.reverse_path_filter = None;
                }
                self.interfaces.on_setting(*index);
            }
            Event::Neighbour(_) | Event::NeighbourGone { .. } => {}
        }
    }

    /// A link is there (again), or has changed. Memory only.
    pub fn on_link(&mut self, link: &Link) {
        let name: Arc<str> = link.name.as_str().into();
        self.routes.on_link(link);
        self.interfaces.on_link(link);
        self.links.entry(link.index).or_default().0 = name.clone();
        self.unsure.extend(self.model.on_interface(&name).map(|(id, _)| id.clone()));
    }

    /// A link is gone. Memory only.
    pub fn on_link_gone(&mut self, index: u32) {
        let name = self.routes.device_name(index).map(|name| Arc::from(name.as_str()));
        self.routes.on_link_gone(index);
        self.interfaces.on_link_gone(index);
        let Some(name) = self.links.remove(&index).map(|(name, _)| name).or(name) else { return };
        // Whoever waits for an address of that interface may have it.
        self.dirty_interfaces.extend(self.owners.held_back());
        self.unsure.extend(self.model.on_interface(&name).map(|(id, _)| id.clone()));
        self.place_addresses(&name);
    }

    /// The kernel says that a route was added or changed (`present`), or deleted. Memory only.
    pub fn on_route(&mut self, route: &KernelRoute, present: bool) {
        self.routes.on_route(route, present);
    }

    fn on_address(&mut self, address: &InterfaceAddress, present: bool) {
        self.interfaces.on_address(address, present);
        let index = address.index;
        let (name, addresses) = self.links.entry(index).or_default();
        let address = address.address.addr();
        let news = if present { addresses.insert(address) } else { addresses.remove(&address) };
        let is_last = !present && address.is_ipv4() && !addresses.iter().any(IpAddr::is_ipv4);
        let name = name.clone();
        // The kernel says nothing of the routes that it forgets with the last IPv4 address of a link (`fib_disable_ip`). One that
        // is down, as one that goes is by then, had none left.
        let may_have_had = || self.routes.device_name(index).is_none_or(|name| self.routes.is_usable(name));
        if is_last && may_have_had() {
            self.routes.queue_resync();
        }
        if news {
            self.place_addresses(&name);
        }
    }

    /// Host endpoints without an interface are found by the addresses of interfaces, but for those of workloads.
    fn place_addresses(&mut self, name: &Arc<str>) {
        if self.parameters.interface_prefix.iter().any(|prefix| name.starts_with(&**prefix)) {
            return;
        }
        let of_name = self.links.values().filter(|(link, _)| link == name && !link.is_empty());
        let addresses: BTreeSet<IpAddr> =
            of_name.flat_map(|(_, addresses)| addresses.iter().copied()).collect();
        if addresses.is_empty() {
            self.model.addresses.remove(name);
        } else {
            self.model.addresses.insert(name.clone(), addresses);
        }
        if self.model.hosts.values().any(|endpoint| endpoint.interface.is_none()) {
            self.families.iter_mut().for_each(|family| family.rules.on_hosts());
        }
    }

    /// These blocks, and no others, are this node's: what is not given out in them leads nowhere
    /// (`blackhole <block> proto bird`). Memory only.
    pub fn set_blocks(&mut self, blocks: impl IntoIterator<Item = IpNet>) {
        let routes = blocks.into_iter().map(|block| Route::blackhole(block, ownership::ROUTE_BIRD));
        self.routes.set_routes(RouteClass::NoEncapsulationBlackhole, BLOCKS, routes);
    }

    /// Where BGP says which routes it has chosen.
    pub fn bgp_routes(&mut self) -> BgpRoutes<'_, R> {
        BgpRoutes(&mut self.routes)
    }

    /// Whether the host answers workloads that ask for their gateway 169.254.1.1 without a default route of its own
    /// ([`kernel::pod::gateway_route`]). Memory only.
    pub fn set_gateway_route(&mut self, wanted: bool) {
        let route = wanted.then(|| kernel::pod::gateway_route(ownership::ROUTE_FELIX));
        self.routes.set_routes(RouteClass::LocalWorkload, "gateway", route);
    }

    /// The counters of the rules of both tables, each with its rule's comment (its [`calc::program::Origin`]).
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn counters(&mut self) -> Result<Vec<(IpVersion, kernel::nft::RuleCount)>, BackendError> {
        let mut counters = Vec::new();
        for family in &mut self.families {
            let version = family.version();
            counters.extend(family.backend.backend().counters()?.into_iter().map(|count| (version, count)));
        }
        Ok(counters)
    }

    /// The writer of routes, for status.
    pub fn routes(&self) -> &RouteTable<R> {
        &self.routes
    }

    /// The next apply reads everything back and repairs it. Call it periodically and when events were lost. Memory only.
    pub fn resync(&mut self) {
        self.reverse_path_filter = None;
        self.families.iter_mut().for_each(|family| family.backend.backend().queue_resync());
        self.arp.1.queue_resync();
        self.routes.queue_resync();
        self.interfaces.queue_resync();
    }

    /// The next apply looks whether others have changed rules, and at the next of `parts` parts of the settings, of which
    /// there is no event. Memory only.
    pub fn look_again(&mut self, parts: usize) {
        self.families.iter_mut().for_each(|family| family.backend.backend().look_again());
        self.arp.1.look_again();
        self.interfaces.queue_part(parts);
    }

    /// The endpoint as the kernel has it, if it has all of it: rules, routes and settings.
    pub fn programmed(&self, id: &WorkloadEndpointId) -> Option<&Arc<WorkloadEndpoint>> {
        self.programmed.get(id)
    }

    /// The number of the link of this name, as the routes know it.
    pub fn link(&self, name: &str) -> Option<u32> {
        self.routes.device_index(&InterfaceName::new(name).ok()?)
    }

    /// Whether nobody wants the endpoint and the kernel has nothing of it: no rules, no routes, no tracked connections.
    /// Until the datastore is in sync that is not known.
    pub fn is_withdrawn(&self, id: &WorkloadEndpointId) -> bool {
        self.in_sync
            && !self.model.workloads().contains_key(id)
            && !self.programmed.contains_key(id)
            && !self.unsure.contains(id)
    }

    /// How many endpoints the kernel has all of.
    pub fn programmed_count(&self) -> usize {
        self.programmed.len()
    }

    /// The effective parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Makes the smallest change that brings the kernel to the desired state. Does nothing before the datastore is in sync,
    /// and makes no system call when there is no news.
    ///
    /// Order: rules (one transaction a family), then settings and routes, then the connections of addresses that were lost,
    /// then the routes of those who waited for such an address. Where the rules were not taken, new endpoints get no route.
    pub fn apply(&mut self, now: Instant) -> ApplyReport {
        self.apply_with(now, &mut |_| false)
    }

    /// As [`Dataplane::apply`]. While the kernel is busy with many routes, `more` is asked for BGP's further choice; false:
    /// there is none now. It must not wait, and has to come to an end.
    pub fn apply_with(
        &mut self,
        now: Instant,
        more: &mut dyn FnMut(&mut BgpRoutes<'_, R>) -> bool,
    ) -> ApplyReport {
        if !self.in_sync {
            return ApplyReport { waiting_for_sync: true, ..ApplyReport::default() };
        }
        let mut report = ApplyReport::default();
        let ruled = self.apply_rules(now, &mut report);
        self.apply_arp(now, &mut report);
        let ready = self.adopt(now, &mut report) && ruled;
        self.place_interfaces(ready, &mut report);
        let settings = self.apply_settings(now, &mut report);
        let mut routes = self.routes.apply_with(now, &mut |table| more(&mut BgpRoutes(table)));
        if ready && routes.is_ok() && self.forget_connections(now) {
            self.place_interfaces(ready, &mut report);
            routes = self.routes.apply(now);
        }
        let routes = self.report_routes(routes, &mut report);
        self.judge_endpoints(ruled, &mut report);
        self.schedule(now, [settings, routes, self.owners.next_try()], &mut report);
        report
    }

    /// Whether every family's rules are in the kernel.
    fn apply_rules(&mut self, now: Instant, report: &mut ApplyReport) -> bool {
        self.choose_backend();
        let mut ruled = true;
        for family in &mut self.families {
            if family.version() == IpVersion::V6 && !self.parameters.ipv6_support {
                continue;
            }
            let mut outcome = family.apply(&self.model, &self.parameters, now);
            if outcome.as_ref().is_err_and(BackendError::is_without_nf_tables) {
                self.nft_is_missing = true;
                if Kind::wanted(&self.parameters, true) == Kind::Iptables {
                    warn!("the kernel has no nf_tables: policy is enforced by iptables");
                    family.activate(Kind::Iptables, &self.model);
                    outcome = family.apply(&self.model, &self.parameters, now);
                }
            }
            let of = nft_family(family.version());
            match outcome {
                Ok(faults) => {
                    report
                        .errors
                        .extend(faults.into_iter().map(|what| ApplyError::Refused { family: of, what }));
                    if let Err(error) = family.backend.clean() {
                        let what = format!("what is left of another backend: {error}");
                        report.errors.push(ApplyError::Leftovers { family: of, what });
                    }
                }
                Err(source) => {
                    ruled = false;
                    report.errors.push(ApplyError::Ruleset { family: of, source });
                }
            }
        }
        self.ruleset_failures = if ruled { 0 } else { self.ruleset_failures.saturating_add(1) };
        report.ruleset_failures = self.ruleset_failures;
        ruled
    }

    fn choose_backend(&mut self) {
        let wanted = Kind::wanted(&self.parameters, self.nft_is_missing);
        for family in self.families.iter_mut().filter(|family| family.backend.active() != wanted) {
            info!(family = ?family.version(), backend = ?wanted, "another backend enforces policy");
            family.activate(wanted, &self.model);
        }
    }

    /// ARP is no matter of policy: no endpoint waits for it, and a kernel that cannot filter it does without.
    fn apply_arp(&mut self, now: Instant, report: &mut ApplyReport) {
        if self.arp_is_missing {
            return;
        }
        if Kind::wanted(&self.parameters, self.nft_is_missing) == Kind::Iptables {
            self.withdraw_arp(report);
            return;
        }
        if std::mem::take(&mut self.arp_is_withdrawn) {
            self.arp.0 = ArpRules::default();
            self.arp.0.on_interfaces(&self.model.interfaces().cloned().collect());
        }
        let (rules, table) = &mut self.arp;
        rules.render(&self.model, table);
        match table.apply(now) {
            Ok(()) => {
                let family = table.family();
                report.errors.extend(table.faults().map(|what| ApplyError::Refused { family, what }));
            }
            Err(error) if is_unsupported(&error) => {
                self.arp_is_missing = true;
                warn!(
                    "the kernel cannot filter ARP (CONFIG_NF_TABLES_ARP): while a workload's route is missing, the \
                     host may answer it for its own address"
                );
            }
            Err(source) => {
                report.errors.push(ApplyError::Ruleset { family: table.family(), source: source.into() });
            }
        }
    }

    /// As with Calico, only nf_tables keeps ARP from a workload's own address.
    fn withdraw_arp(&mut self, report: &mut ApplyReport) {
        let table = &mut self.arp.1;
        if self.arp_is_withdrawn {
            return;
        }
        match table.remove() {
            Ok(()) => self.arp_is_withdrawn = true,
            Err(error) if is_unsupported(&error) => self.arp_is_withdrawn = true,
            Err(source) => {
                report.errors.push(ApplyError::Ruleset { family: table.family(), source: source.into() });
            }
        }
    }

    fn report_routes(
        &self,
        outcome: Result<kernel::route::Report, kernel::netlink::Error>,
        report: &mut ApplyReport,
    ) -> Option<Instant> {
        report.errors.extend(self.routes.failures().cloned().map(ApplyError::Route));
        let blocking = self.routes.conflicts().filter(|conflict| conflict.blocks());
        report.errors.extend(blocking.cloned().map(ApplyError::Conflict));
        let stale = self.owners.failures();
        report.errors.extend(
            stale.map(|(address, why)| ApplyError::StaleConnections { address, why: why.to_owned() }),
        );
        match outcome {
            Ok(done) => done.next_apply,
            Err(error) => {
                report.errors.push(ApplyError::Routes(error));
                None
            }
        }
    }

    /// Which endpoints the kernel has all of. Those that it does not stay unsure.
    fn judge_endpoints(&mut self, ruled: bool, report: &mut ApplyReport) {
        for id in std::mem::take(&mut self.unsure) {
            let endpoint = self.model.workloads().get(&id).cloned();
            let leaving = !ruled || self.owners.is_leaving(&id);
            let Some(endpoint) = endpoint else {
                if leaving {
                    self.unsure.insert(id);
                } else if self.programmed.remove(&id).is_some() {
                    report.withdrawn.push(id);
                }
                continue;
            };
            if ruled && self.is_programmed(&id, &endpoint, report) {
                if leaving {
                    self.unsure.insert(id);
                    continue;
                }
                if self.programmed.insert(id.clone(), endpoint.clone()).as_ref() != Some(&endpoint) {
                    report.programmed.push(id);
                }
                continue;
            }
            if self.programmed.remove(&id).is_some() {
                report.withdrawn.push(id.clone());
            }
            self.unsure.insert(id);
        }
    }

    fn is_programmed(
        &self,
        id: &WorkloadEndpointId,
        endpoint: &WorkloadEndpoint,
        report: &mut ApplyReport,
    ) -> bool {
        match self.model.on_interface(&endpoint.interface) {
            Some((owner, _)) if owner != id => {
                let (endpoint, interface) = (id.clone(), endpoint.interface.clone());
                report.errors.push(ApplyError::InterfaceTaken { endpoint, interface, owner: owner.clone() });
                false
            }
            _ => {
                let others = |net: &IpNet| {
                    self.owners.owner_of(net.addr()).filter(|owner| **owner != endpoint.interface)
                };
                let taken = nets_of(endpoint, &self.parameters).find_map(|net| Some((net, others(&net)?)));
                if let Some((net, owner)) = taken {
                    let (endpoint, owner) = (id.clone(), owner.clone());
                    report.errors.push(ApplyError::AddressTaken { endpoint, address: net.addr(), owner });
                    return false;
                }
                InterfaceName::new(&endpoint.interface).is_ok_and(|name| self.interfaces.is_settled(&name))
                    && nets_of(endpoint, &self.parameters)
                        .all(|net| self.routes.status(net) == RouteStatus::Programmed)
            }
        }
    }

    /// Rules are tried again later and later; routes and settings time themselves.
    fn schedule(&mut self, now: Instant, theirs: [Option<Instant>; 3], report: &mut ApplyReport) {
        let ours = |error: &ApplyError| {
            matches!(
                error,
                ApplyError::Ruleset { .. }
                    | ApplyError::Leftovers { .. }
                    | ApplyError::Routes(_)
                    | ApplyError::Links(_)
                    | ApplyError::Connections(_)
            )
        };
        self.failures = if report.errors.iter().any(ours) { self.failures.saturating_add(1) } else { 0 };
        let retry = (self.failures > 0).then(|| {
            let doubled = RETRY.0.saturating_mul(1_u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
            now + doubled.min(RETRY.1)
        });
        let tables = self.families.iter().map(|family| family.backend.next_apply());
        let refused = tables.chain([self.arp.1.next_apply()]).flatten();
        report.next_apply = theirs.into_iter().flatten().chain(retry).chain(refused).min();
    }
}

fn family<N: Transport>(version: IpVersion, transport: N, tools: &Arc<dyn Tools>) -> Family<Backends<N>> {
    let table = Table::new(nft_family(version), transport);
    Family::new(version, Backends::new(version, table, tools.clone()))
}

fn nft_family(version: IpVersion) -> NftFamily {
    match version {
        IpVersion::V4 => NftFamily::Ip,
        IpVersion::V6 => NftFamily::Ip6,
    }
}

/// The kernel knows no tables of the family.
fn is_unsupported(error: &NftError) -> bool {
    let NftError::Refused(refused) = error else { return false };
    refused.iter().any(|refusal| matches!(refusal.cause.errno, Errno::OPNOTSUPP | Errno::AFNOSUPPORT))
}

/// The addresses that are routed to an endpoint: none while it is administratively down.
fn nets_of<'a>(endpoint: &'a WorkloadEndpoint, parameters: &Parameters) -> impl Iterator<Item = IpNet> + 'a {
    let v6 = if parameters.ipv6_support { &endpoint.ipv6_nets[..] } else { &[] };
    endpoint.ipv4_nets.iter().chain(v6).copied().filter(|_| endpoint.active)
}
