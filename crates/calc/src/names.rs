//! One copy of each string, however many endpoints have it as a label.

use std::collections::BTreeSet;
use std::sync::Arc;

/// A pool of shared strings.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<Arc<str>>);

impl Names {
    /// The pool's copy of a text.
    pub(crate) fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.0.get(text) {
            return name.clone();
        }
        let name: Arc<str> = text.into();
        self.0.insert(name.clone());
        name
    }

    /// Gives a copy back; the last one takes the text out of the pool.
    pub(crate) fn release(&mut self, name: Arc<str>) {
        const OURS_AND_THE_POOLS: usize = 2;
        if Arc::strong_count(&name) == OURS_AND_THE_POOLS {
            self.0.remove(&name);
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
        names.release(two);
        assert_eq!(names.len(), 0);
    }
}
