//! How often each member is contributed.
//!
//! Most members are single IPv4 addresses, and most are contributed once: a large cluster has hundreds of thousands. So they have
//! a table of their own, in which one takes a third of what it would among the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::contract::IpSetMember;

/// Members and their counts, none 0.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// `/32`s.
    addresses: BTreeMap<Ipv4Addr, u32>,
    others: BTreeMap<IpSetMember, u32>,
}

impl Counts {
    pub(super) fn contains(&self, member: &IpSetMember) -> bool {
        match address(member) {
            Some(address) => self.addresses.contains_key(&address),
            None => self.others.contains_key(member),
        }
    }

    /// Counts a member in; says whether it is new.
    pub(super) fn add(&mut self, member: IpSetMember) -> bool {
        let count = match address(&member) {
            Some(address) => self.addresses.entry(address).or_default(),
            None => self.others.entry(member).or_default(),
        };
        *count += 1;
        *count == 1
    }

    /// Counts a member out; says whether it is gone by that.
    pub(super) fn remove(&mut self, member: &IpSetMember) -> bool {
        match address(member) {
            Some(address) => count_out(&mut self.addresses, &address),
            None => count_out(&mut self.others, member),
        }
    }

    /// All members, single addresses first.
    pub(super) fn iter(&self) -> impl Iterator<Item = IpSetMember> {
        let addresses = self.addresses.keys().map(|address| IpSetMember::Net(IpAddr::V4(*address).into()));
        addresses.chain(self.others.keys().copied())
    }

    /// The networks inside one, itself included.
    pub(super) fn inside(&self, net: IpNet) -> impl Iterator<Item = IpNet> {
        let range = match net {
            IpNet::V4(net) => Some(self.addresses.range(net.network()..=net.broadcast())),
            IpNet::V6(_) => None,
        };
        let addresses = range.into_iter().flatten().map(|(address, _)| IpAddr::V4(*address).into());
        let last = IpSetMember::Net(IpNet::from(net.broadcast()));
        let others = self.others.range(IpSetMember::Net(net)..=last);
        addresses.chain(others.filter_map(|(member, _)| match member {
            IpSetMember::Net(net) => Some(*net),
            IpSetMember::NetPort { .. } => None,
        }))
    }
}

fn address(member: &IpSetMember) -> Option<Ipv4Addr> {
    match member {
        IpSetMember::Net(IpNet::V4(net)) if net.prefix_len() == 32 => Some(net.addr()),
        _ => None,
    }
}

fn count_out<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    if *count == 0 {
        counts.remove(key);
        return true;
    }
    false
}
