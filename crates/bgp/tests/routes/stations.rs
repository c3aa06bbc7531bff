//! What BMP stations are told: played stations believe what they hear, and must end up knowing what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bgp::config::{AddPath, SendPaths, StationConfig, StationView};
use bgp::observe::bmp::{DownReason, Information, Message, PeerHeader, Statistic, Value, View, statistic};
use bgp::packet::attribute::{AttributeValue, Community, MpReach, MpUnreach};
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::packet::notification::Notification;
use bgp::packet::update::Update;
use bgp::packet::{Context, Message as Bgp, PeerKind};
use bgp::policy::{Actions, Match, Policy, PrefixMatch, Rule, Verdict};
use bgp::{
    ConnectionId, Family, FamilySet, Input, PeerConfig, Shutdown, SpeakerConfig, Start, StationEvent,
    TransportFailure,
};
use ipnet::IpNet;

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

const PRE: View = View::AdjRibIn { post_policy: false };
const POST: View = View::AdjRibIn { post_policy: true };
const LOC: View = View::LocRib { filtered: false };

/// A route: its table, peer, prefix and path identifier.
type Name = (&'static str, IpAddr, IpNet, Option<u32>);

/// What a station knows from what it has heard.
#[derive(Debug, Default)]
struct Belief {
    /// Everything in the order in which it came, a line each.
    lines: Vec<String>,
    up: BTreeSet<IpAddr>,
    /// AS_PATH and communities of what is there.
    routes: BTreeMap<Name, String>,
    statistics: Vec<(IpAddr, Vec<Statistic>)>,
    /// Families in which a peer sends path identifiers.
    add_path: BTreeMap<IpAddr, FamilySet>,
}

fn view_name(view: View) -> &'static str {
    match view {
        PRE => "pre",
        POST => "post",
        LOC => "loc",
        other => panic!("nobody has asked for {other:?}"),
    }
}

impl Belief {
    /// From everything that was sent on a connection.
    fn of(bench: &Bench, station: ConnectionId) -> Self {
        let (mut belief, mut rest) = (Self::default(), &bench.stations[&station].octets[..]);
        while let Some((message, length)) = Message::decode(rest).expect("well-formed messages") {
            belief.hear(message);
            rest = &rest[length..];
        }
        assert!(rest.is_empty(), "messages are sent whole");
        belief
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Initiation(list) => {
                assert!(self.lines.is_empty(), "it comes first");
                let name = list.iter().find_map(|information| match information {
                    Information::Name(name) => Some(name.as_str()),
                    _ => None,
                });
                self.lines.push(format!("initiation {}", name.unwrap_or_default()));
            }
            Message::PeerUp(peer, up) => {
                assert!(self.up.insert(peer.address), "{} was up already", peer.address);
                let context = Context::initial(PeerKind::External);
                let open = |octets: &[u8]| match Bgp::decode(octets, &context) {
                    Ok(Bgp::Open(open)) => open,
                    other => panic!("not an OPEN: {other:?}"),
                };
                let (sent, received) = (open(&up.sent_open), open(&up.received_open));
                let sends = received.capabilities.iter().find_map(|capability| match capability {
                    Capability::AddPath(list) => {
                        Some(list.iter().filter_map(|(code, _)| code.known()).collect())
                    }
                    _ => None,
                });
                self.add_path.insert(peer.address, sends.unwrap_or_default());
                self.lines.push(format!(
                    "up {} AS {} id {}: {}:{} to port {}, OPENs of {} and {}",
                    peer.address,
                    peer.asn,
                    peer.router_id,
                    up.local_address,
                    up.local_port,
                    up.remote_port,
                    sent.router_id,
                    received.router_id
                ));
            }
            Message::PeerDown(peer, reason) => {
                assert!(self.up.remove(&peer.address), "{} was not up", peer.address);
                self.routes.retain(|(_, address, ..), _| *address != peer.address);
                self.lines.push(format!("down {}: {}", peer.address, reason_text(&reason)));
            }
            Message::RouteMonitoring(peer, update) => self.routes(&peer, &update),
            Message::Statistics(peer, list) => self.statistics.push((peer.address, list)),
            Message::Termination(list) => self.lines.push(format!("termination {list:?}")),
            Message::Unknown { kind, .. } => panic!("type {kind}"),
        }
    }

    fn routes(&mut self, peer: &PeerHeader, octets: &[u8]) {
        assert!(self.up.contains(&peer.address), "routes of {}, which is not up", peer.address);
        assert!(!peer.legacy_as_path);
        let add_path = self.add_path[&peer.address];
        let context =
            Context { as4: true, families: FamilySet::ALL, add_path, ..Context::initial(PeerKind::Internal) };
        let update = match Bgp::decode(octets, &context) {
            Ok(Bgp::Update(received)) => received.update,
            other => panic!("not an UPDATE: {other:?}"),
        };
        let view = view_name(peer.view);
        if let Some(family) = update.end_of_rib() {
            return self.lines.push(format!("{view} {} end of {family}", peer.address));
        }
        let (gone, new) = both(&update);
        for nlri in gone {
            self.lines.push(format!("{view} {} -{}", peer.address, nlri.prefix));
            self.routes.remove(&(view, peer.address, nlri.prefix, nlri.path_id));
        }
        for nlri in new {
            let text = text(&update);
            self.lines.push(format!("{view} {} +{} {text}", peer.address, nlri.prefix));
            self.routes.insert((view, peer.address, nlri.prefix, nlri.path_id), text);
        }
    }

    /// The routes of a table, as text.
    fn table(&self, wanted: View) -> Vec<String> {
        let of_view = self.routes.iter().filter(|((view, ..), _)| *view == view_name(wanted));
        of_view.map(|((_, peer, prefix, _), text)| format!("{peer} {prefix} {text}")).collect()
    }
}

fn both(update: &Update) -> (Vec<bgp::packet::nlri::Nlri>, Vec<bgp::packet::nlri::Nlri>) {
    let (mut gone, mut new) = (update.withdrawn.clone(), update.nlri.clone());
    for attribute in &update.attributes {
        match &attribute.value {
            AttributeValue::MpUnreach(MpUnreach::Routes { nlri, .. }) => gone.extend(nlri),
            AttributeValue::MpReach(MpReach::Routes { nlri, .. }) => new.extend(nlri),
            _ => {}
        }
    }
    (gone, new)
}

/// AS_PATH and communities.
fn text(update: &Update) -> String {
    let parts = update.attributes.iter().filter_map(|attribute| match &attribute.value {
        AttributeValue::AsPath(path) => Some(path.to_string()),
        AttributeValue::Communities(list) => Some(format!("{list:?}")),
        _ => None,
    });
    parts.collect::<Vec<_>>().join(" ")
}

fn reason_text(reason: &DownReason) -> String {
    let text = |octets: &[u8]| match Bgp::decode(octets, &Context::initial(PeerKind::External)) {
        Ok(Bgp::Notification(notification)) => notification.to_string(),
        other => panic!("not a NOTIFICATION: {other:?}"),
    };
    match reason {
        DownReason::LocalNotification(octets) => format!("we said {}", text(octets)),
        DownReason::LocalEvent(event) => format!("we closed, event {event}"),
        DownReason::RemoteNotification(octets) => format!("it said {}", text(octets)),
        DownReason::RemoteClosed => "it closed".to_owned(),
        other => format!("{other:?}"),
    }
}

fn station(views: &[StationView]) -> StationConfig {
    let address = "10.0.0.99:1790".parse().unwrap();
    StationConfig { views: views.iter().copied().collect(), ..StationConfig::new(address) }
}

fn with_station(mut config: SpeakerConfig, views: &[StationView]) -> SpeakerConfig {
    config.name = "node-1".to_owned();
    config.stations.insert("s".to_owned(), station(views));
    config
}

/// Turns 192.0.2.0/24 away, and marks 198.51.100.0/24.
fn policy() -> Policy {
    let to = |prefix: &str| Match::prefix(PrefixMatch::exactly(net(prefix)));
    let mark = Actions { add_communities: [Community(7)].into(), ..Actions::default() };
    let marking = Rule::deciding("mark", to("198.51.100.0/24"), Verdict::Accept);
    let rules =
        vec![Rule::deciding("drop", to("192.0.2.0/24"), Verdict::Reject), Rule { set: mark, ..marking }];
    Policy::new(rules, Verdict::Accept)
}

fn filtered(last: u8, asn: u32) -> PeerConfig {
    PeerConfig { import: policy(), ..peer(last, asn) }
}

const ALL: [&str; 4] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8:7::/48"];

#[test]
fn a_station_hears_sessions_and_routes_in_order() {
    let mut bench =
        Bench::new(with_station(config(&[("e4", peer(4, 65004))]), &[StationView::PrePolicy]), Start::Fresh);
    let connection = bench.station_up("s");
    bench.up("e4");
    bench.announce("e4", &["203.0.113.0/24", "2001:db8:7::/48"], &[65004], &[]);
    bench.end_of_rib("e4");
    bench.withdraw("e4", &["203.0.113.0/24"]);
    bench.say("e4", &Notification::shutdown("back at noon").encode());
    let belief = Belief::of(&bench, connection);
    assert_eq!(
        belief.lines,
        [
            "initiation node-1",
            "up 10.0.0.4 AS 65004 id 10.0.0.4: 10.0.0.1:179 to port 40000, OPENs of 10.0.0.1 and 10.0.0.4",
            "pre 10.0.0.4 +203.0.113.0/24 65004",
            "pre 10.0.0.4 +2001:db8:7::/48 65004",
            "pre 10.0.0.4 end of ipv4/unicast",
            "pre 10.0.0.4 end of ipv6/unicast",
            "pre 10.0.0.4 -203.0.113.0/24",
            "down 10.0.0.4: it said cease, administrative shutdown (6/2): \"back at noon\"",
        ]
    );
    assert_eq!(bench.events, [("s".to_owned(), StationEvent::Connected)]);
}

#[test]
fn a_station_that_comes_later_gets_what_there_is() {
    let views = [StationView::PrePolicy, StationView::PostPolicy, StationView::LocRib];
    let mut bench = Bench::new(with_station(config(&[("e4", filtered(4, 65004))]), &views), Start::Fresh);
    bench.speaker.handle_input(
        Input::Originate { prefix: net("10.65.0.0/26"), route: bgp::config::Origination::default() },
        bench.now,
    );
    bench.up("e4");
    bench.announce("e4", &ALL, &[65004], &[]);
    bench.end_of_rib("e4");
    let connection = bench.station_up("s");
    let belief = Belief::of(&bench, connection);
    let mark = "[Community(7)]";
    let pre: Vec<String> = ALL.iter().map(|prefix| format!("10.0.0.4 {prefix} 65004")).collect();
    assert_eq!(belief.table(PRE), pre);
    assert_eq!(
        belief.table(POST),
        [
            &format!("10.0.0.4 198.51.100.0/24 65004 {mark}"),
            "10.0.0.4 203.0.113.0/24 65004",
            "10.0.0.4 2001:db8:7::/48 65004"
        ]
    );
    assert_eq!(
        belief.table(LOC),
        [
            ":: 10.65.0.0/26 ",
            &format!(":: 198.51.100.0/24 65004 {mark}"),
            ":: 203.0.113.0/24 65004",
            ":: 2001:db8:7::/48 65004"
        ]
    );
    let ends: BTreeSet<&str> =
        belief.lines.iter().filter(|line| line.contains("end of")).map(String::as_str).collect();
    let of = |who: &str| Family::ALL.map(|family| format!("{who} end of {family}"));
    let expected: Vec<String> =
        [of("loc ::"), of("post 10.0.0.4"), of("pre 10.0.0.4")].into_iter().flatten().collect();
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_was_turned_away_is_asked_for_when_somebody_wants_it() {
    let quiet = config(&[("e4", filtered(4, 65004)), ("e5", peer(5, 65005))]);
    let mut bench = Bench::new(quiet.clone(), Start::Fresh);
    for (name, asn) in [("e4", 65004), ("e5", 65005)] {
        bench.up(name);
        bench.announce(name, &ALL, &[asn], &[]);
        bench.end_of_rib(name);
    }
    let observed = with_station(quiet.clone(), &[StationView::PrePolicy]);
    bench.input(Input::Configure(observed));
    let asked = |bench: &Bench, name: &str| bench.probes[name].refreshes.len();
    assert_eq!((asked(&bench, "e4"), asked(&bench, "e5")), (2, 0), "only where something may differ");
    assert!(bench.probes.values().all(|probe| !probe.closed), "no session is reset");
    let connection = bench.station_up("s");
    bench.announce("e4", &ALL, &[65004], &[]);
    let pre: Vec<String> = ["4", "5"]
        .iter()
        .flat_map(|last| ALL.iter().map(move |prefix| format!("10.0.0.{last} {prefix} 6500{last}")))
        .collect();
    assert_eq!(Belief::of(&bench, connection).table(PRE), pre);
    bench.withdraw("e4", &["192.0.2.0/24", "198.51.100.0/24"]);
    let left = &pre[2..];
    assert_eq!(Belief::of(&bench, connection).table(PRE), left);

    bench.input(Input::Configure(quiet));
    let last = Belief::of(&bench, connection).lines.pop().unwrap();
    assert!(last.starts_with("termination") && last.contains("configuration"), "{last}");
    assert!(bench.stations[&connection].closed);
    assert!(bench.probes.values().all(|probe| !probe.closed), "no session is reset");
    bench.lose("e4");
    bench.lose("e5");
    bench.wait(Duration::from_secs(200));
    assert_eq!(bench.speaker.attribute_sets(), 0, "nothing is left");
}

#[test]
fn why_a_session_went_down_is_said_as_it_was() {
    let peers =
        [("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("e6", peer(6, 65006)), ("e7", peer(7, 65007))];
    let full = with_station(config(&peers), &[StationView::PostPolicy]);
    let mut bench = Bench::new(full.clone(), Start::Fresh);
    let connection = bench.station_up("s");
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.lose("e4");
    bench.say("e5", &[0; 19]);
    let mut less = full;
    less.peers.remove(&"e6".into());
    bench.input(Input::Configure(less));
    bench.input(Input::Shutdown(Shutdown::Restarting));
    let lines = Belief::of(&bench, connection).lines;
    let tail: Vec<&str> = lines[5..].iter().map(String::as_str).collect();
    assert_eq!(
        tail,
        [
            "down 10.0.0.4: it closed",
            "down 10.0.0.5: we said message header error, connection not synchronized (1/1)",
            "down 10.0.0.6: we said cease, peer de-configured (6/3)",
            "down 10.0.0.7: we closed, event 2",
            "termination [Text(\"the speaker stops\"), Reason(0)]",
        ]
    );
    assert!(bench.stations[&connection].closed);
}

#[test]
fn a_station_that_does_not_read_is_given_up_and_told_all_when_it_is_back() {
    let (mut bench, prefixes) = deaf_station();
    let first = *bench.stations.keys().next().unwrap();
    let sent = bench.stations[&first].unread;
    assert!(sent > 0 && sent < 1_000_000, "{sent} octets wait for it");
    bench.announce("e4", &["203.0.113.0/24"], &[65004, 1], &[]);
    assert!(bench.told("i2", "203.0.113.0/24").is_some(), "nobody waits for it");
    bench.wait(Duration::from_secs(61));
    assert!(bench.stations[&first].closed);
    let reason = "it has not read for 60 s".to_owned();
    assert_eq!(bench.events.last(), Some(&("s".to_owned(), StationEvent::Lost(reason))));
    bench.wait(Duration::from_secs(2));
    let second = bench.station_up("s");
    assert_ne!(first, second);
    let belief = Belief::of(&bench, second);
    assert_eq!(belief.table(PRE).len(), prefixes + 1);
    assert_eq!(belief.lines[0], "initiation node-1");
}

/// A station that has read nothing of a table whose routes have nothing in common; with how many there are.
fn deaf_station() -> (Bench, usize) {
    let peers = [("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS))];
    let mut bench = Bench::new(with_station(config(&peers), &[StationView::PrePolicy]), Start::Fresh);
    bench.up("e4");
    bench.up("i2");
    let connection = bench.station_up("s");
    bench.stations.get_mut(&connection).unwrap().is_deaf = true;
    let prefixes: Vec<String> =
        (0..6000).map(|number| format!("10.{}.{}.0/24", number / 250, number % 250)).collect();
    for (prefix, number) in prefixes.iter().zip(1..) {
        bench.announce("e4", &[prefix], &[65004, number], &[]);
    }
    (bench, prefixes.len())
}

#[test]
fn a_station_that_reads_late_gets_the_last_state_once() {
    let (mut bench, prefixes) = deaf_station();
    let connection = *bench.stations.keys().next().unwrap();
    let waiting = bench.speaker.stations()[0].waiting;
    assert!(waiting > 1000, "{waiting} changes wait");
    for _ in 0..10 {
        bench.announce("e4", &["10.23.249.0/24"], &[65004, 1], &[]);
        bench.withdraw("e4", &["10.23.249.0/24"]);
    }
    bench.station_reads(connection);
    let belief = Belief::of(&bench, connection);
    assert_eq!(belief.table(PRE).len(), prefixes - 1);
    let told = belief.lines.iter().filter(|line| line.contains("10.23.249.0/24")).count();
    assert_eq!(told, 1, "what it missed is told as it is, not step by step");
}

#[test]
fn a_station_that_is_not_there_is_dialled_again_ever_more_slowly() {
    let mut bench =
        Bench::new(with_station(config(&[("e4", peer(4, 65004))]), &[StationView::PrePolicy]), Start::Fresh);
    let (mut attempts, mut last) = (Vec::new(), ConnectionId(0));
    for second in 0..300 {
        let connection = bench.dialled["bmp_s"];
        if connection != last {
            attempts.push(second);
            last = connection;
            bench.input(Input::ConnectFailed { connection, failure: TransportFailure::Refused });
        }
        bench.wait(Duration::from_secs(1));
    }
    let waits: Vec<i32> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted_by(|a, b| *a <= b + 15) && waits.iter().all(|wait| *wait <= 61), "{waits:?}");
    assert!(waits.last().unwrap() >= &45 && attempts.len() < 15, "{attempts:?}");
    assert_eq!(bench.events.len(), 1, "it is said once");
}

#[test]
fn a_speaker_that_takes_over_tells_stations_how_sessions_came_up_and_asks_for_what_it_does_not_know() {
    let observed = with_station(config(&[("e4", filtered(4, 65004))]), &[StationView::PrePolicy]);
    let mut bench = Bench::new(observed.clone(), Start::Fresh);
    bench.up("e4");
    bench.announce("e4", &ALL, &[65004], &[]);
    let first = bench.station_up("s");
    let before = Belief::of(&bench, first);
    bench.take_over(observed);
    bench.announce("e4", &ALL, &[65004], &[]);
    let second = bench.station_up("s");
    let after = Belief::of(&bench, second);
    assert_eq!(after.lines[..2], before.lines[..2]);
    assert_eq!(after.table(PRE), before.table(PRE));
    assert_eq!(bench.probes["e4"].refreshes.len(), 2, "for both families");
}

#[test]
fn statistics_say_what_is_counted() {
    let mut config = with_station(config(&[("e4", filtered(4, 65004))]), &[StationView::PrePolicy]);
    let every = Some(Duration::from_secs(10));
    config.stations.values_mut().for_each(|station| station.statistics = every);
    let mut bench = Bench::new(config, Start::Fresh);
    let connection = bench.station_up("s");
    bench.up("e4");
    bench.announce("e4", &ALL, &[65004], &[]);
    bench.announce("e4", &["10.1.0.0/16"], &[65004, OUR_AS], &[]);
    bench.wait(Duration::from_secs(21));
    let reports = Belief::of(&bench, connection).statistics;
    assert_eq!(reports.len(), 2);
    let (address, list) = &reports[1];
    let value = |kind| list.iter().find(|statistic| statistic.kind == kind).map(|s| s.value.clone());
    assert_eq!(*address, peer_address(4));
    assert_eq!(value(statistic::REJECTED), Some(Value::Counter(1)));
    assert_eq!(value(statistic::AS_PATH_LOOPS), Some(Value::Counter(1)));
    assert_eq!(value(statistic::ADJ_RIB_IN), Some(Value::Gauge(5)));
    let v4 = Value::OfFamily(Family::Ipv4Unicast.into(), 4);
    assert_eq!(value(statistic::ADJ_RIB_IN_OF_FAMILY), Some(v4));
}

#[test]
fn the_time_is_what_the_shell_says() {
    let mut bench =
        Bench::new(with_station(config(&[("e4", peer(4, 65004))]), &[StationView::PrePolicy]), Start::Fresh);
    bench.input(Input::Clock { since_epoch: Duration::from_micros(1_700_000_000_000_005) });
    bench.wait(Duration::from_secs(3));
    let time_of_peer_up = |bench: &Bench, connection: ConnectionId| {
        let octets = &bench.stations[&connection].octets;
        let (_, first) = Message::decode(octets).unwrap().unwrap();
        match Message::decode(&octets[first..]).unwrap() {
            Some((Message::PeerUp(peer, _), _)) => (peer.timestamp.secs, peer.timestamp.micros),
            other => panic!("{other:?}"),
        }
    };
    let connection = bench.station_up("s");
    bench.up("e4");
    assert_eq!(time_of_peer_up(&bench, connection), (1_700_000_003, 5));
    // It is that of the session, whenever the station comes.
    bench.input(Input::Closed { connection, failure: TransportFailure::Reset });
    bench.wait(Duration::from_secs(5));
    let connection = bench.station_up("s");
    assert_eq!(time_of_peer_up(&bench, connection), (1_700_000_003, 5));
}

#[test]
fn routes_with_path_identifiers_keep_them() {
    let mut config = peer(2, OUR_AS);
    config.add_path = AddPath { receive: true, send: SendPaths::None };
    let mut bench = Bench::new(
        with_station(crate::bench::config(&[("i2", config)]), &[StationView::PrePolicy]),
        Start::Fresh,
    );
    let families = Family::ALL.map(|family| (family.into(), AddPathMode::Send));
    bench.up_with("i2", |capabilities| capabilities.push(Capability::AddPath(families.to_vec())));
    bench.announce_path("i2", "203.0.113.0/24", 1, &[1]);
    let connection = bench.station_up("s");
    bench.announce_path("i2", "203.0.113.0/24", 2, &[2]);
    bench.announce_path("i2", "203.0.113.0/24", 3, &[3]);
    bench.withdraw_path("i2", "203.0.113.0/24", 2);
    let belief = Belief::of(&bench, connection);
    let ids: Vec<Option<u32>> = belief.routes.keys().map(|(.., id)| *id).collect();
    assert_eq!(ids, [Some(1), Some(3)]);
}

#[test]
fn whatever_happens_a_station_that_reads_knows_what_there_is() {
    for seed in 0..30 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let views = [StationView::PrePolicy, StationView::PostPolicy, StationView::LocRib];
        let peers = [("e4", filtered(4, 65004)), ("e5", filtered(5, 65005)), ("e6", peer(6, 65006))];
        let mut bench = Bench::new(with_station(config(&peers), &views), Start::Fresh);
        // What each peer has said, as long as its session lasts.
        let mut said: BTreeMap<&str, Option<BTreeMap<&str, u32>>> = BTreeMap::new();
        let mut connection = None;
        for _ in 0..200 {
            let (name, config) = &peers[rng.usize(0..3)];
            let prefix = ALL[rng.usize(0..4)];
            connection = connection.filter(|connection| !bench.stations[connection].closed);
            match (rng.u8(0..24), said.get_mut(name).and_then(Option::as_mut)) {
                (0, _) => match connection.take() {
                    None => {
                        bench.wait(Duration::from_secs(61));
                        connection = Some(bench.station_up("s"));
                    }
                    Some(connection) => {
                        bench.input(Input::Closed { connection, failure: TransportFailure::Reset });
                        bench.wait(Duration::from_secs(61));
                    }
                },
                (1, _) => {
                    if let Some(connection) = connection {
                        let heard = bench.stations.get_mut(&connection).unwrap();
                        heard.is_deaf = !heard.is_deaf && heard.unread == 0;
                        if !heard.is_deaf {
                            bench.station_reads(connection);
                        }
                    }
                }
                (2, Some(_)) => {
                    bench.lose(name);
                    said.insert(name, None);
                }
                (_, None) => {
                    bench.wait(Duration::from_secs(61));
                    bench.up(name);
                    said.insert(name, Some(BTreeMap::new()));
                }
                (3, Some(_)) => bench.end_of_rib(name),
                (4..=9, Some(routes)) => {
                    bench.withdraw(name, &[prefix]);
                    routes.remove(prefix);
                }
                (_, Some(routes)) => {
                    let mark = rng.u32(1..4);
                    bench.announce(name, &[prefix], &[config.remote_as.0, mark], &[]);
                    routes.insert(prefix, mark);
                }
            }
        }
        let connection = connection.filter(|connection| !bench.stations[connection].closed);
        let connection = connection.unwrap_or_else(|| {
            bench.wait(Duration::from_secs(61));
            bench.station_up("s")
        });
        bench.station_reads(connection);
        let belief = Belief::of(&bench, connection);
        let mut expected = Vec::new();
        for (name, config) in &peers {
            for (prefix, mark) in said.get(name).and_then(Option::as_ref).into_iter().flatten() {
                expected.push(format!("{} {prefix} {} {mark}", config.address, config.remote_as));
            }
        }
        expected.sort();
        let mut pre = belief.table(PRE);
        pre.sort();
        assert_eq!(pre, expected, "seed {seed}");
        let filtered = |line: &&String| line.starts_with("10.0.0.6") || !line.contains("192.0.2.0/24");
        let kept: Vec<&String> = expected.iter().filter(filtered).collect();
        let mut post = belief.table(POST);
        post.sort();
        let bare: Vec<String> = post.iter().map(|line| line.replace(" [Community(7)]", "")).collect();
        assert_eq!(bare.iter().collect::<Vec<_>>(), kept, "seed {seed}");
        let prefixes: BTreeSet<String> = bench.kernel.keys().map(IpNet::to_string).collect();
        let told: BTreeSet<String> =
            belief.table(LOC).iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
        assert_eq!(told, prefixes, "seed {seed}");
    }
}
