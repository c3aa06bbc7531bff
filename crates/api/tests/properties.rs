//! What holds for any resource, row and text.

use api::scalars::{AsNumber, Dscp, GoDuration, MacAddress, Net, Port, Protocol};
use api::{
    AffinityOwner, BlockAffinityState, GlobalNetworkPolicy, IPPool, IPPoolSpec, IpamAllocationAttribute,
    IpamBlock, IpamBlockAffinity, IpamConfig, IpamHandle, Key, Kind, Metadata, Resource, Row, Timestamp,
    documents,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Runs a property on many inputs; a failure prints the smallest input that fails.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?"
}

fn net() -> impl Strategy<Value = Net> {
    let with_prefix = prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(octets, length)| ipnet::IpNet::new(octets.into(), length)),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(octets, length)| ipnet::IpNet::new(octets.into(), length)),
    ];
    (with_prefix, any::<bool>()).prop_map(|(net, is_bare)| {
        let net = net.expect("the prefix length fits the address");
        if is_bare { net.addr().into() } else { net.into() }
    })
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![
        any::<u16>().prop_map(Port::Number),
        (any::<u16>(), any::<u16>()).prop_map(|(a, b)| Port::Range(a.min(b), a.max(b))),
        "[a-zA-Z_.-][a-zA-Z0-9_.-]{0,20}".prop_map(Port::Named),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    use Protocol::*;
    prop_oneof![
        Just(Tcp),
        Just(Udp),
        Just(Icmp),
        Just(IcmpV6),
        Just(Sctp),
        Just(UdpLite),
        (1..=255u8).prop_map(Number)
    ]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000i64).prop_map(|seconds| Timestamp::from_second(seconds).expect("within range"))
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let texts = || btree_map(".{0,12}", ".{0,12}", 0..4);
    (name(), option::of(name()), option::of(timestamp()), texts(), texts(), any::<Option<i64>>()).prop_map(
        |(name, uid, creation_timestamp, labels, annotations, generation)| Metadata {
            uid,
            creation_timestamp,
            labels,
            annotations,
            generation,
            ..Metadata::named(name)
        },
    )
}

fn entity() -> impl Strategy<Value = Value> {
    (vec(net(), 0..3), vec(port(), 0..3), ".{0,20}", option::of(name())).prop_map(
        |(nets, ports, selector, service)| {
            json!({
                "nets": nets, "notPorts": ports, "selector": selector,
                "services": service.map(|name| json!({"name": name})),
            })
        },
    )
}

fn rule() -> impl Strategy<Value = Value> {
    let action = prop::sample::select(vec!["Allow", "Deny", "Log", "Pass"]);
    let version = prop::sample::select(vec![json!(null), json!(4), json!(6)]);
    (action, option::of(protocol()), version, entity(), entity(), any::<Option<i64>>()).prop_map(
        |(action, protocol, version, source, destination, icmp_type)| {
            json!({
                "action": action, "protocol": protocol, "ipVersion": version, "source": source,
                "destination": destination, "icmp": icmp_type.map(|number| json!({"type": number})),
            })
        },
    )
}

/// Quarters: serde_json reads long decimals to within one unit in the last place only.
fn order() -> impl Strategy<Value = f64> {
    any::<i32>().prop_map(|number| f64::from(number) / 4.0)
}

/// Policies are the kind with the most sorts of field in them; they are built as a user writes them.
fn policy() -> impl Strategy<Value = Resource> {
    let spec = (vec(rule(), 0..4), vec(rule(), 0..4), option::of(order()), any::<bool>());
    (metadata(), spec).prop_map(|(metadata, (ingress, egress, order, is_forward))| {
        let value = json!({
            "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": metadata,
            "spec": {"ingress": ingress, "egress": egress, "order": order, "applyOnForward": is_forward},
        });
        Resource::from_value(&value).unwrap_or_else(|violations| panic!("{value}: {violations:?}"))
    })
}

fn pool() -> impl Strategy<Value = Resource> {
    (metadata(), net(), any::<bool>()).prop_map(|(metadata, cidr, nat_outgoing)| {
        let mut pool = IPPool::new(metadata, IPPoolSpec { nat_outgoing, ..IPPoolSpec::new(cidr) });
        pool.apply_defaults();
        pool.into()
    })
}

fn owner() -> impl Strategy<Value = AffinityOwner> {
    (name(), any::<bool>()).prop_map(|(name, is_host)| match is_host {
        true => AffinityOwner::Host(name),
        false => AffinityOwner::Virtual(name),
    })
}

fn block_cidr() -> impl Strategy<Value = ipnet::IpNet> {
    (any::<[u8; 4]>(), 24..=32u8).prop_map(|(octets, length)| {
        ipnet::IpNet::new(octets.into(), length).expect("the length fits").trunc()
    })
}

fn attribute() -> impl Strategy<Value = IpamAllocationAttribute> {
    let texts = || btree_map(name(), ".{0,12}", 0..3);
    (option::of(".{0,12}"), texts(), texts(), option::of(timestamp())).prop_map(
        |(handle_id, secondary, alternate_owner_attrs, released_at)| IpamAllocationAttribute {
            handle_id,
            secondary,
            alternate_owner_attrs,
            released_at,
        },
    )
}

fn block() -> impl Strategy<Value = IpamBlock> {
    let allocated = vec(option::of(0..3usize), 256);
    let sequence = (any::<u64>(), btree_map(0..256usize, any::<u64>(), 0..4));
    (block_cidr(), option::of(owner()), allocated, vec(attribute(), 0..3), sequence, option::of(timestamp()))
        .prop_map(|(cidr, affinity, allocated, attributes, (sequence_number, by_ordinal), claimed)| {
            let mut block = IpamBlock::new(cidr, affinity);
            let size = block.allocations.len();
            block.allocations = allocated[..size].to_vec();
            block.unallocated.retain(|ordinal| allocated[*ordinal].is_none());
            block.unallocated.reverse();
            block.attributes = attributes;
            block.sequence_number = sequence_number;
            block.sequence_number_for_allocation = by_ordinal;
            block.affinity_claim_time = claimed;
            block
        })
}

fn row() -> impl Strategy<Value = Row> {
    let state = prop::sample::select(vec![
        BlockAffinityState::Confirmed,
        BlockAffinityState::Pending,
        BlockAffinityState::PendingDeletion,
    ]);
    let affinity = (owner(), block_cidr(), state, any::<bool>()).prop_map(|(owner, cidr, state, deleted)| {
        IpamBlockAffinity { deleted, ..IpamBlockAffinity::new(owner, cidr, state) }
    });
    let handle = (name(), btree_map(block_cidr(), 0..300usize, 0..4), any::<bool>())
        .prop_map(|(id, blocks, deleted)| IpamHandle { id, blocks, deleted });
    let config = (any::<bool>(), any::<bool>(), any::<u32>(), any::<u32>()).prop_map(
        |(strict_affinity, auto_allocate_blocks, max_blocks_per_host, ip_cooldown_seconds)| IpamConfig {
            strict_affinity,
            auto_allocate_blocks,
            max_blocks_per_host,
            ip_cooldown_seconds,
            ..IpamConfig::default()
        },
    );
    prop_oneof![
        policy().prop_map(Row::Resource),
        pool().prop_map(Row::Resource),
        block().prop_map(Row::Block),
        affinity.prop_map(Row::BlockAffinity),
        handle.prop_map(Row::Handle),
        config.prop_map(Row::IpamConfig),
    ]
}

/// Texts that look like resources gone wrong more often than random characters do.
fn document_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("apiVersion: projectcalico.org/v3\n".to_owned()),
        Just("kind: ".to_owned()),
        Just("metadata:\n  name: a\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  ingress:\n  - action: Allow\n".to_owned()),
        Just("items:\n- ".to_owned()),
        Just("---\n".to_owned()),
        Just("apiVersion: networking.k8s.io/v1\n".to_owned()),
        Just("&a ".to_owned()),
        Just("*a\n".to_owned()),
        Just("<<: ".to_owned()),
        Just("{\"a\": [".to_owned()),
        Just("]}".to_owned()),
        prop::sample::select(Kind::ALL.to_vec()).prop_map(|kind| format!("{kind}\n")),
        Just("NetworkPolicy\n".to_owned()),
        Just("List\n".to_owned()),
        "[ \t\n:\\-\\[\\]{}&*!|>'\"%@`#,?0-9a-z~é]{0,6}",
        any::<String>(),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Any text, or JSON with the names that rows have, in any place.
fn row_text() -> impl Strategy<Value = String> {
    const NAMES: [&str; 8] = ["metadata", "spec", "ingress", "egress", "nets", "order", "action", "labels"];
    let leaf = prop::sample::select(vec!["null", "true", "1", "\"x\"", "[]", "{}"]).prop_map(str::to_owned);
    let json = leaf.prop_recursive(3, 16, 4, |inner| {
        let array =
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(",")));
        let field = (prop::sample::select(NAMES.to_vec()), inner)
            .prop_map(|(name, value)| format!("\"{name}\":{value}"));
        let object =
            prop::collection::vec(field, 0..4).prop_map(|fields| format!("{{{}}}", fields.join(",")));
        prop_oneof![array, object]
    });
    prop_oneof![any::<String>(), json]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_row_survives_being_stored(row in row()) {
        let text = row.encode();
        prop_assert_eq!(Row::decode(&row.key(), &text), Ok(row), "{}", text);
    }

    #[test]
    fn a_policy_survives_yaml_and_json(policy in policy()) {
        let value = policy.to_value();
        for text in [documents::to_yaml(&value), documents::to_json(&value)] {
            let documents = documents::read(&text);
            prop_assert!(documents.is_ok(), "{}\n{:?}", text, documents);
            let read: Vec<Resource> = documents.unwrap().into_iter().map(documents::Document::into_resource).collect();
            prop_assert_eq!(&read, std::slice::from_ref(&policy), "{}", text);
        }
    }

    #[test]
    fn defaults_are_applied_once_and_for_all(policy in policy(), pool in pool()) {
        for mut resource in [policy, pool] {
            resource.apply_defaults();
            let once = resource.clone();
            resource.apply_defaults();
            prop_assert_eq!(resource, once);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in document_text()) {
        let _outcome = documents::load(&text);
    }

    #[test]
    fn no_row_makes_decoding_panic(text in row_text(), kind in prop::sample::select(Kind::ALL.to_vec())) {
        let key = Key::cluster(kind, "a");
        for text in [text.clone(), format!("{{\"spec\":{text}}}"), format!("{{\"metadata\":{text}}}")] {
            let _outcome = Row::decode(&key, &text);
            let _outcome = Row::decode_closed(&key, &text);
            let _outcome = Row::decode(&Key::Handle("h".to_owned()), &text);
        }
    }

    #[test]
    fn a_row_that_can_be_read_is_read_the_same_by_those_who_enforce_it(row in row()) {
        prop_assert_eq!(Row::decode_closed(&row.key(), &row.encode()), Ok((row, Vec::new())));
    }

    #[test]
    fn scalars_are_read_as_they_are_written(
        net in net(), port in port(), protocol in protocol(), number in any::<u32>(), nanos in any::<i64>(),
        octets in any::<[u8; 6]>(), code_point in 0..64u8,
    ) {
        prop_assert_eq!(net.to_string().parse(), Ok(net));
        prop_assert_eq!(port.to_string().parse(), Ok(port));
        prop_assert_eq!(protocol.to_string().parse(), Ok(protocol));
        prop_assert_eq!(number.to_string().parse(), Ok(AsNumber(number)));
        prop_assert_eq!(format!("{}.{}", number >> 16, number & 0xffff).parse(), Ok(AsNumber(number)));
        // The most negative number has no counterpart above zero.
        let duration = GoDuration::from_nanos(nanos.max(-i64::MAX));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        prop_assert_eq!(MacAddress(octets).to_string().parse(), Ok(MacAddress(octets)));
        prop_assert_eq!(code_point.to_string().parse::<Dscp>().map(Dscp::code_point), Ok(code_point));
    }

    #[test]
    fn no_text_makes_a_scalar_panic(text in any::<String>()) {
        let _outcome = (text.parse::<Net>(), text.parse::<Port>(), text.parse::<Protocol>(), text.parse::<AsNumber>());
        let _outcome = (text.parse::<GoDuration>(), text.parse::<MacAddress>(), text.parse::<Dscp>());
    }
}

#[test]
fn the_types_of_a_policy_are_what_it_has_rules_for() {
    let mut policy = GlobalNetworkPolicy::new(Metadata::named("p"), Default::default());
    policy.apply_defaults();
    assert_eq!(policy.spec.types, [api::PolicyType::Ingress]);
    assert_eq!(policy.metadata.labels["projectcalico.org/tier"], "default");
}
