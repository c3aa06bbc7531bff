//! Calico v3 resources: what users write, with defaults, validation, selectors and conversion from Kubernetes objects.
//!
//! - [`Resource`] is a resource of any [`Kind`]; [`Object`] one of a known kind, such as [`IPPool`].
//! - [`Row`] is what a datastore keeps under a [`Key`]: a resource or a row of IPAM.
//! - Scalars of the API are in [`scalars`]; they parse once and print in the canonical form.

pub mod cni;
mod decode;
pub mod documents;
pub mod endpoint_name;
mod kind;
pub mod kubernetes;
mod metadata;
mod object;
mod resource;
mod row;
mod rules;
pub mod scalars;
pub mod selector;
mod stored;
mod v3;
mod violation;
pub mod wire;

pub use jiff::Timestamp;
pub use kind::Kind;
pub use metadata::{Metadata, OwnerReference};
pub use object::{NoStatus, Object, Spec};
pub use resource::{API_VERSION, Resource};
pub use row::{
    BlockAffinityState, Confirmation, ConfirmationPhase, IpamAllocationAttribute, IpamBlock,
    IpamBlockAffinity, IpamConfig, IpamHandle, ReplacedRow, Row, RowError,
};
pub use stored::{AffinityOwner, Key};
pub use v3::*;
pub use violation::Violation;
