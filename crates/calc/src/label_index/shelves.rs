//! Where classes and selectors are filed, so that each finds what may concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::selector::LabelRestriction;

use super::{ClassId, SelectorId};

type Restrictions = BTreeMap<String, LabelRestriction>;
type SharedLabels = [(Arc<str>, Arc<str>)];

/// Classes under every label and value that they have.
#[derive(Debug, Default)]
pub(super) struct ClassShelves(BTreeMap<Arc<str>, BTreeMap<Arc<str>, BTreeSet<ClassId>>>);

impl ClassShelves {
    pub(super) fn file(&mut self, class: ClassId, labels: &SharedLabels) {
        for (name, value) in labels {
            let values = self.0.entry(name.clone()).or_default();
            values.entry(value.clone()).or_default().insert(class);
        }
    }

    pub(super) fn remove(&mut self, class: ClassId, labels: &SharedLabels) {
        for (name, value) in labels {
            let Some(values) = self.0.get_mut(name) else { continue };
            if let Some(classes) = values.get_mut(value) {
                classes.remove(&class);
                if classes.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.0.remove(name);
            }
        }
    }

    /// A small set of classes that holds all that meet these restrictions; `None`: any class may.
    pub(super) fn candidates(&self, restrictions: &Restrictions) -> Option<BTreeSet<ClassId>> {
        if restrictions.values().any(LabelRestriction::is_impossible) {
            return Some(BTreeSet::new());
        }
        let shelves = restrictions.iter().filter_map(|(label, restriction)| self.shelf(label, restriction));
        let smallest =
            shelves.min_by_key(|shelf| shelf.iter().map(|classes| classes.len()).sum::<usize>())?;
        Some(smallest.into_iter().flatten().copied().collect())
    }

    fn shelf(&self, label: &str, restriction: &LabelRestriction) -> Option<Vec<&BTreeSet<ClassId>>> {
        let values = self.0.get(label);
        match &restriction.one_of {
            Some(allowed) => {
                let of_value = |value: &String| values?.get(value.as_str());
                Some(allowed.iter().filter_map(of_value).collect())
            }
            None if restriction.must_be_present => {
                Some(values.into_iter().flat_map(BTreeMap::values).collect())
            }
            None => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Where one selector stands.
#[derive(Debug, Clone)]
enum Place {
    Values(String, Vec<String>),
    Label(String),
    Open,
    /// It can match nothing.
    Nowhere,
}

/// Selectors under the one label that says most about what they match.
#[derive(Debug, Default)]
pub(super) struct SelectorShelves {
    by_value: BTreeMap<String, BTreeMap<String, BTreeSet<SelectorId>>>,
    by_label: BTreeMap<String, BTreeSet<SelectorId>>,
    open: BTreeSet<SelectorId>,
    places: BTreeMap<SelectorId, Place>,
}

impl SelectorShelves {
    pub(super) fn file(&mut self, id: SelectorId, restrictions: &Restrictions) {
        let place = self.best_place(restrictions);
        match &place {
            Place::Values(label, values) => {
                let shelf = self.by_value.entry(label.clone()).or_default();
                for value in values {
                    shelf.entry(value.clone()).or_default().insert(id);
                }
            }
            Place::Label(label) => {
                self.by_label.entry(label.clone()).or_default().insert(id);
            }
            Place::Open => {
                self.open.insert(id);
            }
            Place::Nowhere => {}
        }
        self.places.insert(id, place);
    }

    pub(super) fn remove(&mut self, id: SelectorId) {
        match self.places.remove(&id) {
            Some(Place::Values(label, values)) => self.remove_from_values(id, &label, &values),
            Some(Place::Label(label)) => remove_from(&mut self.by_label, &label, id),
            Some(Place::Open) => {
                self.open.remove(&id);
            }
            Some(Place::Nowhere) | None => {}
        }
    }

    /// All selectors that may match something with these labels.
    pub(super) fn candidates(&self, labels: &SharedLabels) -> Vec<SelectorId> {
        let mut found: Vec<SelectorId> = self.open.iter().copied().collect();
        for (name, value) in labels {
            let of_value = self.by_value.get(&**name).and_then(|values| values.get(&**value));
            let of_label = self.by_label.get(&**name);
            found.extend(of_value.into_iter().chain(of_label).flatten());
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.by_value.len() + self.by_label.len() + self.open.len() + self.places.len()
    }

    /// The emptiest shelf of those that it may stand on: values before mere presence. That keeps selectors from all
    /// gathering under a label that says little, such as the namespace.
    fn best_place(&self, restrictions: &Restrictions) -> Place {
        if restrictions.values().any(LabelRestriction::is_impossible) {
            return Place::Nowhere;
        }
        let with_values = restrictions
            .iter()
            .filter_map(|(label, restriction)| Some((label, restriction.one_of.as_ref()?)))
            .min_by_key(|(label, values)| self.crowd(label, values));
        if let Some((label, values)) = with_values {
            return Place::Values(label.clone(), values.iter().cloned().collect());
        }
        let present = restrictions.iter().filter(|(_, restriction)| restriction.must_be_present);
        let crowd = |label: &String| self.by_label.get(label).map_or(0, BTreeSet::len);
        match present.min_by_key(|(label, _)| crowd(label)) {
            Some((label, _)) => Place::Label(label.clone()),
            None => Place::Open,
        }
    }

    fn crowd(&self, label: &str, values: &BTreeSet<String>) -> usize {
        let Some(shelf) = self.by_value.get(label) else { return values.len() };
        values.iter().map(|value| 1 + shelf.get(value).map_or(0, BTreeSet::len)).sum()
    }

    fn remove_from_values(&mut self, id: SelectorId, label: &str, values: &[String]) {
        let Some(shelf) = self.by_value.get_mut(label) else { return };
        for value in values {
            remove_from(shelf, value, id);
        }
        if shelf.is_empty() {
            self.by_value.remove(label);
        }
    }
}

fn remove_from(shelf: &mut BTreeMap<String, BTreeSet<SelectorId>>, name: &str, id: SelectorId) {
    if let Some(selectors) = shelf.get_mut(name) {
        selectors.remove(&id);
        if selectors.is_empty() {
            shelf.remove(name);
        }
    }
}
