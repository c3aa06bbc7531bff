//! Connections from elsewhere: whose they are, and peers that are known only by where they come from.

use std::net::IpAddr;
use std::time::Instant;

use super::io::Arrival;
use super::{PeerNumber, Speaker, difference};
use crate::config::{Bfd, ConnectMode, PeerConfig, PeerRange, SpeakerConfig};
use crate::iana::cease;
use crate::session::Reason;
use crate::types::{ConnectionId, Endpoints, PeerId};

impl Speaker {
    /// A connection from somewhere, as [`Speaker::accept_from`] without knowledge of interface and hop limit.
    pub fn accept(&mut self, endpoints: Endpoints, now: Instant) -> Option<ConnectionId> {
        self.accept_from(&Arrival { endpoints, interface: None, hop_limit: None }, now)
    }

    /// A connection from somewhere. `None`: nobody is expected from there now, it shall be closed unread.
    pub fn accept_from(&mut self, arrival: &Arrival, now: Instant) -> Option<ConnectionId> {
        self.now = self.now.max(now);
        let matching = self.peers.iter().filter(|(_, peer)| peer.matches(arrival));
        let mut numbers: Vec<PeerNumber> = matching.map(|(number, _)| *number).collect();
        if numbers.is_empty() {
            numbers.extend(self.join_range(arrival));
        }
        numbers.into_iter().find_map(|number| {
            let accepted = self.take_connection(number, arrival);
            self.forget_idle_member(number);
            accepted
        })
    }

    fn take_connection(&mut self, number: PeerNumber, arrival: &Arrival) -> Option<ConnectionId> {
        let peer = self.peers.get_mut(&number)?;
        if let (Some(least), Some(hop_limit)) = (peer.config.transport().least_hop_limit(), arrival.hop_limit)
            && hop_limit < least
        {
            peer.session.turn_away(Reason::TooFarAway { hop_limit, least });
            return None;
        }
        let connection = peer.session.handle_accepted(self.now)?;
        peer.endpoints.insert(connection, arrival.endpoints);
        self.act(number);
        Some(connection)
    }

    /// Those that we wait for and whose segments must be signed may be the ones whose segments were not.
    pub(super) fn suspect_signatures(&mut self) {
        let waiting = self.peers.values_mut().filter(|peer| {
            peer.config.authentication.is_some() && peer.config.connect == ConnectMode::Passive
        });
        waiting.for_each(|peer| peer.session.turn_away(Reason::Unsigned));
    }

    /// A new member of the range that an address belongs to, unless it is full.
    fn join_range(&mut self, arrival: &Arrival) -> Option<PeerNumber> {
        let address = arrival.endpoints.remote.ip();
        let (range_id, range) = range_of(&self.config, address)?;
        let template = &range.template;
        if self.stopped || template.interface.is_some() && template.interface != arrival.interface {
            return None;
        }
        let members = self.peers.values().filter(|peer| peer.range.as_ref() == Some(range_id)).count();
        if members >= range.max_peers {
            return None;
        }
        let (id, config) = (PeerId(format!("{range_id}_{address}")), member(range, address));
        if self.numbers.contains_key(&id) {
            return None;
        }
        let range_id = range_id.clone();
        self.add_peer(id.clone(), config);
        let number = self.numbers[&id];
        self.peers.get_mut(&number).expect("just added").range = Some(range_id);
        Some(number)
    }

    /// A member of a range that has no connection, and no routes that are kept for its return, is forgotten.
    pub(super) fn forget_idle_member(&mut self, number: PeerNumber) {
        let Some(peer) = self.peers.get(&number).filter(|peer| peer.range.is_some()) else { return };
        let keeps_routes = peer.stale_until.is_some() || !peer.long_lived_until.is_empty();
        if peer.session.is_without_connection() && !keeps_routes && !self.stopped {
            let id = peer.id.clone();
            self.remove_peer(&id, cease::DECONFIGURED);
        }
    }

    /// Members of ranges follow a new configuration: they go with their range, or when somebody is configured by name in
    /// their place.
    pub(super) fn reconfigure_members(&mut self, old: &SpeakerConfig, new: &SpeakerConfig) {
        let members = self.peers.values().filter_map(|peer| {
            let range = peer.range.clone()?;
            Some((peer.id.clone(), range, peer.config.address))
        });
        for (id, range, address) in members.collect::<Vec<_>>() {
            let named = new.peers.values().any(|peer| peer.address == address);
            let now = range_of(new, address).filter(|(other, _)| **other == range && !named);
            match (old.ranges.get(&range), now) {
                (Some(before), Some((_, after))) => {
                    let (before, after) = (member(before, address), member(after, address));
                    let change = difference((old, &before), (new, &after));
                    match change.reset {
                        // It dials again.
                        true => self.remove_peer(&id, cease::CONFIGURATION),
                        false => self.change_peer(&id, &after, change),
                    }
                }
                _ => self.remove_peer(&id, cease::DECONFIGURED),
            }
        }
    }
}

/// The range with the longest prefix that an address lies in.
pub(super) fn range_of(config: &SpeakerConfig, address: IpAddr) -> Option<(&PeerId, &PeerRange)> {
    let around = config.ranges.iter().filter(|(_, range)| range.prefix.contains(&address));
    around.max_by_key(|(_, range)| range.prefix.prefix_len())
}

pub(super) fn member(range: &PeerRange, address: IpAddr) -> PeerConfig {
    // A path that is only known once the peer has come cannot be waited for.
    let bfd = range.template.bfd.map(|bfd| Bfd { strict: false, ..bfd });
    PeerConfig { address, bfd, connect: ConnectMode::Passive, ..range.template.clone() }
}
