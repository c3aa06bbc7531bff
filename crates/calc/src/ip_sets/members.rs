//! The members of one IP set.
//!
//! Several endpoints and network sets may contribute the same member, so members are counted. Networks may lie inside one
//! another; the dataplane is told only of the outermost ones (an nft interval set could not hold the others, and they
//! change nothing about what matches), and of inner ones when the outer one goes.

mod counts;

use std::collections::{BTreeMap, BTreeSet};

use counts::Counts;
use ipnet::IpNet;

use crate::contract::IpSetMember;

/// Counted members, and what has changed since the last [`Members::take_delta`].
#[derive(Debug, Default)]
pub(crate) struct Members {
    counts: Counts,
    /// Whether somebody was told of the members, so that changes have to be noted.
    is_followed: bool,
    /// How many distinct networks there are of each family (IPv6?) and length that can hold others.
    wide: BTreeMap<(bool, u8), u32>,
    /// Members that were visible and are not, or the reverse.
    toggled: BTreeSet<IpSetMember>,
}

impl Members {
    /// Counts a member in.
    pub(crate) fn add(&mut self, member: IpSetMember) {
        if wide_length(&member).is_some() {
            if !self.counts.contains(&member) {
                self.appear(member);
            }
            self.counts.add(member);
        } else if self.counts.add(member) && self.is_followed && !self.is_covered(&member) {
            self.toggle(member);
        }
    }

    /// Counts a member out.
    pub(crate) fn remove(&mut self, member: IpSetMember) {
        if self.counts.remove(&member) {
            self.disappear(member);
        }
    }

    /// The members that no other one holds, for a receiver that is told of all further changes.
    pub(crate) fn follow(&mut self) -> BTreeSet<IpSetMember> {
        self.is_followed = true;
        self.visible()
    }

    fn visible(&self) -> BTreeSet<IpSetMember> {
        self.counts.iter().filter(|member| !self.is_covered(member)).collect()
    }

    /// Members that became visible, and those that no longer are, since this (or [`Members::follow`]) was last called.
    pub(crate) fn take_delta(&mut self) -> (Vec<IpSetMember>, Vec<IpSetMember>) {
        std::mem::take(&mut self.toggled).into_iter().partition(|member| self.is_visible(member))
    }

    /// Before the member, which can hold others, is counted: what it will hide does not count as hidden yet.
    fn appear(&mut self, member: IpSetMember) {
        if !self.is_covered(&member) {
            for inner in self.inside(&member) {
                if !self.is_covered(&inner) {
                    self.toggle(inner);
                }
            }
            self.toggle(member);
        }
        if let Some(length) = wide_length(&member) {
            *self.wide.entry(length).or_default() += 1;
        }
    }

    /// After the member is no longer counted.
    fn disappear(&mut self, member: IpSetMember) {
        if let Some(length) = wide_length(&member) {
            let count = self.wide.get_mut(&length).expect("each wide member was counted when it appeared");
            *count -= 1;
            if *count == 0 {
                self.wide.remove(&length);
            }
        }
        if !self.is_covered(&member) {
            for inner in self.inside(&member) {
                if !self.is_covered(&inner) {
                    self.toggle(inner);
                }
            }
            self.toggle(member);
        }
    }

    fn toggle(&mut self, member: IpSetMember) {
        if self.is_followed && !self.toggled.remove(&member) {
            self.toggled.insert(member);
        }
    }

    fn is_visible(&self, member: &IpSetMember) -> bool {
        self.counts.contains(member) && !self.is_covered(member)
    }

    /// Whether another network of the set holds the member.
    fn is_covered(&self, member: &IpSetMember) -> bool {
        let IpSetMember::Net(net) = member else { return false };
        let family = net.addr().is_ipv6();
        let shorter = self.wide.range((family, 0)..(family, net.prefix_len()));
        shorter.into_iter().any(|((_, length), _)| {
            let cover = IpNet::new(net.addr(), *length).map(|cover| IpSetMember::Net(cover.trunc()));
            cover.is_ok_and(|cover| self.counts.contains(&cover))
        })
    }

    /// The networks of the set inside a member, itself not counted.
    fn inside(&self, member: &IpSetMember) -> Vec<IpSetMember> {
        let (Some(_), IpSetMember::Net(net)) = (wide_length(member), member) else { return Vec::new() };
        let inside = self.counts.inside(*net).map(IpSetMember::Net);
        inside.filter(|inner| inner != member).collect()
    }
}

/// Family and length of a network that can hold others.
fn wide_length(member: &IpSetMember) -> Option<(bool, u8)> {
    match member {
        IpSetMember::Net(net) if net.prefix_len() < net.max_prefix_len() => {
            Some((net.addr().is_ipv6(), net.prefix_len()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn net(text: &str) -> IpSetMember {
        IpSetMember::Net(text.parse().unwrap())
    }

    /// Members that somebody follows.
    fn followed() -> Members {
        let mut members = Members::default();
        assert_eq!(members.follow(), BTreeSet::new());
        members
    }

    fn delta(members: &mut Members) -> (Vec<IpSetMember>, Vec<IpSetMember>) {
        members.take_delta()
    }

    #[test]
    fn a_member_stays_until_its_last_contributor_goes() {
        let mut members = followed();
        let one = net("10.0.0.1/32");
        members.add(one);
        members.add(one);
        assert_eq!(delta(&mut members), (vec![one], vec![]));
        members.remove(one);
        assert_eq!(delta(&mut members), (vec![], vec![]));
        members.remove(one);
        assert_eq!(delta(&mut members), (vec![], vec![one]));
    }

    #[test]
    fn inner_networks_are_hidden_while_an_outer_one_is_there() {
        let mut members = followed();
        let [wide, middle, host] = ["10.65.0.0/16", "10.65.1.0/24", "10.65.1.5/32"].map(net);
        members.add(host);
        assert_eq!(delta(&mut members), (vec![host], vec![]));
        members.add(wide);
        members.add(middle);
        assert_eq!(delta(&mut members), (vec![wide], vec![host]));
        members.remove(wide);
        assert_eq!(delta(&mut members), (vec![middle], vec![wide]));
        members.remove(middle);
        assert_eq!(delta(&mut members), (vec![host], vec![middle]));
    }

    #[test]
    fn deltas_add_up_to_what_is_visible_whatever_overlaps() {
        for seed in 0..60 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let universe = universe(&mut random);
            let (mut members, mut held) = (followed(), Vec::new());
            let mut told = BTreeSet::new();
            for _ in 0..200 {
                if !held.is_empty() && random.bool() {
                    members.remove(held.swap_remove(random.usize(..held.len())));
                } else {
                    let member = IpSetMember::Net(universe[random.usize(..universe.len())]);
                    members.add(member);
                    held.push(member);
                }
                if random.u8(..3) == 0 {
                    let (added, removed) = members.take_delta();
                    removed.iter().for_each(|member| assert!(told.remove(member)));
                    added.iter().for_each(|member| assert!(told.insert(*member)));
                    assert_eq!(told, outermost(&held));
                    assert_eq!(told, members.visible());
                }
            }
            held.into_iter().for_each(|member| members.remove(member));
            assert!(members.counts.iter().next().is_none() && members.wide.is_empty());
        }
    }

    fn universe(random: &mut fastrand::Rng) -> Vec<IpNet> {
        let mut nets: Vec<IpNet> = ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()).into();
        for length in [1, 8, 14, 15, 16, 31, 32] {
            for high in [10, 138] {
                let address = Ipv4Addr::new(high, random.u8(..2), 0, random.u8(..2));
                nets.push(IpNet::new(address.into(), length).unwrap().trunc());
            }
        }
        nets
    }

    fn outermost(held: &[IpSetMember]) -> BTreeSet<IpSetMember> {
        let covers = |outer: &IpSetMember, inner: &IpSetMember| match (outer, inner) {
            (IpSetMember::Net(outer), IpSetMember::Net(inner)) => outer != inner && outer.contains(inner),
            _ => false,
        };
        let uncovered = |member: &&IpSetMember| !held.iter().any(|outer| covers(outer, member));
        held.iter().filter(uncovered).copied().collect()
    }
}
