//! One copy of each value, however many endpoints have it: names and values of labels, named ports.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Strings that are shared.
pub(crate) type Names = Shared<str>;

/// A pool of shared values.
#[derive(Debug)]
pub(crate) struct Shared<T: ?Sized>(BTreeSet<Arc<T>>);

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T: Ord + ?Sized> Shared<T> {
    /// The pool's copy of a value.
    pub(crate) fn share(&mut self, value: &T) -> Arc<T>
    where
        for<'a> Arc<T>: From<&'a T>,
    {
        if let Some(ours) = self.0.get(value) {
            return ours.clone();
        }
        let ours: Arc<T> = value.into();
        self.0.insert(ours.clone());
        ours
    }

    /// Gives a copy back; the last one takes the value out of the pool. What is not a copy of the pool's changes nothing.
    pub(crate) fn release(&mut self, copy: Arc<T>) {
        const OURS_AND_THE_POOLS: usize = 2;
        let is_last = Arc::strong_count(&copy) == OURS_AND_THE_POOLS;
        if is_last && self.0.get(&copy).is_some_and(|pools| Arc::ptr_eq(pools, &copy)) {
            self.0.remove(&copy);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_copy_until_the_last_is_given_back() {
        let mut names = Names::default();
        let (one, two) = (names.share("a"), names.share("a"));
        assert!(Arc::ptr_eq(&one, &two));
        names.release(one);
        assert_eq!(names.len(), 1);
        names.release("a".into());
        assert_eq!(names.len(), 1);
        names.release(two);
        assert_eq!(names.len(), 0);
    }
}
