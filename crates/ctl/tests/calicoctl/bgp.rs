//! `calicoctl bgp`, against a node that the test plays.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use api::wire::bgp::{
    Cursor, DumpPage, DumpQuestion, Peer, PeerCapability, PeerMessages, PeerPath, PeerPrefixes, PeerTimers,
    PeersPage, Question, Reply, Route, RouteAttributes, RoutesPage, RoutesQuestion, Station, View,
};
use api::wire::{Answer, Request, WireError};

use crate::world::World;

/// A world whose node gives these answers, one a request, and what it was asked.
fn with_node(answers: Vec<Answer>) -> (World, std::thread::JoinHandle<Vec<Question>>) {
    let mut world = World::new();
    let socket = world.path("node.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    world.set("TORTIE_NODE_SOCKET", socket);
    let node = std::thread::spawn(move || {
        let serve = |answer: Answer| {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = String::new();
            stream.read_to_string(&mut request).expect("a request");
            stream.write_all(&serde_json::to_vec(&answer).unwrap()).expect("a client that listens");
            match serde_json::from_str(&request).expect("a request") {
                Request::Bgp(question) => question,
                other => panic!("{other:?}"),
            }
        };
        answers.into_iter().map(serve).collect()
    });
    (world, node)
}

fn route(prefix: &str, best: bool) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        next_hop: Some("10.0.0.2".parse().unwrap()),
        from: Some("10.0.0.2".parse().unwrap()),
        peer: Some("Mesh_10_0_0_2".into()),
        path_id: None,
        best,
        multipath: false,
        stale: false,
        unusable: None,
        attributes: RouteAttributes {
            origin: "igp".into(),
            as_path: "65001 7".into(),
            local_pref: 100,
            communities: vec!["65001:7".into()],
            ..RouteAttributes::default()
        },
    }
}

fn page(routes: Vec<Route>, next: Option<&str>) -> Answer {
    let next = next.map(|place| Cursor(place.to_owned()));
    Answer::Bgp(Reply::Routes(RoutesPage { routes, next }))
}

fn peer(state: &str, reason: Option<&str>) -> Peer {
    Peer {
        name: "Global_10_0_0_9".into(),
        address: "10.0.0.9".parse().unwrap(),
        peer_type: "global".into(),
        remote_as: 65009,
        local_as: 64512,
        reflector_client: false,
        state: state.into(),
        since: 0,
        uptime_seconds: (state == "Established").then_some(7),
        reason: reason.map(str::to_owned),
        remedy: reason.map(|_| "compare the passwords".to_owned()),
        established_count: 3,
        flaps: 2,
        session: None,
        bfd: Some(PeerPath {
            state: "up".to_owned(),
            interval_milliseconds: 50,
            multiplier: 3,
            multihop: false,
            strict: true,
        }),
        configured: PeerTimers { port: 179, hold_seconds: 90, ..PeerTimers::default() },
        prefixes: [(
            "ipv4/unicast".to_owned(),
            PeerPrefixes { received: 5, stale: 0, best: 4, advertised: 6 },
        )]
        .into(),
        messages: PeerMessages::default(),
        capabilities: vec![PeerCapability {
            name: "role".into(),
            ours: None,
            theirs: Some("customer".into()),
        }],
    }
}

#[test]
fn routes_come_in_pages_and_are_sorted() {
    let pages = || {
        vec![
            page(vec![route("10.2.0.0/16", true)], Some("4.7.0")),
            page(Vec::new(), Some("4.9.0")),
            page(vec![route("10.1.0.0/16", false)], None),
        ]
    };
    let (world, node) = with_node(pages());
    let words = ["bgp", "routes", "--received", "10.0.0.2", "--prefix", "10.0.0.0/8", "--longer"];
    let text = world.run(&words).succeeded();
    assert_eq!(
        text,
        "    PREFIX        NEXT HOP   FROM       LOCAL PREF   MED   AS PATH   ORIGIN   COMMUNITIES\n\
         \x20   10.1.0.0/16   10.0.0.2   10.0.0.2   100                65001 7   igp      65001:7\n\
         *   10.2.0.0/16   10.0.0.2   10.0.0.2   100                65001 7   igp      65001:7\n"
    );
    let asked = node.join().unwrap();
    let question = |from: Option<&str>| {
        Question::Routes(RoutesQuestion {
            view: View::Received("10.0.0.2".into()),
            prefix: Some("10.0.0.0/8".parse().unwrap()),
            longer: true,
            from: from.map(|place| Cursor(place.to_owned())),
        })
    };
    assert_eq!(asked, [question(None), question(Some("4.7.0")), question(Some("4.9.0"))]);

    let (world, node) = with_node(pages());
    let json: Vec<Route> =
        serde_json::from_str(&world.run(&["bgp", "routes", "-o", "json"]).succeeded()).unwrap();
    assert_eq!(json, [route("10.1.0.0/16", false), route("10.2.0.0/16", true)]);
    node.join().unwrap();
}

#[test]
fn a_table_that_is_too_large_to_sort_is_whole_in_every_format() {
    let many = |second: u8| {
        (0..=255).flat_map(move |third| {
            (0..7).map(move |fourth| route(&format!("10.{second}.{third}.{fourth}/32"), true))
        })
    };
    let next = |second: u8| (second < 8).then(|| format!("4.{second}.0"));
    let pages = || (1..=8).map(|second| page(many(second).collect(), next(second).as_deref())).collect();
    let expected: Vec<Route> = (1..=8).flat_map(many).collect();
    let (world, node) = with_node(pages());
    let text = world.run(&["bgp", "routes", "-o", "json"]).succeeded();
    assert_eq!(serde_json::from_str::<Vec<Route>>(&text).unwrap(), expected);
    node.join().unwrap();
    let (world, node) = with_node(pages());
    assert_eq!(
        world.run(&["bgp", "routes", "-o", "yaml"]).succeeded().matches("- attributes:").count(),
        14_336
    );
    node.join().unwrap();
    let (world, node) = with_node(pages());
    assert_eq!(world.run(&["bgp", "routes"]).succeeded().lines().count(), 14_337);
    node.join().unwrap();
}

#[test]
fn no_routes_are_an_empty_list() {
    for (format, expected) in [("json", "[\n\n]\n"), ("yaml", "[]\n")] {
        let (world, node) = with_node(vec![page(Vec::new(), None)]);
        assert_eq!(world.run(&["bgp", "routes", "-o", format]).succeeded(), expected);
        node.join().unwrap();
    }
}

#[test]
fn a_limit_ends_the_asking() {
    let (world, node) =
        with_node(vec![page(vec![route("10.1.0.0/16", true), route("10.2.0.0/16", true)], Some("4.2.0"))]);
    let outcome = world.run(&["bgp", "routes", "--limit", "1"]);
    assert_eq!((outcome.code, outcome.output.lines().count()), (0, 2));
    assert!(outcome.errors.contains("--limit"), "{}", outcome.errors);
    node.join().unwrap();
}

#[test]
fn a_session_that_is_down_says_why() {
    let answer = || {
        vec![Answer::Bgp(Reply::Peers(PeersPage {
            peers: vec![peer("Active", Some("timed out"))],
            next: None,
        }))]
    };
    let (world, node) = with_node(answer());
    let text = world.run(&["bgp", "peers"]).succeeded();
    assert!(text.starts_with("PEER       TYPE     AS      STATE "), "{text}");
    assert!(text.contains("5          4      6      2       timed out"), "{text}");
    node.join().unwrap();
    let (world, node) = with_node(answer());
    let text = world.run(&["bgp", "peers", "10.0.0.9"]).succeeded();
    for line in [
        "Why:        timed out",
        "What to do: compare the passwords",
        "Came up:    3 times, lost 2 times",
        "BFD:        up; every 50 ms, down after 3 missed, one hop; the session waits for it",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("role   -      customer"), "{text}");
    node.join().unwrap();
    let (world, node) = with_node(vec![Answer::Bgp(Reply::Peers(PeersPage {
        peers: vec![peer("Established", Some("timed out"))],
        next: None,
    }))]);
    assert!(!world.run(&["bgp", "peers"]).succeeded().contains("timed out"), "what is over is not why");
    node.join().unwrap();
}

#[test]
fn what_the_node_cannot_answer_is_the_error() {
    let error = WireError { code: 100, msg: "there is no peer 10.0.0.7".into(), details: String::new() };
    let (world, node) = with_node(vec![Answer::Error(error)]);
    world.run(&["bgp", "why", "10.1.0.0/16", "--peer", "10.0.0.7"]).failed(&["there is no peer 10.0.0.7"]);
    node.join().unwrap();
    let mut world = World::new();
    world.set("TORTIE_NODE_SOCKET", world.path("none"));
    world.run(&["bgp", "peers"]).failed(&["none", "tortie node"]);
}

#[test]
fn wrong_usage_is_said_before_anybody_is_asked() {
    let world = World::new();
    world.run(&["bgp", "what-if"]).misused(&["--down", "--file"]);
    world.run(&["bgp", "what-if", "--down", "a", "--file", "b"]).misused(&["--file"]);
    world.run(&["bgp", "routes", "--longer"]).misused(&["--prefix"]);
    world.run(&["bgp", "routes", "--received", "a", "--advertised", "b"]).misused(&["--advertised"]);
    world.run(&["bgp", "routes", "--prefix", "10.0.0.0/33"]).misused(&["10.0.0.0/33"]);
    let script = world.run(&["completion", "bash"]).succeeded();
    for word in ["what-if", "--advertised", "--longer"] {
        assert!(script.contains(word), "{word}");
    }
}

fn dump_page(octets: &[u8], next: Option<&str>) -> Answer {
    let next = next.map(|place| Cursor(place.to_owned()));
    Answer::Bgp(Reply::Dump(DumpPage { octets: octets.to_vec(), routes: 2, next }))
}

#[test]
fn a_dump_is_written_page_by_page_and_named_when_it_is_whole() {
    let pages = || vec![dump_page(&[0, 255, 10], Some("4.7.0/1/0,2")), dump_page(&[7], None)];
    let (world, node) = with_node(pages());
    let file = world.path("rib.mrt");
    let text = world.run(&["bgp", "dump", "-o", &file]).succeeded();
    assert_eq!(text, format!("4 routes are in {file}.\n"));
    assert_eq!(std::fs::read(&file).unwrap(), [0, 255, 10, 7]);
    let question = |from: Option<&str>| {
        Question::Dump(DumpQuestion { from: from.map(|place| Cursor(place.to_owned())) })
    };
    assert_eq!(node.join().unwrap(), [question(None), question(Some("4.7.0/1/0,2"))]);

    let lost = WireError { code: 100, msg: "BGP does not answer".into(), details: String::new() };
    let lost = Answer::Error(lost);
    let (world, node) = with_node(vec![dump_page(&[1], Some("4.7.0/1/0,2")), lost]);
    let file = world.path("rib.mrt");
    world.run(&["bgp", "dump", "-o", &file]).failed(&["BGP does not answer"]);
    node.join().unwrap();
    let left: Vec<_> = std::fs::read_dir(std::path::Path::new(&file).parent().unwrap())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.contains("rib.mrt"))
        .collect();
    assert_eq!(left, [""; 0], "nothing is left of a dump that failed");
}

#[test]
fn stations_are_shown_with_why_they_are_not_connected() {
    let station = |name: &str, seconds: Option<u64>, reason: Option<&str>| Station {
        name: name.to_owned(),
        views: vec!["PrePolicy".to_owned(), "LocRIB".to_owned()],
        connected_seconds: seconds,
        reason: reason.map(str::to_owned),
        unread_octets: 7,
        waiting_changes: 0,
    };
    let stations = vec![
        station("10.0.0.9:11019", Some(61), None),
        station("10.0.0.8:11019", None, Some("connection refused")),
    ];
    let (world, node) = with_node(vec![Answer::Bgp(Reply::Stations(stations))]);
    let text = world.run(&["bgp", "stations"]).succeeded();
    assert_eq!(
        text,
        "STATION          VIEWS              STATE           SECONDS   UNREAD   WAITING\n\
         10.0.0.9:11019   PrePolicy,LocRIB   connected       61        7        0\n\
         10.0.0.8:11019   PrePolicy,LocRIB   not connected             7        0\n\
         \n10.0.0.8:11019: connection refused; it is dialled again\n"
    );
    assert_eq!(node.join().unwrap(), [Question::Stations]);
}
