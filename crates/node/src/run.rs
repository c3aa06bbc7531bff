//! `tortie node`: the parts put together, started in order, and stopped.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use calc::bgp_plan::{BgpPlanner, RouterIdSource};
use clap::Args;
use dataplane::{DataplaneConfig, Kernel, RealDataplane};
use datastore::config::DatastoreConfig;
use datastore::{Store, SyncEvent, SyncMonitor, Syncer};
use ipam::Ipam;
use kernel::Rtnetlink;
use kernel::monitor::{self, Monitor, RouteNews, Subscriptions};
use kernel::pod::Remover;

use crate::agent::{self, Agent, AgentHandle};
use crate::bgp::{Bgp, BgpMetrics, after_earlier_processes, routes_to};
use crate::cni::{self, Cni};
use crate::config::{NodeConfig, RouterId};
use crate::felix::{self, Live, Parameters, Sources};
use crate::flows::Flows;
use crate::handover::{self, Ending, Giver, Owner, Parts, Predecessor, Taken};
use crate::health::{Health, Reporter};
use crate::instance::{NameClaim, NameLock};
use crate::logging::{self, LogLevel};
use crate::packet::Packets;
use crate::signals::{OnHangup, work_until_stopped};
use crate::startup::{self, Addresses};
use crate::status::Status;
use crate::unbuilt::Unbuilt;
use crate::{addresses, auto_host_endpoints, confirmation, http, node_status, recovery, telemetry};

/// Exit code: the configuration or the state of the host or datastore does not allow the node to run.
pub const EXIT_CANNOT_START: u8 = 1;
/// Exit code: the kernel refused the ruleset again and again; start anew.
pub const EXIT_RULESET_REFUSED: i32 = 3;

/// Name of the socket in the run directory.
const SOCKET: &str = "node.sock";
/// How often health is gathered from the parts that do not report by themselves.
const HEALTH_PERIOD: Duration = Duration::from_millis(100);
/// Pause between attempts to reach a datastore that is waited for.
const DATASTORE_RETRY: Duration = Duration::from_secs(1);
/// The agent may be silent this long before the node counts as dead (datapath.md 7).
const AGENT_DEADLINE: Duration = Duration::from_secs(90);

/// How the node starts; all else is in its environment.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Take the place of a node that runs with this name: its BGP sessions, sockets and lock; it then ends
    #[arg(long)]
    take_over: bool,
}

/// Runs the node until it is told to stop. What keeps it from starting goes to standard error, all of it.
pub fn run(args: &NodeArgs) -> ExitCode {
    kernel::memory::share_one_heap();
    match prepare().and_then(|prepared| Node::start(prepared, args)) {
        Ok(node) => {
            node.serve();
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the node cannot start");
            eprintln!("tortie node: {error:#}");
            ExitCode::from(EXIT_CANNOT_START)
        }
    }
}

/// What was read before anything was touched.
struct Prepared {
    config: NodeConfig,
    datastore: DatastoreConfig,
    sources: Sources,
    log: LogLevel,
}

/// Felix' configuration file, which need not be there.
const FELIX_FILE: &str = "/etc/calico/felix.cfg";

fn prepare() -> Result<Prepared> {
    let variable = |name: &str| std::env::var(name).ok();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let config = NodeConfig::read(variable, std::env::vars(), &host_name).map_err(|errors| {
        anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let file = match fs::read_to_string(FELIX_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        outcome => outcome.with_context(|| format!("cannot read {FELIX_FILE}"))?,
    };
    let sources =
        Sources { environment: config.felix.clone(), file: felix::parse_file(&file), ..Sources::default() };
    let (parameters, warnings) = Parameters::resolve(&sources);
    let log = logging::start(parameters.log_level);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let datastore = DatastoreConfig::load(None, variable)?;
    Ok(Prepared { config, datastore, sources, log })
}

/// A running node.
struct Node {
    agent: AgentHandle,
    agent_thread: std::thread::JoinHandle<()>,
    syncer: Syncer,
    sync_health: (SyncMonitor, Reporter),
    bgp: Option<Bgp>,
    giver: Giver,
    socket: PathBuf,
    _monitor: Monitor,
    _name: NameLock,
}

impl Node {
    fn start(prepared: Prepared, args: &NodeArgs) -> Result<Self> {
        let Prepared { config, datastore, mut sources, mut log } = prepared;
        tracing::info!(node = config.node_name, version = env!("CARGO_PKG_VERSION"), "starting");
        let store = open_datastore(&datastore, config.wait_for_datastore)?;
        let DatastoreConfig::Embedded { file } = &datastore;
        let socket = config.run_dir.join(SOCKET);
        let owner = Owner::new(&config.node_name, file);
        let predecessor = match args.take_over {
            true => Predecessor::find(&socket, owner.clone())?,
            false => None,
        };
        let claim = NameClaim::new(file, &config.node_name, predecessor.is_some())?;
        let mut rtnetlink = Rtnetlink::open()?;
        let addresses = register(&config, store.as_ref(), &mut rtnetlink)?;
        write_node_name(&config.nodename_file, &config.node_name)?;

        sources.read_datastore(store.as_ref(), &config.node_name)?;
        // What is wrong with them is said when they come to the agent.
        let (parameters, _) = Parameters::resolve(&sources);
        log.set(parameters.log_level);
        let health = Health::default();
        let bgp_metrics = BgpMetrics::default();
        let metrics = telemetry::install()?;
        let (agent, events) = agent::queue();
        let routes = routes_to(agent.clone());
        let bgp =
            config.bgp.then(|| Bgp::prepare(routes, config.secrets_dir.clone(), &health)).transpose()?;
        bgp.iter().for_each(|bgp| bgp_metrics.follow(bgp.peers()));
        let dataplane_config = DataplaneConfig {
            node_name: config.node_name.clone(),
            local_parameters: sources.local(),
            flow_log: can_log_flows(),
        };
        let (dataplane, own_port) = open_dataplane(dataplane_config.clone())?;
        let interface_prefixes = dataplane.parameters().interface_prefix.join(",");
        let wanted = Subscriptions { routes: RouteNews::ByOthersThan(own_port), ..Default::default() };
        let monitor = Monitor::start(None, wanted, agent::kernel_events(agent.clone()))?;
        // The monitor tells changes; the addresses that there are count too, for host endpoints are found by them.
        let links = rtnetlink.links()?.into_iter().map(monitor::Event::Link);
        let addresses_held = rtnetlink.addresses()?.into_iter().map(monitor::Event::Address);
        agent.send(agent::Event::Kernel(links.chain(addresses_held).collect()));
        let agent_thread = Agent {
            planner: BgpPlanner::new(&config.node_name, router_id_source(config.router_id))
                .with_cluster_ips(config.advertised_cluster_ips.clone()),
            on_plan: bgp.as_ref().map_or_else(agent::no_bgp, Bgp::plan_receiver),
            dataplane,
            rtnetlink: Rtnetlink::open()?,
            health: health.register("dataplane", Some(AGENT_DEADLINE)),
            unbuilt: Unbuilt::new(health.clone(), &sources.local()),
            live: Live::new(sources, parameters.clone(), log),
            held: true,
        }
        .start(&config.node_name, events)?;
        let sync_reporter = health.register("datastore", None);
        let reporter = node_status::Reporter::new(bgp.as_ref().map(Bgp::facts));
        let status_rows = node_status::start(&config.node_name, store.clone(), reporter)?;
        let confirmations = confirmation::start(&config.node_name, store.clone())?;
        let auto = auto_host_endpoints::start(&config.node_name, store.clone())?;
        let own = [node_status::scope(), confirmation::scope(), auto_host_endpoints::scope()];
        let scopes = agent::scopes().into_iter().chain(own).collect();
        let syncer =
            Syncer::spawn(store.clone(), scopes, deliver(status_rows, confirmations, auto, agent.clone()));
        let sync = syncer.monitor();

        // From here on this process acts: in the place of another one, if that gives its own.
        let mut taken = Taken::default();
        if let Some(predecessor) = predecessor {
            let is_ready = || bgp.as_ref().map_or_else(|| sync.health().in_sync, Bgp::is_planned);
            handover::await_readiness(is_ready, || sync.health().trouble)?;
            taken = predecessor.take()?;
        }
        if let Some(bgp) = &bgp {
            bgp.begin(taken.speaker, after_earlier_processes)?;
        }
        agent.hold(false);
        let name = claim.settle(taken.name)?;
        // Links that an earlier process had marked for deletion and did not live to delete.
        rtnetlink.delete_condemned()?;
        let pages = http::Pages { health: health.clone(), metrics, bgp: bgp_metrics };
        let http = pages.serve(parameters.health.as_ref(), parameters.metrics.as_ref(), taken.http)?;
        recovery::start(store.clone())?;
        let mtu = node_mtu(&mut rtnetlink, addresses)?;
        write_mtu(&config.nodename_file, mtu)?;
        let planner = agent.clone();
        let questions = bgp.as_ref().map(|bgp| bgp.questions(Box::new(move |rows| planner.imagine(rows))));
        let flows = match dataplane_config.flow_log {
            true => Some(Flows::start(&config.node_name, agent.clone())?),
            false => None,
        };
        let peers = bgp.as_ref().map(Bgp::peers);
        let status = Status::new(&config.node_name, peers, questions, flows, health.clone())
            .with_packets(Packets::new(dataplane_config, store.clone()));
        let cni = Cni::new(cni::Parts {
            node_name: config.node_name.clone(),
            nodename_file: config.nodename_file.clone(),
            interface_prefixes,
            mtu,
            ipam: Ipam::new(store.clone()),
            store,
            agent: agent.clone(),
            health,
            remover: Remover::start(Rtnetlink::open()?)?,
            programming_limit: cni::PROGRAMMING_LIMIT,
        });
        let requests = cni::serve(&socket, taken.requests, Some(Arc::new(cni)), Arc::new(status))?;
        let writer = agent.clone();
        let giver = Giver::start(
            &socket,
            Parts {
                owner,
                speaker: bgp.as_ref().map(Bgp::freezer),
                hold: Box::new(move |still| writer.hold(still)),
                requests,
                http,
                name: Some(name.share()?),
            },
        )?;
        let sync_health = (sync, sync_reporter);
        Ok(Self {
            agent,
            agent_thread,
            syncer,
            sync_health,
            bgp,
            giver,
            socket,
            _monitor: monitor,
            _name: name,
        })
    }

    /// Watches over the parts until a signal or another process says to stop, then stops: BGP so that peers keep our routes,
    /// and everything in the kernel stays as it is.
    fn serve(self) {
        let ending = work_until_stopped(HEALTH_PERIOD, OnHangup::End, |_| {
            if let Some(ending) = self.giver.ending() {
                return ControlFlow::Break(ending);
            }
            self.report_datastore();
            if let Some(bgp) = &self.bgp {
                let news = bgp.report();
                news.into_iter().for_each(|news| self.agent.send(agent::Event::Sessions(news)));
            }
            let ended = [("agent", self.agent_thread.is_finished()), ("syncer", self.syncer.has_ended())];
            if let Some((part, _)) = ended.iter().find(|(_, has_ended)| *has_ended) {
                tracing::error!("the {part} has ended; so does the node");
                std::process::exit(i32::from(EXIT_CANNOT_START));
            }
            ControlFlow::Continue(())
        });
        tracing::info!("stopping; routes and policy stay in the kernel");
        if ending != Some(Ending::HandedOver) {
            // Whoever connects from now on is told that no node runs, and tries again later.
            let _ = fs::remove_file(&self.socket);
        }
        self.syncer.stop();
        if let Some(bgp) = self.bgp {
            bgp.stop(bgp::Shutdown::Restarting);
        }
        self.agent.send(agent::Event::Stop);
        if self.agent_thread.join().is_err() {
            tracing::error!("the agent ended by a panic");
        }
        if ending == Some(Ending::HandedOver) {
            handover::linger();
        }
    }

    fn report_datastore(&self) {
        let (monitor, reporter) = &self.sync_health;
        let health = monitor.health();
        match (health.trouble, health.in_sync) {
            (Some(trouble), _) => reporter.not_ready(trouble),
            (None, false) => reporter.not_ready("not in sync yet"),
            (None, true) => reporter.ready(),
        }
    }
}

/// Hands on what the syncer delivers: there is one for all, because each write to the datastore wakes every one.
fn deliver(
    status_rows: node_status::Rows,
    confirmations: confirmation::Rows,
    auto: auto_host_endpoints::News,
    agent: AgentHandle,
) -> impl FnMut(SyncEvent) -> ControlFlow<()> + Send + 'static {
    let mut to_agent = agent::deliver(agent);
    move |mut event| {
        auto.look(&event);
        if let SyncEvent::Updates(updates) = &mut event {
            status_rows.take(updates);
            confirmations.take(updates);
            if updates.is_empty() {
                return ControlFlow::Continue(());
            }
        }
        to_agent(event)
    }
}

fn open_datastore(config: &DatastoreConfig, wait: bool) -> Result<Arc<dyn Store>> {
    loop {
        match config.open() {
            Ok(store) => return Ok(store),
            Err(error) if wait => {
                tracing::warn!(%error, "waiting for the datastore");
                std::thread::sleep(DATASTORE_RETRY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The node's own rows.
fn register(config: &NodeConfig, store: &dyn Store, rtnetlink: &mut Rtnetlink) -> Result<Addresses> {
    let interfaces = addresses::interfaces(rtnetlink)?;
    let stored = startup::stored_addresses(store, &config.node_name)?;
    let found = addresses::find(config, &interfaces, stored)?;
    startup::register_node(store, config, found)?;
    let held: Vec<_> =
        interfaces.iter().flat_map(|interface| &interface.addresses).map(ipnet::IpNet::addr).collect();
    startup::ensure_defaults(store, config, &held, || uuid::Uuid::new_v4().simple().to_string())?;
    Ok(found)
}

fn write_node_name(file: &Path, name: &str) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("CALICO_NODENAME_FILE: cannot make {}", folder.display()))?;
    }
    fs::write(file, name).with_context(|| format!("CALICO_NODENAME_FILE: cannot write {}", file.display()))
}

/// Where Calico's CNI plugin looks for it, and ours.
fn write_mtu(nodename_file: &Path, mtu: Option<u32>) -> Result<()> {
    let file = cni::mtu::file(nodename_file);
    let Some(mtu) = mtu else { return Ok(()) };
    fs::write(&file, mtu.to_string()).with_context(|| format!("cannot write {}", file.display()))
}

/// Whether the kernel can say which packets rules deny; without, it would refuse the rules.
fn can_log_flows() -> bool {
    let can = kernel::nflog::is_supported().unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known whether the kernel has NFLOG");
        false
    });
    if !can {
        tracing::warn!(
            "the kernel has no NFLOG (CONFIG_NETFILTER_NETLINK_LOG and CONFIG_NFT_LOG): flows are not watched"
        );
    }
    can
}

/// The dataplane, and the port of the socket with which it changes routes.
fn open_dataplane(config: DataplaneConfig) -> Result<(RealDataplane, u32)> {
    let kernel = Kernel::open().context("the kernel cannot be programmed; a node runs as root")?;
    let own_port = kernel.routes.port()?;
    Ok((RealDataplane::new(config, kernel), own_port))
}

fn router_id_source(router_id: RouterId) -> RouterIdSource {
    match router_id {
        RouterId::NodeAddress => RouterIdSource::NodeAddress,
        RouterId::HashOfName => RouterIdSource::NameHash,
        RouterId::Literal(address) => RouterIdSource::Literal(address),
    }
}

/// Pods get the MTU of the interface that holds the node's address.
fn node_mtu(rtnetlink: &mut Rtnetlink, addresses: Addresses) -> Result<Option<u32>> {
    let ours = [addresses.ipv4, addresses.ipv6].map(|net| net.map(|net| net.addr()));
    let held = rtnetlink.addresses()?;
    let holder = held.iter().find(|held| ours.contains(&Some(held.address.addr())));
    let links = rtnetlink.links()?;
    Ok(holder.and_then(|holder| links.iter().find(|link| link.index == holder.index)).map(|link| link.mtu))
}
