//! The symbolic names that nft prints for numbers.

use std::fmt;

use super::value::DataType;

/// Writes `number` as nft lists a value of type `kind`.
pub(crate) fn write_number(f: &mut fmt::Formatter<'_>, kind: DataType, number: u32) -> fmt::Result {
    match kind {
        DataType::Mark => return write!(f, "{number:#010x}"),
        DataType::CtState => return write_bits(f, CT_STATES, number),
        DataType::CtStatus => return write_bits(f, CT_STATUSES, number),
        _ => {}
    }
    match table(kind).iter().find(|(value, _)| *value == number) {
        Some((_, name)) => f.write_str(name),
        None => write!(f, "{number}"),
    }
}

fn table(kind: DataType) -> &'static [(u32, &'static str)] {
    match kind {
        DataType::ArpOp => ARP_OPERATIONS,
        DataType::InetProto => PROTOCOLS,
        DataType::IcmpType => ICMP_TYPES,
        DataType::IcmpCode => ICMP_CODES,
        DataType::Icmpv6Type => ICMPV6_TYPES,
        DataType::Icmpv6Code => ICMPV6_CODES,
        DataType::CtDirection => &[(0, "original"), (1, "reply")],
        DataType::NfProto => &[(2, "ipv4"), (10, "ipv6")],
        DataType::AddrType => ADDRESS_TYPES,
        _ => &[],
    }
}

/// Writes a DSCP as nft lists it.
pub(crate) fn write_dscp(f: &mut fmt::Formatter<'_>, value: u8) -> fmt::Result {
    match (value >> 3, value & 7) {
        (class, 0) => write!(f, "cs{class}"),
        (class @ 1..=4, drop @ (2 | 4 | 6)) => write!(f, "af{class}{}", drop / 2),
        _ => match value {
            1 => f.write_str("lephb"),
            44 => f.write_str("va"),
            46 => f.write_str("ef"),
            other => write!(f, "{other:#04x}"),
        },
    }
}

/// Bits by name with commas between them, lowest first; unknown bits as one number at the end.
fn write_bits(f: &mut fmt::Formatter<'_>, names: &[(u32, &str)], bits: u32) -> fmt::Result {
    let known = names.iter().filter(|(bit, _)| bits & bit != 0);
    let rest = names.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    let mut separator = "";
    for (_, name) in known {
        write!(f, "{separator}{name}")?;
        separator = ",";
    }
    if rest != 0 || bits == 0 {
        write!(f, "{separator}{rest:#x}")?;
    }
    Ok(())
}

/// `ARPOP_*` of `linux/if_arp.h`.
const ARP_OPERATIONS: &[(u32, &str)] = &[
    (1, "request"),
    (2, "reply"),
    (3, "rrequest"),
    (4, "rreply"),
    (8, "inrequest"),
    (9, "inreply"),
    (10, "nak"),
];

/// `IP_CT_*` as the bits of `NF_CT_STATE_BIT`.
const CT_STATES: &[(u32, &str)] =
    &[(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];

/// `IPS_*` of `linux/netfilter/nf_conntrack_common.h`.
const CT_STATUSES: &[(u32, &str)] = &[
    (0x1, "expected"),
    (0x2, "seen-reply"),
    (0x4, "assured"),
    (0x8, "confirmed"),
    (0x10, "snat"),
    (0x20, "dnat"),
    (0x200, "dying"),
];

/// The protocols that `/etc/protocols` names on every Debian; nft reads the names from there.
const PROTOCOLS: &[(u32, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (4, "ipencap"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "ipv6-icmp"),
    (89, "ospf"),
    (94, "ipip"),
    (103, "pim"),
    (108, "ipcomp"),
    (112, "vrrp"),
    (115, "l2tp"),
    (132, "sctp"),
    (136, "udplite"),
    (137, "mpls-in-ip"),
];

const ICMP_TYPES: &[(u32, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "info-request"),
    (16, "info-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];

pub(crate) const ICMP_CODES: &[(u32, &str)] = &[
    (0, "net-unreachable"),
    (1, "host-unreachable"),
    (2, "prot-unreachable"),
    (3, "port-unreachable"),
    (4, "frag-needed"),
    (9, "net-prohibited"),
    (10, "host-prohibited"),
    (13, "admin-prohibited"),
];

const ICMPV6_TYPES: &[(u32, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (138, "router-renumbering"),
    (141, "ind-neighbor-solicit"),
    (142, "ind-neighbor-advert"),
    (143, "mld2-listener-report"),
];

pub(crate) const ICMPV6_CODES: &[(u32, &str)] = &[
    (0, "no-route"),
    (1, "admin-prohibited"),
    (3, "addr-unreachable"),
    (4, "port-unreachable"),
    (5, "policy-fail"),
    (6, "reject-route"),
];

/// `enum nft_reject_inet_code`.
pub(crate) const ICMPX_CODES: &[(u32, &str)] =
    &[(0, "no-route"), (1, "port-unreachable"), (2, "host-unreachable"), (3, "admin-prohibited")];

/// `RTN_*` of `linux/rtnetlink.h`.
const ADDRESS_TYPES: &[(u32, &str)] = &[
    (0, "unspec"),
    (1, "unicast"),
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];
