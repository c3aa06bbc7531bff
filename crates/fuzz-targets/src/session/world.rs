//! The speaker and what is around it: its outputs are carried out, and held against what must be so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::handover::{Handover, Octets};
use bgp::observe::bmp;
use bgp::query::{Cursor, RouteFilter, View};
use bgp::{ConnectionId, Endpoints, Family, Input, Output, PeerId, Speaker, SpeakerConfig, Start};
use ipnet::IpNet;

use super::configuration::{self, Bits, LIMIT, OUR_AS, PEERS};
use super::link::{Link, kind};

/// So many outputs at a time are no longer an answer to one input.
const MOST_OUTPUTS: usize = 20_000;
/// So often a timer may be due in one step: a KEEPALIVE a second for each peer, and some more.
const MOST_TIMEOUTS: usize = 20_000;

/// The speaker's world.
pub(super) struct World {
    pub(super) speaker: Speaker,
    pub(super) now: Instant,
    pub(super) bits: Bits,
    pub(super) originated: BTreeMap<IpNet, bgp::config::Origination>,
    pub(super) links: BTreeMap<ConnectionId, Link>,
    /// Dialled, and not answered yet.
    pub(super) dialled: BTreeMap<ConnectionId, PeerId>,
    pub(super) watched: BTreeSet<IpAddr>,
    /// What stations have been told and is no whole message yet.
    stations: BTreeMap<ConnectionId, Vec<u8>>,
    kernel: BTreeSet<IpNet>,
    complete: BTreeSet<Family>,
    pub(super) stopped: bool,
    outputs: Vec<Output>,
}

impl World {
    /// The octet says how the speaker starts.
    pub(super) fn new(octet: u8) -> Self {
        let now = Instant::now();
        let bits = Bits(0);
        let start = if octet & 2 == 0 { Start::Fresh } else { Start::Restarting };
        let mut world = Self {
            speaker: Speaker::new(configuration::speaker(bits), start, 1, now),
            now,
            bits,
            originated: BTreeMap::new(),
            links: BTreeMap::new(),
            dialled: BTreeMap::new(),
            watched: BTreeSet::new(),
            stations: BTreeMap::new(),
            kernel: BTreeSet::new(),
            complete: BTreeSet::new(),
            stopped: false,
            outputs: Vec::new(),
        };
        world.settle();
        world
    }

    /// The configuration that the bits stand for.
    pub(super) fn config(&self) -> SpeakerConfig {
        SpeakerConfig { originated: self.originated.clone(), ..configuration::speaker(self.bits) }
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.speaker.handle_input(input, self.now);
        self.settle();
    }

    /// Time goes by.
    pub(super) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..MOST_TIMEOUTS {
            self.now = self.speaker.poll_timeout().map_or(end, |at| at.clamp(self.now, end));
            self.speaker.handle_timeout(self.now);
            self.settle();
            let again = self.speaker.poll_timeout();
            if again.is_some_and(|at| at <= self.now) {
                self.speaker.handle_timeout(self.now);
                let third = self.speaker.poll_timeout();
                assert!(third.is_none_or(|at| at > self.now), "a timer is due, and due, and due");
                self.settle();
            }
            if self.now >= end {
                return;
            }
        }
        panic!("timers were due {MOST_TIMEOUTS} times in {time:?}");
    }

    /// A connection is there.
    pub(super) fn link(&mut self, connection: ConnectionId, peer: usize, name: PeerId) {
        let config = self.speaker.peer_config(&name).expect("whose connection is taken, is there");
        let kind = kind(config.effective_local_as(OUR_AS), config.remote_as);
        self.links.insert(connection, Link::new(peer, name, kind));
    }

    pub(super) fn endpoints(peer: usize) -> Endpoints {
        let local = (IpAddr::from([10, 0, 0, 1]), 179).into();
        Endpoints { local, remote: (configuration::address(peer), 40_000).into() }
    }

    /// Carries out what the speaker wants, until it wants nothing.
    pub(super) fn settle(&mut self) {
        let before = self.outputs.len();
        while let Some(output) = self.speaker.poll_output() {
            self.outputs.push(output.clone());
            assert!(self.outputs.len() - before < MOST_OUTPUTS, "outputs without end");
            self.carry_out(output);
        }
        self.check_limits();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect { connection, peer, .. } => {
                assert!(self.dialled.insert(connection, peer).is_none());
            }
            Output::Send { connection, bytes } if self.stations.contains_key(&connection) => {
                self.report(connection, &bytes);
            }
            Output::Send { connection, bytes } => {
                let link = self.links.get_mut(&connection).expect("it writes to open connections");
                link.hear(&bytes);
                if link.reads {
                    let bytes = std::mem::take(&mut link.unread);
                    self.speaker.handle_input(Input::Written { connection, bytes }, self.now);
                }
            }
            Output::Close { connection } => {
                let known = self.links.remove(&connection).is_some()
                    || self.dialled.remove(&connection).is_some()
                    || self.stations.remove(&connection).is_some();
                assert!(known, "what is closed was open");
            }
            Output::BestRoute { prefix, route: Some(route) } => {
                assert!(!route.next_hops.is_empty() && !route.gateways.is_empty());
                self.kernel.insert(prefix);
            }
            Output::BestRoute { prefix, route: None } => {
                assert!(self.kernel.remove(&prefix), "{prefix} was not in the kernel");
            }
            Output::WatchNextHop { address } => assert!(self.watched.insert(address)),
            Output::ForgetNextHop { address } => assert!(self.watched.remove(&address)),
            Output::RibComplete { family } => assert!(self.complete.insert(family)),
            Output::Session { .. } | Output::PrefixWarning { .. } | Output::Station { .. } => {}
        }
    }

    /// The station has answered.
    pub(super) fn station(&mut self, connection: ConnectionId) {
        self.stations.insert(connection, Vec::new());
    }

    /// A station is told something, which it reads at once.
    fn report(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let told = self.stations.get_mut(&connection).expect("checked by the caller");
        told.extend_from_slice(bytes);
        while let Some((_, length)) = bmp::Message::decode(told).expect("stations are told BMP") {
            told.drain(..length);
        }
        assert!(told.is_empty(), "stations are told whole messages");
        let bytes = bytes.len();
        self.speaker.handle_input(Input::Written { connection, bytes }, self.now);
    }

    /// Another process takes the speaker's place. Peers notice nothing; the kernel and stations are told everything anew.
    pub(super) fn hand_over(&mut self) {
        if self.stopped || self.speaker.is_opening() {
            return;
        }
        let mut handover = self.speaker.hand_over(self.now);
        assert_eq!(Handover::decode(&handover.encode()).as_ref(), Ok(&handover));
        for session in handover.sessions_mut() {
            session.unsent = Octets(vec![0; self.links[&session.connection].unread]);
        }
        let taken = Speaker::take_over(self.config(), &handover, 1, self.now);
        let (speaker, names) = taken.expect("what was handed over fits together");
        self.speaker = speaker;
        let mut old = std::mem::take(&mut self.links);
        self.links = names.iter().filter_map(|(was, is)| Some((*is, old.remove(was)?))).collect();
        assert_eq!(self.links.len(), names.len(), "sessions have connections");
        for link in old.values() {
            let status = self.speaker.status_of(&link.name);
            assert!(status.is_none_or(|peer| peer.established.is_none()), "{} lost its session", link.name);
        }
        self.dialled.clear();
        self.stations.clear();
        self.kernel.clear();
        self.watched.clear();
        self.complete.clear();
        self.settle();
    }

    fn check_limits(&self) {
        assert!(self.links.len() + self.dialled.len() <= 3 * PEERS.len() + 3, "connections without end");
        let Some(peer) = self.speaker.status_of(&PeerId::from("e3")) else { return };
        let limited = self.speaker.peer_config(&peer.id).is_some_and(|config| config.prefix_limit.is_some());
        if limited && peer.established.is_some() {
            assert!(peer.received.iter().all(|(_, prefixes)| *prefixes <= LIMIT as usize), "{peer:?}");
        }
    }

    /// Everything is read and told; then all peers go.
    pub(super) fn finish(mut self) -> Vec<Output> {
        let links: Vec<ConnectionId> = self.links.keys().copied().collect();
        links.into_iter().for_each(|connection| self.read(connection));
        if self.stopped {
            return self.outputs;
        }
        self.check_beliefs();
        self.check_kernel();
        let config = self.config();
        let empty = SpeakerConfig {
            peers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            stations: BTreeMap::new(),
            originated: BTreeMap::new(),
            ..config
        };
        self.input(Input::Configure(empty));
        self.wait(Duration::from_secs(1));
        assert_eq!([self.links.len(), self.dialled.len(), self.stations.len()], [0; 3], "connections");
        assert_eq!((&self.kernel, &self.watched), (&BTreeSet::new(), &BTreeSet::new()), "routes");
        assert_eq!(Family::ALL.map(|family| self.speaker.prefixes(family)), [0, 0], "prefixes");
        assert_eq!(self.speaker.attribute_sets(), 0, "attributes");
        self.outputs
    }

    /// A peer reads what it has left unread so far, and what comes because of that.
    pub(super) fn read(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        link.reads = true;
        let bytes = std::mem::take(&mut link.unread);
        self.input(Input::Written { connection, bytes });
    }

    /// Peers believe what the speaker says that it has told them.
    fn check_beliefs(&self) {
        for link in self.links.values().filter(|link| link.has_agreed()) {
            let status = self.speaker.status_of(&link.name).expect("its connection is there");
            if status.established.is_none() || self.connections_of(&link.name) > 1 {
                continue;
            }
            let view = View::Advertised(link.name.clone());
            let routes = self.routes(view).map(|route| (route.prefix, route.path_id));
            assert_eq!(link.told, routes.collect(), "what {} believes", link.name);
        }
    }

    fn connections_of(&self, name: &PeerId) -> usize {
        self.links.values().filter(|link| link.name == *name && link.has_agreed()).count()
    }

    /// What is selected and was learned is in the kernel, and nothing else.
    fn check_kernel(&self) {
        if !self.bits.takes_everything_into_the_kernel() || self.complete.len() < Family::ALL.len() {
            return;
        }
        let best = self.routes(View::All).filter(|route| route.best && route.peer.is_some());
        assert_eq!(self.kernel, best.map(|route| route.prefix).collect(), "what the kernel has");
    }

    fn routes(&self, view: View) -> impl Iterator<Item = bgp::query::RouteView> {
        let filter = RouteFilter { view, prefix: None, longer: false };
        let page = self.speaker.routes(&filter, Cursor::START);
        assert_eq!(page.next, None, "so few prefixes are one page");
        page.routes.into_iter()
    }
}
