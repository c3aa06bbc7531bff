//! The agent: the thread that owns the calculation graph and the dataplane.
//!
//! Everything that happens reaches it as an [`Event`] on one queue: rows of the datastore, the kernel's own news, BGP's
//! routes, and requests to wait for an endpoint. It takes in all that is queued, works out the differences once, applies
//! them once, and tells whoever waits. Nothing else writes routes, rules or settings of this host.

mod bgp_routes;
pub(crate) mod flows;
mod gateway;
pub(crate) mod imagine;
mod interfaces;
mod peering;
mod static_routes;
mod totals;
pub(crate) mod waiters;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use calc::bgp_plan::{BgpPlan, BgpPlanner, SessionFeedback};
use calc::cluster::Cluster;
use calc::contract::{Change, WorkloadEndpointId};
use calc::{Graph, GraphConfig};
use dataplane::judge::Sight;
use dataplane::{ApplyReport, RealDataplane};
use datastore::{Scope, SyncEvent, Update};
use kernel::{Rtnetlink, monitor};

use crate::felix;
use crate::flows::Said;
use crate::handover::Hold;
use crate::health::Reporter;
use crate::rounds::Rounds;
use crate::speaker::RouteEvent;
use crate::telemetry;
use crate::unbuilt::Unbuilt;
pub(crate) use bgp_routes::{BgpRoutes, Change as RouteChange};
use gateway::DefaultRoute;
use interfaces::Interfaces;
use peering::Peering;
use totals::Totals;
use waiters::{Condition, Programmed, Waiters};

/// How often the kernel is looked at when nothing happens, so that what others change without an event comes back.
const TICK: Duration = Duration::from_secs(1);
/// In so many ticks all settings of interfaces have been looked at: what others changed is back within 10 s.
const SETTINGS_PARTS: usize = 8;
/// How often routes and settings are read back whole (datapath.md 7, RouteRefreshInterval).
const RESYNC: Duration = Duration::from_secs(90);
/// Routes and other events that are taken in before the work is done.
const BATCH: usize = 4096;
/// For so long at most further routes are taken in while others are written.
const WRITING: Duration = Duration::from_millis(500);
/// After this many refused rulesets in a row the process ends, and starts anew from what is true.
const MAX_RULESET_FAILURES: u32 = 20;

/// Something that the agent has to know.
#[derive(Debug)]
pub(crate) enum Event {
    /// Rows of the datastore.
    Sync(SyncEvent),
    /// News of the kernel.
    Kernel(Vec<monitor::Event>),
    /// What BGP says about routes.
    Bgp(Vec<RouteEvent>),
    /// How BGP's sessions are.
    Sessions(SessionFeedback),
    /// What would BGP's plan be if these rows were so?
    Imagine(imagine::Imagined),
    /// A question of the watcher of flows.
    Flows(flows::FlowEvent),
    /// Write nothing any more, or again.
    Hold(Hold),
    /// Somebody wants to know when an endpoint is there, or gone.
    Wait(waiters::Waiter),
    /// The end.
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

/// What the other threads have of the agent.
#[derive(Debug, Clone)]
pub(crate) struct AgentHandle(Sender<Event>);

impl AgentHandle {
    /// Sends an event. After the agent's end nobody needs to know.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Has it write nothing to the kernel, while it follows what happens; or write again. False: it is busy for too long.
    pub(crate) fn hold(&self, still: bool) -> bool {
        Hold::ask(still, |hold| self.0.send(Event::Hold(hold)).is_ok())
    }

    /// What BGP's plan would be with these rows; `None`: the agent is busy for too long, or has ended.
    pub(crate) fn imagine(&self, rows: Vec<Update>) -> Option<BgpPlan> {
        imagine::ask(rows, |imagined| self.send(Event::Imagine(imagined)))
    }

    /// Asks which rules have decided about packets; the answer comes by itself.
    pub(crate) fn judge(&self, sights: Vec<Sight>, answer: Sender<Said>) {
        self.send(Event::Flows(flows::FlowEvent::Judge(sights, answer)));
    }

    /// Asks how many packets rules have denied; the answer comes by itself.
    pub(crate) fn count_denied(&self, answer: Sender<Said>) {
        self.send(Event::Flows(flows::FlowEvent::CountDenied(answer)));
    }

    /// Says whether somebody follows what is allowed.
    pub(crate) fn want_flows(&self, wanted: bool) {
        self.send(Event::Flows(flows::FlowEvent::Want(wanted)));
    }

    /// Waits until the kernel has an endpoint's policy, routes and settings.
    ///
    /// # Errors
    /// It does not have them in time, or the agent has ended.
    pub(crate) fn wait_programmed(
        &self,
        id: &WorkloadEndpointId,
        wanted: Programmed,
        limit: Duration,
    ) -> Result<(), String> {
        self.wait(id, Condition::Programmed(wanted), limit).map_err(|()| {
            format!(
                "the kernel did not have its policy and routes within {} s; see the node's log",
                limit.as_secs()
            )
        })
    }

    /// Waits until the kernel has nothing of an endpoint any more.
    ///
    /// # Errors
    /// It still has in time, or the agent has ended.
    pub(crate) fn wait_withdrawn(&self, id: &WorkloadEndpointId, limit: Duration) -> Result<(), String> {
        self.wait(id, Condition::Withdrawn, limit).map_err(|()| {
            format!("{id} is still in the kernel after {} s; see the node's log", limit.as_secs())
        })
    }

    /// Whether the kernel has an endpoint's policy, routes and settings now.
    pub(crate) fn is_programmed(&self, id: &WorkloadEndpointId) -> bool {
        self.wait(id, Condition::AnyProgrammed, Duration::from_secs(2)).is_ok()
    }

    fn wait(&self, id: &WorkloadEndpointId, condition: Condition, limit: Duration) -> Result<(), ()> {
        let (told, answer): (SyncSender<()>, _) = sync_channel(1);
        let deadline = Instant::now() + limit;
        self.send(Event::Wait(waiters::Waiter { id: id.clone(), condition, told, deadline }));
        answer.recv_timeout(limit).map_err(drop)
    }
}

/// What the agent is made of.
pub(crate) struct Agent {
    /// For BGP; not used when BGP is off.
    pub planner: BgpPlanner,
    /// Where plans go whenever they change.
    pub on_plan: Box<dyn FnMut(&BgpPlan) + Send>,
    /// The kernel.
    pub dataplane: RealDataplane,
    /// How it says that it works.
    pub health: Reporter,
    /// Says which settings have no effect.
    pub(crate) unbuilt: Unbuilt,
    /// The process' own parameters.
    pub(crate) live: felix::Live,
    /// For questions to the kernel that are not the dataplane's.
    pub(crate) rtnetlink: Rtnetlink,
    /// It writes nothing before [`AgentHandle::hold`] says so: another process does.
    pub(crate) held: bool,
}

/// The kinds of row that the agent follows.
pub(crate) fn scopes() -> Vec<Scope> {
    let kinds: BTreeSet<api::Kind> = Cluster::KINDS.into_iter().chain(BgpPlanner::KINDS).collect();
    let resources = kinds.into_iter().map(Scope::all);
    resources.chain([Scope::Blocks, Scope::BlockAffinities { host: None }]).collect()
}

/// The queue to an agent that is yet to be started; events wait in it.
pub(crate) fn queue() -> (AgentHandle, Receiver<Event>) {
    let (sender, receiver) = channel();
    (AgentHandle(sender), receiver)
}

/// Hands on what a syncer delivers.
pub(crate) fn deliver(handle: AgentHandle) -> impl FnMut(SyncEvent) -> ControlFlow<()> + Send + 'static {
    move |event| match handle.0.send(Event::Sync(event)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

impl Agent {
    /// Starts the thread. It ends at [`Event::Stop`], leaving the kernel as it is.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn start(self, node_name: &str, events: Receiver<Event>) -> std::io::Result<JoinHandle<()>> {
        let Self { planner, on_plan, dataplane, rtnetlink, health, unbuilt, live, held } = self;
        let worker = Worker {
            planner,
            on_plan,
            dataplane,
            health,
            default_route: DefaultRoute::new(rtnetlink),
            interfaces: Interfaces::default(),
            peering: Peering::default(),
            routes: BgpRoutes::default(),
            flows: flows::FlowWatch::default(),
            graph: Graph::new(GraphConfig::new(node_name)),
            in_sync: false,
            held,
            untold_sync: false,
            waiters: Waiters::default(),
            last_errors: BTreeSet::new(),
            totals: Totals::default(),
            unbuilt,
            live,
            next_apply: None,
            next_resync: Instant::now() + RESYNC,
            next_look: Instant::now() + TICK,
        };
        std::thread::Builder::new().name("agent".to_owned()).spawn(move || worker.run(Rounds::new(events)))
    }
}

struct Worker {
    planner: BgpPlanner,
    on_plan: Box<dyn FnMut(&BgpPlan) + Send>,
    dataplane: RealDataplane,
    health: Reporter,
    default_route: DefaultRoute,
    interfaces: Interfaces,
    peering: Peering,
    routes: BgpRoutes,
    flows: flows::FlowWatch,
    graph: Graph,
    /// The datastore's initial rows are all here.
    in_sync: bool,
    /// Nothing is written.
    held: bool,
    /// The desired state is complete, but has not been written.
    untold_sync: bool,
    waiters: Waiters,
    /// Errors that have been logged, so that each is logged once while it lasts.
    last_errors: BTreeSet<String>,
    totals: Totals,
    unbuilt: Unbuilt,
    live: felix::Live,
    next_apply: Option<Instant>,
    next_resync: Instant,
    next_look: Instant,
}

impl Worker {
    fn run(mut self, mut events: Rounds<Event>) {
        loop {
            let wait = self.until_next_work();
            let Ok(round) = events.next_round(wait, BATCH, Event::size) else { return };
            if round.into_iter().try_for_each(|event| self.take_in(event)).is_break() {
                return;
            }
            self.work(&mut events);
        }
    }

    fn until_next_work(&self) -> Duration {
        let now = Instant::now();
        let theirs = self.waiters.next_deadline().into_iter().chain(self.peering.next_deadline());
        let next = self.next_apply.into_iter().chain(theirs).min();
        next.map_or(TICK, |next| next.saturating_duration_since(now).min(TICK))
    }

    fn take_in(&mut self, event: Event) -> ControlFlow<()> {
        let dataplane = &mut self.dataplane;
        match event {
            Event::Sync(SyncEvent::Updates(updates)) => self.take_in_rows(updates),
            Event::Sync(SyncEvent::InSync) => {
                self.graph.on_in_sync();
                self.in_sync = true;
            }
            Event::Kernel(events) => events.iter().for_each(|event| {
                self.default_route.on_event(event);
                self.interfaces.on_event(event, &mut self.planner);
                dataplane.on_event(event);
            }),
            Event::Bgp(events) => events
                .into_iter()
                .filter_map(|event| self.routes.on_event(event))
                .for_each(|change| program(&mut dataplane.bgp_routes(), change)),
            Event::Sessions(feedback) => self.planner.on_sessions(feedback),
            Event::Hold(hold) => self.held = hold.obey(&self.health),
            Event::Flows(event) => self.flows.on_event(event, dataplane),
            Event::Imagine(imagined) => imagined.answer(&self.planner),
            Event::Wait(waiter) => self.waiters.add(waiter),
            Event::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn take_in_rows(&mut self, updates: Vec<Update>) {
        for Update { key, row } in updates {
            self.flows.on_row(&key, row.as_deref());
            self.planner.on_update(&key, row.clone());
            self.graph.on_update(&key, row);
        }
    }

    /// Differences once, apply once, tell everyone.
    fn work(&mut self, events: &mut Rounds<Event>) {
        let start = Instant::now();
        if start >= self.next_resync && !self.held {
            self.dataplane.resync();
            self.next_resync = start + RESYNC;
        }
        if start >= self.next_look && !self.held {
            self.dataplane.look_again(SETTINGS_PARTS);
            self.next_look = start + TICK;
        }
        let mut told = std::mem::take(&mut self.untold_sync);
        for change in self.graph.flush() {
            told |= matches!(change, Change::InSync);
            self.totals.on_change(&change);
            self.unbuilt.on_change(&change, &mut self.live);
            self.dataplane.on_change(change);
        }
        for problem in self.graph.take_problems() {
            tracing::warn!(key = %problem.key, error = %problem.error, "part of this cannot be used; what it would allow is not allowed");
        }
        if let Some(present) = self.default_route.news() {
            self.dataplane.set_gateway_route(!present);
        }
        // A plan of half the rows would look like the loss of peers and blocks.
        if let Some(plan) = self.in_sync.then(|| self.planner.flush()).flatten() {
            self.dataplane.set_blocks(plan.blocks.iter().copied());
            self.peering.set(&plan.peering_addresses, start);
            let changes = self.routes.replace_static(&plan.static_routes);
            changes.into_iter().for_each(|change| program(&mut self.dataplane.bgp_routes(), change));
            self.live.on_bgp_severity(plan.log_severity);
            (self.on_plan)(&plan);
        }
        if let Some(addresses) = self.peering.news(start) {
            self.dataplane.set_peering_addresses(addresses);
        }
        self.flows.tell(&mut self.dataplane);
        if self.held {
            self.untold_sync = told;
            self.next_apply = None;
            return self.health.beat();
        }
        let report = self.apply(start, events);
        if told {
            tracing::info!(took_ms = start.elapsed().as_millis(), "the kernel has the desired state");
        }
        self.waiters.tell(&self.dataplane, Instant::now());
        self.next_apply = report.next_apply;
        self.report(&report, start.elapsed());
        if told {
            // The whole cluster went by; what this node keeps of it is small.
            kernel::memory::give_back();
        }
    }

    /// What BGP says while routes are written is taken in as long as nothing else has come.
    fn apply(&mut self, start: Instant, events: &mut Rounds<Event>) -> ApplyReport {
        let routes = &mut self.routes;
        let bgp = |event| match event {
            Event::Bgp(events) => Ok(events),
            other => Err(other),
        };
        self.dataplane.apply_with(start, &mut |chosen| {
            let further = (start.elapsed() < WRITING).then(|| events.take_some(bgp)).flatten();
            let is_more = further.is_some();
            let changes = further.into_iter().flatten().filter_map(|event| routes.on_event(event));
            changes.for_each(|change| program(chosen, change));
            is_more
        })
    }

    fn report(&mut self, report: &ApplyReport, took: Duration) {
        let errors: BTreeSet<_> = report.errors.iter().map(ToString::to_string).collect();
        for error in errors.difference(&self.last_errors) {
            tracing::error!(error, "the kernel did not take this; it is tried again");
        }
        telemetry::applied(took, !errors.is_empty());
        self.totals.publish(self.dataplane.programmed_count());
        match (report.waiting_for_sync, errors.first()) {
            (true, _) => self.health.not_ready("waiting for the datastore to be in sync"),
            (false, Some(first)) => self.health.not_ready(format!("{first} ({} errors)", errors.len())),
            (false, None) => self.health.ready(),
        }
        self.health.beat();
        self.last_errors = errors;
        if report.ruleset_failures >= MAX_RULESET_FAILURES {
            // The kernel keeps the last ruleset that it took. A new process reads everything back, which is more likely to
            // help than trying the same once more (datapath.md 1: failing persistently is fatal).
            tracing::error!(
                failures = report.ruleset_failures,
                "the ruleset is refused again and again; starting anew"
            );
            std::process::exit(crate::EXIT_RULESET_REFUSED);
        }
    }
}

/// Hands on what the kernel's monitor says.
pub(crate) fn kernel_events(
    handle: AgentHandle,
) -> impl FnMut(Vec<monitor::Event>) -> Result<(), TrySendError<Vec<monitor::Event>>> + Send + 'static {
    move |events| {
        handle.send(Event::Kernel(events));
        Ok(())
    }
}

fn program(routes: &mut dataplane::BgpRoutes<'_, Rtnetlink>, change: RouteChange) {
    match change {
        RouteChange::Set(route) => routes.set(route),
        RouteChange::Remove(destination) => routes.remove(destination),
        RouteChange::Sweep => routes.allow_sweep(),
    }
}

/// Plans go nowhere when BGP is off.
pub(crate) fn no_bgp() -> Box<dyn FnMut(&BgpPlan) + Send> {
    Box::new(|_| {})
}
