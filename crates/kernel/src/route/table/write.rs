//! Many changes at once: the kernel makes some while the next are worked out and the last ones are noted.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use super::RouteTable;
use crate::netlink::{Error, Refusal};
use crate::route::{KernelRoute, RouteChange, RouteKernel};

/// Changes that the kernel is given at once: enough that system calls do not count, few enough that it soon has the first.
pub(super) const AT_ONCE: usize = 512;

/// While so many batches wait to be made no further ones are made up: whoever wants something else does not wait for long.
const AHEAD: usize = 16;

/// Changes, and what was there before, as far as is known. That they are made is believed at once, so that whoever wants
/// something else in the meantime has it compared with that.
#[derive(Default)]
pub(super) struct Batch {
    changes: Vec<RouteChange>,
    before: Vec<Option<Arc<KernelRoute>>>,
}

impl Batch {
    pub(super) fn push(&mut self, change: RouteChange, before: Option<Arc<KernelRoute>>) {
        self.changes.push(change);
        self.before.push(before);
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }
}

/// A change that the kernel was asked for.
pub(super) struct Asked {
    pub(super) change: RouteChange,
    pub(super) before: Option<Arc<KernelRoute>>,
}

/// A batch, and how each of its changes ended.
type Made = (Batch, Result<Vec<Result<(), Refusal>>, Error>);

impl<K: RouteKernel> RouteTable<K> {
    /// Has the kernel make the batches of changes that `next` gives, until it gives no more, and tells `note` how each change
    /// ended, in the same order. After a full batch more are to be expected: then they are made on a thread of their own,
    /// beside `next` and `note`; and when `next` has no more for now, `more` is asked to have some come up in the meantime
    /// (false: it has none).
    ///
    /// # Errors
    /// It is not known what was done.
    pub(super) fn write(
        &mut self,
        mut next: impl FnMut(&mut Self) -> Option<Batch>,
        mut note: impl FnMut(&mut Self, Asked, Result<(), Refusal>),
        more: &mut dyn FnMut(&mut Self) -> bool,
    ) -> Result<(), Error> {
        let mut note = |table: &mut Self, (batch, outcomes): Made| {
            let asked = batch.changes.into_iter().zip(batch.before);
            let asked = asked.map(|(change, before)| Asked { change, before });
            asked.zip(outcomes?).for_each(|(asked, outcome)| note(table, asked, outcome));
            Ok(())
        };
        let Some(first) = next(self) else { return Ok(()) };
        if first.len() < AT_ONCE {
            return self.write_here(first, &mut next, &mut note);
        }
        thread::scope(|scope| match spawn_maker(scope, &self.kernel) {
            Ok((batches, made)) => self.write_beside((batches, &made), first, &mut next, &mut note, more),
            Err(error) => {
                tracing::warn!(%error, "no thread that writes routes; they are written by the one that works them out");
                self.write_here(first, &mut next, &mut note)
            }
        })
    }

    fn write_here(
        &mut self,
        first: Batch,
        next: &mut impl FnMut(&mut Self) -> Option<Batch>,
        note: &mut impl FnMut(&mut Self, Made) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut waiting = Some(first);
        while let Some(batch) = waiting {
            let made = make(&mut *self.kernel(), batch);
            note(self, made)?;
            waiting = next(self);
        }
        Ok(())
    }

    fn write_beside(
        &mut self,
        (batches, made): (Sender<Batch>, &Receiver<Made>),
        first: Batch,
        next: &mut impl FnMut(&mut Self) -> Option<Batch>,
        note: &mut impl FnMut(&mut Self, Made) -> Result<(), Error>,
        more: &mut dyn FnMut(&mut Self) -> bool,
    ) -> Result<(), Error> {
        let (mut waiting, mut under_way) = (Some(first), 0);
        loop {
            if let Some(batch) = waiting {
                // A thread that takes no more has said why.
                if batches.send(batch).is_err() {
                    break;
                }
                under_way += 1;
            } else if under_way >= AHEAD || !more(self) {
                let Ok(made) = made.recv() else { break };
                note(self, made)?;
                under_way -= 1;
            }
            for made in made.try_iter() {
                note(self, made)?;
                under_way -= 1;
            }
            waiting = next(self);
            if waiting.is_none() && under_way == 0 {
                return Ok(());
            }
        }
        made.iter().try_for_each(|made| note(self, made))
    }

    /// It is lent to nobody while nothing is written.
    pub(super) fn kernel(&self) -> MutexGuard<'_, K> {
        lock(&self.kernel)
    }
}

/// Makes changes on a thread, until there are no more or it is not known what was done.
fn spawn_maker<'scope, K: RouteKernel + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    kernel: &Arc<Mutex<K>>,
) -> io::Result<(Sender<Batch>, Receiver<Made>)> {
    let kernel = Arc::clone(kernel);
    // Without a limit: what waits is in memory in any case, and who never sleeps gets a processor of its own.
    let (batches, waiting) = channel();
    let (told, made) = channel();
    thread::Builder::new()
        .name("route-writer".to_owned())
        .spawn_scoped(scope, move || make_all(&mut *lock(&kernel), &waiting, &told))?;
    Ok((batches, made))
}

fn make_all(kernel: &mut impl RouteKernel, batches: &Receiver<Batch>, told: &Sender<Made>) {
    for batch in batches {
        let made = make(kernel, batch);
        let is_over = made.1.is_err();
        if told.send(made).is_err() || is_over {
            return;
        }
    }
}

fn make(kernel: &mut impl RouteKernel, batch: Batch) -> Made {
    let outcomes = kernel.change_routes(&batch.changes);
    (batch, outcomes)
}

fn lock<K>(kernel: &Mutex<K>) -> MutexGuard<'_, K> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}
