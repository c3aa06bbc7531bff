//! Tables, hooks and base chains: where a ruleset is attached.

use std::fmt;

/// The protocol family of a table (`NFPROTO_*` in `linux/netfilter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 packets.
    Ip,
    /// IPv6 packets.
    Ip6,
    /// Both, in one table.
    Inet,
    /// ARP packets.
    Arp,
}

impl Family {
    /// The number that netlink messages carry (`nfgenmsg.nfgen_family`).
    pub fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Arp => 3,
            Family::Ip6 => 10,
        }
    }
}

impl Family {
    /// The name that nft uses.
    pub fn name(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Arp => "arp",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names one table of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId {
    /// The family.
    pub family: Family,
    /// The name, at most 255 bytes.
    pub name: String,
}

impl TableId {
    /// Names the table `name` of `family`.
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self { family, name: name.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}", self.family, self.name)
    }
}

/// Where in the path of a packet a base chain is called (`NF_INET_*` in `linux/netfilter.h`, `NF_ARP_*` in
/// `linux/netfilter_arp.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Every packet that arrives, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that pass through.
    Forward,
    /// Packets that this host sends, before they are rerouted.
    Output,
    /// Every packet that leaves, after routing.
    Postrouting,
}

impl Hook {
    const ALL: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

    /// The hook's number; none where the family has no such hook.
    pub fn number(self, family: Family) -> Option<u32> {
        match (family, self) {
            (Family::Arp, Hook::Input) => Some(0),
            (Family::Arp, Hook::Output) => Some(1),
            (Family::Arp, _) => None,
            (Family::Ip | Family::Ip6 | Family::Inet, hook) => Some(hook as u32),
        }
    }

    /// The hook with that number.
    pub fn from_number(family: Family, number: u32) -> Option<Self> {
        Hook::ALL.into_iter().find(|hook| hook.number(family) == Some(number))
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChainType {
    /// Accepting and dropping.
    Filter,
    /// Address translation: sees only the first packet of a connection.
    Nat,
    /// Output packets that are routed again when a mark changed.
    Route,
}

impl ChainType {
    /// The name that netlink and nft use.
    pub fn name(self) -> &'static str {
        match self {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [ChainType::Filter, ChainType::Nat, ChainType::Route].into_iter().find(|kind| kind.name() == name)
    }
}

/// What happens to a packet that no rule of a base chain decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        })
    }
}

/// What makes a chain a base chain: the kernel itself calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseChain {
    /// The type.
    pub kind: ChainType,
    /// The hook.
    pub hook: Hook,
    /// Lower is earlier; [`priority`] has the standard ones.
    pub priority: i32,
    /// The policy.
    pub policy: Policy,
}

/// The standard priorities of base chains (`NF_IP_PRI_*` in `linux/netfilter_ipv4.h`).
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Changing packets.
    pub const MANGLE: i32 = -150;
    /// Destination NAT.
    pub const DSTNAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Security modules.
    pub const SECURITY: i32 = 50;
    /// Source NAT.
    pub const SRCNAT: i32 = 100;
}

impl BaseChain {
    /// Whether a table of the family can have such a chain.
    pub fn exists_in(self, family: Family) -> bool {
        let kind = match self.kind {
            ChainType::Filter => true,
            ChainType::Nat => family != Family::Arp && self.hook != Hook::Forward,
            ChainType::Route => family != Family::Arp && self.hook == Hook::Output,
        };
        kind && self.hook.number(family).is_some()
    }
}

impl fmt::Display for BaseChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type {} hook {} priority ", self.kind.name(), self.hook)?;
        write_priority(f, self.hook, self.priority)?;
        write!(f, "; policy {};", self.policy)
    }
}

/// nft names a priority relative to the nearest standard one, within ten.
fn write_priority(f: &mut fmt::Formatter<'_>, hook: Hook, value: i32) -> fmt::Result {
    let named = [
        ("raw", priority::RAW),
        ("mangle", priority::MANGLE),
        ("dstnat", priority::DSTNAT),
        ("filter", priority::FILTER),
        ("security", priority::SECURITY),
        ("srcnat", priority::SRCNAT),
    ];
    let applies = |name: &str| match name {
        "dstnat" => hook == Hook::Prerouting,
        "srcnat" => hook == Hook::Postrouting,
        _ => true,
    };
    let near = named.iter().find(|(name, at)| applies(name) && (value - at).abs() <= 10);
    match near {
        Some((name, at)) if value == *at => f.write_str(name),
        Some((name, at)) if value > *at => write!(f, "{name} + {}", value - at),
        Some((name, at)) => write!(f, "{name} - {}", at - value),
        None => write!(f, "{value}"),
    }
}
