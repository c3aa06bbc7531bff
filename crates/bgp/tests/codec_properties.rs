//! Properties of the codecs: nothing panics, and what is written is read back.

use bgp::FamilySet;
use bgp::packet::attribute::{AsPath, Attribute, AttributeValue, Community, LargeCommunity, Origin};
use bgp::packet::update::Update;
use bgp::packet::{Context, Framer, Message, PeerKind};
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

fn contexts() -> impl Strategy<Value = Context> {
    (any::<[bool; 5]>(), any::<bool>()).prop_map(|([as4, v6, add_path, extended, enhanced], internal)| {
        Context {
            as4,
            families: if v6 { FamilySet::ALL } else { FamilySet::from_iter([bgp::Family::Ipv4Unicast]) },
            add_path: if add_path { FamilySet::ALL } else { FamilySet::EMPTY },
            extended_next_hop: extended,
            extended_message: extended,
            enhanced_refresh: enhanced,
            ..Context::initial(if internal { PeerKind::Internal } else { PeerKind::External })
        }
    })
}

/// A message with a correct header around any body.
fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend_from_slice(&u16::try_from(19 + body.len()).expect("short").to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn attributes() -> impl Strategy<Value = Vec<AttributeValue>> {
    let path = proptest::collection::vec(1..u32::MAX, 0..20)
        .prop_map(|asns| AttributeValue::AsPath(AsPath::sequence(asns)));
    let communities = proptest::collection::vec(any::<u32>(), 1..300)
        .prop_map(|list| AttributeValue::Communities(list.into_iter().map(Community).collect()));
    let large = proptest::collection::vec(any::<[u32; 3]>(), 1..30).prop_map(|list| {
        AttributeValue::LargeCommunities(list.into_iter().map(|[a, b, c]| LargeCommunity(a, b, c)).collect())
    });
    let unknown = (100u8..250, proptest::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(code, value)| AttributeValue::Unknown { code, value });
    (path, any::<u32>(), communities, large, unknown).prop_map(|(path, med, communities, large, unknown)| {
        let origin = AttributeValue::Origin(Origin::Egp);
        let next_hop = AttributeValue::NextHop([192, 0, 2, 1].into());
        vec![
            origin,
            path,
            next_hop,
            AttributeValue::Med(med),
            AttributeValue::LocalPref(7),
            communities,
            large,
            unknown,
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), context in contexts()) {
        let _ = Message::decode(&bytes, &context);
    }

    #[test]
    fn any_body_is_a_message_or_an_error(
        kind in 0u8..8,
        body in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..8, Just(0x40), Just(0xc0), Just(14)], 0..120),
        context in contexts(),
    ) {
        if let Ok(Message::Update(received)) = Message::decode(&framed(kind, &body), &context) {
            let again = received.update.encode(&context);
            if let Ok(Message::Update(second)) = Message::decode(&again, &context) {
                prop_assert_eq!(&second.update.nlri, &received.update.nlri);
                prop_assert_eq!(&second.update.withdrawn, &received.update.withdrawn);
            }
            let _ = received.update.effective();
        }
    }

    #[test]
    fn a_changed_octet_never_panics(at in 0usize..400, to in any::<u8>(), values in attributes(), context in contexts()) {
        let attributes = values.into_iter().map(Attribute::new).collect();
        let nlri = vec!["203.0.113.0/24".parse::<ipnet::IpNet>().unwrap().into()];
        let mut bytes = Update { attributes, nlri, ..Update::default() }.encode(&context);
        let index = at % bytes.len();
        bytes[index] = to;
        let _ = Message::decode(&bytes, &context);
    }

    #[test]
    fn updates_are_read_as_written(
        values in attributes(),
        v4 in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..50),
        v6 in proptest::collection::vec((any::<u128>(), 0u8..=128), 1..50),
    ) {
        use bgp::packet::attribute::{MpReach, MpUnreach};
        let context = Context { as4: true, families: FamilySet::ALL, ..Context::initial(PeerKind::Internal) };
        let v4: Vec<_> = v4.iter()
            .map(|(address, length)| ipnet::IpNet::from(Ipv4Net::new((*address).into(), *length).unwrap().trunc()).into())
            .collect();
        let v6: Vec<_> = v6.iter()
            .map(|(address, length)| ipnet::IpNet::from(Ipv6Net::new((*address).into(), *length).unwrap().trunc()).into())
            .collect();
        let mut values = values;
        let family = bgp::Family::Ipv6Unicast;
        let next_hops = vec!["2001:db8::1".parse().unwrap(), "fe80::1".parse().unwrap()];
        values.push(AttributeValue::MpReach(MpReach::Routes { family, next_hops, nlri: v6.clone() }));
        values.push(AttributeValue::MpUnreach(MpUnreach::Routes { family, nlri: v6 }));
        let mut attributes: Vec<Attribute> = values.into_iter().map(Attribute::new).collect();
        let update = Update { withdrawn: v4.clone(), attributes: attributes.clone(), nlri: v4 };
        let Message::Update(received) = Message::decode(&update.encode(&context), &context).unwrap() else {
            panic!("an UPDATE")
        };
        // The flags of a long attribute have the extended-length bit.
        for (written, read) in attributes.iter_mut().zip(&received.update.attributes) {
            written.flags |= read.flags & 0x10;
        }
        prop_assert_eq!(received.faults, vec![]);
        prop_assert_eq!(received.update, Update { attributes, ..update });
    }

    #[test]
    fn a_stream_gives_the_same_messages_however_it_is_cut(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 4..60), 1..8),
        size in 1usize..100,
    ) {
        let context = Context::initial(PeerKind::Internal);
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(2, body)).collect();
        let mut framer = Framer::default();
        let mut seen = Vec::new();
        for chunk in stream.chunks(size) {
            let mut input = chunk;
            while let Some(message) = framer.next(&mut input, &context).unwrap() {
                seen.push(message.into_owned());
            }
        }
        let expected: Vec<Vec<u8>> = bodies.iter().map(|body| framed(2, body)).collect();
        prop_assert_eq!(seen, expected);
    }
}
