//! Masquerade of pools with natOutgoing (datapath.md 4.7).

use std::net::IpAddr;

use calc::contract::IpVersion;
use kernel::nft::{Field, Masquerade, Match, Nat, NatFlags, Rule, Statement};

use crate::config::Parameters;

/// The sets that the masquerade rules look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerading {
    /// Pools with natOutgoing.
    pub sources: String,
    /// All pools.
    pub pools: String,
    /// Addresses of hosts.
    pub hosts: String,
}

impl Masquerading {
    /// The names in a family, as Calico has them.
    pub fn new(version: IpVersion) -> Self {
        let name = |id: &str| {
            let id = calc::contract::IpSetId(id.into());
            crate::ip_sets::kernel_name(&id, crate::ip_sets::Shape::Addresses, version)
        };
        Self {
            sources: name("masq-ipam-pools"),
            pools: name("network-ip-pools"),
            hosts: name("all-hosts-net"),
        }
    }
}

/// The rules of `cali-nat-outgoing`: what a pool with natOutgoing sends to outside all pools leaves with the host's address.
pub fn nat_outgoing(version: IpVersion, parameters: &Parameters) -> Vec<Rule> {
    let sets = Masquerading::new(version);
    let (source, destination) = match version {
        IpVersion::V4 => (Field::IpSaddr, Field::IpDaddr),
        IpVersion::V6 => (Field::Ip6Saddr, Field::Ip6Daddr),
    };
    let mut outgoing = Rule::new()
        .when(Match::in_set(source, sets.sources))
        .when(Match::in_set(destination, sets.pools).negate());
    if parameters.nat_outgoing_excludes_hosts {
        outgoing = outgoing.when(Match::in_set(destination, sets.hosts).negate());
    }
    let mut rules = Vec::new();
    if let Some(ports) = parameters.nat_port_range {
        for protocol in [6_u8, 17] {
            let matched = outgoing.clone().when(Match::is(Field::L4proto, protocol));
            rules.push(matched.then(translation(version, parameters, Some(ports))).comment("natOutgoing"));
        }
    }
    rules.push(outgoing.then(translation(version, parameters, None)).comment("natOutgoing"));
    rules
}

fn translation(version: IpVersion, parameters: &Parameters, ports: Option<(u16, u16)>) -> Statement {
    let flags = NatFlags { fully_random: true, ..NatFlags::default() };
    match parameters.nat_outgoing_address.filter(|_| version == IpVersion::V4) {
        Some(address) => Statement::Snat(Nat { ports, flags, ..Nat::to(IpAddr::V4(address)) }),
        None => Statement::Masquerade(Masquerade { ports, flags }),
    }
}
