//! One request at a time for each sandbox.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// Names that are being worked on.
#[derive(Debug, Default)]
pub(super) struct Locks {
    held: Mutex<BTreeSet<String>>,
    released: Condvar,
}

/// Holds a name until dropped.
#[derive(Debug)]
pub(super) struct Held<'a> {
    locks: &'a Locks,
    name: String,
}

impl Locks {
    /// Waits until nobody else works on the name. Every holder is bounded by the time limits of its work.
    pub(super) fn hold(&self, name: &str) -> Held<'_> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while held.contains(name) {
            held = self.released.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(name.to_owned());
        Held { locks: self, name: name.to_owned() }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.locks.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_name_is_held_once_and_others_do_not_wait_for_it() {
        let locks = Locks::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let other = locks.hold("other");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _held = locks.hold("name");
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        drop(other);
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
