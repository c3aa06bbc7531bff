//! UPDATE (RFC 4271, section 4.3), with the error handling of RFC 7606.
//!
//! ```text
//! +-----------------------------------------------------+
//! |   Withdrawn routes length (2 octets)                |
//! +-----------------------------------------------------+
//! |   Withdrawn routes (variable)                       |
//! +-----------------------------------------------------+
//! |   Total path attribute length (2 octets)            |
//! +-----------------------------------------------------+
//! |   Path attributes (variable)                        |
//! +-----------------------------------------------------+
//! |   Network layer reachability information (variable) |
//! +-----------------------------------------------------+
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::attribute::{Aggregator, AsPath, Attribute, AttributeValue, MpReach, MpUnreach, Scope, row};
use super::nlri::{self, Nlri};
use super::notification::Notification;
use super::{Context, DecodeError, PeerKind, header};
use crate::iana::{attribute as code, error, flag, message, update_error};
use crate::types::{Asn, Family};

/// Routes that come and go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 prefixes that are withdrawn.
    pub withdrawn: Vec<Nlri>,
    /// Attributes in the order of the wire, without those that a fault has cost.
    pub attributes: Vec<Attribute>,
    /// IPv4 prefixes that are announced.
    pub nlri: Vec<Nlri>,
}

/// An UPDATE as it came, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What could be read.
    pub update: Update,
    /// What was wrong but does not end the session.
    pub faults: Vec<Fault>,
}

/// What a fault costs (RFC 7606, section 2), from mild to harsh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disposition {
    /// The attribute is left out.
    AttributeDiscard,
    /// The routes of the message are treated as withdrawn.
    TreatAsWithdraw,
    /// The session ends.
    SessionReset,
}

/// Something wrong with an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The attribute's code.
    pub code: u8,
    /// Octets from the start of the attributes.
    pub offset: usize,
    /// What it costs.
    pub disposition: Disposition,
    /// Subcode of UPDATE Message Error, should it end the session.
    pub subcode: u8,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match row(self.code) {
            Some(row) => write!(f, "{} at octet {}: {}", row.name, self.offset, self.reason),
            None => write!(f, "attribute {} at octet {}: {}", self.code, self.offset, self.reason),
        }
    }
}

impl Received {
    /// The harshest disposition; `None` when nothing is wrong.
    pub fn disposition(&self) -> Option<Disposition> {
        self.faults.iter().map(|fault| fault.disposition).max()
    }
}

impl Update {
    /// The family whose End-of-RIB marker this is (RFC 4724, section 2).
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.nlri.is_empty() {
            return None;
        }
        match self.attributes.as_slice() {
            [] => Some(Family::Ipv4Unicast),
            [Attribute { value: AttributeValue::MpUnreach(MpUnreach::Routes { family, nlri }), .. }]
                if nlri.is_empty() =>
            {
                Some(*family)
            }
            _ => None,
        }
    }

    /// AS_PATH and AGGREGATOR as they are meant, when a two-octet speaker has passed four-octet numbers on in
    /// AS4_PATH and AS4_AGGREGATOR (RFC 6793, section 4.2.3).
    pub fn effective(&self) -> (Option<AsPath>, Option<Aggregator>) {
        let (mut path, mut path4, mut aggregator, mut aggregator4) = (None, None, None, None);
        for attribute in &self.attributes {
            match &attribute.value {
                AttributeValue::AsPath(value) => path = Some(value),
                AttributeValue::As4Path(value) => path4 = Some(value),
                AttributeValue::Aggregator(value) => aggregator = Some(*value),
                AttributeValue::As4Aggregator(value) => aggregator4 = Some(*value),
                _ => {}
            }
        }
        // An aggregator that is not AS_TRANS was put in by an old speaker after the AS4 attributes: both are stale.
        let stale = aggregator4.is_some() && aggregator.is_some_and(|value| value.asn != Asn::TRANS);
        if stale {
            return (path.cloned(), aggregator);
        }
        let path = match (path, path4) {
            (Some(path), Some(path4)) => Some(path.merged_with(path4)),
            (path, _) => path.cloned(),
        };
        (path, aggregator.and(aggregator4).or(aggregator))
    }

    /// The whole message.
    pub fn encode(&self, context: &Context) -> Vec<u8> {
        let mut withdrawn = Vec::new();
        self.withdrawn.iter().for_each(|nlri| nlri::encode(nlri, &mut withdrawn));
        let mut attributes = Vec::new();
        self.attributes.iter().for_each(|attribute| attribute.encode(context, &mut attributes));
        let mut nlri = Vec::new();
        self.nlri.iter().for_each(|prefix| nlri::encode(prefix, &mut nlri));
        encode_parts(&withdrawn, &attributes, &nlri)
    }
}

/// A message from parts that are already encoded. They must fit.
pub(crate) fn encode_parts(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(header::HEADER_LEN + 4 + withdrawn.len() + attributes.len() + nlri.len());
    encode_parts_into(&mut out, withdrawn, attributes, nlri);
    out
}

/// Appends a message whose body is written in place. It must fit.
pub(crate) fn encode_into(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    header::frame_into(out, message::UPDATE, body);
}

/// Appends a message from parts that are already encoded. They must fit.
fn encode_parts_into(out: &mut Vec<u8>, withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) {
    let length = |part: &[u8]| u16::try_from(part.len()).expect("a part fits into a message").to_be_bytes();
    header::frame_into(out, message::UPDATE, |out| {
        out.extend_from_slice(&length(withdrawn));
        out.extend_from_slice(withdrawn);
        out.extend_from_slice(&length(attributes));
        out.extend_from_slice(attributes);
        out.extend_from_slice(nlri);
    });
}

/// The End-of-RIB marker of a family.
pub fn end_of_rib(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4Unicast => encode_parts(&[], &[], &[]),
        Family::Ipv6Unicast => encode_parts(&[], &[flag::OPTIONAL, code::MP_UNREACH_NLRI, 3, 0, 2, 1], &[]),
    }
}

/// Reads the body of an UPDATE.
pub(crate) fn decode(body: &[u8], context: &Context) -> Result<Received, DecodeError> {
    let (withdrawn, after) =
        counted(body).ok_or_else(|| list_error(0, "Withdrawn Routes Length", "overruns the message"))?;
    let (attributes, nlri) = counted(after).ok_or_else(|| {
        list_error(2 + withdrawn.len(), "Total Path Attribute Length", "overruns the message")
    })?;
    let add_path = context.add_path.contains(Family::Ipv4Unicast);
    let prefixes = |bytes: &[u8], offset: usize, field| {
        nlri::decode(bytes, Family::Ipv4Unicast, add_path).map_err(|error| {
            let notification = Notification::new(error::UPDATE, update_error::NETWORK);
            DecodeError::new(offset + error.offset, field, error.reason, notification)
        })
    };
    let at = body.len() - after.len() + 2;
    let withdrawn = prefixes(withdrawn, 2, "Withdrawn Routes")?;
    let nlri = prefixes(nlri, at + attributes.len(), "NLRI")?;
    let mut reader =
        Reader { context, bytes: attributes, at, seen: [0; 4], list: Vec::new(), faults: Vec::new() };
    reader.read_all()?;
    let Reader { list, faults, .. } = reader;
    let mut received = Received { update: Update { withdrawn, attributes: list, nlri }, faults };
    received.check(context);
    received.enforce(at)?;
    Ok(received)
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(length)))
}

fn list_error(offset: usize, field: &'static str, reason: &str) -> DecodeError {
    DecodeError::new(offset, field, reason, Notification::new(error::UPDATE, update_error::ATTRIBUTE_LIST))
}

/// Goes through the attributes.
struct Reader<'a> {
    context: &'a Context,
    bytes: &'a [u8],
    /// Where the attributes begin in the body.
    at: usize,
    /// A bit for each code.
    seen: [u64; 4],
    list: Vec<Attribute>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn read_all(&mut self) -> Result<(), DecodeError> {
        let mut offset = 0;
        while offset < self.bytes.len() {
            let rest = &self.bytes[offset..];
            let Some((flags, code, value, length)) = split(rest) else {
                return self.cut_short(offset, rest);
            };
            self.attribute(offset, flags, code, value)?;
            offset += length;
        }
        Ok(())
    }

    /// An attribute overruns the list: nothing after it can be found (RFC 7606, section 3 e).
    fn cut_short(&mut self, offset: usize, rest: &[u8]) -> Result<(), DecodeError> {
        let code = rest.get(1).copied().unwrap_or(0);
        let is_mp = matches!(code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI);
        let fault = Fault {
            code,
            offset,
            disposition: if is_mp { Disposition::SessionReset } else { Disposition::TreatAsWithdraw },
            subcode: if is_mp { update_error::OPTIONAL } else { update_error::ATTRIBUTE_LIST },
            reason: "overruns the attributes",
        };
        self.fault(fault, rest)
    }

    fn attribute(&mut self, offset: usize, flags: u8, code: u8, value: &[u8]) -> Result<(), DecodeError> {
        let fault = |disposition, subcode, reason| Fault { code, offset, disposition, subcode, reason };
        let whole = &self.bytes[offset..];
        let (word, bit) = (usize::from(code / 64), 1 << (code % 64));
        if self.seen[word] & bit != 0 {
            // RFC 7606, section 3 g: the first one counts, but MP attributes must not come twice.
            let is_mp = matches!(code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI);
            let cost = if is_mp { Disposition::SessionReset } else { Disposition::AttributeDiscard };
            return self.fault(fault(cost, update_error::ATTRIBUTE_LIST, "comes twice"), whole);
        }
        self.seen[word] |= bit;
        let Some(row) = row(code) else {
            if flags & flag::OPTIONAL == 0 {
                let reason = "is well-known, but not to us";
                return self
                    .fault(fault(Disposition::SessionReset, update_error::UNRECOGNIZED, reason), whole);
            }
            let value = AttributeValue::Unknown { code, value: value.to_vec() };
            self.list.push(Attribute { flags, value });
            return Ok(());
        };
        if !self.in_scope(row.scope) {
            let reason = "is not taken from such a peer";
            return self.fault(fault(Disposition::AttributeDiscard, update_error::OPTIONAL, reason), whole);
        }
        if (flags ^ row.flags) & (flag::OPTIONAL | flag::TRANSITIVE) != 0 {
            return self.fault(fault(row.wrong_flags, update_error::FLAGS, "has the wrong flags"), whole);
        }
        match (row.decode)(value, self.context) {
            Ok(value) => {
                self.list.push(Attribute { flags, value });
                Ok(())
            }
            Err(fail) => self.fault(fault(row.wrong_value, fail.subcode, fail.reason), whole),
        }
    }

    fn in_scope(&self, scope: Scope) -> bool {
        match scope {
            Scope::Everyone => true,
            Scope::InternalPeers => self.context.peer == PeerKind::Internal,
            Scope::TwoOctetPeers => !self.context.as4,
        }
    }

    fn fault(&mut self, fault: Fault, whole: &[u8]) -> Result<(), DecodeError> {
        if fault.disposition == Disposition::SessionReset {
            let data = split(whole).map_or(whole, |(_, _, _, length)| &whole[..length]);
            return Err(fault.into_error(self.at, data));
        }
        self.faults.push(fault);
        Ok(())
    }
}

impl Fault {
    fn into_error(self, at: usize, data: &[u8]) -> DecodeError {
        let notification = match self.subcode {
            update_error::ATTRIBUTE_LIST => Notification::new(error::UPDATE, self.subcode),
            subcode => Notification::with_data(error::UPDATE, subcode, data),
        };
        let field = row(self.code).map_or("Path Attributes", |row| row.name);
        DecodeError::new(at + self.offset, field, self.reason, notification)
    }
}

/// Flags, code, value and whole length of the first attribute.
fn split(bytes: &[u8]) -> Option<(u8, u8, &[u8], usize)> {
    let (&[flags, code], rest) = bytes.split_first_chunk::<2>()?;
    let (length, header, rest) = if flags & flag::EXTENDED_LENGTH != 0 {
        let (&length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(length)), 4, rest)
    } else {
        let (&length, rest) = rest.split_first()?;
        (usize::from(length), 3, rest)
    };
    Some((flags, code, rest.get(..length)?, header + length))
}

impl Received {
    /// Checks that need more than one attribute, or the peer.
    fn check(&mut self, context: &Context) {
        let announces = !self.update.nlri.is_empty();
        let announces_mp = self.announces_mp();
        let mut missing = Vec::new();
        let mut require = |code: u8, present: bool| {
            if !present {
                missing.push(code);
            }
        };
        let has = |code: u8| self.update.attributes.iter().any(|attribute| attribute.value.code() == code);
        let excused = |code: u8| has(code) || self.faults.iter().any(|fault| fault.code == code);
        if announces || announces_mp {
            require(code::ORIGIN, excused(code::ORIGIN));
            require(code::AS_PATH, excused(code::AS_PATH));
            if context.peer == PeerKind::Internal {
                require(code::LOCAL_PREF, excused(code::LOCAL_PREF));
            }
        }
        if announces {
            require(code::NEXT_HOP, excused(code::NEXT_HOP));
        }
        let subcode = update_error::MISSING;
        let reason = "is missing";
        let disposition = Disposition::TreatAsWithdraw;
        self.faults.extend(missing.into_iter().map(|code| Fault {
            code,
            offset: 0,
            disposition,
            subcode,
            reason,
        }));
        self.check_values(context, announces);
    }

    fn announces_mp(&self) -> bool {
        self.update.attributes.iter().any(|attribute| match &attribute.value {
            AttributeValue::MpReach(MpReach::Routes { nlri, .. }) => !nlri.is_empty(),
            AttributeValue::MpReach(MpReach::Opaque { .. }) => true,
            _ => false,
        })
    }

    fn check_values(&mut self, context: &Context, announces: bool) {
        for attribute in &self.update.attributes {
            let wrong = match &attribute.value {
                AttributeValue::AsPath(path) => {
                    path_fault(path, context).map(|reason| (update_error::AS_PATH, reason))
                }
                AttributeValue::NextHop(address) if announces && !is_host(*address) => {
                    Some((update_error::NEXT_HOP, "is not the address of a host"))
                }
                AttributeValue::MpReach(MpReach::Routes { next_hops, .. })
                    if !next_hops.iter().all(usable) =>
                {
                    Some((update_error::NEXT_HOP, "the next hop is not the address of a host"))
                }
                _ => None,
            };
            if let Some((subcode, reason)) = wrong {
                let code = attribute.value.code();
                let disposition = Disposition::TreatAsWithdraw;
                self.faults.push(Fault { code, offset: 0, disposition, subcode, reason });
            }
        }
    }

    /// Treat-as-withdraw is no way out when no route is in the message that could be withdrawn: nobody knows what
    /// was meant (RFC 7606, section 5.2).
    fn enforce(&self, at: usize) -> Result<(), DecodeError> {
        if !self.update.nlri.is_empty() || self.announces_mp() {
            return Ok(());
        }
        let harsh = self.faults.iter().find(|fault| fault.disposition >= Disposition::TreatAsWithdraw);
        match harsh {
            Some(fault) => Err(fault.clone().into_error(at, &[])),
            None => Ok(()),
        }
    }
}

/// What RFC 7606, section 7.2 and RFC 5065 have against a path from this peer.
fn path_fault(path: &AsPath, context: &Context) -> Option<&'static str> {
    if path.segments.iter().any(|segment| segment.kind.is_confederation()) {
        return Some("has a confederation segment, but there is no confederation");
    }
    match (context.peer, context.peer_as) {
        (PeerKind::External, Some(peer_as)) if path.neighbour() != Some(peer_as) => {
            Some("does not begin with the peer's AS")
        }
        _ => None,
    }
}

fn usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host(*address),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast() && !address.is_loopback(),
    }
}

/// Whether an address can be that of a host: not "this network", not loopback, not multicast, not reserved.
fn is_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && address.octets()[0] < 224
}
