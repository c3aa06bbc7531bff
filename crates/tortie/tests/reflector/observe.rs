//! Observers of `tortie reflector`: BMP stations over loopback, and dumps that bgpdump reads.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bgp::observe::bmp::{DownReason, Information, Message, PeerHeader};
use bgp::packet::attribute::{AttributeValue, MpReach, MpUnreach};
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::packet::open::Open;
use bgp::packet::{Context, Message as Bgp, PeerKind};
use bgp::{Family, FamilySet};

use crate::{LIMIT, Pair, block, documents};

/// Host a tells a station on its loopback.
fn observed(views: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{name: node.a}}\n\
         spec: {{bmpStations: [{{address: 127.0.0.1, port: 11019, views: [{views}]}}]}}\n"
    )
}

fn listen(pair: &Pair) -> TcpListener {
    pair.hosts[0].run(|| TcpListener::bind("127.0.0.1:11019").expect("the port is free"))
}

/// A station that has been dialled, and what it has heard, a line each.
struct Station {
    stream: TcpStream,
    octets: Vec<u8>,
    lines: Vec<String>,
    /// Peers that say path identifiers, as the OPENs have it.
    add_path: BTreeSet<IpAddr>,
}

impl Station {
    fn accept(listener: &TcpListener) -> Self {
        listener.set_nonblocking(true).expect("a socket");
        let mut accepted = None;
        testkit::eventually("the station is dialled", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("just accepted");
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        Self { stream, octets: Vec::new(), lines: Vec::new(), add_path: BTreeSet::new() }
    }

    /// Reads until it has heard something; all that was new until then.
    fn hears(&mut self, what: &str) -> Vec<String> {
        self.hears_all(&[what])
    }

    fn hears_all(&mut self, all: &[&str]) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        while !all.iter().all(|what| self.lines.iter().any(|line| line.contains(what))) {
            assert!(Instant::now() < deadline, "not all of {all:?} in {:#?}", self.lines);
            self.read();
        }
        std::mem::take(&mut self.lines)
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the connection is closed after {:#?}", self.lines),
            Ok(octets) => self.octets.extend_from_slice(&buffer[..octets]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("{error} after {:#?}", self.lines),
        }
        while let Some((message, length)) = Message::decode(&self.octets).expect("well-formed messages") {
            self.octets.drain(..length);
            if let Message::PeerUp(peer, up) = &message
                && may(&up.sent_open, AddPathMode::Receive)
                && may(&up.received_open, AddPathMode::Send)
            {
                self.add_path.insert(peer.address);
            }
            self.lines.extend(lines(message, &self.add_path));
        }
    }
}

/// Whether an OPEN offers a direction of add-path.
fn may(octets: &[u8], wanted: AddPathMode) -> bool {
    open(octets).capabilities.iter().any(|capability| match capability {
        Capability::AddPath(list) => list.iter().all(|(_, mode)| [wanted, AddPathMode::Both].contains(mode)),
        _ => false,
    })
}

fn lines(message: Message, add_path: &BTreeSet<IpAddr>) -> Vec<String> {
    match message {
        Message::Initiation(list) => {
            let name = list.into_iter().find_map(|information| match information {
                Information::Name(name) => Some(name),
                _ => None,
            });
            vec![format!("initiation {}", name.unwrap_or_default())]
        }
        Message::PeerUp(peer, up) => {
            assert!(peer.timestamp.secs > 1_700_000_000, "{peer:?}");
            let ours = open(&up.sent_open).router_id;
            vec![format!("up {} id {} from {ours} {}", peer.address, peer.router_id, up.local_address)]
        }
        Message::PeerDown(peer, reason) => {
            let reason = match reason {
                DownReason::RemoteNotification(octets) => format!("it said {}/{}", octets[19], octets[20]),
                other => format!("{other:?}"),
            };
            vec![format!("down {}: {reason}", peer.address)]
        }
        Message::RouteMonitoring(peer, update) => routes(&peer, &update, add_path.contains(&peer.address)),
        other => vec![format!("{other:?}")],
    }
}

fn open(octets: &[u8]) -> Open {
    match Bgp::decode(octets, &Context::initial(PeerKind::External)) {
        Ok(Bgp::Open(open)) => open,
        other => panic!("not an OPEN: {other:?}"),
    }
}

fn routes(peer: &PeerHeader, octets: &[u8], add_path: bool) -> Vec<String> {
    let add_path = if add_path { FamilySet::ALL } else { FamilySet::EMPTY };
    let context =
        Context { as4: true, families: FamilySet::ALL, add_path, ..Context::initial(PeerKind::Internal) };
    let update = match Bgp::decode(octets, &context) {
        Ok(Bgp::Update(received)) => received.update,
        other => panic!("not an UPDATE: {other:?}"),
    };
    if let Some(family) = update.end_of_rib() {
        return vec![format!("{} end of {family}", peer.address)];
    }
    let (mut gone, mut new) = (update.withdrawn.clone(), update.nlri.clone());
    for attribute in &update.attributes {
        match &attribute.value {
            AttributeValue::MpUnreach(MpUnreach::Routes { nlri, .. }) => gone.extend(nlri),
            AttributeValue::MpReach(MpReach::Routes { nlri, .. }) => new.extend(nlri),
            _ => {}
        }
    }
    let gone = gone.iter().map(|nlri| format!("{} -{}", peer.address, nlri.prefix));
    let new = new.iter().map(|nlri| format!("{} +{}", peer.address, nlri.prefix));
    gone.chain(new).collect()
}

fn with_station(views: &str, more: &[String]) -> Vec<String> {
    [documents(), vec![observed(views)], more.to_vec()].concat()
}

#[test]
fn a_station_hears_everything_in_order() {
    testkit::require_root();
    let theirs = [block("b", "10.65.9.0/26")];
    let mut pair = Pair::new(&with_station("PrePolicy", &theirs));
    let listener = listen(&pair);
    pair.start(0, &[]);
    let mut station = Station::accept(&listener);
    assert_eq!(station.hears("initiation"), ["initiation a"]);
    pair.start(1, &["--fresh"]);
    let v4 = format!("end of {}", Family::Ipv4Unicast);
    let heard = station.hears(&v4);
    let up = "up 10.0.0.2 id 10.0.0.2 from 10.0.0.1 10.0.0.1";
    assert_eq!(heard, [up, "10.0.0.2 +10.65.9.0/26", &format!("10.0.0.2 {v4}")]);

    pair.write(&with_station("PrePolicy", &[block("b", "10.65.8.0/26")]));
    let mut heard = station.hears_all(&["-10.65.9.0/26", "+10.65.8.0/26"]);
    heard.sort();
    assert_eq!(heard, ["10.0.0.2 +10.65.8.0/26", "10.0.0.2 -10.65.9.0/26"]);

    assert!(pair.stop(1).success());
    assert_eq!(station.hears("down"), ["down 10.0.0.2: it said 6/9"]);
    assert!(pair.stop(0).success());
    let last = station.hears("Termination");
    assert!(last[0].contains("the speaker stops"), "{last:?}");
}

#[test]
fn a_station_that_comes_later_or_again_gets_what_there_is_and_nobody_waits_for_one_that_is_deaf() {
    testkit::require_root();
    let mut pair = Pair::new(&with_station("PostPolicy, LocRIB", &[block("b", "10.65.9.0/26")]));
    pair.start(0, &[]);
    pair.start(1, &[]);
    pair.await_that("a route learned", |pair| pair.has_route(0, "10.65.9.0/26 via 10.0.0.2"));
    let stations = |pair: &Pair| pair.ctl("a", &["bgp", "stations"]);
    assert!(stations(&pair).contains("127.0.0.1:11019: "), "{}", stations(&pair));
    let listener = listen(&pair);
    for _ in 0..2 {
        // Then it breaks off.
        let mut station = Station::accept(&listener);
        let mut heard = station.hears(":: end of ipv6/unicast");
        heard.extend(station.lines.clone());
        let expected = [
            "initiation a",
            "up :: id 10.0.0.1 from 10.0.0.1 ::",
            "up 10.0.0.2 id 10.0.0.2 from 10.0.0.1 10.0.0.1",
        ];
        assert_eq!(heard[..3], expected);
        let mut routes: Vec<&str> =
            heard[3..].iter().map(String::as_str).filter(|line| !line.contains("end of")).collect();
        routes.sort_unstable();
        assert_eq!(routes, ["10.0.0.2 +10.65.9.0/26", ":: +10.65.1.0/26", ":: +10.65.9.0/26"]);
    }
    // The kernel answers for it, and it never reads.
    let is_connected = |text: &str| text.contains("connected  ") && !text.contains("not connected");
    testkit::eventually("the station is connected again", || is_connected(&stations(&pair)));
    let more = [block("b", "10.65.9.0/26"), block("b", "10.65.8.0/26"), block("a", "10.65.2.0/26")];
    pair.write(&with_station("PostPolicy, LocRIB", &more));
    pair.await_that("a new route", |pair| pair.has_route(0, "10.65.8.0/26 via 10.0.0.2"));
    pair.await_that("one the other way", |pair| pair.has_route(1, "10.65.2.0/26 via 10.0.0.1"));

    // Another configuration of the station: it is told so, and the session knows nothing of it.
    let before = pair.ctl("a", &["bgp", "peers", "-o", "json"]);
    pair.write(&[documents(), more.to_vec()].concat());
    testkit::eventually("the station is gone", || stations(&pair).contains("No stations"));
    let count = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        value[0]["establishedCount"].clone()
    };
    assert_eq!(count(&pair.ctl("a", &["bgp", "peers", "-o", "json"])), count(&before));
}

/// What `gobgp mrt inject` reads in a file. (Of few routes none gets to gobgpd: the client of GoBGP 3 does not wait until what it
/// has sent is there.)
fn gobgp_reads(pair: &mut Pair, file: &Path) -> String {
    let configuration = pair.file("gobgpd.conf");
    fs::write(&configuration, "[global.config]\nas = 64512\nrouter-id = \"10.0.0.1\"\nport = -1\n")
        .expect("the folder is ours");
    let mut daemon = Command::new("gobgpd");
    daemon.arg("-f").arg(&configuration).args(["--api-hosts", "127.0.0.1:50051"]).stdout(Stdio::null());
    let daemon = pair.hosts[0].run(move || daemon.spawn().expect("gobgpd is installed"));
    pair.running.push(daemon.into());
    let mut read = String::new();
    testkit::eventually("gobgp reads the file", || {
        let mut gobgp = Command::new("gobgp");
        gobgp.args(["--debug", "mrt", "inject", "global"]).arg(file);
        let output = pair.hosts[0].run(move || gobgp.output().expect("gobgp comes with gobgpd"));
        read = String::from_utf8_lossy(&output.stdout).into_owned();
        read.matches(" RIB: ").count() > 1
    });
    read
}

#[test]
fn bgpdump_and_gobgp_read_what_is_dumped() {
    testkit::require_root();
    let mut pair = Pair::new(&[documents(), vec![block("b", "10.65.9.0/26")]].concat());
    pair.start(0, &[]);
    pair.start(1, &[]);
    pair.await_that("a route learned", |pair| pair.has_route(0, "10.65.9.0/26 via 10.0.0.2"));
    let file = pair.file("rib.mrt");
    let said = pair.ctl("a", &["bgp", "dump", "-o", file.to_str().expect("a name")]);
    assert_eq!(said, format!("2 routes are in {}.\n", file.display()));
    let output = Command::new("bgpdump").arg("-m").arg(&file).output();
    let output = output.expect("bgpdump is installed: scripts/install-test-packages does it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // All but the times. The hosts tell each other all routes there are, with path identifiers.
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        [&fields[..1], &fields[2..]].concat().join("|")
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    let own = "TABLE_DUMP2|B|0.0.0.0|64512|10.65.1.0/26||IGP|0.0.0.0|2147482623|0||NAG||";
    let learned = "TABLE_DUMP2_AP|B|10.0.0.2|64512|10.65.9.0/26|1||IGP|10.0.0.2|2147482623|0||NAG||";
    assert_eq!(lines, [own, learned], "{text}");
    let read = gobgp_reads(&mut pair, &file);
    for expected in [
        "Prefix [10.65.1.0/26] Entries [[RIB_ENTRY: PeerIndex [0]",
        "{Nexthop: 0.0.0.0} {LocalPref: 2147482623}",
        "Prefix [10.65.9.0/26] Entries [[RIB_ENTRY: PeerIndex [1]",
        "PathIdentifier[1] PathAttributes [[{Origin: i}  {Nexthop: 10.0.0.2} {LocalPref: 2147482623}]]",
    ] {
        assert!(read.contains(expected), "{expected} in {read}");
    }
}

#[test]
fn bgpdump_reads_what_is_recorded() {
    testkit::require_root();
    let mut pair = Pair::new(&with_station("PrePolicy", &[block("b", "10.65.9.0/26")]));
    pair.start(0, &[]);
    let file = pair.file("updates.mrt");
    let mut record = Command::new(env!("CARGO_BIN_EXE_tortie"));
    record.args(["ctl", "bgp", "record", "--once", "-o"]).arg(&file);
    let record = pair.hosts[0].run(move || record.spawn().expect("the binary runs"));
    pair.running.push(record.into());
    let connected =
        |pair: &Pair| pair.ctl("a", &["bgp", "stations", "-o", "json"]).contains("connectedSeconds");
    pair.await_that("the recorder connected", connected);
    pair.start(1, &["--fresh"]);
    pair.await_that("a route learned", |pair| pair.has_route(0, "10.65.9.0/26 via 10.0.0.2"));
    pair.write(&with_station("PrePolicy", &[]));
    pair.await_that("the route withdrawn", |pair| !pair.has_route(0, "10.65.9.0/26"));
    assert!(pair.stop(2).success());
    pair.await_that("the session over", |pair| pair.ctl("a", &["bgp", "peers"]).contains("Idle"));
    assert!(pair.stop(0).success());
    assert!(pair.running[1].wait().expect("it is our child").success(), "it ends with its node");
    let output = Command::new("bgpdump").arg("-m").arg(&file).output();
    let output = output.expect("bgpdump is installed: scripts/install-test-packages does it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kinds = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        // What it is, from whom, and the prefix with its path identifier, or the states.
        [&fields[..1], &fields[2..7]].concat().join("|")
    };
    let lines: Vec<String> = text.lines().map(kinds).collect();
    let expected = [
        "BGP4MP_ET|STATE|10.0.0.2|64512|5|6",
        "BGP4MP_ET_AP|A|10.0.0.2|64512|10.65.9.0/26|1",
        "BGP4MP_ET_AP|W|10.0.0.2|64512|10.65.9.0/26|1",
        "BGP4MP_ET|STATE|10.0.0.2|64512|6|1",
    ];
    assert_eq!(lines, expected, "{text}");
}
