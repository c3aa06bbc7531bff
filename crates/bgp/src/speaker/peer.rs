//! What a speaker keeps about a peer beside its session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::status::MessageCounts;
use crate::config::{PeerConfig, SpeakerConfig};
use crate::packet::PeerKind;
use crate::rib::best_path::{Source, SourceKind};
use crate::rib::{GroupKey, MemberKind, PeerNumber};
use crate::session::{Negotiated, Session, Settings};
use crate::types::{ConnectionId, Endpoints, Family, FamilySet, PeerId, RouterId};

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    /// The two ends of its connections.
    pub(super) endpoints: BTreeMap<ConnectionId, Endpoints>,
    /// What the current or last session agreed on.
    pub(super) agreed: Option<Box<Negotiated>>,
    /// Our end of the established connection.
    pub(super) local: Option<IpAddr>,
    /// Families whose End-of-RIB has come in this session.
    pub(super) end_of_rib: FamilySet,
    /// When stale routes go, restarted or not.
    pub(super) stale_until: Option<Instant>,
    pub(super) counts: MessageCounts,
    pub(super) established_count: u64,
    /// When the speaker will look at it next.
    pub(super) scheduled: Option<Instant>,
}

impl Peer {
    pub(super) fn new(
        id: PeerId,
        config: PeerConfig,
        speaker: &SpeakerConfig,
        number: PeerNumber,
        seed: u64,
        now: Instant,
    ) -> Self {
        let settings = settings(&config, speaker);
        Self {
            id,
            config,
            session: Session::new(settings, number.0, seed, now),
            endpoints: BTreeMap::new(),
            agreed: None,
            local: None,
            end_of_rib: FamilySet::EMPTY,
            stale_until: None,
            counts: MessageCounts::default(),
            established_count: 0,
            scheduled: None,
        }
    }

    pub(super) fn kind(&self) -> PeerKind {
        self.session.settings().peer_kind()
    }

    /// How selection sees it.
    pub(super) fn source(&self, router_id: RouterId) -> Source {
        let kind = match self.kind() {
            PeerKind::External => SourceKind::External,
            PeerKind::Internal if self.config.reflector_client => SourceKind::Client,
            PeerKind::Internal => SourceKind::Internal,
        };
        Source { kind, router_id, address: self.config.address }
    }

    /// The update group that it belongs to.
    pub(super) fn group(&self, family: Family, speaker: &SpeakerConfig) -> GroupKey {
        let context = self.agreed.as_ref().map(|agreed| agreed.context);
        let extended_next_hop =
            family == Family::Ipv4Unicast && context.is_some_and(|context| context.extended_next_hop);
        let of_session = self.local.filter(|address| Family::of_address(*address) == family);
        let over_other = self.local.filter(|_| extended_next_hop);
        GroupKey {
            members: match self.kind() {
                PeerKind::External => MemberKind::External,
                PeerKind::Internal if self.config.reflector_client => MemberKind::Client,
                PeerKind::Internal => MemberKind::Internal,
            },
            local_as: speaker.local_as,
            cluster_id: speaker.cluster_id.unwrap_or(speaker.router_id.0),
            as4: context.is_none_or(|context| context.as4),
            next_hop: self.config.next_hop,
            our_address: of_session.or(speaker.addresses.of(family)).or(over_other),
            extended_next_hop,
            policy: self.config.export.clone(),
        }
    }

    /// Whether nothing more is to be waited for before its routes of a family are complete.
    pub(super) fn is_settled(&self, family: Family) -> bool {
        if !self.session.settings().families.contains(family) {
            return true;
        }
        let Some(agreed) = self.session.negotiated() else { return false };
        let waits = agreed.context.families.contains(family)
            && agreed.graceful_restart.as_ref().is_some_and(|restart| !restart.restarting);
        !waits || self.end_of_rib.contains(family)
    }

    /// The next moment at which something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.session.poll_timeout().into_iter().chain(self.stale_until).min()
    }
}

/// What the session of a peer has to know.
pub(super) fn settings(config: &PeerConfig, speaker: &SpeakerConfig) -> Settings {
    Settings {
        local_as: config.effective_local_as(speaker.local_as),
        router_id: speaker.router_id,
        remote_as: config.remote_as,
        passive: config.connect == crate::config::ConnectMode::Passive,
        families: config.families.iter().collect(),
        timers: config.timers,
        graceful_restart: config.graceful_restart,
        add_path: config.add_path,
        long_lived: config.long_lived,
        role: config.role,
        over_ipv6: config.address.is_ipv6(),
    }
}
