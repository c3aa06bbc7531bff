use std::net::Ipv6Addr;

use super::*;
use crate::iana::{cease, error};
use crate::observe::Timestamp;
use crate::packet::capability::FamilyCode;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::packet::update::end_of_rib;
use crate::types::{Asn, Family, RouterId};

fn header(address: &str, view: View, instance: Instance) -> PeerHeader {
    PeerHeader {
        view,
        legacy_as_path: false,
        instance,
        address: address.parse().unwrap(),
        asn: Asn(4_200_000_001),
        router_id: RouterId([10, 0, 0, 2].into()),
        timestamp: Timestamp { secs: 1_700_000_000, micros: 999_999 },
    }
}

fn open() -> Vec<u8> {
    let open = Open {
        my_as: 64512,
        hold_time_secs: 90,
        router_id: RouterId([10, 0, 0, 1].into()),
        capabilities: Vec::new(),
        optional_parameters: 0,
        extended_optional_parameters: false,
    };
    open.encode()
}

fn up(local: &str) -> PeerUp {
    PeerUp {
        local_address: local.parse().unwrap(),
        local_port: 179,
        remote_port: 40000,
        sent_open: open(),
        received_open: open(),
        information: vec![Information::TableName("global".into())],
    }
}

fn messages() -> Vec<Message> {
    let pre = View::AdjRibIn { post_policy: false };
    let post = View::AdjRibIn { post_policy: true };
    let v4 = header("10.0.0.2", pre, Instance::Global);
    let v6 = header("2001:db8::2", post, Instance::Distinguished([0, 0, 0xfc, 0, 0, 0, 0, 7]));
    let legacy = PeerHeader { legacy_as_path: true, ..v4 };
    let cease = Notification::new(error::CEASE, cease::SHUTDOWN).encode();
    let out = View::AdjRibOut { post_policy: true };
    let family = FamilyCode::from(Family::Ipv6Unicast);
    vec![
        Message::Initiation(vec![
            Information::Text("ä".into()),
            Information::Description("a speaker".into()),
            Information::Name("node-1".into()),
            Information::Unknown { kind: 9, value: vec![1, 2, 3] },
        ]),
        Message::PeerUp(v4, up("10.0.0.1")),
        Message::PeerUp(v6, up("2001:db8::1")),
        Message::PeerUp(header("::", View::LocRib { filtered: false }, Instance::Global), up("::")),
        Message::PeerDown(v4, DownReason::LocalNotification(cease.clone())),
        Message::PeerDown(v4, DownReason::LocalEvent(2)),
        Message::PeerDown(v4, DownReason::RemoteNotification(cease)),
        Message::PeerDown(v6, DownReason::RemoteClosed),
        Message::PeerDown(v6, DownReason::NoLongerMonitored),
        Message::PeerDown(v6, DownReason::LocRibEnds(vec![Information::TableName("t".into())])),
        Message::PeerDown(v6, DownReason::Unknown { reason: 77, data: vec![5] }),
        Message::RouteMonitoring(legacy, end_of_rib(Family::Ipv4Unicast)),
        Message::RouteMonitoring(
            header("10.0.0.2", out, Instance::Local([1; 8])),
            end_of_rib(Family::Ipv6Unicast),
        ),
        Message::Statistics(
            v4,
            vec![
                Statistic { kind: statistic::REJECTED, value: Value::Counter(7) },
                Statistic { kind: statistic::ADJ_RIB_IN, value: Value::Gauge(1 << 40) },
                Statistic { kind: statistic::ADJ_RIB_IN_OF_FAMILY, value: Value::OfFamily(family, 3) },
                Statistic { kind: 60_000, value: Value::Unknown(vec![1]) },
            ],
        ),
        Message::Termination(vec![
            Farewell::Text("bye".into()),
            Farewell::Reason(farewell::ADMINISTRATIVE),
            Farewell::Unknown { kind: 4, value: vec![] },
        ]),
        Message::Unknown { kind: 6, body: vec![1, 2] },
    ]
}

#[test]
fn every_message_survives_a_round_trip_alone_and_in_a_stream() {
    let mut stream = Vec::new();
    for message in messages() {
        let mut alone = Vec::new();
        message.encode(&mut alone);
        assert_eq!(Message::decode(&alone), Ok(Some((message.clone(), alone.len()))));
        message.encode(&mut stream);
    }
    let (mut rest, mut read) = (&stream[..], Vec::new());
    while let Some((message, length)) = Message::decode(rest).unwrap() {
        read.push(message);
        rest = &rest[length..];
    }
    assert_eq!((read, rest), (messages(), &[][..]));
}

#[test]
fn a_message_that_is_not_whole_is_waited_for() {
    for message in messages() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for length in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..length]), Ok(None), "{length} octets of {message:?}");
        }
    }
}

#[test]
fn a_message_that_is_cut_but_says_it_is_whole_is_an_error_or_a_shorter_one() {
    for message in messages() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for length in COMMON_LEN..bytes.len() {
            let mut cut = bytes[..length].to_vec();
            cut[1..5].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            match Message::decode(&cut) {
                Ok(Some((other, _))) => assert_ne!(other, message),
                Ok(None) => panic!("{length} octets of {message:?} are whole"),
                Err(error) => assert!(error.offset <= length, "{error}"),
            }
        }
    }
}

#[test]
fn the_octets_are_those_of_the_standard() {
    let peer = header("10.0.0.2", View::AdjRibIn { post_policy: true }, Instance::Global);
    let mut bytes = Vec::new();
    Message::PeerDown(peer, DownReason::RemoteClosed).encode(&mut bytes);
    let expected = [
        &[3, 0, 0, 0, 49, 2, 0, 0x40][..],
        &[0; 8],
        &[0; 12],
        &[10, 0, 0, 2, 0xfa, 0x56, 0xea, 0x01, 10, 0, 0, 2],
        &1_700_000_000_u32.to_be_bytes(),
        &999_999_u32.to_be_bytes(),
        &[4],
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn faults_say_where_and_what() {
    let fault = |bytes: &[u8]| Message::decode(bytes).unwrap_err().to_string();
    assert_eq!(fault(&[4, 0, 0, 0, 6, 4]), "Version at octet 0: 4 is not 3");
    let long = "Message Length at octet 1: 4294967295 is outside of what is allowed";
    assert_eq!(fault(&[3, 255, 255, 255, 255, 4]), long);
    let tlv = "Value at octet 10: 5 octets are needed, 1 are left";
    assert_eq!(fault(&[3, 0, 0, 0, 11, 4, 0, 0, 0, 5, 1]), tlv);
    let mut bytes = Vec::new();
    let peer = header("10.0.0.2", View::AdjRibIn { post_policy: true }, Instance::Global);
    Message::Statistics(peer, Vec::new()).encode(&mut bytes);
    bytes[COMMON_LEN + 42 + 3] = 1;
    assert_eq!(fault(&bytes), "Stats Count at octet 48: 1, but there are 0");
    bytes[COMMON_LEN] = 9;
    assert_eq!(fault(&bytes), "Peer Type at octet 6: 9 is not known");
}

#[test]
fn an_address_of_the_other_family_is_mapped() {
    let peer = header("2001:db8::2", View::AdjRibIn { post_policy: false }, Instance::Global);
    let mut bytes = Vec::new();
    Message::PeerUp(peer, up("10.0.0.1")).encode(&mut bytes);
    let Ok(Some((Message::PeerUp(_, read), _))) = Message::decode(&bytes) else { panic!("{bytes:?}") };
    let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(read.local_address, mapped);
}
