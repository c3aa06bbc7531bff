//! The thread's loop: feeds what happens and the time into the speaker, and carries out what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use bgp::{ConnectionId, Family, Input, Output, Shutdown, Speaker, SpeakerConfig, Start};
use calc::bgp_plan::BgpPlan;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio::task::JoinHandle;

use super::connection::{self, Event, Open};
use super::{Command, plan};
use crate::agent::{self, AgentHandle};

/// Events of connections that may wait for the speaker.
const QUEUE: usize = 256;
/// Events that are taken in before the speaker's outputs are carried out.
const BATCH: usize = 64;
/// How long connections may take to close at the end.
const CLOSING: std::time::Duration = std::time::Duration::from_millis(500);

/// Runs until told to stop.
pub(super) async fn run(mut commands: UnboundedReceiver<Command>, agent: AgentHandle, start: Start) {
    // Without a plan there is nothing to speak of; the first one has to be whole, since a restart waits for its peers.
    let config = loop {
        match commands.recv().await {
            Some(Command::Plan(plan)) => match plan::speaker_config(&plan) {
                Some(config) => break config,
                None => tracing::warn!(
                    "the node has no BGP identifier: give it an IPv4 address, or set CALICO_ROUTER_ID"
                ),
            },
            Some(Command::Status(answer)) => drop(answer.send(Vec::new())),
            Some(Command::Stop) | None => return,
        }
    };
    let (sender, events) = channel(QUEUE);
    let speaker = Speaker::new(config.clone(), start, seed(), Instant::now());
    let mut worker = Worker {
        speaker,
        agent,
        sender,
        dialling: BTreeMap::new(),
        open: BTreeMap::new(),
        listeners: BTreeMap::new(),
        complete: BTreeSet::new(),
    };
    worker.listen(&config);
    worker.carry_out();
    worker.run(commands, events).await;
}

/// Timers of different nodes must not march in step.
fn seed() -> u64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos() as u64);
    now ^ u64::from(std::process::id()).rotate_left(32)
}

struct Worker {
    speaker: Speaker,
    agent: AgentHandle,
    sender: Sender<Event>,
    dialling: BTreeMap<ConnectionId, JoinHandle<()>>,
    open: BTreeMap<ConnectionId, Open>,
    listeners: BTreeMap<SocketAddr, JoinHandle<()>>,
    /// Families whose routes are complete.
    complete: BTreeSet<Family>,
}

impl Worker {
    async fn run(&mut self, mut commands: UnboundedReceiver<Command>, mut events: Receiver<Event>) {
        loop {
            let due = self.speaker.poll_timeout();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Plan(plan)) => self.configure(&plan),
                    Some(Command::Status(answer)) => drop(answer.send(self.speaker.status())),
                    Some(Command::Stop) | None => return self.stop().await,
                },
                Some(event) = events.recv() => {
                    self.take_in(event);
                    for _ in 1..BATCH {
                        let Ok(event) = events.try_recv() else { break };
                        self.take_in(event);
                    }
                }
                () = sleep_until(due) => self.speaker.handle_timeout(Instant::now()),
            }
            self.carry_out();
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.speaker.handle_input(input, Instant::now());
    }

    fn configure(&mut self, plan: &BgpPlan) {
        let Some(config) = plan::speaker_config(plan) else {
            tracing::warn!("the node has lost its BGP identifier; sessions stay as they are");
            return;
        };
        self.listen(&config);
        self.input(Input::Configure(config));
    }

    /// Listens where the configuration says, and nowhere else. A port that cannot be had is tried again with the next plan;
    /// sessions that we dial work without.
    fn listen(&mut self, config: &SpeakerConfig) {
        self.listeners.retain(|address, task| {
            let wanted = config.listen.contains(address);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for address in &config.listen {
            if self.listeners.contains_key(address) {
                continue;
            }
            match connection::listen(*address, self.sender.clone()) {
                Ok(task) => drop(self.listeners.insert(*address, task)),
                // An IPv6 socket that listens everywhere takes IPv4 too; then the second one is not needed.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && !self.listeners.is_empty() => {
                }
                Err(error) => tracing::error!(%address, %error, "cannot listen for BGP"),
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
                self.input(Input::Received { connection, bytes: &bytes });
            }
            Event::Written(connection, bytes) if self.open.contains_key(&connection) => {
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
                tracing::debug!(from = %endpoints.remote, "connection refused: not a peer, or not expected now")
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
            Err(error) => self.input(Input::ConnectFailed { connection, failure: super::failure(&error) }),
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
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
                    self.open.remove(&connection);
                    if let Some(task) = self.dialling.remove(&connection) {
                        task.abort();
                    }
                }
                Output::BestRoute { prefix, route } => {
                    let next_hops = route.map(|route| route.next_hops).unwrap_or_default();
                    self.agent.send(agent::Event::Route { destination: prefix, next_hops });
                }
                Output::RibComplete { family } => self.completed(family),
                Output::Session { peer, state, reason } => {
                    let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
                    tracing::info!(%peer, %state, reason, "BGP session");
                }
            }
        }
    }

    fn completed(&mut self, family: Family) {
        tracing::info!(%family, "BGP routes are complete");
        self.complete.insert(family);
        if self.complete.len() == Family::ALL.len() {
            self.agent.send(agent::Event::RoutesComplete);
        }
    }

    /// Closes everything so that peers with graceful restart keep our routes.
    async fn stop(&mut self) {
        self.input(Input::Shutdown(Shutdown::Restarting));
        self.carry_out();
        self.open.clear();
        tokio::time::sleep(CLOSING).await;
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
