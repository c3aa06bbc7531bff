//! As much of BGP as a load generator needs: OPEN, KEEPALIVE and UPDATE out, prefixes in (RFC 4271, section 4).
//!
//! Nothing is checked: the speakers under test are not under test for that here.

use std::net::Ipv4Addr;

/// Length of a header, and of a KEEPALIVE.
pub(crate) const HEADER: usize = 19;
/// Longest message without RFC 8654.
pub(crate) const LONGEST: usize = 4096;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;

/// An IPv4 prefix: address and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(pub(crate) u32, pub(crate) u8);

impl Prefix {
    fn encode(self, out: &mut Vec<u8>) {
        out.push(self.1);
        out.extend(&self.0.to_be_bytes()[..usize::from(self.1).div_ceil(8)]);
    }
}

fn message(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![0xff; HEADER];
    body(&mut out);
    let length = u16::try_from(out.len()).expect("a message is shorter than 64 KiB");
    out[16..18].copy_from_slice(&length.to_be_bytes());
    out[18] = kind;
    out
}

/// An OPEN: hold time 240 s, IPv4 unicast, four-octet AS numbers, route refresh.
pub(crate) fn open(asn: u32, id: Ipv4Addr, hold_time: u16) -> Vec<u8> {
    const AS_TRANS: u16 = 23456;
    message(OPEN, |out| {
        out.push(4);
        out.extend(u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        out.extend(hold_time.to_be_bytes());
        out.extend(id.octets());
        let mut capabilities = vec![1, 4, 0, 1, 0, 1, 2, 0, 65, 4];
        capabilities.extend(asn.to_be_bytes());
        let length = u8::try_from(capabilities.len()).expect("a few capabilities");
        out.extend([length + 2, 2, length]);
        out.extend(capabilities);
    })
}

/// A KEEPALIVE.
pub(crate) fn keepalive() -> Vec<u8> {
    message(KEEPALIVE, |_| {})
}

/// UPDATEs that announce prefixes with one set of attributes (encoded, without lengths), as few as possible.
pub(crate) fn announce(attributes: &[u8], prefixes: &[Prefix], out: &mut Vec<u8>) {
    let room = LONGEST - HEADER - 4 - attributes.len();
    // A prefix takes at most five octets.
    for piece in prefixes.chunks(room / 5) {
        out.extend(message(UPDATE, |out| {
            out.extend([0, 0]);
            out.extend(u16::try_from(attributes.len()).expect("attributes fit").to_be_bytes());
            out.extend(attributes);
            piece.iter().for_each(|prefix| prefix.encode(out));
        }));
    }
}

/// What a stream of messages says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The speaker's OPEN.
    Open,
    /// A KEEPALIVE.
    Keepalive,
    /// An UPDATE begins.
    Update,
    /// A prefix is announced.
    Announced(Prefix),
    /// A prefix is withdrawn.
    Withdrawn(Prefix),
    /// A NOTIFICATION: code and subcode.
    Notification(u8, u8),
}

/// Takes whole messages off the front of `bytes`; gives how many octets they were.
pub(crate) fn read(bytes: &[u8], mut say: impl FnMut(Said)) -> usize {
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + HEADER) {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let Some(body) = bytes.get(at + HEADER..at + length) else { break };
        match header[18] {
            OPEN => say(Said::Open),
            UPDATE => read_update(body, &mut say),
            KEEPALIVE => say(Said::Keepalive),
            _ => say(Said::Notification(
                body.first().copied().unwrap_or_default(),
                body.get(1).copied().unwrap_or_default(),
            )),
        }
        at += length;
    }
    at
}

fn read_update(body: &[u8], say: &mut impl FnMut(Said)) {
    say(Said::Update);
    let length_at =
        |at: usize| body.get(at..at + 2).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
    let withdrawn = length_at(0);
    let attributes = length_at(2 + withdrawn);
    prefixes(body.get(2..2 + withdrawn).unwrap_or_default(), |prefix| say(Said::Withdrawn(prefix)));
    let announced = body.get(4 + withdrawn + attributes..).unwrap_or_default();
    prefixes(announced, |prefix| say(Said::Announced(prefix)));
}

fn prefixes(mut bytes: &[u8], mut each: impl FnMut(Prefix)) {
    while let [length, rest @ ..] = bytes {
        let octets = usize::from(*length).div_ceil(8);
        let Some(given) = rest.get(..octets) else { return };
        let mut address = [0; 4];
        address[..octets].copy_from_slice(given);
        each(Prefix(u32::from_be_bytes(address), *length));
        bytes = &rest[octets..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_read_back_whole_messages_at_a_time() {
        let prefixes: Vec<Prefix> = (0..3000).map(|n| Prefix(0x0a00_0000 + n * 64, 26)).collect();
        let mut bytes = keepalive();
        announce(&[0x40, 1, 1, 0], &prefixes, &mut bytes);
        let (mut seen, mut updates) = (Vec::new(), 0);
        let whole = read(&bytes[..bytes.len() - 1], |said| match said {
            Said::Announced(prefix) => seen.push(prefix),
            Said::Update => updates += 1,
            other => assert_eq!(other, Said::Keepalive),
        });
        assert!(whole < bytes.len() - 1 && seen.len() < 3000 && updates >= 3);
        read(&bytes[whole..], |said| {
            if let Said::Announced(prefix) = said {
                seen.push(prefix);
            }
        });
        assert_eq!(seen, prefixes);
    }
}
