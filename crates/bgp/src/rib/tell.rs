//! What some members of an update group have to be told, sorted for packing.

use std::collections::BTreeMap;

use super::export::{Audience, ExportId, Exporter, GroupKey};
use super::groups::Emit;
use super::interner::Interner;
use super::net::Net;
use super::pack::{self, Format, Item, Packed};
use super::selected::{Best, Selected};
use super::table::PeerNumber;
use crate::config::SendPaths;

/// Octets after which a piece is handed on, so that nobody waits for all of it.
const PIECE: usize = 64 * 1024;

/// Collects changes, and makes UPDATEs of them.
///
/// A route does not go back to the peer that it came from. UPDATEs are therefore made per source, and go to all members
/// but that one; what the source itself has to be told instead is worked out for it alone.
pub(super) struct Telling<'a, N> {
    key: &'a GroupKey,
    /// Who is told.
    members: &'a [PeerNumber],
    exporter: Exporter,
    announce: Bins<(Option<PeerNumber>, ExportId), N>,
    withdraw: Bins<Option<PeerNumber>, N>,
    /// For one member only.
    own: BTreeMap<PeerNumber, Own<N>>,
}

struct Own<N> {
    announce: Bins<ExportId, N>,
    withdraw: Vec<Item<N>>,
    /// To be announced last: some of it is withdrawn together with others, who do not get it any more.
    instead: Bins<ExportId, N>,
}

/// Items with what they have in common.
struct Bins<K, N> {
    keys: Vec<K>,
    numbers: BTreeMap<K, u32>,
    /// The one that was used last.
    last: u32,
    items: Vec<(u32, Item<N>)>,
}

impl<K: Copy + Ord, N: Net> Bins<K, N> {
    fn new() -> Self {
        Self { keys: Vec::new(), numbers: BTreeMap::new(), last: 0, items: Vec::new() }
    }

    fn push(&mut self, key: K, item: Item<N>) {
        if self.keys.get(self.last as usize) != Some(&key) {
            let next = u32::try_from(self.keys.len()).expect("fewer kinds than routes in a round");
            self.last = *self.numbers.entry(key).or_insert(next);
            if self.last == next {
                self.keys.push(key);
            }
        }
        self.items.push((self.last, item));
    }

    /// The items, those that belong together one after another: ordered by a part of the key, then by when it was first
    /// used.
    fn for_each<P: Ord>(mut self, part: impl Fn(&K) -> P, mut take: impl FnMut(K, &[Item<N>])) {
        let keys = &self.keys;
        self.items.sort_by_key(|(number, _)| (part(&keys[*number as usize]), *number));
        let mut run = Vec::new();
        for same in self.items.chunk_by(|(a, _), (b, _)| a == b) {
            run.clear();
            run.extend(same.iter().map(|(_, item)| *item));
            take(keys[same[0].0 as usize], &run);
        }
    }
}

impl<'a, N: Net> Telling<'a, N> {
    /// Nothing yet, for these members of a group.
    pub(super) fn new(key: &'a GroupKey, members: &'a [PeerNumber]) -> Self {
        let exporter = Exporter::default();
        Self { key, members, exporter, announce: Bins::new(), withdraw: Bins::new(), own: BTreeMap::new() }
    }

    /// A prefix has changed; `is_member` says who is in the group at all.
    pub(super) fn change(
        &mut self,
        prefix: N,
        old: &Selected,
        new: &Selected,
        interner: &Interner,
        is_member: &dyn Fn(PeerNumber) -> bool,
    ) {
        if self.key.paths == SendPaths::None {
            return self.route(Item { prefix, path_id: 0 }, old.best(), new.best(), interner, is_member);
        }
        let mut routes: BTreeMap<u32, (Option<&Best>, Option<&Best>)> = BTreeMap::new();
        self.key.routes(old).for_each(|best| routes.entry(best.path_id).or_default().0 = Some(best));
        self.key.routes(new).for_each(|best| routes.entry(best.path_id).or_default().1 = Some(best));
        for (path_id, (old, new)) in routes {
            let key = self.key;
            let for_all = |best: &&Best| matches!(key.audience(best), Audience::AllBut(_));
            let item = Item { prefix, path_id };
            self.route(item, old.filter(for_all), new.filter(for_all), interner, is_member);
            self.route_instead(item, old, new, interner);
        }
    }

    /// A route for one member only, before or after: its source knows a better one already. Tells the difference that
    /// [`Telling::route`] does not know of.
    fn route_instead(&mut self, item: Item<N>, old: Option<&Best>, new: Option<&Best>, interner: &Interner) {
        let key = self.key;
        let only = |best: Option<&Best>| match best.map(|best| key.audience(best)) {
            Some(Audience::Only(member)) => Some(member),
            _ => None,
        };
        let (had, gets) = (only(old), only(new));
        if had.is_none() && gets.is_none() {
            return;
        }
        let exporter = &mut self.exporter;
        let mut export =
            |best: Option<&Best>| best.and_then(|best| exporter.export(item.prefix, best, key, interner));
        let (before, after) = (had.and_then(|_| export(old)), export(new));
        if let Some((member, attributes)) = gets.zip(after)
            && (had != gets || !self.exporter.is_same(before, after))
        {
            self.own(member).instead.push(attributes, item);
        }
        let still_told =
            |member| after.is_some() && new.is_some_and(|new| key.audience(new).includes(member));
        if let Some(member) = had.filter(|member| before.is_some() && !still_told(*member)) {
            self.own(member).withdraw.push(item);
        }
    }

    /// What a change of a route means: for all but the old or new source the same, for those two what follows from a
    /// route never going back to its source.
    fn route(
        &mut self,
        item: Item<N>,
        old: Option<&Best>,
        new: Option<&Best>,
        interner: &Interner,
        is_member: &dyn Fn(PeerNumber) -> bool,
    ) {
        // What comes from the only one that is to be told needs no work.
        let concerns = |best: &&Best| *self.members != [best.peer];
        let (old, new) = (old.filter(concerns), new.filter(concerns));
        let exporter = &mut self.exporter;
        let mut export = |best: Option<&Best>| {
            best.and_then(|best| exporter.export(item.prefix, best, self.key, interner))
        };
        let (before, after) = (export(old), export(new));
        let source = |best: Option<&Best>| best.map(|best| best.peer).filter(|peer| is_member(*peer));
        let (old_source, new_source) = (source(old), source(new));
        let told_apart = old_source != new_source;
        match after {
            Some(attributes) if !self.exporter.is_same(before, after) => {
                self.announce.push((new_source, attributes), item);
                if let Some(peer) = new_source.filter(|_| told_apart && before.is_some()) {
                    self.own(peer).withdraw.push(item);
                }
            }
            Some(attributes) if told_apart => {
                if let Some(peer) = old_source {
                    self.own(peer).announce.push(attributes, item);
                }
                if let Some(peer) = new_source {
                    self.own(peer).withdraw.push(item);
                }
            }
            None if before.is_some() => self.withdraw.push(old_source, item),
            _ => {}
        }
    }

    fn own(&mut self, peer: PeerNumber) -> &mut Own<N> {
        let new = || Own { announce: Bins::new(), withdraw: Vec::new(), instead: Bins::new() };
        self.own.entry(peer).or_insert_with(new)
    }

    /// Packs and hands out, withdrawals first; with path identifiers last, because another route for the prefix may take
    /// the place of the one that goes.
    pub(super) fn emit(self, out: &mut Vec<Emit>) {
        let Self { key, members, exporter, announce, withdraw, own } = self;
        let format = key.format();
        let all_but = |source: Option<PeerNumber>| -> Vec<PeerNumber> {
            members.iter().copied().filter(|peer| Some(*peer) != source).collect()
        };
        let (mut withdrawn, mut last) = (Vec::new(), Vec::new());
        withdraw.for_each(
            |source| *source,
            |source, items| {
                let to = all_but(source);
                if !to.is_empty() {
                    let mut packed = Packed::default();
                    pack::withdraw(items, format, &mut packed);
                    withdrawn.extend(emit(to, packed));
                }
            },
        );
        if !format.add_path {
            out.append(&mut withdrawn);
        }
        for (peer, own) in own.into_iter().filter(|(peer, _)| members.contains(peer)) {
            let (mut before, mut after, mut instead) =
                (Packed::default(), Packed::default(), Packed::default());
            let withdrawals = if format.add_path { &mut after } else { &mut before };
            pack::withdraw(&own.withdraw, format, withdrawals);
            own.announce.for_each(|_| (), |id, items| announced(items, id, &exporter, format, &mut before));
            out.extend(emit(vec![peer], before));
            withdrawn.extend(emit(vec![peer], after));
            own.instead.for_each(|_| (), |id, items| announced(items, id, &exporter, format, &mut instead));
            last.extend(emit(vec![peer], instead));
        }
        let (mut packed, mut from) = (Packed::default(), None);
        announce.for_each(
            |(source, _)| *source,
            |(source, id), items| {
                if source != from || packed.octets.len() >= PIECE {
                    out.extend(emit(all_but(from), std::mem::take(&mut packed)));
                    from = source;
                }
                announced(items, id, &exporter, format, &mut packed);
            },
        );
        out.extend(emit(all_but(from), packed));
        out.append(&mut withdrawn);
        out.append(&mut last);
    }
}

/// Octets for some peers, if there are any of both.
pub(super) fn emit(to: Vec<PeerNumber>, packed: Packed) -> Option<Emit> {
    let wanted = !to.is_empty() && !packed.octets.is_empty();
    wanted.then(|| Emit { to, octets: packed.octets.into(), updates: packed.messages })
}

/// Announces; routes whose attributes are too long for a message are withdrawn instead, so that no old one stays.
pub(super) fn announced<N: Net>(
    items: &[Item<N>],
    id: ExportId,
    exporter: &Exporter,
    format: Format,
    packed: &mut Packed,
) {
    if !pack::announce(items, exporter.get(id), format, packed) {
        pack::withdraw(items, format, packed);
    }
}
