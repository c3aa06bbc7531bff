//! Address space as intervals.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use crate::contract::IpVersion;

/// First and last address, as numbers.
pub(super) type Interval = (u128, u128);

/// Disjoint intervals, ascending; those that touch are joined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Intervals(Vec<Interval>);

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address with a number of a family.
pub(super) fn address(number: u128, version: IpVersion) -> IpAddr {
    match version {
        IpVersion::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpVersion::V6 => Ipv6Addr::from(number).into(),
    }
}

/// The highest address of a family.
fn highest(version: IpVersion) -> u128 {
    match version {
        IpVersion::V4 => u128::from(u32::MAX),
        IpVersion::V6 => u128::MAX,
    }
}

/// Networks as disjoint intervals, ascending.
pub(super) fn intervals(nets: impl IntoIterator<Item = IpNet>) -> Vec<Interval> {
    let mut all: Vec<Interval> =
        nets.into_iter().map(|net| (number(net.network()), number(net.broadcast()))).collect();
    all.sort_unstable();
    let mut joined = Intervals::default();
    joined.extend(Intervals(all));
    joined.0
}

/// The classes of addresses: for all in a class, each condition (the intervals in which it holds) has the same answer.
/// Together they are the whole address space.
pub(super) fn classes(conditions: &[Vec<Interval>], version: IpVersion) -> Vec<Intervals> {
    // Where answers change, and which do.
    let mut changes: BTreeMap<u128, Vec<usize>> = BTreeMap::from([(0, Vec::new())]);
    for (index, intervals) in conditions.iter().enumerate() {
        for (first, last) in intervals {
            changes.entry(*first).or_default().push(index);
            if *last < highest(version) {
                changes.entry(last + 1).or_default().push(index);
            }
        }
    }
    let mut answers = vec![0_u64; conditions.len().div_ceil(64)];
    let mut classes: BTreeMap<Vec<u64>, Intervals> = BTreeMap::new();
    let ends = changes.keys().skip(1).map(|next| next - 1).chain([highest(version)]);
    for ((first, changed), last) in changes.iter().zip(ends) {
        changed.iter().for_each(|index| answers[index / 64] ^= 1 << (index % 64));
        classes.entry(answers.clone()).or_default().0.push((*first, last));
    }
    classes.into_values().collect()
}

impl Intervals {
    /// The lowest address.
    pub(super) fn first(&self) -> u128 {
        self.0.first().map_or(0, |interval| interval.0)
    }

    /// Adds intervals.
    pub(super) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
        self.0.sort_unstable();
        let mut joined: Vec<Interval> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match joined.last_mut() {
                Some(before) if before.1.checked_add(1).is_none_or(|next| first <= next) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    /// As few networks as can be, where it does not matter whether they have the known addresses; none of only such.
    pub(super) fn networks(&self, known: &BTreeSet<u128>, version: IpVersion) -> Vec<IpNet> {
        let mut filled = self.clone();
        filled.extend(Self(known.iter().map(|address| (*address, *address)).collect()));
        let networks = filled.0.into_iter().flat_map(|interval| subnets(interval, version));
        networks.filter(|net| !is_known(net, known)).collect()
    }
}

/// Whether a network has known addresses only.
fn is_known(net: &IpNet, known: &BTreeSet<u128>) -> bool {
    let (first, last) = (number(net.network()), number(net.broadcast()));
    let size = (last - first).saturating_add(1);
    size <= known.len() as u128 && known.range(first..=last).count() as u128 == size
}

fn subnets((first, last): Interval, version: IpVersion) -> Vec<IpNet> {
    match (address(first, version), address(last, version)) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ipv4Subnets::new(first, last, 0).map(IpNet::from).collect(),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ipv6Subnets::new(first, last, 0).map(IpNet::from).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Interval> {
        intervals(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn networks_that_touch_are_one_interval() {
        assert_eq!(nets(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.5/32"]), [(0x0a00_0000, 0x0a00_01ff)]);
    }

    #[test]
    fn classes_are_the_whole_space_and_tell_apart_what_conditions_do() {
        let conditions = [nets(&["10.0.0.0/8"]), nets(&["10.1.0.0/16", "255.255.255.255/32"])];
        let classes = classes(&conditions, IpVersion::V4);
        assert_eq!(classes.len(), 4, "neither, the first, both, the second: {classes:?}");
        let mut all = Intervals::default();
        classes.into_iter().for_each(|class| all.extend(class));
        assert_eq!(all.0, [(0, u128::from(u32::MAX))]);
        assert_eq!(super::classes(&[nets(&["::/0"])], IpVersion::V6), [Intervals(vec![(0, u128::MAX)])]);
    }

    #[test]
    fn known_addresses_neither_split_networks_nor_make_any() {
        let allowed = Intervals(vec![(0, 9), (11, 255)]);
        let known = BTreeSet::from([10, 300]);
        let networks = allowed.networks(&known, IpVersion::V4);
        assert_eq!(networks, ["0.0.0.0/24".parse::<IpNet>().unwrap()]);
    }
}
