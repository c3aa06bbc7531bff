//! What a script can make happen.

use std::time::Duration;

use bgp::bfd::Path;
use bgp::bfd::packet::Diagnostic;
use bgp::config::Origination;
use bgp::packet::Message;
use bgp::packet::route_refresh::{RouteRefresh, Subtype};
use bgp::packet::update::end_of_rib;
use bgp::{ConnectionId, Family, Input, PeerId, Resolution, Shutdown, TransportFailure};

use super::configuration::PEERS;
use super::world::World;
use super::{Script, messages};

/// How long a step of time is, in milliseconds.
const TIMES: [u64; 8] = [1, 300, 1000, 5000, 20_000, 91_000, 130_000, 700_000];

impl World {
    /// Takes a step; its arguments are in the script.
    pub(super) fn step(&mut self, step: u8, script: &mut Script<'_>) {
        match step % 20 {
            0 => self.accept(usize::from(script.octet() % 4)),
            1 => self.answer(script.octet()),
            2 | 3 => self.greet(script),
            4 => self.say_anything(script),
            5 => self.say_framed(script),
            6..=9 => self.say_update(script),
            10 => self.say_known(script),
            11 | 12 => self.wait(Duration::from_millis(TIMES[usize::from(script.octet() % 8)])),
            13 => self.close(script.octet()),
            14 => self.reconfigure(script.octet()),
            15 => self.originate(script),
            16 => self.reading(script.octet()),
            17 => self.resolve(script),
            18 => self.ask(script.octet()),
            _ => self.stop_or_refresh(script.octet()),
        }
    }

    /// A peer dials.
    fn accept(&mut self, peer: usize) {
        let endpoints = Self::endpoints(peer);
        if let Some(connection) = self.speaker.accept(endpoints, self.now) {
            let name = match peer {
                3 => PeerId(format!("range_{}", endpoints.remote.ip())),
                peer => PeerId::from(PEERS[peer]),
            };
            self.link(connection, peer, name);
        }
        self.settle();
    }

    /// What the speaker has dialled answers, or does not.
    fn answer(&mut self, octet: u8) {
        let Some((connection, name)) = self.dialled.pop_first() else { return };
        if octet & 1 == 0 && name.0.starts_with("bmp_") {
            self.station(connection);
            self.input(Input::Connected { connection, endpoints: Self::endpoints(0) });
        } else if octet & 1 == 0 {
            let peer = PEERS.iter().position(|other| *other == name.0).expect("named peers are dialled");
            self.link(connection, peer, name);
            self.input(Input::Connected { connection, endpoints: Self::endpoints(peer) });
        } else {
            let failure = TransportFailure::Refused;
            self.input(Input::ConnectFailed { connection, failure });
        }
    }

    /// One of the connections, if there is any.
    fn choose(&self, octet: u8) -> Option<ConnectionId> {
        let count = self.links.len();
        self.links.keys().nth(usize::from(octet) % count.max(1)).copied()
    }

    fn say(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&connection) else { return };
        link.said(bytes);
        self.input(Input::Received { connection, bytes });
    }

    /// OPEN and KEEPALIVE, as a peer says them.
    fn greet(&mut self, script: &mut Script<'_>) {
        let Some(connection) = self.choose(script.octet()) else { return };
        let open = messages::open(self.links[&connection].peer, script);
        self.say(connection, &open.encode());
        self.say(connection, &Message::keepalive());
    }

    fn say_anything(&mut self, script: &mut Script<'_>) {
        let Some(connection) = self.choose(script.octet()) else { return };
        let length = usize::from(script.octet());
        self.say(connection, script.take(length));
    }

    /// Any body behind a correct header.
    fn say_framed(&mut self, script: &mut Script<'_>) {
        let Some(connection) = self.choose(script.octet()) else { return };
        let (kind, length) = (1 + script.octet() % 5, usize::from(script.octet()));
        let body = script.take(length);
        let total = u16::try_from(19 + body.len()).expect("short");
        self.say(connection, &[&[0xff; 16][..], &total.to_be_bytes(), &[kind], body].concat());
    }

    fn say_update(&mut self, script: &mut Script<'_>) {
        let Some(connection) = self.choose(script.octet()) else { return };
        let link = &self.links[&connection];
        let bytes = messages::update(link.peer, &link.writing(), script);
        self.say(connection, &bytes);
    }

    /// KEEPALIVE, End-of-RIB, route refresh and its marks.
    fn say_known(&mut self, script: &mut Script<'_>) {
        let Some(connection) = self.choose(script.octet()) else { return };
        let octet = script.octet();
        let family = if octet & 0x80 == 0 { Family::Ipv4Unicast } else { Family::Ipv6Unicast };
        let bytes = match octet % 5 {
            0 => Message::keepalive(),
            1 => end_of_rib(family),
            2 => RouteRefresh::new(family, Subtype::Request).encode(),
            3 => RouteRefresh::new(family, Subtype::Beginning).encode(),
            _ => RouteRefresh::new(family, Subtype::End).encode(),
        };
        self.say(connection, &bytes);
    }

    fn close(&mut self, octet: u8) {
        let Some(connection) = self.choose(octet) else { return };
        self.links.remove(&connection);
        let failure =
            if octet & 0x80 == 0 { TransportFailure::Reset } else { TransportFailure::ClosedByPeer };
        self.input(Input::Closed { connection, failure });
    }

    /// One thing is configured otherwise.
    fn reconfigure(&mut self, bit: u8) {
        self.bits.0 ^= 1 << (bit % 36);
        self.input(Input::Configure(self.config()));
    }

    fn originate(&mut self, script: &mut Script<'_>) {
        let (prefix, bits) = (messages::prefix(script.octet()), script.octet());
        if bits & 1 != 0 {
            self.originated.remove(&prefix);
            return self.input(Input::Withdraw { prefix });
        }
        let route = Origination {
            preference: if bits & 2 == 0 { 150 } else { 50 },
            med: (bits & 4 != 0).then_some(5),
            ..Origination::default()
        };
        self.originated.insert(prefix, route.clone());
        self.input(Input::Originate { prefix, route });
    }

    /// A peer stops to read, or begins again.
    fn reading(&mut self, octet: u8) {
        let Some(connection) = self.choose(octet >> 1) else { return };
        if octet & 1 == 0 {
            self.links.get_mut(&connection).expect("just chosen").reads = false;
        } else {
            self.read(connection);
        }
    }

    fn resolve(&mut self, script: &mut Script<'_>) {
        let count = self.watched.len();
        let octet = script.octet();
        let Some(address) = self.watched.iter().nth(usize::from(octet) % count.max(1)).copied() else {
            return;
        };
        let cost = script.octet();
        let resolution =
            (cost & 1 == 0).then(|| Resolution { cost: u32::from(cost), gateways: vec![address] });
        self.input(Input::NextHop { address, resolution });
    }

    /// Questions change nothing.
    fn ask(&mut self, octet: u8) {
        let prefix = messages::prefix(octet);
        let _ = self.speaker.explain(prefix, None);
        let _ = self.speaker.longest_match(prefix.addr());
        let _ = self.speaker.status();
        self.settle();
    }

    fn stop_or_refresh(&mut self, octet: u8) {
        let peer = PeerId::from(PEERS[usize::from(octet % 3)]);
        let down = Path::Down { diagnostic: Diagnostic::TIME_EXPIRED, independent: octet & 0x40 != 0 };
        match octet {
            0xff => self.stop(Shutdown::Restarting),
            0xfe => self.stop(Shutdown::Stopping { message: "maintenance".to_owned() }),
            0xc0.. => self.hand_over(),
            0xa0.. => self.input(Input::Clock { since_epoch: Duration::from_secs(u64::from(octet) << 23) }),
            0x80.. => self.input(Input::UnsignedDropped),
            0x40.. => self.input(Input::Path { peer, path: down }),
            0x20.. => self.input(Input::Path { peer, path: Path::Up }),
            _ => self.input(Input::Refresh { peer }),
        }
    }

    fn stop(&mut self, shutdown: Shutdown) {
        self.stopped = true;
        self.input(Input::Shutdown(shutdown));
    }
}
