//! A speaker's thread gives everything to that of another process, or takes it over (the values are in
//! [`bgp::handover`] and [`bgp::bfd::HandedPaths`]; how they get there is the business of [`crate::handover`]).
//!
//! Giving: the thread goes on until no connection is undecided and no peer is too far behind ([`Freezer::settle`]); then it
//! writes what there is to write, and holds still with all its sockets open ([`Freezer::freeze`]). BFD goes on in its own thread until it is asked for, too. Then either everything is the other's and the
//! thread ends without a word to any peer, or it goes on as if nothing had been.
//!
//! While a speaker holds still in one process, or is made in the other, which takes seconds with large tables, nothing is
//! read, and nothing is written but a KEEPALIVE now and then to whoever has read all before it: no hold timer runs out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use bgp::ConnectionId;
use bgp::handover::{HandedSession, Handover};
use bgp::packet::Message;
use rustix::net::{SendFlags, Shutdown};

use super::connection::Connection;
use super::listener::Listener;
use super::worker::Worker;
use super::{Command, Commands, SpeakerHandle};
use crate::bfd::{Bfd, GivenPaths};

/// How long connections that are no sessions yet are waited for. Of a collision more is known after five seconds.
const UNDECIDED: Duration = Duration::from_secs(6);
/// The same, when everything else holds still already.
const STILL_UNDECIDED: Duration = Duration::from_secs(1);
/// How much later than that the thread's answer may come: it is in the middle of something.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);
/// Routes and announcements that are handed over at most. Each takes some hundred octets on both sides.
const MOST: usize = 10_000_000;
/// How often peers hear from a speaker that holds still: the shortest hold time is 3 s.
const PULSE: Duration = Duration::from_secs(1);
/// How soon it is looked again whether they are.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a thread takes over.
pub(crate) struct Inheritance {
    pub(crate) handover: Handover,
    /// By the names that the other process gave them.
    pub(crate) sessions: BTreeMap<ConnectionId, OwnedFd>,
    pub(crate) listeners: BTreeMap<SocketAddr, OwnedFd>,
    pub(crate) paths: GivenPaths,
}

/// A thread that holds still. Dropped, it goes on.
pub(crate) struct Frozen {
    pub(crate) octets: Vec<u8>,
    pub(crate) sessions: Vec<(ConnectionId, OwnedFd)>,
    pub(crate) listeners: Vec<(SocketAddr, OwnedFd)>,
    /// Since when it holds still.
    pub(crate) since: Instant,
    decisions: Sender<Decision>,
}

/// What becomes of a thread that holds still.
enum Decision {
    /// It gives the paths that BFD watches.
    Paths(SyncSender<GivenPaths>),
    /// It ends: everything is another process's.
    End,
}

/// A thread has been asked to say when it could hold still.
pub(super) struct Settling {
    answer: SyncSender<()>,
    since: Instant,
    until: Instant,
}

/// A thread has been asked to hold still.
pub(super) struct Freezing {
    answer: SyncSender<Frozen>,
    until: Instant,
}

impl SpeakerHandle {
    /// For whoever wants to have it hold still later.
    pub(crate) fn freezer(&self) -> Freezer {
        Freezer(self.commands.clone())
    }

    /// Has a thread that was [prepared](SpeakerHandle::prepare) go on in another one's place.
    pub(crate) fn take_over(&self, inheritance: Inheritance) {
        self.commands.send(Command::TakeOver(Box::new(inheritance)));
    }
}

/// Has a running thread hold still.
pub(crate) struct Freezer(Commands);

impl Freezer {
    /// Waits until it could hold still at once, while it goes on; but for no longer than the limit and [`ANSWER`]. False: it
    /// has ended, has no configuration yet, or cannot; its log says why.
    pub(crate) fn settle(&self, limit: Duration) -> bool {
        let (answer, answered) = sync_channel(1);
        let since = Instant::now();
        self.0.send(Command::Settle(Settling { answer, since, until: since + limit }));
        answered.recv_timeout(limit + ANSWER).is_ok()
    }

    /// Has it hold still, within the limit. `None`: as for [`Freezer::settle`].
    pub(crate) fn freeze(&self, limit: Duration) -> Option<Frozen> {
        let (answer, answered) = sync_channel(1);
        self.0.send(Command::Freeze(Freezing { answer, until: Instant::now() + STILL_UNDECIDED }));
        answered.recv_timeout(limit).ok()
    }
}

impl Frozen {
    /// BFD holds still, too, and says what it has. From here on milliseconds count.
    pub(crate) fn paths(&self) -> Option<GivenPaths> {
        let (answer, answered) = sync_channel(1);
        self.decisions.send(Decision::Paths(answer)).ok()?;
        answered.recv().ok()
    }

    /// Everything is another process's: the thread ends and closes what it has, which ends nothing.
    pub(crate) fn end(self) {
        // It waits for nothing else.
        let _ = self.decisions.send(Decision::End);
    }
}

/// Connections over which everything has gone out, and whose ends have agreed on KEEPALIVEs.
struct Pulse(Vec<OwnedFd>);

impl Pulse {
    fn new<'a>(
        handover: &Handover,
        sockets: impl Iterator<Item = (&'a ConnectionId, &'a OwnedFd)>,
    ) -> io::Result<Self> {
        let has_room =
            |session: &&HandedSession| session.keepalive_left.is_some() && session.unsent.0.is_empty();
        let with_room: BTreeSet<ConnectionId> =
            handover.sessions().filter(has_room).map(|session| session.connection).collect();
        let sockets = sockets.filter(|(connection, _)| with_room.contains(connection));
        sockets.map(|(_, socket)| socket.try_clone()).collect::<io::Result<_>>().map(Self)
    }

    /// A KEEPALIVE to each. A socket that has no room takes nothing: then the peer has things to read.
    fn beat(&self) {
        let keepalive = Message::keepalive();
        for socket in &self.0 {
            let sent = rustix::net::send(socket, &keepalive, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            if sent.is_ok_and(|octets| octets < keepalive.len()) {
                // Half a message cannot be mended.
                let _ = rustix::net::shutdown(socket, Shutdown::Both);
            }
        }
    }
}

/// Has peers hear from us while a speaker is made of what another process has handed over.
pub(super) fn keeping_alive<T>(
    handover: &Handover,
    sockets: &BTreeMap<ConnectionId, OwnedFd>,
    work: impl FnOnce() -> T,
) -> T {
    let pulse = Pulse::new(handover, sockets.iter());
    let pulse = pulse.inspect_err(|error| tracing::warn!(%error, "peers do not hear from us meanwhile")).ok();
    let (working, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        let beats = move || {
            while is_done.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
                pulse.iter().for_each(Pulse::beat);
            }
        };
        // Without a thread there is no pulse; the sessions may live all the same.
        if let Err(error) = std::thread::Builder::new().name("pulse".to_owned()).spawn_scoped(scope, beats) {
            tracing::warn!(%error, "peers do not hear from us meanwhile");
        }
        // Dropped also when it panics, so that the thread ends.
        let _working = working;
        work()
    })
}

fn is_small_enough(size: usize) -> bool {
    if size > MOST {
        tracing::error!(size, MOST, "too many peers are being told large tables to hand over BGP now");
    }
    size <= MOST
}

impl Worker {
    /// Says that it could hold still, when it was asked to and nothing is in the way any more.
    pub(super) fn settle(&mut self) {
        let Some(settling) = self.settling.take() else { return };
        let (now, size) = (Instant::now(), self.speaker.handover_size());
        let is_opening = self.speaker.is_opening() && now < settling.since + UNDECIDED;
        if (is_opening || self.more || size > MOST) && now < settling.until {
            self.settling = Some(settling);
        } else if is_small_enough(size) {
            // Whoever asked may have lost patience.
            let _ = settling.answer.send(());
        }
    }

    /// Holds still when it was asked to and can. True: everything is another process's now.
    pub(super) fn freeze(&mut self) -> bool {
        let Some(Freezing { answer, until }) = self.freezing.take() else { return false };
        if self.speaker.is_opening() && Instant::now() < until {
            self.freezing = Some(Freezing { answer, until });
            return false;
        }
        if !is_small_enough(self.speaker.handover_size()) {
            return false;
        }
        let (decisions, decided) = channel();
        self.write_all();
        let (frozen, pulse) = match self.frozen(decisions) {
            Ok(frozen) => frozen,
            Err(error) => {
                tracing::error!(%error, "cannot hand over BGP's sockets");
                return false;
            }
        };
        // Whoever asked may have lost patience: then there is nothing to wait for.
        answer.send(frozen).is_ok() && self.hold_still(&decided, &pulse)
    }

    /// Until the sockets take no more, and the speaker has no more to say.
    fn write_all(&mut self) {
        loop {
            self.carry_out();
            if !self.more {
                return;
            }
        }
    }

    fn frozen(&self, decisions: Sender<Decision>) -> io::Result<(Frozen, Pulse)> {
        let since = Instant::now();
        let mut handover = self.speaker.hand_over(since);
        handover.listening =
            self.listeners.values().next().map(|(_, listener)| listener.handed()).unwrap_or_default();
        let mut sessions = Vec::new();
        for session in handover.sessions_mut() {
            let open = self.open.get(&session.connection).ok_or(io::ErrorKind::NotConnected)?;
            session.unsent.0 = open.unsent();
            sessions.push((session.connection, OwnedFd::from(open.stream.try_clone()?)));
        }
        let listeners = self.listeners.iter();
        let listeners = listeners.map(|(address, (_, listener))| Ok((*address, listener.share()?)));
        let listeners = listeners.collect::<io::Result<_>>()?;
        let pulse = Pulse::new(&handover, sessions.iter().map(|(connection, socket)| (connection, socket)))?;
        Ok((Frozen { octets: handover.encode(), sessions, listeners, since, decisions }, pulse))
    }

    fn hold_still(&mut self, decided: &Receiver<Decision>, pulse: &Pulse) -> bool {
        let mut given = false;
        loop {
            match decided.recv_timeout(PULSE) {
                // The other process may be writing already.
                Err(RecvTimeoutError::Timeout) if given => {}
                Err(RecvTimeoutError::Timeout) => pulse.beat(),
                Ok(Decision::Paths(answer)) => {
                    given = true;
                    let paths = self.bfd.as_ref().and_then(Bfd::freeze);
                    // Whoever asked waits for it.
                    let _ = answer.send(paths.unwrap_or_default());
                }
                Ok(Decision::End) => {
                    if let Some(bfd) = self.bfd.take() {
                        bfd.end_silently();
                    }
                    return true;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    tracing::info!("BGP goes on: nobody took the sessions over");
                    if given {
                        self.bfd.iter().for_each(Bfd::go_on);
                    }
                    return false;
                }
            }
        }
    }

    /// What another process has had is this one's from now on.
    pub(super) fn inherit(
        &mut self,
        handover: &Handover,
        names: &BTreeMap<ConnectionId, ConnectionId>,
        mut sessions: BTreeMap<ConnectionId, OwnedFd>,
        listeners: BTreeMap<SocketAddr, OwnedFd>,
    ) {
        for session in handover.sessions() {
            let Some(connection) = names.get(&session.connection).copied() else { continue };
            let Some(socket) = sessions.remove(&session.connection) else { continue };
            match Connection::new(TcpStream::from(socket), connection.0, &self.poller, false) {
                Ok(mut open) => {
                    if !session.unsent.0.is_empty() {
                        open.queue(session.unsent.0.as_slice().into());
                        self.dirty.insert(connection);
                    }
                    self.open.insert(connection, open);
                }
                Err(error) => self.over(connection, super::transport::failure(&error)),
            }
        }
        for (address, socket) in listeners {
            let token = 1 + self.listeners_made;
            match Listener::take_over(socket, address, token, &handover.listening, &self.poller) {
                Ok(listener) => {
                    self.listeners_made += 1;
                    self.listeners.insert(address, (token, listener));
                }
                Err(error) => tracing::error!(%address, %error, "cannot take over where BGP listens"),
            }
        }
    }
}
