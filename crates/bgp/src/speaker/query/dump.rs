//! The tables as MRT (RFC 6396, TABLE_DUMP_V2), page by page.

use std::fmt;
use std::str::FromStr;

use super::EXAMINED;
use super::cursor::{Cursor, CursorError};
use crate::observe::Timestamp;
use crate::observe::mrt::{Body, Entry, IndexedPeer, PeerIndex, Prefix, Record, write_attributes};
use crate::rib::{Net, Path, PeerNumber, Slot};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;
use crate::speaker::peer::Peer;
use crate::types::{Family, RouterId};

/// Octets of a page, but for the last route in it.
const PAGE: usize = 300_000;
/// Peers that an index has room for.
const MOST_PEERS: usize = u16::MAX as usize;

/// Where a page of a dump begins. Its text is for handing it back, not for reading.
///
/// It names the peers of the dump, in the order of its index: routes of peers that come later are not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpCursor {
    place: Cursor,
    sequence: u32,
    peers: Vec<PeerNumber>,
}

/// A page: whole records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpPage {
    /// To be appended to those before.
    pub octets: Vec<u8>,
    /// How many routes there are in it.
    pub routes: u64,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<DumpCursor>,
}

impl Speaker {
    /// A page of all routes of all peers, behind their import policies, and of our own: the first has the index of peers in
    /// front. `time`: now. When a route came is not kept; its entry has the time at which its session came up.
    pub fn dump(&self, from: Option<DumpCursor>, time: Timestamp) -> DumpPage {
        let mut octets = Vec::with_capacity(PAGE + 4096);
        let from = from.unwrap_or_else(|| {
            let peers = self.dumped_peers();
            encode(Record { timestamp: time, body: Body::PeerIndex(self.peer_index(&peers)) }, &mut octets);
            DumpCursor { place: Cursor::START, sequence: 0, peers }
        });
        let mut dump = Dump { speaker: self, time, octets, cursor: from, examined: 0, routes: 0 };
        let place = dump.fill();
        let Dump { octets, cursor, routes, .. } = dump;
        DumpPage { octets, routes, next: place.map(|place| DumpCursor { place, ..cursor }) }
    }

    /// We, and then the others, as far as there is room.
    fn dumped_peers(&self) -> Vec<PeerNumber> {
        std::iter::once(PeerNumber::LOCAL).chain(self.peers.keys().copied()).take(MOST_PEERS).collect()
    }

    fn peer_index(&self, numbers: &[PeerNumber]) -> PeerIndex {
        let (router_id, asn) = (self.config.router_id, self.config.local_as);
        let peer = |number: &PeerNumber| match self.peers.get(number) {
            None => IndexedPeer::ourselves(router_id, asn),
            Some(peer) => indexed(peer),
        };
        PeerIndex { collector: router_id, view: String::new(), peers: numbers.iter().map(peer).collect() }
    }
}

fn indexed(peer: &Peer) -> IndexedPeer {
    let unknown = RouterId(std::net::Ipv4Addr::UNSPECIFIED);
    let router_id = peer.agreed.as_ref().map_or(unknown, |agreed| agreed.router_id);
    IndexedPeer { router_id, address: peer.known_address(), asn: peer.config.remote_as }
}

/// A record that we have made; what it has counts of is far below what there is room for.
fn encode(record: Record, octets: &mut Vec<u8>) {
    record.encode(octets).expect("peers, routes and attributes are limited to what fits");
}

struct Dump<'a> {
    speaker: &'a Speaker,
    time: Timestamp,
    octets: Vec<u8>,
    cursor: DumpCursor,
    examined: usize,
    routes: u64,
}

impl Dump<'_> {
    /// The place to go on at, when not everything fits.
    fn fill(&mut self) -> Option<Cursor> {
        let from = self.cursor.place;
        for family in Family::ALL.into_iter().filter(|family| *family >= from.family) {
            let next = match family {
                Family::Ipv4Unicast => self.fill_from(&self.speaker.ipv4, from),
                Family::Ipv6Unicast => self.fill_from(&self.speaker.ipv6, from),
            };
            if next.is_some() {
                return next;
            }
        }
        None
    }

    fn fill_from<N: Net>(&mut self, family: &FamilyRib<N>, from: Cursor) -> Option<Cursor> {
        for (slot, prefix) in family.rib.prefixes_from(from.slot_in(N::FAMILY)) {
            if self.examined >= EXAMINED || self.octets.len() >= PAGE {
                return Some(Cursor::at(N::FAMILY, slot, 0));
            }
            self.examined += 1;
            let paths = family.rib.paths_at(slot);
            let next = self.prefix(prefix, slot, &paths, from.done_at(N::FAMILY, slot));
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// A record with the routes for a prefix but for the first ones; the place to go on at, when they do not all fit.
    fn prefix<N: Net>(&mut self, prefix: N, slot: Slot, paths: &[Path], skip: usize) -> Option<Cursor> {
        let has_path_ids = paths.iter().any(|path| path.path_id != 0);
        let (mut entries, mut length, mut next) = (Vec::new(), self.octets.len(), None);
        for (index, path) in paths.iter().enumerate().skip(skip) {
            if length >= PAGE || entries.len() >= usize::from(u16::MAX) {
                next = Some(Cursor::at(N::FAMILY, slot, index));
                break;
            }
            if let Some(entry) = self.entry(path, N::FAMILY, has_path_ids) {
                length += entry.attributes.len() + 12;
                entries.push(entry);
            }
        }
        if !entries.is_empty() {
            self.routes += entries.len() as u64;
            let prefix = Prefix { sequence: self.cursor.sequence, prefix: prefix.into(), entries };
            encode(Record { timestamp: self.time, body: Body::Prefix(prefix) }, &mut self.octets);
            self.cursor.sequence = self.cursor.sequence.wrapping_add(1);
        }
        next
    }

    /// `None`: its peer came after the dump began.
    fn entry(&self, path: &Path, family: Family, has_path_ids: bool) -> Option<Entry> {
        let place = self.cursor.peers.binary_search(&path.peer).ok()?;
        let peer = self.speaker.peers.get(&path.peer).filter(|peer| peer.session.negotiated().is_some());
        let up = peer.map(|peer| self.speaker.monitor.time(peer.session.since()));
        Some(Entry {
            peer: u16::try_from(place).expect("as many as fit"),
            originated: up.filter(|time| *time != Timestamp::UNKNOWN).unwrap_or(self.time).secs,
            path_id: has_path_ids.then_some(path.path_id),
            attributes: write_attributes(self.speaker.interner.get(path.attributes), family),
        })
    }
}

impl fmt::Display for DumpCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.place, self.sequence)?;
        for (index, peer) in self.peers.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, peer.0)?;
        }
        Ok(())
    }
}

impl FromStr for DumpCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CursorError(text.to_owned());
        let parts: Vec<&str> = text.splitn(3, '/').collect();
        let [place, sequence, peers] = parts[..] else { return Err(error()) };
        let peers = peers.split(',').map(|number| number.parse().map(PeerNumber));
        let peers = peers.collect::<Result<Vec<_>, _>>().map_err(|_| error())?;
        // Places are found by halving.
        if peers.len() > MOST_PEERS || !peers.is_sorted() {
            return Err(error());
        }
        let sequence = sequence.parse().map_err(|_| error())?;
        Ok(Self { place: place.parse().map_err(|_| error())?, sequence, peers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_text() {
        let place = Cursor::at(Family::Ipv6Unicast, 17.into(), 3);
        let peers = [0, 4, 70_000].map(PeerNumber).to_vec();
        let cursor = DumpCursor { place, sequence: 9, peers };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "4.0.0/1", "4.0.0/x/0", "4.0.0/1/", "4.0.0/1/2,1", "4.0.0/1/0,x", "9.0.0/1/0"] {
            assert!(text.parse::<DumpCursor>().is_err(), "{text}");
        }
    }
}
