//! v3 resources as an API server would keep them: identity, revisions, and the rules that depend on what else the
//! datastore holds.
//!
//! Without Kubernetes there is no server in front of the store, so each writer on behalf of a user goes through here:
//! a pool may not overlap another, a tier may not vanish under its policies, and so on. Checks and write are not one
//! transaction (etcd has none that could span them): two writers at the same instant can get past them, as in Calico.
//! What a resource itself was when it was checked is guarded by its revision.

mod error;
mod rows;
mod rules;
#[cfg(test)]
mod tests;

use api::{Key, Kind, ReplacedRow, Resource};

pub use error::ResourceError;

use crate::{Entry, Revision, Store, StoreError, layout};

/// Most attempts of a change that others keep getting in the way of.
const MAX_ATTEMPTS: usize = 100;

/// The resources of a store.
#[derive(Clone, Copy)]
pub struct Resources<'a> {
    store: &'a dyn Store,
}

/// The answer to a list.
#[derive(Debug)]
pub struct ResourceList {
    /// The resources, by namespace and name.
    pub items: Vec<Resource>,
    /// When they were so.
    pub revision: Revision,
    /// Rows that hold no such resource; they are not among the items.
    pub unreadable: Vec<StoreError>,
}

/// What [`Resources::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// There was none.
    Created,
    /// It was another.
    Changed,
    /// It was so already; nothing was written.
    Unchanged,
}

impl<'a> Resources<'a> {
    /// The resources of a store.
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store }
    }

    /// Reads a resource, with its revision in `metadata.resource_version`.
    ///
    /// # Errors
    /// Not found, or the store's.
    pub fn get(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<Resource, ResourceError> {
        let missing = || StoreError::NotFound(rows::resource_key(kind, namespace, name));
        let found = match rows::row_key(kind, namespace, name) {
            Some(key) => match self.store.get(&key) {
                Ok(entry) => rows::resource(&entry)?,
                Err(StoreError::NotFound(_)) => None,
                Err(error) => return Err(error.into()),
            },
            None => {
                let items = self.list(kind, namespace)?.items;
                items.into_iter().find(|resource| resource.metadata().name == name)
            }
        };
        Ok(found.ok_or_else(missing)?)
    }

    /// Reads all resources of a kind, in a namespace or everywhere.
    ///
    /// # Errors
    /// The store's.
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<ResourceList, StoreError> {
        let listing = self.store.list(&rows::scope(kind, namespace))?;
        let mut list = ResourceList { items: Vec::new(), revision: listing.revision, unreadable: Vec::new() };
        for entry in &listing.entries {
            match rows::resource(entry) {
                Ok(resource) => list.items.extend(resource),
                Err(error) => list.unreadable.push(error),
            }
        }
        Ok(list)
    }

    /// Creates a resource: fills in defaults, checks it, and gives it a UID and the time. Those and the revision that it
    /// comes with are another one's and are dropped.
    ///
    /// # Errors
    /// There is one already, it breaks a rule, or the store's.
    pub fn create(&self, resource: Resource) -> Result<Resource, ResourceError> {
        self.carry_out(self.plan_creation(resource)?)
    }

    /// Checks a resource that is to be created or replaced, as [`Resources::create`] and [`Resources::update`] do, and
    /// writes nothing but the tier that Calico itself has for it. `None`: it is so already.
    ///
    /// # Errors
    /// As theirs.
    pub fn plan(&self, resource: &Resource) -> Result<Option<Planned>, ResourceError> {
        let entry = match self.store.get(&row_key(resource)?) {
            Ok(entry) => entry,
            Err(StoreError::NotFound(_)) => return self.plan_creation(resource.clone()).map(Some),
            Err(error) => return Err(error.into()),
        };
        match rows::resource(&entry)? {
            Some(before) => {
                let planned = self.plan_replacement(&before, resource.clone())?;
                Ok(planned.map(|planned| Planned { before: Some(entry), ..planned }))
            }
            None => self.plan_creation(resource.clone()).map(Some),
        }
    }

    /// Does what was planned, unless somebody has changed the resource since.
    ///
    /// # Errors
    /// It was changed, or the store's.
    pub fn carry_out(&self, planned: Planned) -> Result<Resource, ResourceError> {
        let Planned { resource, key, revision, text, .. } = planned;
        let written = match &revision {
            Some(revision) => self.store.update(&key, &text, Some(revision)),
            None => self.store.create(&key, &text),
        };
        match written {
            Ok(entry) => Ok(with_revision(resource, &entry)),
            Err(StoreError::AlreadyExists(_)) => Err(StoreError::AlreadyExists(resource.key()).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces a resource that exists; with `metadata.resource_version`, only if that is still its revision. UID and
    /// creation time stay, and so does the status unless a new one is given.
    ///
    /// # Errors
    /// There is none, it was changed by someone else, it breaks a rule, or the store's.
    pub fn update(&self, resource: Resource) -> Result<Resource, ResourceError> {
        let before = self.get_same(&resource)?;
        self.replace(before, resource).map(|(resource, _)| resource)
    }

    /// Creates a resource or replaces it, as [`Resources::create`] and [`Resources::update`].
    ///
    /// # Errors
    /// As theirs.
    pub fn apply(&self, resource: &Resource) -> Result<(Resource, Applied), ResourceError> {
        let pinned = resource.metadata().resource_version.is_some();
        retry(|| match self.get_same(resource) {
            Ok(before) => match self.replace(before, resource.clone()) {
                Err(error) if pinned && error.is_race() => Err(Attempt::Failed(error)),
                other => other.map_err(Attempt::from),
            },
            Err(error) if error.is_not_found() => {
                self.create(resource.clone()).map(|made| (made, Applied::Created)).map_err(Attempt::from)
            }
            Err(error) => Err(Attempt::Failed(error)),
        })
    }

    /// Changes a resource that exists: applies `change` to the newest state until the write goes through.
    ///
    /// # Errors
    /// There is none, the change breaks a rule, or the store's; whatever `change` says.
    pub fn modify<E: From<ResourceError>>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        mut change: impl FnMut(&Resource) -> Result<Resource, E>,
    ) -> Result<(Resource, Applied), E> {
        for _ in 1..MAX_ATTEMPTS {
            let before = self.get(kind, namespace, name)?;
            let mut after = change(&before)?;
            after.metadata_mut().resource_version.clone_from(&before.metadata().resource_version);
            match self.replace(before, after) {
                Err(ResourceError::Store(StoreError::Conflict { .. })) => {}
                other => return Ok(other?),
            }
        }
        let before = self.get(kind, namespace, name)?;
        let after = change(&before)?;
        Ok(self.replace(before, after)?)
    }

    /// Deletes a resource; with `expected`, only if that is still its revision. Returns what it was.
    ///
    /// IPAM is not asked: give up the addresses of a pool or a node first.
    ///
    /// # Errors
    /// There is none, it has to stay, or the store's.
    pub fn delete(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        expected: Option<&Revision>,
    ) -> Result<Resource, ResourceError> {
        let before = self.get(kind, namespace, name)?;
        rules::check_delete(self.store, &before.key())?;
        self.store.delete(&row_key(&before)?, expected)?;
        Ok(before)
    }

    fn get_same(&self, resource: &Resource) -> Result<Resource, ResourceError> {
        let metadata = resource.metadata();
        self.get(resource.kind(), metadata.namespace.as_deref(), &metadata.name)
    }

    fn replace(&self, before: Resource, after: Resource) -> Result<(Resource, Applied), ResourceError> {
        match self.plan_replacement(&before, after)? {
            Some(planned) => Ok((self.carry_out(planned)?, Applied::Changed)),
            None => Ok((before, Applied::Unchanged)),
        }
    }

    fn plan_creation(&self, mut resource: Resource) -> Result<Planned, ResourceError> {
        resource.apply_defaults();
        rules::check_write(self.store, &resource, None)?;
        crate::objects::identify(resource.metadata_mut());
        Planned::of(resource, None)
    }

    fn plan_replacement(
        &self,
        before: &Resource,
        mut after: Resource,
    ) -> Result<Option<Planned>, ResourceError> {
        let revision = before.metadata().resource_version.clone().unwrap_or_default();
        let metadata = after.metadata_mut();
        if let Some(expected) = metadata.resource_version.as_ref().filter(|expected| **expected != revision) {
            let expected = Revision::from(expected.as_str());
            return Err(StoreError::Conflict { key: after.key(), expected }.into());
        }
        metadata.resource_version = Some(revision.clone());
        metadata.uid.clone_from(&before.metadata().uid);
        metadata.creation_timestamp = before.metadata().creation_timestamp;
        after.apply_defaults();
        after.keep_status_of(before);
        rules::check_write(self.store, &after, Some(before))?;
        match after == *before {
            true => Ok(None),
            false => Planned::of(after, Some(Revision::from(revision))).map(Some),
        }
    }
}

/// A write that was checked and is yet to be done.
#[derive(Debug)]
pub struct Planned {
    resource: Resource,
    key: Key,
    /// The row's text, as it will be.
    text: String,
    /// That of the row that is replaced.
    revision: Option<Revision>,
    /// The row that is replaced, if it was asked for.
    before: Option<Entry>,
}

impl Planned {
    fn of(resource: Resource, revision: Option<Revision>) -> Result<Self, ResourceError> {
        let (key, text) = (row_key(&resource)?, rows::text(&resource));
        Ok(Self { resource, key, text, revision, before: None })
    }

    /// The row, as it is and as it will be.
    pub fn replaced(&self) -> ReplacedRow {
        ReplacedRow {
            key: layout::encode(&self.key),
            before: self.before.as_ref().map(|entry| entry.value.clone()),
            after: self.text.clone(),
        }
    }
}

fn row_key(resource: &Resource) -> Result<Key, ResourceError> {
    let metadata = resource.metadata();
    rows::row_key(resource.kind(), metadata.namespace.as_deref(), &metadata.name)
        .ok_or_else(|| ResourceError::ReadOnly { key: resource.key() })
}

fn with_revision(mut resource: Resource, entry: &Entry) -> Resource {
    resource.metadata_mut().resource_version = Some(entry.revision.to_string());
    resource
}

enum Attempt {
    Failed(ResourceError),
    Raced(ResourceError),
}

impl From<ResourceError> for Attempt {
    fn from(error: ResourceError) -> Self {
        if error.is_race() { Self::Raced(error) } else { Self::Failed(error) }
    }
}

fn retry<T>(mut attempt: impl FnMut() -> Result<T, Attempt>) -> Result<T, ResourceError> {
    let mut number = 0;
    loop {
        number += 1;
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Attempt::Raced(_)) if number < MAX_ATTEMPTS => {}
            Err(Attempt::Raced(error) | Attempt::Failed(error)) => return Err(error),
        }
    }
}
