//! All sessions of a host.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::packet::{ControlPacket, Diagnostic, PacketError, State};
use super::session::{Action, Session};
use super::{Path, TTL};
use crate::config::Bfd;
use crate::session::Jitter;
use crate::types::PeerId;

/// A path to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// The interface that the path is bound to; `None`: whichever the kernel takes.
    pub interface: Option<String>,
    /// How it is watched.
    pub bfd: Bfd,
}

impl Target {
    fn address(&self) -> Address {
        Address {
            remote: self.remote,
            local: self.local,
            multihop: self.bfd.multihop,
            interface: self.interface.clone(),
        }
    }
}

/// What tells sessions apart whose other end does not know our discriminator yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Address {
    remote: IpAddr,
    local: IpAddr,
    multihop: bool,
    interface: Option<String>,
}

/// How a packet came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The address that it was sent to.
    pub local: IpAddr,
    /// The address that it came from.
    pub remote: IpAddr,
    /// The interface that the socket it came in by is bound to.
    pub interface: Option<&'a str>,
    /// To the port of multihop sessions.
    pub multihop: bool,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// Why a packet is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not a packet that we take.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Over a single hop nobody has decremented the TTL (RFC 5881, section 5).
    #[error("TTL {0} is not 255: the packet does not come from a neighbour")]
    Ttl(u8),
    /// No session is with that address, or none has that discriminator.
    #[error("no such session")]
    NoSession,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a packet to a peer's target, with TTL 255.
    Send {
        /// Whose session.
        peer: PeerId,
        /// The payload.
        packet: [u8; super::packet::LENGTH],
    },
    /// The path to a peer has changed.
    Path {
        /// Whose.
        peer: PeerId,
        /// What is known of it now.
        path: Path,
    },
}

/// A snapshot of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStatus {
    /// Whose.
    pub peer: PeerId,
    /// The path.
    pub target: Target,
    /// Our state.
    pub state: State,
    /// The other end's; `None`: not heard.
    pub remote_state: Option<State>,
    /// Why it went down last.
    pub diagnostic: Diagnostic,
    /// Since when it has its state.
    pub since: Instant,
    /// How often packets go out, at most; `None`: the other end wants none.
    pub send_interval: Option<Duration>,
    /// After how much silence it is down.
    pub detection_time: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) peer: PeerId,
    pub(super) target: Target,
    pub(super) session: Session,
    scheduled: Option<Instant>,
}

/// The sessions by our discriminator.
#[derive(Debug)]
pub struct Table {
    pub(super) sessions: BTreeMap<u32, Entry>,
    pub(super) names: BTreeMap<PeerId, u32>,
    addresses: BTreeMap<Address, u32>,
    schedule: BTreeSet<(Instant, u32)>,
    pub(super) random: Jitter,
    outputs: VecDeque<Output>,
}

impl Table {
    /// No sessions. The seed decides discriminators and jitter; it should be a secret of this run.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            names: BTreeMap::new(),
            addresses: BTreeMap::new(),
            schedule: BTreeSet::new(),
            random: Jitter::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// Goes over to other sessions. One whose addresses stay goes on, with its new intervals; one that is taken away tells
    /// its peer so. Of two for one path the first by name is had.
    pub fn configure(&mut self, wanted: &BTreeMap<PeerId, Target>, now: Instant) {
        let gone: Vec<PeerId> = self
            .names
            .iter()
            .filter(|(peer, number)| {
                let known = &self.sessions[number].target;
                wanted.get(*peer).is_none_or(|target| target.address() != known.address())
            })
            .map(|(peer, _)| peer.clone())
            .collect();
        gone.iter().for_each(|peer| self.remove(peer, now));
        for (peer, target) in wanted {
            match self.names.get(peer).copied() {
                Some(number) => self.reconfigure(number, target, now),
                None => self.add(peer, target, now),
            }
        }
    }

    fn add(&mut self, peer: &PeerId, target: &Target, now: Instant) {
        if self.addresses.contains_key(&target.address()) {
            return;
        }
        let number = self.new_discriminator();
        let session = Session::new(target.bfd, number, self.random.next(), now);
        self.insert(peer, target, number, session);
    }

    /// Has a session that goes by this discriminator.
    pub(super) fn insert(&mut self, peer: &PeerId, target: &Target, number: u32, session: Session) {
        self.names.insert(peer.clone(), number);
        self.addresses.insert(target.address(), number);
        let entry = Entry { peer: peer.clone(), target: target.clone(), session, scheduled: None };
        self.sessions.insert(number, entry);
        self.act(number);
    }

    fn new_discriminator(&mut self) -> u32 {
        loop {
            let number = (self.random.next() >> 32) as u32;
            if number != 0 && !self.sessions.contains_key(&number) {
                return number;
            }
        }
    }

    fn reconfigure(&mut self, number: u32, target: &Target, now: Instant) {
        let entry = self.sessions.get_mut(&number).expect("a name belongs to a session");
        if entry.target != *target {
            entry.target = target.clone();
            entry.session.reconfigure(target.bfd, now);
            self.act(number);
        }
    }

    fn remove(&mut self, peer: &PeerId, now: Instant) {
        let number = self.names.remove(peer).expect("just listed");
        self.sessions.get_mut(&number).expect("a name belongs to a session").session.take_away(now);
        self.act(number);
        let entry = self.sessions.remove(&number).expect("it was there");
        self.addresses.remove(&entry.target.address());
        if let Some(at) = entry.scheduled {
            self.schedule.remove(&(at, number));
        }
    }

    /// A packet. Whatever it is, nothing worse happens than that it is refused.
    ///
    /// # Errors
    /// It is thrown away.
    pub fn receive(&mut self, arrival: Arrival<'_>, bytes: &[u8], now: Instant) -> Result<(), Refused> {
        if !arrival.multihop && arrival.ttl != TTL {
            return Err(Refused::Ttl(arrival.ttl));
        }
        let packet = ControlPacket::decode(bytes)?;
        let number = self.find(arrival, packet.your_discriminator).ok_or(Refused::NoSession)?;
        let entry = self.sessions.get_mut(&number).expect("just found");
        entry.session.handle_packet(&packet, now);
        self.act(number);
        Ok(())
    }

    /// RFC 5880, section 6.3. Discriminators are hard to guess, but whoever sees one shall not be able to use it from
    /// elsewhere.
    fn find(&self, arrival: Arrival<'_>, discriminator: u32) -> Option<u32> {
        let address = Address {
            remote: arrival.remote,
            local: arrival.local,
            multihop: arrival.multihop,
            interface: arrival.interface.map(str::to_owned),
        };
        let number = *self.addresses.get(&address)?;
        (discriminator == 0 || discriminator == number).then_some(number)
    }

    /// Runs timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, number)) = self.schedule.first().copied()
            && at <= now
        {
            self.schedule.remove(&(at, number));
            let entry = self.sessions.get_mut(&number).expect("what is scheduled is there");
            entry.scheduled = None;
            entry.session.handle_timeout(now);
            self.act(number);
        }
    }

    /// When [`Table::handle_timeout`] wants to be called; perhaps earlier than needed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Every session, by the names of their peers.
    pub fn status(&self) -> Vec<SessionStatus> {
        let entries = self.names.values().map(|number| &self.sessions[number]);
        entries
            .map(|entry| SessionStatus {
                peer: entry.peer.clone(),
                target: entry.target.clone(),
                state: entry.session.state(),
                remote_state: entry.session.remote_state(),
                diagnostic: entry.session.diagnostic(),
                since: entry.session.since(),
                send_interval: entry.session.send_interval(),
                detection_time: entry.session.detection_time(),
            })
            .collect()
    }

    fn act(&mut self, number: u32) {
        let entry = self.sessions.get_mut(&number).expect("its session has just acted");
        while let Some(action) = entry.session.poll_action() {
            let peer = entry.peer.clone();
            self.outputs.push_back(match action {
                Action::Send(packet) => Output::Send { peer, packet: packet.encode() },
                Action::Changed(path) => Output::Path { peer, path },
            });
        }
        let Some(next) = entry.session.poll_timeout() else { return };
        // With every packet the detection time moves on; an entry that is too early costs one look.
        if entry.scheduled.is_none_or(|at| next < at) {
            if let Some(old) = entry.scheduled.replace(next) {
                self.schedule.remove(&(old, number));
            }
            self.schedule.insert((next, number));
        }
    }
}
