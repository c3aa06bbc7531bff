//! What a speaker hands to the process that takes its place: everything that its peers can tell it by.
//!
//! A [`Handover`] is a value. [`Speaker::hand_over`](crate::Speaker::hand_over) reads it off a speaker, which can go on
//! as if nothing had been; [`Speaker::take_over`](crate::Speaker::take_over) makes a speaker of it, with a
//! configuration of its own. Sockets go beside it, named by the [`ConnectionId`]s of the old speaker; what has been
//! written of them only in part is filled in by the shell ([`HandedSession::unsent`]).
//!
//! - What a session has agreed on goes as it is, not as the two OPENs: a newer process may offer more, and read an old
//!   OPEN as if it had been offered.
//! - Received routes go as they were after import. When what import depends on has changed ([`HandedPeer::import`]),
//!   peers are asked for them again, as with any change of configuration.
//! - What peers have been told goes in full, though the speaker itself does not keep it ([`Told`]): the function that
//!   it followed from may be another one in the new process. What is told is compared with what is to be told, and only
//!   the difference is sent. So no announcement can be left that nobody remembers, and nothing is sent when nothing changed.
//! - Connections that are not sessions yet do not go.

mod values;
pub(crate) mod wire;

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::IpNet;

use crate::bfd::Path;
use crate::config::{
    AddPath, Authentication, GracefulRestart, LocalAs, LongLived, PeerConfig, RoleConfig, Timers,
};
use crate::rib::{AttributeSet, Resolution};
use crate::session::{Direction, Negotiated};
use crate::speaker::MessageCounts;
use crate::types::{Asn, ConnectionId, Endpoints, Family, FamilySet, PeerId, RouterId};
pub use wire::Octets;

/// What the encoding is known by. It counts up with every change of what is handed over or of what it means.
pub const VERSION: u16 = 1;

/// Octets that are not a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// Another version of it. Not retryable: the sessions are restarted instead.
    #[error("the other process hands over as version {0}, this one takes version {VERSION}")]
    Version(u16),
    /// There are fewer octets than it says.
    #[error("the hand-over is cut short")]
    Short,
    /// There are more octets than it says.
    #[error("the hand-over goes on after its end")]
    TooLong,
    /// A value that means nothing.
    #[error("the hand-over has a {0} that means nothing")]
    Invalid(&'static str),
}

/// A speaker's state, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Our AS.
    pub local_as: Asn,
    /// Our identifier.
    pub router_id: RouterId,
    /// We say R in OPENs: we have restarted, and not heard everybody yet.
    pub restarting: bool,
    /// The families whose routes are complete.
    pub complete: FamilySet,
    /// The families whose learned routes are not selected before that.
    pub deferred: FamilySet,
    /// How long the others still wait for End-of-RIBs.
    pub deferral: Option<Duration>,
    /// The peers, by their names. Other lists say peers by their places in this one.
    pub peers: Vec<HandedPeer>,
    /// What is known about next hops.
    pub next_hops: Vec<(IpAddr, Resolution)>,
    /// The prefixes that we originate, with our path identifier of each.
    pub originated: Vec<(IpNet, u32)>,
    /// What routes have in common.
    pub attributes: Vec<HandedAttributes>,
    /// The routes of peers, as they are after import.
    pub routes: Vec<HandedRoute>,
    /// What peers have been told.
    pub told: Vec<Told>,
    /// What the listening sockets do. For the shell to fill in, since they are its own.
    pub listening: HandedListening,
}

/// What has been asked of the listening sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HandedListening {
    /// How segments of these addresses are signed.
    pub keys: Vec<(IpNet, Authentication)>,
    /// They answer with the highest TTL, and keep first segments.
    pub is_secured: bool,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedPeer {
    /// Its name.
    pub id: PeerId,
    /// The range that it came from, if it is not configured by itself.
    pub range: Option<PeerId>,
    /// What its session depends on.
    pub terms: Terms,
    /// A digest of everything that the import of its routes depends on.
    pub import: u64,
    /// What BFD has said of the path to it.
    pub path: Option<Path>,
    /// Messages and UPDATEs so far; those received are counted with the session.
    pub counts: MessageCounts,
    /// How often it has been Established.
    pub established_count: u64,
    /// What the current or last session agreed on.
    pub agreed: Option<Negotiated>,
    /// The current session.
    pub session: Option<HandedSession>,
    /// Families whose End-of-RIB has come in it.
    pub end_of_rib: FamilySet,
    /// Families about whose prefix limit there has been a warning in it.
    pub warned: FamilySet,
    /// How long its stale routes are kept.
    pub stale_left: Option<Duration>,
    /// How long its long-lived stale routes are kept, per family.
    pub long_lived_left: Vec<(Family, Duration)>,
    /// How far it has been told.
    pub members: Vec<HandedMember>,
}

/// What a session depends on, of the configuration of a peer: a change resets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The peer's address.
    pub address: IpAddr,
    /// The interface that it is reached by.
    pub interface: Option<String>,
    /// The port that it listens on.
    pub port: u16,
    /// The address that we dial from.
    pub source: Option<IpAddr>,
    /// Its AS.
    pub remote_as: Asn,
    /// The families to exchange.
    pub families: Vec<Family>,
    /// Timers.
    pub timers: Timers,
    /// Graceful restart.
    pub graceful_restart: Option<GracefulRestart>,
    /// Several routes for a prefix.
    pub add_path: AddPath,
    /// How segments are signed.
    pub authentication: Option<Authentication>,
    /// TTL security.
    pub ttl_security: Option<u8>,
    /// The TTL otherwise.
    pub ttl: Option<u8>,
    /// Our role.
    pub role: Option<RoleConfig>,
    /// Another AS number than our own.
    pub local_as: Option<LocalAs>,
    /// Another number of our AS, which an internal peer may go by.
    pub alias_as: Option<Asn>,
    /// Long-lived graceful restart.
    pub long_lived: Option<LongLived>,
}

/// An established session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedSession {
    /// What the old process calls its connection.
    pub connection: ConnectionId,
    /// Who dialled.
    pub direction: Direction,
    /// Its two ends.
    pub endpoints: Endpoints,
    /// How long it has been Established.
    pub age: Duration,
    /// How long the hold timer still runs; `None`: it does not.
    pub hold_left: Option<Duration>,
    /// Until the next KEEPALIVE; `None`: there are none.
    pub keepalive_left: Option<Duration>,
    /// How long the peer may still leave our octets unread; `None`: it has read them.
    pub send_hold_left: Option<Duration>,
    /// Messages received.
    pub messages_received: u64,
    /// The beginning of a message that has not come whole.
    pub input: Octets,
    /// What was to be sent and is not in the socket. For the shell to fill in, since it has it.
    pub unsent: Octets,
}

/// How far a peer has been told the routes of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedMember {
    /// The family.
    pub family: Family,
    /// Our End-of-RIB is still to be sent.
    pub end_of_rib_due: bool,
    /// It has asked for all routes again, and has not got them all.
    pub refreshing: bool,
    /// They are to be closed with EoRR (RFC 7313).
    pub marked: bool,
}

/// A set of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedAttributes {
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// The link-local address beside it.
    pub link_local: Option<Ipv6Addr>,
    /// How they rank beside routes of our own.
    pub preference: u32,
    /// The others, encoded with four-octet AS numbers.
    pub octets: Octets,
}

/// A route of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedRoute {
    /// Whose.
    pub peer: u32,
    /// Where to.
    pub prefix: IpNet,
    /// The identifier that the peer gave it.
    pub path_id: u32,
    /// The one that we gave it.
    pub ours: u32,
    /// Its attributes.
    pub attributes: u32,
    /// Never selected.
    pub ineligible: bool,
    /// From before a restart or a refresh.
    pub stale: bool,
}

/// What some peers have been told of a family, in the order of prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The family.
    pub family: Family,
    /// Who.
    pub members: Vec<u32>,
    /// The attributes with which routes were announced.
    pub exports: Vec<ToldExport>,
    /// The announcements that hold.
    pub routes: Vec<ToldRoute>,
}

/// Attributes as peers were told them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldExport {
    /// Encoded, those with codes below that of NEXT_HOP; four-octet AS numbers.
    pub before: Octets,
    /// Encoded, the others.
    pub after: Octets,
    /// NEXT_HOP.
    pub next_hop: IpAddr,
    /// The link-local address beside it.
    pub link_local: Option<Ipv6Addr>,
}

/// An announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldRoute {
    /// Where to.
    pub prefix: IpNet,
    /// Our path identifier; 0 without add-path.
    pub path_id: u32,
    /// With which attributes.
    pub export: u32,
    /// The peer that it came from, which has not been told.
    pub source: Option<u32>,
    /// The only peer that has been told, if it was one (see `SendPaths::EachNextHop`).
    pub only: Option<u32>,
}

impl Terms {
    /// Those of a configuration.
    pub(crate) fn of(peer: &PeerConfig) -> Self {
        Self {
            address: peer.address,
            interface: peer.interface.clone(),
            port: peer.port,
            source: peer.source,
            remote_as: peer.remote_as,
            families: peer.families.iter().copied().collect(),
            timers: peer.timers,
            graceful_restart: peer.graceful_restart,
            add_path: peer.add_path,
            authentication: peer.authentication.clone(),
            ttl_security: peer.ttl_security,
            ttl: peer.ttl,
            role: peer.role,
            local_as: peer.local_as,
            alias_as: peer.alias_as,
            long_lived: peer.long_lived,
        }
    }

    /// A configuration with these, and otherwise as another.
    pub(crate) fn within(self, other: PeerConfig) -> PeerConfig {
        PeerConfig {
            address: self.address,
            interface: self.interface,
            port: self.port,
            source: self.source,
            remote_as: self.remote_as,
            families: self.families.into_iter().collect(),
            timers: self.timers,
            graceful_restart: self.graceful_restart,
            add_path: self.add_path,
            authentication: self.authentication,
            ttl_security: self.ttl_security,
            ttl: self.ttl,
            role: self.role,
            local_as: self.local_as,
            alias_as: self.alias_as,
            long_lived: self.long_lived,
            ..other
        }
    }
}

impl HandedAttributes {
    /// As they were in the other process.
    ///
    /// # Errors
    /// They cannot have been.
    pub(crate) fn restored(&self) -> Result<AttributeSet, HandoverError> {
        let set = AttributeSet::restored(&self.octets.0, self.next_hop, self.link_local, self.preference);
        set.ok_or(HandoverError::Invalid("set of attributes"))
    }
}

impl Handover {
    /// The sessions, in order.
    pub fn sessions(&self) -> impl Iterator<Item = &HandedSession> {
        self.peers.iter().filter_map(|peer| peer.session.as_ref())
    }

    /// The sessions, in order, to fill in what the shell knows.
    pub fn sessions_mut(&mut self) -> impl Iterator<Item = &mut HandedSession> {
        self.peers.iter_mut().filter_map(|peer| peer.session.as_mut())
    }

    /// As octets, the version first.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }

    /// From octets.
    ///
    /// # Errors
    /// They are another version's, or no hand-over at all.
    pub fn decode(octets: &[u8]) -> Result<Self, HandoverError> {
        let handover: Self = wire::decode(octets)?;
        handover.check()?;
        Ok(handover)
    }

    /// Whether it fits together: every place that is named is there, and attributes can be restored. What is seen here is seen
    /// while the other process can still go on.
    fn check(&self) -> Result<(), HandoverError> {
        for set in &self.attributes {
            set.restored()?;
        }
        let peer = |place: u32| self.peers.get(place as usize).is_some();
        let routes = self.routes.iter().all(|route| {
            peer(route.peer) && route.ours > 0 && self.attributes.get(route.attributes as usize).is_some()
        });
        let told = self.told.iter().all(|told| {
            told.members.iter().all(|member| peer(*member))
                && told.routes.iter().all(|route| {
                    let audience = route.source.is_none_or(peer) && route.only.is_none_or(peer);
                    audience && told.exports.get(route.export as usize).is_some()
                })
        });
        let sessions = self.peers.iter().all(|peer| peer.session.is_none() || peer.agreed.is_some());
        match (routes, told, sessions) {
            (false, ..) => Err(HandoverError::Invalid("route")),
            (_, false, _) => Err(HandoverError::Invalid("announcement")),
            (_, _, false) => Err(HandoverError::Invalid("session")),
            (true, true, true) => Ok(()),
        }
    }
}
