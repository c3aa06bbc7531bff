//! What the core costs without sockets: a full table through one speaker, and a reflector with many clients.
//!
//!     cargo run --release -p bgp --example core_figures [PREFIXES] [CLIENTS]
//!
//! UPDATEs are encoded before the clock starts. Times are processor time, which other load on the machine disturbs least.
//! The figures belong beside those of whole daemons with care: there is no TCP in them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bgp::handover::Handover;
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, Community, LargeCommunity, Origin};
use bgp::packet::capability::Capability;
use bgp::packet::nlri::Nlri;
use bgp::packet::open::Open;
use bgp::packet::update::Update;
use bgp::packet::{Context, Message, PeerKind};
use bgp::{
    Asn, ConnectionId, Endpoints, Family, Input, Output, PeerConfig, PeerId, RouterId, Speaker,
    SpeakerConfig, Start,
};
use ipnet::Ipv4Net;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let prefixes = arguments.next().unwrap_or(1_000_000);
    table(prefixes);
    choice(10, prefixes / 10);
    reflector(arguments.next().unwrap_or(200), 64);
}

struct Bench {
    speaker: Speaker,
    /// Octets sent, per connection.
    sent: u64,
    best_routes: u64,
}

impl Bench {
    fn new(peers: &[(u8, u8, u32, bool)]) -> Self {
        let mut config = SpeakerConfig::new(Asn(64512), RouterId(Ipv4Addr::new(10, 0, 0, 1)));
        config.addresses.ipv4 = Some(Ipv4Addr::new(10, 0, 0, 1));
        for (third, last, asn, client) in peers {
            let mut peer = PeerConfig::new(IpAddr::from([10, 0, *third, *last]), Asn(*asn));
            peer.connect = bgp::config::ConnectMode::Passive;
            peer.reflector_client = *client;
            config.peers.insert(PeerId(format!("{third}.{last}")), peer);
        }
        Self { speaker: Speaker::new(config, Start::Fresh, 1, now()), sent: 0, best_routes: 0 }
    }

    fn up(&mut self, third: u8, last: u8, asn: u32) -> ConnectionId {
        let endpoints = Endpoints {
            local: (Ipv4Addr::new(10, 0, 0, 1), 179).into(),
            remote: (Ipv4Addr::new(10, 0, third, last), 40_000).into(),
        };
        let connection = self.speaker.accept(endpoints, now()).expect("configured");
        let open = Open {
            my_as: Asn(asn).to_two_octets(),
            hold_time_secs: 90,
            router_id: RouterId(Ipv4Addr::new(10, 0, third, last)),
            capabilities: vec![
                Capability::Multiprotocol(Family::Ipv4Unicast.into()),
                Capability::FourOctetAs(Asn(asn)),
            ],
            optional_parameters: 1,
            extended_optional_parameters: false,
        };
        self.feed(connection, &open.encode());
        self.feed(connection, &Message::keepalive());
        self.drain();
        connection
    }

    fn feed(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.speaker.handle_input(Input::Received { connection, bytes }, now());
    }

    fn drain(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Send { connection, bytes } => {
                    self.sent += bytes.len() as u64;
                    self.speaker.handle_input(Input::Written { connection, bytes: bytes.len() }, now());
                }
                Output::BestRoute { .. } => self.best_routes += 1,
                _ => {}
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

/// Processor time of this process so far.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("/proc is mounted");
    Duration::from_nanos(text.split_whitespace().next().expect("a number").parse().expect("a number"))
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel says VmRSS");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// UPDATEs like those of a full table: about five prefixes to a set of attributes.
fn full_table(prefixes: u32, peer_as: u32, next_hop: u8) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(u64::from(peer_as));
    let context = Context { as4: true, ..Context::initial(PeerKind::External) };
    let mut out = Vec::new();
    let mut next = 0u32;
    while next < prefixes {
        let count = rng.u32(1..10).min(prefixes - next);
        let nlri: Vec<Nlri> = (next..next + count)
            .map(|number| {
                let address = Ipv4Addr::from((16 << 24) + (number << 8));
                ipnet::IpNet::from(Ipv4Net::new_assert(address, 24)).into()
            })
            .collect();
        next += count;
        let path = std::iter::once(peer_as).chain((0..rng.usize(1..8)).map(|_| rng.u32(1..400_000)));
        let mut values = vec![
            AttributeValue::Origin(Origin::Igp),
            AttributeValue::AsPath(AsPath::sequence(path)),
            AttributeValue::NextHop([10, 0, 0, next_hop].into()),
            AttributeValue::Med(rng.u32(0..100)),
        ];
        if rng.bool() {
            values.push(AttributeValue::Communities((0..3).map(|_| Community(rng.u32(..))).collect()));
        }
        if rng.u8(0..4) == 0 {
            values.push(AttributeValue::LargeCommunities(vec![LargeCommunity(65001, rng.u32(..), 1)]));
        }
        let attributes = values.into_iter().map(Attribute::new).collect();
        out.push(Update { attributes, nlri, ..Update::default() }.encode(&context));
    }
    out
}

fn table(prefixes: u32) {
    let stream: Vec<u8> = full_table(prefixes, 65001, 2).concat();
    let mut bench = Bench::new(&[(0, 2, 65001, false), (0, 3, 64512, false)]);
    let sender = bench.up(0, 2, 65001);
    bench.up(0, 3, 64512);
    let before = resident_kib();
    let start = processor();
    for chunk in stream.chunks(64 * 1024) {
        bench.feed(sender, chunk);
        bench.drain();
    }
    let through = processor() - start;
    let resident = resident_kib() - before;
    println!(
        "{prefixes} prefixes in and out ({:.1} MB in, {:.1} MB out): {:.3} s, {:.2} us and {} octets per prefix; {} \
         sets of attributes",
        stream.len() as f64 / 1e6,
        bench.sent as f64 / 1e6,
        through.as_secs_f64(),
        through.as_secs_f64() * 1e6 / f64::from(prefixes),
        resident * 1024 / u64::from(prefixes),
        bench.speaker.attribute_sets(),
    );
    hand_over(&bench.speaker);
    let start = processor();
    let failure = bgp::TransportFailure::Reset;
    bench.speaker.handle_input(Input::Closed { connection: sender, failure }, now());
    bench.drain();
    println!("its sender lost, all withdrawn: {:.3} s", (processor() - start).as_secs_f64());
}

/// From one process to another, step by step.
fn hand_over(speaker: &Speaker) {
    let mut last = processor();
    let mut lap = || {
        let before = std::mem::replace(&mut last, processor());
        (last - before).as_secs_f64()
    };
    let handover = speaker.hand_over(now());
    let read_off = lap();
    let octets = handover.encode();
    let encoded = lap();
    let handover = Handover::decode(&octets).expect("just encoded");
    let decoded = lap();
    let before = resident_kib();
    let taken = Speaker::take_over(speaker.config().clone(), &handover, 2, now());
    let (mut speaker, _) = taken.expect("it fits together");
    let made = lap();
    let outputs = std::iter::from_fn(|| speaker.poll_output()).count();
    println!(
        "handed over ({:.1} MB): read off {read_off:.3} s, encoded {encoded:.3} s, decoded {decoded:.3} s, made {made:.3} s and \
         {} MB, {outputs} outputs {:.3} s",
        octets.len() as f64 / 1e6,
        resident_kib().saturating_sub(before) / 1024,
        lap(),
    );
}

/// Every sender has all prefixes, each with paths of its own; an internal peer gets the best.
fn choice(senders: u8, prefixes: u32) {
    let asn = |sender: u8| 65000 + u32::from(sender);
    let streams: Vec<Vec<u8>> =
        (2..2 + senders).map(|sender| full_table(prefixes, asn(sender), sender).concat()).collect();
    let mut peers: Vec<_> = (2..2 + senders).map(|sender| (0, sender, asn(sender), false)).collect();
    peers.push((0, 200, 64512, false));
    let mut bench = Bench::new(&peers);
    let connections: Vec<ConnectionId> =
        (2..2 + senders).map(|sender| bench.up(0, sender, asn(sender))).collect();
    bench.up(0, 200, 64512);
    let (before, start) = (resident_kib(), processor());
    let mut chunks: Vec<_> = streams.iter().map(|stream| stream.chunks(64 * 1024)).collect();
    let mut more = true;
    while std::mem::take(&mut more) {
        for (chunks, connection) in chunks.iter_mut().zip(&connections) {
            if let Some(chunk) = chunks.next() {
                bench.feed(*connection, chunk);
                bench.drain();
                more = true;
            }
        }
    }
    println!(
        "{senders} senders of {prefixes} prefixes: {:.3} s, {} kB resident, {} changes for the kernel",
        (processor() - start).as_secs_f64(),
        resident_kib().saturating_sub(before),
        bench.best_routes,
    );
}

fn reflector(clients: u32, blocks: u32) {
    let name = |client: u32| -> (u8, u8) {
        let number = client + 2;
        (u8::try_from(number / 250).expect("few"), u8::try_from(number % 250).expect("below 250"))
    };
    let peers: Vec<_> = (0..clients).map(|client| (name(client).0, name(client).1, 64512, true)).collect();
    let mut bench = Bench::new(&peers);
    let connections: Vec<ConnectionId> =
        peers.iter().map(|(third, last, ..)| bench.up(*third, *last, 64512)).collect();
    let context = Context { as4: true, ..Context::initial(PeerKind::Internal) };
    let announce = |client: u32, first: u32, count: u32| {
        let nlri = (first..first + count)
            .map(|block| {
                let address = Ipv4Addr::from((10 << 24 | 64 << 16) + (client * 1024 + block) * 64);
                ipnet::IpNet::from(Ipv4Net::new_assert(address, 26)).into()
            })
            .collect();
        let (third, last) = name(client);
        let values = [
            AttributeValue::Origin(Origin::Igp),
            AttributeValue::AsPath(AsPath::default()),
            AttributeValue::NextHop([10, 0, third, last].into()),
            AttributeValue::LocalPref(100),
        ];
        let attributes = values.into_iter().map(Attribute::new).collect();
        Update { attributes, nlri, ..Update::default() }.encode(&context)
    };
    let updates: Vec<Vec<u8>> = (0..clients).map(|client| announce(client, 0, blocks)).collect();
    let before = bench.sent;
    let start = processor();
    for (connection, update) in connections.iter().zip(&updates) {
        bench.feed(*connection, update);
        bench.drain();
    }
    println!(
        "{clients} clients x {blocks} blocks reflected: {:.4} s, {:.1} MB out, {} kB resident in all",
        (processor() - start).as_secs_f64(),
        (bench.sent - before) as f64 / 1e6,
        resident_kib(),
    );
    let singles: Vec<Vec<u8>> = (0..100).map(|number| announce(number % clients, 500 + number, 1)).collect();
    let mut times: Vec<Duration> = Vec::new();
    for (number, update) in singles.iter().enumerate() {
        let start = now();
        bench.feed(connections[number % connections.len()], update);
        bench.drain();
        times.push(start.elapsed());
    }
    times.sort();
    println!("one block to all others: p50 {:.1} us", times[times.len() / 2].as_secs_f64() * 1e6);
}
