//! Reading back, comparing, changing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::wants::{Device, resolve};
use super::write::{AT_ONCE, Asked, Batch};
use super::{Conflict, Failure, Report, RouteTable, Waiting, keys_of};
use crate::netlink::{Errno, Error, Refusal};
use crate::ownership;
use crate::route::{KernelRoute, RouteChange, RouteKernel, RouteKey};

impl<K: RouteKernel> RouteTable<K> {
    pub(super) fn apply_once(
        &mut self,
        now: Instant,
        report: &mut Report,
        more: &mut dyn FnMut(&mut Self) -> bool,
    ) -> Result<(), Error> {
        if self.resync {
            self.read_back(now)?;
            report.resynced = true;
        }
        self.forget_overcome_failures();
        self.look_again_at_what_is_due(now);
        self.write(
            |table| table.decide_some(now),
            |table, asked, outcome| match outcome {
                Ok(()) => table.installed(&asked.change, now, report),
                Err(refusal) => table.refused(asked, refusal, now),
            },
            more,
        )?;
        self.clean_up(now, report)
    }

    /// At what was refused, and at what was taken from us by a foreign route.
    fn look_again_at_what_is_due(&mut self, now: Instant) {
        let refused = self.failures.iter().filter(|(_, failure)| failure.next_try <= now);
        let claimed = self.claims.iter().filter(|(_, due)| **due <= now);
        let due = refused.map(|(destination, _)| *destination).chain(claimed.map(|(key, _)| key.destination));
        self.dirty.extend(due);
    }

    /// A route may be there after all: its answer was lost, or somebody else added it.
    fn forget_overcome_failures(&mut self) {
        let actual = self.routes.actual();
        self.failures.retain(|_, Failure { wanted, .. }| {
            !actual.get(&wanted.key()).is_some_and(|have| super::wants::same(wanted, have))
        });
    }

    /// Reads links and routes and compares them anew with everything that is wanted.
    pub(super) fn read_back(&mut self, now: Instant) -> Result<(), Error> {
        let links = self.kernel().links()?;
        let found = self.kernel().routes()?;
        self.devices.clear();
        for link in &links {
            self.devices.set(&link.name, Device { index: link.index, up: link.up });
        }
        let mut ours = BTreeMap::new();
        self.foreign.clear();
        self.surplus.clear();
        for route in found.into_iter().map(Arc::new) {
            // Of several with one key the kernel lists first, uses and replaces the same one.
            if !self.is_ours(&route) {
                self.foreign.entry(route.key()).or_insert(route);
            } else if let Entry::Vacant(place) = ours.entry(route.key()) {
                place.insert(route);
            } else {
                self.surplus.push(route);
            }
        }
        self.first_seen.retain(|key, _| ours.contains_key(key));
        for key in ours.keys() {
            self.first_seen.entry(*key).or_insert(now);
        }
        self.claim_replaced(now);
        self.routes.replace_actual(ours);
        self.dirty.extend(self.wants.destinations());
        (self.resync, self.unsure) = (false, false);
        Ok(())
    }

    /// A foreign route where the kernel had ours, and nobody said that ours was deleted, has replaced it.
    fn claim_replaced(&mut self, now: Instant) {
        let foreign = &self.foreign;
        self.claims.retain(|key, _| foreign.contains_key(key));
        self.reclaimed.retain(|_, until| *until > now);
        if std::mem::take(&mut self.dropped) {
            return;
        }
        let (desired, actual) = (self.routes.desired(), self.routes.actual());
        let replaced = |key: &RouteKey| desired.contains_key(key) && actual.contains_key(key);
        for (key, route) in foreign.iter().filter(|(key, _)| replaced(key)) {
            tracing::warn!(route = %route, "a route of ours was replaced by this; it is put back");
            self.claims.insert(*key, self.reclaimed.get(key).copied().unwrap_or(now));
        }
    }

    /// Works out what is wanted at the next destinations that have changed, and gives what is to be added and replaced there;
    /// `None`: nothing, at any of them.
    fn decide_some(&mut self, now: Instant) -> Option<Batch> {
        let mut batch = Batch::default();
        while batch.len() < AT_ONCE
            && let Some(destination) = self.dirty.pop_first()
        {
            let Some(key) = self.decide(destination) else { continue };
            let Some(change) = self.change_for(&key, now) else { continue };
            let before = self.routes.set_actual(key, Arc::clone(change.shared()));
            batch.push(change, before);
        }
        (batch.len() > 0).then_some(batch)
    }

    /// Works out what is wanted at a destination: the first candidate whose device is there. Gives where that goes.
    fn decide(&mut self, destination: IpNet) -> Option<RouteKey> {
        let (mut choice, mut missing) = (None, None);
        for candidate in self.wants.candidates(destination) {
            match resolve(candidate, &self.devices) {
                Ok(route) => {
                    choice = Some(route);
                    break;
                }
                Err(device) => missing = missing.or(Some(device)),
            }
        }
        let key = choice.as_ref().map(KernelRoute::key);
        let wanted = choice.is_some() || missing.is_some();
        let waiting = missing.filter(|_| choice.is_none()).map(|device| Waiting { destination, device });
        set_or_remove(&mut self.waiting, destination, waiting);
        self.want(destination, choice);
        if wanted {
            self.released.remove(&destination);
            return key;
        }
        self.conflicts.remove(&destination);
        self.claims.retain(|key, _| key.destination != destination);
        if keys_of(destination, self.routes.actual()).next().is_some() {
            self.released.insert(destination);
        }
        None
    }

    fn want(&mut self, destination: IpNet, choice: Option<KernelRoute>) {
        let key = choice.as_ref().map(KernelRoute::key);
        let before: Vec<_> = keys_of(destination, self.routes.desired()).map(|(key, _)| *key).collect();
        for other in before.into_iter().filter(|other| Some(*other) != key) {
            self.routes.remove_desired(&other);
        }
        let same_as_failed =
            self.failures.get(&destination).map(|failure| &failure.wanted) == choice.as_ref();
        if !same_as_failed {
            self.failures.remove(&destination);
        }
        if let Some(route) = choice {
            self.note_conflict(&route);
            self.routes.set_desired(route.key(), Arc::new(route));
        }
    }

    fn note_conflict(&mut self, route: &KernelRoute) {
        // The one in our very place matters most, then the one that is preferred by the kernel.
        let mut foreign: Vec<_> =
            keys_of(route.destination, &self.foreign).map(|(_, foreign)| foreign).collect();
        foreign.sort_by_key(|foreign| (foreign.key() != route.key(), foreign.metric));
        let conflict =
            foreign.first().map(|foreign| Conflict { wanted: route.clone(), foreign: (*foreign).clone() });
        if conflict.as_ref().is_some_and(Conflict::blocks) {
            self.failures.remove(&route.destination);
        }
        set_or_remove(&mut self.conflicts, route.destination, conflict);
    }

    /// What is to be added or replaced there, if anything may be now.
    fn change_for(&self, key: &RouteKey, now: Instant) -> Option<RouteChange> {
        let (want, have) = self.routes.update(key)?;
        let is_foreign = self.foreign.contains_key(key);
        let may_replace = !is_foreign || self.claims.get(key).is_some_and(|due| *due <= now);
        let is_due = self.failures.get(&key.destination).is_none_or(|failure| failure.next_try <= now);
        (may_replace && is_due).then(|| match have.is_some() || is_foreign {
            true => RouteChange::Replace(want.clone()),
            false => RouteChange::Add(want.clone()),
        })
    }

    fn installed(&mut self, change: &RouteChange, now: Instant, report: &mut Report) {
        match change {
            RouteChange::Replace(_) => report.replaced += 1,
            RouteChange::Add(_) | RouteChange::Delete(_) => report.added += 1,
        }
        let route = change.route();
        self.failures.remove(&route.destination);
        self.first_seen.remove(&route.key());
        if self.foreign.remove(&route.key()).is_some() {
            self.claims.remove(&route.key());
            self.reclaimed.insert(route.key(), now + self.config.reclaim_pause);
            self.note_conflict(route);
        }
    }

    fn refused(&mut self, Asked { change, before }: Asked, refusal: Refusal, now: Instant) {
        let (route, key) = (change.shared(), change.route().key());
        if !self.routes.actual().get(&key).is_some_and(|believed| Arc::ptr_eq(believed, route)) {
            // Something else was written meanwhile, compared with what is not there.
            self.resync = true;
            return;
        }
        match before {
            Some(before) => drop(self.routes.set_actual(key, before)),
            None => self.routes.remove_actual(&key),
        }
        if !self.routes.desired().get(&key).is_some_and(|wanted| Arc::ptr_eq(wanted, route)) {
            // Nobody wants it any more.
            return;
        }
        let wanted = change.route().clone();
        let attempts = 1 + self.failures.get(&wanted.destination).map_or(0, |failure| failure.attempts);
        // Something is in the place of which we did not know: look, and then try at once.
        let surprise = refusal.errno == Errno::EXIST;
        self.resync |= surprise;
        let pause = if surprise && attempts == 1 { Duration::ZERO } else { self.pause(attempts) };
        let destination = wanted.destination;
        self.failures.insert(destination, Failure { wanted, refusal, attempts, next_try: now + pause });
    }

    fn pause(&self, attempts: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempts - 1);
        self.config.first_retry.saturating_mul(factor).min(self.config.longest_retry)
    }

    /// Deletes what is there and not wanted, as far as that is allowed yet.
    fn clean_up(&mut self, now: Instant, report: &mut Report) -> Result<(), Error> {
        let mut doomed: Vec<_> = self
            .routes
            .deletions()
            .filter(|(key, route)| self.may_delete(key, route, now))
            .map(|(_, route)| RouteChange::Delete(route.clone()))
            .collect();
        let (spare, keep): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.surplus).into_iter().partition(|route| self.is_swept(route));
        self.surplus = keep;
        doomed.extend(spare.into_iter().map(RouteChange::Delete));
        self.write(
            in_batches(doomed),
            |table, asked, outcome| table.note_deleted(asked.change.route(), outcome, report),
            &mut |_| false,
        )
    }

    fn note_deleted(&mut self, route: &KernelRoute, outcome: Result<(), Refusal>, report: &mut Report) {
        match outcome {
            Err(refusal) if !refusal.is_absent() => {
                tracing::warn!(%route, %refusal, "cannot delete a route");
            }
            outcome => {
                report.deleted += usize::from(outcome.is_ok());
                self.deleted(route);
            }
        }
    }

    fn deleted(&mut self, route: &KernelRoute) {
        let key = route.key();
        self.first_seen.remove(&key);
        // Of two with one key the other may be the one that is wanted.
        if self.routes.actual().get(&key).is_some_and(|have| **have == *route) {
            self.routes.remove_actual(&key);
        }
        if keys_of(key.destination, self.routes.actual()).next().is_none() {
            self.released.remove(&key.destination);
        }
    }

    fn may_delete(&self, key: &RouteKey, route: &KernelRoute, now: Instant) -> bool {
        let destination = key.destination;
        // While what is wanted is not there, what is there stays.
        let replaced = keys_of(destination, self.routes.desired()).next().map(|(key, want)| {
            self.routes.actual().get(key).is_some_and(|have| super::wants::same(want, have))
        });
        match replaced {
            Some(installed) => installed,
            None if self.waiting.contains_key(&destination) => false,
            None if self.released.contains(&destination) => true,
            None => self.is_swept(route) && self.grace_left(key, route, now).is_none(),
        }
    }

    fn is_swept(&self, route: &KernelRoute) -> bool {
        self.sweep.contains(&route.protocol)
    }

    /// Until when a route is spared because its device may just be in the making.
    fn grace_left(&self, key: &RouteKey, route: &KernelRoute, now: Instant) -> Option<Instant> {
        let device =
            route.hops.first().and_then(|hop| hop.device).and_then(|index| self.devices.name(index))?;
        if !ownership::is_workload_interface(device.as_str()) || self.wants.knows_device(device.as_str()) {
            return None;
        }
        let end = *self.first_seen.get(key)? + self.config.grace;
        (end > now).then_some(end)
    }

    pub(super) fn next_apply(&self, now: Instant) -> Option<Instant> {
        let retries = self.failures.values().map(|failure| failure.next_try);
        let graces = self
            .routes
            .deletions()
            .filter(|(_, route)| self.is_swept(route))
            .filter_map(|(key, route)| self.grace_left(key, route, now));
        let again = self.resync.then_some(now + self.config.first_retry);
        let claims =
            self.claims.iter().filter(|(key, _)| self.foreign.contains_key(key)).map(|(_, due)| *due);
        retries.chain(graces).chain(again).chain(claims).min()
    }
}

/// Changes that are known beforehand, for [`RouteTable::write`].
fn in_batches<K>(changes: Vec<RouteChange>) -> impl FnMut(&mut RouteTable<K>) -> Option<Batch> {
    let mut rest = changes.into_iter();
    move |_| {
        let mut batch = Batch::default();
        rest.by_ref().take(AT_ONCE).for_each(|change| batch.push(change, None));
        (batch.len() > 0).then_some(batch)
    }
}

fn set_or_remove<V>(map: &mut BTreeMap<IpNet, V>, destination: IpNet, value: Option<V>) {
    match value {
        Some(value) => map.insert(destination, value),
        None => map.remove(&destination),
    };
}
