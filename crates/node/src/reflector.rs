//! `tortie reflector`: the speaker on a host without workloads.
//!
//! The same planner and speaker as in `tortie node`, fed from the datastore or from a file of resources; no dataplane, no
//! CNI. Routes go nowhere, or with `--kernel` to the same route reconciler. Several run side by side on one host, each with
//! its own address and socket.

mod args;
mod file;
mod kernel;
mod plans;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bgp::{Shutdown, Start};
use datastore::config::DatastoreConfig;
use datastore::{SyncMonitor, Syncer};

use crate::bgp::{Beginning, Bgp, BgpMetrics, after_earlier_processes};
use crate::handover::{self, Ending, Giver, Owner, Parts, Predecessor, Taken};
use crate::health::{Health, Reporter};
use crate::instance::{NameClaim, NameLock};
use crate::signals::{OnHangup, Wake, work_until_stopped};
use crate::speaker::RouteEvent;
use crate::status::Status;
use crate::{EXIT_CANNOT_START, cni, http, logging, telemetry};
pub use args::ReflectorArgs;
use file::ResourceFile;
use kernel::KernelRoutes;
use plans::{Plans, PlansHandle, Reaction};

/// How often the file is looked at, and health is gathered.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs a reflector until it is told to stop. What keeps it from starting goes to standard error.
pub fn run(args: &ReflectorArgs) -> ExitCode {
    ::kernel::memory::share_one_heap();
    let _log = logging::start(args.log_level);
    match Reflector::start(args) {
        Ok(reflector) => {
            reflector.serve();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tortie reflector: {error:#}");
            ExitCode::from(EXIT_CANNOT_START)
        }
    }
}

struct Reflector {
    source: Source,
    plans: Plans,
    bgp: Bgp,
    kernel: Option<KernelRoutes>,
    giver: Giver,
    socket: PathBuf,
    /// How it stops.
    shutdown: Shutdown,
    _name: Option<NameLock>,
}

/// Where resources come from.
enum Source {
    File { file: Box<ResourceFile>, health: Reporter },
    Datastore { syncer: Syncer, monitor: SyncMonitor, health: Reporter },
}

impl Reflector {
    fn start(args: &ReflectorArgs) -> Result<Self> {
        tracing::info!(node = args.node, version = env!("CARGO_PKG_VERSION"), "starting a reflector");
        let health = Health::default();
        let metrics = telemetry::install()?;
        let bgp_metrics = BgpMetrics::default();
        let source_health = health.register("resources", None);
        let socket = args.socket();
        // What cannot be read is said before anything is touched.
        let (opened, from) = Opened::open(args)?;
        let owner = Owner::new(&args.node, &from);
        let predecessor = match args.take_over {
            true => Predecessor::find(&socket, owner.clone())?,
            false => None,
        };
        let claim = opened.claim(&from, args, predecessor.is_some())?;
        let kernel = args.kernel.then(|| KernelRoutes::start(health.register("routes", None))).transpose()?;
        let bgp = Bgp::prepare(routes_to(kernel.as_ref()), args.secrets.clone(), &health)?;
        bgp_metrics.follow(bgp.peers());
        let reaction = Reaction {
            listen: args.listen.clone(),
            port: args.port,
            configure: bgp.plan_receiver(),
            blocks: kernel.as_ref().map(KernelRoutes::sender),
        };
        let plans = Plans::start(args, reaction)?;
        let source = opened.follow(&plans.handle(), source_health);

        // From here on this process acts: in the place of another one, if that gives its own.
        let mut taken = Taken::default();
        if let Some(predecessor) = predecessor {
            handover::await_readiness(|| bgp.is_planned(), || source.trouble())?;
            taken = predecessor.take()?;
        }
        bgp.begin(taken.speaker, || how_to_start(args))?;
        let hold: Box<dyn Fn(bool) -> bool + Send> = match &kernel {
            Some(kernel) => Box::new(kernel.holder()),
            None => Box::new(|_| true),
        };
        hold(false);
        let name = claim.map(|claim| claim.settle(taken.name)).transpose()?;
        let pages = http::Pages { health: health.clone(), metrics, bgp: bgp_metrics };
        let http = pages.serve(args.health.as_ref(), args.metrics.as_ref(), taken.http)?;
        let handle = plans.handle();
        let questions = bgp.questions(Box::new(move |rows| handle.imagine(rows)));
        let status = Status::new(&args.node, Some(bgp.peers()), Some(questions), None, health);
        let requests = cni::serve(&socket, taken.requests, None, Arc::new(status))?;
        let speaker = Some(bgp.freezer());
        let shared = name.as_ref().map(NameLock::share).transpose()?;
        let giver = Giver::start(&socket, Parts { owner, speaker, hold, requests, http, name: shared })?;
        let shutdown = match args.fresh {
            true => Shutdown::Stopping { message: "the reflector stops".to_owned() },
            false => Shutdown::Restarting,
        };
        Ok(Self { source, plans, bgp, kernel, giver, socket, shutdown, _name: name })
    }

    /// Watches over the parts until a signal or another process says to stop, then stops.
    fn serve(mut self) {
        let ending = work_until_stopped(PERIOD, OnHangup::Tell, |wake| {
            if let Some(ending) = self.giver.ending() {
                return ControlFlow::Break(ending);
            }
            self.source.look(wake, &self.plans.handle());
            self.bgp.report().into_iter().for_each(|news| self.plans.handle().sessions(news));
            ControlFlow::Continue(())
        });
        tracing::info!("stopping");
        if ending != Some(Ending::HandedOver) {
            let _ = std::fs::remove_file(&self.socket);
        }
        if let Source::Datastore { syncer, .. } = self.source {
            syncer.stop();
        }
        self.plans.stop();
        self.bgp.stop(match ending {
            Some(Ending::Restart) => Shutdown::Restarting,
            _ => self.shutdown,
        });
        if let Some(kernel) = self.kernel {
            kernel.stop();
        }
        if ending == Some(Ending::HandedOver) {
            handover::linger();
        }
    }
}

/// Where routes go: to the thread that writes them, or nowhere.
fn routes_to(kernel: Option<&KernelRoutes>) -> impl FnMut(Vec<RouteEvent>) + Send + 'static {
    let routes = kernel.map(KernelRoutes::sender);
    move |events| {
        if let Some(routes) = &routes {
            // After the end of that thread everything ends.
            let _ = routes.send(kernel::Event::Bgp(events));
        }
    }
}

fn how_to_start(args: &ReflectorArgs) -> Result<Beginning> {
    // Whoever does not forward forwards on: the next hops are other hosts, whether we run or not. So peers may keep our
    // routes while we are away, and are told so, unless this is to be a start like the first.
    match (args.fresh, args.kernel) {
        (true, _) => Ok(Start::Fresh.into()),
        (false, true) => after_earlier_processes(),
        (false, false) => Ok(Start::Restarting.into()),
    }
}

/// Resources that can be read, and have not been told to anybody.
enum Opened {
    File { file: Box<ResourceFile>, first: Vec<datastore::Update> },
    Datastore { store: Arc<dyn datastore::Store> },
}

impl Opened {
    /// What there is, and the file that it is in.
    fn open(args: &ReflectorArgs) -> Result<(Self, PathBuf)> {
        if let Some(path) = &args.file {
            let mut file = Box::new(ResourceFile::new(path, &args.node));
            let first = file.read()?;
            return Ok((Self::File { file, first }, path.clone()));
        }
        let DatastoreConfig::Embedded { file } =
            DatastoreConfig::load(None, |name| std::env::var(name).ok())?;
        let store = DatastoreConfig::Embedded { file: file.clone() }.open_existing()?;
        Ok((Self::Datastore { store }, file))
    }

    /// The node's name, if there is anything that shares it: a file of resources is this process' own.
    fn claim(&self, from: &Path, args: &ReflectorArgs, is_given: bool) -> Result<Option<NameClaim>> {
        match self {
            Self::File { .. } => Ok(None),
            Self::Datastore { .. } => Ok(Some(NameClaim::new(from, &args.node, is_given)?)),
        }
    }

    /// Tells what is there, and follows what happens.
    fn follow(self, plans: &PlansHandle, health: Reporter) -> Source {
        match self {
            Self::File { file, first } => {
                say_unused(&file);
                plans.rows(first);
                plans.in_sync();
                health.ready();
                Source::File { file, health }
            }
            Self::Datastore { store } => {
                let syncer = Syncer::spawn(store, plans::scopes(), plans.receiver());
                let monitor = syncer.monitor();
                Source::Datastore { syncer, monitor, health }
            }
        }
    }
}

impl Source {
    /// Why rows do not come.
    fn trouble(&self) -> Option<String> {
        match self {
            Self::File { .. } => None,
            Self::Datastore { monitor, .. } => monitor.health().trouble,
        }
    }

    /// Sees to changes, and says how it is.
    fn look(&mut self, wake: Wake, plans: &PlansHandle) {
        match self {
            Self::File { file, health } => {
                if wake == Wake::Hangup || file.has_changed() {
                    reload(file, health, plans);
                }
            }
            Self::Datastore { monitor, health, .. } => {
                let now = monitor.health();
                match (now.trouble, now.in_sync) {
                    (Some(trouble), _) => health.not_ready(trouble),
                    (None, false) => health.not_ready("not in sync yet"),
                    (None, true) => health.ready(),
                }
            }
        }
    }
}

/// Reads the file again. One that cannot be used changes nothing: sessions that run are better than none.
fn reload(file: &mut ResourceFile, health: &Reporter, plans: &PlansHandle) {
    match file.read() {
        Ok(updates) => {
            tracing::info!(rows = updates.len(), "the file of resources was read again");
            say_unused(file);
            plans.rows(updates);
            health.ready();
        }
        Err(error) => {
            tracing::error!(%error, "the file of resources cannot be used; what was read before stays in force");
            health.not_ready(format!("{error}; what was read before stays in force"));
        }
    }
}

fn say_unused(file: &ResourceFile) {
    let kinds: Vec<_> = file.unused_kinds(plans::is_used).into_iter().collect();
    if !kinds.is_empty() {
        tracing::warn!(
            kinds = kinds.join(", "),
            "BGP does not depend on these kinds of the file of resources"
        );
    }
}
