//! The next hops that routes have, and how far away they are.
//!
//! RFC 4271, section 9.1.2: a route whose next hop cannot be resolved is not selected, and (section 9.1.2.2 e) the
//! nearer next hop wins. What the host's routing table says is told from outside: the registry lists the next hops that
//! are in use, and takes what is found out about them. Until that is known a next hop counts as unreachable.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the host's routing table says about a next hop that it can reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolution {
    /// The interior cost (RFC 4271, section 9.1.2.2 e): the metric of the route to it, 0 when it is on a link of ours.
    pub cost: u32,
    /// Through whom it is reached: itself when it is on a link of ours, else the gateways on the way. Sorted, not empty.
    pub gateways: Vec<IpAddr>,
}

/// A next hop's number; it stays as long as a set of attributes uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NextHopId(u32);

/// All next hops that are in use.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    entries: Vec<Entry>,
    by_address: BTreeMap<IpAddr, u32>,
    free: Vec<u32>,
    /// They have come into use or out of it since the last look.
    dirty: BTreeSet<u32>,
    /// What is known about them has changed since the last look.
    changed: BTreeSet<NextHopId>,
    /// In use, and nothing has been said about them yet.
    unanswered: BTreeSet<u32>,
    /// Off: every next hop counts as reachable at no cost.
    resolving: bool,
}

#[derive(Debug)]
struct Entry {
    address: IpAddr,
    uses: u32,
    resolution: Option<Resolution>,
    /// The outside has said whether it can be reached.
    answered: bool,
    /// The outside has been asked to watch it.
    watched: bool,
}

impl NextHops {
    /// One more use.
    pub(crate) fn acquire(&mut self, address: IpAddr) -> NextHopId {
        let number = match self.by_address.get(&address) {
            Some(number) => *number,
            None => self.add(address),
        };
        let entry = &mut self.entries[number as usize];
        entry.uses += 1;
        if entry.uses == 1 {
            self.dirty.insert(number);
            if !entry.answered && is_resolved(address) {
                self.unanswered.insert(number);
            }
        }
        NextHopId(number)
    }

    fn add(&mut self, address: IpAddr) -> u32 {
        let entry = Entry { address, uses: 0, resolution: None, answered: false, watched: false };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer next hops than addresses in IPv4")
            }
        };
        self.by_address.insert(address, number);
        number
    }

    /// One use less.
    pub(crate) fn release(&mut self, id: NextHopId) {
        let entry = &mut self.entries[id.0 as usize];
        entry.uses -= 1;
        if entry.uses == 0 {
            self.dirty.insert(id.0);
            self.unanswered.remove(&id.0);
        }
    }

    /// Whether something that is in use cannot be told reachable or not yet.
    pub(crate) fn is_waiting(&self) -> bool {
        self.resolving && !self.unanswered.is_empty()
    }

    /// The interior cost; `None` when it cannot be reached.
    pub(crate) fn cost(&self, id: NextHopId) -> Option<u32> {
        let entry = &self.entries[id.0 as usize];
        if !self.resolving || !is_resolved(entry.address) {
            return Some(0);
        }
        entry.resolution.as_ref().map(|resolution| resolution.cost)
    }

    /// Through whom it is reached.
    pub(crate) fn gateways(&self, id: NextHopId) -> &[IpAddr] {
        let entry = &self.entries[id.0 as usize];
        match &entry.resolution {
            Some(resolution) if self.resolving => &resolution.gateways,
            _ => std::slice::from_ref(&entry.address),
        }
    }

    /// What is known about an address; `None`: it is nobody's next hop, so nothing is.
    pub(crate) fn known(&self, address: IpAddr) -> Option<Option<Resolution>> {
        let entry = &self.entries[*self.by_address.get(&address)? as usize];
        Some(match self.resolving && is_resolved(address) {
            true => entry.resolution.clone(),
            false => Some(Resolution { cost: 0, gateways: vec![address] }),
        })
    }

    /// Whether next hops are resolved at all. True when that is a change, which concerns every route.
    pub(crate) fn set_resolving(&mut self, resolving: bool) -> bool {
        let changed = self.resolving != resolving;
        if changed {
            self.resolving = resolving;
            self.dirty.extend(self.by_address.values());
            let entries = (0..).zip(&self.entries);
            let unanswered =
                entries.filter(|(_, entry)| entry.uses > 0 && !entry.answered && is_resolved(entry.address));
            self.unanswered = unanswered.map(|(number, _)| number).collect();
        }
        changed
    }

    /// What the host's routing table says now; `None`: it cannot be reached.
    pub(crate) fn resolve(&mut self, address: IpAddr, resolution: Option<Resolution>) {
        let Some(number) = self.by_address.get(&address) else { return };
        let entry = &mut self.entries[*number as usize];
        if self.resolving {
            entry.answered = true;
            self.unanswered.remove(number);
            if entry.resolution != resolution {
                entry.resolution = resolution;
                self.changed.insert(NextHopId(*number));
            }
        }
    }

    /// Everything that is known of next hops that can be reached.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = (IpAddr, &Resolution)> {
        self.by_address.iter().filter_map(|(address, number)| {
            let resolution = self.entries[*number as usize].resolution.as_ref()?;
            Some((*address, resolution))
        })
    }

    /// Those about which something else is known than at the last call.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<NextHopId> {
        std::mem::take(&mut self.changed)
    }

    /// The next hops that the outside shall watch from now on, or no longer.
    pub(crate) fn take_news(&mut self) -> Vec<(IpAddr, bool)> {
        let mut news = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            let entry = &mut self.entries[number as usize];
            let wanted = self.resolving && entry.uses > 0 && is_resolved(entry.address);
            if wanted != entry.watched {
                entry.watched = wanted;
                news.push((entry.address, wanted));
            }
            if !wanted {
                (entry.resolution, entry.answered) = (None, false);
            }
            if entry.uses == 0 {
                let address = entry.address;
                if self.by_address.get(&address) == Some(&number) {
                    self.by_address.remove(&address);
                    self.free.push(number);
                }
            }
        }
        news
    }
}

/// A link-local next hop is on the link of its session, and routes of our own have none.
fn is_resolved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_unspecified() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn at(cost: u32) -> Option<Resolution> {
        Some(Resolution { cost, gateways: vec![address(254)] })
    }

    #[test]
    fn a_next_hop_is_watched_while_it_is_used() {
        let mut hops = NextHops::default();
        hops.set_resolving(true);
        let first = hops.acquire(address(1));
        assert_eq!(hops.acquire(address(1)), first);
        assert_eq!(hops.take_news(), [(address(1), true)]);
        hops.release(first);
        assert_eq!(hops.take_news(), []);
        hops.release(first);
        assert_eq!(hops.acquire(address(1)), first, "used again before anyone looked");
        assert_eq!(hops.take_news(), []);
        hops.release(first);
        assert_eq!(hops.take_news(), [(address(1), false)]);
        assert_eq!(hops.acquire(address(2)), first, "the number is free again");
    }

    #[test]
    fn it_is_unreachable_until_something_is_known() {
        let mut hops = NextHops::default();
        let id = hops.acquire(address(1));
        assert_eq!((hops.cost(id), hops.gateways(id)), (Some(0), &[address(1)][..]));
        assert!(hops.set_resolving(true));
        assert_eq!(hops.cost(id), None);
        hops.resolve(address(1), at(7));
        assert_eq!((hops.cost(id), hops.gateways(id)), (Some(7), &[address(254)][..]));
        assert_eq!(hops.take_changed(), [id].into());
        hops.resolve(address(1), at(7));
        hops.resolve(address(9), at(7));
        assert_eq!(hops.take_changed(), [].into(), "no news, and a stranger");
        hops.resolve(address(1), None);
        assert_eq!(hops.cost(id), None);
    }

    #[test]
    fn what_is_in_use_is_waited_for_until_it_is_answered() {
        let mut hops = NextHops::default();
        let first = hops.acquire(address(1));
        assert!(!hops.is_waiting(), "nobody resolves");
        hops.set_resolving(true);
        assert!(hops.is_waiting());
        let second = hops.acquire(address(2));
        hops.resolve(address(1), None);
        assert!(hops.is_waiting(), "for the second");
        hops.release(second);
        assert!(!hops.is_waiting());
        hops.release(first);
        assert_eq!(hops.acquire(address(1)), first);
        assert!(!hops.is_waiting(), "it is still watched, and unreachable");
        hops.release(first);
        hops.take_news();
        hops.acquire(address(1));
        assert!(hops.is_waiting(), "it was forgotten");
    }

    #[test]
    fn link_local_ones_and_our_own_need_no_resolution() {
        let mut hops = NextHops::default();
        hops.set_resolving(true);
        let own = hops.acquire(IpAddr::from([0, 0, 0, 0]));
        let link_local = hops.acquire("fe80::1".parse().unwrap());
        assert_eq!((hops.cost(own), hops.cost(link_local)), (Some(0), Some(0)));
        assert_eq!(hops.take_news(), []);
    }
}
