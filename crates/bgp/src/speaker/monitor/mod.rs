//! Stations that are told what peers say (BMP, RFC 7854), each over a connection of its own.
//!
//! ```text
//!   waiting ──time──▶ dialling ──connected──▶ up: Initiation, Peer Ups, the tables in pieces, what changes
//!      ▲                 │                     │
//!      └────── longer and longer ◀─────────────┴─ lost, does not read, falls too far behind
//! ```
//!
//! A station gets what there is, not each step to it: a route that changes while the station is busy is told once, as it
//! then is (RFC 7854, section 5). So what is kept for a station is the names of routes that it has to be told, at most
//! [`MOST_CHANGES`](station::MOST_CHANGES) of them; places of the tables that it has not got to need none. The tables note changes only while a
//! station is up, and only of peers that are.
//!
//! For the shell a station's connection is like a peer's. What it sends is not read: BMP goes one way.

mod batch;
mod feed;
mod headers;
mod station;
mod statistics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::family::Shared;
use super::{Input, PeerNumber, Speaker, number_of};
use crate::config::{SpeakerConfig, StationView};
use crate::observe::Timestamp;
use crate::observe::bmp::{self, Message};
use crate::session::Ending;
use crate::types::{ConnectionId, Family};

use feed::Feed;
use headers::Scene;
use station::{Context, Station};
pub use station::{StationEvent, StationStatus};

/// All stations.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    stations: BTreeMap<PeerNumber, Station>,
    /// What time it was, since the epoch, at some moment.
    clock: Option<(Instant, Duration)>,
}

impl Monitor {
    /// The time of a moment; unknown before the shell has said what time it is.
    pub(super) fn time(&self, moment: Instant) -> Timestamp {
        let Some((at, time)) = self.clock else { return Timestamp::UNKNOWN };
        let later = time + moment.saturating_duration_since(at);
        Timestamp::since_epoch(later.saturating_sub(at.saturating_duration_since(moment)))
    }

    /// When a station wants attention.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.stations.values().filter_map(Station::poll_timeout).min()
    }

    fn is_up(&self) -> bool {
        self.stations.values().any(|station| station.feed().is_some())
    }

    fn feeds(&mut self) -> impl Iterator<Item = &mut Feed> {
        self.stations.values_mut().filter_map(Station::feed_mut)
    }
}

impl Speaker {
    /// How the stations are, in the order of their names.
    pub fn stations(&self) -> Vec<StationStatus> {
        let mut all: Vec<_> = self.monitor.stations.values().map(Station::status).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(super) fn set_clock(&mut self, since_epoch: Duration) {
        self.monitor.clock = Some((self.now, since_epoch));
    }

    /// What happens to a station's connection; gives back what concerns no station.
    pub(super) fn station_input<'a>(&mut self, input: Input<'a>) -> Option<Input<'a>> {
        if self.monitor.stations.is_empty() {
            return Some(input);
        }
        let Some(connection) = connection_of(&input) else { return Some(input) };
        let Some(mut station) = self.monitor.stations.remove(&number_of(connection)) else {
            return Some(input);
        };
        let context = &mut Context { now: self.now, outputs: &mut self.outputs };
        let connected = match input {
            Input::Connected { .. } => station.connected(connection, context),
            Input::ConnectFailed { failure, .. } | Input::Closed { failure, .. } => {
                station.lost(connection, &failure.to_string(), context);
                false
            }
            Input::Written { bytes, .. } => {
                station.written(connection, bytes, context);
                false
            }
            _ => false,
        };
        if connected {
            self.introduce(&mut station);
        }
        self.monitor.stations.insert(number_of(connection), station);
        self.observe_or_not();
        None
    }

    /// A station is there: who we are, and which sessions are up.
    fn introduce(&mut self, station: &mut Station) {
        let first = !self.monitor.is_up();
        let up = self.peers.iter().filter(|(_, peer)| peer.session.negotiated().is_some());
        let up: Vec<PeerNumber> = up.map(|(number, _)| *number).collect();
        if first {
            self.ipv4.rib.observe(true);
            self.ipv6.rib.observe(true);
            up.iter().for_each(|number| self.observe_peer(*number, true));
        }
        let time = self.time();
        let scene = Scene::new(&self.peers, &self.interner, &self.config, time);
        let mut out = Vec::new();
        Message::Initiation(scene.introduction()).encode(&mut out);
        let config = station.config().clone();
        if config.views.contains(&StationView::LocRib) {
            scene.loc_rib_up().encode(&mut out);
        }
        let Some(feed) = station.feed_mut() else { return };
        feed.begin(&config, self.now);
        for number in up {
            let time = self.monitor.time(self.peers[&number].session.since());
            feed.peer_up(number, true, &Scene { time, ..scene }, &mut out);
        }
        station.send(out, &mut Context { now: self.now, outputs: &mut self.outputs });
    }

    /// Tables note what changes only while a station is up.
    fn observe_or_not(&mut self) {
        if !self.monitor.is_up() {
            self.ipv4.rib.observe(false);
            self.ipv6.rib.observe(false);
        }
    }

    /// Whether changes of a peer's routes are noted.
    fn observe_peer(&mut self, number: PeerNumber, observes: bool) {
        self.ipv4.rib.observe_peer(number, observes);
        self.ipv6.rib.observe_peer(number, observes);
    }

    fn time(&self) -> Timestamp {
        self.monitor.time(self.now)
    }

    /// Timers of stations that are due.
    pub(super) fn station_timeouts(&mut self) {
        if self.monitor.stations.is_empty() {
            return;
        }
        let time = self.time();
        let scene = Scene::new(&self.peers, &self.interner, &self.config, time);
        for station in self.monitor.stations.values_mut() {
            let context = &mut Context { now: self.now, outputs: &mut self.outputs };
            station.timeout(context);
            let every = station.config().statistics;
            let Some(feed) = station.feed_mut() else { continue };
            if feed.statistics_due(every, self.now) {
                let mut out = Vec::new();
                feed.statistics(&scene, &self.ipv4, &self.ipv6, &mut out);
                station.send(out, context);
            }
        }
        self.observe_or_not();
    }

    /// Goes over to the stations of a new configuration.
    pub(super) fn change_stations(&mut self, old: &SpeakerConfig, new: &SpeakerConfig) {
        let is_wanted = |station: &Station| {
            new.stations.get(station.name()).is_some_and(|config| config == station.config())
        };
        // Stations know us by our name.
        let renamed = old.name != new.name;
        let gone = self.monitor.stations.iter().filter(|(_, station)| renamed || !is_wanted(station));
        for number in gone.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.end_station(number, "its configuration has changed");
        }
        let known: Vec<String> =
            self.monitor.stations.values().map(|station| station.name().to_owned()).collect();
        for (name, config) in new.stations.iter().filter(|(name, _)| !known.contains(name)) {
            self.last_number += 1;
            let number = PeerNumber(self.last_number);
            let seed = self.seed.wrapping_add(u64::from(number.0));
            let mut station = Station::new(name.clone(), config.clone(), number, seed, self.now);
            station.timeout(&mut Context { now: self.now, outputs: &mut self.outputs });
            self.monitor.stations.insert(number, station);
        }
        self.observe_or_not();
        self.change_originals(new);
    }

    /// Whether routes are kept as they came: in both families, or in neither.
    pub(super) fn keeps_originals(&self) -> bool {
        self.ipv4.originals.is_some()
    }

    /// Routes are kept as they came from now on, or not any more. What has been changed or turned away before is not known:
    /// it is asked for again.
    fn change_originals(&mut self, new: &SpeakerConfig) {
        let wants = new.stations.values().any(|station| station.views.contains(&StationView::PrePolicy));
        if self.keeps_originals() == wants {
            return;
        }
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.keep_originals(wants, shared);
        self.ipv6.keep_originals(wants, shared);
        if wants {
            let changes = self.peers.values().filter(|peer| peer.changes_routes());
            for id in changes.map(|peer| peer.id.clone()).collect::<Vec<_>>() {
                self.ask_for_routes(&id);
            }
        }
    }

    fn end_station(&mut self, number: PeerNumber, why: &str) {
        let Some(station) = self.monitor.stations.remove(&number) else { return };
        let context = &mut Context { now: self.now, outputs: &mut self.outputs };
        station.end(bmp::farewell::ADMINISTRATIVE, why, context);
    }

    /// The speaker stops.
    pub(super) fn end_stations(&mut self) {
        for number in self.monitor.stations.keys().copied().collect::<Vec<_>>() {
            self.end_station(number, "the speaker stops");
        }
        self.observe_or_not();
    }

    /// A session is up.
    pub(super) fn observe_up(&mut self, number: PeerNumber) {
        if !self.monitor.is_up() {
            return;
        }
        self.observe_peer(number, true);
        self.tell_stations(|feed, scene, out| feed.peer_up(number, false, scene, out));
    }

    /// A session is down: with it, for stations, all its routes.
    pub(super) fn observe_down(&mut self, number: PeerNumber, ending: Ending) {
        if !self.monitor.is_up() {
            return;
        }
        self.note_changes();
        self.observe_peer(number, false);
        self.tell_stations(|feed, scene, out| feed.peer_down(number, &ending, scene, out));
    }

    /// A peer has said all its routes.
    pub(super) fn observe_end_of_rib(&mut self, number: PeerNumber, family: Family) {
        self.monitor.feeds().for_each(|feed| feed.end_of_rib(number, family));
    }

    /// Tells all stations that are up at once.
    fn tell_stations(&mut self, tell: impl Fn(&mut Feed, &Scene<'_>, &mut Vec<u8>)) {
        let time = self.time();
        let scene = Scene::new(&self.peers, &self.interner, &self.config, time);
        for station in self.monitor.stations.values_mut() {
            let Some(feed) = station.feed_mut() else { continue };
            let mut out = Vec::new();
            tell(feed, &scene, &mut out);
            station.send(out, &mut Context { now: self.now, outputs: &mut self.outputs });
        }
    }

    /// A piece of what stations have to be told; false when there is nothing, or nothing can be done now.
    pub(super) fn feed_stations(&mut self) -> bool {
        if !self.monitor.is_up() {
            return false;
        }
        self.note_changes();
        let time = self.time();
        let scene = Scene::new(&self.peers, &self.interner, &self.config, time);
        let mut worked = false;
        for station in self.monitor.stations.values_mut() {
            let context = &mut Context { now: self.now, outputs: &mut self.outputs };
            if station.gives_up(context) || station.is_congested() {
                continue;
            }
            let views = station.config().views.clone();
            let Some(feed) = station.feed_mut() else { continue };
            let mut out = Vec::new();
            worked |= feed.advance(&views, &scene, &self.ipv4, &self.ipv6, &mut out);
            station.send(out, context);
        }
        self.observe_or_not();
        worked
    }

    /// What has changed in the tables is noted for each station.
    fn note_changes(&mut self) {
        let (v4, v6) = (self.ipv4.rib.take_observed(), self.ipv6.rib.take_observed());
        for feed in self.monitor.stations.values_mut().filter_map(Station::feed_mut) {
            feed.ipv4.note(&self.ipv4, &v4);
            feed.ipv6.note(&self.ipv6, &v6);
        }
    }
}

fn connection_of(input: &Input<'_>) -> Option<ConnectionId> {
    match input {
        Input::Connected { connection, .. }
        | Input::ConnectFailed { connection, .. }
        | Input::Received { connection, .. }
        | Input::Written { connection, .. }
        | Input::Closed { connection, .. } => Some(*connection),
        _ => None,
    }
}
