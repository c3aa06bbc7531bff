//! Addresses that are never assigned unasked: the union of all IPReservations.

use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses that automatic assignment leaves out. (A caller that names such an address gets it, as in Calico.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    /// Disjoint.
    nets: Vec<IpNet>,
}

impl Reservations {
    /// The union of networks, in any order, overlapping or not.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        let nets: Vec<IpNet> = nets.into_iter().map(|net| net.trunc()).collect();
        Self { nets: IpNet::aggregate(&nets) }
    }

    /// Whether the address is reserved.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Whether all of the network is reserved: a block in it is not worth claiming.
    pub fn covers(&self, net: &IpNet) -> bool {
        self.nets.iter().any(|reserved| reserved.contains(net))
    }

    /// How many addresses of a network are reserved; saturates.
    pub fn count_in(&self, net: &IpNet) -> u128 {
        let common = |reserved: &IpNet| match () {
            () if reserved.contains(net) => size(net),
            () if net.contains(reserved) => size(reserved),
            () => 0,
        };
        self.nets.iter().map(common).fold(0, u128::saturating_add)
    }
}

/// How many addresses a network has; all of IPv6 saturates.
pub(crate) fn size(net: &IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservations(nets: &[&str]) -> Reservations {
        Reservations::new(nets.iter().map(|net| net.parse().unwrap()))
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn overlapping_reservations_count_once() {
        let reserved = reservations(&["10.0.0.5/32", "10.0.0.0/25", "10.0.0.64/26"]);
        assert_eq!(reserved.count_in(&net("10.0.0.0/24")), 128);
        assert_eq!(reserved.count_in(&net("10.0.0.0/26")), 64);
        assert_eq!(reserved.count_in(&net("10.0.0.128/26")), 0);
    }

    #[test]
    fn host_bits_do_not_matter_and_families_do_not_mix() {
        let reserved = reservations(&["10.0.0.9/30", "fd00::/64"]);
        assert!(reserved.contains("10.0.0.8".parse().unwrap()));
        assert!(!reserved.contains("10.0.0.7".parse().unwrap()));
        assert!(reserved.covers(&net("fd00::/122")));
        assert!(!reserved.covers(&net("10.0.0.0/26")));
        assert_eq!(reserved.count_in(&net("fd00::/60")), 1 << 64);
    }

    #[test]
    fn the_size_of_everything_saturates() {
        assert_eq!(size(&net("::/0")), u128::MAX);
        assert_eq!(size(&net("0.0.0.0/0")), 1 << 32);
    }
}
