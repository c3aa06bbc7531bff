//! A speaker among peers that are played by the test: they say what they are told to, and note what they hear.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use bgp::config::SendPaths;
use bgp::handover::Handover;
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, MpReach, MpUnreach, Origin};
use bgp::packet::capability::{AddPathMode, Capability, GracefulRestartCapability};
use bgp::packet::nlri::Nlri;
use bgp::packet::notification::Notification;
use bgp::packet::open::Open;
use bgp::packet::route_refresh::RouteRefresh;
use bgp::packet::update::{Update, end_of_rib};
use bgp::packet::{Context, Framer, Message, PeerKind};
use bgp::{
    Asn, BestRoute, ConnectionId, Endpoints, Family, FamilySet, Input, Output, PeerConfig, PeerId, RouterId,
    Speaker, SpeakerConfig, Start, StationEvent,
};
use ipnet::IpNet;

pub(crate) const OUR_AS: u32 = 64512;

/// What a peer has been told about a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) attributes: Vec<Attribute>,
}

impl Told {
    pub(crate) fn find<T>(&self, pick: impl Fn(&AttributeValue) -> Option<T>) -> Option<T> {
        self.attributes.iter().find_map(|attribute| pick(&attribute.value))
    }

    pub(crate) fn path(&self) -> String {
        self.find(|value| match value {
            AttributeValue::AsPath(path) => Some(path.to_string()),
            _ => None,
        })
        .expect("every route has an AS_PATH")
    }

    pub(crate) fn next_hop(&self) -> IpAddr {
        self.find(|value| match value {
            AttributeValue::NextHop(address) => Some(IpAddr::V4(*address)),
            AttributeValue::MpReach(MpReach::Routes { next_hops, .. }) => Some(next_hops[0]),
            _ => None,
        })
        .expect("every route has a next hop")
    }

    pub(crate) fn codes(&self) -> Vec<u8> {
        self.attributes.iter().map(|attribute| attribute.value.code()).collect()
    }
}

/// A peer that the test plays.
pub(crate) struct Probe {
    pub(crate) connection: ConnectionId,
    context: Context,
    framer: Framer,
    /// What it believes.
    pub(crate) routes: BTreeMap<IpNet, Told>,
    /// What it believes where it takes several routes for a prefix, by their identifiers.
    pub(crate) paths: BTreeMap<(IpNet, u32), Told>,
    pub(crate) updates: usize,
    /// How often a withdrawal left it without any route for the prefix (of those with path identifiers).
    pub(crate) gaps: usize,
    pub(crate) end_of_ribs: Vec<Family>,
    pub(crate) refreshes: Vec<RouteRefresh>,
    pub(crate) notification: Option<Notification>,
    pub(crate) closed: bool,
    /// Octets that it has not read.
    pub(crate) unread: usize,
    pub(crate) reads: bool,
}

pub(crate) struct Bench {
    pub(crate) speaker: Speaker,
    pub(crate) now: Instant,
    pub(crate) probes: BTreeMap<String, Probe>,
    pub(crate) kernel: BTreeMap<IpNet, std::sync::Arc<BestRoute>>,
    pub(crate) complete: Vec<Family>,
    /// How often a route of it has come or changed.
    pub(crate) kernel_changes: usize,
    /// Next hops that the speaker wants to know about.
    pub(crate) watched: std::collections::BTreeSet<IpAddr>,
    /// Octets handed out, each allocation once.
    pub(crate) encoded: usize,
    last_allocation: Option<std::sync::Arc<[u8]>>,
    /// What the speaker has dialled last for whom.
    pub(crate) dialled: BTreeMap<String, ConnectionId>,
    pub(crate) stations: BTreeMap<ConnectionId, Heard>,
    pub(crate) events: Vec<(String, StationEvent)>,
}

/// What a station has been sent.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) octets: Vec<u8>,
    pub(crate) unread: usize,
    pub(crate) is_deaf: bool,
    pub(crate) closed: bool,
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

pub(crate) fn peer_address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

/// A peer at 10.0.0.`last`, in its AS; both families.
pub(crate) fn peer(last: u8, asn: u32) -> PeerConfig {
    let mut peer = PeerConfig::new(peer_address(last), Asn(asn));
    peer.connect = bgp::config::ConnectMode::Passive;
    peer.families = Family::ALL.into();
    peer
}

pub(crate) fn config(peers: &[(&str, PeerConfig)]) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(Asn(OUR_AS), RouterId([10, 0, 0, 1].into()));
    config.addresses.ipv4 = Some([10, 0, 0, 1].into());
    config.addresses.ipv6 = Some("2001:db8::1".parse().expect("an address"));
    config.peers = peers.iter().map(|(name, peer)| (PeerId::from(*name), peer.clone())).collect();
    config
}

impl Bench {
    pub(crate) fn new(config: SpeakerConfig, start: Start) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to begin somewhere; only differences count"
        )]
        let now = Instant::now();
        let mut bench = Self {
            speaker: Speaker::new(config, start, 1, now),
            now,
            probes: BTreeMap::new(),
            kernel: BTreeMap::new(),
            complete: Vec::new(),
            kernel_changes: 0,
            watched: std::collections::BTreeSet::new(),
            encoded: 0,
            last_allocation: None,
            dialled: BTreeMap::new(),
            stations: BTreeMap::new(),
            events: Vec::new(),
        };
        bench.drain();
        bench
    }

    /// Another process goes on with the speaker, with a configuration of its own. It knows nothing that was not handed over,
    /// as octets; the kernel's routes are named anew.
    pub(crate) fn take_over(&mut self, config: SpeakerConfig) {
        let mut handover = self.speaker.hand_over(self.now);
        for session in handover.sessions_mut() {
            let probe = self.probes.values().find(|probe| probe.connection == session.connection);
            session.unsent.0 = vec![0; probe.map_or(0, |probe| probe.unread)];
        }
        let octets = handover.encode();
        let handed = Handover::decode(&octets).expect("just encoded");
        assert_eq!(handed, handover, "nothing is lost on the way");
        let (speaker, names) =
            Speaker::take_over(config, &handed, self.probes.len() as u64, self.now).expect("it fits");
        self.speaker = speaker;
        for probe in self.probes.values_mut().filter(|probe| !probe.closed) {
            probe.connection = names[&probe.connection];
        }
        self.watched.clear();
        self.kernel.clear();
        self.complete.clear();
        self.drain();
    }

    /// How often each peer has been told something.
    pub(crate) fn messages(&self) -> BTreeMap<String, (usize, usize, usize)> {
        let count = |probe: &Probe| (probe.updates, probe.refreshes.len(), probe.end_of_ribs.len());
        self.probes.iter().map(|(name, probe)| (name.clone(), count(probe))).collect()
    }

    /// The peer connects and the session comes up.
    pub(crate) fn up(&mut self, name: &str) {
        self.up_with(name, |_| {});
    }

    pub(crate) fn up_with(&mut self, name: &str, change: impl FnOnce(&mut Vec<Capability>)) {
        let peer = self.speaker.config().peers[&PeerId::from(name)].clone();
        let endpoints = Endpoints {
            local: (Ipv4Addr::new(10, 0, 0, 1), 179).into(),
            remote: (peer.address, 40_000).into(),
        };
        let connection = self.speaker.accept(endpoints, self.now).expect("the peer is expected");
        let IpAddr::V4(id) = peer.address else { panic!("peers of this bench have IPv4 addresses") };
        let mut capabilities: Vec<Capability> =
            Family::ALL.into_iter().map(|family| Capability::Multiprotocol(family.into())).collect();
        capabilities.extend([
            Capability::FourOctetAs(peer.remote_as),
            Capability::RouteRefresh,
            Capability::GracefulRestart(GracefulRestartCapability {
                restart_time_secs: 120,
                families: Family::ALL.into_iter().map(|family| (family.into(), true)).collect(),
                ..GracefulRestartCapability::default()
            }),
        ]);
        change(&mut capabilities);
        let takes = peer.add_path.send != SendPaths::None
            && capabilities.iter().any(|capability| match capability {
                Capability::AddPath(entries) => entries.iter().all(|(_, mode)| *mode != AddPathMode::Send),
                _ => false,
            });
        let as4 = capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)));
        let ours = peer.effective_local_as(Asn(OUR_AS));
        let kind = if peer.remote_as == ours { PeerKind::Internal } else { PeerKind::External };
        let context = Context {
            as4,
            families: FamilySet::ALL,
            extended_message: true,
            enhanced_refresh: true,
            add_path: if takes { FamilySet::ALL } else { FamilySet::EMPTY },
            ..Context::initial(kind)
        };
        let probe = Probe {
            connection,
            context,
            framer: Framer::default(),
            routes: BTreeMap::new(),
            paths: BTreeMap::new(),
            updates: 0,
            gaps: 0,
            end_of_ribs: Vec::new(),
            refreshes: Vec::new(),
            notification: None,
            closed: false,
            unread: 0,
            reads: true,
        };
        self.probes.insert(name.to_owned(), probe);
        let open = Open {
            my_as: peer.remote_as.to_two_octets(),
            hold_time_secs: 90,
            router_id: RouterId(id),
            capabilities,
            optional_parameters: 1,
            extended_optional_parameters: false,
        };
        self.say(name, &open.encode());
        self.say(name, &Message::keepalive());
    }

    /// The peer sends bytes.
    pub(crate) fn say(&mut self, name: &str, bytes: &[u8]) {
        let connection = self.probes[name].connection;
        self.input(Input::Received { connection, bytes });
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.speaker.handle_input(input, self.now);
        self.drain();
    }

    /// The peer announces prefixes of both families with an AS_PATH and further attributes.
    pub(crate) fn announce(&mut self, name: &str, prefixes: &[&str], path: &[u32], more: &[AttributeValue]) {
        let probe = &self.probes[name];
        let last = match probe.context.peer {
            _ if name.len() > 1 => name.as_bytes()[1] - b'0',
            _ => 9,
        };
        let nlri = |v4: bool| -> Vec<Nlri> {
            prefixes
                .iter()
                .map(|text| net(text))
                .filter(|net| net.addr().is_ipv4() == v4)
                .map(Nlri::from)
                .collect()
        };
        let mut attributes = vec![
            Attribute::new(AttributeValue::Origin(Origin::Igp)),
            Attribute::new(AttributeValue::AsPath(AsPath::sequence(path.iter().copied()))),
            Attribute::new(AttributeValue::NextHop([10, 0, 0, last].into())),
        ];
        if probe.context.peer == PeerKind::Internal {
            attributes.push(Attribute::new(AttributeValue::LocalPref(100)));
        }
        for value in more {
            attributes.retain(|attribute| attribute.value.code() != value.code());
            attributes.push(Attribute::new(value.clone()));
        }
        if !nlri(false).is_empty() {
            let next_hops = vec![IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)))];
            let reach = MpReach::Routes { family: Family::Ipv6Unicast, next_hops, nlri: nlri(false) };
            attributes.push(Attribute::new(AttributeValue::MpReach(reach)));
        }
        let update = Update { attributes, nlri: nlri(true), ..Update::default() };
        let bytes = update.encode(&probe.context);
        self.say(name, &bytes);
    }

    /// The peer announces a route with a path identifier.
    pub(crate) fn announce_path(&mut self, name: &str, prefix: &str, path_id: u32, path: &[u32]) {
        self.announce_path_with(name, prefix, path_id, path, &[]);
    }

    /// As [`Bench::announce_path`], with further attributes, or others.
    pub(crate) fn announce_path_with(
        &mut self,
        name: &str,
        prefix: &str,
        path_id: u32,
        path: &[u32],
        more: &[AttributeValue],
    ) {
        let mut attributes = vec![
            AttributeValue::Origin(Origin::Igp),
            AttributeValue::AsPath(AsPath::sequence(path.iter().copied())),
            AttributeValue::NextHop([10, 0, 0, name.as_bytes()[1] - b'0'].into()),
            AttributeValue::LocalPref(100),
        ];
        for value in more {
            attributes.retain(|attribute| attribute.code() != value.code());
            attributes.push(value.clone());
        }
        let nlri = vec![Nlri { prefix: net(prefix), path_id: Some(path_id) }];
        let attributes = attributes.into_iter().map(Attribute::new).collect();
        let bytes = Update { attributes, nlri, ..Update::default() }.encode(&self.probes[name].context);
        self.say(name, &bytes);
    }

    /// The peer withdraws a route with a path identifier.
    pub(crate) fn withdraw_path(&mut self, name: &str, prefix: &str, path_id: u32) {
        let withdrawn = vec![Nlri { prefix: net(prefix), path_id: Some(path_id) }];
        let bytes = Update { withdrawn, ..Update::default() }.encode(&self.probes[name].context);
        self.say(name, &bytes);
    }

    pub(crate) fn withdraw(&mut self, name: &str, prefixes: &[&str]) {
        let all = prefixes.iter().map(|text| Nlri::from(net(text)));
        let (withdrawn, nlri): (Vec<_>, Vec<_>) = all.partition(|nlri| nlri.prefix.addr().is_ipv4());
        let unreach = MpUnreach::Routes { family: Family::Ipv6Unicast, nlri: nlri.clone() };
        let attributes = match nlri.is_empty() {
            true => Vec::new(),
            false => vec![Attribute::new(AttributeValue::MpUnreach(unreach))],
        };
        let update = Update { withdrawn, attributes, ..Update::default() };
        let bytes = update.encode(&self.probes[name].context);
        self.say(name, &bytes);
    }

    pub(crate) fn end_of_rib(&mut self, name: &str) {
        for family in Family::ALL {
            self.say(name, &end_of_rib(family));
        }
    }

    pub(crate) fn lose(&mut self, name: &str) {
        let connection = self.probes[name].connection;
        self.probes.get_mut(name).expect("a peer").closed = true;
        self.input(Input::Closed { connection, failure: bgp::TransportFailure::Reset });
    }

    /// Time goes by, second by second; peers whose sessions are up say that they are there.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_secs(1));
            self.speaker.handle_timeout(self.now);
            self.drain();
            let there: Vec<String> =
                self.probes.iter().filter(|(_, p)| !p.closed).map(|(n, _)| n.clone()).collect();
            there.iter().for_each(|name| self.say(name, &Message::keepalive()));
        }
    }

    /// A peer reads what it has left unread so far.
    pub(crate) fn read(&mut self, name: &str) {
        loop {
            let probe = self.probes.get_mut(name).expect("a peer");
            let (connection, bytes) = (probe.connection, std::mem::take(&mut probe.unread));
            if bytes == 0 {
                return;
            }
            self.input(Input::Written { connection, bytes });
        }
    }

    /// A station that the speaker has dialled is there.
    pub(crate) fn station_up(&mut self, name: &str) -> ConnectionId {
        let connection = self.dialled[&format!("bmp_{name}")];
        let here = (Ipv4Addr::new(10, 0, 0, 1), 50_000).into();
        let endpoints = Endpoints { local: here, remote: (Ipv4Addr::new(10, 0, 0, 99), 1790).into() };
        self.stations.insert(connection, Heard::default());
        self.input(Input::Connected { connection, endpoints });
        connection
    }

    /// A station reads what it has left unread so far.
    pub(crate) fn station_reads(&mut self, connection: ConnectionId) {
        self.stations.get_mut(&connection).expect("a station").is_deaf = false;
        self.take_unread(connection);
        self.drain();
    }

    fn take_unread(&mut self, connection: ConnectionId) {
        let heard = self.stations.get_mut(&connection).expect("a station");
        let bytes = std::mem::take(&mut heard.unread);
        self.speaker.handle_input(Input::Written { connection, bytes }, self.now);
    }

    pub(crate) fn told(&self, name: &str, prefix: &str) -> Option<&Told> {
        self.probes[name].routes.get(&net(prefix))
    }

    pub(crate) fn has(&self, name: &str) -> Vec<String> {
        self.probes[name].routes.keys().map(IpNet::to_string).collect()
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { connection, bytes } => self.sent(connection, &bytes),
                Output::Close { connection } => {
                    self.stations.get_mut(&connection).into_iter().for_each(|heard| heard.closed = true);
                    if let Some(probe) = self.probes.values_mut().find(|probe| probe.connection == connection)
                    {
                        probe.closed = true;
                    }
                }
                Output::BestRoute { prefix, route: Some(route) } => {
                    self.kernel_changes += 1;
                    self.kernel.insert(prefix, route);
                }
                Output::BestRoute { prefix, route: None } => {
                    assert!(self.kernel.remove(&prefix).is_some(), "{prefix} was not in the kernel");
                }
                Output::RibComplete { family } => self.complete.push(family),
                Output::WatchNextHop { address } => assert!(self.watched.insert(address)),
                Output::ForgetNextHop { address } => assert!(self.watched.remove(&address)),
                Output::Connect { connection, peer, .. } => {
                    self.dialled.insert(peer.0, connection);
                }
                Output::Station { station, event } => self.events.push((station, event)),
                Output::Session { .. } | Output::PrefixWarning { .. } => {}
            }
        }
    }

    fn sent(&mut self, connection: ConnectionId, bytes: &std::sync::Arc<[u8]>) {
        if !self.last_allocation.as_ref().is_some_and(|last| std::sync::Arc::ptr_eq(last, bytes)) {
            self.encoded += bytes.len();
            self.last_allocation = Some(bytes.clone());
        }
        if let Some(heard) = self.stations.get_mut(&connection) {
            heard.octets.extend_from_slice(bytes);
            heard.unread += bytes.len();
            if !heard.is_deaf {
                self.take_unread(connection);
            }
            return;
        }
        let Some(probe) = self.probes.values_mut().find(|probe| probe.connection == connection) else {
            return;
        };
        probe.hear(bytes);
        if probe.reads {
            let input = Input::Written { connection, bytes: bytes.len() };
            self.speaker.handle_input(input, self.now);
        } else {
            probe.unread += bytes.len();
        }
    }
}

impl Probe {
    fn hear(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(message) = self.framer.next(&mut input, &self.context).expect("whole messages") {
            match Message::decode(&message, &self.context).expect("well-formed messages") {
                Message::Update(received) => {
                    assert_eq!(received.faults, [], "no speaker of ours makes mistakes");
                    self.updates += 1;
                    self.learn(received.update);
                }
                Message::RouteRefresh(refresh) => self.refreshes.push(refresh),
                Message::Notification(notification) => self.notification = Some(notification),
                Message::Open(_) | Message::Keepalive => {}
            }
        }
    }

    fn learn(&mut self, update: Update) {
        if let Some(family) = update.end_of_rib() {
            self.end_of_ribs.push(family);
            return;
        }
        let mut gone = update.withdrawn.clone();
        let mut new = update.nlri.clone();
        for attribute in &update.attributes {
            match &attribute.value {
                AttributeValue::MpUnreach(MpUnreach::Routes { nlri, .. }) => gone.extend(nlri),
                AttributeValue::MpReach(MpReach::Routes { nlri, .. }) => new.extend(nlri),
                _ => {}
            }
        }
        for nlri in gone {
            let known = match nlri.path_id {
                Some(id) => self.paths.remove(&(nlri.prefix, id)),
                None => self.routes.remove(&nlri.prefix),
            };
            assert!(known.is_some(), "{nlri:?} was never announced");
            self.gaps += usize::from(!self.paths.keys().any(|(prefix, _)| *prefix == nlri.prefix));
        }
        for nlri in new {
            let told = Told { attributes: update.attributes.clone() };
            match nlri.path_id {
                Some(id) => self.paths.insert((nlri.prefix, id), told),
                None => self.routes.insert(nlri.prefix, told),
            };
        }
    }
}
