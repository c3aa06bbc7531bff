//! What a station hears, as records of messages: BMP to BGP4MP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Timestamp;
use super::bmp::{DownReason, Message, PeerHeader, PeerUp, View};
use super::mrt::{Body, Ends, Record, StateChange, Traffic};
use crate::packet::capability::{AddPathMode, Capability};
use crate::packet::open::Open;
use crate::packet::{self, Context, PeerKind};
use crate::session::SessionState;
use crate::types::Asn;

/// Of one station's connection. What is told of a view that was not asked for is left out, and so is what comes of a session
/// before its Peer Up.
#[derive(Debug)]
pub struct Recorder {
    post_policy: bool,
    sessions: BTreeMap<IpAddr, Session>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    ends: Ends,
    /// The peer says path identifiers.
    add_path: bool,
}

impl Recorder {
    /// Records Adj-RIBs-In behind the import policy, or before it.
    pub fn new(post_policy: bool) -> Self {
        Self { post_policy, sessions: BTreeMap::new() }
    }

    /// The records that a message makes. `now`: for messages that do not say when.
    pub fn records(&mut self, message: Message, now: Timestamp) -> Vec<Record> {
        let (time, bodies) = match message {
            Message::PeerUp(peer, up) => (peer.timestamp, self.up(&peer, up)),
            Message::PeerDown(peer, reason) => (peer.timestamp, self.down(&peer, reason)),
            Message::RouteMonitoring(peer, update) => (peer.timestamp, self.routes(&peer, update)),
            Message::Initiation(_)
            | Message::Statistics(..)
            | Message::Termination(_)
            | Message::Unknown { .. } => (now, Vec::new()),
        };
        let timestamp = if time == Timestamp::UNKNOWN { now } else { time };
        bodies.into_iter().map(|body| Record { timestamp, body }).collect()
    }

    fn up(&mut self, peer: &PeerHeader, up: PeerUp) -> Vec<Body> {
        if !matches!(peer.view, View::AdjRibIn { .. }) {
            return Vec::new();
        }
        let (sent, received) = (open(&up.sent_open), open(&up.received_open));
        let offers = |open: &Option<Open>, mode| open.as_ref().is_some_and(|open| offers(open, mode));
        let ends = Ends {
            peer_as: peer.asn,
            local_as: sent.as_ref().map_or(Asn(0), Open::effective_as),
            interface: 0,
            peer: peer.address,
            local: up.local_address,
        };
        let add_path = offers(&sent, AddPathMode::Receive) && offers(&received, AddPathMode::Send);
        let session = Session { ends, add_path };
        self.sessions.insert(peer.address, session);
        vec![
            session.message(true, up.sent_open),
            session.message(false, up.received_open),
            session.change(SessionState::OpenConfirm, SessionState::Established),
        ]
    }

    fn down(&mut self, peer: &PeerHeader, reason: DownReason) -> Vec<Body> {
        let of_peer = matches!(peer.view, View::AdjRibIn { .. });
        let Some(session) = self.sessions.remove(&peer.address).filter(|_| of_peer) else {
            return Vec::new();
        };
        let last = match reason {
            DownReason::LocalNotification(message) => Some(session.message(true, message)),
            DownReason::RemoteNotification(message) => Some(session.message(false, message)),
            _ => None,
        };
        let change = session.change(SessionState::Established, SessionState::Idle);
        last.into_iter().chain([change]).collect()
    }

    fn routes(&self, peer: &PeerHeader, update: Vec<u8>) -> Vec<Body> {
        let wanted = peer.view == View::AdjRibIn { post_policy: self.post_policy };
        let session = self.sessions.get(&peer.address).filter(|_| wanted);
        let traffic = session.map(|session| {
            let as4 = !peer.legacy_as_path;
            let (ends, add_path) = (session.ends, session.add_path);
            Body::Message(Traffic { ends, is_ours: false, add_path, as4, message: update })
        });
        traffic.into_iter().collect()
    }
}

impl Session {
    /// One without prefixes, whatever its AS numbers.
    fn message(&self, is_ours: bool, message: Vec<u8>) -> Body {
        Body::Message(Traffic { ends: self.ends, is_ours, add_path: false, as4: true, message })
    }

    fn change(&self, old: SessionState, new: SessionState) -> Body {
        Body::StateChange(StateChange { ends: self.ends, old, new })
    }
}

fn open(octets: &[u8]) -> Option<Open> {
    match packet::Message::decode(octets, &Context::initial(PeerKind::External)) {
        Ok(packet::Message::Open(open)) => Some(open),
        _ => None,
    }
}

fn offers(open: &Open, wanted: AddPathMode) -> bool {
    open.capabilities.iter().any(|capability| match capability {
        Capability::AddPath(list) => list.iter().any(|(_, mode)| [wanted, AddPathMode::Both].contains(mode)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iana::{cease, error};
    use crate::observe::bmp::Instance;
    use crate::packet::capability::FamilyCode;
    use crate::packet::notification::Notification;
    use crate::packet::update::end_of_rib;
    use crate::types::{Family, RouterId};

    const THEN: Timestamp = Timestamp { secs: 5, micros: 6 };
    const NOW: Timestamp = Timestamp { secs: 7, micros: 8 };

    fn header(view: View, timestamp: Timestamp) -> PeerHeader {
        PeerHeader {
            view,
            legacy_as_path: false,
            instance: Instance::Global,
            address: IpAddr::from([10, 0, 0, 2]),
            asn: Asn(65002),
            router_id: RouterId([10, 0, 0, 2].into()),
            timestamp,
        }
    }

    fn open_of(asn: u32, mode: AddPathMode) -> Vec<u8> {
        let family = FamilyCode::from(Family::Ipv4Unicast);
        let open = Open {
            my_as: Asn(asn).to_two_octets(),
            hold_time_secs: 90,
            router_id: RouterId([10, 0, 0, 1].into()),
            capabilities: vec![Capability::FourOctetAs(Asn(asn)), Capability::AddPath(vec![(family, mode)])],
            optional_parameters: 1,
            extended_optional_parameters: false,
        };
        open.encode()
    }

    fn up() -> PeerUp {
        PeerUp {
            local_address: IpAddr::from([10, 0, 0, 1]),
            local_port: 179,
            remote_port: 40000,
            sent_open: open_of(4_200_000_001, AddPathMode::Receive),
            received_open: open_of(65002, AddPathMode::Send),
            information: Vec::new(),
        }
    }

    #[test]
    fn a_session_is_recorded_from_its_opens_to_its_notification() {
        let pre = View::AdjRibIn { post_policy: false };
        let mut recorder = Recorder::new(false);
        let update = end_of_rib(Family::Ipv4Unicast);
        let monitoring = |view, time| Message::RouteMonitoring(header(view, time), update.clone());
        assert_eq!(recorder.records(monitoring(pre, THEN), NOW), [], "nothing is known of the session");
        let ends = Ends {
            peer_as: Asn(65002),
            local_as: Asn(4_200_000_001),
            interface: 0,
            peer: IpAddr::from([10, 0, 0, 2]),
            local: IpAddr::from([10, 0, 0, 1]),
        };
        let message = |is_ours, add_path, message| {
            Body::Message(Traffic { ends, is_ours, add_path, as4: true, message })
        };
        let change = |old, new| Body::StateChange(StateChange { ends, old, new });
        let records = |time, bodies: Vec<Body>| -> Vec<Record> {
            bodies.into_iter().map(|body| Record { timestamp: time, body }).collect()
        };
        let expected = vec![
            message(true, false, up().sent_open),
            message(false, false, up().received_open),
            change(SessionState::OpenConfirm, SessionState::Established),
        ];
        let heard = recorder.records(Message::PeerUp(header(pre, THEN), up()), NOW);
        assert_eq!(heard, records(THEN, expected));
        let expected = vec![message(false, true, update.clone())];
        assert_eq!(recorder.records(monitoring(pre, Timestamp::UNKNOWN), NOW), records(NOW, expected));
        for other in [View::AdjRibIn { post_policy: true }, View::LocRib { filtered: false }] {
            assert_eq!(recorder.records(monitoring(other, THEN), NOW), []);
        }
        let cease = Notification::new(error::CEASE, cease::SHUTDOWN).encode();
        let down = Message::PeerDown(header(pre, THEN), DownReason::LocalNotification(cease.clone()));
        let expected =
            vec![message(true, false, cease), change(SessionState::Established, SessionState::Idle)];
        assert_eq!(recorder.records(down, NOW), records(THEN, expected));
        assert_eq!(recorder.records(monitoring(pre, THEN), NOW), []);
    }
}
