//! Networks, and which of them lie in no other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Networks of one family, and the widest of them: those that lie in no other one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Widest {
    all: BTreeSet<IpNet>,
}

/// How the widest networks changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// No longer among them.
    pub gone: Vec<IpNet>,
    /// Now among them.
    pub come: Vec<IpNet>,
}

impl Widest {
    /// Adds a network; `None` if it was there.
    pub fn insert(&mut self, net: IpNet) -> Option<Change> {
        if !self.all.insert(net) {
            return None;
        }
        if self.is_covered(net) {
            return Some(Change::default());
        }
        Some(Change { gone: self.widest_inside(net), come: vec![net] })
    }

    /// Removes a network; `None` if it was not there.
    pub fn remove(&mut self, net: IpNet) -> Option<Change> {
        if !self.all.remove(&net) {
            return None;
        }
        if self.is_covered(net) {
            return Some(Change::default());
        }
        Some(Change { gone: vec![net], come: self.widest_inside(net) })
    }

    /// The widest networks, in order.
    pub fn widest(&self) -> impl Iterator<Item = IpNet> + '_ {
        // A network sorts before what lies in it.
        let mut last: Option<IpNet> = None;
        self.all.iter().copied().filter(move |net| {
            let covered = last.is_some_and(|cover| cover.contains(net));
            if !covered {
                last = Some(*net);
            }
            !covered
        })
    }

    /// Whether an address is in one of the networks.
    pub fn covers(&self, address: IpAddr) -> bool {
        let net = host(address);
        self.all.contains(&net) || self.is_covered(net)
    }

    /// Whether there are no networks.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn is_covered(&self, net: IpNet) -> bool {
        let wider = (0..net.prefix_len()).filter_map(|length| IpNet::new(net.addr(), length).ok());
        wider.map(|net| net.trunc()).any(|cover| self.all.contains(&cover))
    }

    /// The widest of the networks that lie inside (and are not) this one.
    fn widest_inside(&self, net: IpNet) -> Vec<IpNet> {
        let first = host(net.network());
        let last = host(net.broadcast());
        let mut found: Vec<IpNet> = Vec::new();
        let from = IpNet::new(first.addr(), 0).map_or(first, |wide| wide);
        for candidate in self.all.range(from..=last) {
            let inside = *candidate != net && net.contains(candidate);
            if inside && !found.last().is_some_and(|cover| cover.contains(candidate)) {
                found.push(*candidate);
            }
        }
        found
    }
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
