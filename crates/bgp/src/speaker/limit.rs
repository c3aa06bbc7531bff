//! Prefix limits: a peer that has more than it may is closed (RFC 4271, section 6.7; RFC 4486, section 4).

use super::{Output, Peer, PeerNumber, Speaker};
use crate::config::PrefixLimit;
use crate::iana::{cease, error};
use crate::packet::capability::FamilyCode;
use crate::packet::notification::Notification;
use crate::session::Reason;
use crate::types::Family;

impl Speaker {
    /// Looks at how many prefixes an established peer has, after it has sent some.
    pub(super) fn check_prefix_limit(&mut self, number: PeerNumber, family: Family) {
        let Some(limit) = self.peers[&number].config.prefix_limit else { return };
        let prefixes = match family {
            Family::Ipv4Unicast => self.ipv4.rib.count(number).routes,
            Family::Ipv6Unicast => self.ipv6.rib.count(number).routes,
        };
        let peer = self.peers.get_mut(&number).expect("just looked at");
        let has = u32::try_from(prefixes).unwrap_or(u32::MAX);
        if has > limit.max {
            let reason = Reason::PrefixLimit { family, max: limit.max, restart: limit.restart };
            peer.session.hold_down(reached(family, &limit), reason, limit.restart, self.now);
        } else if has >= limit.warn_at() && !peer.warned.contains(family) {
            peer.warned.insert(family);
            let (peer, max) = (peer.id.clone(), limit.max);
            self.outputs.push_back(Output::PrefixWarning { peer, family, prefixes, max });
        }
    }

    /// A limit has changed: who was closed because of the old one is tried again, who has too many is closed.
    pub(super) fn change_prefix_limit(&mut self, number: PeerNumber) {
        let now = self.now;
        let peer = self.peers.get_mut(&number).expect("the caller has it");
        peer.warned = crate::types::FamilySet::EMPTY;
        if is_held_down(peer) {
            peer.session.start_again(now);
        }
        if peer.session.negotiated().is_some() {
            Family::ALL.into_iter().for_each(|family| self.check_prefix_limit(number, family));
        }
        self.act(number);
    }
}

fn is_held_down(peer: &Peer) -> bool {
    matches!(peer.session.reason(), Some(Reason::PrefixLimit { .. })) && peer.session.is_without_connection()
}

/// Cease/1 with the family and the limit.
fn reached(family: Family, limit: &PrefixLimit) -> Notification {
    let code = FamilyCode::from(family);
    let mut data = code.afi.to_be_bytes().to_vec();
    data.push(code.safi);
    data.extend_from_slice(&limit.max.to_be_bytes());
    Notification::with_data(error::CEASE, cease::PREFIX_LIMIT, data)
}
