//! The state machine of one session (RFC 5880, section 6.8), in asynchronous mode.
//!
//! ```text
//!                               peer: Down, or no packet
//!                              +------+
//!                              v      |
//!   peer: Down  +------------- Down --+<------------------------------+
//!               v                  \  ^                               |
//!             Init                  \ | detection time, peer AdminDown|
//!               \ peer: Init, Up     \|                               |
//!                +-------------------> Up ----------------------------+
//!                                     peer: Down or AdminDown, detection time
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Path;
use super::packet::{ControlPacket, Diagnostic, State};
use crate::config::Bfd;
use crate::session::Jitter;

/// We send no faster while the session is not up (RFC 5880, section 6.8.3).
const SLOW: Duration = Duration::from_secs(1);
/// How often a peer is told that the session is taken away: it shall not take that for a failure.
const FAREWELLS: usize = 3;

/// Something that a session wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a packet.
    Send(ControlPacket),
    /// The path has changed.
    Changed(Path),
}

/// What the other end said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) state: State,
    pub(super) desired_min_tx: Duration,
    pub(super) required_min_rx: Duration,
    pub(super) multiplier: u8,
    pub(super) independent: bool,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Bfd,
    pub(super) discriminator: u32,
    /// The other end's; 0 while unknown.
    pub(super) remote: u32,
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    pub(super) heard: Option<Heard>,
    /// A poll sequence is going on.
    pub(super) polling: bool,
    /// What our sending goes by: changes that the other end has to confirm are not in it yet.
    pub(super) desired_min_tx: Duration,
    /// What detection goes by, likewise.
    pub(super) required_min_rx: Duration,
    pub(super) next_send: Instant,
    pub(super) detect_at: Option<Instant>,
    pub(super) since: Instant,
    /// What was said of the path last.
    pub(super) told: Option<Path>,
    pub(super) jitter: Jitter,
    pub(super) actions: VecDeque<Action>,
}

impl Session {
    /// A session that is down, and sends its first packet at once. `discriminator` is not 0 and nobody else's. Intervals are
    /// kept within [`Bfd::MIN_INTERVAL`] and [`Bfd::MAX_INTERVAL`].
    pub fn new(config: Bfd, discriminator: u32, seed: u64, now: Instant) -> Self {
        let config = within_limits(config);
        Self {
            config,
            discriminator,
            remote: 0,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            heard: None,
            polling: false,
            desired_min_tx: config.interval.max(SLOW),
            required_min_rx: config.interval,
            next_send: now,
            detect_at: None,
            since: now,
            told: None,
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it went down last.
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Since when it has its state.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What the other end says its state is; `None`: nothing was heard for the detection time.
    pub fn remote_state(&self) -> Option<State> {
        self.heard.map(|heard| heard.state)
    }

    /// How often packets are sent, before jitter (RFC 5880, section 6.8.7). `None`: the other end wants none.
    pub fn send_interval(&self) -> Option<Duration> {
        match self.heard.map(|heard| heard.required_min_rx) {
            Some(Duration::ZERO) => None,
            wanted => Some(self.desired_min_tx.max(wanted.unwrap_or_default())),
        }
    }

    /// After how much silence the session is down (RFC 5880, section 6.8.4); `None` before anything was heard.
    pub fn detection_time(&self) -> Option<Duration> {
        let heard = self.heard?;
        Some(u32::from(heard.multiplier) * self.required_min_rx.max(heard.desired_min_tx))
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next_send = self.send_interval().map(|_| self.next_send);
        next_send.into_iter().chain(self.detect_at).min()
    }

    /// Other intervals. While up, the other end has to confirm them, and those that ask more of it are not relied on
    /// before (RFC 5880, section 6.8.3).
    pub fn reconfigure(&mut self, config: Bfd, now: Instant) {
        let config = within_limits(config);
        self.config = config;
        if self.state != State::Up {
            return self.settle(now);
        }
        self.polling = true;
        self.desired_min_tx = self.desired_min_tx.min(config.interval);
        self.required_min_rx = self.required_min_rx.max(config.interval);
        self.send(now);
    }

    /// Says good-bye: the other end shall not take the silence that follows for a failure.
    pub fn take_away(&mut self, now: Instant) {
        self.state = State::AdminDown;
        self.diagnostic = Diagnostic::ADMIN_DOWN;
        self.polling = false;
        (0..FAREWELLS).for_each(|_| self.send(now));
        self.detect_at = None;
    }

    /// A packet that is meant for this session.
    pub fn handle_packet(&mut self, packet: &ControlPacket, now: Instant) {
        if self.state == State::AdminDown {
            return;
        }
        self.remote = packet.my_discriminator;
        self.heard = Some(Heard {
            state: packet.state,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            multiplier: packet.multiplier,
            independent: packet.control_plane_independent,
        });
        if packet.is_final && self.polling {
            self.polling = false;
            self.settle(now);
        }
        self.follow(packet.state, now);
        self.detect_at = self.detection_time().map(|time| now + time);
        if packet.poll {
            // Not a periodic packet: it leaves their timing alone.
            let answer = ControlPacket { poll: false, is_final: true, ..self.packet() };
            self.actions.push_back(Action::Send(answer));
        }
        // The other end may take packets more often than we have counted on.
        if let Some(interval) = self.send_interval() {
            self.next_send = self.next_send.min(now + interval);
        }
    }

    /// RFC 5880, section 6.8.6, from "If received state is AdminDown".
    fn follow(&mut self, remote: State, now: Instant) {
        match (self.state, remote) {
            (State::Init | State::Up, State::AdminDown) => self.down(Diagnostic::NEIGHBOUR_DOWN, now),
            (State::Up, State::Down) => self.down(Diagnostic::NEIGHBOUR_DOWN, now),
            (State::Down, State::Down) => self.enter(State::Init, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.diagnostic = Diagnostic::NONE;
                self.enter(State::Up, now);
                self.tell(Path::Up);
            }
            // Never up, but not for the path's sake.
            (State::Down, State::AdminDown) => self.tell(Path::AdminDown),
            (State::Up, State::Init | State::Up)
            | (State::Init, State::Down)
            | (State::Down, State::Up)
            | (State::AdminDown, _) => {}
        }
    }

    /// Timers that have run out.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.detect_at.is_some_and(|at| at <= now) {
            self.detect_at = None;
            if matches!(self.state, State::Init | State::Up) {
                self.down(Diagnostic::TIME_EXPIRED, now);
            }
            // Whoever answers next may have forgotten us (RFC 5880, section 6.8.1).
            self.remote = 0;
            self.heard = None;
        }
        if self.send_interval().is_some() && self.next_send <= now {
            self.send(now);
        }
    }

    fn down(&mut self, diagnostic: Diagnostic, now: Instant) {
        let was = self.state;
        let heard = self.heard;
        self.diagnostic = diagnostic;
        self.enter(State::Down, now);
        let is_held_down = heard.is_some_and(|heard| heard.state == State::AdminDown);
        let independent = heard.is_some_and(|heard| heard.independent);
        if is_held_down {
            self.tell(Path::AdminDown);
        } else if was == State::Up {
            self.tell(Path::Down { diagnostic, independent });
        }
    }

    fn tell(&mut self, path: Path) {
        if self.told.replace(path) != Some(path) {
            self.actions.push_back(Action::Changed(path));
        }
    }

    /// A new state is told at once.
    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
        // Going up means sending faster, which the other end has to know of.
        self.polling = state == State::Up;
        self.settle(now);
        self.send(now);
    }

    /// What is wanted is in force.
    fn settle(&mut self, now: Instant) {
        self.desired_min_tx = self.wanted_min_tx();
        self.required_min_rx = self.config.interval;
        if let Some(interval) = self.send_interval() {
            self.next_send = self.next_send.min(now + interval);
        }
    }

    fn wanted_min_tx(&self) -> Duration {
        if self.state == State::Up { self.config.interval } else { self.config.interval.max(SLOW) }
    }

    fn send(&mut self, now: Instant) {
        let packet = self.packet();
        self.actions.push_back(Action::Send(packet));
        if let Some(interval) = self.send_interval() {
            self.next_send = now + self.jittered(interval);
        }
    }

    /// RFC 5880, section 6.8.7: up to a quarter less, and with a multiplier of 1 a tenth at least, so that one late packet
    /// does not end the session.
    fn jittered(&mut self, interval: Duration) -> Duration {
        let scaled = self.jitter.scale(interval);
        if self.config.multiplier == 1 { scaled.min(interval * 9 / 10) } else { scaled }
    }

    fn packet(&self) -> ControlPacket {
        ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling,
            is_final: false,
            control_plane_independent: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote,
            desired_min_tx: self.wanted_min_tx(),
            required_min_rx: self.config.interval,
            required_min_echo_rx: Duration::ZERO,
        }
    }
}

fn within_limits(config: Bfd) -> Bfd {
    Bfd {
        interval: config.interval.clamp(Bfd::MIN_INTERVAL, Bfd::MAX_INTERVAL),
        multiplier: config.multiplier.max(1),
        ..config
    }
}
