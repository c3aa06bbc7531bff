use super::*;
use crate::config::Origination;
use crate::packet::Message;
use crate::rib::AttributeSet;
use crate::session::SessionState;
use crate::types::{Asn, Family, RouterId};

const AT: Timestamp = Timestamp { secs: 1_700_000_000, micros: 123_456 };

fn ends(ipv6: bool) -> Ends {
    let (peer, local) = if ipv6 { ("2001:db8::2", "2001:db8::1") } else { ("10.0.0.2", "10.0.0.1") };
    let (peer, local) = (peer.parse().unwrap(), local.parse().unwrap());
    Ends { peer_as: Asn(4_200_000_001), local_as: Asn(64512), interface: 3, peer, local }
}

fn entry(peer: u16, path_id: Option<u32>, family: Family) -> Entry {
    let set = AttributeSet::originated(&Origination::default());
    Entry { peer, originated: 7, path_id, attributes: write_attributes(&set, family) }
}

fn prefix(text: &str, path_ids: [Option<u32>; 2]) -> Body {
    let prefix = text.parse().unwrap();
    let family = Family::of(&prefix);
    let entries = path_ids.into_iter().zip(1..).map(|(id, peer)| entry(peer, id, family)).collect();
    Body::Prefix(Prefix { sequence: 77, prefix, entries })
}

fn bodies() -> Vec<Body> {
    let index = PeerIndex {
        collector: RouterId([10, 0, 0, 1].into()),
        view: "ä".to_owned(),
        peers: vec![
            IndexedPeer::ourselves(RouterId([10, 0, 0, 1].into()), Asn(64512)),
            IndexedPeer {
                router_id: RouterId([0, 0, 0, 0].into()),
                address: "2001:db8::2".parse().unwrap(),
                asn: Asn(4_200_000_001),
            },
        ],
    };
    let message = Message::keepalive();
    let mut bodies = vec![
        Body::PeerIndex(index),
        prefix("10.0.0.0/9", [None, None]),
        prefix("0.0.0.0/0", [Some(1), Some(2)]),
        prefix("2001:db8::/33", [None, None]),
        prefix("2001:db8::1/128", [Some(0), Some(9)]),
        Body::StateChange(StateChange {
            ends: ends(true),
            old: SessionState::OpenConfirm,
            new: SessionState::Established,
        }),
        Body::Unknown { kind: 13, subtype: 3, body: vec![1, 2] },
        Body::Unknown { kind: 48, subtype: 0, body: Vec::new() },
    ];
    for (is_ours, add_path) in [(false, false), (false, true), (true, false), (true, true)] {
        let traffic =
            Traffic { ends: ends(add_path), is_ours, add_path, as4: true, message: message.clone() };
        bodies.push(Body::Message(traffic));
    }
    bodies
}

fn record(body: Body) -> Record {
    let precise = matches!(body, Body::Message(_) | Body::StateChange(_));
    let timestamp = if precise { AT } else { Timestamp { micros: 0, ..AT } };
    Record { timestamp, body }
}

fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out).unwrap();
    out
}

#[test]
fn every_record_survives_a_round_trip() {
    let mut file = Vec::new();
    for body in bodies() {
        let record = record(body);
        let bytes = encode(&record);
        assert_eq!(Record::decode(&bytes), Ok(Some((record, bytes.len()))));
        file.extend(bytes);
    }
    let (mut rest, mut read) = (&file[..], Vec::new());
    while let Some((record, length)) = Record::decode(rest).unwrap() {
        read.push(record.body);
        rest = &rest[length..];
    }
    assert_eq!((read, rest), (bodies(), &[][..]));
}

#[test]
fn a_record_that_is_cut_is_an_error_or_another_one() {
    for body in bodies() {
        let record = record(body);
        let bytes = encode(&record);
        for length in 0..bytes.len() {
            assert_eq!(Record::decode(&bytes[..length]), Ok(None));
        }
        for length in COMMON_LEN..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            let said = u32::try_from(length - COMMON_LEN).unwrap();
            cut[8..COMMON_LEN].copy_from_slice(&said.to_be_bytes());
            if let Ok(Some((other, _))) = Record::decode(&cut) {
                assert_ne!(other, record);
            }
        }
    }
}

#[test]
fn the_octets_are_those_of_the_standard() {
    let entries = vec![Entry { peer: 2, originated: 5, path_id: None, attributes: vec![0x40, 1, 1, 0] }];
    let prefix = Prefix { sequence: 1, prefix: "10.65.0.0/26".parse().unwrap(), entries };
    let bytes = encode(&record(Body::Prefix(prefix)));
    let expected = [
        &AT.secs.to_be_bytes()[..],
        &[0, 13, 0, 2, 0, 0, 0, 23],
        &[0, 0, 0, 1, 26, 10, 65, 0, 0, 0, 1],
        &[0, 2, 0, 0, 0, 5, 0, 4, 0x40, 1, 1, 0],
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn what_does_not_fit_is_said_and_leaves_nothing_behind() {
    let entries = vec![entry(0, None, Family::Ipv4Unicast); 65_536];
    let prefix = Prefix { sequence: 1, prefix: "10.0.0.0/8".parse().unwrap(), entries };
    let mut out = vec![1];
    let error = record(Body::Prefix(prefix)).encode(&mut out).unwrap_err();
    let text = "routes for a prefix: 65536 do not fit into a record, which has room for 65535";
    assert_eq!((error.to_string().as_str(), out), (text, vec![1]));
}

#[test]
fn faults_say_where_and_what() {
    let mut bytes = encode(&record(bodies()[5].clone()));
    *bytes.last_mut().unwrap() = 9;
    let text = Record::decode(&bytes).unwrap_err().to_string();
    assert_eq!(text, format!("New State at octet {}: 9 is no state", bytes.len() - 2));
}
