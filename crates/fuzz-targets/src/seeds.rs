//! What the fuzzer begins with: every message of the test vectors, and scripts by hand for what has no vectors.

mod observe;

use std::io;
use std::path::Path;

use serde_json::Value;

/// An input to begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// For which target.
    pub target: &'static str,
    /// A name for its file, unique for the target.
    pub name: String,
    /// The octets.
    pub data: Vec<u8>,
}

/// Octets of a header.
const HEADER: usize = 19;

/// All seeds; `vectors` is the folder of the test vectors.
///
/// # Errors
/// The files `bgp-message.jsonl` and `bgp-update-errors.jsonl` cannot be read, or are not vectors.
pub fn all(vectors: &Path) -> io::Result<Vec<Seed>> {
    let mut seeds = by_hand();
    for file in ["bgp-message.jsonl", "bgp-update-errors.jsonl"] {
        let text = std::fs::read_to_string(vectors.join(file))?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let case: Value = serde_json::from_str(line)?;
            let fault = || io::Error::other(format!("{file}: a line without id or hex"));
            let id = case["id"].as_str().ok_or_else(fault)?.replace('/', ".");
            let bytes = case["when"]["hex"].as_str().and_then(unhex).ok_or_else(fault)?;
            of_message(&id, context(&case["given"]), &bytes, &mut seeds);
        }
    }
    Ok(seeds)
}

/// The targets that a message is for.
fn of_message(id: &str, context: u8, bytes: &[u8], seeds: &mut Vec<Seed>) {
    let mut add = |target, data: Vec<u8>| seeds.push(Seed { target, name: id.to_owned(), data });
    add("message", [&[context], bytes].concat());
    add("stream", [&[context, 2, 18, 40, 255], bytes, bytes].concat());
    let Some(body) = bytes.get(HEADER..) else { return };
    match bytes[HEADER - 1] {
        1 => add("open", body.to_vec()),
        2 => {
            add("update", [&[context], body].concat());
            add("bmp", bmp_around(bytes));
            add("mrt", mrt_around(bytes));
        }
        3 => add("notification", body.to_vec()),
        5 => add("route_refresh", [&[context], body].concat()),
        _ => {}
    }
    if let Ok(length) = u8::try_from(body.len()) {
        // The internal peer is up, and says it.
        let say = [&[5, 0, bytes[HEADER - 1].wrapping_sub(1), length], body].concat();
        add("session", [&[1, 0, 0, 2, 0, 0x04, 0][..], &say, &[11, 2]].concat());
    }
}

/// Route Monitoring of a peer at 10.0.0.2.
fn bmp_around(update: &[u8]) -> Vec<u8> {
    let length = u32::try_from(6 + 42 + update.len()).expect("short").to_be_bytes();
    let peer = [0; 10].into_iter().chain([0; 12]).chain([10, 0, 0, 2, 0, 0, 0xfd, 0xe9, 10, 0, 0, 2]);
    [&[3], &length[..], &[0], &peer.chain([0; 8]).collect::<Vec<u8>>(), update].concat()
}

/// BGP4MP_MESSAGE_AS4 between 10.0.0.2 and 10.0.0.1.
fn mrt_around(message: &[u8]) -> Vec<u8> {
    let ends = [0, 0, 0xfd, 0xe9, 0, 0, 0xfc, 0, 0, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 1];
    let length = u32::try_from(ends.len() + message.len()).expect("short").to_be_bytes();
    [&[0; 4], &[0, 16, 0, 4][..], &length, &ends, message].concat()
}

/// As `codec::context` reads it.
fn context(given: &Value) -> u8 {
    let list = |name: &str| given[name].as_array().map_or(0, Vec::len);
    let bits = [
        given["as4"] == true,
        list("families") != 1,
        list("add_path") > 0,
        list("extended_nexthop") > 0,
        given["extended_message"] == true,
        given["enhanced_refresh"] == true,
        given["peer"] == "ebgp",
        given["peer_as"] == 65001,
    ];
    (0..).zip(bits).map(|(bit, set)| u8::from(set) << bit).sum()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn by_hand() -> Vec<Seed> {
    let of = |target: &'static str, list: &[&[u8]]| -> Vec<Seed> {
        let seed = |(number, data): (usize, &&[u8])| Seed {
            target,
            name: format!("by-hand.{number}"),
            data: data.to_vec(),
        };
        list.iter().enumerate().map(seed).collect()
    };
    [
        of("bmp", &[&observe::bmp()]),
        of("handover", &[&crate::session::handed_over(SESSIONS[0])]),
        of("mrt", &[&observe::mrt()]),
        of(
            "mrt_attributes",
            &[&[0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 0, 0, 2, 0x80, 4, 4, 0, 0, 0, 7]],
        ),
        of("session", SESSIONS),
        of("prefixes", PREFIXES),
        of("bfd_packet", PACKETS),
        of("bfd_table", PATHS),
        of("text", TEXTS),
    ]
    .concat()
}

/// IPv4 and IPv6, with and without path identifiers.
const PREFIXES: &[&[u8]] = &[
    &[0, 0, 8, 10, 24, 10, 0, 1, 26, 10, 0, 1, 64, 32, 192, 0, 2, 1],
    &[0x82, 0, 32, 0x20, 1, 0x0d, 0xb8, 64, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1],
    &[4, 0, 0, 0, 1, 24, 10, 0, 1, 0, 0, 0, 2, 24, 10, 0, 1],
];

const PACKETS: &[&[u8]] = &[
    &[0x21, 0xe8, 3, 24, 1, 2, 3, 4, 10, 11, 12, 13, 0, 0, 0xc3, 0x50, 0, 0, 0xea, 0x60, 0, 0, 0, 0],
    &[0x20, 0x40, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0],
];

/// Down, Init and Up from the peer, a poll, and silence.
const PATHS: &[&[u8]] = &[
    &[2, 0, 0x40, 3, 0, 0, 2, 0, 0x80, 3, 0, 0, 2, 0, 0xc0, 3, 0, 0, 2, 0, 0xe0, 3, 1, 1, 0, 12, 0, 12],
    &[2, 1, 0x40, 3, 0, 0, 2, 1, 0xc0, 3, 0, 0, 1, 0x33, 2, 1, 0xd0, 3, 0, 0, 0, 10, 1, 0xff, 0, 12],
];

const TEXTS: &[&[u8]] = &[b"65000:7", b"65000:7:4294967295", b"4.17.3", b"6.0.0", b"4200000000"];

/// Steps of `session::steps`. Accept is 0, greet 2, update 6, time 11, close 13, configure 14, originate 15.
const SESSIONS: &[&[u8]] = &[
    // All four are up; routes of ours and of theirs go round, then some are withdrawn.
    &[
        0, 0, 0, 2, 0, 8, 0, 0, 1, 2, 1, 0x10, 0, 1, 0, 2, 2, 0, 0, 0, 3, 2, 3, 0x18, 0, 15, 1, 0, 15, 0x41,
        0, 6, 0, 0, 3, 1, 2, 0x42, 0, 0, 6, 1, 2, 2, 1, 3, 0, 0x11, 1, 6, 2, 8, 1, 4, 0, 3, 0, 6, 3, 0x10, 1,
        5, 0, 0, 1, 2, 6, 0, 0, 0, 2, 1, 2, 15, 1, 1, 11, 3,
    ],
    // A peer restarts gracefully, and another comes back without.
    &[
        1, 0, 0, 2, 0, 0, 0, 6, 0, 0, 2, 1, 2, 0, 0, 10, 0, 1, 13, 0, 11, 2, 0, 0, 2, 0, 0x40, 0, 6, 0, 0, 1,
        1, 0, 0, 10, 0, 1, 11, 5, 0, 1, 2, 1, 0, 0, 6, 1, 0, 1, 2, 0, 0, 13, 1, 11, 4, 0, 1, 2, 1, 0, 0,
    ],
    // More prefixes than allowed, then a wait.
    &[1, 0, 1, 2, 0, 0, 0, 6, 0, 0, 8, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 11, 5, 0, 1, 2, 0, 0, 0],
    // Every thing is configured otherwise while routes are there.
    &[
        0, 0, 0, 2, 0, 8, 0, 0, 1, 2, 1, 0x10, 0, 6, 0, 0, 2, 1, 2, 0, 0, 6, 1, 0, 2, 1, 3, 0, 0, 14, 4, 14,
        6, 14, 7, 14, 8, 14, 10, 14, 11, 17, 0, 2, 17, 0, 3, 14, 15, 14, 20, 14, 22, 14, 23, 14, 9, 14, 5,
        14, 17, 14, 0, 14, 3,
    ],
    // A peer that does not read; route refresh meanwhile.
    &[
        0, 0, 0, 2, 0, 0x18, 0, 16, 0, 15, 1, 0, 15, 2, 0, 10, 0, 2, 15, 1, 1, 10, 0, 2, 15, 3, 4, 16, 1, 10,
        0, 0, 11, 6,
    ],
    // A station looks on, and other processes take over. Then: we come back and wait for the End-of-RIBs; then we go.
    &[
        3, 0, 0, 2, 0, 0, 0, 6, 0, 0, 1, 1, 0, 0, 10, 0, 1, 10, 0, 0x81, 0, 1, 2, 1, 0, 0, 10, 1, 1, 11, 6,
        19, 0xff,
    ],
];
