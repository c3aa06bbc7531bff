//! `metadata` of a resource.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::v3::object;

object! {
    /// Kubernetes `ObjectMeta`, as v3 resources have it.
    #[derive(Default)]
    pub struct Metadata {
        /// Unique in its kind, and namespace where the kind has one.
        name: String,
        /// Prefix from which a server would make a name.
        generate_name: String,
        /// Present exactly when the kind is namespaced.
        namespace: Option<String>,
        /// Unique over all time.
        uid: Option<String>,
        /// The datastore's revision of the last write; opaque. Not stored: the store adds it when it reads.
        resource_version: Option<String>,
        /// Counts changes of the spec (Kubernetes).
        generation: Option<i64>,
        /// When it was created.
        creation_timestamp: Option<Timestamp>,
        /// When its deletion was asked for (Kubernetes).
        deletion_timestamp: Option<Timestamp>,
        /// How long the deletion may take, in seconds (Kubernetes).
        deletion_grace_period_seconds: Option<i64>,
        /// What selectors match.
        labels: BTreeMap<String, String>,
        /// Free-form notes; at most 256 KiB in all.
        annotations: BTreeMap<String, String>,
        /// Objects whose deletion deletes this one (Kubernetes).
        owner_references: Vec<OwnerReference>,
        /// What has to happen before it is gone (Kubernetes).
        finalizers: Vec<String>,
        /// Which manager set which field (Kubernetes); kept as it is.
        managed_fields: Vec<serde_json::Value>,
        /// Its URL (Kubernetes before 1.20).
        self_link: String,
    }
}

object! {
    /// Kubernetes `OwnerReference`.
    #[derive(Default)]
    pub struct OwnerReference {
        /// API group and version of the owner.
        api_version: String = required,
        /// Kind of the owner.
        kind: String = required,
        /// Name of the owner.
        name: String = required,
        /// UID of the owner.
        uid: String = required,
        /// Whether the owner manages this object.
        controller: Option<bool>,
        /// Whether the owner's deletion waits for this object.
        block_owner_deletion: Option<bool>,
    }
}

impl Metadata {
    /// Of a resource without namespace.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Of a resource in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::named(name) }
    }
}
