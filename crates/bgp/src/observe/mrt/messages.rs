//! BGP4MP: messages and changes of state as they happen (RFC 6396, section 4.4; RFC 8050, section 3).

use std::net::IpAddr;

use crate::observe::DecodeError;
use crate::observe::reader::{Reader, put_address};
use crate::session::SessionState;
use crate::types::Asn;

pub(super) const STATE_CHANGE: u16 = 0;
pub(super) const STATE_CHANGE_AS4: u16 = 5;

/// What subtypes of messages have.
struct Subtype {
    code: u16,
    as4: bool,
    is_ours: bool,
    add_path: bool,
}

const SUBTYPES: [Subtype; 8] = [
    Subtype { code: 1, as4: false, is_ours: false, add_path: false },
    Subtype { code: 4, as4: true, is_ours: false, add_path: false },
    Subtype { code: 6, as4: false, is_ours: true, add_path: false },
    Subtype { code: 7, as4: true, is_ours: true, add_path: false },
    Subtype { code: 8, as4: false, is_ours: false, add_path: true },
    Subtype { code: 9, as4: true, is_ours: false, add_path: true },
    Subtype { code: 10, as4: false, is_ours: true, add_path: true },
    Subtype { code: 11, as4: true, is_ours: true, add_path: true },
];

/// Both ends of a session. The addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The peer's AS.
    pub peer_as: Asn,
    /// Our AS.
    pub local_as: Asn,
    /// The number of the interface; 0: not known.
    pub interface: u16,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address.
    pub local: IpAddr,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Between whom.
    pub ends: Ends,
    /// We have sent it; else it has come.
    pub is_ours: bool,
    /// Prefixes in it have path identifiers (RFC 8050).
    pub add_path: bool,
    /// AS numbers in it have four octets.
    pub as4: bool,
    /// The whole message.
    pub message: Vec<u8>,
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateChange {
    /// Of which session.
    pub ends: Ends,
    /// What the state was.
    pub old: SessionState,
    /// What it is.
    pub new: SessionState,
}

impl Ends {
    fn encode(&self, as4: bool, out: &mut Vec<u8>) {
        for asn in [self.peer_as, self.local_as] {
            match as4 {
                true => out.extend_from_slice(&asn.0.to_be_bytes()),
                false => out.extend_from_slice(&asn.to_two_octets().to_be_bytes()),
            }
        }
        out.extend_from_slice(&self.interface.to_be_bytes());
        let is_ipv6 = self.peer.is_ipv6();
        out.extend_from_slice(&(if is_ipv6 { 2_u16 } else { 1 }).to_be_bytes());
        put_address(self.peer, out);
        put_address(like(self.local, is_ipv6), out);
    }

    fn decode(as4: bool, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let asn = |body: &mut Reader<'_>, field| match as4 {
            true => body.u32(field).map(Asn),
            false => body.u16(field).map(|number| Asn(number.into())),
        };
        let (peer_as, local_as) = (asn(body, "Peer AS Number")?, asn(body, "Local AS Number")?);
        let interface = body.u16("Interface Index")?;
        let at = body.clone();
        let is_ipv6 = match body.u16("Address Family")? {
            1 => false,
            2 => true,
            other => return Err(at.fault("Address Family", format!("{other} is neither 1 nor 2"))),
        };
        let peer = body.address(is_ipv6, "Peer IP Address")?;
        let local = body.address(is_ipv6, "Local IP Address")?;
        Ok(Self { peer_as, local_as, interface, peer, local })
    }
}

/// An address in a family: what is not of it becomes the unspecified address.
fn like(address: IpAddr, is_ipv6: bool) -> IpAddr {
    match (address.is_ipv6() == is_ipv6, is_ipv6) {
        (true, _) => address,
        (false, true) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        (false, false) => std::net::Ipv4Addr::UNSPECIFIED.into(),
    }
}

impl Traffic {
    pub(super) fn subtype(&self) -> u16 {
        let is_it = |subtype: &&Subtype| {
            (subtype.as4, subtype.is_ours, subtype.add_path) == (self.as4, self.is_ours, self.add_path)
        };
        SUBTYPES.iter().find(is_it).expect("every combination is there").code
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.ends.encode(self.as4, out);
        out.extend_from_slice(&self.message);
    }

    /// `None`: a subtype that we do not read.
    pub(super) fn decode(subtype: u16, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(subtype) = SUBTYPES.iter().find(|other| other.code == subtype) else { return Ok(None) };
        let Subtype { as4, is_ours, add_path, .. } = *subtype;
        let ends = Ends::decode(as4, body)?;
        Ok(Some(Self { ends, is_ours, add_path, as4, message: body.remaining().to_vec() }))
    }
}

impl StateChange {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.ends.encode(true, out);
        out.extend_from_slice(&code_of(self.old).to_be_bytes());
        out.extend_from_slice(&code_of(self.new).to_be_bytes());
    }

    pub(super) fn decode(subtype: u16, body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ends = Ends::decode(subtype == STATE_CHANGE_AS4, body)?;
        Ok(Self { ends, old: state(body, "Old State")?, new: state(body, "New State")? })
    }
}

const STATES: [SessionState; 6] = [
    SessionState::Idle,
    SessionState::Connect,
    SessionState::Active,
    SessionState::OpenSent,
    SessionState::OpenConfirm,
    SessionState::Established,
];

/// States are numbered from 1 (RFC 6396, section 4.4.1).
fn code_of(state: SessionState) -> u16 {
    let place = STATES.iter().position(|other| *other == state).expect("all are there");
    u16::try_from(place + 1).expect("at most 6")
}

fn state(body: &mut Reader<'_>, field: &'static str) -> Result<SessionState, DecodeError> {
    let at = body.clone();
    let code = body.u16(field)?;
    let state = usize::from(code).checked_sub(1).and_then(|place| STATES.get(place));
    state.copied().ok_or_else(|| at.fault(field, format!("{code} is no state")))
}
