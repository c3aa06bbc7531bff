//! Routes for a station, sorted by what they have in common, as Route Monitoring.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use super::headers::Scene;
use crate::observe::Timestamp;
use crate::observe::bmp::{PeerHeader, route_monitoring};
use crate::packet::{Context, HEADER_LEN, MAX_EXTENDED_LEN, MAX_LEN, PeerKind};
use crate::rib::{
    AttributeId, AttributeSet, Exported, Format, Item, Net, Packed, PeerNumber, RawAttributes, announce,
    withdraw,
};
use crate::types::Family;

/// Whose table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    In { peer: PeerNumber, post_policy: bool },
    Loc,
}

/// Routes that are there, or not any more. Each is in it once.
#[derive(Debug)]
pub(super) struct Batch<N> {
    /// `None`: withdrawn.
    routes: BTreeMap<(Table, Option<AttributeId>), Vec<Item<N>>>,
    len: usize,
}

impl<N> Default for Batch<N> {
    fn default() -> Self {
        Self { routes: BTreeMap::new(), len: 0 }
    }
}

impl<N: Net> Batch<N> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn add(&mut self, table: Table, prefix: N, path_id: u32, attributes: Option<AttributeId>) {
        self.routes.entry((table, attributes)).or_default().push(Item { prefix, path_id });
        self.len += 1;
    }

    /// Appends it all. `time`: when the routes came, if it is known.
    pub(super) fn encode(self, scene: &Scene<'_>, time: Timestamp, out: &mut Vec<u8>) {
        for ((table, attributes), items) in self.routes {
            let Some((header, format)) = form::<N>(table, scene) else { continue };
            let header = PeerHeader { timestamp: time, ..header };
            let mut packed = Packed::default();
            match attributes.map(|id| scene.interner.get(id)) {
                Some(set) => announced(&items, set, format, &mut packed),
                None => withdraw(&items, format, &mut packed),
            }
            each_message(&packed.octets, |update| route_monitoring(&header, update, out));
        }
    }
}

/// How a table's UPDATEs are written: as the OPENs of Peer Up say, but for AS numbers, which always have four octets.
pub(super) fn form<N: Net>(table: Table, scene: &Scene<'_>) -> Option<(PeerHeader, Format)> {
    let initial = Context::initial(PeerKind::Internal);
    let (header, context) = match table {
        Table::In { peer, post_policy } => {
            let agreed = scene.peers.get(&peer)?.agreed.as_ref()?;
            (scene.header(peer, post_policy)?, agreed.context)
        }
        Table::Loc => (scene.loc_rib(), initial),
    };
    let max_len = if context.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN };
    Some((header, Format { as4: true, add_path: context.add_path.contains(N::FAMILY), max_len }))
}

/// Attributes that are too long for the peer's messages, because AS numbers are longer, get a longer one.
fn announced<N: Net>(items: &[Item<N>], set: &AttributeSet, format: Format, packed: &mut Packed) {
    let raw = RawAttributes::new(set.octets());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    raw.encode_part(true, &mut before);
    raw.encode_part(false, &mut after);
    let next_hop = match (N::FAMILY, set.next_hop) {
        (Family::Ipv6Unicast, IpAddr::V4(address)) if address.is_unspecified() => {
            Ipv6Addr::UNSPECIFIED.into()
        }
        (_, address) => address,
    };
    let exported = Exported { before: &before, after: &after, next_hop, link_local: set.link_local };
    let long = Format { max_len: MAX_EXTENDED_LEN, ..format };
    if !announce(items, exported, format, packed) && !announce(items, exported, long, packed) {
        withdraw(items, format, packed);
    }
}

/// Messages one after another, as we have packed them.
fn each_message(octets: &[u8], mut take: impl FnMut(&[u8])) {
    let mut rest = octets;
    while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let (message, after) = rest.split_at(length.clamp(HEADER_LEN, rest.len()));
        take(message);
        rest = after;
    }
}
