//! `tortie reflector`: the speaker on a host without workloads.
//!
//! The same planner and speaker as in `tortie node`, fed from the datastore or from a file of resources; no dataplane, no
//! CNI. Routes go nowhere, or with `--kernel` to the same route reconciler. Several run side by side on one host, each with
//! its own address and socket.

mod args;
mod file;
mod kernel;
mod plans;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bgp::{Shutdown, Start};
use datastore::config::DatastoreConfig;
use datastore::{SyncMonitor, Syncer};

use crate::bgp::{Bgp, BgpMetrics, left_behind};
use crate::health::{Health, Reporter};
use crate::instance::NameLock;
use crate::signals::{OnHangup, Wake, work_until_stopped};
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
    socket: PathBuf,
    /// How it stops.
    shutdown: Shutdown,
}

/// Where resources come from.
enum Source {
    File { file: Box<ResourceFile>, health: Reporter },
    Datastore { syncer: Syncer, monitor: SyncMonitor, health: Reporter, _name: NameLock },
}

impl Reflector {
    fn start(args: &ReflectorArgs) -> Result<Self> {
        tracing::info!(node = args.node, version = env!("CARGO_PKG_VERSION"), "starting a reflector");
        let health = Health::default();
        let metrics = telemetry::install()?;
        let bgp_metrics = BgpMetrics::default();
        if let Some((host, port)) = &args.health {
            http::serve("health", host, *port, http::health_routes(health.clone()))?;
        }
        if let Some((host, port)) = &args.metrics {
            http::serve("metrics", host, *port, http::metrics_routes(metrics, bgp_metrics.clone()))?;
        }
        let source_health = health.register("resources", None);
        // What cannot be read is said before anything is touched.
        let opened = Opened::open(args)?;
        let kernel = args.kernel.then(|| KernelRoutes::start(health.register("routes", None))).transpose()?;
        let bgp = start_bgp(args, kernel.as_ref(), &health)?;
        bgp_metrics.follow(bgp.peers());
        let reaction = Reaction {
            listen: args.listen.clone(),
            port: args.port,
            configure: bgp.plan_receiver(),
            blocks: kernel.as_ref().map(KernelRoutes::sender),
        };
        let plans = Plans::start(args, reaction)?;
        let socket = args.socket();
        let handle = plans.handle();
        let questions = bgp.questions(Box::new(move |rows| handle.imagine(rows)));
        let status = Status::new(&args.node, Some(bgp.peers()), Some(questions), health);
        let source = opened.follow(&plans.handle(), source_health);
        cni::serve(&socket, None, Arc::new(status))?;
        let shutdown = match args.fresh {
            true => Shutdown::Stopping { message: "the reflector stops".to_owned() },
            false => Shutdown::Restarting,
        };
        Ok(Self { source, plans, bgp, kernel, socket, shutdown })
    }

    /// Watches over the parts until a signal says to stop, then stops.
    fn serve(mut self) {
        work_until_stopped(PERIOD, OnHangup::Tell, |wake| {
            self.source.look(wake, &self.plans.handle());
            self.bgp.report().into_iter().for_each(|news| self.plans.handle().sessions(news));
        });
        tracing::info!("stopping");
        let _ = std::fs::remove_file(&self.socket);
        if let Source::Datastore { syncer, .. } = self.source {
            syncer.stop();
        }
        self.plans.stop();
        self.bgp.stop(self.shutdown);
        if let Some(kernel) = self.kernel {
            kernel.stop();
        }
    }
}

fn start_bgp(args: &ReflectorArgs, kernel: Option<&KernelRoutes>, health: &Health) -> Result<Bgp> {
    // Whoever does not forward forwards on: the next hops are other hosts, whether we run or not. So peers may keep our
    // routes while we are away, and are told so, unless this is to be a start like the first.
    let forwards_on = match kernel {
        Some(_) => left_behind().context("cannot read the kernel's routes")?,
        None => true,
    };
    let start = if forwards_on && !args.fresh { Start::Restarting } else { Start::Fresh };
    let routes = kernel.map(KernelRoutes::sender);
    let on_route = move |event| {
        if let Some(routes) = &routes {
            // After the end of that thread everything ends.
            let _ = routes.send(kernel::Event::Bgp(event));
        }
    };
    Bgp::start_as(start, on_route, args.secrets.clone(), health)
}

/// Resources that can be read, and have not been told to anybody.
enum Opened {
    File { file: Box<ResourceFile>, first: Vec<datastore::Update> },
    Datastore { store: Arc<dyn datastore::Store>, name: NameLock },
}

impl Opened {
    fn open(args: &ReflectorArgs) -> Result<Self> {
        if let Some(path) = &args.file {
            let mut file = Box::new(ResourceFile::new(path, &args.node));
            let first = file.read()?;
            return Ok(Self::File { file, first });
        }
        let DatastoreConfig::Embedded { file } =
            DatastoreConfig::load(None, |name| std::env::var(name).ok())?;
        open_existing(&file, &args.node)
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
            Self::Datastore { store, name } => {
                let syncer = Syncer::spawn(store, plans::scopes(), plans.receiver());
                let monitor = syncer.monitor();
                Source::Datastore { syncer, monitor, health, _name: name }
            }
        }
    }
}

fn open_existing(file: &Path, node: &str) -> Result<Opened> {
    let store = DatastoreConfig::Embedded { file: file.to_owned() }.open_existing()?;
    let name = NameLock::take(file, node)?;
    Ok(Opened::Datastore { store, name })
}

impl Source {
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
