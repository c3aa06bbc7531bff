//! What a new plan changes on a node: the typed difference that the speaker applies, for people to read beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::config::Secret;
use bgp::policy::RouteAttributes;
use bgp::{PeerConfig, PeerDifference, PeerId, SpeakerConfig, difference, reset_causes};
use ipnet::IpNet;

use super::problems::Problem;
use super::speaker::Passwords;
use super::types::{BgpPlan, PasswordRef, Peer};

/// What becomes of a node's sessions and announcements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanChanges {
    /// The sessions that change, by name.
    pub sessions: Vec<SessionChange>,
    /// What peers are told differently of the node's own prefixes, by prefix. What is passed on from peer to peer is not
    /// known beforehand.
    pub announcements: Vec<AnnouncementChange>,
    /// The rules by which routes get into the kernel change.
    pub kernel: bool,
    /// Addresses for workloads to dial that come to interfaces or go from them, by interface and address.
    pub addresses: Vec<AddressChange>,
    /// Aggregates that come.
    pub aggregates_added: Vec<IpNet>,
    /// Aggregates that go.
    pub aggregates_removed: Vec<IpNet>,
    /// Aggregates that are told otherwise.
    pub aggregates_changed: Vec<IpNet>,
    /// Monitoring stations that are dialled.
    pub stations_added: Vec<String>,
    /// Monitoring stations that are told nothing more.
    pub stations_removed: Vec<String>,
    /// Monitoring stations that are told other things: they are dialled anew.
    pub stations_changed: Vec<String>,
    /// What is asked for and will not happen, and was not so before.
    pub problems: BTreeSet<Problem>,
}

/// A session that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionChange {
    /// Its name: address and port of the peer.
    pub peer: PeerId,
    /// The resource that asks for it.
    pub object: String,
    /// What becomes of it.
    pub effect: SessionEffect,
}

/// What becomes of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEffect {
    /// It is new.
    Added,
    /// It ends, and its routes go.
    Removed,
    /// It ends and comes again, for these causes.
    Reset(Vec<&'static str>),
    /// It stays up.
    InPlace(PeerDifference),
}

/// An address of the node comes to an interface of a workload, or goes from it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressChange {
    /// The interface.
    pub interface: Arc<str>,
    /// The address.
    pub address: IpAddr,
    /// It comes.
    pub added: bool,
}

/// A prefix of the node of which peers are told something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncementChange {
    /// The prefix.
    pub prefix: IpNet,
    /// What they are told.
    pub effect: AnnouncementEffect,
    /// The peers.
    pub peers: Vec<PeerId>,
}

/// What peers are told of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnouncementEffect {
    /// It is announced.
    Announced,
    /// It is no longer announced.
    Withdrawn,
    /// It gets other attributes.
    Changed,
}

/// Passwords that only say which one it is: equal when the same one is meant.
struct ByName;

impl Passwords for ByName {
    fn password(&self, reference: &PasswordRef) -> Result<Option<Secret>, String> {
        // Names are longer than passwords may be; what counts is that different names differ.
        let text = format!("{}/{}", reference.name, reference.key);
        let digest = <sha2::Sha256 as sha2::Digest>::digest(text);
        Secret::new(digest.to_vec()).map(Some).map_err(|error| error.to_string())
    }
}

impl PlanChanges {
    /// What goes from one plan of a node to another.
    pub fn between(old: &BgpPlan, new: &BgpPlan) -> Self {
        let [stations_added, stations_removed, stations_changed] = by_name(&old.stations, &new.stations);
        let [aggregates_added, aggregates_removed, aggregates_changed] =
            by_name(&old.aggregates, &new.aggregates);
        Self {
            aggregates_added,
            aggregates_removed,
            aggregates_changed,
            stations_added,
            stations_removed,
            stations_changed,
            sessions: sessions(old, new),
            announcements: announcements(old, new),
            addresses: addresses(old, new),
            kernel: old.kernel != new.kernel,
            problems: new.problems.difference(&old.problems).cloned().collect(),
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Added, removed, changed.
fn by_name<K: Ord + Clone, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> [Vec<K>; 3] {
    let in_both = |name: &K| old.contains_key(name) && new.contains_key(name);
    let only = |map: &BTreeMap<K, V>| map.keys().filter(|name| !in_both(name)).cloned().collect();
    let differs = |name: &&K| in_both(name) && old.get(*name) != new.get(*name);
    [only(new), only(old), new.keys().filter(differs).cloned().collect()]
}

fn sessions(old: &BgpPlan, new: &BgpPlan) -> Vec<SessionChange> {
    let (old_config, new_config) = (old.speaker_config(&ByName).0, new.speaker_config(&ByName).0);
    let nothing = BTreeMap::new();
    let peers =
        |config: &Option<SpeakerConfig>| config.as_ref().map_or_else(|| nothing.clone(), |c| c.peers.clone());
    let (before, after) = (peers(&old_config), peers(&new_config));
    let object =
        |plan: &BgpPlan, id: &PeerId| plan.peers.iter().find(|peer| peer.id() == *id).map(Peer::object);
    let ids: BTreeSet<&PeerId> = before.keys().chain(after.keys()).collect();
    let changes = ids.into_iter().filter_map(|id| {
        let effect = match (before.get(id), after.get(id)) {
            (None, _) => SessionEffect::Added,
            (_, None) => SessionEffect::Removed,
            (Some(was), Some(is)) => effect((old_config.as_ref()?, was), (new_config.as_ref()?, is))?,
        };
        let object = object(new, id).or_else(|| object(old, id)).unwrap_or_default();
        Some(SessionChange { peer: id.clone(), object, effect })
    });
    changes.collect()
}

fn effect(old: (&SpeakerConfig, &PeerConfig), new: (&SpeakerConfig, &PeerConfig)) -> Option<SessionEffect> {
    let change = difference(old, new);
    match change.reset {
        true => Some(SessionEffect::Reset(reset_causes(old, new))),
        false => (change != PeerDifference::default()).then_some(SessionEffect::InPlace(change)),
    }
}

fn addresses(old: &BgpPlan, new: &BgpPlan) -> Vec<AddressChange> {
    let all = |plan: &BgpPlan| -> BTreeSet<(Arc<str>, IpAddr)> {
        let of = |(name, addresses): (&Arc<str>, &BTreeSet<IpAddr>)| {
            let name = name.clone();
            addresses.clone().into_iter().map(move |address| (name.clone(), address))
        };
        plan.peering_addresses.iter().flat_map(of).collect()
    };
    let (before, after) = (all(old), all(new));
    let differing = before.symmetric_difference(&after);
    let change = |(interface, address): &(Arc<str>, IpAddr)| AddressChange {
        added: after.contains(&(interface.clone(), *address)),
        interface: interface.clone(),
        address: *address,
    };
    differing.map(change).collect()
}

type Told = BTreeMap<(PeerId, IpNet), RouteAttributes>;

fn told(plan: &BgpPlan) -> Told {
    let of_peer = |peer: &Peer| {
        let id = peer.id();
        plan.announced(peer).into_iter().map(move |(prefix, attributes)| ((id.clone(), prefix), attributes))
    };
    plan.peers.iter().flat_map(of_peer).collect()
}

fn announcements(old: &BgpPlan, new: &BgpPlan) -> Vec<AnnouncementChange> {
    let (before, after) = (told(old), told(new));
    let mut changes: BTreeMap<(IpNet, AnnouncementEffect), Vec<PeerId>> = BTreeMap::new();
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let effect = match (before.get(key), after.get(key)) {
            (None, _) => AnnouncementEffect::Announced,
            (_, None) => AnnouncementEffect::Withdrawn,
            (was, is) if was != is => AnnouncementEffect::Changed,
            _ => continue,
        };
        changes.entry((key.1, effect)).or_default().push(key.0.clone());
    }
    let changes = changes.into_iter();
    changes.map(|((prefix, effect), peers)| AnnouncementChange { prefix, effect, peers }).collect()
}
