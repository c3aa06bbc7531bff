//! A speaker on its way from one process to another (see [`crate::handover`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arrival::{member, range_of};
use super::family::{FamilyRib, Shared};
use super::peer::{Peer, QUIET};
use super::{Speaker, Start, difference};
use crate::config::{PeerConfig, SpeakerConfig};
use crate::handover::{
    HandedAttributes, HandedListening, HandedMember, HandedPeer, HandedRoute, Handover, HandoverError,
    Octets, Terms, Told,
};
use crate::iana::cease;
use crate::rib::{AGGREGATE, AttributeId, AttributeSet, Emit, Net, Path, PeerNumber, Places, key};
use crate::session::Session;
use crate::types::{ConnectionId, Family, FamilySet, PeerId};

impl Speaker {
    /// Whether connections are between being made and being sessions, or held beside one (a collision). They do not go into a
    /// [`Handover`]: their peers would see them break. In a few seconds they are decided.
    pub fn is_opening(&self) -> bool {
        self.peers.values().any(|peer| peer.session.is_opening())
    }

    /// How many routes and announcements a [`Handover`] has, about. What peers that are in step with others of their kind have been
    /// told counts once; with many that are just being told a table it is more than anybody has memory for.
    pub fn handover_size(&self) -> usize {
        let of = |routes: usize, lists: usize| routes.saturating_mul(lists + 1);
        of(self.ipv4.rib.len(), self.ipv4.groups.lists()) + of(self.ipv6.rib.len(), self.ipv6.groups.lists())
    }

    /// Everything that another process needs to go on in this one's place; this one can go on, too.
    /// [`Speaker::poll_output`] has given `None` since the last input.
    pub fn hand_over(&self, now: Instant) -> Handover {
        let places: Places =
            (0..).zip(self.numbers.values()).map(|(place, number)| (*number, place)).collect();
        let peers = self.numbers.values().map(|number| self.hand_over_peer(*number, now)).collect();
        let mut sets = Sets::default();
        let mut handover = Handover {
            local_as: self.config.local_as,
            router_id: self.config.router_id,
            restarting: self.restarting,
            complete: Family::ALL.into_iter().filter(|family| self.is_complete(*family)).collect(),
            deferred: self.deferred(),
            deferral: self.deferral.map(|until| until.saturating_duration_since(now)),
            peers,
            next_hops: self.interner.resolved().map(|(address, how)| (address, how.clone())).collect(),
            originated: Vec::new(),
            attributes: Vec::new(),
            routes: Vec::new(),
            told: Vec::new(),
            listening: HandedListening::default(),
        };
        self.hand_over_routes(&self.ipv4, &places, &mut sets, &mut handover);
        self.hand_over_routes(&self.ipv6, &places, &mut sets, &mut handover);
        handover
    }

    fn deferred(&self) -> FamilySet {
        let tables = [self.ipv4.rib.is_deferred(), self.ipv6.rib.is_deferred()];
        let deferred = Family::ALL.into_iter().zip(tables).filter(|(_, is_deferred)| *is_deferred);
        deferred.map(|(family, _)| family).collect()
    }

    fn hand_over_peer(&self, number: PeerNumber, now: Instant) -> HandedPeer {
        let peer = &self.peers[&number];
        let left = |until: Instant| until.saturating_duration_since(now);
        let connection = peer.session.established_connection();
        let endpoints = connection.and_then(|connection| peer.endpoints.get(&connection));
        let members = [self.ipv4.groups.progress(number), self.ipv6.groups.progress(number)];
        let members = members.into_iter().flatten().map(|progress| HandedMember {
            refreshing: progress.refreshing || peer.refresh_due.contains(progress.family),
            ..progress
        });
        HandedPeer {
            id: peer.id.clone(),
            range: peer.range.clone(),
            terms: Terms::of(&peer.config),
            import: import_digest(peer, &self.config),
            path: self.paths.get(&peer.id).copied(),
            counts: peer.counts,
            established_count: peer.established_count,
            agreed: peer.agreed.as_deref().cloned(),
            session: endpoints.and_then(|endpoints| peer.session.hand_over(*endpoints, now)),
            end_of_rib: peer.end_of_rib,
            warned: peer.warned,
            stale_left: peer.stale_until.map(left),
            long_lived_left: peer.long_lived_until.iter().map(|(family, at)| (*family, left(*at))).collect(),
            members: members.collect(),
        }
    }

    fn hand_over_routes<N: Net>(
        &self,
        family: &FamilyRib<N>,
        places: &Places,
        sets: &mut Sets,
        out: &mut Handover,
    ) {
        for (prefix, path, ours) in family.rib.all_routes() {
            let Some(peer) = places.get(&path.peer) else {
                // Aggregates follow from the others.
                out.originated.extend((path.path_id != AGGREGATE).then(|| (prefix.into(), ours)));
                continue;
            };
            let attributes = sets.place(path.attributes, self.interner.get(path.attributes), out);
            out.routes.push(HandedRoute {
                peer: *peer,
                prefix: prefix.into(),
                path_id: path.path_id,
                ours,
                attributes,
                ineligible: path.ineligible,
                stale: path.stale,
            });
        }
        out.told.extend(family.groups.told(&family.rib, &self.sources, &self.interner, places));
    }

    /// A speaker that goes on in the place of another one, with a configuration of its own, as [`Speaker::new`] has it: what
    /// differs from the other's is applied as a difference. Gives the names of the connections, by the names that the
    /// other speaker gave them: all of them are to be taken over before the first output is carried out, also those that
    /// it closes.
    ///
    /// # Errors
    /// What is handed over does not fit together.
    pub fn take_over(
        config: SpeakerConfig,
        handover: &Handover,
        seed: u64,
        now: Instant,
    ) -> Result<(Self, BTreeMap<ConnectionId, ConnectionId>), HandoverError> {
        let mut speaker = Self::like_another(&config, handover, seed, now);
        let mut connections = BTreeMap::new();
        let mut peers = Vec::new();
        for handed in &handover.peers {
            let number = speaker.take_over_peer(handed, &config, handover.complete);
            if let (Some(number), Some(session)) = (number, &handed.session) {
                let connection = speaker.peers[&number].session.established_connection();
                connections.insert(session.connection, connection.expect("it has been taken over so"));
            }
            peers.push(number);
        }
        speaker.take_over_routes(handover, &peers, &config)?;
        while speaker.rounds() {}
        speaker.reset_members(&config);
        speaker.reconfigure(config);
        while speaker.rounds() {}
        speaker.take_over_members(handover, &peers);
        speaker.check_complete();
        Ok((speaker, connections))
    }

    /// Without peers and routes; its configuration differs from the new one in what the other speaker had otherwise.
    fn like_another(config: &SpeakerConfig, handover: &Handover, seed: u64, now: Instant) -> Self {
        let bare = SpeakerConfig {
            peers: BTreeMap::new(),
            originated: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            local_as: handover.local_as,
            router_id: handover.router_id,
            selection_deferral: handover.deferral.unwrap_or(Duration::ZERO),
            ..config.clone()
        };
        // Nothing is to be waited for before there are peers.
        let mut speaker = Self::bare(bare, Start::Restarting, seed, now);
        speaker.restarting = handover.restarting;
        speaker.deferral = handover.deferral.map(|left| now + left);
        speaker.ipv4.rib.set_deferred(handover.deferred.contains(Family::Ipv4Unicast));
        speaker.ipv6.rib.set_deferred(handover.deferred.contains(Family::Ipv6Unicast));
        let shared = &mut Shared { sources: &speaker.sources, interner: &mut speaker.interner };
        speaker.ipv4.set_kernel(&config.kernel, shared);
        speaker.ipv6.set_kernel(&config.kernel, shared);
        speaker
    }

    /// A peer as it was. One that has no session, and is not wanted any more or not so, begins anew, or not at all.
    fn take_over_peer(
        &mut self,
        handed: &HandedPeer,
        new: &SpeakerConfig,
        complete: FamilySet,
    ) -> Option<PeerNumber> {
        let wanted = match &handed.range {
            None => new.peers.get(&handed.id).cloned(),
            Some(_) => {
                let range =
                    range_of(new, handed.terms.address).filter(|(id, _)| Some(*id) == handed.range.as_ref());
                range.map(|(_, range)| member(range, handed.terms.address))
            }
        };
        let like =
            wanted.clone().unwrap_or_else(|| PeerConfig::new(handed.terms.address, handed.terms.remote_as));
        let config = handed.terms.clone().within(like);
        let stays = wanted.is_some_and(|wanted| !difference((&self.config, &config), (new, &wanted)).reset);
        let keeps_routes = handed.stale_left.is_some() || !handed.long_lived_left.is_empty();
        if handed.session.is_none() && !(stays && (keeps_routes || handed.range.is_none())) {
            return None;
        }
        Some(self.restore_peer(handed, config, complete))
    }

    fn restore_peer(&mut self, handed: &HandedPeer, config: PeerConfig, complete: FamilySet) -> PeerNumber {
        let now = self.now;
        let number = self.insert_peer(handed.id.clone(), config);
        let peer = self.peers.get_mut(&number).expect("just added");
        peer.range.clone_from(&handed.range);
        peer.counts = handed.counts;
        peer.established_count = handed.established_count;
        peer.agreed = handed.agreed.clone().map(Box::new);
        peer.end_of_rib = handed.end_of_rib;
        // It does not go along whether they were doubted.
        let doubts = handed
            .end_of_rib
            .iter()
            .filter(|family| handed.stale_left.is_some() || !complete.contains(*family));
        peer.doubts = doubts.map(|family| (family, now + QUIET)).collect();
        peer.warned = handed.warned;
        peer.stale_until = handed.stale_left.map(|left| now + left);
        peer.long_lived_until =
            handed.long_lived_left.iter().map(|(family, left)| (*family, now + *left)).collect();
        if let (Some(session), Some(agreed)) = (&handed.session, handed.agreed.clone()) {
            let settings = peer.session.settings().clone();
            let router_id = agreed.router_id;
            let seed = self.seed.wrapping_add(u64::from(number.0));
            peer.session = Session::take_over(settings, number.0, seed, (session, agreed), now);
            peer.session.set_restart(self.restarting, true);
            let connection = peer.session.established_connection().expect("it is established");
            peer.endpoints.insert(connection, session.endpoints);
            peer.local = Some(session.endpoints.local.ip());
            peer.remote = Some(session.endpoints.remote.ip());
            self.sources.insert(number, peer.source(router_id));
        }
        if let Some(path) = handed.path.filter(|_| peer.config.bfd.is_some()) {
            self.paths.insert(handed.id.clone(), path);
        }
        self.config.peers.extend(handed.range.is_none().then(|| (handed.id.clone(), peer.config.clone())));
        self.begin_peer(number);
        number
    }

    fn take_over_routes(
        &mut self,
        handover: &Handover,
        peers: &[Option<PeerNumber>],
        new: &SpeakerConfig,
    ) -> Result<(), HandoverError> {
        self.change_selection(new);
        let sets = handover.attributes.iter();
        let sets = sets.map(|set| set.restored().map(|set| self.interner.intern(set)));
        let sets: Vec<AttributeId> = sets.collect::<Result<_, _>>()?;
        for (address, resolution) in &handover.next_hops {
            self.interner.next_hops().resolve(*address, Some(resolution.clone()));
        }
        for (prefix, ours) in &handover.originated {
            let Some(route) = new.originated.get(prefix) else { continue };
            let attributes = self.interner.intern(AttributeSet::originated(route));
            let peer = PeerNumber::LOCAL;
            let path = Path { peer, path_id: 0, attributes, ineligible: false, stale: false };
            self.restore(prefix, path, *ours);
            self.config.originated.insert(*prefix, route.clone());
        }
        for route in &handover.routes {
            let Some(peer) = peers[route.peer as usize] else { continue };
            let attributes = sets[route.attributes as usize];
            self.interner.retain(attributes);
            let HandedRoute { path_id, ineligible, stale, .. } = *route;
            self.restore(&route.prefix, Path { peer, path_id, attributes, ineligible, stale }, route.ours);
        }
        sets.into_iter().for_each(|set| self.interner.release(set));
        // Nothing of that is new to those who asked.
        self.interner.next_hops().take_changed();
        Ok(())
    }

    fn restore(&mut self, prefix: &ipnet::IpNet, path: Path, ours: u32) {
        let (sources, interner) = (&self.sources, &mut self.interner);
        if let Some(prefix) = key(*prefix) {
            self.ipv4.rib.restore(prefix, (path, ours), sources, interner);
        } else if let Some(prefix) = key(*prefix) {
            self.ipv6.rib.restore(prefix, (path, ours), sources, interner);
        }
    }

    /// Members of ranges that have other terms now. Their ranges are the new ones already, so that nobody else would see it.
    fn reset_members(&mut self, new: &SpeakerConfig) {
        let changed = self.peers.values().filter(|peer| {
            peer.range.is_some()
                && range_of(new, peer.config.address).is_some_and(|(_, range)| {
                    let now = member(range, peer.config.address);
                    difference((&self.config, &peer.config), (new, &now)).reset
                })
        });
        for id in changed.map(|peer| peer.id.clone()).collect::<Vec<PeerId>>() {
            self.remove_peer(&id, cease::CONFIGURATION);
        }
    }

    /// Those that are still there are told what differs from what they have been told, and asked for their routes again where
    /// import differs.
    fn take_over_members(&mut self, handover: &Handover, peers: &[Option<PeerNumber>]) {
        let is_there = |number: &PeerNumber| {
            self.peers.get(number).is_some_and(|peer| peer.session.negotiated().is_some())
        };
        let peers: Vec<Option<PeerNumber>> = peers.iter().map(|number| number.filter(is_there)).collect();
        for (handed, number) in handover.peers.iter().zip(&peers) {
            let Some(number) = *number else { continue };
            for progress in &handed.members {
                let key = self.peers[&number].group(progress.family, &self.config);
                match progress.family {
                    Family::Ipv4Unicast => self.ipv4.groups.adopt(number, key, progress),
                    Family::Ipv6Unicast => self.ipv6.groups.adopt(number, key, progress),
                }
            }
        }
        for told in &handover.told {
            let emits = self.reconcile(told, &peers);
            self.send(emits);
        }
        for (handed, number) in handover.peers.iter().zip(&peers) {
            let Some(number) = *number else { continue };
            let peer = &self.peers[&number];
            if import_digest(peer, &self.config) != handed.import {
                let (id, config) = (peer.id.clone(), peer.config.clone());
                self.change_import(&id, &config);
            }
            if self.peers.contains_key(&number) {
                Family::ALL.into_iter().for_each(|family| self.check_prefix_limit(number, family));
                self.act(number);
            }
        }
    }

    fn reconcile(&mut self, told: &Told, peers: &[Option<PeerNumber>]) -> Vec<Emit> {
        let known = &self.peers;
        let congested = |number: PeerNumber| known[&number].session.outstanding() >= super::CONGESTED;
        let (sources, interner) = (&self.sources, &self.interner);
        match told.family {
            Family::Ipv4Unicast => {
                let FamilyRib { rib, groups, .. } = &mut self.ipv4;
                groups.reconcile(told, peers, rib, sources, interner, &congested)
            }
            Family::Ipv6Unicast => {
                let FamilyRib { rib, groups, .. } = &mut self.ipv6;
                groups.reconcile(told, peers, rib, sources, interner, &congested)
            }
        }
    }
}

/// Where sets of attributes are in a hand-over.
#[derive(Default)]
struct Sets(BTreeMap<AttributeId, u32>);

impl Sets {
    fn place(&mut self, id: AttributeId, set: &AttributeSet, out: &mut Handover) -> u32 {
        *self.0.entry(id).or_insert_with(|| {
            out.attributes.push(HandedAttributes {
                next_hop: set.next_hop,
                link_local: set.link_local,
                preference: set.preference,
                octets: Octets(set.octets().to_vec()),
            });
            u32::try_from(out.attributes.len() - 1).expect("fewer sets than routes")
        })
    }
}

/// Everything that the import of a peer's routes depends on, so that a difference can be seen without keeping it.
fn import_digest(peer: &Peer, speaker: &SpeakerConfig) -> u64 {
    let policy = &peer.config.import;
    let parts = (
        peer.in_force(policy),
        peer.config.allow_local_as,
        speaker.interfaces.relevant_to(policy),
        speaker.addresses,
        speaker.cluster_id,
    );
    crate::rib::digest(format!("{parts:?}").as_bytes())
}
