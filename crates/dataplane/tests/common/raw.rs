//! Packets of any protocol by raw sockets, each with a number in it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use calc::evaluator::Packet;
use socket2::{Domain, Protocol, Socket, Type};

const PROTOCOLS: [u8; 6] = [1, 6, 17, 58, 253, 132];
/// In front of the number, so that other traffic is not taken for ours.
const MAGIC: &[u8; 4] = b"tORt";

/// Raw sockets of one workload, one for each protocol.
pub(crate) struct Sender {
    sockets: Vec<(u8, Socket)>,
}

impl Sender {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self { sockets: open(address) }
    }

    pub(crate) fn send(&self, packet: &Packet, id: u32) {
        let (_, socket) = self.sockets.iter().find(|(protocol, _)| *protocol == packet.protocol).unwrap();
        let to = SocketAddr::new(packet.destination, 0);
        socket.send_to(&transport(packet, id), &to.into()).unwrap();
    }
}

/// Raw sockets of one workload, and what they received.
pub(crate) struct Receiver {
    sockets: Vec<(u8, Socket)>,
    seen: BTreeSet<u32>,
}

impl Receiver {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self { sockets: open(address), seen: BTreeSet::new() }
    }

    /// Whether the packet is there; if it has to come, it is given time.
    pub(crate) fn arrived(&mut self, id: u32, expected: bool) -> bool {
        let deadline = Instant::now() + if expected { Duration::from_secs(5) } else { Duration::ZERO };
        loop {
            self.drain();
            if self.seen.contains(&id) || Instant::now() >= deadline {
                return self.seen.contains(&id);
            }
            std::thread::yield_now();
        }
    }

    /// Every packet that came.
    pub(crate) fn all(mut self) -> BTreeSet<u32> {
        self.drain();
        self.seen
    }

    fn drain(&mut self) {
        for (_, socket) in &self.sockets {
            let mut socket: &Socket = socket;
            let mut buffer = [0; 2048];
            loop {
                match socket.read(&mut buffer) {
                    Ok(length) => {
                        let found = buffer[..length].windows(8).find(|window| window.starts_with(MAGIC));
                        self.seen
                            .extend(found.map(|window| u32::from_be_bytes(window[4..].try_into().unwrap())));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

fn open(address: IpAddr) -> Vec<(u8, Socket)> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let other_icmp = if address.is_ipv4() { 58 } else { 1 };
    let wanted = PROTOCOLS.into_iter().filter(|protocol| *protocol != other_icmp);
    wanted
        .map(|protocol| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol)))).unwrap();
            socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
            socket.set_nonblocking(true).unwrap();
            (protocol, socket)
        })
        .collect()
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
        1 | 58 => {
            let header = vec![packet.icmp.0, packet.icmp.1, 0, 0];
            // Each echo is a connection of its own.
            let identity = u16::try_from(id).unwrap().to_be_bytes().to_vec();
            ([header, identity, vec![0, 1], payload].concat(), 2)
        }
        132 => return sctp(&ports, &payload),
        _ => return payload,
    };
    let sum = checksum(packet, &bytes).to_be_bytes();
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    bytes
}

/// An INIT (RFC 9260 sections 3.1 and 3.3.2): no verification tag, one chunk, whose parameters the payload stands for.
fn sctp(ports: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    // Initiate tag, window, streams out and in, first sequence number.
    let fixed = [[0, 0, 0, 1], [0, 0, 0xff, 0xff], [0, 1, 0, 1], [0, 0, 0, 1]].concat();
    let chunk = [&[1, 0], &length[..], &fixed, payload].concat();
    let mut bytes = [ports, &[0; 8], &chunk].concat();
    let sum = crc32c(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&sum);
    bytes
}

/// RFC 9260 appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// RFC 1071, over the pseudo header where the protocol has one.
fn checksum(packet: &Packet, bytes: &[u8]) -> u16 {
    let mut covered = Vec::new();
    if packet.protocol != 1 {
        for address in [packet.source, packet.destination] {
            match address {
                IpAddr::V4(address) => covered.extend(address.octets()),
                IpAddr::V6(address) => covered.extend(address.octets()),
            }
        }
        covered.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
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
