//! What a speaker keeps about a peer beside its session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::family::Teller;
use super::io::Arrival;
use super::status::{MessageCounts, Unused};
use crate::config::{PeerConfig, SendPaths, SpeakerConfig};
use crate::packet::PeerKind;
use crate::policy::{Policy, Verdict};
use crate::rib::best_path::{Source, SourceKind};
use crate::rib::{GroupKey, MemberKind, PeerNumber};
use crate::session::{Negotiated, Session, Settings};
use crate::types::{ConnectionId, Endpoints, Family, FamilySet, PeerId, RouterId};

/// For how long nothing has to have come from a peer whose End-of-RIB came first. OpenBGPD says it before its routes, which
/// follow within milliseconds.
pub(super) const QUIET: Duration = Duration::from_secs(1);

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
    /// The peer's end of the current or last session.
    pub(super) remote: Option<IpAddr>,
    /// Families whose End-of-RIB has come in this session.
    pub(super) end_of_rib: FamilySet,
    /// Families of which it has announced routes in this session.
    pub(super) heard: FamilySet,
    /// Families whose End-of-RIB came before any route, until when it is not believed.
    pub(super) doubts: BTreeMap<Family, Instant>,
    /// When stale routes go, restarted or not, or become long-lived.
    pub(super) stale_until: Option<Instant>,
    /// When long-lived stale routes of a family go (RFC 9494).
    pub(super) long_lived_until: BTreeMap<Family, Instant>,
    /// Families about whose prefix limit there has been a warning in this session.
    pub(super) warned: FamilySet,
    /// Families that it has asked for again while it did not read.
    pub(super) refresh_due: FamilySet,
    /// The range that it came from, if it is not configured by itself.
    pub(super) range: Option<PeerId>,
    pub(super) counts: MessageCounts,
    pub(super) unused: Unused,
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
            remote: None,
            end_of_rib: FamilySet::EMPTY,
            heard: FamilySet::EMPTY,
            doubts: BTreeMap::new(),
            stale_until: None,
            long_lived_until: BTreeMap::new(),
            warned: FamilySet::EMPTY,
            refresh_due: FamilySet::EMPTY,
            range: None,
            counts: MessageCounts::default(),
            unused: Unused::default(),
            established_count: 0,
            scheduled: None,
        }
    }

    pub(super) fn kind(&self) -> PeerKind {
        self.session.settings().peer_kind()
    }

    /// Whether a connection can be its.
    pub(super) fn matches(&self, arrival: &Arrival) -> bool {
        let from = arrival.endpoints.remote.ip();
        let is_there = self.config.interface.is_none() || self.config.interface == arrival.interface;
        is_there && (self.config.address == from || self.is_unnumbered() && is_link_local(from))
    }

    /// Whether it is whoever is at the other end of an interface.
    pub(super) fn is_unnumbered(&self) -> bool {
        self.config.interface.is_some() && self.config.address.is_unspecified()
    }

    /// Its address: where it came from last, if it is known by its interface.
    pub(super) fn known_address(&self) -> IpAddr {
        self.remote.filter(|_| self.is_unnumbered()).unwrap_or(self.config.address)
    }

    /// How selection sees it.
    pub(super) fn source(&self, router_id: RouterId) -> Source {
        let kind = match self.kind() {
            PeerKind::External if self.config.behind_us => SourceKind::Behind,
            PeerKind::External => SourceKind::External,
            PeerKind::Internal if self.config.reflector_client => SourceKind::Client,
            PeerKind::Internal => SourceKind::Internal,
        };
        Source { kind, router_id, address: self.config.address }
    }

    /// What the kernel's routes say about it.
    pub(super) fn teller(&self) -> Teller {
        let interface = self.config.interface.as_deref().map(Into::into);
        Teller { id: self.id.clone(), asn: self.config.remote_as, interface }
    }

    /// The update group that it belongs to.
    pub(super) fn group(&self, family: Family, speaker: &SpeakerConfig) -> GroupKey {
        let context = self.agreed.as_ref().map(|agreed| agreed.context);
        let extended_next_hop =
            family == Family::Ipv4Unicast && context.is_some_and(|context| context.extended_next_hop);
        let of_session = self.local.filter(|address| Family::of_address(*address) == family);
        let over_other = self.local.filter(|_| extended_next_hop);
        // A peer that is known by its link may have no way to our other addresses (RFC 8950, section 6).
        let on_link = self.local.filter(|address| {
            is_link_local(*address) && (family == Family::Ipv6Unicast || extended_next_hop)
        });
        let role = self.session.settings().external_role();
        let real_as = self.config.local_as.filter(|local| !local.replace_as).map(|_| speaker.local_as);
        GroupKey {
            members: match self.kind() {
                PeerKind::External => MemberKind::External,
                PeerKind::Internal if self.config.reflector_client => MemberKind::Client,
                PeerKind::Internal => MemberKind::Internal,
            },
            local_as: self.config.effective_local_as(speaker.local_as),
            real_as,
            role: role.map(|role| role.role),
            long_lived: self.agreed.as_ref().is_some_and(|agreed| agreed.long_lived.is_some()),
            extended_message: context.is_some_and(|context| context.extended_message),
            cluster_id: speaker.cluster_id.unwrap_or(speaker.router_id.0),
            as4: context.is_none_or(|context| context.as4),
            next_hop: self.config.next_hop,
            our_address: on_link.or(of_session).or(speaker.addresses.of(family)).or(over_other),
            paths: match context.is_some_and(|context| context.add_path_send.contains(family)) {
                true => self.config.add_path.send,
                false => SendPaths::None,
            },
            extended_next_hop,
            interfaces: speaker.interfaces.relevant_to(&self.config.export),
            summaries: speaker.summaries(self.kind(), family),
            policy: self.in_force(&self.config.export).clone(),
        }
    }

    /// A policy as it counts: none at all lets nothing through where one is required (RFC 8212).
    pub(super) fn in_force<'a>(&self, policy: &'a Policy) -> &'a Policy {
        static NOTHING: LazyLock<Policy> = LazyLock::new(Policy::reject_all);
        let missing = policy.rules.is_empty() && policy.otherwise == Verdict::Accept;
        let required = self.config.require_policy && self.kind() == PeerKind::External;
        if required && missing { &NOTHING } else { policy }
    }

    /// Whether its import policy may turn routes away.
    pub(super) fn may_reject(&self) -> bool {
        let policy = self.in_force(&self.config.import);
        !policy.rules.is_empty() || policy.otherwise != Verdict::Accept
    }

    /// Whether its routes may be kept otherwise than they came.
    pub(super) fn changes_routes(&self) -> bool {
        let is_external = self.kind() == PeerKind::External;
        let adds = self.config.local_as.is_some() || self.config.role.is_some();
        self.may_reject() || is_external && adds
    }

    /// Whether selection need not wait for it in a family. One that has restarted itself may be waiting for us, one that does
    /// not do graceful restart has no End-of-RIB to send (RFC 4724, section 4.1).
    pub(super) fn is_settled(&self, family: Family) -> bool {
        if !self.session.settings().families.contains(family) {
            return true;
        }
        let Some(agreed) = self.session.negotiated() else { return self.config.on_demand };
        let waits = agreed.context.families.contains(family)
            && agreed.graceful_restart.as_ref().is_some_and(|restart| !restart.restarting);
        !waits || self.end_of_rib.contains(family)
    }

    /// It announces routes of a family.
    pub(super) fn hear(&mut self, family: Family, now: Instant) {
        self.heard.insert(family);
        if let Some(until) = self.doubts.get_mut(&family) {
            *until = now + QUIET;
        }
    }

    /// Whether it has told all of its routes of a family. Whatever it said in its OPEN: until then what the kernel has from it
    /// is not known to be stale.
    pub(super) fn has_told_all(&self, family: Family) -> bool {
        if !self.session.settings().families.contains(family) {
            return true;
        }
        let Some(agreed) = self.session.negotiated() else { return self.config.on_demand };
        !agreed.context.families.contains(family) || self.end_of_rib.contains(family)
    }

    /// The next moment at which something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let (long_lived, doubts) = (self.long_lived_until.values(), self.doubts.values());
        let session = self.session.poll_timeout().into_iter();
        session.chain(self.stale_until).chain(long_lived.copied()).chain(doubts.copied()).min()
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// What the session of a peer has to know.
pub(super) fn settings(config: &PeerConfig, speaker: &SpeakerConfig) -> Settings {
    Settings {
        local_as: config.effective_local_as(speaker.local_as),
        router_id: speaker.router_id,
        remote_as: config.remote_as,
        alias: config.alias_as,
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
