//! A little of everything that BMP and MRT have.

use std::net::IpAddr;

use bgp::observe::Timestamp;
use bgp::observe::bmp::{
    DownReason, Farewell, Information, Instance, Message, PeerHeader, PeerUp, Statistic, Value, View,
};
use bgp::observe::mrt::{Body, Ends, Entry, IndexedPeer, PeerIndex, Prefix, Record, StateChange, Traffic};
use bgp::packet::update::end_of_rib;
use bgp::session::SessionState;
use bgp::{Asn, Family, RouterId};

/// AS_PATH empty, next hop 10.0.0.2, ORIGIN IGP.
const ATTRIBUTES: [u8; 14] = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 0, 0, 2];
/// As few octets as an OPEN may have.
const OPEN: [u8; 10] = [4, 0xfc, 0, 0, 90, 10, 0, 0, 2, 0];

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn open() -> Vec<u8> {
    [&[0xff; 16][..], &[0, 29, 1], &OPEN].concat()
}

/// A stream with a message of each type.
pub(super) fn bmp() -> Vec<u8> {
    let peer = PeerHeader {
        view: View::AdjRibIn { post_policy: false },
        legacy_as_path: false,
        instance: Instance::Global,
        address: address(2),
        asn: Asn(64512),
        router_id: RouterId([10, 0, 0, 2].into()),
        timestamp: Timestamp::UNKNOWN,
    };
    let up = PeerUp {
        local_address: address(1),
        local_port: 179,
        remote_port: 40_000,
        sent_open: open(),
        received_open: open(),
        information: vec![Information::TableName("global".to_owned())],
    };
    let messages = [
        Message::Initiation(vec![Information::Name("node".to_owned())]),
        Message::PeerUp(peer, up),
        Message::RouteMonitoring(peer, end_of_rib(Family::Ipv4Unicast)),
        Message::Statistics(peer, vec![Statistic { kind: 0, value: Value::Counter(7) }]),
        Message::PeerDown(peer, DownReason::LocalEvent(24)),
        Message::Termination(vec![Farewell::Text("bye".to_owned()), Farewell::Reason(0)]),
    ];
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

/// A table of one prefix, a message, and a change of state.
pub(super) fn mrt() -> Vec<u8> {
    let ends =
        Ends { peer_as: Asn(64512), local_as: Asn(64512), interface: 0, peer: address(2), local: address(1) };
    let router_id = RouterId([10, 0, 0, 2].into());
    let peers = vec![IndexedPeer { router_id, address: address(2), asn: Asn(64512) }];
    let entry = Entry { peer: 0, originated: 7, path_id: None, attributes: ATTRIBUTES.to_vec() };
    let prefix = "10.65.0.0/26".parse().expect("a prefix");
    let message = end_of_rib(Family::Ipv6Unicast);
    let bodies = [
        Body::PeerIndex(PeerIndex { collector: router_id, view: String::new(), peers }),
        Body::Prefix(Prefix { sequence: 0, prefix, entries: vec![entry] }),
        Body::Message(Traffic { ends, is_ours: false, add_path: false, as4: true, message }),
        Body::StateChange(StateChange {
            ends,
            old: SessionState::OpenConfirm,
            new: SessionState::Established,
        }),
    ];
    let mut out = Vec::new();
    for body in bodies {
        Record { timestamp: Timestamp::UNKNOWN, body }.encode(&mut out).expect("it fits");
    }
    out
}
