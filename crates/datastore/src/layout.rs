//! Calico's etcd v3 key layout: where each row lives in a flat, ordered space of text keys.
//!
//! | row | key |
//! |---|---|
//! | resource | `/calico/resources/v3/projectcalico.org/<plural>/[<namespace>/]<name>` |
//! | IPAM block | `/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26` |
//! | affinity of a host | `/calico/ipam/v2/host/<node>/ipv4/block/10.0.0.0-26` |
//! | affinity of something else | `/calico/ipam/v2/virtual/<name>/ipv4/block/10.0.0.0-26` |
//! | IPAM handle | `/calico/ipam/v2/handle/<id>` |
//! | IPAM configuration | `/calico/ipam/v2/config` |
//! | change to be confirmed (ours) | `/calico/tortie/v1/confirmation/<id>` |
//!
//! The mapping is one to one: [`decode`] accepts exactly what [`encode`] makes. A slash or a percent sign in a name,
//! which Calico's own names never have, is written `%2f` or `%25`, so that a name can not reach into another prefix.

use std::net::IpAddr;

use api::{AffinityOwner, Key, Kind};
use ipnet::IpNet;

use crate::Scope;

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
const BLOCKS: &str = "/calico/ipam/v2/assignment/";
const HOSTS: &str = "/calico/ipam/v2/host/";
const VIRTUALS: &str = "/calico/ipam/v2/virtual/";
const HANDLES: &str = "/calico/ipam/v2/handle/";
const CONFIG: &str = "/calico/ipam/v2/config";
const CONFIRMATIONS: &str = "/calico/tortie/v1/confirmation/";

/// The text key of a row.
pub fn encode(key: &Key) -> String {
    match key {
        Key::Resource { kind, namespace: Some(namespace), name } => {
            format!("{RESOURCES}{}/{}/{}", plural(*kind), escape(namespace), escape(name))
        }
        Key::Resource { kind, namespace: None, name } => {
            format!("{RESOURCES}{}/{}", plural(*kind), escape(name))
        }
        Key::Block(cidr) => format!("{BLOCKS}{}", block(cidr)),
        Key::BlockAffinity { owner: AffinityOwner::Host(name), cidr } => {
            format!("{HOSTS}{}/{}", escape(name), block(cidr))
        }
        Key::BlockAffinity { owner: AffinityOwner::Virtual(name), cidr } => {
            format!("{VIRTUALS}{}/{}", escape(name), block(cidr))
        }
        Key::Handle(id) => format!("{HANDLES}{}", escape(id)),
        Key::IpamConfig => CONFIG.to_owned(),
        Key::Confirmation(id) => format!("{CONFIRMATIONS}{}", escape(id)),
    }
}

/// The row that a text key identifies; `None` if it is none of the rows above (Calico keeps other things under
/// `/calico/` too, such as Felix's status).
pub fn decode(text: &str) -> Option<Key> {
    if let Some(rest) = text.strip_prefix(RESOURCES) {
        return decode_resource(rest);
    }
    if let Some(rest) = text.strip_prefix(BLOCKS) {
        return decode_block(rest).map(Key::Block);
    }
    if let Some(rest) = text.strip_prefix(HANDLES) {
        return unescape(rest).map(Key::Handle);
    }
    if let Some(rest) = text.strip_prefix(CONFIRMATIONS) {
        return unescape(rest).map(Key::Confirmation);
    }
    if let Some(rest) = text.strip_prefix(HOSTS) {
        return decode_affinity(rest, AffinityOwner::Host);
    }
    if let Some(rest) = text.strip_prefix(VIRTUALS) {
        return decode_affinity(rest, AffinityOwner::Virtual);
    }
    (text == CONFIG).then_some(Key::IpamConfig)
}

/// A half-open range of text keys, `start <= key < end` in byte order, as etcd's `key` and `range_end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that may be in it.
    pub start: String,
    /// The first key after it.
    pub end: String,
}

impl KeyRange {
    /// All keys that begin with `prefix`, which ends in a slash.
    fn below(prefix: String) -> Self {
        debug_assert!(prefix.ends_with('/'), "a prefix names a folder");
        // `0` is the character after `/`.
        let end = format!("{}0", &prefix[..prefix.len() - 1]);
        Self { start: prefix, end }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &str) -> bool {
        self.start.as_str() <= key && key < self.end.as_str()
    }
}

/// The ranges that hold exactly the rows of a scope (and perhaps keys that [`decode`] does not know).
pub fn ranges(scope: &Scope) -> Vec<KeyRange> {
    match scope {
        Scope::Resources { kind, namespace: None } => {
            vec![KeyRange::below(format!("{RESOURCES}{}/", plural(*kind)))]
        }
        Scope::Resources { kind, namespace: Some(namespace) } => {
            vec![KeyRange::below(format!("{RESOURCES}{}/{}/", plural(*kind), escape(namespace)))]
        }
        Scope::Blocks => vec![KeyRange::below(BLOCKS.to_owned())],
        Scope::BlockAffinities { host: None } => {
            vec![KeyRange::below(HOSTS.to_owned()), KeyRange::below(VIRTUALS.to_owned())]
        }
        Scope::BlockAffinities { host: Some(host) } => {
            let name = escape(host);
            vec![KeyRange::below(format!("{HOSTS}{name}/")), KeyRange::below(format!("{VIRTUALS}{name}/"))]
        }
        Scope::Handles => vec![KeyRange::below(HANDLES.to_owned())],
        Scope::IpamConfig => vec![KeyRange { start: CONFIG.to_owned(), end: format!("{CONFIG}\0") }],
        Scope::Confirmations => vec![KeyRange::below(CONFIRMATIONS.to_owned())],
    }
}

/// The folder of a kind. Calico calls that of IPAMConfiguration `ipamconfigs`, unlike its CRD.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::IPAMConfiguration => "ipamconfigs",
        _ => kind.plural(),
    }
}

fn decode_resource(rest: &str) -> Option<Key> {
    let (folder, rest) = rest.split_once('/')?;
    let kind = Kind::ALL.iter().copied().find(|kind| plural(*kind) == folder)?;
    if kind.is_namespaced() {
        let (namespace, name) = rest.split_once('/')?;
        Some(Key::namespaced(kind, unescape(namespace)?, unescape(name)?))
    } else {
        Some(Key::cluster(kind, unescape(rest)?))
    }
}

fn decode_affinity(rest: &str, owner: fn(String) -> AffinityOwner) -> Option<Key> {
    let (name, rest) = rest.split_once('/')?;
    Some(Key::BlockAffinity { owner: owner(unescape(name)?), cidr: decode_block(rest)? })
}

/// `ipv4/block/10.0.0.0-26`.
fn block(cidr: &IpNet) -> String {
    let family = match cidr {
        IpNet::V4(_) => "ipv4",
        IpNet::V6(_) => "ipv6",
    };
    format!("{family}/block/{}-{}", cidr.addr(), cidr.prefix_len())
}

fn decode_block(rest: &str) -> Option<IpNet> {
    let (_, cidr) = rest.split_once("/block/")?;
    let (address, length) = cidr.rsplit_once('-')?;
    let cidr = IpNet::new(address.parse::<IpAddr>().ok()?, length.parse().ok()?).ok()?;
    // Only the canonical spelling: two keys for one block would be two blocks.
    (block(&cidr) == rest).then_some(cidr)
}

fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

fn unescape(text: &str) -> Option<String> {
    let name = text.replace("%2f", "/").replace("%25", "%");
    (escape(&name) == text).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_spelled_as_calico_spells_them() {
        let cidr4: IpNet = "10.1.2.64/26".parse().expect("a valid block");
        let cidr6: IpNet = "fd00:1::40/122".parse().expect("a valid block");
        let host = AffinityOwner::Host("node-1.example.com".into());
        let virtual_owner = AffinityOwner::Virtual("load-balancer".into());
        let cases = [
            (Key::cluster(Kind::IPPool, "v4"), "/calico/resources/v3/projectcalico.org/ippools/v4"),
            (
                Key::namespaced(Kind::NetworkPolicy, "default", "knp.default.web"),
                "/calico/resources/v3/projectcalico.org/networkpolicies/default/knp.default.web",
            ),
            (
                Key::cluster(Kind::IPAMConfiguration, "default"),
                "/calico/resources/v3/projectcalico.org/ipamconfigs/default",
            ),
            (Key::Block(cidr4), "/calico/ipam/v2/assignment/ipv4/block/10.1.2.64-26"),
            (Key::Block(cidr6), "/calico/ipam/v2/assignment/ipv6/block/fd00:1::40-122"),
            (
                Key::BlockAffinity { owner: host, cidr: cidr4 },
                "/calico/ipam/v2/host/node-1.example.com/ipv4/block/10.1.2.64-26",
            ),
            (
                Key::BlockAffinity { owner: virtual_owner, cidr: cidr6 },
                "/calico/ipam/v2/virtual/load-balancer/ipv6/block/fd00:1::40-122",
            ),
            (Key::Handle("k8s-pod-network.0a1b".into()), "/calico/ipam/v2/handle/k8s-pod-network.0a1b"),
            (Key::IpamConfig, "/calico/ipam/v2/config"),
            (Key::Confirmation("5f3a".into()), "/calico/tortie/v1/confirmation/5f3a"),
        ];
        for (key, text) in cases {
            assert_eq!(encode(&key), text);
            assert_eq!(decode(text), Some(key), "{text}");
        }
    }

    #[test]
    fn foreign_and_ambiguous_keys_are_no_rows() {
        for text in [
            "",
            "/calico/felix/v2/no-region/host/node-1/status",
            "/calico/resources/v3/projectcalico.org/unicorns/a",
            "/calico/resources/v3/projectcalico.org/ipamconfigurations/default",
            "/calico/resources/v3/projectcalico.org/networkpolicies/without-namespace",
            "/calico/resources/v3/projectcalico.org/ippools/a/b",
            "/calico/ipam/v2/assignment/ipv6/block/10.0.0.0-26",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-33",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-026",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:0::-122",
            "/calico/ipam/v2/handle/a/b",
            "/calico/ipam/v2/handle/a%2F",
            "/calico/ipam/v2/config/more",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9.-]{1,20}", ".{0,12}", "[%/25f]{0,8}"]
    }

    fn cidr() -> impl Strategy<Value = IpNet> {
        let address =
            prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from),];
        (address, 0u8..=32)
            .prop_map(|(address, length)| IpNet::new(address, length).expect("32 fits both families"))
    }

    fn key() -> impl Strategy<Value = Key> {
        let owner =
            prop_oneof![name().prop_map(AffinityOwner::Host), name().prop_map(AffinityOwner::Virtual),];
        prop_oneof![
            (prop::sample::select(Kind::ALL), name(), name()).prop_map(|(kind, namespace, name)| {
                let namespace = kind.is_namespaced().then_some(namespace);
                Key::Resource { kind, namespace, name }
            }),
            cidr().prop_map(Key::Block),
            (owner, cidr()).prop_map(|(owner, cidr)| Key::BlockAffinity { owner, cidr }),
            name().prop_map(Key::Handle),
            Just(Key::IpamConfig),
            name().prop_map(Key::Confirmation),
        ]
    }

    fn scope() -> impl Strategy<Value = Scope> {
        prop_oneof![
            (prop::sample::select(Kind::ALL), prop::option::of(name())).prop_map(|(kind, namespace)| {
                Scope::Resources { kind, namespace: namespace.filter(|_| kind.is_namespaced()) }
            }),
            Just(Scope::Blocks),
            prop::option::of(name()).prop_map(|host| Scope::BlockAffinities { host }),
            Just(Scope::Handles),
            Just(Scope::IpamConfig),
            Just(Scope::Confirmations),
        ]
    }

    proptest! {
        #[test]
        fn every_key_survives_the_round_trip(key in key()) {
            prop_assert_eq!(decode(&encode(&key)), Some(key));
        }

        #[test]
        fn decode_accepts_only_what_encode_makes(text in "/calico/[a-z0-9/%.:-]{0,80}") {
            if let Some(key) = decode(&text) {
                prop_assert_eq!(encode(&key), text);
            }
        }

        #[test]
        fn ranges_hold_exactly_the_rows_of_their_scope(key in key(), scope in scope()) {
            let text = encode(&key);
            let in_range = ranges(&scope).iter().any(|range| range.contains(&text));
            prop_assert_eq!(in_range, scope.contains(&key));
        }

        #[test]
        fn a_scope_made_from_the_key_contains_it(key in key()) {
            let scope = match &key {
                Key::Resource { kind, namespace, .. } => {
                    Scope::Resources { kind: *kind, namespace: namespace.clone() }
                }
                Key::Block(_) => Scope::Blocks,
                Key::BlockAffinity { owner, .. } => {
                    Scope::BlockAffinities { host: Some(owner.name().to_owned()) }
                }
                Key::Handle(_) => Scope::Handles,
                Key::IpamConfig => Scope::IpamConfig,
                Key::Confirmation(_) => Scope::Confirmations,
            };
            let text = encode(&key);
            prop_assert!(ranges(&scope).iter().any(|range| range.contains(&text)));
        }
    }
}
