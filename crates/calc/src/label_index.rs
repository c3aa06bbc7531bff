//! Which selectors match which items, kept up to date at the price of what changes.
//!
//! The problem: thousands of selectors and tens of thousands of endpoints, and any of them may change at any time;
//! trying every pair is out of the question. Three things make it cheap:
//!
//! - Items with the same labels and the same parents (profiles, whose labels they inherit) form a *class*, and selectors
//!   are tried on classes. The pods of one deployment are one class.
//! - A selector that can only match where a label has certain values (`app == 'web'`), or is there at all, is filed under
//!   that label, so that a new class tries only what is filed under the labels that it has; see [`shelves`].
//! - Classes are filed under each label and value that they have, so that a new selector tries only those that can match.
//!
//! Own labels win over inherited ones; among parents the first in the item's order wins. An absent parent lends nothing.

mod shelves;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::{Labels, Selector};

use crate::names::Names;
use crate::slab::Slab;
use shelves::{ClassShelves, SelectorShelves};

/// Labels by name.
pub(crate) type LabelSet = Arc<[(Arc<str>, Arc<str>)]>;
/// Names of parents, in the item's order.
type Parents = Arc<[Arc<str>]>;

/// A selector of this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SelectorId(u32);

/// A class of this index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ClassId(u32);

/// What the items of a class have in common. All names in it are of the index's pool, where equal ones are one copy; so it is
/// known by where they lie, which is quicker to compare than the texts. Nothing depends on the order that this makes.
#[derive(Debug, Clone)]
struct ClassKey {
    own: LabelSet,
    parents: Parents,
}

impl ClassKey {
    fn places(&self) -> impl Iterator<Item = *const u8> {
        let own = self.own.iter().flat_map(|(name, value)| [name, value]).map(place);
        own.chain([std::ptr::null()]).chain(self.parents.iter().map(place))
    }
}

fn place(name: &Arc<str>) -> *const u8 {
    Arc::as_ptr(name).cast()
}

impl PartialEq for ClassKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ClassKey {}

impl PartialOrd for ClassKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ClassKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.places().cmp(other.places())
    }
}

#[derive(Debug)]
struct Class {
    key: ClassKey,
    items: BTreeSet<u32>,
    selectors: BTreeSet<SelectorId>,
}

#[derive(Debug, Default)]
struct Parent {
    labels: LabelSet,
    classes: BTreeSet<ClassId>,
}

#[derive(Debug)]
struct Filed {
    selector: Selector,
    classes: BTreeSet<ClassId>,
}

/// The selectors that matched an item before it changed, and those that match it now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemMove {
    pub(crate) before: Vec<SelectorId>,
    pub(crate) after: Vec<SelectorId>,
}

/// A selector that began or ceased to match some items.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MatchChange {
    pub(crate) selector: SelectorId,
    pub(crate) items: Vec<u32>,
    pub(crate) matches: bool,
}

/// The index. Items are numbers that the owner gives out, from 0 and without large gaps.
#[derive(Debug, Default)]
pub(crate) struct LabelIndex {
    names: Names,
    classes: Slab<Class>,
    class_ids: BTreeMap<ClassKey, ClassId>,
    /// By item.
    class_of: Vec<Option<ClassId>>,
    parents: BTreeMap<Arc<str>, Parent>,
    selectors: Slab<Filed>,
    class_shelves: ClassShelves,
    selector_shelves: SelectorShelves,
}

impl LabelIndex {
    /// Adds or changes an item.
    pub(crate) fn set_item<'l, 'p>(
        &mut self,
        item: u32,
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
        parents: impl IntoIterator<Item = &'p str>,
    ) -> ItemMove {
        let own = self.label_set(labels);
        let parents: Parents = parents.into_iter().map(|name| self.names.share(name)).collect();
        let key = ClassKey { own, parents };
        let class = match self.class_ids.get(&key) {
            Some(class) => *class,
            None => self.add_class(key),
        };
        let left = self.class_slot(item).replace(class);
        self.class_mut(class).items.insert(item);
        let before = left.map(|left| self.selectors_of_class(left)).unwrap_or_default();
        if let Some(left) = left.filter(|left| *left != class) {
            self.leave_class(item, left);
        }
        ItemMove { before, after: self.selectors_of_class(class) }
    }

    /// Removes an item; returns the selectors that matched it.
    pub(crate) fn remove_item(&mut self, item: u32) -> Vec<SelectorId> {
        let Some(class) = self.class_slot(item).take() else { return Vec::new() };
        let before = self.selectors_of_class(class);
        self.leave_class(item, class);
        before
    }

    /// Says what a parent lends to the items that name it; nothing at all: it lends nothing.
    pub(crate) fn set_parent<'a>(
        &mut self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Vec<MatchChange> {
        let labels = self.label_set(labels);
        let name = self.names.share(name);
        let parent = self.parents.entry(name.clone()).or_default();
        if parent.labels == labels {
            self.forget_parent_if_unused(name);
            return Vec::new();
        }
        let classes: Vec<ClassId> = parent.classes.iter().copied().collect();
        for class in &classes {
            self.unshelve(*class);
        }
        let parent = self.parents.entry(name.clone()).or_default();
        let old = std::mem::replace(&mut parent.labels, labels);
        let changes = classes.into_iter().flat_map(|class| self.reconsider(class)).collect();
        self.release_labels(old);
        self.forget_parent_if_unused(name);
        changes
    }

    /// Adds a selector.
    pub(crate) fn add_selector(&mut self, selector: &Selector) -> SelectorId {
        let restrictions = selector.label_restrictions();
        let id =
            SelectorId(self.selectors.insert(Filed { selector: selector.clone(), classes: BTreeSet::new() }));
        let candidates = match self.class_shelves.candidates(&restrictions) {
            Some(candidates) => candidates,
            None => self.classes.iter().map(|(class, _)| ClassId(class)).collect(),
        };
        self.selector_shelves.file(id, &restrictions);
        for class in candidates {
            if self.matches(selector, class) {
                self.class_mut(class).selectors.insert(id);
                self.filed_mut(id).classes.insert(class);
            }
        }
        id
    }

    /// Removes a selector; returns the items that it matched.
    pub(crate) fn remove_selector(&mut self, id: SelectorId) -> Vec<u32> {
        let items = self.items_of(id).collect();
        let Some(filed) = self.selectors.remove(id.0) else { return items };
        for class in filed.classes {
            self.class_mut(class).selectors.remove(&id);
        }
        self.selector_shelves.remove(id);
        items
    }

    /// The items that a selector matches.
    pub(crate) fn items_of(&self, id: SelectorId) -> impl Iterator<Item = u32> {
        let classes = self.selectors.get(id.0).into_iter().flat_map(|filed| &filed.classes);
        classes.filter_map(|class| self.classes.get(class.0)).flat_map(|class| class.items.iter().copied())
    }

    /// Whether a selector matches any item.
    pub(crate) fn has_items(&self, id: SelectorId) -> bool {
        self.selectors.get(id.0).is_some_and(|filed| !filed.classes.is_empty())
    }

    /// The selectors that match an item.
    pub(crate) fn selectors_of(&self, item: u32) -> impl Iterator<Item = SelectorId> {
        let class = self.class_of.get(item as usize).copied().flatten();
        let class = class.and_then(|class| self.classes.get(class.0));
        class.into_iter().flat_map(|class| class.selectors.iter().copied())
    }

    /// How much it holds, all indexes counted: 0 when everything has been removed.
    pub(crate) fn size(&self) -> usize {
        let shelves = self.class_shelves.len() + self.selector_shelves.len();
        let items = self.class_of.iter().flatten().count();
        let classes = self.classes.len() + self.class_ids.len() + items;
        self.names.len() + self.parents.len() + self.selectors.len() + shelves + classes
    }

    fn label_set<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelSet {
        let shared =
            labels.into_iter().map(|(name, value)| (self.names.share(name), self.names.share(value)));
        let sorted: BTreeMap<_, _> = shared.collect();
        sorted.into_iter().collect()
    }

    fn add_class(&mut self, key: ClassKey) -> ClassId {
        let class = Class { key: key.clone(), items: BTreeSet::new(), selectors: BTreeSet::new() };
        let id = ClassId(self.classes.insert(class));
        for parent in &*key.parents {
            self.parents.entry(parent.clone()).or_default().classes.insert(id);
        }
        self.class_ids.insert(key, id);
        self.reconsider(id);
        id
    }

    fn leave_class(&mut self, item: u32, id: ClassId) {
        let class = self.class_mut(id);
        class.items.remove(&item);
        if class.items.is_empty() {
            self.remove_class(id);
        }
    }

    fn remove_class(&mut self, id: ClassId) {
        self.unshelve(id);
        let class = self.classes.remove(id.0).expect("the caller has seen the class");
        for selector in &class.selectors {
            self.filed_mut(*selector).classes.remove(&id);
        }
        self.class_ids.remove(&class.key);
        let ClassKey { own, parents } = class.key;
        let names: Vec<_> = parents.iter().cloned().collect();
        drop(parents);
        for name in names {
            if let Some(parent) = self.parents.get_mut(&name) {
                parent.classes.remove(&id);
            }
            self.forget_parent_if_unused(name);
        }
        self.release_labels(own);
    }

    fn forget_parent_if_unused(&mut self, name: Arc<str>) {
        let unused = |parent: &Parent| parent.classes.is_empty() && parent.labels.is_empty();
        if self.parents.get(&name).is_some_and(unused) {
            self.parents.remove(&name);
        }
        self.names.release(name);
    }

    /// Files a class under its labels as they are now, and tries the selectors that can match it.
    fn reconsider(&mut self, id: ClassId) -> Vec<MatchChange> {
        let labels = self.labels_of(id);
        self.class_shelves.file(id, &labels);
        let candidates = self.selector_shelves.candidates(&labels);
        let now: BTreeSet<SelectorId> = candidates
            .into_iter()
            .filter(|selector| {
                let filed = self.selectors.get(selector.0);
                filed.is_some_and(|filed| self.matches(&filed.selector, id))
            })
            .collect();
        self.rematch(id, now)
    }

    fn rematch(&mut self, id: ClassId, now: BTreeSet<SelectorId>) -> Vec<MatchChange> {
        let class = self.class_mut(id);
        let before = std::mem::replace(&mut class.selectors, now.clone());
        let items: Vec<u32> = class.items.iter().copied().collect();
        let mut changes = Vec::new();
        for selector in before.symmetric_difference(&now) {
            let matches = now.contains(selector);
            let classes = &mut self.filed_mut(*selector).classes;
            match matches {
                true => classes.insert(id),
                false => classes.remove(&id),
            };
            changes.push(MatchChange { selector: *selector, items: items.clone(), matches });
        }
        changes
    }

    fn unshelve(&mut self, id: ClassId) {
        let labels = self.labels_of(id);
        self.class_shelves.remove(id, &labels);
    }

    /// The labels of a class: its own, and the inherited ones that those do not hide.
    fn labels_of(&self, id: ClassId) -> Vec<(Arc<str>, Arc<str>)> {
        let Some(class) = self.classes.get(id.0) else { return Vec::new() };
        let mut labels: BTreeMap<&Arc<str>, &Arc<str>> = BTreeMap::new();
        for set in self.layers(class) {
            for (name, value) in set.iter() {
                labels.entry(name).or_insert(value);
            }
        }
        labels.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    fn layers<'a>(&'a self, class: &'a Class) -> impl Iterator<Item = &'a LabelSet> {
        let parents = class.key.parents.iter().filter_map(|name| self.parents.get(name));
        std::iter::once(&class.key.own).chain(parents.map(|parent| &parent.labels))
    }

    fn matches(&self, selector: &Selector, id: ClassId) -> bool {
        self.classes.get(id.0).is_some_and(|class| selector.matches(&Layers { index: self, class }))
    }

    fn selectors_of_class(&self, id: ClassId) -> Vec<SelectorId> {
        self.classes.get(id.0).map(|class| class.selectors.iter().copied().collect()).unwrap_or_default()
    }

    fn release_labels(&mut self, labels: LabelSet) {
        let names: Vec<_> = labels.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect();
        drop(labels);
        for name in names {
            self.names.release(name);
        }
    }

    fn class_slot(&mut self, item: u32) -> &mut Option<ClassId> {
        let place = item as usize;
        if self.class_of.len() <= place {
            self.class_of.resize(place + 1, None);
        }
        &mut self.class_of[place]
    }

    fn class_mut(&mut self, id: ClassId) -> &mut Class {
        self.classes.get_mut(id.0).expect("classes are removed with all that refers to them")
    }

    fn filed_mut(&mut self, id: SelectorId) -> &mut Filed {
        self.selectors.get_mut(id.0).expect("selectors are removed with all that refers to them")
    }
}

/// What a selector sees of a class.
struct Layers<'a> {
    index: &'a LabelIndex,
    class: &'a Class,
}

impl Labels for Layers<'_> {
    fn get(&self, label: &str) -> Option<&str> {
        self.index.layers(self.class).find_map(|set| {
            let place = set.binary_search_by(|(name, _)| (**name).cmp(label)).ok()?;
            Some(&*set[place].1)
        })
    }
}

#[cfg(test)]
mod tests;
