//! A resource of one kind: metadata, spec, and status where the kind has one.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Key, Kind, Metadata};

/// What a kind of resource holds under `spec`.
pub trait Spec: Debug + Clone + PartialEq + Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
    /// What it holds under `status`; [`NoStatus`] for most.
    type Status: Debug + Clone + PartialEq + Serialize + DeserializeOwned;
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Object<S: Spec> {
    /// Identity, labels, annotations.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: S,
    /// What controllers report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<S::Status>,
}

/// The status of a kind that has none: an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}

impl<S: Spec> Object<S> {
    /// A resource without status.
    pub fn new(metadata: Metadata, spec: S) -> Self {
        Self { metadata, spec, status: None }
    }

    /// Its identity in a datastore.
    pub fn key(&self) -> Key {
        Key::Resource {
            kind: S::KIND,
            namespace: self.metadata.namespace.clone().filter(|_| S::KIND.is_namespaced()),
            name: self.metadata.name.clone(),
        }
    }
}
