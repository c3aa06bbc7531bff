//! What a datastore keeps under a key.

mod affinity;
mod block;
mod closed;
mod config;
mod confirmation;
mod handle;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use affinity::{BlockAffinityState, IpamBlockAffinity};
pub use block::{IpamAllocationAttribute, IpamBlock};
pub use config::IpamConfig;
pub use confirmation::{Confirmation, ConfirmationPhase, ReplacedRow};
pub use handle::IpamHandle;

use crate::decode::{self, Problem, Tree};
use crate::{Key, Resource, Violation};

/// What a datastore keeps under a key. As JSON it is exactly what Calico keeps in etcd (but for
/// confirmations, which are ours).
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Under [`Key::Resource`].
    Resource(Resource),
    /// Under [`Key::Block`].
    Block(IpamBlock),
    /// Under [`Key::BlockAffinity`].
    BlockAffinity(IpamBlockAffinity),
    /// Under [`Key::Handle`].
    Handle(IpamHandle),
    /// Under [`Key::IpamConfig`].
    IpamConfig(IpamConfig),
    /// Under [`Key::Confirmation`].
    Confirmation(Confirmation),
}

/// A row that does not hold what its key promises. Not retryable: someone has to mend or delete it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} in the datastore cannot be read: {violation}")]
pub struct RowError {
    /// Which row.
    pub key: Key,
    /// What is wrong with it.
    pub violation: Box<Violation>,
}

impl Row {
    /// Reads a row. The key decides what it is and what it is called; fields that this version does not know are
    /// skipped. The revision is not part of a row: `metadata.resource_version` is left empty.
    ///
    /// # Errors
    /// When the text is not JSON, or a field does not hold what it should.
    pub fn decode(key: &Key, text: &str) -> Result<Self, RowError> {
        let row = match key {
            Key::Resource { kind, namespace, name } => Resource::from_row(*kind, text)
                .map(|resource| Self::Resource(named(resource, namespace.as_deref(), name))),
            Key::Block(cidr) => {
                parse(text).map(|block: IpamBlock| Self::Block(IpamBlock { cidr: *cidr, ..block }))
            }
            Key::BlockAffinity { owner, cidr } => {
                IpamBlockAffinity::parse(owner, *cidr, text).map(Self::BlockAffinity)
            }
            Key::Handle(id) => {
                parse(text).map(|handle: IpamHandle| Self::Handle(IpamHandle { id: id.clone(), ..handle }))
            }
            Key::IpamConfig => parse(text).map(Self::IpamConfig),
            Key::Confirmation(id) => parse(text)
                .map(|row: Confirmation| Self::Confirmation(Confirmation { id: id.clone(), ..row })),
        };
        row.map_err(|problems| RowError { key: key.clone(), violation: Box::new(first(problems)) })
    }

    /// Writes a row, without the revision.
    pub fn encode(&self) -> String {
        let text = match self {
            Self::Resource(resource) if resource.metadata().resource_version.is_some() => {
                let mut resource = resource.clone();
                resource.metadata_mut().resource_version = None;
                serde_json::to_string(&resource)
            }
            Self::Resource(resource) => serde_json::to_string(resource),
            Self::Block(block) => return block.encode(),
            Self::BlockAffinity(affinity) => serde_json::to_string(affinity),
            Self::Handle(handle) => serde_json::to_string(handle),
            Self::IpamConfig(config) => serde_json::to_string(config),
            Self::Confirmation(row) => serde_json::to_string(row),
        };
        text.expect("rows hold nothing that JSON lacks")
    }

    /// The key under which it belongs.
    pub fn key(&self) -> Key {
        match self {
            Self::Resource(resource) => resource.key(),
            Self::Block(block) => Key::Block(block.cidr),
            Self::BlockAffinity(affinity) => {
                Key::BlockAffinity { owner: affinity.owner.clone(), cidr: affinity.cidr }
            }
            Self::Handle(handle) => Key::Handle(handle.id.clone()),
            Self::IpamConfig(_) => Key::IpamConfig,
            Self::Confirmation(row) => Key::Confirmation(row.id.clone()),
        }
    }
}

/// The resource under the name that its key says.
fn named(mut resource: Resource, namespace: Option<&str>, name: &str) -> Resource {
    let metadata = resource.metadata_mut();
    name.clone_into(&mut metadata.name);
    metadata.namespace = namespace.map(str::to_owned);
    metadata.resource_version = None;
    resource
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    if let Ok(row) = serde_json::from_str(text) {
        return Ok(row);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| vec![Problem::whole(error.to_string())])?;
    decode::lenient(&Tree::from(&value))
}

fn first(problems: Vec<Problem>) -> Violation {
    let none = || Problem::whole("nothing is known of the cause".to_owned());
    problems.into_iter().next().unwrap_or_else(none).into()
}

#[cfg(test)]
mod tests;
