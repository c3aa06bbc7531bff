//! The shell around BFD: a thread of its own with its sockets and its clock.
//!
//! Packets are due every few tens of milliseconds whatever else the process does, so BFD shares nothing with the BGP
//! thread: it is told which paths to watch, and says at once what becomes of them. The thread asks for the highest
//! ordinary priority (nice -20); without the right to it, it runs as the others do.
//!
//! Packets go out from a socket for each path, bound to our address and a port of the range that RFC 5881 gives, with TTL
//! 255. They come in by sockets that paths share: one for each of our addresses, port and interface. What the protocol is, is
//! in [`bgp::bfd`].
//!
//! Metrics: `tortie_bfd_sessions` (`state`: up, down) and `tortie_bfd_refused_packets_total`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bgp::bfd::packet::State;
use bgp::bfd::{
    Arrival, HandedPaths, MULTIHOP_PORT, Output, Path, Refused, SINGLE_HOP_PORT, SOURCE_PORTS, TTL, Table,
    Target,
};
use bgp::{PeerId, WatchedPath};
use socket2::{Domain, Protocol, Socket, Type};

use crate::speaker::poller::{Interest, Poller, Ready, Waker};
use crate::telemetry;

/// How soon a socket that cannot be had is tried again: the address may not be there yet.
const RETRY: Duration = Duration::from_secs(1);
/// Packets that are taken from one socket before it is looked at the clock again.
const AT_ONCE: usize = 64;
/// Source ports that are tried before it is given up for a moment.
const PORT_TRIES: usize = 64;
/// How often refused packets are logged.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What the thread is told.
enum Command {
    Watch(BTreeMap<PeerId, WatchedPath>),
    /// Hold still, and give everything to another process.
    Freeze(SyncSender<GivenPaths>),
    /// Nobody took it.
    GoOn,
    /// Somebody did.
    EndSilently,
    Stop,
}

/// What another process gets: the sessions, a socket for each of them to send from, and a socket for each place where packets
/// come in, in the order of places.
#[derive(Debug, Default)]
pub(crate) struct GivenPaths {
    pub(crate) paths: HandedPaths,
    pub(crate) senders: Vec<OwnedFd>,
    pub(crate) receivers: Vec<OwnedFd>,
}

impl GivenPaths {
    /// Whether there is nothing to go on with.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.paths.is_empty()
    }
}

/// The running thread. Dropped, it tells the peers that BFD is taken away, and ends.
pub(crate) struct Bfd {
    commands: Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Bfd {
    /// Starts the thread, which goes on with what another process had. `tell` is called on it and must not block.
    ///
    /// # Errors
    /// Out of file descriptors, or the thread cannot be had.
    pub(crate) fn start(
        tell: impl FnMut(PeerId, Path) + Send + 'static,
        inherited: GivenPaths,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (commands, receiver) = channel();
        let work = move || {
            // Not a failure: without CAP_SYS_NICE timers are as exact as the scheduler makes them.
            if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), -20) {
                tracing::debug!(%error, "BFD runs with ordinary priority");
            }
            let mut worker = Worker::new(poller, Box::new(tell));
            worker.inherit(inherited);
            worker.run(&receiver);
        };
        let thread = std::thread::Builder::new().name("bfd".to_owned()).spawn(work)?;
        Ok(Self { commands, waker, thread: Some(thread) })
    }

    /// The paths to watch from now on.
    pub(crate) fn watch(&self, paths: BTreeMap<PeerId, WatchedPath>) {
        self.send(Command::Watch(paths));
    }

    /// Holds still, and gives everything away. `None`: the thread has ended.
    pub(crate) fn freeze(&self) -> Option<GivenPaths> {
        let (answer, answered) = sync_channel(1);
        self.send(Command::Freeze(answer));
        answered.recv().ok()
    }

    /// Nobody took what was given away.
    pub(crate) fn go_on(&self) {
        self.send(Command::GoOn);
    }

    /// Somebody has taken what was given away: no peer is told anything.
    pub(crate) fn end_silently(self) {
        self.send(Command::EndSilently);
    }

    fn send(&self, command: Command) {
        // A thread that has ended has said why; BGP goes on by its own timers.
        let _ = self.commands.send(command);
        self.waker.wake();
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.send(Command::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the BFD thread ended by a panic");
        }
    }
}

/// What a receiving socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    local: IpAddr,
    multihop: bool,
    interface: Option<String>,
}

impl Place {
    fn of(target: &Target) -> Self {
        Self { local: target.local, multihop: target.bfd.multihop, interface: target.interface.clone() }
    }
}

struct Worker {
    table: Table,
    poller: Poller,
    tell: Box<dyn FnMut(PeerId, Path) + Send>,
    wanted: BTreeMap<PeerId, WatchedPath>,
    targets: BTreeMap<PeerId, Target>,
    senders: BTreeMap<PeerId, UdpSocket>,
    receivers: BTreeMap<Place, (u64, UdpSocket)>,
    sockets_made: u64,
    retry_at: Option<Instant>,
    complain_at: Instant,
}

impl Worker {
    fn new(poller: Poller, tell: Box<dyn FnMut(PeerId, Path) + Send>) -> Self {
        Self {
            table: Table::new(fastrand::u64(..)),
            poller,
            tell,
            wanted: BTreeMap::new(),
            targets: BTreeMap::new(),
            senders: BTreeMap::new(),
            receivers: BTreeMap::new(),
            sockets_made: 0,
            retry_at: None,
            complain_at: Instant::now(),
        }
    }

    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let due = self.table.poll_timeout().into_iter().chain(self.retry_at).min();
            let limit = due.map(|at| at.saturating_duration_since(Instant::now()));
            let ready = match self.poller.wait(limit) {
                Ok(ready) => ready,
                Err(error) => return tracing::error!(%error, "BFD cannot wait for its sockets"),
            };
            // Packets first: one that is there must not be missed because the thread comes late.
            ready.into_iter().for_each(|ready| self.receive(ready));
            self.table.handle_timeout(Instant::now());
            loop {
                match commands.try_recv() {
                    Ok(Command::Watch(paths)) => {
                        self.wanted = paths;
                        self.configure();
                    }
                    Ok(Command::Freeze(answer)) => {
                        if self.hold_still(&answer, commands) {
                            return;
                        }
                    }
                    // Those belong to holding still.
                    Ok(Command::GoOn | Command::EndSilently) => {}
                    Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                        self.wanted.clear();
                        self.configure();
                        return self.carry_out();
                    }
                    Err(TryRecvError::Empty) => break,
                }
            }
            if self.retry_at.take_if(|at| *at <= Instant::now()).is_some() {
                self.configure();
            }
            self.carry_out();
        }
    }

    /// Gives everything to another process, and waits for what becomes of it. True: it is the other's.
    fn hold_still(&mut self, answer: &SyncSender<GivenPaths>, commands: &Receiver<Command>) -> bool {
        self.carry_out();
        match self.given() {
            Ok(given) => drop(answer.send(given)),
            Err(error) => {
                tracing::error!(%error, "cannot hand over BFD's sockets");
                drop(answer.send(GivenPaths::default()));
            }
        }
        loop {
            match commands.recv() {
                Ok(Command::EndSilently) => return true,
                Ok(Command::GoOn | Command::Stop) | Err(_) => return false,
                Ok(Command::Watch(paths)) => self.wanted = paths,
                Ok(Command::Freeze(_)) => {}
            }
        }
    }

    fn given(&self) -> io::Result<GivenPaths> {
        let paths = self.table.hand_over(Instant::now());
        let missing = || io::Error::from(io::ErrorKind::NotConnected);
        let senders = paths.paths.iter().map(|path| {
            let socket = self.senders.get(&path.peer).ok_or_else(missing)?;
            socket.try_clone().map(OwnedFd::from)
        });
        let senders = senders.collect::<io::Result<_>>()?;
        let places: BTreeSet<Place> = paths.paths.iter().map(|path| Place::of(&path.target)).collect();
        let receivers = places.iter().map(|place| {
            let (_, socket) = self.receivers.get(place).ok_or_else(missing)?;
            socket.try_clone().map(OwnedFd::from)
        });
        let receivers = receivers.collect::<io::Result<_>>()?;
        Ok(GivenPaths { paths, senders, receivers })
    }

    /// Goes on with what another process had. What it has said of the paths is said again.
    fn inherit(&mut self, inherited: GivenPaths) {
        let GivenPaths { paths, senders, receivers } = inherited;
        let places: BTreeSet<Place> = paths.paths.iter().map(|path| Place::of(&path.target)).collect();
        for (place, socket) in places.into_iter().zip(receivers) {
            let socket = UdpSocket::from(socket);
            self.sockets_made += 1;
            match self.poller.add(&socket, self.sockets_made, Interest::Read) {
                Ok(()) => drop(self.receivers.insert(place, (self.sockets_made, socket))),
                Err(error) => tracing::error!(%error, "a socket of BFD is lost"),
            }
        }
        self.table = Table::take_over(&paths, fastrand::u64(..), Instant::now());
        for (path, socket) in paths.paths.into_iter().zip(senders) {
            self.senders.insert(path.peer.clone(), UdpSocket::from(socket));
            path.told.into_iter().for_each(|told| (self.tell)(path.peer.clone(), told));
            self.targets.insert(path.peer, path.target);
        }
        self.count();
    }

    /// Has the sockets that the wanted paths need, and watches those that have theirs.
    fn configure(&mut self) {
        self.retry_at = None;
        let mut targets = BTreeMap::new();
        for (peer, path) in self.wanted.clone() {
            match self.prepare(&peer, &path) {
                Ok(target) => drop(targets.insert(peer, target)),
                Err(error) => {
                    tracing::warn!(%peer, remote = %path.remote, %error, "cannot watch the path with BFD; trying again");
                    self.retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
        self.table.configure(&targets, Instant::now());
        // Good-byes go out before their sockets are closed.
        self.carry_out();
        let places: BTreeSet<Place> = targets.values().map(Place::of).collect();
        self.receivers.retain(|place, _| places.contains(place));
        self.senders.retain(|peer, _| targets.contains_key(peer));
        self.targets = targets;
        self.count();
    }

    fn prepare(&mut self, peer: &PeerId, path: &WatchedPath) -> io::Result<Target> {
        let known = self.targets.get(peer).filter(|known| {
            let same_local = path.local.is_none_or(|local| local == known.local);
            let same_port = path.bfd.multihop == known.bfd.multihop;
            same_local && same_port && known.remote == path.remote && known.interface == path.interface
        });
        if let Some(known) = known {
            return Ok(Target { bfd: path.bfd, ..known.clone() });
        }
        let sender = sender(path)?;
        let local = sender.local_addr()?.ip();
        let target = Target { local, remote: path.remote, interface: path.interface.clone(), bfd: path.bfd };
        let place = Place::of(&target);
        if !self.receivers.contains_key(&place) {
            let socket = receiver(&place)?;
            self.sockets_made += 1;
            self.poller.add(&socket, self.sockets_made, Interest::Read)?;
            self.receivers.insert(place, (self.sockets_made, socket));
        }
        if self.targets.contains_key(peer) {
            // The old path is told good-bye by its own socket, which is about to be replaced.
            self.targets.remove(peer);
            let kept = self.targets.clone();
            self.table.configure(&kept, Instant::now());
            self.carry_out();
        }
        self.senders.insert(peer.clone(), sender);
        Ok(target)
    }

    fn receive(&mut self, ready: Ready) {
        let Some((place, (_, socket))) = self.receivers.iter().find(|(_, (token, _))| *token == ready.token)
        else {
            return;
        };
        let mut buffer = [0; 128];
        for _ in 0..AT_ONCE {
            let datagram = match kernel::datagram::receive(socket, &mut buffer) {
                Ok(datagram) => datagram,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                // Nothing more, or an error of the network that the detection time will tell.
                Err(_) => break,
            };
            let arrival = Arrival {
                local: place.local,
                remote: datagram.from.ip(),
                interface: place.interface.as_deref(),
                multihop: place.multihop,
                ttl: datagram.hop_limit,
            };
            let now = Instant::now();
            if let Err(refused) = self.table.receive(arrival, &buffer[..datagram.length], now) {
                metrics::counter!(telemetry::BFD_REFUSED).increment(1);
                if self.complain_at <= now && refused != Refused::NoSession {
                    self.complain_at = now + COMPLAIN;
                    tracing::warn!(from = %datagram.from, %refused, "BFD packet refused");
                }
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.table.poll_output() {
            match output {
                Output::Send { peer, packet } => {
                    // A path without route is down, which the other end's silence tells.
                    let _ = self.senders.get(&peer).map(|socket| socket.send(&packet));
                }
                Output::Path { peer, path } => {
                    tracing::info!(%peer, %path, "BFD path");
                    (self.tell)(peer, path);
                    self.count();
                }
            }
        }
    }

    fn count(&self) {
        let status = self.table.status();
        let up = status.iter().filter(|session| session.state == State::Up).count();
        metrics::gauge!(telemetry::BFD_SESSIONS, "state" => "up").set(up as f64);
        metrics::gauge!(telemetry::BFD_SESSIONS, "state" => "down").set((status.len() - up) as f64);
    }
}

fn socket(address: IpAddr, interface: Option<&str>) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that packets of one path are sent from.
fn sender(path: &WatchedPath) -> io::Result<UdpSocket> {
    let socket = socket(path.remote, path.interface.as_deref())?;
    match path.remote.is_ipv4() {
        true => socket.set_ttl_v4(TTL.into())?,
        false => socket.set_unicast_hops_v6(TTL.into())?,
    }
    let unspecified = || match path.remote {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = path.local.unwrap_or_else(unspecified);
    bind_in_range(&socket, local, path.interface.as_deref())?;
    let port = if path.bfd.multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT };
    socket.connect(&with_scope(&socket, path.remote, port, path.interface.as_deref())?.into())?;
    Ok(socket.into())
}

/// Binds to a free port of [`SOURCE_PORTS`]; it is for this path only.
fn bind_in_range(socket: &Socket, local: IpAddr, interface: Option<&str>) -> io::Result<()> {
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..PORT_TRIES {
        result = socket.bind(&with_scope(socket, local, fastrand::u16(SOURCE_PORTS), interface)?.into());
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => return result,
        }
    }
    result
}

/// A socket for what comes to one of our addresses.
fn receiver(place: &Place) -> io::Result<UdpSocket> {
    let interface = place.interface.as_deref();
    let socket = socket(place.local, interface)?;
    let port = if place.multihop { MULTIHOP_PORT } else { SINGLE_HOP_PORT };
    socket.bind(&with_scope(&socket, place.local, port, interface)?.into())?;
    let socket = UdpSocket::from(socket);
    kernel::datagram::tell_hop_limit(&socket, place.local.is_ipv6())?;
    Ok(socket)
}

/// A link-local address means something only together with an interface.
fn with_scope(
    socket: &Socket,
    address: IpAddr,
    port: u16,
    interface: Option<&str>,
) -> io::Result<SocketAddr> {
    match (address, interface) {
        (IpAddr::V6(v6), Some(interface)) if v6.is_unicast_link_local() => {
            let index = rustix::net::netdevice::name_to_index(socket, interface)?;
            Ok(SocketAddrV6::new(v6, port, 0, index).into())
        }
        _ => Ok((address, port).into()),
    }
}
