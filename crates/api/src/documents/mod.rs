//! Files of resources, as users write them: YAML or JSON, many documents, lists.
//!
//! [`read()`] gives what a file says, [`load`] also fills in defaults and checks the rules. Both read a file whole or not
//! at all, and report everything that is wrong with it.

mod error;
mod output;
mod read;

#[cfg(test)]
mod tests;

pub use error::{DocumentError, DocumentErrors};
pub use output::{list_value, to_json, to_yaml};
pub use read::{load, load_cluster, load_into, read};

use crate::{Key, Resource};

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A v3 resource.
    Calico(Resource),
    /// A Kubernetes object.
    Kubernetes(KubernetesDocument),
}

/// A Kubernetes object of a file, and what is kept for it.
#[derive(Debug, Clone, PartialEq)]
pub struct KubernetesDocument {
    /// Its kind, such as `NetworkPolicy`.
    pub kind: String,
    /// Its namespace, if it has one.
    pub namespace: Option<String>,
    /// Its own name; the resource's differs.
    pub name: String,
    /// The resource that a datastore without Kubernetes keeps for it.
    pub resource: Resource,
}

/// A Kubernetes object that says what is there, and is kept nowhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Observed {
    /// A pod.
    Pod(Box<crate::kubernetes::Pod>),
    /// A service.
    Service(crate::kubernetes::Service),
    /// Endpoints of a service.
    EndpointSlice(crate::kubernetes::EndpointSlice),
}

impl Document {
    /// The resource that a datastore keeps.
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Calico(resource) => resource,
            Self::Kubernetes(object) => &object.resource,
        }
    }

    /// The resource that a datastore keeps.
    pub fn into_resource(self) -> Resource {
        match self {
            Self::Calico(resource) => resource,
            Self::Kubernetes(object) => object.resource,
        }
    }

    /// Under which key a datastore keeps it.
    pub fn key(&self) -> Key {
        self.resource().key()
    }
}
