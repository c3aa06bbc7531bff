//! The thread that keeps the plan: rows in, configurations of the speaker out.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use api::Kind;
use calc::bgp_plan::{BgpPlan, BgpPlanner, SessionFeedback};
use datastore::{Scope, SyncEvent, Update};
use ipnet::IpNet;

use super::{ReflectorArgs, kernel};
use crate::agent::imagine::{self, Imagined};

/// Whether the plan depends on a kind.
pub(super) fn is_used(kind: Kind) -> bool {
    BgpPlanner::KINDS.contains(&kind)
}

/// The rows of a datastore that the plan depends on.
pub(super) fn scopes() -> Vec<Scope> {
    let affinities = Scope::BlockAffinities { host: None };
    BgpPlanner::KINDS.into_iter().map(Scope::all).chain([affinities]).collect()
}

/// What is done with a plan.
pub(super) struct Reaction {
    /// Where to listen, whatever the plan says; empty: where it says.
    pub(super) listen: Vec<IpAddr>,
    /// Likewise.
    pub(super) port: Option<u16>,
    /// The speaker.
    pub(super) configure: Box<dyn FnMut(&BgpPlan) + Send>,
    /// Who drops what is not given out in our blocks, if anybody.
    pub(super) blocks: Option<Sender<kernel::Event>>,
}

impl Reaction {
    fn on_plan(&mut self, mut plan: BgpPlan) {
        if let Some(port) = self.port {
            plan.listen.port = port;
        }
        if !self.listen.is_empty() {
            plan.listen.addresses.clone_from(&self.listen);
        }
        plan.forwards = self.blocks.is_some();
        if self.blocks.is_none() && !plan.static_routes.is_empty() {
            tracing::warn!("reachableBy makes a route in the kernel, which this does only with --kernel");
        }
        if let Some(routes) = &self.blocks {
            let blocks: BTreeSet<IpNet> = plan.blocks.clone();
            let _ = routes.send(kernel::Event::Blocks(blocks));
            let _ = routes.send(kernel::Event::Static(plan.static_routes.clone()));
        }
        (self.configure)(&plan);
    }
}

#[derive(Debug)]
enum Event {
    Sync(SyncEvent),
    Sessions(SessionFeedback),
    Imagine(Imagined),
    Stop,
}

/// Tells the thread what there is.
#[derive(Debug, Clone)]
pub(super) struct PlansHandle(Sender<Event>);

impl PlansHandle {
    /// These rows are now so.
    pub(super) fn rows(&self, updates: Vec<Update>) {
        if !updates.is_empty() {
            let _ = self.0.send(Event::Sync(SyncEvent::Updates(updates)));
        }
    }

    /// How sessions are.
    pub(super) fn sessions(&self, feedback: SessionFeedback) {
        let _ = self.0.send(Event::Sessions(feedback));
    }

    /// All rows that there are have been told.
    pub(super) fn in_sync(&self) {
        let _ = self.0.send(Event::Sync(SyncEvent::InSync));
    }

    /// What the plan would be with these rows; `None`: the thread has ended.
    pub(super) fn imagine(&self, rows: Vec<Update>) -> Option<BgpPlan> {
        imagine::ask(rows, |imagined| drop(self.0.send(Event::Imagine(imagined))))
    }

    /// For a syncer.
    pub(super) fn receiver(&self) -> impl FnMut(SyncEvent) -> ControlFlow<()> + Send + 'static {
        let sender = self.0.clone();
        move |event| match sender.send(Event::Sync(event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// The running thread.
pub(super) struct Plans {
    handle: PlansHandle,
    thread: JoinHandle<()>,
}

impl Plans {
    /// Starts it. It makes no plan before the rows are complete: one of half the rows would look like the loss of peers.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(args: &ReflectorArgs, mut reaction: Reaction) -> io::Result<Self> {
        let (sender, events) = channel();
        let mut planner = BgpPlanner::new(&args.node, args.router_id);
        let work = move || follow(&events, &mut planner, |plan| reaction.on_plan(plan));
        let thread = std::thread::Builder::new().name("plan".to_owned()).spawn(work)?;
        Ok(Self { handle: PlansHandle(sender), thread })
    }

    pub(super) fn handle(&self) -> PlansHandle {
        self.handle.clone()
    }

    /// Ends it.
    pub(super) fn stop(self) {
        let _ = self.handle.0.send(Event::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that keeps the plan ended by a panic");
        }
    }
}

fn follow(events: &Receiver<Event>, planner: &mut BgpPlanner, mut on_plan: impl FnMut(BgpPlan)) {
    let mut in_sync = false;
    while let Ok(first) = events.recv() {
        for event in std::iter::once(first).chain(events.try_iter()) {
            match event {
                Event::Sync(SyncEvent::Updates(updates)) => {
                    updates.into_iter().for_each(|Update { key, row }| planner.on_update(&key, row));
                }
                Event::Sessions(feedback) => planner.on_sessions(feedback),
                Event::Sync(SyncEvent::InSync) => in_sync = true,
                Event::Imagine(imagined) => imagined.answer(planner),
                Event::Stop => return,
            }
        }
        if let Some(plan) = in_sync.then(|| planner.flush()).flatten() {
            on_plan(plan);
        }
    }
}
