//! What a speaker is configured to be, in terms that no daemon owns.

use std::fmt;

/// Our AS; a peer in the same one is internal.
pub(crate) const OUR_AS: u32 = 64_512;
/// The AS of an external peer.
pub(crate) const THEIR_AS: u32 = 64_600;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

impl Ip {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// `ipv4`, `ipv6`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// The family that a prefix or an address is of.
    pub(crate) fn of(text: &str) -> Self {
        if text.contains(':') { Self::V6 } else { Self::V4 }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The address of a host on the link that all share.
pub(crate) fn address(host: u8, ip: Ip) -> String {
    match ip {
        Ip::V4 => format!("10.0.0.{host}"),
        Ip::V6 => format!("2001:db8::{host}"),
    }
}

/// The prefix that a host announces.
pub(crate) fn block(host: u8, ip: Ip) -> String {
    match ip {
        Ip::V4 => format!("10.65.{host}.0/26"),
        Ip::V6 => format!("fd65::{host}:0/122"),
    }
}

/// An address in the block that the host has.
pub(crate) fn inside(host: u8, ip: Ip) -> String {
    match ip {
        Ip::V4 => format!("10.65.{host}.1"),
        Ip::V6 => format!("fd65::{host}:1"),
    }
}

/// Communities of every kind that a route can be marked with.
pub(crate) const COMMUNITY: (u32, u32) = (65_001, 10);
pub(crate) const LARGE_COMMUNITY: (u32, u32, u32) = (65_002, 20, 30);
pub(crate) const ROUTE_TARGET: (u32, u32) = (64_512, 77);

/// A speaker.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// The host that it is.
    pub(crate) host: u8,
    pub(crate) asn: u32,
    /// The prefixes that it announces.
    pub(crate) announced: Vec<String>,
    /// They carry [`COMMUNITY`], [`LARGE_COMMUNITY`] and [`ROUTE_TARGET`].
    pub(crate) marks: bool,
    pub(crate) neighbours: Vec<Neighbour>,
    /// What it learns goes into its kernel.
    pub(crate) forwards: bool,
}

/// A session as one of its ends sees it.
#[derive(Debug, Clone)]
pub(crate) struct Neighbour {
    pub(crate) host: u8,
    pub(crate) asn: u32,
    /// What the connection runs over.
    pub(crate) over: Ip,
    /// Whose routes it carries.
    pub(crate) carries: Vec<Ip>,
    /// TCP MD5 (RFC 2385).
    pub(crate) password: Option<&'static str>,
    /// GTSM (RFC 5082), one hop.
    pub(crate) ttl_security: bool,
    /// We reflect routes for it (RFC 4456).
    pub(crate) is_client: bool,
    /// In both directions (RFC 7911).
    pub(crate) add_path: bool,
    /// One hop (RFC 5881).
    pub(crate) bfd: bool,
}

impl Side {
    /// A host that announces its blocks to nobody yet.
    pub(crate) fn new(host: u8, asn: u32) -> Self {
        let announced = Ip::BOTH.map(|ip| block(host, ip)).into();
        Self { host, asn, announced, marks: false, neighbours: Vec::new(), forwards: true }
    }

    /// A host that announces nothing of its own, with IPv4 sessions with others.
    pub(crate) fn silent(host: u8, asn: u32, others: &[(u8, u32)]) -> Self {
        let neighbours = others.iter().map(|(host, asn)| Neighbour::new(*host, *asn, Ip::V4)).collect();
        Self { announced: Vec::new(), neighbours, ..Self::new(host, asn) }
    }

    /// With sessions with others, one for each family.
    pub(crate) fn with(mut self, others: &[(u8, u32)], change: impl Fn(&mut Neighbour)) -> Self {
        for (host, asn) in others {
            for ip in Ip::BOTH {
                let mut neighbour = Neighbour::new(*host, *asn, ip);
                change(&mut neighbour);
                self.neighbours.push(neighbour);
            }
        }
        self
    }

    pub(crate) fn address(&self, ip: Ip) -> String {
        address(self.host, ip)
    }
}

impl Neighbour {
    /// A plain session.
    pub(crate) fn new(host: u8, asn: u32, ip: Ip) -> Self {
        Self {
            host,
            asn,
            over: ip,
            carries: vec![ip],
            password: None,
            ttl_security: false,
            is_client: false,
            add_path: false,
            bfd: false,
        }
    }

    /// A session that carries both families.
    pub(crate) fn of_both(host: u8, asn: u32, over: Ip) -> Self {
        Self { carries: Ip::BOTH.into(), ..Self::new(host, asn, over) }
    }

    pub(crate) fn address(&self) -> String {
        address(self.host, self.over)
    }
}
