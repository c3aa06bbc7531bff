//! The shell around the BGP speaker: a thread, sockets and time for a core that has none of them.
//!
//! One thread owns the speaker and its sockets, and waits for all of them at once (`worker`, `poller`). It reads a bounded
//! piece of each connection in turn straight into the speaker, and writes what the speaker says at once (`connection`): a
//! busy speaker reads less, so that peers wait, and nothing is queued on the way in. What is queued for a peer is bounded by
//! the speaker itself, which is told of every octet that has gone into the socket. New connections (`listener`, `dial`)
//! are taken a few at a time, after the established ones; what is asked of sockets is in `transport`, and who is at the
//! other end of a link in `neighbour`.
//!
//! Where the configuration asks for it, a further thread follows the host's routing table and says how next hops are
//! reached (`resolver`).
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
//! | `tortie_bgp_rejected_connections_total` | | connections reset unread: no such peer, or not expected now |

mod connection;
mod dial;
mod handover;
mod listener;
mod neighbour;
pub(crate) mod poller;
mod resolver;
mod transport;
mod worker;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bgp::config::Origination;
use bgp::{BestRoute, Family, PeerId, PeerStatus, Resolution, Shutdown, Speaker, SpeakerConfig, Start};
use ipnet::IpNet;

pub(crate) use handover::{ANSWER as FREEZER_ANSWER, Freezer, Frozen, Inheritance};
use poller::{Poller, Waker};

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

/// A question to the speaker; it gets none when there is no configuration yet.
type Ask = Box<dyn FnOnce(Option<&Speaker>) + Send>;

/// What the thread is told.
enum Command {
    Configure(Box<SpeakerConfig>),
    Originate(IpNet, Option<Origination>),
    Ask(Ask),
    NextHop(IpAddr, Option<Resolution>),
    Path(PeerId, bgp::bfd::Path),
    /// Begin as the first, or after an earlier process.
    Start(Start),
    /// Begin in the place of another process.
    TakeOver(Box<Inheritance>),
    /// Say when holding still would be possible.
    Settle(handover::Settling),
    /// Hold still for another process.
    Freeze(handover::Freezing),
    Stop(Shutdown),
}

/// The way to the thread.
#[derive(Debug, Clone)]
struct Commands {
    sender: Sender<Command>,
    waker: Waker,
}

impl Commands {
    /// False: the thread has ended.
    fn send(&self, command: Command) -> bool {
        let sent = self.sender.send(command).is_ok();
        self.waker.wake();
        sent
    }
}

/// A running speaker. Dropped without [`SpeakerHandle::stop`], it stops as for a restart.
#[derive(Debug)]
pub struct SpeakerHandle {
    commands: Commands,
    thread: Option<JoinHandle<()>>,
}

/// Asks a running speaker how its peers are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatusQuery(Commands);

impl StatusQuery {
    /// Every peer; none when the speaker has no configuration yet, or its thread does not answer within two seconds.
    pub fn ask(&self) -> Vec<PeerStatus> {
        self.with(Speaker::status).unwrap_or_default()
    }

    /// Has the thread look at the speaker; it does nothing else meanwhile. `None` when the speaker has no configuration
    /// yet, or its thread does not answer within two seconds.
    pub fn with<T: Send + 'static>(&self, look: impl FnOnce(&Speaker) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        // Whoever asked may have lost patience.
        let ask = move |speaker: Option<&Speaker>| drop(answer.send(speaker.map(look)));
        self.0.send(Command::Ask(Box::new(ask)));
        answered.recv_timeout(ANSWER).ok().flatten()
    }
}

/// Configures a running speaker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Configurator(Commands);

impl Configurator {
    /// As [`SpeakerHandle::configure`].
    pub fn configure(&self, config: SpeakerConfig) {
        // A thread that has ended is seen by `SpeakerHandle::is_running`.
        self.0.send(Command::Configure(Box::new(config)));
    }

    /// As [`SpeakerHandle::originate`].
    pub fn originate(&self, prefix: IpNet, route: Option<Origination>) {
        self.0.send(Command::Originate(prefix, route));
    }
}

impl SpeakerHandle {
    /// Starts the thread. It does nothing until it is configured; the first configuration must be complete, since it
    /// says whose routes are waited for. `routes` is called on the thread, with what has happened in a round, in order, and
    /// must not block for long.
    ///
    /// # Errors
    /// Out of file descriptors, or the thread cannot be had.
    pub fn spawn(start: Start, routes: impl FnMut(Vec<RouteEvent>) + Send + 'static) -> io::Result<Self> {
        let handle = Self::prepare(routes)?;
        handle.start(start);
        Ok(handle)
    }

    /// As [`SpeakerHandle::spawn`], but nothing begins before it is said how.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) fn prepare(routes: impl FnMut(Vec<RouteEvent>) + Send + 'static) -> io::Result<Self> {
        let poller = Poller::new()?;
        let (sender, receiver) = channel();
        let commands = Commands { sender, waker: poller.waker() };
        let own = commands.clone();
        let work = move || worker::run(&receiver, own, poller, Box::new(routes));
        let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(work)?;
        Ok(Self { commands, thread: Some(thread) })
    }

    /// Has a prepared thread begin.
    pub(crate) fn start(&self, start: Start) {
        self.commands.send(Command::Start(start));
    }

    /// A new configuration; the speaker applies the difference. Where a listening address cannot be had, it is tried
    /// again every second.
    pub fn configure(&self, config: SpeakerConfig) {
        self.configurator().configure(config);
    }

    /// Changes one of the routes that we originate; `None` withdraws it. Before the first configuration nothing
    /// happens.
    pub fn originate(&self, prefix: IpNet, route: Option<Origination>) {
        self.commands.send(Command::Originate(prefix, route));
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
        self.commands.send(Command::Stop(shutdown));
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
