//! `--kernel`: a reflector that forwards, too. The route reconciler on a thread of its own.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, TrySendError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use calc::bgp_plan::StaticRoute;
use ipnet::IpNet;
use kernel::monitor::{Event as KernelEvent, Monitor, RouteNews, Subscriptions};
use kernel::ownership::ROUTE_BIRD;
use kernel::route::{Route, RouteClass, RouteTable, RouteTableConfig};
use kernel::{Rtnetlink, netlink};

use crate::agent::{BgpRoutes, RouteChange};
use crate::handover::Hold;
use crate::health::Reporter;
use crate::rounds::Rounds;
use crate::speaker::RouteEvent;
use crate::telemetry;

/// The table is read back so often, in case an event was lost (datapath.md 7, RouteRefreshInterval).
const RESYNC: Duration = Duration::from_secs(90);
/// Pause after the kernel could not be asked.
const RETRY: Duration = Duration::from_secs(1);
/// Routes and other events that are taken in before the kernel is written to; further routes while it is.
const BATCH: usize = 1024;
/// For so long at most, then everything else has its turn.
const WRITING: Duration = Duration::from_secs(1);
/// As whom the reconciler knows us.
const OWNER: &str = "bgp";

/// Something that the thread has to know.
#[derive(Debug)]
pub(crate) enum Event {
    /// What BGP says.
    Bgp(Vec<RouteEvent>),
    /// The blocks that we announce: what is not given out in them leads nowhere.
    Blocks(BTreeSet<IpNet>),
    /// Routes to peers by way of a gateway.
    Static(BTreeSet<StaticRoute>),
    /// What the kernel says.
    Kernel(Vec<KernelEvent>),
    /// Write nothing any more, or again.
    Hold(Hold),
    /// The end; routes stay.
    Stop,
}

impl Event {
    /// How much there is to be taken in.
    fn size(&self) -> usize {
        match self {
            Self::Bgp(events) => events.len(),
            _ => 1,
        }
    }
}

/// The running thread.
pub(crate) struct KernelRoutes {
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
    _monitor: Monitor,
}

impl KernelRoutes {
    /// Starts it. It writes nothing before [`KernelRoutes::holder`] says so.
    ///
    /// # Errors
    /// The kernel's sockets or the thread cannot be had.
    pub(crate) fn start(health: Reporter) -> anyhow::Result<Self> {
        let (sender, receiver) = channel();
        let events: Sender<Event> = sender.clone();
        let rtnetlink = Rtnetlink::open()?;
        let wanted =
            Subscriptions { routes: RouteNews::ByOthersThan(rtnetlink.port()?), ..Default::default() };
        let monitor = Monitor::start(None, wanted, move |news| {
            events.send(Event::Kernel(news)).map_err(|_| TrySendError::Disconnected(Vec::new()))
        })?;
        let table = RouteTable::new(rtnetlink, RouteTableConfig::default());
        let worker =
            Worker { table, routes: BgpRoutes::default(), health, held: true, errors: BTreeSet::new() };
        let thread = std::thread::Builder::new()
            .name("routes".to_owned())
            .spawn(move || worker.run(Rounds::new(receiver)))?;
        Ok(Self { events: sender, thread: Some(thread), _monitor: monitor })
    }

    /// Has it write nothing, or write again. False: it is busy for too long.
    pub(crate) fn holder(&self) -> impl Fn(bool) -> bool + Send + 'static {
        let events = self.events.clone();
        move |still| Hold::ask(still, |hold| events.send(Event::Hold(hold)).is_ok())
    }

    /// Where events go.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.events.clone()
    }

    /// Ends the thread. The kernel's routes stay.
    pub(crate) fn stop(mut self) {
        let _ = self.events.send(Event::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes routes ended by a panic");
        }
    }
}

struct Worker {
    table: RouteTable<Rtnetlink>,
    routes: BgpRoutes,
    health: Reporter,
    /// Nothing is written.
    held: bool,
    /// What has been logged, and lasts.
    errors: BTreeSet<String>,
}

impl Worker {
    fn run(mut self, mut events: Rounds<Event>) {
        let (mut next_apply, mut next_resync) = (None, Instant::now() + RESYNC);
        loop {
            let now = Instant::now();
            let until = next_apply.map_or(next_resync, |next| next_resync.min(next));
            let wait = until.saturating_duration_since(now);
            let Ok(round) = events.next_round(wait, BATCH, Event::size) else { return };
            if round.into_iter().try_for_each(|event| self.take_in(event)).is_break() {
                return;
            }
            let now = Instant::now();
            if self.held {
                (next_apply, next_resync) = (None, now + RESYNC);
                continue;
            }
            if now >= next_resync {
                self.table.queue_resync();
                next_resync = now + RESYNC;
            }
            next_apply = self.apply(now, &mut events);
        }
    }

    fn take_in(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Bgp(events) => {
                let changes = events.into_iter().filter_map(|event| self.routes.on_event(event));
                changes.for_each(|change| program(&mut self.table, change));
            }
            Event::Blocks(blocks) => {
                let routes = blocks.into_iter().map(|block| Route::blackhole(block, ROUTE_BIRD));
                self.table.set_routes(RouteClass::NoEncapsulationBlackhole, OWNER, routes);
            }
            Event::Static(wanted) => {
                let changes = self.routes.replace_static(&wanted);
                changes.into_iter().for_each(|change| program(&mut self.table, change));
            }
            Event::Kernel(news) => news.iter().for_each(|event| self.table.on_event(event)),
            Event::Hold(hold) => self.held = hold.obey(&self.health),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Gives when it wants to be called again.
    fn apply(&mut self, now: Instant, events: &mut Rounds<Event>) -> Option<Instant> {
        let routes = &mut self.routes;
        let mut take_in_more = |table: &mut RouteTable<Rtnetlink>| {
            let bgp = |event| match event {
                Event::Bgp(events) => Ok(events),
                other => Err(other),
            };
            let further = (now.elapsed() < WRITING).then(|| events.take_some(bgp)).flatten();
            let is_more = further.is_some();
            let changes = further.into_iter().flatten().filter_map(|event| routes.on_event(event));
            changes.for_each(|change| program(table, change));
            is_more
        };
        let outcome = self.table.apply_with(now, &mut take_in_more);
        telemetry::applied(now.elapsed(), outcome.is_err());
        let next = match &outcome {
            Ok(report) => report.next_apply,
            Err(_) => Some(now + RETRY),
        };
        self.report(outcome.err());
        next
    }

    fn report(&mut self, failed: Option<netlink::Error>) {
        let refused = self.table.failures().map(ToString::to_string);
        let blocked = self.table.conflicts().filter(|conflict| conflict.blocks()).map(ToString::to_string);
        let errors: BTreeSet<String> =
            failed.iter().map(ToString::to_string).chain(refused).chain(blocked).collect();
        for error in errors.difference(&self.errors) {
            tracing::error!(error, "the kernel did not take this; it is tried again");
        }
        match errors.first() {
            Some(first) => self.health.not_ready(format!("{first} ({} errors)", errors.len())),
            None => self.health.ready(),
        }
        self.errors = errors;
    }
}

fn program(table: &mut RouteTable<Rtnetlink>, change: RouteChange) {
    match change {
        RouteChange::Set(route) => table.set_route(RouteClass::Bgp, OWNER, route),
        RouteChange::Remove(destination) => table.remove_route(RouteClass::Bgp, OWNER, destination),
        RouteChange::Sweep => table.allow_sweep(ROUTE_BIRD),
    }
}
