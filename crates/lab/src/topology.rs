//! Who is where: hosts, subnets and addresses of a lab, as arithmetic.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Most hosts in a lab: one subnet's worth.
pub(crate) const MAX_HOSTS: u8 = 200;
/// Most subnets.
pub(crate) const MAX_SUBNETS: u8 = 20;

/// A host of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// `node-1`, `node-2`, …
    pub name: String,
    /// Which subnet it is in, from 0.
    pub subnet: u8,
    /// Its address on the fabric.
    pub address: Ipv4Addr,
}

/// The hosts and the fabric between them. The fabric is one namespace with a bridge per subnet; when there are several,
/// it routes between them and knows nothing of pods, as a data centre's routers that do not speak BGP with us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Topology {
    /// In order of their numbers.
    pub hosts: Vec<Host>,
    /// How many subnets.
    pub subnets: u8,
    /// Whether hosts and pods have IPv6 addresses too.
    #[serde(default)]
    pub ipv6: bool,
}

impl Host {
    /// Its IPv6 address on the fabric, if the lab has IPv6.
    pub(crate) fn address6(&self) -> Ipv6Addr {
        let [.., number] = self.address.octets();
        Ipv6Addr::new(0xfd30, 0, 0, self.subnet.into(), 0, 0, 0, number.into())
    }
}

impl Topology {
    /// `hosts` hosts, dealt to `subnets` subnets in turn.
    ///
    /// # Errors
    /// Counts that make no lab, in words.
    pub(crate) fn new(hosts: u8, subnets: u8) -> Result<Self, String> {
        if !(1..=MAX_HOSTS).contains(&hosts) {
            return Err(format!("--hosts {hosts}: a lab has 1 to {MAX_HOSTS} hosts"));
        }
        if !(1..=MAX_SUBNETS.min(hosts)).contains(&subnets) {
            return Err(format!(
                "--subnets {subnets}: use 1 to {} for {hosts} hosts",
                MAX_SUBNETS.min(hosts)
            ));
        }
        let host = |index: u8| {
            let subnet = index % subnets;
            Host {
                name: format!("node-{}", index + 1),
                subnet,
                address: Ipv4Addr::new(172, 30, subnet, index / subnets + 1),
            }
        };
        Ok(Self { hosts: (0..hosts).map(host).collect(), subnets, ipv6: false })
    }

    /// Pods' addresses must not be hosts' too.
    ///
    /// # Errors
    /// A pool and the network of the fabric that it overlaps, in words.
    pub(crate) fn check_pools(&self, ipv4: Ipv4Net, ipv6: Option<Ipv6Net>) -> Result<(), String> {
        for subnet in 0..self.subnets {
            let (network, network6) = (Self::network(subnet), Self::network6(subnet));
            if ipv4.contains(&network) || network.contains(&ipv4) {
                return Err(overlap("--pool", ipv4.into(), network.into()));
            }
            if let Some(ipv6) = ipv6.filter(|ipv6| ipv6.contains(&network6) || network6.contains(ipv6)) {
                return Err(overlap("--pool6", ipv6.into(), network6.into()));
            }
        }
        Ok(())
    }

    /// The host of this name.
    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The names of all hosts, for a message.
    pub(crate) fn names(&self) -> String {
        self.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The network of a subnet.
    pub(crate) fn network(subnet: u8) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(172, 30, subnet, 0), 24)
    }

    /// Likewise for IPv6.
    pub(crate) fn network6(subnet: u8) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd30, 0, 0, subnet.into(), 0, 0, 0, 0), 64)
    }

    /// The fabric's own address in a subnet: the default gateway of its hosts.
    pub(crate) fn gateway(subnet: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, subnet, 254)
    }

    /// Likewise for IPv6; all subnets are /64.
    pub(crate) fn gateway6(subnet: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd30, 0, 0, subnet.into(), 0, 0, 0, 254)
    }
}

fn overlap(option: &str, pool: IpNet, network: IpNet) -> String {
    format!("{option} {pool} overlaps {network}, where the hosts have their addresses; use another")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_dealt_to_subnets_and_have_addresses_of_their_own() {
        let topology = Topology::new(5, 2).unwrap();
        let addresses: Vec<_> = topology.hosts.iter().map(|host| host.address.to_string()).collect();
        assert_eq!(addresses, ["172.30.0.1", "172.30.1.1", "172.30.0.2", "172.30.1.2", "172.30.0.3"]);
        for host in &topology.hosts {
            assert!(Topology::network(host.subnet).contains(&host.address));
        }
        assert_eq!(topology.host("node-4").unwrap().subnet, 1);
    }

    #[test]
    fn the_largest_lab_has_no_address_twice() {
        let topology = Topology::new(MAX_HOSTS, MAX_SUBNETS).unwrap();
        let addresses: std::collections::BTreeSet<_> =
            topology.hosts.iter().map(|host| host.address).collect();
        assert_eq!(addresses.len(), usize::from(MAX_HOSTS));
        assert!(Topology::new(0, 1).is_err() && Topology::new(3, 4).is_err());
    }

    #[test]
    fn pools_of_pods_are_apart_from_the_fabric() {
        let topology = Topology::new(3, 2).unwrap();
        let check = |ipv4: &str, ipv6: Option<&str>| {
            topology.check_pools(ipv4.parse().unwrap(), ipv6.map(|ipv6| ipv6.parse().unwrap()))
        };
        assert_eq!(check("10.65.0.0/16", Some("fd00:65::/48")), Ok(()));
        assert!(
            check("172.30.1.128/25", None)
                .unwrap_err()
                .starts_with("--pool 172.30.1.128/25 overlaps 172.30.1.0/24")
        );
        assert!(check("172.16.0.0/12", None).is_err());
        assert!(
            check("10.65.0.0/16", Some("fd30::/32")).unwrap_err().starts_with("--pool6 fd30::/32 overlaps")
        );
        assert_eq!(check("172.30.2.0/24", None), Ok(()), "the lab has two subnets only");
    }
}
