//! Applying a configuration as a difference.

use ipnet::IpNet;

use super::difference::{PeerDifference, difference};
use super::family::Shared;
use super::peer::Peer;
use super::{Speaker, Start};
use crate::config::{Aggregate, ConnectMode, PeerConfig, SpeakerConfig};
use crate::iana::{cease, error};
use crate::packet::attribute::Aggregator;
use crate::packet::notification::Notification;
use crate::rib::best_path::SourceKind;
use crate::rib::{PeerNumber, SelectionRules, best_path};
use crate::session::{Loss, Reason};
use crate::types::{Family, PeerId};

impl Speaker {
    /// Goes over to a new configuration: peers come and go, sessions that must are reset, policies are applied to
    /// what is there, routes of our own are announced and withdrawn.
    pub(super) fn reconfigure(&mut self, new: SpeakerConfig) {
        // Peers must know all there is before it is worked out what changes for them.
        while self.rounds() {}
        let old = std::mem::replace(&mut self.config, new.clone());
        self.config.originated = old.originated.clone();
        self.sources.get_mut(&PeerNumber::LOCAL).expect("it is always there").router_id = new.router_id;
        self.remove_peers(&old, &new);
        self.change_selection(&new);
        self.change_clients(&new);
        // What goes is withdrawn from those who were told by the old rules, what comes is told by the new ones.
        self.change_aggregates(
            old.aggregates.iter().filter(|(prefix, _)| new.aggregates.contains_key(*prefix)),
        );
        self.withdraw_originated(&new);
        self.reconfigure_members(&old, &new);
        for (id, peer) in &new.peers {
            match old.peers.get(id) {
                None => self.add_peer(id.clone(), peer.clone()),
                Some(before) => {
                    let difference = difference((&old, before), (&new, peer));
                    self.change_peer(id, peer, difference);
                    if before.prefix_limit != peer.prefix_limit {
                        self.change_prefix_limit(self.numbers[id]);
                    }
                }
            }
        }
        self.change_aggregates(new.aggregates.iter());
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.set_kernel(&new.kernel, shared);
        self.ipv6.set_kernel(&new.kernel, shared);
        self.change_stations(&old, &new);
        self.forget_paths();
        self.change_originated(new);
        self.check_complete();
    }

    fn change_aggregates<'a>(&mut self, wanted: impl Iterator<Item = (&'a IpNet, &'a Aggregate)>) {
        let wanted = &wanted.map(|(prefix, aggregate)| (*prefix, *aggregate)).collect();
        let ourselves = aggregator(&self.config);
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.set_aggregates(wanted, ourselves, shared);
        self.ipv6.set_aggregates(wanted, ourselves, shared);
        while self.rounds() {}
    }

    fn remove_peers(&mut self, old: &SpeakerConfig, new: &SpeakerConfig) {
        for id in old.peers.keys().filter(|id| !new.peers.contains_key(*id)) {
            self.remove_peer(id, cease::DECONFIGURED);
        }
    }

    /// Routes are selected by the rules of a configuration from now on.
    pub(super) fn change_selection(&mut self, new: &SpeakerConfig) {
        self.select_by(selection_rules(new, self.peers.values()), new.resolve_next_hops);
    }

    /// As many routes are selected as peers now take.
    pub(super) fn widen_selection(&mut self) {
        let rules = selection_rules(&self.config, self.peers.values());
        self.select_by(rules, self.config.resolve_next_hops);
    }

    fn select_by(&mut self, rules: SelectionRules, resolves: bool) {
        let (sources, interner) = (&self.sources, &mut self.interner);
        self.ipv4.rib.set_rules(rules, sources, interner);
        self.ipv6.rib.set_rules(rules, sources, interner);
        if interner.next_hops().set_resolving(resolves) {
            self.ipv4.rib.reselect(|_, _| true, sources, interner);
            self.ipv6.rib.reselect(|_, _| true, sources, interner);
        }
    }

    /// Peers become clients of ours, or cease to be (RFC 4456): sessions go on, and everyone is told what follows for the
    /// routes that came from them.
    fn change_clients(&mut self, new: &SpeakerConfig) {
        let changes = |id: &PeerId, peer: &PeerConfig| {
            let number = *self.numbers.get(id)?;
            let known = &self.peers.get(&number)?.config;
            let (before, after) = (known.reflector_client, peer.reflector_client);
            (before != after).then_some((number, after))
        };
        let changed: Vec<_> = new.peers.iter().filter_map(|(id, peer)| changes(id, peer)).collect();
        if changed.is_empty() {
            return;
        }
        // What was told followed from what the peers were; it is noted with that before they are something else.
        self.ipv4.rib.reselect(|_, _| true, &self.sources, &mut self.interner);
        self.ipv6.rib.reselect(|_, _| true, &self.sources, &mut self.interner);
        for (number, is_client) in changed {
            let source = self.sources.get_mut(&number).expect("a peer has a source");
            if source.kind.is_internal() {
                source.kind = if is_client { SourceKind::Client } else { SourceKind::Internal };
            }
        }
        while self.rounds() {}
    }

    pub(super) fn add_peer(&mut self, id: PeerId, config: PeerConfig) {
        let number = self.insert_peer(id, config);
        self.begin_peer(number);
    }

    /// A peer whose session is not begun.
    pub(super) fn insert_peer(&mut self, id: PeerId, config: PeerConfig) -> PeerNumber {
        self.last_number += 1;
        let number = PeerNumber(self.last_number);
        let seed = self.seed.wrapping_add(u64::from(number.0));
        let mut peer = Peer::new(id.clone(), config, &self.config, number, seed, self.now);
        peer.session.set_restart(self.restarting, self.started_as == Start::Restarting);
        self.sources.insert(number, peer.source(super::UNKNOWN));
        self.peers.insert(number, peer);
        self.numbers.insert(id, number);
        number
    }

    pub(super) fn begin_peer(&mut self, number: PeerNumber) {
        self.gate(number);
        self.peers.get_mut(&number).expect("just added").session.start(self.now);
        self.act(number);
    }

    /// Stops a peer's session and forgets its routes.
    pub(super) fn remove_peer(&mut self, id: &PeerId, subcode: u8) {
        let Some(number) = self.numbers.remove(id) else { return };
        let peer = self.peers.get_mut(&number).expect("a number belongs to a peer");
        let notification = Notification::new(error::CEASE, subcode);
        peer.session.stop(Some(notification), Reason::Reconfigured, self.now);
        self.act(number);
        // Routes that were kept over a restart of the peer have no session that could end.
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        self.ipv4.end_session(number, Loss::ForGood, shared);
        self.ipv6.end_session(number, Loss::ForGood, shared);
        self.ipv4.finish_removals(number, shared);
        self.ipv6.finish_removals(number, shared);
        let peer = self.peers.remove(&number).expect("it was there");
        if let Some(at) = peer.scheduled {
            self.schedule.remove(&(at, number));
        }
        self.sources.remove(&number);
    }

    pub(super) fn change_peer(&mut self, id: &PeerId, config: &PeerConfig, difference: PeerDifference) {
        if difference.reset {
            self.remove_peer(id, cease::CONFIGURATION);
            return self.add_peer(id.clone(), config.clone());
        }
        let number = self.numbers[id];
        let peer = self.peers.get_mut(&number).expect("a number belongs to a peer");
        peer.config = config.clone();
        peer.session.set_passive(config.connect == ConnectMode::Passive, self.now);
        self.gate(number);
        self.act(number);
        if difference.export {
            self.change_export(number);
        }
        if difference.import {
            self.change_import(id, config);
        }
        // Somebody may have to be dialled now. An import that could not be changed has made it another peer.
        self.act(self.numbers[id]);
    }

    fn change_export(&mut self, number: PeerNumber) {
        // What another peer's reset has just changed is told by the old export; by the new one it may not be told at all.
        while self.rounds() {}
        let peer = &self.peers[&number];
        let v4 = peer.group(Family::Ipv4Unicast, &self.config);
        let v6 = peer.group(Family::Ipv6Unicast, &self.config);
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        let mut emits = self.ipv4.regroup(number, v4, shared);
        emits.extend(self.ipv6.regroup(number, v6, shared));
        self.send(emits);
    }

    /// Import is applied when routes come in: they are asked for again, or the session is reset if the peer cannot.
    pub(super) fn change_import(&mut self, id: &PeerId, config: &PeerConfig) {
        let peer = &self.peers[&self.numbers[id]];
        match peer.session.negotiated() {
            None => {}
            Some(agreed) if agreed.route_refresh => self.ask_for_routes(id),
            Some(_) => {
                self.remove_peer(id, cease::CONFIGURATION);
                self.add_peer(id.clone(), config.clone());
            }
        }
    }

    fn withdraw_originated(&mut self, new: &SpeakerConfig) {
        let gone = self.config.originated.keys().filter(|prefix| !new.originated.contains_key(*prefix));
        for prefix in gone.copied().collect::<Vec<_>>() {
            self.originate(prefix, None);
        }
        while self.rounds() {}
    }

    fn change_originated(&mut self, new: SpeakerConfig) {
        let old = self.config.originated.clone();
        for (prefix, route) in new.originated {
            if old.get(&prefix.trunc()) != Some(&route) {
                self.originate(prefix, Some(route));
            }
        }
    }
}

/// We, as AGGREGATOR (RFC 4271, section 5.1.7).
pub(super) fn aggregator(config: &SpeakerConfig) -> Aggregator {
    Aggregator { asn: config.local_as, address: config.router_id.0 }
}

/// How routes are selected under a configuration: as many as peers that take several have agreed on. What was only offered
/// costs nothing.
pub(super) fn selection_rules<'a>(
    config: &SpeakerConfig,
    peers: impl Iterator<Item = &'a Peer>,
) -> SelectionRules {
    let rules = SelectionRules {
        best_path: best_path::Rules { always_compare_med: config.always_compare_med },
        multipath: config.multipath,
        ..SelectionRules::default()
    };
    let takes_several =
        |peer: &&Peer| peer.agreed.as_ref().is_some_and(|agreed| !agreed.context.add_path_send.is_empty());
    peers.filter(takes_several).map(|peer| peer.config.add_path.send).fold(rules, SelectionRules::wanted_by)
}
