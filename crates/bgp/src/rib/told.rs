//! What peers have been told, written out for the process that takes this one's place, and compared there with what they
//! are to be told.
//!
//! Members that are in step have been told the same, but for the routes of their own; the others are written out one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::export::{Audience, ExportId, Exported, Exporter, GroupKey};
use super::groups::{CHUNK, Emit, Groups, Member};
use super::interner::Interner;
use super::net::Net;
use super::pack::{self, Item, Packed};
use super::selected::Selected;
use super::table::{PeerNumber, Rib, Slot, Sources, key};
use super::tell::{announced, emit};
use crate::handover::{HandedMember, Octets, Told, ToldExport, ToldRoute};
use crate::types::Family;

/// Places of peers in a hand-over.
pub(crate) type Places = BTreeMap<PeerNumber, u32>;

impl<N: Net> Groups<N> {
    /// What everybody has been told. Changes of a round that is under way count as not told.
    pub(crate) fn told(
        &self,
        rib: &Rib<N>,
        sources: &Sources,
        interner: &Interner,
        places: &Places,
    ) -> Vec<Told> {
        let mut all = Vec::new();
        for (key, members) in &self.groups {
            let (in_step, others): (Vec<_>, Vec<_>) =
                members.iter().partition(|(_, member)| member.has_whole_list());
            if !in_step.is_empty() {
                let mut written = Written::new(key, interner, places);
                let table = rib.selected_from(Slot::FIRST, sources);
                table.for_each(|(_, prefix, selected)| written.add(prefix, &selected));
                all.push(written.finish(N::FAMILY, in_step.into_iter().map(|(peer, _)| *peer)));
            }
            for (peer, member) in others {
                let mut written = Written::new(key, interner, places);
                let known = rib
                    .selected_from(Slot::FIRST, sources)
                    .filter(|(slot, prefix, _)| member.knows(*slot) && !member.pending.contains_key(prefix));
                known.for_each(|(_, prefix, selected)| written.add(prefix, &selected));
                member.pending.iter().for_each(|(prefix, believed)| written.add(*prefix, believed));
                all.push(written.finish(N::FAMILY, std::iter::once(*peer)));
            }
        }
        all
    }

    /// How many lists [`Groups::told`] gives.
    pub(crate) fn lists(&self) -> usize {
        let of_group = |members: &BTreeMap<PeerNumber, Member<N>>| {
            let in_step = members.values().filter(|member| member.has_whole_list()).count();
            members.len() - in_step + usize::from(in_step > 0)
        };
        self.groups.values().map(of_group).sum()
    }

    /// How far a peer has been told.
    pub(crate) fn progress(&self, peer: PeerNumber) -> Option<HandedMember> {
        let member = self.groups.get(self.of.get(&peer)?)?.get(&peer)?;
        Some(HandedMember {
            family: N::FAMILY,
            end_of_rib_due: member.end_of_rib_due,
            refreshing: member.refresh.is_some(),
            marked: member.marked,
        })
    }

    /// A peer whose session was taken over: nothing is known yet of what it has been told.
    pub(crate) fn adopt(&mut self, peer: PeerNumber, key: GroupKey, progress: &HandedMember) {
        let member = Member {
            initial: None,
            refresh: progress.refreshing.then_some(Slot::FIRST),
            marked: progress.marked,
            pending: BTreeMap::new(),
            end_of_rib_due: progress.end_of_rib_due,
        };
        self.groups.entry(key.clone()).or_default().insert(peer, member);
        self.of.insert(peer, key);
    }

    /// Tells peers that were [adopted](Self::adopt) what differs from what they have been told. `peers`: who they are now, by
    /// their places; those that are gone have none.
    pub(crate) fn reconcile(
        &mut self,
        told: &Told,
        peers: &[Option<PeerNumber>],
        rib: &Rib<N>,
        sources: &Sources,
        interner: &Interner,
        congested: &dyn Fn(PeerNumber) -> bool,
    ) -> Vec<Emit> {
        let known = Known::read(told, peers);
        let mut by_key: BTreeMap<&GroupKey, BTreeSet<PeerNumber>> = BTreeMap::new();
        let members = told.members.iter().filter_map(|place| peers[*place as usize]);
        for peer in members {
            if let Some(key) = self.of.get(&peer) {
                by_key.entry(key).or_default().insert(peer);
            }
        }
        let mut out = Vec::new();
        for (key, members) in by_key {
            let (differences, exporter) = known.compare(key, &members, rib, sources, interner);
            let states = self.groups.get_mut(key).expect("a member's group exists");
            for (peer, difference) in differences {
                let member = states.get_mut(&peer).expect("it is in its group");
                let packed = match difference.count() <= CHUNK && !congested(peer) {
                    true => difference.at_once(key, &exporter),
                    false => difference.by_and_by(key, member),
                };
                out.extend(emit(vec![peer], packed));
            }
        }
        out
    }
}

/// Announcements on their way into a hand-over.
struct Written<'a> {
    key: &'a GroupKey,
    interner: &'a Interner,
    places: &'a Places,
    exporter: Exporter,
    routes: Vec<ToldRoute>,
}

impl<'a> Written<'a> {
    fn new(key: &'a GroupKey, interner: &'a Interner, places: &'a Places) -> Self {
        Self { key, interner, places, exporter: Exporter::default(), routes: Vec::new() }
    }

    fn add<N: Net>(&mut self, prefix: N, selected: &Selected) {
        for route in self.key.routes(selected) {
            let Some(export) = self.exporter.export(prefix, route, self.key, self.interner) else { continue };
            let place = |peer: PeerNumber| self.places.get(&peer).copied();
            let (source, only) = match self.key.audience(route) {
                Audience::AllBut(source) => (place(source), None),
                // A member that is not handed over is told nothing.
                Audience::Only(member) if place(member).is_none() => continue,
                Audience::Only(member) => (None, place(member)),
            };
            self.routes.push(ToldRoute {
                prefix: prefix.into(),
                path_id: self.key.path_id(route),
                export: export.number(),
                source,
                only,
            });
        }
    }

    fn finish(self, family: Family, members: impl Iterator<Item = PeerNumber>) -> Told {
        let exports = self.exporter.all().map(|export| ToldExport {
            before: Octets(export.before.to_vec()),
            after: Octets(export.after.to_vec()),
            next_hop: export.next_hop,
            link_local: export.link_local,
        });
        Told {
            family,
            members: members.filter_map(|peer| self.places.get(&peer).copied()).collect(),
            exports: exports.collect(),
            routes: self.routes,
        }
    }
}

/// What has been told, by prefix.
struct Known<'a, N> {
    exports: &'a [ToldExport],
    /// In the order of prefixes.
    routes: Vec<(N, KnownRoute)>,
}

#[derive(Clone, Copy)]
struct KnownRoute {
    path_id: u32,
    export: u32,
    audience: Audience,
}

/// What is to be told.
#[derive(Clone, Copy)]
struct Wanted {
    path_id: u32,
    export: ExportId,
    audience: Audience,
}

impl<'a, N: Net> Known<'a, N> {
    fn read(told: &'a Told, peers: &[Option<PeerNumber>]) -> Self {
        let routes = told.routes.iter().filter_map(|route| {
            let now = |place: u32| peers[place as usize];
            let audience = match route.only {
                Some(member) => Audience::Only(now(member)?),
                // Whoever is gone gets nothing anyway.
                None => Audience::AllBut(route.source.and_then(now).unwrap_or(PeerNumber::LOCAL)),
            };
            let known = KnownRoute { path_id: route.path_id, export: route.export, audience };
            Some((key(route.prefix)?, known))
        });
        let mut routes: Vec<_> = routes.collect();
        routes.sort_by_key(|(prefix, known)| (*prefix, known.path_id));
        Self { exports: &told.exports, routes }
    }

    /// The places of what has been told of a prefix.
    fn of(&self, prefix: N) -> Range<usize> {
        let begin = self.routes.partition_point(|(other, _)| *other < prefix);
        let count = self.routes[begin..].iter().take_while(|(other, _)| *other == prefix).count();
        begin..begin + count
    }

    /// How what is known differs from what is to be told to the members of a group.
    fn compare(
        &self,
        key: &GroupKey,
        members: &BTreeSet<PeerNumber>,
        rib: &Rib<N>,
        sources: &Sources,
        interner: &Interner,
    ) -> (BTreeMap<PeerNumber, Difference<N>>, Exporter) {
        let mut differences = BTreeMap::new();
        let mut exporter = Exporter::default();
        let mut is_wanted = vec![false; self.routes.len()];
        let mut wanted = Vec::new();
        for (_, prefix, selected) in rib.selected_from(Slot::FIRST, sources) {
            wanted.clear();
            wanted.extend(key.routes(&selected).filter_map(|route| {
                let export = exporter.export(prefix, route, key, interner)?;
                Some(Wanted { path_id: key.path_id(route), export, audience: key.audience(route) })
            }));
            wanted.sort_by_key(|wanted| wanted.path_id);
            let range = self.of(prefix);
            is_wanted[range.clone()].fill(true);
            let known = &self.routes[range];
            if !self.is_same(known, &wanted, members, &exporter) {
                self.tell_apart(prefix, known, &wanted, members, &exporter, &mut differences);
            }
        }
        let gone = self.routes.iter().zip(is_wanted).filter(|(_, is_wanted)| !is_wanted);
        for ((prefix, known), _) in gone {
            let gone = [(*prefix, *known)];
            self.tell_apart(*prefix, &gone, &[], members, &exporter, &mut differences);
        }
        (differences, exporter)
    }

    /// Whether nobody has to be told anything about a prefix.
    fn is_same(
        &self,
        known: &[(N, KnownRoute)],
        wanted: &[Wanted],
        members: &BTreeSet<PeerNumber>,
        exporter: &Exporter,
    ) -> bool {
        let is_for_all =
            |audience| matches!(audience, Audience::AllBut(source) if !members.contains(&source));
        known.len() == wanted.len()
            && known.iter().zip(wanted).all(|((_, known), wanted)| {
                known.path_id == wanted.path_id
                    && (known.audience == wanted.audience
                        || is_for_all(known.audience) && is_for_all(wanted.audience))
                    && self.has_same_attributes(known, wanted, exporter)
            })
    }

    fn has_same_attributes(&self, known: &KnownRoute, wanted: &Wanted, exporter: &Exporter) -> bool {
        let known = &self.exports[known.export as usize];
        exporter.get(wanted.export)
            == Exported {
                before: &known.before.0,
                after: &known.after.0,
                next_hop: known.next_hop,
                link_local: known.link_local,
            }
    }

    /// Notes for each member what differs for it. A route does not go back to where it came from.
    fn tell_apart(
        &self,
        prefix: N,
        known: &[(N, KnownRoute)],
        wanted: &[Wanted],
        members: &BTreeSet<PeerNumber>,
        exporter: &Exporter,
        differences: &mut BTreeMap<PeerNumber, Difference<N>>,
    ) {
        for peer in members {
            let has: Vec<&KnownRoute> =
                known.iter().map(|(_, known)| known).filter(|known| known.audience.includes(*peer)).collect();
            let gets: Vec<&Wanted> = wanted.iter().filter(|wanted| wanted.audience.includes(*peer)).collect();
            if has.is_empty() && gets.is_empty() {
                continue;
            }
            let difference = differences.entry(*peer).or_default();
            let item = |path_id| Item { prefix, path_id };
            let lost = has.iter().filter(|known| gets.iter().all(|wanted| wanted.path_id != known.path_id));
            difference.lost.extend(lost.map(|known| item(known.path_id)));
            for wanted in gets {
                let before = has.iter().find(|known| known.path_id == wanted.path_id);
                if before.is_none_or(|known| !self.has_same_attributes(known, wanted, exporter)) {
                    let list = if has.is_empty() { &mut difference.fresh } else { &mut difference.changed };
                    list.push((wanted.export, item(wanted.path_id)));
                }
            }
        }
    }
}

/// What a peer has to be told.
struct Difference<N> {
    /// Announcements that no longer hold.
    lost: Vec<Item<N>>,
    /// Routes for prefixes of which it has been told something else.
    changed: Vec<(ExportId, Item<N>)>,
    /// Routes for prefixes of which it has been told nothing.
    fresh: Vec<(ExportId, Item<N>)>,
}

impl<N> Default for Difference<N> {
    fn default() -> Self {
        Self { lost: Vec::new(), changed: Vec::new(), fresh: Vec::new() }
    }
}

impl<N: Net> Difference<N> {
    fn count(&self) -> usize {
        self.lost.len() + self.changed.len() + self.fresh.len()
    }

    fn at_once(self, key: &GroupKey, exporter: &Exporter) -> Packed {
        let mut packed = Packed::default();
        pack::withdraw(&self.lost, key.format(), &mut packed);
        let mut routes = self.changed;
        routes.extend(self.fresh);
        routes.sort_by_key(|(export, _)| *export);
        for same in routes.chunk_by(|(a, _), (b, _)| a == b) {
            let items: Vec<Item<N>> = same.iter().map(|(_, item)| *item).collect();
            announced(&items, same[0].0, exporter, key.format(), &mut packed);
        }
        packed
    }

    /// Where it is much, or the peer does not read: what no longer holds is withdrawn now, the rest comes in pieces.
    fn by_and_by(self, key: &GroupKey, member: &mut Member<N>) -> Packed {
        let mut packed = Packed::default();
        pack::withdraw(&self.lost, key.format(), &mut packed);
        let nothing = self.fresh.into_iter().map(|(_, item)| (item.prefix, Selected::default()));
        member.pending.extend(nothing);
        if !self.changed.is_empty() {
            member.refresh = Some(Slot::FIRST);
        }
        packed
    }
}
