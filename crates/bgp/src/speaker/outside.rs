//! What a received route becomes before any policy: the AS that we go by (RFC 7705), and roles (RFC 9234).

use super::peer::Peer;
use crate::config::Role;
use crate::packet::PeerKind;
use crate::packet::attribute::AttributeValue;
use crate::packet::update::Update;
use crate::rib::{AttributeSet, prepend, put};
use crate::types::Asn;

impl Peer {
    /// The attributes as they are kept: with the AS that the peer knows us by in front, and with OTC where the peer should
    /// have put it.
    pub(super) fn taken(&self, set: AttributeSet) -> AttributeSet {
        if self.kind() == PeerKind::Internal {
            return set;
        }
        let local = self.config.local_as.filter(|local| !local.no_prepend).map(|local| local.asn);
        let otc = self.marks_for_customers().filter(|_| set.otc.is_none()).map(|()| self.config.remote_as);
        if local.is_none() && otc.is_none() {
            return set;
        }
        set.edited(|attributes| {
            local.into_iter().for_each(|asn| prepend(attributes, asn, 1));
            otc.into_iter().for_each(|asn| put(attributes, AttributeValue::Otc(asn)));
        })
    }

    /// RFC 9234, section 5, ingress 3: what comes from a provider, an equal or a route server is for customers only.
    fn marks_for_customers(&self) -> Option<()> {
        let role = self.session.settings().external_role()?.role;
        role.looks_up().then_some(())
    }

    /// Whether a route is a leak: marked for customers only, but from one, or from an equal that is not the one that
    /// marked it (RFC 9234, section 5, ingress 1 and 2).
    pub(super) fn is_leak(&self, set: &AttributeSet) -> bool {
        let Some(role) = self.session.settings().external_role() else { return false };
        match (role.role, set.otc) {
            (_, None) => false,
            (Role::Provider | Role::RouteServer, Some(_)) => true,
            (Role::Peer, Some(asn)) => asn != self.config.remote_as,
            (Role::Customer | Role::RouteServerClient, Some(_)) => false,
        }
    }

    /// The AS numbers that are ours in a path of this peer's.
    pub(super) fn our_names(&self, ours: Asn) -> Vec<Asn> {
        let local = self.config.local_as;
        let hidden = local.is_some_and(|local| local.replace_as);
        let names = [
            Some(ours).filter(|_| !hidden),
            local.map(|local| local.asn).filter(|asn| hidden || *asn != ours),
        ];
        names.into_iter().flatten().collect()
    }

    /// How often [`Peer::taken`] has put an AS of ours in front of a path.
    pub(super) fn own_prepends(&self) -> usize {
        let prepends = self.config.local_as.is_some_and(|local| !local.no_prepend);
        usize::from(prepends && self.kind() == PeerKind::External)
    }

    /// Whether the path has been through our AS more often than it may (RFC 4271, section 9.1.2). Where the peer sees
    /// another number in place of ours, that is the one that counts.
    pub(super) fn is_loop(&self, update: &Update, ours: Asn) -> bool {
        let names = self.our_names(ours);
        update.attributes.iter().any(|attribute| match &attribute.value {
            AttributeValue::AsPath(path) | AttributeValue::As4Path(path) => {
                let times: usize = names.iter().map(|asn| path.count(*asn)).sum();
                times > usize::from(self.config.allow_local_as)
            }
            _ => false,
        })
    }
}
