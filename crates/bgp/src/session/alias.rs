//! An internal peer that may know our AS by another number, as while two ASes become one (RFC 7705, section 4): its OPEN may
//! have either number, and ours has the one that it takes.
//!
//! A peer that knows nothing of this takes one number only. Which one, it says in its OPEN, or by refusing ours (OPEN
//! Message Error, Bad Peer AS): the next OPEN has the other. Whichever it is, the peer stays internal.

use super::{Session, Settings};
use crate::iana::{error, open_error};
use crate::packet::PeerKind;
use crate::packet::notification::Notification;
use crate::types::Asn;

impl Settings {
    /// The other number of our AS, towards internal peers.
    fn internal_alias(&self) -> Option<Asn> {
        self.alias.filter(|_| self.peer_kind() == PeerKind::Internal)
    }

    /// The settings for a peer whose OPEN has this number: itself as the number of both ends, if it is an alias.
    pub(super) fn towards(&self, offered: Asn) -> Self {
        match self.internal_alias().filter(|alias| *alias == offered) {
            Some(alias) => Self { local_as: alias, remote_as: alias, ..self.clone() },
            None => self.clone(),
        }
    }

    /// The other one of our two numbers; the same if there is only one.
    fn other_than(&self, asn: Asn) -> Asn {
        match self.internal_alias() {
            Some(alias) if asn == self.local_as => alias,
            _ => self.local_as,
        }
    }
}

impl Session {
    /// The settings for our next OPEN.
    pub(super) fn spoken(&self) -> Settings {
        self.settings.towards(self.speaks_as)
    }

    /// The peer's OPEN has this number: ours shall have it, too.
    pub(super) fn heard_as(&mut self, offered: Asn) {
        if offered == self.settings.remote_as || Some(offered) == self.settings.internal_alias() {
            self.speaks_as = self.settings.towards(offered).local_as;
        }
    }

    /// The peer has refused an OPEN of ours with this number.
    pub(super) fn refused_as(&mut self, sent: Option<Asn>, notification: &Notification) {
        let is_bad_peer = notification.code == error::OPEN && notification.subcode == open_error::PEER_AS;
        if let Some(sent) = sent.filter(|_| is_bad_peer) {
            self.speaks_as = self.settings.other_than(sent);
        }
    }
}
