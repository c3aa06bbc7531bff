//! Typed resources over a store: read, create, and change by compare-and-swap.

use api::{Metadata, Object, Resource, Row, Spec, Timestamp};

use crate::{Entry, Revision, Store, StoreError};

/// Most attempts of a change that others keep getting in the way of (control-plane.md 1.2 has the same bound).
const MAX_ATTEMPTS: usize = 100;

/// Reads a resource; `None` when there is none.
///
/// # Errors
/// The store's, and [`StoreError::Malformed`] when the row holds something else.
pub fn read<S: Spec>(store: &dyn Store, name: &Metadata) -> Result<Option<(Object<S>, Revision)>, StoreError>
where
    Object<S>: TryFrom<Resource>,
{
    match store.get(&key::<S>(name)) {
        Ok(entry) => decode(entry).map(Some),
        Err(StoreError::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a new resource an identity of its own and the time of its creation, to the second, as Kubernetes does.
pub(crate) fn identify(metadata: &mut Metadata) {
    let now = Timestamp::now();
    metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    metadata.creation_timestamp = Some(Timestamp::from_second(now.as_second()).unwrap_or(now));
    metadata.resource_version = None;
}

/// Creates a resource; `false` when there is one already, which stays as it is.
///
/// # Errors
/// The store's.
pub fn create_if_absent<S: Spec>(store: &dyn Store, mut object: Object<S>) -> Result<bool, StoreError>
where
    Resource: From<Object<S>>,
{
    identify(&mut object.metadata);
    let row = Row::Resource(object.into());
    match store.create(&row.key(), &row.encode()) {
        Ok(_) => Ok(true),
        Err(StoreError::AlreadyExists(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Changes a resource, or makes it from `initial` when there is none: applies `change` to the newest state until the write
/// goes through. Nothing is written when `change` leaves it as it was. Returns the object as it is then.
///
/// # Errors
/// The store's; a conflict only after 100 attempts. An error of `change` ends it, and nothing is written.
pub fn modify<S: Spec, E: From<StoreError>>(
    store: &dyn Store,
    initial: Object<S>,
    mut change: impl FnMut(&mut Object<S>) -> Result<(), E>,
) -> Result<Object<S>, E>
where
    Object<S>: TryFrom<Resource>,
    Resource: From<Object<S>>,
{
    let key = key::<S>(&initial.metadata);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = read::<S>(store, &initial.metadata)?;
        let mut object = found.as_ref().map_or_else(|| initial.clone(), |(object, _)| object.clone());
        change(&mut object)?;
        match &found {
            Some((before, _)) if *before == object => return Ok(object),
            Some(_) => {}
            None => identify(&mut object.metadata),
        }
        let text = Row::Resource(object.clone().into()).encode();
        let written = match &found {
            Some((_, revision)) => store.update(&key, &text, Some(revision)),
            None => store.create(&key, &text),
        };
        match written {
            Ok(_) => return Ok(object),
            Err(error) if !is_race(&error) || attempt == MAX_ATTEMPTS => return Err(error.into()),
            Err(_) => {}
        }
    }
}

/// Someone else was faster; the newest state decides.
fn is_race(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_))
}

fn key<S: Spec>(name: &Metadata) -> api::Key {
    api::Key::Resource { kind: S::KIND, namespace: name.namespace.clone(), name: name.name.clone() }
}

fn decode<S: Spec>(entry: Entry) -> Result<(Object<S>, Revision), StoreError>
where
    Object<S>: TryFrom<Resource>,
{
    let malformed =
        |reason: String| StoreError::Malformed { key: entry.key.clone(), kind: S::KIND.name(), reason };
    let row = Row::decode(&entry.key, &entry.value).map_err(|error| malformed(error.to_string()))?;
    let Row::Resource(resource) = row else { return Err(malformed("not a resource".to_owned())) };
    let object = Object::<S>::try_from(resource).map_err(|_| malformed("of another kind".to_owned()))?;
    Ok((object, entry.revision))
}

#[cfg(test)]
mod tests {
    use api::{NodeSpec, Tier, TierSpec};

    use super::*;
    use crate::Memory;

    fn tier() -> Tier {
        Tier::new(Metadata::named("t"), TierSpec::default())
    }

    #[test]
    fn a_change_makes_the_object_and_then_writes_only_differences() {
        let store = Memory::new();
        let set = |order: f64| {
            move |tier: &mut Tier| -> Result<(), StoreError> {
                tier.spec.order = Some(order);
                Ok(())
            }
        };
        modify(&store, tier(), set(1.0)).unwrap();
        let (_, first) = read::<TierSpec>(&store, &tier().metadata).unwrap().unwrap();
        modify(&store, tier(), set(1.0)).unwrap();
        let (_, second) = read::<TierSpec>(&store, &tier().metadata).unwrap().unwrap();
        assert_eq!(first, second, "nothing changed, so nothing may be written");
        assert_eq!(modify(&store, tier(), set(2.0)).unwrap().spec.order, Some(2.0));
    }

    #[test]
    fn what_exists_is_not_created_again_and_what_is_created_has_an_identity() {
        let store = Memory::new();
        assert!(create_if_absent(&store, tier()).unwrap());
        let (made, _) = read::<TierSpec>(&store, &tier().metadata).unwrap().unwrap();
        assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
        assert!(!create_if_absent(&store, tier()).unwrap());
        assert!(read::<NodeSpec>(&store, &tier().metadata).unwrap().is_none());
    }
}
