//! What selectors look at.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Something with labels.
pub trait Labels {
    /// The value of a label, if it is there.
    fn get(&self, label: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn get(&self, label: &str) -> Option<&str> {
        BTreeMap::get(self, label).map(String::as_str)
    }
}

impl<L: Labels + ?Sized> Labels for &L {
    fn get(&self, label: &str) -> Option<&str> {
        (**self).get(label)
    }
}

impl<L: Labels + ?Sized> Labels for Arc<L> {
    fn get(&self, label: &str) -> Option<&str> {
        (**self).get(label)
    }
}

/// Several sources of labels: the first that has a label gives its value.
impl<L: Labels> Labels for [L] {
    fn get(&self, label: &str) -> Option<&str> {
        self.iter().find_map(|labels| labels.get(label))
    }
}

/// No labels, or these.
impl<L: Labels> Labels for Option<L> {
    fn get(&self, label: &str) -> Option<&str> {
        self.as_ref().and_then(|labels| labels.get(label))
    }
}

/// An endpoint's own labels over those that it inherits from its profiles: its own win.
#[derive(Debug, Clone, Copy)]
pub struct Layered<'a, Own: ?Sized, Inherited: ?Sized> {
    /// The endpoint's own.
    pub own: &'a Own,
    /// What it has from its profiles.
    pub inherited: &'a Inherited,
}

impl<Own: Labels + ?Sized, Inherited: Labels + ?Sized> Labels for Layered<'_, Own, Inherited> {
    fn get(&self, label: &str) -> Option<&str> {
        self.own.get(label).or_else(|| self.inherited.get(label))
    }
}
