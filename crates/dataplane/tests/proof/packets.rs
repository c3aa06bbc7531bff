//! Whole packets of any protocol by raw sockets, each with a number in it, and what arrives of them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};

use calc::evaluator::Packet;
use socket2::{Domain, Protocol, Socket, Type};

/// In front of the number, so that other traffic is not taken for ours.
const MAGIC: &[u8; 4] = b"tORt";
/// `IPPROTO_RAW`: the sender writes the IP header.
const RAW: i32 = 255;
/// `ETH_P_IP` and `ETH_P_IPV6`.
const ETHERTYPES: [u16; 2] = [0x0800, 0x86dd];
/// What the host is asked to take; ICMP of the family besides.
const PROTOCOLS: [u8; 4] = [6, 17, 132, 253];

/// Sends packets from any address.
pub(crate) struct Sender {
    sockets: [Socket; 2],
}

impl Sender {
    /// In the calling thread's network namespace.
    pub(crate) fn open() -> Self {
        let open = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(RAW))).unwrap();
        Self { sockets: [open(Domain::IPV4), open(Domain::IPV6)] }
    }

    /// Sends it. What the sender's own host drops is an error to it.
    pub(crate) fn send(&self, packet: &Packet, id: u32) {
        let to = SocketAddr::new(packet.destination, 0);
        let socket = &self.sockets[usize::from(packet.destination.is_ipv6())];
        match socket.send_to(&whole(packet, id), &to.into()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => panic!("{packet:?}: {error}"),
        }
    }
}

/// What arrives in a network namespace.
pub(crate) struct Receiver {
    sockets: Vec<Socket>,
}

impl Receiver {
    /// Everything that comes in by an interface of the calling thread's network namespace, whether its own or not.
    pub(crate) fn of_links() -> Self {
        let open = |ethertype: u16| {
            let protocol = Protocol::from(i32::from(ethertype.to_be()));
            Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))
        };
        Self::new(ETHERTYPES.into_iter().map(open))
    }

    /// What the calling thread's network namespace takes in for itself, behind its rules.
    pub(crate) fn of_the_host() -> Self {
        let open =
            |domain, protocol: u8| Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))));
        let v4 = PROTOCOLS.into_iter().chain([1]).map(|protocol| open(Domain::IPV4, protocol));
        let v6 = PROTOCOLS.into_iter().chain([58]).map(|protocol| open(Domain::IPV6, protocol));
        Self::new(v4.chain(v6))
    }

    fn new(sockets: impl Iterator<Item = io::Result<Socket>>) -> Self {
        let sockets: Vec<Socket> = sockets.map(Result::unwrap).collect();
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        Self { sockets }
    }

    /// The numbers of the packets that have come.
    pub(crate) fn drain(&self, seen: &mut BTreeSet<u32>) {
        let mut buffer = [0; 2048];
        for mut socket in &self.sockets {
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => seen.extend(number(&buffer[..length])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    let found = bytes.windows(8).find(|window| window.starts_with(MAGIC))?;
    Some(u32::from_be_bytes(found[4..].try_into().ok()?))
}

/// The IP header (RFC 791, RFC 8200), then the transport's.
fn whole(packet: &Packet, id: u32) -> Vec<u8> {
    let inner = transport(packet, id);
    let length = u16::try_from(inner.len()).unwrap();
    let mut bytes = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // Version and header length, type of service, length, identification, fragment, hops; the kernel fills in the checksum.
            let [high, low] = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, packet.protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let [high, low] = length.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, packet.protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => panic!("two families: {packet:?}"),
    };
    bytes.extend(inner);
    bytes
}

/// The transport header with a right checksum (connection tracking calls others invalid), then the number.
fn transport(packet: &Packet, id: u32) -> Vec<u8> {
    let payload: Vec<u8> = MAGIC.iter().copied().chain(id.to_be_bytes()).collect();
    let ports = [packet.source_port.to_be_bytes(), packet.destination_port.to_be_bytes()].concat();
    let (mut bytes, checksum_at) = match packet.protocol {
        6 => {
            // Sequence, acknowledgement, five words of header, SYN, window.
            let rest = [[0, 0, 0, 1], [0; 4], [5 << 4, 2, 0xff, 0xff], [0; 4]].concat();
            ([ports, rest, payload].concat(), 16)
        }
        17 => {
            let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
            ([ports, length.to_vec(), vec![0, 0], payload].concat(), 6)
        }
        136 => return udp_lite(packet, &ports, &payload),
        1 | 58 => {
            let header = vec![packet.icmp.0, packet.icmp.1, 0, 0];
            // Each echo is a connection of its own.
            let [_, _, high, low] = id.to_be_bytes();
            ([header, vec![high, low, 0, 1], payload].concat(), 2)
        }
        132 => return sctp(&ports, &payload),
        _ => return payload,
    };
    let sum = checksum(packet, &bytes, bytes.len()).to_be_bytes();
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    bytes
}

/// UDP-Lite (RFC 3828) whose checksum covers the header: eight octets. Connection tracking takes the pseudo header of UDP for it
/// (`udplite_error` in nf_conntrack_proto_udp.c) and calls others invalid.
fn udp_lite(packet: &Packet, ports: &[u8], payload: &[u8]) -> Vec<u8> {
    let packet = &Packet { protocol: 17, ..packet.clone() };
    let mut header = [ports, &[0, 8, 0, 0]].concat();
    let sum = checksum(packet, &header, header.len() + payload.len()).to_be_bytes();
    header[6..].copy_from_slice(&sum);
    [&header, payload].concat()
}

/// An INIT (RFC 9260 section 3.3.2), whose tag and window are what is to be carried.
fn sctp(ports: &[u8], payload: &[u8]) -> Vec<u8> {
    let init = [&[1, 0, 0, 20], payload, &[0, 1, 0, 1], &[0, 0, 0, 1]].concat();
    let mut bytes = [ports, &[0; 8], &init].concat();
    let sum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// RFC 1071 over these bytes, and over the pseudo header where the protocol has one; it holds the length of all.
fn checksum(packet: &Packet, bytes: &[u8], length: usize) -> u16 {
    let mut covered = Vec::new();
    if packet.protocol != 1 {
        for address in [packet.source, packet.destination] {
            match address {
                IpAddr::V4(address) => covered.extend(address.octets()),
                IpAddr::V6(address) => covered.extend(address.octets()),
            }
        }
        covered.extend(u32::try_from(length).unwrap().to_be_bytes());
        covered.extend([0, 0, 0, packet.protocol]);
    }
    covered.extend(bytes);
    if covered.len() % 2 == 1 {
        covered.push(0);
    }
    let sum: u32 = covered.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}
