//! The members of IP sets, by family and in the shape that the kernel keeps.
//!
//! A set that holds only single addresses becomes a hash, which costs the same whatever its size; one network in it makes it
//! an interval set. Which of the two follows from the members alone, so a restarted node comes to the same answer, and it
//! is part of the set's name in the kernel: a set that changes shape is another set, and the rules that look into it are
//! rewritten in the same transaction.
//!
//! Interval sets must not overlap. Networks nest or are disjoint, so the sets hold the *widest* members, and a change
//! touches just the members whose cover changes.

mod widest;

use std::collections::BTreeSet;
use std::net::IpAddr;

use calc::contract::{IpSetId, IpSetKind, IpSetMember, IpVersion};
use ipnet::IpNet;

pub use widest::Widest;

/// How the kernel keeps a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shape {
    /// Addresses: a hash.
    Addresses,
    /// Networks: intervals.
    Networks,
    /// (address, protocol, port): a hash of concatenations.
    Ports,
    /// (network, protocol, port): intervals of concatenations.
    NetworkPorts,
}

/// What a set holds in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSet {
    kind: IpSetKind,
    /// Of kind `Net`.
    nets: Widest,
    /// Of kind `NetPort`, by protocol and port: each a set of networks that must not overlap.
    ports: std::collections::BTreeMap<(u8, u16), Widest>,
    /// Members that are no single address.
    networks: usize,
}

/// A member as the kernel keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// An address (full length) or a network.
    pub net: IpNet,
    /// Protocol and port, in the shapes that have them.
    pub port: Option<(u8, u16)>,
}

/// What has to change in the kernel's set, when its shape stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// To add.
    pub added: BTreeSet<Member>,
    /// To remove.
    pub removed: BTreeSet<Member>,
}

impl IpSet {
    /// A set of a kind without members.
    pub fn new(kind: IpSetKind) -> Self {
        Self { kind, nets: Widest::default(), ports: std::collections::BTreeMap::new(), networks: 0 }
    }

    /// The shape that the members ask for.
    pub fn shape(&self) -> Shape {
        match (self.kind, self.networks > 0) {
            (IpSetKind::Net, false) => Shape::Addresses,
            (IpSetKind::Net, true) => Shape::Networks,
            (IpSetKind::NetPort, false) => Shape::Ports,
            (IpSetKind::NetPort, true) => Shape::NetworkPorts,
        }
    }

    /// What the kernel's set has to hold.
    pub fn members(&self) -> BTreeSet<Member> {
        let nets = self.nets.widest().map(|net| Member { net, port: None });
        let ports = self
            .ports
            .iter()
            .flat_map(|(port, nets)| nets.widest().map(|net| Member { net, port: Some(*port) }));
        nets.chain(ports).collect()
    }

    /// Whether an address is in the set, or with that protocol and port.
    pub fn holds(&self, address: IpAddr, port: Option<(u8, u16)>) -> bool {
        match port {
            None => self.nets.covers(address),
            Some(port) => self.ports.get(&port).is_some_and(|nets| nets.covers(address)),
        }
    }

    /// Removes, then adds; the answer is what changes in the kernel's set.
    pub fn change<'a>(
        &mut self,
        removed: impl IntoIterator<Item = &'a IpSetMember>,
        added: impl IntoIterator<Item = &'a IpSetMember>,
        version: IpVersion,
    ) -> Delta {
        let mut delta = Delta::default();
        for member in removed {
            self.one(member, version, false, &mut delta);
        }
        for member in added {
            self.one(member, version, true, &mut delta);
        }
        delta
    }

    fn one(&mut self, member: &IpSetMember, version: IpVersion, add: bool, delta: &mut Delta) {
        let (net, port) = match member {
            IpSetMember::Net(net) => (*net, None),
            IpSetMember::NetPort { net, protocol, port } => (*net, Some((*protocol, *port))),
        };
        if IpVersion::of(net.addr()) != version {
            return;
        }
        let nets = match port {
            None => &mut self.nets,
            Some(key) => self.ports.entry(key).or_default(),
        };
        let Some(change) = (if add { nets.insert(net) } else { nets.remove(net) }) else { return };
        if net.prefix_len() != net.max_prefix_len() {
            if add { self.networks += 1 } else { self.networks -= 1 }
        }
        if let Some(key) = port.filter(|key| self.ports.get(key).is_some_and(Widest::is_empty)) {
            self.ports.remove(&key);
        }
        for net in change.gone {
            delta.remove(Member { net, port });
        }
        for net in change.come {
            delta.add(Member { net, port });
        }
    }
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    fn add(&mut self, member: Member) {
        if !self.removed.remove(&member) {
            self.added.insert(member);
        }
    }

    fn remove(&mut self, member: Member) {
        if !self.added.remove(&member) {
            self.removed.insert(member);
        }
    }
}

/// The set's name in the kernel (datapath.md 4.3: `cali40<id>`), where the shape is part of it. A colon is not a character that
/// nft can read back in a name.
pub fn kernel_name(id: &IpSetId, shape: Shape, version: IpVersion) -> String {
    let family = match version {
        IpVersion::V4 => '4',
        IpVersion::V6 => '6',
    };
    let suffix = match shape {
        Shape::Addresses | Shape::Ports => "",
        Shape::Networks | Shape::NetworkPorts => "-net",
    };
    let id: String =
        id.0.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    format!("cali{family}0{id}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpSetMember {
        IpSetMember::Net(text.parse().unwrap())
    }

    fn members(set: &IpSet) -> Vec<String> {
        set.members().iter().map(|member| member.net.to_string()).collect()
    }

    fn apply(set: &mut BTreeSet<Member>, delta: &Delta) {
        for member in &delta.removed {
            assert!(set.remove(member), "{member:?} was not there");
        }
        for member in &delta.added {
            assert!(set.insert(*member), "{member:?} was there");
        }
    }

    #[test]
    fn one_network_makes_an_interval_set_and_its_removal_a_hash_again() {
        let mut set = IpSet::new(IpSetKind::Net);
        set.change([], &[net("10.0.0.1/32"), net("10.0.0.2/32")], IpVersion::V4);
        assert_eq!(set.shape(), Shape::Addresses);
        set.change([], &[net("10.0.0.0/24")], IpVersion::V4);
        assert_eq!(set.shape(), Shape::Networks);
        assert_eq!(members(&set), ["10.0.0.0/24"]);
        set.change(&[net("10.0.0.0/24")], &[], IpVersion::V4);
        assert_eq!(set.shape(), Shape::Addresses);
        assert_eq!(members(&set), ["10.0.0.1/32", "10.0.0.2/32"]);
    }

    #[test]
    fn members_of_the_other_family_do_not_count() {
        let mut set = IpSet::new(IpSetKind::Net);
        set.change([], &[net("2001:db8::/32"), net("10.0.0.1/32")], IpVersion::V4);
        assert_eq!((set.shape(), members(&set)), (Shape::Addresses, vec!["10.0.0.1/32".to_owned()]));
    }

    #[test]
    fn named_ports_are_apart_from_each_other() {
        let port = |net: &str, port| IpSetMember::NetPort { net: net.parse().unwrap(), protocol: 6, port };
        let mut set = IpSet::new(IpSetKind::NetPort);
        set.change([], &[port("10.0.0.1/32", 80), port("10.0.0.1/32", 81)], IpVersion::V4);
        assert_eq!((set.shape(), set.members().len()), (Shape::Ports, 2));
        set.change([], &[port("10.0.0.0/24", 80)], IpVersion::V4);
        assert_eq!(set.shape(), Shape::NetworkPorts);
        assert_eq!(members(&set), ["10.0.0.0/24", "10.0.0.1/32"]);
    }

    #[test]
    fn names_carry_the_shape_and_only_characters_that_nft_reads() {
        let id = IpSetId("s:a_B-c".into());
        assert_eq!(kernel_name(&id, Shape::Addresses, IpVersion::V4), "cali40s-a_B-c");
        assert_eq!(kernel_name(&id, Shape::Networks, IpVersion::V6), "cali60s-a_B-c-net");
    }

    #[test]
    fn random_deltas_lead_where_a_fresh_set_is() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut set = IpSet::new(IpSetKind::Net);
        let (mut kernel, mut all) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..2000 {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 | random.u32(0..64) << random.u32(0..3));
            let wide = ipnet::Ipv4Net::new(address, random.u8(24..=32)).unwrap().trunc();
            let member = IpSetMember::Net(wide.into());
            let delta = if random.bool() {
                all.insert(member);
                set.change([], [&member], IpVersion::V4)
            } else {
                all.remove(&member);
                set.change([&member], [], IpVersion::V4)
            };
            apply(&mut kernel, &delta);
            let mut fresh = IpSet::new(IpSetKind::Net);
            fresh.change([], &all, IpVersion::V4);
            assert_eq!(kernel, fresh.members());
            assert_eq!(set.shape(), fresh.shape());
        }
    }
}
