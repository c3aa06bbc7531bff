//! Under which rows resources are kept: their own, but for those that IPAM keeps in its own form.

use api::{
    AffinityOwner, BlockAffinity, BlockAffinitySpec, BlockAffinityState, IPAMConfiguration,
    IPAMConfigurationSpec, IpamBlockAffinity, IpamConfig, Key, Kind, Metadata, Resource, Row,
};

use crate::{Entry, Scope, StoreError};

/// The only name of an IPAMConfiguration.
const SINGLETON: &str = "default";

/// The key of the row that keeps a resource; `None` for kinds whose rows have no key that follows from the name.
pub(super) fn row_key(kind: Kind, namespace: Option<&str>, name: &str) -> Option<Key> {
    match kind {
        Kind::BlockAffinity => None,
        Kind::IPAMConfiguration if name == SINGLETON => Some(Key::IpamConfig),
        _ => Some(resource_key(kind, namespace, name)),
    }
}

/// A resource's identity, as users name it.
pub(super) fn resource_key(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    let namespace = namespace.filter(|_| kind.is_namespaced()).map(str::to_owned);
    Key::Resource { kind, namespace, name: name.to_owned() }
}

/// The rows that keep the resources of a kind.
pub(super) fn scope(kind: Kind, namespace: Option<&str>) -> Scope {
    match kind {
        Kind::BlockAffinity => Scope::BlockAffinities { host: None },
        Kind::IPAMConfiguration => Scope::IpamConfig,
        _ => Scope::Resources {
            kind,
            namespace: namespace.filter(|_| kind.is_namespaced()).map(str::to_owned),
        },
    }
}

/// The resource that a row keeps, with its revision; `None` for an affinity that is about to go.
pub(super) fn resource(entry: &Entry) -> Result<Option<Resource>, StoreError> {
    let mut resource: Resource = match entry.row()? {
        Row::Resource(resource) => resource,
        Row::IpamConfig(config) => configuration(&config).into(),
        Row::BlockAffinity(affinity) if affinity.deleted => return Ok(None),
        Row::BlockAffinity(affinity) => block_affinity(&affinity).into(),
        Row::Block(_) | Row::Handle(_) | Row::Confirmation(_) => return Ok(None),
    };
    resource.metadata_mut().resource_version = Some(entry.revision.to_string());
    Ok(Some(resource))
}

/// The text of the row that keeps a resource.
pub(super) fn text(resource: &Resource) -> String {
    match resource {
        Resource::IPAMConfiguration(configuration) => {
            Row::IpamConfig(IpamConfig::from(&configuration.spec)).encode()
        }
        _ => Row::Resource(resource.clone()).encode(),
    }
}

fn configuration(config: &IpamConfig) -> IPAMConfiguration {
    IPAMConfiguration::new(Metadata::named(SINGLETON), IPAMConfigurationSpec::from(config))
}

/// Its name is `NODE-CIDR` with dashes for what a name cannot have (resources.md 4.4).
fn block_affinity(affinity: &IpamBlockAffinity) -> BlockAffinity {
    let cidr = affinity.cidr.to_string().replace(['.', ':', '/'], "-");
    let spec = BlockAffinitySpec {
        state: state(affinity.state).to_owned(),
        node: affinity.owner.name().to_owned(),
        affinity_type: match affinity.owner {
            AffinityOwner::Host(_) => "host".to_owned(),
            AffinityOwner::Virtual(_) => "virtual".to_owned(),
        },
        cidr: affinity.cidr.into(),
        deleted: false,
    };
    BlockAffinity::new(Metadata::named(format!("{}-{cidr}", affinity.owner.name())), spec)
}

fn state(state: BlockAffinityState) -> &'static str {
    match state {
        BlockAffinityState::Confirmed => "confirmed",
        BlockAffinityState::Pending => "pending",
        BlockAffinityState::PendingDeletion => "pendingDeletion",
    }
}
