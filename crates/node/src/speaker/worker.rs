//! The thread's loop: feeds what happens and the time into the speaker, and carries out what it says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::telemetry;
use bgp::{ConnectionId, Input, Output, Resolution, Shutdown, Speaker, SpeakerConfig, Start};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio::task::JoinHandle;

use super::connection::{self, DRAIN_LIMIT, Event, Open};
use super::{Command, RouteEvent};

/// Events of connections that may wait for the speaker.
const QUEUE: usize = 1024;
/// Events that are taken in before the speaker's outputs are carried out.
const BATCH: usize = 256;
/// How soon a listening address that cannot be had is tried again.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

type Routes = Box<dyn FnMut(RouteEvent) + Send>;

/// Runs until told to stop.
pub(super) async fn run(mut commands: UnboundedReceiver<Command>, routes: Routes, start: Start) {
    let config = loop {
        match commands.recv().await {
            Some(Command::Configure(config)) => break config,
            Some(Command::Originate(..)) => {}
            Some(Command::Status(answer)) => drop(answer.send(Vec::new())),
            Some(Command::Stop(_)) | None => return,
        }
    };
    let (sender, events) = channel(QUEUE);
    let speaker = Speaker::new(SpeakerConfig::clone(&config), start, fastrand::u64(..), Instant::now());
    let mut worker = Worker {
        speaker,
        routes,
        sender,
        dialling: BTreeMap::new(),
        open: BTreeMap::new(),
        closing: Vec::new(),
        listeners: BTreeMap::new(),
        listen_again: None,
    };
    worker.listen();
    worker.carry_out();
    worker.run(commands, events).await;
}

struct Worker {
    speaker: Speaker,
    routes: Routes,
    sender: Sender<Event>,
    dialling: BTreeMap<ConnectionId, JoinHandle<()>>,
    open: BTreeMap<ConnectionId, Open>,
    /// Connections that are writing their last bytes.
    closing: Vec<JoinHandle<()>>,
    listeners: BTreeMap<SocketAddr, JoinHandle<()>>,
    listen_again: Option<Instant>,
}

impl Worker {
    async fn run(&mut self, mut commands: UnboundedReceiver<Command>, mut events: Receiver<Event>) {
        loop {
            let due = self.speaker.poll_timeout().into_iter().chain(self.listen_again).min();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Configure(config)) => self.configure(*config),
                    Some(Command::Originate(prefix, Some(route))) => self.input(Input::Originate { prefix, route }),
                    Some(Command::Originate(prefix, None)) => self.input(Input::Withdraw { prefix }),
                    // Whoever asked may have lost patience.
                    Some(Command::Status(answer)) => drop(answer.send(self.speaker.status())),
                    Some(Command::Stop(shutdown)) => return self.stop(shutdown).await,
                    None => return self.stop(Shutdown::Restarting).await,
                },
                Some(event) = events.recv() => {
                    self.take_in(event);
                    for _ in 1..BATCH {
                        let Ok(event) = events.try_recv() else { break };
                        self.take_in(event);
                    }
                }
                () = sleep_until(due) => self.timeout(),
            }
            self.carry_out();
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.speaker.handle_input(input, Instant::now());
    }

    fn timeout(&mut self) {
        let now = Instant::now();
        self.speaker.handle_timeout(now);
        if self.listen_again.is_some_and(|at| at <= now) {
            self.listen();
        }
    }

    fn configure(&mut self, config: SpeakerConfig) {
        self.input(Input::Configure(config));
        self.listen();
    }

    /// Listens where the configuration says, and nowhere else.
    fn listen(&mut self) {
        let wanted = self.speaker.config().listen.clone();
        self.listeners.retain(|address, task| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        let first_try = self.listen_again.take().is_none();
        for address in wanted {
            if self.listeners.contains_key(&address) {
                continue;
            }
            match connection::listen(address, self.sender.clone()) {
                Ok(task) => {
                    tracing::info!(%address, "listening for BGP");
                    self.listeners.insert(address, task);
                }
                // EAFNOSUPPORT will not change while we run.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
                    tracing::info!(%address, "not listening for BGP: this host does not have the address family");
                }
                Err(error) => {
                    if first_try {
                        tracing::error!(%address, %error, "cannot listen for BGP; trying again every second");
                    }
                    self.listen_again = Some(Instant::now() + LISTEN_RETRY);
                }
            }
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Accepted(stream) => self.accept(stream),
            Event::Connected(connection, stream) => self.connected(connection, stream),
            Event::ConnectFailed(connection, failure) => {
                self.dialling.remove(&connection);
                self.input(Input::ConnectFailed { connection, failure });
            }
            // What a connection says after it was closed is of no interest.
            Event::Received(connection, bytes) if self.open.contains_key(&connection) => {
                metrics::counter!(telemetry::BGP_RECEIVED).increment(bytes.len() as u64);
                self.input(Input::Received { connection, bytes: &bytes });
            }
            Event::Written(connection, bytes) if self.open.contains_key(&connection) => {
                metrics::counter!(telemetry::BGP_SENT).increment(bytes as u64);
                self.input(Input::Written { connection, bytes });
            }
            Event::Closed(connection, failure) if self.open.remove(&connection).is_some() => {
                self.input(Input::Closed { connection, failure });
            }
            Event::Received(..) | Event::Written(..) | Event::Closed(..) => {}
        }
    }

    /// A connection from an address that is no peer's is closed before a byte of it is read.
    fn accept(&mut self, stream: TcpStream) {
        let Ok(endpoints) = connection::endpoints(&stream) else { return };
        match self.speaker.accept(endpoints, Instant::now()) {
            Some(connection) => {
                self.open.insert(connection, Open::start(connection, stream, &self.sender));
            }
            None => {
                metrics::counter!(telemetry::BGP_REJECTED).increment(1);
                tracing::debug!(from = %endpoints.remote, "connection closed: not a peer, or not expected now");
            }
        }
    }

    fn connected(&mut self, connection: ConnectionId, stream: TcpStream) {
        if self.dialling.remove(&connection).is_none() {
            return;
        }
        match connection::endpoints(&stream) {
            Ok(endpoints) => {
                self.open.insert(connection, Open::start(connection, stream, &self.sender));
                self.input(Input::Connected { connection, endpoints });
            }
            Err(error) => {
                self.input(Input::ConnectFailed { connection, failure: connection::failure(&error) });
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            self.output(output);
        }
        self.closing.retain(|task| !task.is_finished());
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Connect { connection, remote, source, .. } => {
                let task = connection::dial(connection, remote, source, self.sender.clone());
                self.dialling.insert(connection, task);
            }
            Output::Send { connection, bytes } => {
                if let Some(open) = self.open.get(&connection) {
                    open.send(bytes);
                }
            }
            Output::Close { connection } => {
                self.closing.extend(self.open.remove(&connection).map(Open::close));
                if let Some(task) = self.dialling.remove(&connection) {
                    task.abort();
                }
            }
            Output::BestRoute { prefix, route } => {
                metrics::counter!(telemetry::BGP_ROUTE_CHANGES).increment(1);
                (self.routes)(RouteEvent::Changed { prefix, route });
            }
            // Nobody looks them up yet: they count as being on a link of ours.
            Output::WatchNextHop { address } => {
                let resolution = Some(Resolution { cost: 0, gateways: vec![address] });
                self.input(Input::NextHop { address, resolution });
            }
            Output::ForgetNextHop { .. } => {}
            Output::RibComplete { family } => {
                tracing::info!(%family, "BGP routes are complete");
                (self.routes)(RouteEvent::Complete(family));
            }
            Output::PrefixWarning { peer, family, prefixes, max } => {
                tracing::warn!(%peer, %family, prefixes, max, "BGP peer comes near to its prefix limit");
            }
            Output::Session { peer, state, reason } => {
                metrics::counter!(telemetry::BGP_SESSION_CHANGES, "state" => state.to_string()).increment(1);
                let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
                tracing::info!(%peer, %state, reason, "BGP session");
            }
        }
    }

    /// Closes everything, and waits until what was sent last is written.
    async fn stop(&mut self, shutdown: Shutdown) {
        self.input(Input::Shutdown(shutdown));
        self.carry_out();
        self.listeners.values().chain(self.dialling.values()).for_each(JoinHandle::abort);
        self.closing.extend(std::mem::take(&mut self.open).into_values().map(Open::close));
        let all_closed = async {
            for task in self.closing.drain(..) {
                // A task that was aborted has closed its socket.
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_LIMIT * 2, all_closed).await;
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
