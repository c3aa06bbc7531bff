//! What is checked in an OPEN once it is known whose it is.

use crate::iana::{error, open_error};
use crate::packet::DecodeError;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::types::{Asn, RouterId};

/// Checks an OPEN against the configured peer (RFC 4271, section 6.2; RFC 6286, section 2.2; RFC 6793, section 4).
///
/// # Errors
/// The AS is not the peer's, or an internal peer has our own identifier.
pub fn check_peer(open: &Open, peer_as: Asn, local_as: Asn, router_id: RouterId) -> Result<(), DecodeError> {
    let fault = |offset, field, reason: String, subcode| {
        Err(DecodeError::new(offset, field, reason, Notification::new(error::OPEN, subcode)))
    };
    let offered = open.effective_as();
    if offered != peer_as {
        let reason = format!("AS {offered}, but AS {peer_as} is configured");
        return fault(1, "My Autonomous System", reason, open_error::PEER_AS);
    }
    if open.router_id == router_id && peer_as == local_as {
        let reason = format!("{router_id} is our own");
        return fault(5, "BGP Identifier", reason, open_error::IDENTIFIER);
    }
    Ok(())
}
