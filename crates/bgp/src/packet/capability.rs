//! Capabilities in an OPEN (RFC 5492). One row per code: name, decode, encode.
//!
//! ```text
//! +---------------+---------------+------------------------------+
//! |     Code      |    Length     |   Value (variable)
//! +---------------+---------------+------------------------------+
//! ```
//!
//! A capability whose value has a wrong length is kept as [`Capability::Malformed`] and otherwise ignored: a
//! speaker that misspells an option can still be talked to without it.

use std::fmt;

use crate::iana::capability as code;
use crate::types::{Asn, Family};

/// AFI and SAFI as numbers: any family, also one that we do not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FamilyCode {
    /// Address Family Identifier.
    pub afi: u16,
    /// Subsequent Address Family Identifier.
    pub safi: u8,
}

impl FamilyCode {
    /// The family, when it is one that we do.
    pub fn known(self) -> Option<Family> {
        match (self.afi, self.safi) {
            (1, 1) => Some(Family::Ipv4Unicast),
            (2, 1) => Some(Family::Ipv6Unicast),
            _ => None,
        }
    }
}

impl From<Family> for FamilyCode {
    fn from(family: Family) -> Self {
        let afi = match family {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        };
        Self { afi, safi: 1 }
    }
}

impl fmt::Display for FamilyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(family) => family.fmt(f),
            None => write!(f, "{}/{}", self.afi, self.safi),
        }
    }
}

/// A capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capability {
    /// The sender does this family.
    Multiprotocol(FamilyCode),
    /// It answers ROUTE-REFRESH.
    RouteRefresh,
    /// It takes next hops of another family: (family of the routes, AFI of the next hop).
    ExtendedNextHop(Vec<(FamilyCode, u16)>),
    /// It takes messages of up to 65,535 octets.
    ExtendedMessage,
    /// Its role towards us (RFC 9234): 0 provider, 1 route server, 2 route server client, 3 customer, 4 peer.
    Role(u8),
    /// It does graceful restart.
    GracefulRestart(GracefulRestartCapability),
    /// Its AS number in four octets.
    FourOctetAs(Asn),
    /// Add-path, per family.
    AddPath(Vec<(FamilyCode, AddPathMode)>),
    /// It marks the begin and end of a route refresh.
    EnhancedRouteRefresh,
    /// Long-lived graceful restart, per family: (family, forwarding preserved, seconds).
    LongLivedGracefulRestart(Vec<(FamilyCode, bool, u32)>),
    /// Its host and domain name.
    Hostname {
        /// The host.
        host: String,
        /// The domain, perhaps empty.
        domain: String,
    },
    /// Its software.
    SoftwareVersion(String),
    /// A code that we do not know; ignored.
    Unknown {
        /// The code.
        code: u8,
        /// The value.
        value: Vec<u8>,
    },
    /// A known code with a value that does not fit it; ignored.
    Malformed {
        /// The code.
        code: u8,
        /// The value.
        value: Vec<u8>,
    },
}

/// The graceful restart capability (RFC 4724, section 3; RFC 8538, section 2).
///
/// ```text
/// +--------------------------------------------------+
/// | Restart flags (4 bits): R, N | Restart time (12) |
/// +--------------------------------------------------+
/// | AFI (16) | SAFI (8) | Flags (8): F               |  per family
/// +--------------------------------------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GracefulRestartCapability {
    /// R: the sender has just restarted.
    pub restarting: bool,
    /// N: NOTIFICATIONs keep routes, too.
    pub notification: bool,
    /// Seconds that the sender needs to come back, 0..4095.
    pub restart_time_secs: u16,
    /// Families, and F: whether the sender kept forwarding over its restart.
    pub families: Vec<(FamilyCode, bool)>,
}

/// What a sender does with path identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddPathMode {
    /// It takes several paths.
    Receive,
    /// It sends several paths.
    Send,
    /// Both.
    Both,
    /// A value that is not defined: the entry is ignored (RFC 7911, section 4).
    Ignored(u8),
}

struct Row {
    code: u8,
    /// As the vectors and `bgp peers` print it.
    name: &'static str,
    decode: fn(&[u8]) -> Option<Capability>,
}

const TABLE: &[Row] = &[
    Row { code: code::MULTIPROTOCOL, name: "multiprotocol", decode: multiprotocol },
    Row { code: code::ROUTE_REFRESH, name: "route-refresh", decode: |v| flag(v, Capability::RouteRefresh) },
    Row { code: code::EXTENDED_NEXT_HOP, name: "extended-next-hop", decode: extended_next_hop },
    Row {
        code: code::EXTENDED_MESSAGE,
        name: "extended-message",
        decode: |v| flag(v, Capability::ExtendedMessage),
    },
    Row { code: code::ROLE, name: "role", decode: |v| one(v).map(Capability::Role) },
    Row { code: code::GRACEFUL_RESTART, name: "graceful-restart", decode: graceful_restart },
    Row { code: code::FOUR_OCTET_AS, name: "four-octet-as", decode: four_octet_as },
    Row { code: code::ADD_PATH, name: "add-path", decode: add_path },
    Row {
        code: code::ENHANCED_ROUTE_REFRESH,
        name: "enhanced-route-refresh",
        decode: |v| flag(v, Capability::EnhancedRouteRefresh),
    },
    Row {
        code: code::LONG_LIVED_GRACEFUL_RESTART,
        name: "long-lived-graceful-restart",
        decode: long_lived_graceful_restart,
    },
    Row { code: code::HOSTNAME, name: "hostname", decode: hostname },
    Row { code: code::SOFTWARE_VERSION, name: "software-version", decode: software_version },
];

/// The longest value: its length has one octet.
const LONGEST_VALUE: usize = 255;

impl Capability {
    /// The capability with this code and value.
    pub fn decode(code: u8, value: &[u8]) -> Self {
        match TABLE.iter().find(|row| row.code == code) {
            Some(row) => {
                (row.decode)(value).unwrap_or_else(|| Self::Malformed { code, value: value.to_vec() })
            }
            None => Self::Unknown { code, value: value.to_vec() },
        }
    }

    /// Its code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol(_) => code::MULTIPROTOCOL,
            Self::RouteRefresh => code::ROUTE_REFRESH,
            Self::ExtendedNextHop(_) => code::EXTENDED_NEXT_HOP,
            Self::ExtendedMessage => code::EXTENDED_MESSAGE,
            Self::Role(_) => code::ROLE,
            Self::GracefulRestart(_) => code::GRACEFUL_RESTART,
            Self::FourOctetAs(_) => code::FOUR_OCTET_AS,
            Self::AddPath(_) => code::ADD_PATH,
            Self::EnhancedRouteRefresh => code::ENHANCED_ROUTE_REFRESH,
            Self::LongLivedGracefulRestart(_) => code::LONG_LIVED_GRACEFUL_RESTART,
            Self::Hostname { .. } => code::HOSTNAME,
            Self::SoftwareVersion(_) => code::SOFTWARE_VERSION,
            Self::Unknown { code, .. } | Self::Malformed { code, .. } => *code,
        }
    }

    /// Its name, when its code is known.
    pub fn name(&self) -> Option<&'static str> {
        TABLE.iter().find(|row| row.code == self.code()).map(|row| row.name)
    }

    /// Its value on the wire.
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Multiprotocol(family) => vec![high(family.afi), low(family.afi), 0, family.safi],
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRouteRefresh => Vec::new(),
            Self::ExtendedNextHop(entries) => entries
                .iter()
                .flat_map(|(family, next_hop)| {
                    [high(family.afi), low(family.afi), 0, family.safi, high(*next_hop), low(*next_hop)]
                })
                .collect(),
            Self::Role(role) => vec![*role],
            Self::GracefulRestart(value) => value.encode(),
            Self::FourOctetAs(asn) => asn.0.to_be_bytes().to_vec(),
            Self::AddPath(entries) => entries
                .iter()
                .flat_map(|(family, mode)| [high(family.afi), low(family.afi), family.safi, mode.code()])
                .collect(),
            Self::LongLivedGracefulRestart(entries) => entries
                .iter()
                .flat_map(|(family, forwarding, secs)| {
                    let flags = if *forwarding { 0x80 } else { 0 };
                    let [_, a, b, c] = secs.to_be_bytes();
                    [high(family.afi), low(family.afi), family.safi, flags, a, b, c]
                })
                .collect(),
            Self::Hostname { host, domain } => {
                let mut value = counted(host, LONGEST_VALUE - 2);
                let room = LONGEST_VALUE - 1 - value.len();
                value.extend(counted(domain, room));
                value
            }
            Self::SoftwareVersion(text) => counted(text, LONGEST_VALUE - 1),
            Self::Unknown { value, .. } | Self::Malformed { value, .. } => value.clone(),
        }
    }
}

fn high(number: u16) -> u8 {
    number.to_be_bytes()[0]
}

fn low(number: u16) -> u8 {
    number.to_be_bytes()[1]
}

/// A text of at most so many octets behind its length; a longer one is cut between two characters.
fn counted(text: &str, limit: usize) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(limit)];
    let mut out = vec![u8::try_from(text.len()).expect("the limit is below a capability's length")];
    out.extend_from_slice(text.as_bytes());
    out
}

fn flag(value: &[u8], capability: Capability) -> Option<Capability> {
    value.is_empty().then_some(capability)
}

fn one(value: &[u8]) -> Option<u8> {
    <[u8; 1]>::try_from(value).ok().map(|[octet]| octet)
}

fn entries<const N: usize>(value: &[u8]) -> Option<impl Iterator<Item = [u8; N]>> {
    let (chunks, rest) = value.as_chunks::<N>();
    rest.is_empty().then(|| chunks.iter().copied())
}

fn multiprotocol(value: &[u8]) -> Option<Capability> {
    let [a, b, _, safi] = <[u8; 4]>::try_from(value).ok()?;
    Some(Capability::Multiprotocol(FamilyCode { afi: u16::from_be_bytes([a, b]), safi }))
}

fn extended_next_hop(value: &[u8]) -> Option<Capability> {
    // The SAFI has two octets here (RFC 8950, section 4).
    let list = entries::<6>(value)?.map(|[a, b, _, safi, c, d]| {
        (FamilyCode { afi: u16::from_be_bytes([a, b]), safi }, u16::from_be_bytes([c, d]))
    });
    Some(Capability::ExtendedNextHop(list.collect()))
}

fn graceful_restart(value: &[u8]) -> Option<Capability> {
    let (&[first, second], rest) = value.split_first_chunk::<2>()?;
    let families = entries::<4>(rest)?
        .map(|[a, b, safi, flags]| (FamilyCode { afi: u16::from_be_bytes([a, b]), safi }, flags & 0x80 != 0))
        .collect();
    Some(Capability::GracefulRestart(GracefulRestartCapability {
        restarting: first & 0x80 != 0,
        notification: first & 0x40 != 0,
        restart_time_secs: u16::from_be_bytes([first & 0x0f, second]),
        families,
    }))
}

impl GracefulRestartCapability {
    fn encode(&self) -> Vec<u8> {
        let mut flags = self.restart_time_secs.min(0x0fff);
        flags |= if self.restarting { 0x8000 } else { 0 };
        flags |= if self.notification { 0x4000 } else { 0 };
        let mut out = flags.to_be_bytes().to_vec();
        for (family, forwarding) in &self.families {
            let flags = if *forwarding { 0x80 } else { 0 };
            out.extend_from_slice(&[high(family.afi), low(family.afi), family.safi, flags]);
        }
        out
    }
}

fn four_octet_as(value: &[u8]) -> Option<Capability> {
    let octets = <[u8; 4]>::try_from(value).ok()?;
    Some(Capability::FourOctetAs(Asn(u32::from_be_bytes(octets))))
}

impl AddPathMode {
    fn code(self) -> u8 {
        match self {
            Self::Receive => 1,
            Self::Send => 2,
            Self::Both => 3,
            Self::Ignored(code) => code,
        }
    }
}

fn add_path(value: &[u8]) -> Option<Capability> {
    let list = entries::<4>(value)?.map(|[a, b, safi, mode]| {
        let mode = match mode {
            1 => AddPathMode::Receive,
            2 => AddPathMode::Send,
            3 => AddPathMode::Both,
            other => AddPathMode::Ignored(other),
        };
        (FamilyCode { afi: u16::from_be_bytes([a, b]), safi }, mode)
    });
    Some(Capability::AddPath(list.collect()))
}

fn long_lived_graceful_restart(value: &[u8]) -> Option<Capability> {
    let list = entries::<7>(value)?.map(|[a, b, safi, flags, x, y, z]| {
        let family = FamilyCode { afi: u16::from_be_bytes([a, b]), safi };
        (family, flags & 0x80 != 0, u32::from_be_bytes([0, x, y, z]))
    });
    Some(Capability::LongLivedGracefulRestart(list.collect()))
}

/// What is not UTF-8 is no text: the capability is kept as it came.
fn text(value: &[u8]) -> Option<(String, &[u8])> {
    let (&length, rest) = value.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

fn hostname(value: &[u8]) -> Option<Capability> {
    let (host, rest) = text(value)?;
    let (domain, rest) = text(rest)?;
    rest.is_empty().then_some(Capability::Hostname { host, domain })
}

fn software_version(value: &[u8]) -> Option<Capability> {
    let (version, rest) = text(value)?;
    rest.is_empty().then_some(Capability::SoftwareVersion(version))
}
