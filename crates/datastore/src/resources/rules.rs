//! Rules that depend on what else the datastore holds.

use api::{IPPool, Key, Kind, Metadata, Resource, Row, Tier, TierSpec, Violation, built_in_tiers};
use ipnet::IpNet;

use super::{ResourceError, Resources};
use crate::{Scope, Store, StoreError, objects};

/// The profile that every cluster has: it allows everything.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// All kinds of policy; each is in a tier.
const POLICY_KINDS: [Kind; 5] = [
    Kind::GlobalNetworkPolicy,
    Kind::NetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
    Kind::StagedNetworkPolicy,
];

/// Checks a resource that is to be written; `before` is what it is now, if it exists.
pub(super) fn check_write(
    store: &dyn Store,
    resource: &Resource,
    before: Option<&Resource>,
) -> Result<(), ResourceError> {
    let refused = |violations: Vec<Violation>| ResourceError::Invalid { key: resource.key(), violations };
    resource.validate().map_err(refused)?;
    match (resource, before) {
        (Resource::IPPool(pool), None) => check_new_pool(store, pool)?,
        (Resource::IPPool(pool), Some(Resource::IPPool(before))) => {
            pool.validate_change(before).map_err(refused)?;
        }
        (Resource::Profile(profile), _) if profile.metadata.name == DEFAULT_ALLOW => {
            check_default_allow(resource, before)?;
        }
        (Resource::IPAMConfiguration(_), _) => check_bare_metadata(resource)?,
        (Resource::BlockAffinity(_), _) => return Err(ResourceError::ReadOnly { key: resource.key() }),
        _ => {}
    }
    match tier_of(resource) {
        Some(tier) if before.and_then(tier_of) != Some(tier) => require_tier(store, resource, tier),
        _ => Ok(()),
    }
}

/// Checks whether a resource may be deleted.
pub(super) fn check_delete(store: &dyn Store, key: &Key) -> Result<(), ResourceError> {
    let Key::Resource { kind, name, .. } = key else { return Ok(()) };
    match kind {
        Kind::Tier if is_built_in_tier(name) => {
            Err(ResourceError::BuiltIn { key: key.clone(), action: "deleted" })
        }
        Kind::Profile if name == DEFAULT_ALLOW => {
            Err(ResourceError::BuiltIn { key: key.clone(), action: "deleted" })
        }
        Kind::Tier => {
            let policies = policies_of(store, name)?;
            match policies.is_empty() {
                true => Ok(()),
                false => Err(ResourceError::TierInUse { tier: key.clone(), policies }),
            }
        }
        Kind::BlockAffinity => Err(ResourceError::ReadOnly { key: key.clone() }),
        _ => Ok(()),
    }
}

/// A pool may overlap no other, nor blocks of another size, which a deleted pool may have left.
fn check_new_pool(store: &dyn Store, pool: &IPPool) -> Result<(), ResourceError> {
    let refused = |violations: Vec<Violation>| ResourceError::Invalid {
        key: Key::cluster(Kind::IPPool, &pool.metadata.name),
        violations,
    };
    let others = Resources::new(store).list(Kind::IPPool, None)?.items;
    let others = others.iter().filter_map(|other| match other {
        Resource::IPPool(pool) => Some(&**pool),
        _ => None,
    });
    pool.validate_among(others).map_err(refused)?;
    let (cidr, size) = (pool.spec.cidr.net(), pool.spec.block_prefix_len());
    let odd: Vec<_> = blocks(store)?
        .into_iter()
        .filter(|block| overlap(block, &cidr) && block.prefix_len() != size)
        .map(|block| block.to_string())
        .collect();
    match odd.is_empty() {
        true => Ok(()),
        false => Err(refused(vec![Violation {
            field: "spec.blockSize".to_owned(),
            value: Some(size.to_string()),
            reason: format!(
                "is not the size of blocks that exist in {cidr}: {}; release their addresses first",
                odd.join(", ")
            ),
        }])),
    }
}

fn blocks(store: &dyn Store) -> Result<Vec<IpNet>, StoreError> {
    let entries = store.list(&Scope::Blocks)?.entries;
    let block = |key: &Key| match key {
        Key::Block(cidr) => Some(*cidr),
        _ => None,
    };
    let is_gone = |entry: &crate::Entry| matches!(entry.row(), Ok(Row::Block(block)) if block.deleted);
    Ok(entries.iter().filter(|entry| !is_gone(entry)).filter_map(|entry| block(&entry.key)).collect())
}

/// Networks overlap when one contains the other.
fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(right) || right.contains(left)
}

/// The built-in profile may get labels, but its rules stay; only a node makes it.
fn check_default_allow(resource: &Resource, before: Option<&Resource>) -> Result<(), ResourceError> {
    let spec = |resource: &Resource| match resource {
        Resource::Profile(profile) => Some(profile.spec.clone()),
        _ => None,
    };
    match before {
        Some(before) if spec(before) == spec(resource) => Ok(()),
        Some(_) => Err(ResourceError::BuiltIn { key: resource.key(), action: "changed" }),
        None => Err(ResourceError::BuiltIn { key: resource.key(), action: "created by hand" }),
    }
}

/// The row that keeps IPAM's settings has no room for metadata.
fn check_bare_metadata(resource: &Resource) -> Result<(), ResourceError> {
    let metadata = resource.metadata();
    let fields = [
        ("metadata.labels", !metadata.labels.is_empty()),
        ("metadata.annotations", !metadata.annotations.is_empty()),
    ];
    let violations: Vec<_> = fields
        .into_iter()
        .filter(|(_, is_set)| *is_set)
        .map(|(field, _)| Violation {
            field: field.to_owned(),
            value: None,
            reason: "cannot be kept: Calico's row of IPAM settings has no metadata; remove them".to_owned(),
        })
        .collect();
    match violations.is_empty() {
        true => Ok(()),
        false => Err(ResourceError::Invalid { key: resource.key(), violations }),
    }
}

/// The tier of a policy has to exist; Calico's own are made when they are needed and no node has made them yet.
fn require_tier(store: &dyn Store, policy: &Resource, tier: &str) -> Result<(), ResourceError> {
    match (store.get(&Key::cluster(Kind::Tier, tier)), TierSpec::well_known(tier)) {
        (Ok(_), _) => Ok(()),
        (Err(StoreError::NotFound(_)), Some(spec)) => {
            objects::create_if_absent(store, Tier::new(Metadata::named(tier), spec))?;
            Ok(())
        }
        (Err(StoreError::NotFound(_)), None) => Err(ResourceError::Invalid {
            key: policy.key(),
            violations: vec![Violation {
                field: "spec.tier".to_owned(),
                value: Some(tier.to_owned()),
                reason: "does not exist; create the Tier first".to_owned(),
            }],
        }),
        (Err(error), _) => Err(error.into()),
    }
}

fn is_built_in_tier(name: &str) -> bool {
    built_in_tiers().any(|tier| tier.metadata.name == name)
}

fn policies_of(store: &dyn Store, tier: &str) -> Result<Vec<Key>, ResourceError> {
    let mut found = Vec::new();
    for kind in POLICY_KINDS {
        let policies = Resources::new(store).list(kind, None)?.items;
        found.extend(policies.iter().filter(|policy| tier_of(policy) == Some(tier)).map(Resource::key));
    }
    Ok(found)
}

/// The tier of a policy.
fn tier_of(resource: &Resource) -> Option<&str> {
    match resource {
        Resource::GlobalNetworkPolicy(policy) => Some(policy.spec.tier_name()),
        Resource::NetworkPolicy(policy) => Some(policy.spec.tier_name()),
        Resource::StagedGlobalNetworkPolicy(policy) => Some(policy.spec.tier_name()),
        Resource::StagedNetworkPolicy(policy) => Some(policy.spec.tier_name()),
        Resource::StagedKubernetesNetworkPolicy(_) => Some(api::DEFAULT_TIER),
        _ => None,
    }
}
