//! Peers, sources and policies as they would be.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::view::{RouteView, fault};
use super::what_if::{Hypothesis, SessionChange, SessionEvent};
use crate::config::{PeerConfig, SpeakerConfig};
use crate::policy::{Route, SourceMatch};
use crate::rib::{
    AttributeSet, Best, GroupKey, Interner, Net, Path, PeerNumber, Resolution, Rib, Selected, Sources,
};
use crate::speaker::family::FamilyRib;
use crate::speaker::peer::Peer;
use crate::speaker::reconfigure::selection_rules;
use crate::speaker::{PeerDifference, Speaker, UNKNOWN, difference};
use crate::types::PeerId;

/// How things would be.
pub(super) struct Future<'a> {
    speaker: &'a Speaker,
    config: SpeakerConfig,
    /// Who would be there; new ones have numbers that nobody has.
    pub(super) peers: BTreeMap<PeerNumber, Peer>,
    sources: Sources,
    /// Routes would be selected by other rules.
    rules_change: bool,
    /// Whose routes would be let in by other rules.
    imported_anew: BTreeSet<PeerNumber>,
    changes: Vec<SessionChange>,
}

/// Who is told by the same two keys, now and then.
pub(super) type Audiences = Vec<((Option<GroupKey>, Option<GroupKey>), Vec<PeerNumber>)>;

/// The routes that there would be for a prefix, in a table of their own.
pub(super) struct Outcome<N> {
    rib: Rib<N>,
    pub(super) interner: Interner,
    pub(super) selected: Selected,
}

impl<'a> Future<'a> {
    pub(super) fn new(speaker: &'a Speaker, hypothesis: &Hypothesis) -> Self {
        let config = match hypothesis {
            Hypothesis::Down(_) => speaker.config.clone(),
            Hypothesis::Configured(config) => SpeakerConfig::clone(config),
        };
        let mut future = Self {
            speaker,
            peers: BTreeMap::new(),
            rules_change: selection_rules(&config, speaker.peers.values())
                != selection_rules(&speaker.config, speaker.peers.values())
                || config.resolve_next_hops != speaker.config.resolve_next_hops,
            config,
            sources: Sources::new(),
            imported_anew: BTreeSet::new(),
            changes: Vec::new(),
        };
        let mut local = speaker.sources[&PeerNumber::LOCAL];
        local.router_id = future.config.router_id;
        future.sources.insert(PeerNumber::LOCAL, local);
        match hypothesis {
            Hypothesis::Down(down) => future.lose(down),
            Hypothesis::Configured(_) => future.configure(),
        }
        future
    }

    fn lose(&mut self, down: &BTreeSet<PeerId>) {
        let speaker = self.speaker;
        for (number, peer) in &speaker.peers {
            if down.contains(&peer.id) {
                self.changed(peer.id.clone(), &peer.config, vec![SessionEvent::Lost]);
            } else {
                self.place(*number, peer.id.clone(), peer.config.clone());
            }
        }
    }

    fn configure(&mut self) {
        let speaker = self.speaker;
        for (number, peer) in &speaker.peers {
            match self.config_of(peer) {
                Some(config) => {
                    let difference = difference((&speaker.config, &peer.config), (&self.config, &config));
                    self.change(*number, peer, config, difference);
                }
                None => self.changed(peer.id.clone(), &peer.config, vec![SessionEvent::Removed]),
            }
        }
        let new = self.config.peers.iter().filter(|(id, _)| !speaker.numbers.contains_key(*id));
        let new: Vec<(PeerId, PeerConfig)> = new.map(|(id, config)| (id.clone(), config.clone())).collect();
        for (number, (id, config)) in (speaker.last_number + 1..).zip(new) {
            self.changed(id.clone(), &config, vec![SessionEvent::Added]);
            self.place(PeerNumber(number), id, config);
        }
    }

    /// What a peer that is there would be configured with; `None`: it would go.
    fn config_of(&self, peer: &Peer) -> Option<PeerConfig> {
        match &peer.range {
            None => self.config.peers.get(&peer.id).cloned(),
            Some(range) => {
                let range = self.config.ranges.get(range)?;
                let named = self.config.peers.values().any(|other| other.address == peer.config.address);
                let kept = range.prefix.contains(&peer.config.address) && !named;
                let (address, connect) = (peer.config.address, peer.config.connect);
                kept.then(|| PeerConfig { address, connect, ..range.template.clone() })
            }
        }
    }

    fn change(&mut self, number: PeerNumber, peer: &Peer, config: PeerConfig, difference: PeerDifference) {
        let events = [
            (difference.reset, SessionEvent::Reset),
            (difference.import && !difference.reset, SessionEvent::ImportChanged),
            (difference.export && !difference.reset, SessionEvent::ExportChanged),
        ];
        let events: Vec<SessionEvent> =
            events.into_iter().filter(|(is, _)| *is).map(|(_, event)| event).collect();
        if !events.is_empty() {
            self.changed(peer.id.clone(), &config, events);
        }
        if difference.reset || difference.import {
            self.imported_anew.insert(number);
        }
        self.place(number, peer.id.clone(), config);
    }

    fn changed(&mut self, peer: PeerId, config: &PeerConfig, events: Vec<SessionEvent>) {
        self.changes.push(SessionChange { peer, address: config.address, events });
    }

    /// A peer as it would be: what its session has agreed on stays.
    fn place(&mut self, number: PeerNumber, id: PeerId, config: PeerConfig) {
        let mut peer = Peer::new(id, config, &self.config, number, 0, self.speaker.now);
        let mut router_id = UNKNOWN;
        if let Some(now) = self.speaker.peers.get(&number) {
            peer.agreed.clone_from(&now.agreed);
            peer.local = now.local;
            router_id = self.speaker.sources[&number].router_id;
        }
        self.sources.insert(number, peer.source(router_id));
        self.peers.insert(number, peer);
    }

    pub(super) fn session_changes(&self) -> Vec<SessionChange> {
        let mut changes = self.changes.clone();
        changes.sort_by(|one, other| one.peer.cmp(&other.peer));
        changes
    }

    /// Established and new peers, by what they are told now and would be told then.
    pub(super) fn audiences<N: Net>(&self, family: &FamilyRib<N>) -> Audiences {
        let mut audiences: BTreeMap<_, Vec<PeerNumber>> = BTreeMap::new();
        for (number, peer) in &self.peers {
            let now = family.groups.key_of(*number).cloned();
            let is_new = !self.speaker.peers.contains_key(number);
            let takes_part = now.is_some() || is_new && peer.config.families.contains(&N::FAMILY);
            if takes_part {
                let then = peer.group(N::FAMILY, &self.config);
                audiences.entry((now, Some(then))).or_default().push(*number);
            }
        }
        audiences.into_iter().collect()
    }

    /// Prefixes that would have routes and have none.
    pub(super) fn additional_prefixes(&self) -> Vec<IpNet> {
        let (v4, v6) = (&self.speaker.ipv4, &self.speaker.ipv6);
        let is_new = |prefix: &IpNet| match *prefix {
            IpNet::V4(net) => v4.rib.slot(net).is_none(),
            IpNet::V6(net) => v6.rib.slot(net).is_none(),
        };
        let rejected = v4.rejected.prefixes().map(IpNet::V4).chain(v6.rejected.prefixes().map(IpNet::V6));
        let originated = self.config.originated.keys().map(IpNet::trunc);
        let all: BTreeSet<IpNet> =
            originated.chain(rejected.filter(|_| !self.imported_anew.is_empty())).collect();
        all.into_iter().filter(is_new).collect()
    }

    /// Whether the selection for a prefix may be another one.
    pub(super) fn concerns(&self, prefix: IpNet, paths: &[Path]) -> bool {
        let differs = |path: &Path| {
            self.sources.get(&path.peer) != self.speaker.sources.get(&path.peer)
                || self.imported_anew.contains(&path.peer)
        };
        let own = self.config.originated.get(&prefix) != self.speaker.config.originated.get(&prefix);
        let rules = self.rules_change || !self.imported_anew.is_empty();
        own || rules || paths.iter().any(differs)
    }

    /// The routes that there would be for a prefix, and what would be selected of them: in a table of their own, so that the
    /// tables' own code decides.
    pub(super) fn outcome<N: Net>(&self, family: &FamilyRib<N>, prefix: N) -> Outcome<N> {
        let mut outcome = Outcome {
            rib: Rib::new(family.rib.is_deferred(), 0),
            interner: Interner::default(),
            selected: Selected::default(),
        };
        outcome.interner.next_hops().set_resolving(self.config.resolve_next_hops);
        let rules = selection_rules(&self.config, self.speaker.peers.values());
        outcome.rib.set_rules(rules, &self.sources, &mut outcome.interner);
        let net: IpNet = prefix.into();
        if let Some(route) = self.config.originated.get(&net) {
            self.add(&mut outcome, prefix, (PeerNumber::LOCAL, 0), AttributeSet::originated(route));
        }
        for path in family.rib.routes(prefix).paths {
            // What cannot be used now could be, if the rules by which routes come in were others.
            let usable = !path.ineligible || self.imported_anew.contains(&path.peer);
            if path.peer != PeerNumber::LOCAL && usable {
                let set = self.let_in(path.peer, net, self.speaker.interner.get(path.attributes));
                set.into_iter()
                    .for_each(|set| self.add(&mut outcome, prefix, (path.peer, path.path_id), set));
            }
        }
        for (number, set) in family.rejected.of_prefix(prefix) {
            if self.imported_anew.contains(&number) {
                let set = self.let_in(number, net, set);
                set.into_iter().for_each(|set| self.add(&mut outcome, prefix, (number, 0), set));
            }
        }
        outcome.selected = outcome.rib.selected(prefix, &self.sources);
        outcome
    }

    fn add<N: Net>(
        &self,
        outcome: &mut Outcome<N>,
        prefix: N,
        (peer, path_id): (PeerNumber, u32),
        set: AttributeSet,
    ) {
        let next_hop = set.next_hop;
        let attributes = outcome.interner.intern(set);
        // What nobody has looked up counts as reachable: the host would be asked.
        let known = self.speaker.interner.resolution(next_hop);
        let known = known.unwrap_or_else(|| Some(Resolution { cost: 0, gateways: vec![next_hop] }));
        outcome.interner.next_hops().resolve(next_hop, known);
        let path = Path { peer, path_id, attributes, ineligible: false, stale: false };
        outcome.rib.insert(prefix, path, &self.sources, &mut outcome.interner);
    }

    /// A learned route as it would be kept; `None`: its peer is gone, its filters reject it, or it cannot be used.
    fn let_in(&self, number: PeerNumber, prefix: IpNet, set: &AttributeSet) -> Option<AttributeSet> {
        let peer = self.peers.get(&number)?;
        if !self.imported_anew.contains(&number) {
            return Some(set.clone());
        }
        if fault(peer, &self.config, set).is_some() {
            return None;
        }
        let policy = peer.in_force(&peer.config.import);
        let applied = policy.evaluate(&Route {
            prefix,
            source: SourceMatch::Learned,
            peer: Some(peer.kind()),
            next_hop: Some(set.next_hop),
            interface: self.config.interfaces.of(set.next_hop),
            attributes: set,
        })?;
        Some(if applied.is_empty() { set.clone() } else { set.changed(&policy.changes(&applied)) })
    }

    /// A route for people.
    pub(super) fn view(&self, prefix: IpNet, best: &Best, set: &AttributeSet) -> RouteView {
        let number = best.peer;
        let peer = self.peers.get(&number).or_else(|| self.speaker.peers.get(&number));
        RouteView {
            prefix,
            peer: peer.map(|peer| peer.id.clone()),
            from: peer.map(|peer| peer.config.address),
            path_id: None,
            attributes: set.clone(),
            best: best.rank == 1,
            multipath: best.rank != 1,
            stale: false,
            unusable: None,
        }
    }
}
