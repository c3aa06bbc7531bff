//! IP sets with their members, for the evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::contract::{Change, IpSetId, IpSetMember};

/// Who is in which IP set.
pub trait Members: std::fmt::Debug {
    /// Whether an address lies in a member of the set.
    fn contains(&self, id: &IpSetId, address: IpAddr) -> bool;
    /// Whether (address, protocol, port) is in the set.
    fn contains_port(&self, id: &IpSetId, address: IpAddr, protocol: u8, port: u16) -> bool;
}

/// The members of every IP set. A set that is not known has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpSets {
    sets: BTreeMap<IpSetId, BTreeSet<IpSetMember>>,
}

impl IpSets {
    /// The set has exactly these members.
    pub fn set(&mut self, id: IpSetId, members: impl IntoIterator<Item = IpSetMember>) {
        self.sets.insert(id, members.into_iter().collect());
    }

    /// Follows the changes of IP sets, and leaves others alone.
    pub fn on_change(&mut self, change: &Change) {
        match change {
            Change::IpSetUpdate { id, members, .. } => {
                self.sets.insert(id.clone(), members.clone());
            }
            Change::IpSetDelta { id, added, removed } => {
                let members = self.sets.entry(id.clone()).or_default();
                removed.iter().for_each(|member| {
                    members.remove(member);
                });
                members.extend(added);
            }
            Change::IpSetRemove { id } => {
                self.sets.remove(id);
            }
            _ => {}
        }
    }

    /// The members of a set.
    pub fn members(&self, id: &IpSetId) -> Option<&BTreeSet<IpSetMember>> {
        self.sets.get(id)
    }
}

impl Members for IpSets {
    /// One look-up for each possible prefix length.
    fn contains(&self, id: &IpSetId, address: IpAddr) -> bool {
        self.sets
            .get(id)
            .is_some_and(|members| supernets(address).any(|net| members.contains(&IpSetMember::Net(net))))
    }

    fn contains_port(&self, id: &IpSetId, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.sets.get(id).is_some_and(|members| {
            supernets(address).any(|net| members.contains(&IpSetMember::NetPort { net, protocol, port }))
        })
    }
}

fn supernets(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (0..=longest).rev().filter_map(move |length| IpNet::new(address, length).ok().map(|net| net.trunc()))
}
