//! A resource of any kind.

use std::cell::RefCell;

use serde::de::DeserializeOwned;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::Value;

use crate::decode::{self, Problem, Tree, nearest};
use crate::rules::{Place, Rules, check_metadata};
use crate::v3::*;
use crate::{Key, Kind, Metadata, Object, Spec, Violation};

/// `apiVersion` of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

macro_rules! resources {
    ($($kind:ident)*) => {
        /// A resource of any kind; boxed, since the kinds differ much in size and nodes hold thousands.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Resource {
            $(#[doc = concat!("Of kind `", stringify!($kind), "`.")] $kind(Box<$kind>),)*
        }

        impl Resource {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind,)* }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &Metadata {
                match self { $(Self::$kind(object) => &object.metadata,)* }
            }

            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut Metadata {
                match self { $(Self::$kind(object) => &mut object.metadata,)* }
            }

            /// Its identity in a datastore.
            pub fn key(&self) -> Key {
                match self { $(Self::$kind(object) => object.key(),)* }
            }

            /// Fills in what the user left out and Calico stores with its default. A namespaced resource without a
            /// namespace goes into `default`.
            pub fn apply_defaults(&mut self) {
                match self { $(Self::$kind(object) => object.apply_defaults(),)* }
            }

            /// Checks all rules of the kind that depend on nothing but the resource. Defaults should have been applied.
            ///
            /// # Errors
            /// Every field that breaks a rule.
            pub fn validate(&self) -> Result<(), Vec<Violation>> {
                match self { $(Self::$kind(object) => object.validate(),)* }
            }

            /// Takes over the status of the same resource as it was, unless it has one of its own: users write specs.
            pub fn keep_status_of(&mut self, before: &Self) {
                match (self, before) {
                    $((Self::$kind(now), Self::$kind(before)) if now.status.is_none() => {
                        now.status.clone_from(&before.status);
                    })*
                    _ => {}
                }
            }

            /// Decodes the object of a kind.
            pub(crate) fn decode_as<E>(
                kind: Kind,
                decode: impl DecodeObject<Error = E>,
            ) -> Result<Self, E> {
                match kind { $(Kind::$kind => decode.decode().map(|object| Self::$kind(Box::new(object))),)* }
            }
        }

        $(impl $kind {
            /// Fills in what the user left out and Calico stores with its default. A namespaced resource without a
            /// namespace goes into `default`.
            pub fn apply_defaults(&mut self) {
                apply_defaults(self);
            }

            /// Checks all rules of the kind that depend on nothing but the resource. Defaults should have been applied.
            ///
            /// # Errors
            /// Every field that breaks a rule.
            pub fn validate(&self) -> Result<(), Vec<Violation>> {
                validate(self)
            }
        })*

        $(impl From<$kind> for Resource {
            fn from(object: $kind) -> Self {
                Self::$kind(Box::new(object))
            }
        })*

        $(impl TryFrom<Resource> for $kind {
            /// The resource, which is of another kind.
            type Error = Resource;

            fn try_from(resource: Resource) -> Result<Self, Resource> {
                match resource {
                    Resource::$kind(object) => Ok(*object),
                    other => Err(other),
                }
            }
        })*

        impl Serialize for Resource {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$kind(object) => serialize_object(&**object, serializer),)* }
            }
        }
    };
}

resources! {
    BGPConfiguration BGPFilter BGPPeer BlockAffinity CalicoNodeStatus ClusterInformation FelixConfiguration
    GlobalNetworkPolicy GlobalNetworkSet HostEndpoint IPAMConfiguration IPPool IPReservation
    KubeControllersConfiguration KubernetesEndpointSlice NetworkPolicy NetworkSet Node Profile StagedGlobalNetworkPolicy
    StagedKubernetesNetworkPolicy StagedNetworkPolicy Tier WorkloadEndpoint
}

/// Something that decodes whichever object is asked for.
pub(crate) trait DecodeObject {
    type Error;

    fn decode<T: DeserializeOwned>(self) -> Result<T, Self::Error>;
}

/// The namespace of what names none.
const DEFAULT_NAMESPACE: &str = "default";

fn apply_defaults<S: Rules>(object: &mut Object<S>) {
    let namespace = &mut object.metadata.namespace;
    if S::KIND.is_namespaced() && namespace.as_ref().is_none_or(String::is_empty) {
        *namespace = Some(DEFAULT_NAMESPACE.to_owned());
    }
    S::apply_defaults(object);
}

fn validate<S: Rules>(object: &Object<S>) -> Result<(), Vec<Violation>> {
    let found = RefCell::default();
    let at = Place::root(&found);
    let metadata = at.field("metadata");
    S::check_name(&object.metadata.name, &metadata.field("name"));
    check_metadata(S::KIND, &object.metadata, &metadata);
    S::check(object, &at);
    let violations = found.into_inner();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

fn serialize_object<O: Spec, S: Serializer>(object: &Object<O>, serializer: S) -> Result<S::Ok, S::Error> {
    let fields = 4 + usize::from(object.status.is_some());
    let mut out = serializer.serialize_struct("Resource", fields)?;
    out.serialize_field("apiVersion", API_VERSION)?;
    out.serialize_field("kind", O::KIND.name())?;
    out.serialize_field("metadata", &object.metadata)?;
    out.serialize_field("spec", &object.spec)?;
    match &object.status {
        Some(status) => out.serialize_field("status", status)?,
        None => out.skip_field("status")?,
    }
    out.end()
}

impl Resource {
    /// As JSON, `apiVersion` and `kind` included.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("resources hold nothing that JSON lacks")
    }
}

impl Resource {
    /// Reads a user's document: every field has to be known, `apiVersion` and `kind` have to be right.
    ///
    /// # Errors
    /// Everything that is wrong, by field.
    pub fn from_value(value: &Value) -> Result<Self, Vec<Violation>> {
        let problems = |problems: Vec<Problem>| problems.into_iter().map(Violation::from).collect::<Vec<_>>();
        let tree = Tree::from(value);
        let kind = kind_of(&tree).map_err(|problem| problems(vec![problem]))?;
        Self::from_tree(kind, &tree).map_err(problems)
    }

    pub(crate) fn from_tree(kind: Kind, tree: &Tree) -> Result<Self, Vec<Problem>> {
        Self::decode_as(kind, Strictly(tree))
    }

    /// Reads a stored row: fields that this version does not know are skipped.
    pub(crate) fn from_row(kind: Kind, text: &str) -> Result<Self, Vec<Problem>> {
        if let Some(resource) = Self::from_known_row(kind, text) {
            return Ok(resource);
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| vec![Problem::whole(error.to_string())])?;
        Self::from_lenient_tree(kind, &Tree::from(&value))
    }

    /// Reads a stored row as this version writes it, the straight way: the tree is only for rows that other programs wrote
    /// with nulls, or with rules that this version does not know, and for errors.
    pub(crate) fn from_known_row(kind: Kind, text: &str) -> Option<Self> {
        Self::decode_as(kind, Quickly(text)).ok()
    }

    /// Fields that this version does not know are skipped.
    pub(crate) fn from_lenient_tree(kind: Kind, tree: &Tree) -> Result<Self, Vec<Problem>> {
        Self::decode_as(kind, Leniently(tree))
    }
}

/// The kind that a document says it is of.
pub(crate) fn kind_of(tree: &Tree) -> Result<Kind, Problem> {
    let text = |field: &str| tree.get(field).and_then(Tree::scalar);
    let problem = |field: &str, reason: String| Problem {
        field: field.to_owned(),
        line: tree.get(field).unwrap_or(tree).line,
        value: text(field).map(str::to_owned),
        reason,
    };
    match text("apiVersion") {
        Some(API_VERSION) => {}
        Some(_) => return Err(problem("apiVersion", format!("is not {API_VERSION}"))),
        None => return Err(problem("apiVersion", format!("is required: {API_VERSION}"))),
    }
    let word =
        text("kind").ok_or_else(|| problem("kind", "is required, such as NetworkPolicy".to_owned()))?;
    Kind::ALL.iter().copied().find(|kind| kind.name() == word).ok_or_else(|| {
        let names = Kind::ALL.iter().map(|kind| kind.name());
        let remedy = match nearest(word, names.clone()) {
            Some(meant) => format!("; did you mean {meant}?"),
            None => format!(": known are {}", names.collect::<Vec<_>>().join(", ")),
        };
        problem("kind", format!("is not a kind of {API_VERSION}{remedy}"))
    })
}

struct Strictly<'a>(&'a Tree);
struct Leniently<'a>(&'a Tree);
struct Quickly<'a>(&'a str);

impl DecodeObject for Strictly<'_> {
    type Error = Vec<Problem>;

    fn decode<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        decode::strict(self.0)
    }
}

impl DecodeObject for Leniently<'_> {
    type Error = Vec<Problem>;

    fn decode<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        decode::lenient(self.0)
    }
}

impl DecodeObject for Quickly<'_> {
    type Error = serde_json::Error;

    fn decode<T: DeserializeOwned>(self) -> Result<T, Self::Error> {
        serde_json::from_str(self.0)
    }
}
