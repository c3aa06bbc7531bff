//! The shell around the BGP speaker: a thread, sockets and time for a core that has none of them.
//!
//! One thread with a single-threaded runtime owns the speaker (`worker`). Each connection has a task that reads and one
//! that writes, each listening address a task that accepts (`connection`); they meet the worker on a bounded queue, so
//! that peers wait when the speaker is busy. What the speaker queues for a peer is bounded by the speaker itself, which
//! is told of every octet that has gone into the socket.
//!
//! The shell knows nothing of BGP: it carries bytes and time in, and outputs out. Routes go to a function that its
//! owner hands in.
//!
//! Metrics (all of them also on `/metrics` of the node):
//!
//! | name | labels | meaning |
//! |---|---|---|
//! | `tortie_bgp_session_changes_total` | `state` | session state changes |
//! | `tortie_bgp_received_bytes_total` | | octets from peers |
//! | `tortie_bgp_sent_bytes_total` | | octets to peers |
//! | `tortie_bgp_route_changes_total` | | best routes that changed |
//! | `tortie_bgp_rejected_connections_total` | | connections closed unread: no such peer, or not expected now |

mod connection;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bgp::config::Origination;
use bgp::{BestRoute, Family, PeerStatus, Shutdown, SpeakerConfig, Start};
use ipnet::IpNet;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How long the thread may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What the speaker says about routes.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteEvent {
    /// The best route for a prefix; `None`: there is none, or the prefix is our own.
    Changed {
        /// The prefix.
        prefix: IpNet,
        /// Its route.
        route: Option<Arc<BestRoute>>,
    },
    /// All routes of a family that can be waited for have been named: what else the kernel has from BGP is stale.
    Complete(Family),
}

/// What the thread is told.
#[derive(Debug)]
enum Command {
    Configure(Box<SpeakerConfig>),
    Originate(IpNet, Option<Origination>),
    Status(SyncSender<Vec<PeerStatus>>),
    Stop(Shutdown),
}

/// A running speaker. Dropped without [`SpeakerHandle::stop`], it stops as for a restart.
#[derive(Debug)]
pub struct SpeakerHandle {
    commands: UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// Asks a running speaker how its peers are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusQuery(UnboundedSender<Command>);

impl StatusQuery {
    /// Every peer; none when the speaker has no configuration yet, or its thread does not answer within two seconds.
    pub fn ask(&self) -> Vec<PeerStatus> {
        let (answer, answered) = sync_channel(1);
        if self.0.send(Command::Status(answer)).is_err() {
            return Vec::new();
        }
        answered.recv_timeout(ANSWER).unwrap_or_default()
    }
}

/// Configures a running speaker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Configurator(UnboundedSender<Command>);

impl Configurator {
    /// As [`SpeakerHandle::configure`].
    pub fn configure(&self, config: SpeakerConfig) {
        // A thread that has ended is seen by `SpeakerHandle::is_running`.
        let _ = self.0.send(Command::Configure(Box::new(config)));
    }
}

impl SpeakerHandle {
    /// Starts the thread. It does nothing until it is configured; the first configuration must be complete, since it
    /// says whose routes are waited for. `routes` is called on the thread and must not block for long.
    ///
    /// # Errors
    /// The runtime or the thread cannot be had.
    pub fn spawn(start: Start, routes: impl FnMut(RouteEvent) + Send + 'static) -> io::Result<Self> {
        let (commands, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let work = move || runtime.block_on(worker::run(receiver, Box::new(routes), start));
        let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(work)?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// A new configuration; the speaker applies the difference. Where a listening address cannot be had, it is tried
    /// again every second.
    pub fn configure(&self, config: SpeakerConfig) {
        self.configurator().configure(config);
    }

    /// Changes one of the routes that we originate; `None` withdraws it. Before the first configuration nothing
    /// happens.
    pub fn originate(&self, prefix: IpNet, route: Option<Origination>) {
        let _ = self.commands.send(Command::Originate(prefix, route));
    }

    /// How every peer is.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.query().ask()
    }

    /// For whoever has configurations later.
    pub fn configurator(&self) -> Configurator {
        Configurator(self.commands.clone())
    }

    /// For whoever wants to ask later.
    pub fn query(&self) -> StatusQuery {
        StatusQuery(self.commands.clone())
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Stops, and waits until the connections are closed: at most as long as a peer may take to read what was sent.
    pub fn stop(mut self, shutdown: Shutdown) {
        self.end(shutdown);
    }

    fn end(&mut self, shutdown: Shutdown) {
        let Some(thread) = self.thread.take() else { return };
        let _ = self.commands.send(Command::Stop(shutdown));
        if thread.join().is_err() {
            tracing::error!("the BGP thread ended by a panic");
        }
    }
}

impl Drop for SpeakerHandle {
    fn drop(&mut self) {
        self.end(Shutdown::Restarting);
    }
}
