use std::time::{Duration, Instant};

use super::collision::COLLISION_WINDOW;
use super::connection::OPEN_WAIT;
use super::ending::{RETRY_FIRST, STABLE};
use super::handshake::COLLISION_HOLD;
use super::*;
use crate::config::{AddPath, GracefulRestart, LongLived, RoleConfig, Timers};
use crate::iana::{cease, error};
use crate::packet::Context;
use crate::packet::capability::{Capability, GracefulRestartCapability};
use crate::packet::open::Open;
use crate::packet::update::Update;
use crate::packet::{Message, PeerKind};
use crate::types::Family;
use crate::types::{Asn, FamilySet, RouterId};

const OUR_ID: RouterId = RouterId(std::net::Ipv4Addr::new(10, 0, 0, 5));

/// A session, its clock, and what it wanted.
struct Bench {
    session: Session,
    now: Instant,
}

/// What a session did, shortly.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Dial,
    Open,
    Keepalive,
    Notify(u8, u8),
    Close,
    Up,
    Down(Loss),
    Routes,
    Refresh,
}

fn settings(passive: bool) -> Settings {
    Settings {
        local_as: Asn(64512),
        router_id: OUR_ID,
        remote_as: Asn(64512),
        alias: None,
        passive,
        families: [Family::Ipv4Unicast].iter().collect(),
        timers: Timers::default(),
        graceful_restart: Some(GracefulRestart::default()),
        add_path: AddPath::default(),
        long_lived: None,
        role: None,
        over_ipv6: false,
    }
}

/// The peer's OPEN; its identifier ends with `id`.
fn peer_open(asn: u32, id: u8, restart: bool) -> Open {
    let mut capabilities = vec![
        Capability::Multiprotocol(Family::Ipv4Unicast.into()),
        Capability::FourOctetAs(Asn(asn)),
        Capability::RouteRefresh,
    ];
    if restart {
        capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
            restarting: false,
            notification: false,
            restart_time_secs: 120,
            families: vec![(Family::Ipv4Unicast.into(), true)],
        }));
    }
    Open {
        my_as: Asn(asn).to_two_octets(),
        hold_time_secs: 90,
        router_id: RouterId([10, 0, 0, id].into()),
        capabilities,
        optional_parameters: 1,
        extended_optional_parameters: false,
    }
}

fn update() -> Vec<u8> {
    Update { withdrawn: vec!["10.1.0.0/16".parse::<ipnet::IpNet>().unwrap().into()], ..Update::default() }
        .encode(&Context::initial(PeerKind::Internal))
}

impl Bench {
    fn new(passive: bool) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Instant has to begin somewhere; only differences count"
        )]
        let now = Instant::now();
        Self { session: Session::new(settings(passive), 1, 7, now), now }
    }

    fn at(state: SessionState) -> (Self, ConnectionId) {
        let mut bench = Self::new(state == SessionState::Active);
        let none = ConnectionId(0);
        if state == SessionState::Idle {
            return (bench, none);
        }
        bench.session.start(bench.now);
        if state == SessionState::Active {
            return (bench, none);
        }
        let id = bench.session.outgoing.as_ref().expect("it dials").id;
        if state >= SessionState::OpenSent {
            bench.session.handle_connected(id, bench.now);
        }
        if state >= SessionState::OpenConfirm {
            bench.receive(id, &peer_open(64512, 9, true).encode());
        }
        if state >= SessionState::Established {
            bench.receive(id, &Message::keepalive());
        }
        bench.did();
        assert_eq!(bench.session.state(), state);
        (bench, id)
    }

    fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        let mut input = bytes;
        while self.session.handle_received(id, &mut input, self.now) {}
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    fn did(&mut self) -> Vec<Did> {
        let context = Context { families: FamilySet::ALL, as4: true, ..Context::initial(PeerKind::Internal) };
        std::iter::from_fn(|| self.session.poll_action())
            .filter_map(|action| match action {
                Action::Connect(_) => Some(Did::Dial),
                Action::Send(_, bytes) => Some(match Message::decode(&bytes, &context).unwrap() {
                    Message::Open(_) => Did::Open,
                    Message::Keepalive => Did::Keepalive,
                    Message::Notification(notification) => {
                        Did::Notify(notification.code, notification.subcode)
                    }
                    other => panic!("a session does not send {other:?}"),
                }),
                Action::Close(_) => Some(Did::Close),
                Action::Established(_) => Some(Did::Up),
                Action::Down(loss, _) => Some(Did::Down(loss)),
                Action::Update(_) => Some(Did::Routes),
                Action::Refresh(_) => Some(Did::Refresh),
                Action::State(..) => None,
            })
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Accepted,
    Connected,
    ConnectFailed,
    Closed,
    GoodOpen,
    WrongAs,
    Keepalive,
    Update,
    Refresh,
    Notification,
    Garbage,
    Deadline,
    Stop,
}

use Event as E;
use SessionState as S;

fn apply(event: Event, bench: &mut Bench, id: ConnectionId) {
    let now = bench.now;
    match event {
        E::Accepted => drop(bench.session.handle_accepted(now)),
        E::Connected => bench.session.handle_connected(id, now),
        E::ConnectFailed => bench.session.handle_connect_failed(id, TransportFailure::Refused, now),
        E::Closed => bench.session.handle_closed(id, TransportFailure::Reset, now),
        E::GoodOpen => bench.receive(id, &peer_open(64512, 9, true).encode()),
        E::WrongAs => bench.receive(id, &peer_open(64999, 9, true).encode()),
        E::Keepalive => bench.receive(id, &Message::keepalive()),
        E::Update => bench.receive(id, &update()),
        E::Refresh => {
            let refresh =
                RouteRefresh::new(Family::Ipv4Unicast, crate::packet::route_refresh::Subtype::Request);
            bench.receive(id, &refresh.encode());
        }
        E::Notification => bench.receive(id, &Notification::new(error::CEASE, cease::RESET).encode()),
        E::Garbage => bench.receive(id, &[0; 40]),
        E::Deadline => bench.wait(OPEN_WAIT),
        E::Stop => bench.session.stop(Some(Notification::shutdown("bye")), Reason::Stopped, now),
    }
}

/// RFC 4271, section 8.2.2, event by event: the state afterwards, and what was done on the way.
#[test]
fn every_event_in_every_state_does_what_the_standard_says() {
    let cease = || Did::Notify(error::CEASE, cease::SHUTDOWN);
    let fsm = |subcode| Did::Notify(error::FSM, subcode);
    let bad_as = || Did::Notify(error::OPEN, 2);
    let unsynchronized = || Did::Notify(error::HEADER, 1);
    let hold = || Did::Notify(error::HOLD_TIMER, 0);
    let table: Vec<(SessionState, Event, SessionState, Vec<Did>)> = vec![
        // Stopped: nothing is accepted, nothing happens.
        (S::Idle, E::Accepted, S::Idle, vec![]),
        (S::Idle, E::Connected, S::Idle, vec![Did::Close]),
        (S::Idle, E::Keepalive, S::Idle, vec![]),
        (S::Idle, E::Deadline, S::Idle, vec![]),
        (S::Idle, E::Stop, S::Idle, vec![]),
        // Waiting for the peer.
        (S::Active, E::Accepted, S::OpenSent, vec![Did::Open]),
        (S::Active, E::Deadline, S::Active, vec![]),
        (S::Active, E::Stop, S::Idle, vec![]),
        // Dialling.
        (S::Connect, E::Connected, S::OpenSent, vec![Did::Open]),
        (S::Connect, E::Accepted, S::OpenSent, vec![Did::Open]),
        (S::Connect, E::ConnectFailed, S::Active, vec![]),
        (S::Connect, E::Deadline, S::Active, vec![Did::Close]),
        (S::Connect, E::Stop, S::Idle, vec![Did::Close]),
        // Our OPEN is out.
        (S::OpenSent, E::GoodOpen, S::OpenConfirm, vec![Did::Keepalive]),
        (S::OpenSent, E::WrongAs, S::Idle, vec![bad_as(), Did::Close]),
        (S::OpenSent, E::Keepalive, S::Idle, vec![fsm(1), Did::Close]),
        (S::OpenSent, E::Update, S::Idle, vec![fsm(1), Did::Close]),
        (S::OpenSent, E::Refresh, S::Idle, vec![fsm(1), Did::Close]),
        (S::OpenSent, E::Notification, S::Idle, vec![Did::Close]),
        (S::OpenSent, E::Garbage, S::Idle, vec![unsynchronized(), Did::Close]),
        (S::OpenSent, E::Closed, S::Active, vec![]),
        (S::OpenSent, E::Deadline, S::Idle, vec![hold(), Did::Close]),
        (S::OpenSent, E::Stop, S::Idle, vec![cease(), Did::Close]),
        // The OPENs fit.
        (S::OpenConfirm, E::Keepalive, S::Established, vec![Did::Up]),
        (S::OpenConfirm, E::GoodOpen, S::Idle, vec![fsm(2), Did::Close]),
        (S::OpenConfirm, E::Update, S::Idle, vec![fsm(2), Did::Close]),
        (S::OpenConfirm, E::Refresh, S::Idle, vec![fsm(2), Did::Close]),
        (S::OpenConfirm, E::Notification, S::Idle, vec![Did::Close]),
        (S::OpenConfirm, E::Garbage, S::Idle, vec![unsynchronized(), Did::Close]),
        (S::OpenConfirm, E::Closed, S::Active, vec![]),
        (S::OpenConfirm, E::Deadline, S::Idle, vec![hold(), Did::Close]),
        (S::OpenConfirm, E::Stop, S::Idle, vec![cease(), Did::Close]),
        // Up.
        (S::Established, E::Keepalive, S::Established, vec![]),
        (S::Established, E::Update, S::Established, vec![Did::Routes]),
        (S::Established, E::Refresh, S::Established, vec![Did::Refresh]),
        (S::Established, E::GoodOpen, S::Idle, vec![fsm(3), Did::Close, Did::Down(Loss::ForGood)]),
        (S::Established, E::Notification, S::Idle, vec![Did::Close, Did::Down(Loss::ForGood)]),
        (S::Established, E::Garbage, S::Idle, vec![unsynchronized(), Did::Close, Did::Down(Loss::ForGood)]),
        (S::Established, E::Closed, S::Active, vec![Did::Down(Loss::Restart)]),
        (S::Established, E::Deadline, S::Idle, vec![hold(), Did::Close, Did::Down(Loss::ForGood)]),
        (S::Established, E::Stop, S::Idle, vec![cease(), Did::Close, Did::Down(Loss::ForGood)]),
    ];
    for (state, event, after, did) in table {
        let (mut bench, id) = Bench::at(state);
        apply(event, &mut bench, id);
        assert_eq!(bench.did(), did, "{event:?} in {state}");
        assert_eq!(bench.session.state(), after, "{event:?} in {state}");
    }
}

#[test]
fn keepalives_go_out_three_times_per_hold_time_and_the_peers_keep_the_session_up() {
    let (mut bench, id) = Bench::at(S::Established);
    let mut sent = 0;
    for _ in 0..300 {
        bench.receive(id, &Message::keepalive());
        bench.wait(Duration::from_secs(1));
        let did = bench.did();
        sent += did.iter().filter(|did| **did == Did::Keepalive).count();
        // Nothing is read back in this test, and still the session does not end: it is the peer that must be heard.
        assert!(did.iter().all(|did| *did == Did::Keepalive));
    }
    assert!((10..=14).contains(&sent), "{sent} KEEPALIVEs in 300 s at a hold time of 90 s");
}

#[test]
fn the_hold_time_is_the_smaller_of_both_and_zero_turns_the_timers_off() {
    for (theirs, expected) in [(30, 30), (180, 90), (0, 0)] {
        let (mut bench, id) = Bench::at(S::OpenSent);
        let open = Open { hold_time_secs: theirs, ..peer_open(64512, 9, false) };
        bench.receive(id, &open.encode());
        bench.receive(id, &Message::keepalive());
        assert_eq!(bench.session.negotiated().unwrap().hold_time, Duration::from_secs(expected));
        bench.wait(Duration::from_secs(expected.max(1) - 1));
        assert_eq!(bench.session.state(), S::Established);
        if expected == 0 {
            bench.did();
            bench.session.handle_written(id, 4096, bench.now);
            assert_eq!(bench.session.poll_timeout(), None);
        } else {
            bench.wait(Duration::from_secs(1));
            assert_eq!(bench.session.state(), S::Idle);
            assert_eq!(
                bench.session.reason(),
                Some(&Reason::HoldTimerExpired(Duration::from_secs(expected)))
            );
        }
    }
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let (mut bench, id) = Bench::at(S::Established);
    bench.session.queued(1_000_000, bench.now);
    for _ in 0..479 {
        bench.wait(Duration::from_secs(1));
        bench.receive(id, &Message::keepalive());
    }
    assert_eq!(bench.session.state(), S::Established);
    bench.wait(Duration::from_secs(1));
    assert!(matches!(bench.session.reason(), Some(Reason::SendHoldTimerExpired(_))));
    let (mut bench, id) = Bench::at(S::Established);
    bench.session.queued(1_000_000, bench.now);
    for _ in 0..600 {
        bench.wait(Duration::from_secs(1));
        bench.receive(id, &Message::keepalive());
        bench.session.handle_written(id, 1, bench.now);
    }
    assert_eq!(bench.session.state(), S::Established, "a slow reader is not a dead one");
}

/// A session with both connections: what we dialled has the peer's OPEN, then its own comes with one, too.
fn collide(peer_last: u8) -> (Bench, ConnectionId, ConnectionId) {
    let (mut bench, outgoing) = Bench::at(S::OpenSent);
    bench.receive(outgoing, &peer_open(64512, peer_last, true).encode());
    let incoming = bench.session.handle_accepted(bench.now).expect("a second connection is welcome");
    bench.did();
    bench.receive(incoming, &peer_open(64512, peer_last, true).encode());
    (bench, outgoing, incoming)
}

#[test]
fn of_two_connections_the_one_that_the_higher_identifier_dialled_stays() {
    let (mut bench, outgoing, _) = collide(4);
    assert_eq!(bench.did(), [Did::Notify(error::CEASE, cease::COLLISION), Did::Close]);
    bench.receive(outgoing, &Message::keepalive());
    assert_eq!(bench.session.established_connection(), Some(outgoing));

    let (mut bench, _, incoming) = collide(6);
    assert_eq!(bench.did(), [Did::Notify(error::CEASE, cease::COLLISION), Did::Close, Did::Keepalive]);
    bench.receive(incoming, &Message::keepalive());
    assert_eq!(bench.session.established_connection(), Some(incoming));
}

/// Established on what we dialled when the connection of a peer with a higher identifier gets its OPEN.
fn hold() -> (Bench, ConnectionId, ConnectionId) {
    let (mut bench, outgoing) = Bench::at(S::Established);
    let incoming = bench.session.handle_accepted(bench.now).expect("a second connection is welcome");
    bench.receive(incoming, &peer_open(64512, 9, true).encode());
    assert_eq!(bench.did(), [Did::Open]);
    (bench, outgoing, incoming)
}

#[test]
fn a_connection_that_the_peer_may_still_choose_is_held_and_takes_over() {
    // The peer closes the established one with the collision in mind.
    let (mut bench, outgoing, incoming) = hold();
    bench.receive(outgoing, &Notification::new(error::CEASE, cease::COLLISION).encode());
    assert_eq!(bench.did(), [Did::Close, Did::Down(Loss::Collision), Did::Keepalive]);
    bench.receive(incoming, &Message::keepalive());
    assert_eq!(bench.session.established_connection(), Some(incoming));
    // Its KEEPALIVE on the held one comes first.
    let (mut bench, _, incoming) = hold();
    bench.receive(incoming, &Message::keepalive());
    assert_eq!(bench.did(), [Did::Close, Did::Down(Loss::Collision), Did::Keepalive, Did::Up]);
    // It stays with the established one.
    let (mut bench, outgoing, _) = hold();
    bench.wait(COLLISION_HOLD);
    assert_eq!(bench.did(), [Did::Notify(error::CEASE, cease::COLLISION), Did::Close]);
    assert_eq!(bench.session.established_connection(), Some(outgoing));
}

#[test]
fn a_peer_that_dials_long_after_the_session_came_up_has_restarted() {
    let (mut bench, _) = Bench::at(S::Established);
    bench.wait(COLLISION_WINDOW);
    bench.did();
    let incoming = bench.session.handle_accepted(bench.now).unwrap();
    assert_eq!(bench.session.state(), S::Established, "the TCP connection alone says nothing");
    bench.receive(incoming, &peer_open(64512, 9, true).encode());
    assert_eq!(bench.did(), [Did::Open, Did::Close, Did::Down(Loss::Restart), Did::Keepalive]);
    bench.receive(incoming, &Message::keepalive());
    assert_eq!(bench.session.state(), S::Established);
}

#[test]
fn without_graceful_restart_the_established_session_stays() {
    let (mut bench, id) = Bench::at(S::OpenSent);
    bench.receive(id, &peer_open(64512, 9, false).encode());
    bench.receive(id, &Message::keepalive());
    bench.wait(COLLISION_WINDOW);
    bench.did();
    let incoming = bench.session.handle_accepted(bench.now).unwrap();
    bench.receive(incoming, &peer_open(64512, 9, false).encode());
    assert_eq!(bench.did(), [Did::Open, Did::Notify(error::CEASE, cease::COLLISION), Did::Close]);
    assert_eq!(bench.session.established_connection(), Some(id));
}

#[test]
fn waits_grow_with_every_failure_and_start_again_after_success() {
    let mut bench = Bench::new(false);
    bench.session.start(bench.now);
    let mut waits = Vec::new();
    for _ in 0..8 {
        let id = bench.session.outgoing.as_ref().expect("it dials").id;
        bench.session.handle_connected(id, bench.now);
        bench.receive(id, &peer_open(64999, 9, true).encode());
        let until = bench.session.poll_timeout().expect("it will try again");
        waits.push((until - bench.now).as_millis());
        bench.now = until;
        bench.session.handle_timeout(bench.now);
        bench.did();
    }
    assert!(waits[..6].is_sorted() && (750..1000).contains(&waits[0]), "{waits:?}");
    assert!((22_500..30_000).contains(waits.last().unwrap()), "{waits:?}");
}

#[test]
fn a_peer_that_is_resting_takes_no_connection() {
    let (mut bench, id) = Bench::at(S::OpenSent);
    bench.receive(id, &[0; 19]);
    assert_eq!(bench.session.handle_accepted(bench.now), None);
    bench.wait(Duration::from_secs(1));
    assert!(bench.session.handle_accepted(bench.now).is_some());
}

#[test]
fn a_notification_keeps_routes_only_where_both_ends_say_so() {
    let with_n = |notification: &Notification| {
        let (mut bench, id) = Bench::at(S::OpenSent);
        let mut open = peer_open(64512, 9, true);
        for capability in &mut open.capabilities {
            if let Capability::GracefulRestart(value) = capability {
                value.notification = true;
            }
        }
        bench.receive(id, &open.encode());
        bench.receive(id, &Message::keepalive());
        bench.did();
        bench.receive(id, &notification.encode());
        bench.did()
    };
    let reset = Notification::new(error::CEASE, cease::RESET);
    assert_eq!(with_n(&reset), [Did::Close, Did::Down(Loss::Restart)]);
    let hard = Notification::with_data(error::CEASE, cease::HARD_RESET, [6, 4]);
    assert_eq!(with_n(&hard), [Did::Close, Did::Down(Loss::ForGood)]);
}

#[test]
fn no_common_family_is_refused_with_what_we_have() {
    let (mut bench, id) = Bench::at(S::OpenSent);
    let mut open = peer_open(64512, 9, false);
    open.capabilities[0] = Capability::Multiprotocol(Family::Ipv6Unicast.into());
    bench.receive(id, &open.encode());
    assert_eq!(bench.did(), [Did::Notify(error::OPEN, 7), Did::Close]);
    let Some(Reason::Malformed(error)) = bench.session.reason() else { panic!("it was refused") };
    assert_eq!(error.notification.data, [1, 4, 0, 1, 0, 1]);
}

#[test]
fn a_peer_whose_sessions_do_not_last_rests_longer_and_longer_however_they_end() {
    let mut bench = Bench::new(false);
    bench.session.start(bench.now);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let id = bench.session.outgoing.as_ref().expect("it dials").id;
        bench.session.handle_connected(id, bench.now);
        bench.receive(id, &peer_open(64512, 9, false).encode());
        bench.receive(id, &Message::keepalive());
        assert_eq!(bench.session.state(), S::Established);
        bench.session.handle_closed(id, TransportFailure::ClosedByPeer, bench.now);
        let until = bench.session.poll_timeout().expect("it will try again");
        waits.push((until - bench.now).as_millis());
        bench.now = until;
        bench.session.handle_timeout(bench.now);
        bench.did();
    }
    assert!(waits[..2].iter().all(|wait| *wait <= 500), "a restart or two are nothing: {waits:?}");
    assert!(waits[2..6].is_sorted() && *waits.last().unwrap() >= 22_500, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 30_000), "bounded: {waits:?}");
}

#[test]
fn a_session_that_has_lasted_is_no_flapping() {
    let (mut bench, mut id) = Bench::at(S::Established);
    for _ in 0..10 {
        bench.now += STABLE;
        bench.session.handle_closed(id, TransportFailure::ClosedByPeer, bench.now);
        let until = bench.session.poll_timeout().expect("it will try again");
        assert!(until - bench.now <= RETRY_FIRST);
        bench.now = until;
        bench.session.handle_timeout(bench.now);
        id = bench.session.outgoing.as_ref().expect("it dials").id;
        bench.session.handle_connected(id, bench.now);
        bench.receive(id, &peer_open(64512, 9, false).encode());
        bench.receive(id, &Message::keepalive());
    }
}

#[test]
fn why_it_is_down_says_what_was_expected_and_what_came() {
    let (mut bench, id) = Bench::at(S::OpenSent);
    bench.receive(id, &peer_open(64999, 9, false).encode());
    let wrong = Reason::WrongAs { configured: Asn(64512), offered: Asn(64999) };
    assert_eq!(bench.session.reason(), Some(&wrong));
    let (mut bench, _) = Bench::at(S::OpenSent);
    bench.wait(OPEN_WAIT);
    assert_eq!(bench.session.reason(), Some(&Reason::NoOpen(OPEN_WAIT)));
    let (mut bench, id) = Bench::at(S::Established);
    bench.receive(id, &[0; 19]);
    let Some(Reason::Malformed(error)) = bench.session.reason() else { panic!("it was refused") };
    assert_eq!(error.field, "Marker");
}

#[test]
fn an_internal_peer_is_not_told_a_role() {
    for (remote_as, expected) in [(64512, 0), (64513, 1)] {
        let role = Some(RoleConfig { role: crate::config::Role::Customer, strict: false });
        let settings = Settings { remote_as: Asn(remote_as), role, ..settings(false) };
        let open = negotiate::our_open(&settings, false, false);
        let roles = open.capabilities.iter().filter(|capability| matches!(capability, Capability::Role(3)));
        assert_eq!(roles.count(), expected, "AS {remote_as}");
    }
}

#[test]
fn long_lived_graceful_restart_counts_only_with_graceful_restart_at_both_ends() {
    let long_lived = Some(LongLived { stale_time: Duration::from_secs(1 << 30) });
    let ours = Settings { long_lived, ..settings(false) };
    let offered = negotiate::our_open(&ours, false, true).capabilities;
    let family = (Family::Ipv4Unicast.into(), true, (1 << 24) - 1);
    assert!(offered.contains(&Capability::LongLivedGracefulRestart(vec![family])), "24 bits: {offered:?}");
    let without = Settings { graceful_restart: None, ..ours.clone() };
    let offered = negotiate::our_open(&without, false, true).capabilities;
    assert!(!offered.iter().any(|capability| matches!(capability, Capability::LongLivedGracefulRestart(_))));
    for (restarts, expected) in [(true, true), (false, false)] {
        let mut theirs = peer_open(64512, 9, restarts);
        theirs.capabilities.push(Capability::LongLivedGracefulRestart(vec![family]));
        let agreed = negotiate::negotiate(&ours, &theirs).expect("they fit");
        assert_eq!(agreed.long_lived.is_some(), expected);
    }
}

#[test]
fn ipv4_alone_over_ipv6_takes_ipv6_next_hops() {
    for over_ipv6 in [true, false] {
        let ours = Settings { over_ipv6, ..settings(false) };
        let theirs = Open {
            router_id: RouterId([10, 0, 0, 9].into()),
            ..negotiate::our_open(&Settings { over_ipv6: true, ..settings(false) }, false, false)
        };
        let agreed = negotiate::negotiate(&ours, &theirs).expect("they fit");
        assert_eq!(agreed.context.extended_next_hop, over_ipv6);
    }
}
