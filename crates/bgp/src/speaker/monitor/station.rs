//! A station's connection: dialled until it is there, given up when it does not read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::feed::Feed;
use crate::config::StationConfig;
use crate::observe::bmp::{Farewell, Message};
use crate::rib::PeerNumber;
use crate::session::Jitter;
use crate::speaker::{Output, Transport};
use crate::types::{ConnectionId, PeerId};

/// How long the shell waits for an answer.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// The first wait before dialling again; it doubles up to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// A connection that has been up for so long begins with the first wait again.
const STABLE: Duration = Duration::from_secs(30);
/// How long a station may leave what it has been sent unread.
const UNREAD: Duration = Duration::from_secs(60);
/// Octets that it may leave unread before more is held back.
const CONGESTED: usize = 256 * 1024;
/// Octets that it may leave unread at all: sessions that come and go are told at once.
const MOST_UNREAD: usize = 8 * 1024 * 1024;
/// Changes of routes that may wait for it.
pub(super) const MOST_CHANGES: usize = 1 << 19;

/// Something to say about a station, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StationEvent {
    /// It is being told everything.
    Connected,
    /// It cannot be reached, or is not any more, for this reason. Said once, until it is connected again.
    Lost(String),
}

/// How a station is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StationStatus {
    /// Its name.
    pub name: String,
    /// How it is configured.
    pub config: StationConfig,
    /// Since when it has been connected; `None`: it is not.
    pub since: Option<Instant>,
    /// Why it is not.
    pub reason: Option<String>,
    /// Octets for it that are not in the socket yet.
    pub unread: usize,
    /// Changes of routes that it is still to be told.
    pub waiting: usize,
}

/// When and where to.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) outputs: &'a mut VecDeque<Output>,
}

/// A station.
#[derive(Debug)]
pub(super) struct Station {
    name: String,
    config: StationConfig,
    number: PeerNumber,
    connections_made: u32,
    failures: u32,
    jitter: Jitter,
    state: State,
    /// Why it is down; operators know.
    reason: Option<String>,
}

#[derive(Debug)]
enum State {
    Waiting(Instant),
    Dialling(ConnectionId),
    Up(Box<Up>),
}

#[derive(Debug)]
struct Up {
    connection: ConnectionId,
    since: Instant,
    /// Octets that are not in the socket yet.
    unread: usize,
    /// When it is given up for that.
    unread_until: Option<Instant>,
    feed: Feed,
}

impl Station {
    pub(super) fn new(
        name: String,
        config: StationConfig,
        number: PeerNumber,
        seed: u64,
        now: Instant,
    ) -> Self {
        let (state, jitter) = (State::Waiting(now), Jitter::new(seed));
        Self { name, config, number, connections_made: 0, failures: 0, jitter, state, reason: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn config(&self) -> &StationConfig {
        &self.config
    }

    /// What it has been told, while it is up.
    pub(super) fn feed(&self) -> Option<&Feed> {
        match &self.state {
            State::Up(up) => Some(&up.feed),
            State::Waiting(_) | State::Dialling(_) => None,
        }
    }

    pub(super) fn feed_mut(&mut self) -> Option<&mut Feed> {
        match &mut self.state {
            State::Up(up) => Some(&mut up.feed),
            State::Waiting(_) | State::Dialling(_) => None,
        }
    }

    pub(super) fn status(&self) -> StationStatus {
        let up = match &self.state {
            State::Up(up) => Some(up),
            State::Waiting(_) | State::Dialling(_) => None,
        };
        StationStatus {
            name: self.name.clone(),
            config: self.config.clone(),
            since: up.map(|up| up.since),
            reason: self.reason.clone(),
            unread: up.map_or(0, |up| up.unread),
            waiting: up.map_or(0, |up| up.feed.waiting()),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(until) => Some(*until),
            State::Dialling(_) => None,
            State::Up(up) => up.unread_until.into_iter().chain(up.feed.statistics_at()).min(),
        }
    }

    /// Dials when it is time to, and gives up what has been unread for too long.
    pub(super) fn timeout(&mut self, context: &mut Context<'_>) {
        match &self.state {
            State::Waiting(until) if *until <= context.now => self.dial(context),
            State::Up(up) if up.unread_until.is_some_and(|until| until <= context.now) => {
                let reason = format!("it has not read for {} s", UNREAD.as_secs());
                self.give_up(&reason, context);
            }
            _ => {}
        }
    }

    fn dial(&mut self, context: &mut Context<'_>) {
        self.connections_made += 1;
        let connection = ConnectionId(u64::from(self.number.0) << 32 | u64::from(self.connections_made));
        self.state = State::Dialling(connection);
        context.outputs.push_back(Output::Connect {
            connection,
            peer: PeerId(format!("bmp_{}", self.name)),
            remote: self.config.address,
            source: None,
            transport: Box::new(Transport::default()),
            limit: DIAL_LIMIT,
        });
    }

    /// A connection is there. Whether it is the one that was asked for.
    pub(super) fn connected(&mut self, connection: ConnectionId, context: &mut Context<'_>) -> bool {
        if !matches!(self.state, State::Dialling(dialled) if dialled == connection) {
            context.outputs.push_back(Output::Close { connection });
            return false;
        }
        let since = context.now;
        let up = Up { connection, since, unread: 0, unread_until: None, feed: Feed::default() };
        self.state = State::Up(Box::new(up));
        self.reason = None;
        self.say(StationEvent::Connected, context);
        true
    }

    /// A connection is no more.
    pub(super) fn lost(&mut self, connection: ConnectionId, reason: &str, context: &mut Context<'_>) {
        let stable = match &self.state {
            State::Dialling(dialled) if *dialled == connection => false,
            State::Up(up) if up.connection == connection => context.now - up.since >= STABLE,
            _ => return,
        };
        self.failures = if stable { 0 } else { self.failures };
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(16)).min(RETRY_LAST);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Waiting(context.now + self.jitter.scale(wait));
        if self.reason.replace(reason.to_owned()).is_none() {
            self.say(StationEvent::Lost(reason.to_owned()), context);
        }
    }

    /// The shell has written.
    pub(super) fn written(&mut self, connection: ConnectionId, octets: usize, context: &mut Context<'_>) {
        let State::Up(up) = &mut self.state else { return };
        if up.connection == connection {
            up.unread = up.unread.saturating_sub(octets);
            up.unread_until = (up.unread > 0).then(|| context.now + UNREAD);
        }
    }

    /// Whether more is held back.
    pub(super) fn is_congested(&self) -> bool {
        matches!(&self.state, State::Up(up) if up.unread >= CONGESTED)
    }

    pub(super) fn send(&mut self, octets: Vec<u8>, context: &mut Context<'_>) {
        let State::Up(up) = &mut self.state else { return };
        if octets.is_empty() {
            return;
        }
        if up.unread == 0 {
            up.unread_until = Some(context.now + UNREAD);
        }
        up.unread += octets.len();
        let connection = up.connection;
        context.outputs.push_back(Output::Send { connection, bytes: octets.into() });
    }

    /// Gives it up if more waits for it than may: it gets everything anew when it is connected again.
    pub(super) fn gives_up(&mut self, context: &mut Context<'_>) -> bool {
        let State::Up(up) = &self.state else { return false };
        let waiting = up.feed.waiting();
        let too_far = up.unread > MOST_UNREAD || waiting > MOST_CHANGES;
        if too_far {
            let reason = format!("it is too far behind: {} octets, {waiting} changes of routes", up.unread);
            self.give_up(&reason, context);
        }
        too_far
    }

    fn give_up(&mut self, reason: &str, context: &mut Context<'_>) {
        let State::Up(up) = &self.state else { return };
        let connection = up.connection;
        context.outputs.push_back(Output::Close { connection });
        self.lost(connection, reason, context);
    }

    /// For good, or until it is made anew.
    pub(super) fn end(mut self, reason: u16, why: &str, context: &mut Context<'_>) {
        let connection = match &self.state {
            State::Waiting(_) => return,
            State::Dialling(connection) => *connection,
            State::Up(up) => up.connection,
        };
        let mut out = Vec::new();
        Message::Termination(vec![Farewell::Text(why.to_owned()), Farewell::Reason(reason)]).encode(&mut out);
        self.send(out, context);
        context.outputs.push_back(Output::Close { connection });
    }

    fn say(&self, event: StationEvent, context: &mut Context<'_>) {
        context.outputs.push_back(Output::Station { station: self.name.clone(), event });
    }
}
