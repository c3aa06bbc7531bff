//! Putting rows back.

use api::{Key, ReplacedRow, Resource, Row};
use ipnet::IpNet;
use serde_json::Value;

use super::MAX_ATTEMPTS;
use crate::{Entry, Store, StoreError, layout};

/// A row that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Which row.
    pub key: Key,
    /// What it was until now.
    pub replaced: String,
    /// Whether it does not exist now.
    pub is_deleted: bool,
}

/// What became of the rows of a change that was undone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    /// Those that were put back now, the last that was changed first.
    pub restored: Vec<Restored>,
    /// Those that somebody else has changed since; they stay as they are.
    pub kept: Vec<Key>,
}

impl Undone {
    /// The networks of pools that do not exist any more: their blocks are to be released.
    pub fn deleted_pools(&self) -> Vec<IpNet> {
        let pool = |row: &Restored| match Row::decode(&row.key, &row.replaced) {
            Ok(Row::Resource(Resource::IPPool(pool))) if row.is_deleted => Some(pool.spec.cidr.net()),
            _ => None,
        };
        self.restored.iter().filter_map(pool).collect()
    }
}

/// Puts rows back, the last that was changed first: a policy goes before its tier.
pub(super) fn restore_all(store: &dyn Store, changes: &[ReplacedRow]) -> Result<Undone, StoreError> {
    let mut undone = Undone::default();
    for change in changes.iter().rev() {
        // A key that this version does not know is no row that it has written.
        let Some(key) = layout::decode(&change.key) else { continue };
        match restore(store, &key, change)? {
            Outcome::Restored { replaced } => {
                let is_deleted = change.before.is_none();
                undone.restored.push(Restored { key, replaced, is_deleted });
            }
            Outcome::AsItWas => {}
            Outcome::ChangedSince => undone.kept.push(key),
        }
    }
    Ok(undone)
}

enum Outcome {
    Restored { replaced: String },
    AsItWas,
    ChangedSince,
}

fn restore(store: &dyn Store, key: &Key, change: &ReplacedRow) -> Result<Outcome, StoreError> {
    for _ in 0..MAX_ATTEMPTS {
        let found = match store.get(key) {
            Ok(entry) => Some(entry),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let text = found.as_ref().map(|entry| entry.value.as_str());
        let Some(entry) = found.as_ref().filter(|entry| is_same(&entry.value, &change.after)) else {
            return Ok(match (text, change.before.as_deref()) {
                (None, None) => Outcome::AsItWas,
                (Some(now), Some(before)) if is_same(now, before) => Outcome::AsItWas,
                _ => Outcome::ChangedSince,
            });
        };
        match put_back(store, entry, change.before.as_deref()) {
            Ok(()) => return Ok(Outcome::Restored { replaced: entry.value.clone() }),
            Err(StoreError::Conflict { .. } | StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    // Whoever writes it all the time has changed it.
    Ok(Outcome::ChangedSince)
}

fn put_back(store: &dyn Store, now: &Entry, before: Option<&str>) -> Result<(), StoreError> {
    match before {
        Some(before) => {
            store.update(&now.key, &with_status_of(before, &now.value), Some(&now.revision)).map(drop)
        }
        None => store.delete(&now.key, Some(&now.revision)).map(drop),
    }
}

/// Whether two texts of a row say the same. The status is not the author's: others write it meanwhile.
fn is_same(left: &str, right: &str) -> bool {
    let parse = |text: &str| -> Option<Value> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        value.as_object_mut()?.remove("status");
        Some(value)
    };
    left == right || matches!((parse(left), parse(right)), (Some(left), Some(right)) if left == right)
}

/// A row's text with the status that it has now.
fn with_status_of(text: &str, now: &str) -> String {
    let status = |text: &str| serde_json::from_str::<Value>(text).ok()?.get("status").cloned();
    let now = status(now);
    let (false, Ok(Value::Object(mut fields))) = (now == status(text), serde_json::from_str(text)) else {
        return text.to_owned();
    };
    match now {
        Some(status) => drop(fields.insert("status".to_owned(), status)),
        None => drop(fields.remove("status")),
    }
    Value::Object(fields).to_string()
}
