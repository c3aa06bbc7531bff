//! OPEN (RFC 4271, section 4.2; RFC 5492; RFC 9072).
//!
//! ```text
//! +---------------+
//! |    Version    |
//! +---------------+---------------+
//! |       My autonomous system    |
//! +-------------------------------+
//! |           Hold time           |
//! +-------------------------------+-------------------------------+
//! |                        BGP identifier                         |
//! +---------------+-----------------------------------------------+
//! | Opt parm len  |  Optional parameters (variable)
//! +---------------+-----------------------------------------------+
//! ```

use std::net::Ipv4Addr;

use super::capability::Capability;
use super::notification::Notification;
use super::{DecodeError, header};
use crate::iana::{error, message, open_error, parameter};
use crate::types::{Asn, RouterId};

/// The version of BGP.
const VERSION: u8 = 4;

/// The first message of both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// My Autonomous System: two octets, AS_TRANS where more are needed.
    pub my_as: u16,
    /// The proposed hold time in seconds: 0, or 3 and more.
    pub hold_time_secs: u16,
    /// The sender's identifier.
    pub router_id: RouterId,
    /// All capabilities, in order.
    pub capabilities: Vec<Capability>,
    /// How many optional parameters they came in (an encoder puts all into one).
    pub optional_parameters: usize,
    /// Whether the parameters had lengths of two octets (RFC 9072).
    pub extended_optional_parameters: bool,
}

impl Open {
    /// The AS number that counts: that of the four-octet capability when there is one.
    pub fn effective_as(&self) -> Asn {
        let four = self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        four.unwrap_or(Asn(u32::from(self.my_as)))
    }

    /// Reads the body, and checks what can be checked without knowing the peer.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let Some((&[version, as_high, as_low, hold_high, hold_low, a, b, c, d, length], rest)) =
            body.split_first_chunk::<10>()
        else {
            return Err(header::bad_length(header::HEADER_LEN + body.len(), "OPEN has at least 29 octets"));
        };
        if version != VERSION {
            let notification =
                Notification::with_data(error::OPEN, open_error::VERSION, u16::from(VERSION).to_be_bytes());
            return Err(DecodeError::new(0, "Version", format!("{version} is not 4"), notification));
        }
        let (parameters, extended) = parameters(length, rest)?;
        let (capabilities, optional_parameters) = capabilities(parameters, extended)?;
        let open = Self {
            my_as: u16::from_be_bytes([as_high, as_low]),
            hold_time_secs: u16::from_be_bytes([hold_high, hold_low]),
            router_id: RouterId(Ipv4Addr::new(a, b, c, d)),
            capabilities,
            optional_parameters,
            extended_optional_parameters: extended,
        };
        open.check()?;
        Ok(open)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let fault = |offset, field, reason: &str, subcode| {
            Err(DecodeError::new(offset, field, reason, Notification::new(error::OPEN, subcode)))
        };
        if self.effective_as().0 == 0 || self.my_as == 0 {
            return fault(1, "My Autonomous System", "AS 0 (RFC 7607)", open_error::PEER_AS);
        }
        if matches!(self.hold_time_secs, 1 | 2) {
            return fault(3, "Hold Time", "less than 3 s", open_error::HOLD_TIME);
        }
        if self.router_id.0.is_unspecified() {
            return fault(5, "BGP Identifier", "0.0.0.0 (RFC 6286)", open_error::IDENTIFIER);
        }
        let mut roles = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        });
        if let Some(first) = roles.next()
            && roles.any(|role| role != first)
        {
            return fault(10, "BGP Role", "several that differ (RFC 9234)", open_error::ROLE);
        }
        Ok(())
    }

    /// The whole message. Capabilities go into one parameter, or several when one cannot hold them; the extended
    /// form (RFC 9072) is used when the classic one is too small.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for capability in &self.capabilities {
            let value = capability.value();
            list.push(capability.code());
            list.push(u8::try_from(value.len()).expect("no capability of ours is that long"));
            list.extend_from_slice(&value);
        }
        header::frame(message::OPEN, |out| {
            out.push(VERSION);
            out.extend_from_slice(&self.my_as.to_be_bytes());
            out.extend_from_slice(&self.hold_time_secs.to_be_bytes());
            out.extend_from_slice(&self.router_id.0.octets());
            encode_parameters(&list, out);
        })
    }
}

fn encode_parameters(list: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(list.len()) {
        Ok(0) => out.push(0),
        Ok(length) if length <= 253 => {
            out.extend_from_slice(&[length + 2, parameter::CAPABILITIES, length]);
            out.extend_from_slice(list);
        }
        _ => {
            let length = u16::try_from(list.len()).expect("capabilities fit into a message");
            out.extend_from_slice(&[255, parameter::EXTENDED_LENGTH]);
            out.extend_from_slice(&(length + 3).to_be_bytes());
            out.push(parameter::CAPABILITIES);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(list);
        }
    }
}

fn malformed(offset: usize, field: &'static str, reason: &str) -> DecodeError {
    DecodeError::new(offset, field, reason, Notification::new(error::OPEN, open_error::UNSPECIFIC))
}

/// The optional parameters, and whether they are in the extended form.
fn parameters(length: u8, rest: &[u8]) -> Result<(&[u8], bool), DecodeError> {
    // RFC 9072, section 2: any length but zero together with a first parameter of type 255.
    if length != 0 && rest.first() == Some(&parameter::EXTENDED_LENGTH) {
        let Some((&[_, high, low], rest)) = rest.split_first_chunk::<3>() else {
            return Err(malformed(10, "Extended Opt. Parm. Length", "cut short"));
        };
        if usize::from(u16::from_be_bytes([high, low])) != rest.len() {
            return Err(malformed(11, "Extended Opt. Parm. Length", "is not what follows"));
        }
        return Ok((rest, true));
    }
    if usize::from(length) != rest.len() {
        return Err(malformed(9, "Opt Parm Len", "is not what follows"));
    }
    Ok((rest, false))
}

fn capabilities(mut rest: &[u8], extended: bool) -> Result<(Vec<Capability>, usize), DecodeError> {
    let mut list = Vec::new();
    let mut count = 0;
    while !rest.is_empty() {
        let (kind, value, after) = parameter(rest, extended)
            .ok_or_else(|| malformed(10, "Optional Parameters", "a parameter is cut short"))?;
        if kind != parameter::CAPABILITIES {
            let notification = Notification::new(error::OPEN, open_error::OPTIONAL_PARAMETER);
            let reason = format!("type {kind} is not supported");
            return Err(DecodeError::new(10, "Optional Parameters", reason, notification));
        }
        let mut value = value;
        while let Some((&code, tail)) = value.split_first() {
            let (content, after) = tail
                .split_first()
                .and_then(|(&length, tail)| tail.split_at_checked(usize::from(length)))
                .ok_or_else(|| malformed(10, "Capabilities", "a capability is cut short"))?;
            list.push(Capability::decode(code, content));
            value = after;
        }
        rest = after;
        count += 1;
    }
    Ok((list, count))
}

/// Type and value of the first parameter, and what follows it.
fn parameter(bytes: &[u8], extended: bool) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (length, rest) = if extended {
        let (&length, rest) = rest.split_first_chunk::<2>()?;
        (usize::from(u16::from_be_bytes(length)), rest)
    } else {
        let (&length, rest) = rest.split_first()?;
        (usize::from(length), rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((kind, value, rest))
}
