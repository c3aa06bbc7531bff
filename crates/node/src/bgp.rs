//! The shell around the BGP speaker: sockets, time and queues for a core that has none.
//!
//! One thread with a single-threaded runtime owns the speaker ([`worker`]); each connection has a reader and a writer task
//! ([`connection`]). [`plan`] turns the plan of the datastore into the speaker's configuration. Protocol knowledge is in
//! the `bgp` crate alone.

mod connection;
mod plan;
mod worker;

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bgp::session::SessionState;
use bgp::{PeerStatus, Start};
use calc::bgp_plan::BgpPlan;
use kernel::Rtnetlink;
use kernel::ownership::ROUTE_BIRD;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::agent::AgentHandle;
use crate::health::{Health, Reporter};

/// So long after the start every peer has to be Established for the node to be ready, later one is enough
/// (control-plane.md 4.5).
const STARTUP: Duration = Duration::from_secs(30);
/// How long the thread may take to answer or to end.
const ANSWER: Duration = Duration::from_secs(2);

/// What the thread is told.
#[derive(Debug)]
enum Command {
    /// What the datastore wants now.
    Plan(Box<BgpPlan>),
    /// How are the peers?
    Status(SyncSender<Vec<PeerStatus>>),
    /// End; peers keep our routes.
    Stop,
}

/// The running shell.
pub(crate) struct Bgp {
    commands: UnboundedSender<Command>,
    thread: JoinHandle<()>,
    health: Reporter,
    started: Instant,
}

/// Asks for the state of the peers.
#[derive(Debug, Clone)]
pub(crate) struct Peers(UnboundedSender<Command>);

impl Peers {
    /// Every peer; none when the thread does not answer.
    pub(crate) fn statuses(&self) -> Vec<PeerStatus> {
        let (answer, answered) = sync_channel(1);
        if self.0.send(Command::Status(answer)).is_err() {
            return Vec::new();
        }
        answered.recv_timeout(ANSWER).unwrap_or_default()
    }
}

impl Bgp {
    /// Starts the thread, which does nothing until it has a plan. Routes that an earlier process left in the kernel make
    /// this a restart: peers are told, and nothing of them is withdrawn before BGP has heard everyone.
    pub(crate) fn start(agent: AgentHandle, health: &Health) -> Result<Self> {
        let start = match left_behind().context("cannot read the kernel's routes")? {
            true => Start::Restarting,
            false => Start::Fresh,
        };
        tracing::info!(?start, "BGP starts");
        let (commands, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let work = move || runtime.block_on(worker::run(receiver, agent, start));
        let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(work)?;
        let health = health.register("bgp", None);
        health.not_ready("no plan yet: waiting for the datastore to be in sync");
        Ok(Self { commands, thread, health, started: Instant::now() })
    }

    /// Where plans go.
    pub(crate) fn plan_receiver(&self) -> Box<dyn FnMut(&BgpPlan) + Send> {
        let commands = self.commands.clone();
        Box::new(move |plan| {
            // A thread that has ended is seen by `report`.
            let _ = commands.send(Command::Plan(Box::new(plan.clone())));
        })
    }

    /// For whoever wants to ask.
    pub(crate) fn peers(&self) -> Peers {
        Peers(self.commands.clone())
    }

    /// Says how BGP is, to the node's health.
    pub(crate) fn report(&self) {
        if self.thread.is_finished() {
            self.health.not_ready("its thread has ended");
            return;
        }
        let peers = self.peers().statuses();
        let up = peers.iter().filter(|peer| peer.state == SessionState::Established).count();
        metrics::gauge!("tortie_bgp_peers").set(peers.len() as f64);
        metrics::gauge!("tortie_bgp_peers_established").set(up as f64);
        match not_ready(&peers, up, self.started.elapsed()) {
            Some(cause) => self.health.not_ready(cause),
            None => self.health.ready(),
        }
    }

    /// Stops so that peers keep our routes, and waits until the connections are closed.
    pub(crate) fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        if self.thread.join().is_err() {
            tracing::error!("BGP ended by a panic");
        }
    }
}

/// control-plane.md 4.5: without peers ready; at first all have to be up, later one.
fn not_ready(peers: &[PeerStatus], up: usize, age: Duration) -> Option<String> {
    let needed = if age < STARTUP { peers.len() } else { peers.len().min(1) };
    if up >= needed {
        return None;
    }
    let down = peers.iter().filter(|peer| peer.state != SessionState::Established);
    let causes: Vec<_> =
        down.take(3).map(|peer| format!("{} is {}", peer.address, peer.state_and_info().1)).collect();
    Some(format!("{up} of {} peers are Established: {}", peers.len(), causes.join(", ")))
}

/// Whether the kernel has routes that BGP put there.
fn left_behind() -> Result<bool, kernel::netlink::Error> {
    let routes = Rtnetlink::open()?.main_routes()?;
    Ok(routes.iter().any(|route| route.protocol == ROUTE_BIRD))
}

/// Why a socket could not be had, in the speaker's words.
fn failure(error: &io::Error) -> bgp::TransportFailure {
    use bgp::TransportFailure as Failure;
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Failure::Refused,
        Kind::TimedOut => Failure::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable => Failure::Unreachable,
        Kind::UnexpectedEof => Failure::ClosedByPeer,
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => Failure::Reset,
        _ => Failure::Other(error.to_string()),
    }
}
