//! ROUTE-REFRESH (RFC 2918, RFC 7313).
//!
//! ```text
//! +-------------------------------+---------------+---------------+
//! |             AFI               |    Subtype    |     SAFI      |
//! +-------------------------------+---------------+---------------+
//! ```

use super::capability::FamilyCode;
use super::notification::Notification;
use super::{Context, DecodeError, header};
use crate::iana::{error, message, refresh_error};
use crate::types::Family;

/// A request for all routes of a family, or the mark before or after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// The family; may be one that we do not do.
    pub family: FamilyCode,
    /// What it is.
    pub subtype: Subtype,
}

/// What a ROUTE-REFRESH is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subtype {
    /// A request for the peer's routes.
    Request,
    /// All routes follow (BoRR).
    Beginning,
    /// All routes have been sent (EoRR).
    End,
    /// Not defined; ignored (RFC 7313, section 5).
    Unknown(u8),
}

impl Subtype {
    fn code(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Beginning => 1,
            Self::End => 2,
            Self::Unknown(code) => code,
        }
    }
}

impl RouteRefresh {
    pub(crate) fn decode(whole: &[u8], body: &[u8], context: &Context) -> Result<Self, DecodeError> {
        let [afi_high, afi_low, subtype, safi] = body else {
            if !context.enhanced_refresh {
                return Err(header::bad_length(whole.len(), "ROUTE-REFRESH has 23 octets"));
            }
            let notification = Notification::with_data(error::ROUTE_REFRESH, refresh_error::LENGTH, whole);
            return Err(DecodeError::new(0, "ROUTE-REFRESH", "does not have 4 octets", notification));
        };
        let subtype = match *subtype {
            0 => Subtype::Request,
            1 => Subtype::Beginning,
            2 => Subtype::End,
            other => Subtype::Unknown(other),
        };
        let family = FamilyCode { afi: u16::from_be_bytes([*afi_high, *afi_low]), safi: *safi };
        Ok(Self { family, subtype })
    }

    /// The message about a family.
    pub fn new(family: Family, subtype: Subtype) -> Self {
        Self { family: family.into(), subtype }
    }

    /// The whole message.
    pub fn encode(&self) -> Vec<u8> {
        header::frame(message::ROUTE_REFRESH, |out| {
            out.extend_from_slice(&self.family.afi.to_be_bytes());
            out.extend_from_slice(&[self.subtype.code(), self.family.safi]);
        })
    }
}
