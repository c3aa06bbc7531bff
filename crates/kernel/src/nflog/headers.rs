//! What of a packet's beginning says whose it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The headers of a packet, as far as policy looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Headers {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Of TCP, UDP and SCTP; 0 for others, and for fragments behind the first.
    pub source_port: u16,
    /// As `source_port`.
    pub destination_port: u16,
    /// Type and code of ICMP and ICMPv6; 0 for others.
    pub icmp: (u8, u8),
}

impl Headers {
    /// Enough for an IPv6 header, an extension or two, and what follows; that is what is copied.
    pub const SNAP_BYTES: u32 = 96;

    /// Reads the beginning of an IP packet (RFC 791, RFC 8200); `None`: there is too little of it.
    pub fn read(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::ipv4(packet),
            6 => Self::ipv6(packet),
            _ => None,
        }
    }

    /// A packet of which only the addresses and the protocol are known.
    pub fn bare(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self { source, destination, protocol, source_port: 0, destination_port: 0, icmp: (0, 0) }
    }

    fn ipv4(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..20)?;
        let address = |at: usize| {
            IpAddr::from(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]))
        };
        let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        let rest = packet.get(usize::from(header[0] & 15) * 4..).filter(|_| offset == 0);
        Some(Self::new(address(12), address(16), header[9], rest.unwrap_or_default()))
    }

    fn ipv6(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..40)?;
        let address = |at: usize| {
            let octets: [u8; 16] = header[at..at + 16].try_into().ok()?;
            Some(IpAddr::from(Ipv6Addr::from(octets)))
        };
        let (protocol, rest) = upper_layer(header[6], &packet[40..]);
        Some(Self::new(address(8)?, address(24)?, protocol, rest))
    }

    /// `rest` begins with the header of the protocol, or is empty.
    fn new(source: IpAddr, destination: IpAddr, protocol: u8, rest: &[u8]) -> Self {
        let bare = Self::bare(source, destination, protocol);
        match (protocol, rest) {
            (6 | 17 | 132, [a, b, c, d, ..]) => Self {
                source_port: u16::from_be_bytes([*a, *b]),
                destination_port: u16::from_be_bytes([*c, *d]),
                ..bare
            },
            (1 | 58, [kind, code, ..]) => Self { icmp: (*kind, *code), ..bare },
            _ => bare,
        }
    }
}

/// Passes over the extension headers of IPv6 (RFC 8200, section 4) as far as they were copied.
fn upper_layer(mut protocol: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION_OPTIONS: u8 = 60;
    while let (HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT, [next, length, high, low, ..]) =
        (protocol, rest)
    {
        let is_fragment = protocol == FRAGMENT;
        let offset = u16::from_be_bytes([*high, *low]) >> 3;
        let bytes = if is_fragment { 8 } else { (usize::from(*length) + 1) * 8 };
        (protocol, rest) = (*next, rest.get(bytes..).unwrap_or_default());
        if is_fragment && offset > 0 {
            return (protocol, &[]);
        }
    }
    (protocol, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4(protocol: u8, fragment: u16, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(rest);
        packet
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend(rest);
        packet
    }

    fn seen(packet: &[u8]) -> (u8, u16, u16, (u8, u8)) {
        let headers = Headers::read(packet).unwrap();
        (headers.protocol, headers.source_port, headers.destination_port, headers.icmp)
    }

    #[test]
    fn ports_and_types_are_read_behind_options_and_extensions() {
        assert_eq!(seen(&ipv4(6, 0, &[0x9c, 0x40, 0, 80])), (6, 40000, 80, (0, 0)));
        let mut options = ipv4(17, 0, &[1, 1, 1, 0, 0, 53, 0, 54]);
        options[0] = 0x46;
        assert_eq!(seen(&options), (17, 53, 54, (0, 0)));
        assert_eq!(seen(&ipv4(1, 0, &[8, 3])), (1, 0, 0, (8, 3)));
        let extension = [58, 0, 0, 0, 0, 0, 0, 0, 128, 1, 0, 0];
        assert_eq!(seen(&ipv6(60, &extension)), (58, 0, 0, (128, 1)));
    }

    #[test]
    fn only_the_first_fragment_has_ports() {
        assert_eq!(seen(&ipv4(6, 0x2000, &[0, 1, 0, 2])), (6, 1, 2, (0, 0)));
        assert_eq!(seen(&ipv4(6, 0x0001, &[0, 1, 0, 2])), (6, 0, 0, (0, 0)));
        let first = [17, 0, 0, 1, 0, 0, 0, 0, 0, 7, 0, 9];
        assert_eq!(seen(&ipv6(44, &first)), (17, 7, 9, (0, 0)));
        let later = [17, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0, 9];
        assert_eq!(seen(&ipv6(44, &later)), (17, 0, 0, (0, 0)));
    }

    #[test]
    fn any_octets_are_read_without_a_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let mut packet = vec![0; random.usize(..120)];
            random.fill(&mut packet);
            let _ = Headers::read(&packet);
        }
        assert_eq!(Headers::read(&[]), None);
    }
}
