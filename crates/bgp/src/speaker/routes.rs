//! Routes in, routes out.

use ipnet::IpNet;

use super::family::{Import, Shared};
use super::peer::QUIET;
use super::status::Ineligible;
use super::{CONGESTED, Output, Speaker};
use crate::config::Origination;
use crate::packet::attribute::{AttributeValue, MpReach, MpUnreach};
use crate::packet::nlri::Nlri;
use crate::packet::route_refresh::{RouteRefresh, Subtype};
use crate::packet::update::{Disposition, Received, Update};
use crate::rib::{AttributeSet, Emit, Net, PeerNumber};
use crate::session::Loss;
use crate::types::{Family, PeerId};

impl<N: Net> super::FamilyRib<N> {
    /// A session is over. Of routes that are kept over a restart, those that were stale already go: they have not been
    /// confirmed in the meantime (RFC 4724, section 4.2).
    pub(super) fn end_session(&mut self, peer: PeerNumber, loss: Loss, shared: &mut Shared<'_>) {
        self.groups.leave(peer, shared.interner);
        self.rejected.forget_peer(peer);
        self.originals.iter_mut().for_each(|all| all.forget_peer(peer, shared.interner));
        match loss {
            Loss::ForGood => self.rib.begin_removal(peer, false),
            Loss::Restart => {
                self.rib.begin_removal(peer, true);
                self.mark_stale(peer, shared);
            }
            Loss::Collision => self.mark_stale(peer, shared),
        }
    }

    /// All routes of a peer become stale.
    pub(super) fn mark_stale(&mut self, peer: PeerNumber, shared: &mut Shared<'_>) {
        self.finish_removals(peer, shared);
        self.rib.mark_stale(peer);
        self.originals.iter_mut().for_each(|all| all.mark_stale(peer));
    }

    /// The stale routes of a peer go.
    pub(super) fn sweep(&mut self, peer: PeerNumber, shared: &mut Shared<'_>) {
        self.rib.begin_removal(peer, true);
        if let Some(originals) = &mut self.originals {
            for (prefix, path_id) in originals.sweep(peer, shared.interner) {
                self.rib.touch(prefix, peer, path_id);
            }
        }
    }

    /// What is on its way out of a peer's routes is gone, before the peer says anything more.
    pub(super) fn finish_removals(&mut self, peer: PeerNumber, shared: &mut Shared<'_>) {
        self.rib.finish_removals(peer, shared.sources, shared.interner);
    }
}

impl Speaker {
    pub(super) fn originate(&mut self, prefix: IpNet, route: Option<Origination>) {
        let prefix = prefix.trunc();
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        match Family::of(&prefix) {
            Family::Ipv4Unicast => self.ipv4.originate(prefix, route.as_ref(), shared),
            Family::Ipv6Unicast => self.ipv6.originate(prefix, route.as_ref(), shared),
        }
        match route {
            Some(route) => self.config.originated.insert(prefix, route),
            None => self.config.originated.remove(&prefix),
        };
    }

    /// An UPDATE of a peer.
    pub(super) fn update(&mut self, number: PeerNumber, received: &Received) {
        let peer = self.peers.get_mut(&number).expect("its session has just acted");
        peer.counts.updates_received += 1;
        // Messages that came together with the one that ended the session.
        if peer.session.negotiated().is_none() {
            return;
        }
        if !received.faults.is_empty() {
            peer.counts.malformed_updates += 1;
        }
        let update = &received.update;
        if let Some(family) = update.end_of_rib() {
            return self.end_of_rib(number, family);
        }
        let mut announced: Vec<(Family, bool, &[Nlri])> = vec![(Family::Ipv4Unicast, false, &update.nlri)];
        for attribute in &update.attributes {
            if let AttributeValue::MpReach(MpReach::Routes { family, nlri, .. }) = &attribute.value {
                announced.push((*family, true, nlri));
            }
        }
        announced.retain(|(.., nlri)| !nlri.is_empty());
        announced.iter().for_each(|(family, ..)| peer.hear(*family, self.now));
        let withdraw = received.disposition() >= Some(Disposition::TreatAsWithdraw);
        peer.unused.treated_as_withdraw += u64::from(withdraw);
        self.unlearn(number, Family::Ipv4Unicast, &update.withdrawn);
        for attribute in &update.attributes {
            if let AttributeValue::MpUnreach(MpUnreach::Routes { family, nlri }) = &attribute.value {
                self.unlearn(number, *family, nlri);
            }
        }
        for (family, mp, nlri) in announced {
            match AttributeSet::received(update, mp).filter(|_| !withdraw) {
                Some(set) => self.learn(number, family, nlri, set, update),
                None => self.unlearn(number, family, nlri),
            }
        }
    }

    fn unlearn(&mut self, number: PeerNumber, family: Family, nlri: &[Nlri]) {
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        match family {
            Family::Ipv4Unicast => self.ipv4.unlearn(number, nlri, shared),
            Family::Ipv6Unicast => self.ipv6.unlearn(number, nlri, shared),
        }
    }

    fn learn(
        &mut self,
        number: PeerNumber,
        family: Family,
        nlri: &[Nlri],
        set: AttributeSet,
        update: &Update,
    ) {
        let peer = &self.peers[&number];
        if !peer.agreed.as_ref().is_some_and(|agreed| agreed.context.families.contains(family)) {
            return;
        }
        let fault = self.fault_of(number, &set, update);
        let ineligible = fault.is_some();
        let came = self.keeps_originals().then(|| set.clone());
        let set = peer.taken(set);
        let policy = peer.in_force(&peer.config.import);
        let asks = policy.rules.iter().any(|rule| !rule.when.interfaces.is_empty());
        let interface = asks.then(|| self.config.interfaces.of(set.next_hop)).flatten();
        let import = Import { policy, peer: peer.kind(), interface };
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        let rejected = match family {
            Family::Ipv4Unicast => self.ipv4.learn(number, nlri, set, ineligible, import, shared),
            Family::Ipv6Unicast => self.ipv6.learn(number, nlri, set, ineligible, import, shared),
        };
        match (family, came) {
            (_, None) => {}
            (Family::Ipv4Unicast, Some(came)) => self.ipv4.note_originals(number, nlri, came, shared),
            (Family::Ipv6Unicast, Some(came)) => self.ipv6.note_originals(number, nlri, came, shared),
        }
        let peer = self.peers.get_mut(&number).expect("its session has just acted");
        peer.unused.count(rejected, fault);
        self.check_prefix_limit(number, family);
    }

    /// Loops (RFC 4271, section 9.1.2; RFC 4456, section 8), and next hops that are ourselves (RFC 4271, section
    /// 5.1.3): kept, but never selected.
    fn fault_of(&self, number: PeerNumber, set: &AttributeSet, update: &Update) -> Option<Ineligible> {
        let peer = &self.peers[&number];
        let ours =
            [self.config.addresses.of(Family::Ipv4Unicast), self.config.addresses.of(Family::Ipv6Unicast)];
        if ours.contains(&Some(set.next_hop)) || peer.local == Some(set.next_hop) {
            return Some(Ineligible::Other);
        }
        if set.originator == Some(self.config.router_id.0) {
            return Some(Ineligible::Originator);
        }
        if peer.is_leak(set) {
            return Some(Ineligible::Other);
        }
        if peer.is_loop(update, self.config.local_as) {
            return Some(Ineligible::AsPath);
        }
        let cluster = self.config.cluster_id.unwrap_or(self.config.router_id.0);
        let has_been_here = update.attributes.iter().any(|attribute| match &attribute.value {
            AttributeValue::ClusterList(list) => list.contains(&cluster),
            _ => false,
        });
        has_been_here.then_some(Ineligible::ClusterList)
    }

    fn end_of_rib(&mut self, number: PeerNumber, family: Family) {
        let peer = self.peers.get_mut(&number).expect("its session has just acted");
        peer.end_of_rib.insert(family);
        match peer.heard.contains(family) {
            true => self.all_told(number, family),
            // What is said before any route may be said too early. Routes are selected all the same, only none is swept.
            false => drop(peer.doubts.insert(family, self.now + QUIET)),
        }
        self.check_complete();
        self.observe_end_of_rib(number, family);
    }

    /// End-of-RIBs that came before any route are believed when nothing has come since for a while.
    pub(super) fn end_doubts(&mut self, number: PeerNumber) {
        let doubts = self.peers[&number].doubts.iter();
        let over = doubts.filter(|(_, until)| **until <= self.now).map(|(family, _)| *family);
        let over: Vec<Family> = over.collect();
        for family in &over {
            self.all_told(number, *family);
        }
        if !over.is_empty() {
            self.check_complete();
        }
    }

    /// A peer has told all of its routes of a family: what it does not have any more goes.
    fn all_told(&mut self, number: PeerNumber, family: Family) {
        let peer = self.peers.get_mut(&number).expect("the caller has just had it");
        peer.doubts.remove(&family);
        let all = peer.agreed.as_ref().is_some_and(|agreed| {
            let is_told = |family| peer.end_of_rib.contains(family) && !peer.doubts.contains_key(&family);
            agreed.context.families.iter().all(is_told)
        });
        if all {
            peer.stale_until = None;
        }
        peer.long_lived_until.remove(&family);
        self.sweep(number, &[family]);
    }

    /// ROUTE-REFRESH of a peer.
    pub(super) fn refresh(&mut self, number: PeerNumber, refresh: &RouteRefresh) {
        let Some(family) = refresh.family.known() else { return };
        let agreed = self.peers[&number].agreed.as_ref().map(|agreed| agreed.context);
        let enhanced = agreed.is_some_and(|context| context.enhanced_refresh);
        match refresh.subtype {
            // Whoever asks and does not read gets one answer, when it reads again.
            Subtype::Request if self.peers[&number].session.outstanding() >= CONGESTED => {
                let peer = self.peers.get_mut(&number).expect("just seen");
                peer.refresh_due.insert(family);
            }
            Subtype::Request => {
                let emit = match family {
                    Family::Ipv4Unicast => self.ipv4.groups.refresh(number, enhanced),
                    Family::Ipv6Unicast => self.ipv6.groups.refresh(number, enhanced),
                };
                self.send(emit);
            }
            Subtype::Beginning if enhanced => {
                let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
                match family {
                    Family::Ipv4Unicast => self.ipv4.mark_stale(number, shared),
                    Family::Ipv6Unicast => self.ipv6.mark_stale(number, shared),
                }
            }
            Subtype::End if enhanced => self.sweep(number, &[family]),
            Subtype::Beginning | Subtype::End | Subtype::Unknown(_) => {}
        }
    }

    /// Answers what a peer has asked for while it did not read.
    pub(super) fn refresh_late(&mut self, number: PeerNumber) {
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.refresh_due.is_empty() || peer.session.outstanding() >= CONGESTED {
            return;
        }
        for family in std::mem::take(&mut peer.refresh_due).iter() {
            self.refresh(number, &RouteRefresh::new(family, Subtype::Request));
        }
    }

    /// Asks a peer for its routes again.
    pub(super) fn ask_for_routes(&mut self, id: &PeerId) {
        let Some(peer) = self.numbers.get(id).and_then(|number| self.peers.get_mut(number)) else { return };
        let Some(connection) = peer.session.established_connection() else { return };
        let Some(agreed) = peer.agreed.as_ref().filter(|agreed| agreed.route_refresh) else { return };
        for family in agreed.context.families.iter() {
            let bytes = RouteRefresh::new(family, Subtype::Request).encode();
            peer.session.queued(bytes.len(), self.now);
            peer.counts.sent += 1;
            self.outputs.push_back(Output::Send { connection, bytes: bytes.into() });
        }
    }

    /// A piece of what is left to do; false when nothing is, or nothing can be done now.
    pub(super) fn work(&mut self) -> bool {
        if self.rounds() {
            return true;
        }
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        let peers = &self.peers;
        let congested = |number: PeerNumber| peers[&number].session.outstanding() >= CONGESTED;
        let mut emits = self.ipv4.advance(shared, &congested);
        emits.extend(self.ipv6.advance(shared, &congested));
        let mut worked = !emits.is_empty() || !self.outputs.is_empty();
        self.send(emits);
        worked |= self.feed_stations();
        for (family, due) in [
            (Family::Ipv4Unicast, &mut self.ipv4.complete_due),
            (Family::Ipv6Unicast, &mut self.ipv6.complete_due),
        ] {
            if std::mem::take(due) {
                self.outputs.push_back(Output::RibComplete { family });
                worked = true;
            }
        }
        worked
    }

    /// Tells on what has changed; false when nothing has.
    pub(super) fn rounds(&mut self) -> bool {
        self.next_hop_news();
        if !self.ipv4.has_news() && !self.ipv6.has_news() {
            return false;
        }
        let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
        let peers = &self.peers;
        let congested = |number: PeerNumber| peers[&number].session.outstanding() >= CONGESTED;
        let name = |number: PeerNumber| peers[&number].teller();
        let mut emits = self.ipv4.round(shared, &name, &congested, &mut self.outputs);
        emits.extend(self.ipv6.round(shared, &name, &congested, &mut self.outputs));
        self.send(emits);
        true
    }

    /// Next hops that are in use now, or no longer, and those about which something else is known.
    fn next_hop_news(&mut self) {
        for (address, wanted) in self.interner.next_hops().take_news() {
            self.outputs.push_back(match wanted {
                true => Output::WatchNextHop { address },
                false => Output::ForgetNextHop { address },
            });
        }
        let changed = self.interner.next_hops().take_changed();
        if !changed.is_empty() {
            let shared = &mut Shared { sources: &self.sources, interner: &mut self.interner };
            self.ipv4.next_hops_changed(&changed, shared);
            self.ipv6.next_hops_changed(&changed, shared);
        }
    }

    pub(super) fn send(&mut self, emits: impl IntoIterator<Item = Emit>) {
        for emit in emits {
            for number in emit.to {
                let Some(peer) = self.peers.get_mut(&number) else { continue };
                let Some(connection) = peer.session.established_connection() else { continue };
                peer.session.queued(emit.octets.len(), self.now);
                peer.counts.sent += emit.updates.max(1);
                peer.counts.updates_sent += emit.updates;
                self.outputs.push_back(Output::Send { connection, bytes: emit.octets.clone() });
                self.reschedule(number);
            }
        }
    }
}
