//! The per-peer header: of which table, of which peer, when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::observe::reader::{Reader, put_address};
use crate::observe::{DecodeError, Timestamp};
use crate::types::{Asn, RouterId};

const V: u8 = 0x80;
const L: u8 = 0x40;
const A: u8 = 0x20;
const O: u8 = 0x10;
/// Of a Loc-RIB.
const F: u8 = 0x80;

/// Whose table, and which (RFC 7854, section 4.2).
///
/// ```text
/// +---------------+---------------+-------------------------------+
/// |  Peer type    | V L A O 0 0 0 0  (F 0 0 0 0 0 0 0: Loc-RIB)   |
/// +---------------+---------------+-------------------------------+
/// |         Peer distinguisher (8 octets)                         |
/// |         Peer address (16 octets, IPv4 in the last four)       |
/// |         Peer AS (4), peer BGP id (4)                          |
/// |         Timestamp: seconds (4), microseconds (4)              |
/// +---------------------------------------------------------------+
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHeader {
    /// Which of its tables.
    pub view: View,
    /// AS_PATHs have two-octet AS numbers. Ours never have.
    pub legacy_as_path: bool,
    /// In which instance the address means something.
    pub instance: Instance,
    /// The peer's address; `::` for a Loc-RIB.
    pub address: IpAddr,
    /// The peer's AS; our own for a Loc-RIB.
    pub asn: Asn,
    /// The peer's identifier; our own for a Loc-RIB.
    pub router_id: RouterId,
    /// When what is told happened.
    pub timestamp: Timestamp,
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// What the peer said (RFC 7854).
    AdjRibIn {
        /// L: behind the import policy.
        post_policy: bool,
    },
    /// What the peer is told (RFC 8671).
    AdjRibOut {
        /// L: behind the export policy.
        post_policy: bool,
    },
    /// What is selected (RFC 9069).
    LocRib {
        /// F: only a part of it.
        filtered: bool,
    },
}

/// Where addresses of peers are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instance {
    /// In the one and only instance.
    Global,
    /// In that of a route distinguisher.
    Distinguished([u8; 8]),
    /// In one that has only a local name.
    Local([u8; 8]),
}

impl PeerHeader {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let is_loc_rib = matches!(self.view, View::LocRib { .. });
        let (mut kind, distinguisher) = match self.instance {
            Instance::Global => (0, [0; 8]),
            Instance::Distinguished(distinguisher) => (1, distinguisher),
            Instance::Local(distinguisher) => (2, distinguisher),
        };
        if is_loc_rib {
            kind = 3;
        }
        let bit = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = match self.view {
            View::AdjRibIn { post_policy } => bit(post_policy, L),
            View::AdjRibOut { post_policy } => O | bit(post_policy, L),
            View::LocRib { filtered } => bit(filtered, F),
        };
        let of_peer = bit(self.address.is_ipv6(), V) | bit(self.legacy_as_path, A);
        out.extend_from_slice(&[kind, flags | bit(!is_loc_rib, of_peer)]);
        out.extend_from_slice(&distinguisher);
        put_padded(self.address, self.address.is_ipv6(), out);
        out.extend_from_slice(&self.asn.0.to_be_bytes());
        out.extend_from_slice(&self.router_id.0.octets());
        out.extend_from_slice(&self.timestamp.secs.to_be_bytes());
        out.extend_from_slice(&self.timestamp.micros.to_be_bytes());
    }

    /// Flags that are not defined are not looked at.
    pub(super) fn decode(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind_at = body.clone();
        let (kind, flags) = (body.u8("Peer Type")?, body.u8("Peer Flags")?);
        let distinguisher: [u8; 8] = body.array("Peer Distinguisher")?;
        let instance = match kind {
            0 => Instance::Global,
            1 => Instance::Distinguished(distinguisher),
            2 => Instance::Local(distinguisher),
            3 if distinguisher == [0; 8] => Instance::Global,
            3 => Instance::Distinguished(distinguisher),
            other => return Err(kind_at.fault("Peer Type", format!("{other} is not known"))),
        };
        let is_loc_rib = kind == 3;
        let post_policy = flags & L != 0;
        let view = match flags & O {
            _ if is_loc_rib => View::LocRib { filtered: flags & F != 0 },
            0 => View::AdjRibIn { post_policy },
            _ => View::AdjRibOut { post_policy },
        };
        Ok(Self {
            view,
            legacy_as_path: !is_loc_rib && flags & A != 0,
            instance,
            address: padded(body, is_loc_rib || flags & V != 0, "Peer Address")?,
            asn: Asn(body.u32("Peer AS")?),
            router_id: RouterId(body.ipv4("Peer BGP ID")?),
            timestamp: Timestamp {
                secs: body.u32("Timestamp (seconds)")?,
                micros: body.u32("Timestamp (microseconds)")?,
            },
        })
    }
}

/// Appends an address in 16 octets, an IPv4 one in the last four. One of the other family than is said cannot be written.
pub(super) fn put_padded(address: IpAddr, is_ipv6: bool, out: &mut Vec<u8>) {
    match (address, is_ipv6) {
        (IpAddr::V4(address), true) => out.extend_from_slice(&address.to_ipv6_mapped().octets()),
        (IpAddr::V6(_), true) => put_address(address, out),
        (address, false) => {
            out.extend_from_slice(&[0; 12]);
            let ipv4 = match address {
                IpAddr::V4(address) => address,
                IpAddr::V6(address) => address.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED),
            };
            out.extend_from_slice(&ipv4.octets());
        }
    }
}

pub(super) fn padded(
    body: &mut Reader<'_>,
    is_ipv6: bool,
    field: &'static str,
) -> Result<IpAddr, DecodeError> {
    let octets: [u8; 16] = body.array(field)?;
    let [.., a, b, c, d] = octets;
    Ok(match is_ipv6 {
        true => Ipv6Addr::from(octets).into(),
        false => Ipv4Addr::new(a, b, c, d).into(),
    })
}
