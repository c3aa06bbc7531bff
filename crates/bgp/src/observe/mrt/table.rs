//! TABLE_DUMP_V2: peers, and the routes for a prefix (RFC 6396, section 4.3; RFC 8050, section 4.2).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{TooMany, count};
use crate::observe::DecodeError;
use crate::observe::reader::{Reader, put_address};
use crate::packet::nlri::{self, Nlri};
use crate::types::{Asn, Family, RouterId};

pub(super) const PEER_INDEX_TABLE: u16 = 1;
const RIB_IPV4_UNICAST: u16 = 2;
const RIB_IPV6_UNICAST: u16 = 4;
const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;

/// Of a peer's type: its address is IPv6.
const IPV6: u8 = 1;
/// Of a peer's type: its AS number has four octets.
const AS4: u8 = 2;

/// Whose routes follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIndex {
    /// The identifier of the one who dumps.
    pub collector: RouterId,
    /// The name of the view; usually empty.
    pub view: String,
    /// Peers by number, from 0.
    pub peers: Vec<IndexedPeer>,
}

/// A peer in [`PeerIndex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedPeer {
    /// Its identifier; 0.0.0.0: not known.
    pub router_id: RouterId,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: Asn,
}

/// The routes for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// Counts the prefixes of a dump from 0, and wraps.
    pub sequence: u32,
    /// The prefix.
    pub prefix: IpNet,
    /// Its routes: with path identifiers all of them, or none.
    pub entries: Vec<Entry>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose: a place in [`PeerIndex::peers`].
    pub peer: u16,
    /// When it came, in seconds since the epoch.
    pub originated: u32,
    /// The identifier that the peer gave it (RFC 8050).
    pub path_id: Option<u32>,
    /// Encoded attributes: four-octet AS numbers, MP_REACH_NLRI with nothing but next hops; see
    /// [`write_attributes`](super::write_attributes).
    pub attributes: Vec<u8>,
}

impl PeerIndex {
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooMany> {
        let end = self.view.floor_char_boundary(usize::from(u16::MAX));
        let view = &self.view.as_bytes()[..end];
        out.extend_from_slice(&self.collector.0.octets());
        out.extend_from_slice(&count("octets of the view's name", view.len())?);
        out.extend_from_slice(view);
        out.extend_from_slice(&count("peers", self.peers.len())?);
        for peer in &self.peers {
            out.push(AS4 | if peer.address.is_ipv6() { IPV6 } else { 0 });
            out.extend_from_slice(&peer.router_id.0.octets());
            put_address(peer.address, out);
            out.extend_from_slice(&peer.asn.0.to_be_bytes());
        }
        Ok(())
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let collector = RouterId(body.ipv4("Collector BGP ID")?);
        let length = usize::from(body.u16("View Name Length")?);
        let view = body.text(length, "View Name")?;
        let peers = (0..body.u16("Peer Count")?).map(|_| IndexedPeer::decode(body));
        Ok(Self { collector, view, peers: peers.collect::<Result<_, _>>()? })
    }
}

impl IndexedPeer {
    fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = body.u8("Peer Type")?;
        Ok(Self {
            router_id: RouterId(body.ipv4("Peer BGP ID")?),
            address: body.address(kind & IPV6 != 0, "Peer Address")?,
            asn: match kind & AS4 {
                0 => Asn(body.u16("Peer AS")?.into()),
                _ => Asn(body.u32("Peer AS")?),
            },
        })
    }
}

impl Prefix {
    fn has_path_ids(&self) -> bool {
        self.entries.iter().any(|entry| entry.path_id.is_some())
    }

    pub(super) fn subtype(&self) -> u16 {
        match (Family::of(&self.prefix), self.has_path_ids()) {
            (Family::Ipv4Unicast, false) => RIB_IPV4_UNICAST,
            (Family::Ipv6Unicast, false) => RIB_IPV6_UNICAST,
            (Family::Ipv4Unicast, true) => RIB_IPV4_UNICAST_ADDPATH,
            (Family::Ipv6Unicast, true) => RIB_IPV6_UNICAST_ADDPATH,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooMany> {
        let has_path_ids = self.has_path_ids();
        out.extend_from_slice(&self.sequence.to_be_bytes());
        nlri::encode(&Nlri { path_id: None, prefix: self.prefix }, out);
        out.extend_from_slice(&count("routes for a prefix", self.entries.len())?);
        for entry in &self.entries {
            out.extend_from_slice(&entry.peer.to_be_bytes());
            out.extend_from_slice(&entry.originated.to_be_bytes());
            if has_path_ids {
                out.extend_from_slice(&entry.path_id.unwrap_or(0).to_be_bytes());
            }
            out.extend_from_slice(&count("octets of attributes", entry.attributes.len())?);
            out.extend_from_slice(&entry.attributes);
        }
        Ok(())
    }

    /// `None`: a subtype that we do not read.
    pub(super) fn decode(subtype: u16, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let (family, has_path_ids) = match subtype {
            RIB_IPV4_UNICAST => (Family::Ipv4Unicast, false),
            RIB_IPV6_UNICAST => (Family::Ipv6Unicast, false),
            RIB_IPV4_UNICAST_ADDPATH => (Family::Ipv4Unicast, true),
            RIB_IPV6_UNICAST_ADDPATH => (Family::Ipv6Unicast, true),
            _ => return Ok(None),
        };
        let sequence = body.u32("Sequence Number")?;
        let prefix = prefix(family, body)?;
        let entries = (0..body.u16("Entry Count")?).map(|_| Entry::decode(has_path_ids, body));
        Ok(Some(Self { sequence, prefix, entries: entries.collect::<Result<_, _>>()? }))
    }
}

fn prefix(family: Family, body: &mut Reader<'_>) -> Result<IpNet, DecodeError> {
    let at = body.clone();
    let length = body.clone().u8("Prefix Length")?;
    let octets = body.take(1 + usize::from(length).div_ceil(8), "Prefix")?;
    let list = nlri::decode(octets, family, false).map_err(|error| at.fault("Prefix", error.reason))?;
    match list[..] {
        [Nlri { prefix, .. }] => Ok(prefix),
        _ => Err(at.fault("Prefix", "not one prefix")),
    }
}

impl Entry {
    fn decode(has_path_ids: bool, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (peer, originated) = (body.u16("Peer Index")?, body.u32("Originated Time")?);
        let path_id = has_path_ids.then(|| body.u32("Path Identifier")).transpose()?;
        let length = usize::from(body.u16("Attribute Length")?);
        let attributes = body.take(length, "BGP Attributes")?.to_vec();
        Ok(Self { peer, originated, path_id, attributes })
    }
}

impl IndexedPeer {
    /// The one who dumps, as the peer that its own routes come from.
    pub fn ourselves(router_id: RouterId, asn: Asn) -> Self {
        Self { router_id, address: Ipv4Addr::UNSPECIFIED.into(), asn }
    }
}
