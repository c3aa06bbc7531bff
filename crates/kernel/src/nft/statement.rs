//! Matches and statements: the pieces that a rule is made of, in the words of the nft manual.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::family::Family;
use super::field::{FibAddress, FibQuery, FibResult, Field};
use super::value::{Member, Value};

/// A condition: `FIELD [. FIELD …] [!=] PATTERN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Match {
    /// What is looked at; more than one only where `pattern` is a set.
    pub fields: Vec<Field>,
    /// Whether the condition holds when the pattern does *not* fit.
    pub negated: bool,
    /// What it is compared with.
    pub pattern: Pattern,
}

/// The right side of a [`Match`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `tcp dport 80`, `iifname "cali*"`.
    Is(Value),
    /// `ip saddr 10.0.0.0/8`.
    Net(IpNet),
    /// `tcp dport 100-200`, both included.
    Range(Value, Value),
    /// `tcp dport >= 100`.
    AtLeast(Value),
    /// `tcp dport <= 100`.
    AtMost(Value),
    /// `meta mark & 0x10000 == 0x10000`; only for marks.
    Masked {
        /// The bits that are compared.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// `ct state established,related`: at least one of these bits is set.
    AnyOf(u32),
    /// `tcp dport { 22, 80-90 }`: a set of its own, fixed as long as the rule lives.
    OneOf(Vec<Member>),
    /// `ip saddr @name`.
    InSet(Arc<str>),
    /// `fib saddr . iif oif missing`: the routing tables have no answer.
    Missing,
}

impl Match {
    /// `field` fits `pattern`.
    pub fn new(field: Field, pattern: Pattern) -> Self {
        Self { fields: vec![field], negated: false, pattern }
    }

    /// `field` is `value`.
    pub fn is(field: Field, value: impl Into<Value>) -> Self {
        Self::new(field, Pattern::Is(value.into()))
    }

    /// The address in `field` lies in `net`.
    pub fn net(field: Field, net: IpNet) -> Self {
        if net.prefix_len() == net.max_prefix_len() {
            return Self::is(field, net.addr());
        }
        Self::new(field, Pattern::Net(net.trunc()))
    }

    /// `field` lies between `low` and `high`, both included.
    pub fn range(field: Field, low: impl Into<Value>, high: impl Into<Value>) -> Self {
        let (low, high) = (low.into(), high.into());
        if low == high { Self::is(field, low) } else { Self::new(field, Pattern::Range(low, high)) }
    }

    /// `field` is one of `members`; a single value needs no set.
    pub fn one_of(field: Field, members: impl IntoIterator<Item = impl Into<Member>>) -> Self {
        Self::fields_one_of([field], members)
    }

    /// The concatenation of `fields` is one of `members`.
    pub fn fields_one_of(
        fields: impl Into<Vec<Field>>,
        members: impl IntoIterator<Item = impl Into<Member>>,
    ) -> Self {
        let pattern = Pattern::OneOf(members.into_iter().map(Into::into).collect());
        Self { fields: fields.into(), negated: false, pattern }
    }

    /// `field` is in the named set.
    pub fn in_set(field: Field, set: impl Into<Arc<str>>) -> Self {
        Self::fields_in_set([field], set)
    }

    /// The concatenation of `fields` is in the named set.
    pub fn fields_in_set(fields: impl Into<Vec<Field>>, set: impl Into<Arc<str>>) -> Self {
        Self { fields: fields.into(), negated: false, pattern: Pattern::InSet(set.into()) }
    }

    /// `meta mark & mask == value`.
    pub fn mark(value: u32, mask: u32) -> Self {
        if mask == u32::MAX {
            return Self::is(Field::Mark, value);
        }
        Self::new(Field::Mark, Pattern::Masked { mask, value })
    }

    /// `ct state` is one of `states` ([`ct_state`](super::ct_state) bits).
    pub fn ct_state(states: u32) -> Self {
        Self::new(Field::CtState, Pattern::AnyOf(states))
    }

    /// `ct status` has one of `statuses` ([`ct_status`](super::ct_status) bits).
    pub fn ct_status(statuses: u32) -> Self {
        Self::new(Field::CtStatus, Pattern::AnyOf(statuses))
    }

    /// The source has no route back by the interface by which the packet came: `fib saddr [. mark] . iif oif missing`.
    pub fn no_reverse_path(mark: bool) -> Self {
        let query = FibQuery { address: FibAddress::Source, mark, iif: true, result: FibResult::Oif };
        Self::new(Field::Fib(query), Pattern::Missing)
    }

    /// The destination is an address of this host: `fib daddr type local`.
    pub fn destination_is_local() -> Self {
        Self::address_type(FibAddress::Destination)
    }

    /// The source is an address of this host: `fib saddr type local`.
    pub fn source_is_local() -> Self {
        Self::address_type(FibAddress::Source)
    }

    fn address_type(address: FibAddress) -> Self {
        const RTN_LOCAL: u32 = 2;
        let query = FibQuery { address, mark: false, iif: false, result: FibResult::Type };
        Self::is(Field::Fib(query), RTN_LOCAL)
    }

    /// The opposite condition.
    #[must_use]
    pub fn negate(mut self) -> Self {
        self.negated = !self.negated;
        self
    }
}

/// Where a packet goes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It is done with this base chain.
    Accept,
    /// It is dropped.
    Drop,
    /// The next rule.
    Continue,
    /// Back to the calling chain.
    Return,
    /// Into this chain, and back here after it.
    Jump(Arc<str>),
    /// Into this chain, and back to the caller of this one after it.
    Goto(Arc<str>),
}

impl Verdict {
    /// Jump to `chain`.
    pub fn jump(chain: impl Into<Arc<str>>) -> Self {
        Verdict::Jump(chain.into())
    }

    /// Go to `chain`.
    pub fn goto(chain: impl Into<Arc<str>>) -> Self {
        Verdict::Goto(chain.into())
    }

    /// The chain that it leads to.
    pub fn target(&self) -> Option<&Arc<str>> {
        match self {
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
            Verdict::Accept | Verdict::Drop | Verdict::Continue | Verdict::Return => None,
        }
    }
}

/// One step of a rule. A condition that does not hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Statement {
    /// A condition.
    Match(Match),
    /// Counts packets and bytes.
    Counter,
    /// Writes to the kernel log or to a netlink group.
    Log(Log),
    /// Holds while (or, with `over`, once) a rate is exceeded.
    Limit(Limit),
    /// `ct count [over] N`: holds while a number of connections is (not) exceeded.
    ConnectionLimit {
        /// The number.
        count: u32,
        /// Whether it holds above the number, not up to it.
        over: bool,
    },
    /// Drops and tells the sender.
    Reject(Reject),
    /// Changes the packet's mark.
    SetMark(SetMark),
    /// `ip dscp set …`, `ip6 dscp set …`.
    SetDscp {
        /// `ip` or `ip6`.
        family: Family,
        /// 0..=63.
        value: u8,
    },
    /// Source NAT to the address of the interface by which the packet leaves.
    Masquerade(Masquerade),
    /// Source NAT.
    Snat(Nat),
    /// Destination NAT.
    Dnat(Nat),
    /// Keeps the packet out of connection tracking.
    Notrack,
    /// `iifname vmap @name`: the verdict is looked up in a named map; none found, the rule ends.
    VerdictMap {
        /// The key.
        fields: Vec<Field>,
        /// The map.
        map: Arc<str>,
    },
    /// A verdict; must be the last statement.
    Verdict(Verdict),
}

/// `log …`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Log {
    /// Text before the packet's description, at most 127 bytes; empty for none.
    pub prefix: String,
    /// Where it goes.
    pub target: LogTarget,
}

/// Where a [`Log`] statement writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// The kernel log, at this syslog level (0 emerg … 4 warn … 7 debug).
    Kernel {
        /// The level.
        level: u8,
    },
    /// An NFLOG netlink group.
    Group {
        /// The group.
        group: u16,
        /// Bytes of the packet that are copied; 0 for all.
        snaplen: u32,
    },
}

impl Default for LogTarget {
    fn default() -> Self {
        LogTarget::Kernel { level: 4 }
    }
}

/// `limit rate [over] N/UNIT burst M packets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Packets per `unit`.
    pub rate: u64,
    /// The time that `rate` is for.
    pub unit: LimitUnit,
    /// Packets beyond the rate that are let through at once; 5 is the kernel's default.
    pub burst: u32,
    /// Whether it holds above the rate, not up to it.
    pub over: bool,
}

/// The time that a rate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitUnit {
    /// Per second.
    Second,
    /// Per minute.
    Minute,
    /// Per hour.
    Hour,
    /// Per day.
    Day,
    /// Per week.
    Week,
}

impl LimitUnit {
    /// The number of seconds.
    pub fn seconds(self) -> u64 {
        match self {
            LimitUnit::Second => 1,
            LimitUnit::Minute => 60,
            LimitUnit::Hour => 3600,
            LimitUnit::Day => 86400,
            LimitUnit::Week => 604_800,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            LimitUnit::Second => "second",
            LimitUnit::Minute => "minute",
            LimitUnit::Hour => "hour",
            LimitUnit::Day => "day",
            LimitUnit::Week => "week",
        }
    }
}

/// What the sender of a rejected packet is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reject {
    /// `reject`: port unreachable, in the ICMP of the packet's family.
    #[default]
    PortUnreachable,
    /// `reject with icmp …`: this code of "destination unreachable"; not in an `ip6` table.
    Icmp(u8),
    /// `reject with icmpv6 …`: this code of "destination unreachable"; not in an `ip` table.
    Icmpv6(u8),
    /// `reject with icmpx …` (`enum nft_reject_inet_code`): only in an `inet` table.
    Icmpx(u8),
    /// `reject with tcp reset`; only TCP packets match.
    TcpReset,
}

/// `meta mark set …`: the new mark is `(mark & mask) ^ xor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SetMark {
    /// The bits that are kept.
    pub mask: u32,
    /// The bits that are then flipped.
    pub xor: u32,
}

impl SetMark {
    /// Exactly this mark.
    pub fn to(value: u32) -> Self {
        Self { mask: 0, xor: value }
    }

    /// These bits on, the others as they are.
    pub fn or(bits: u32) -> Self {
        Self { mask: !bits, xor: bits }
    }

    /// These bits off, the others as they are.
    pub fn clear(bits: u32) -> Self {
        Self { mask: !bits, xor: 0 }
    }

    /// The bits of `mask` become those of `value`, the others stay.
    pub fn masked(value: u32, mask: u32) -> Self {
        Self { mask: !mask, xor: value & mask }
    }
}

/// `masquerade [to :PORTS] [FLAGS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Masquerade {
    /// The ports that may be used, both included; the rule must then match a transport protocol.
    pub ports: Option<(u16, u16)>,
    /// How ports are chosen.
    pub flags: NatFlags,
}

/// `snat to …`, `dnat to …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nat {
    /// The lowest and highest new address.
    pub addresses: (IpAddr, IpAddr),
    /// The lowest and highest new port; the rule must then match a transport protocol.
    pub ports: Option<(u16, u16)>,
    /// How ports are chosen.
    pub flags: NatFlags,
}

impl Nat {
    /// To exactly this address.
    pub fn to(address: IpAddr) -> Self {
        Self { addresses: (address, address), ports: None, flags: NatFlags::default() }
    }

    /// To exactly this address and port.
    pub fn to_port(address: IpAddr, port: u16) -> Self {
        Self { ports: Some((port, port)), ..Self::to(address) }
    }
}

/// `NF_NAT_RANGE_*` of `linux/netfilter/nf_nat.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NatFlags {
    /// A random start when looking for a free port.
    pub random: bool,
    /// Every port at random.
    pub fully_random: bool,
    /// The same address for every connection of a client.
    pub persistent: bool,
}

impl NatFlags {
    pub(crate) fn bits(self) -> u32 {
        u32::from(self.random) << 2 | u32::from(self.persistent) << 3 | u32::from(self.fully_random) << 4
    }
}
