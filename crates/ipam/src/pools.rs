//! Which pools a request may use (control-plane.md 1.3, step 1).

use std::cell::OnceCell;
use std::collections::BTreeMap;

use api::selector::Selector;
use api::{AssignmentMode, IPPool, IPPoolAllowedUse, Metadata, NodeSpec, ProfileSpec};
use datastore::objects;
use ipnet::IpNet;

use crate::error::{RejectedPool, Rejection};
use crate::rows::Rows;
use crate::{Family, IpamError};

/// How Calico stores a namespace without Kubernetes: as this profile, with this prefix on the namespace's labels.
const NAMESPACE_PROFILE: &str = "kns.";
const NAMESPACE_LABEL: &str = "pcns.";

type LabelMap = BTreeMap<String, String>;

/// Labels that selectors of pools look at; read from the store when the first selector needs them.
pub(crate) struct Labels<'a> {
    rows: &'a Rows,
    host: &'a str,
    namespace: Option<&'a str>,
    node_labels: OnceCell<Option<LabelMap>>,
    namespace_labels: OnceCell<Option<LabelMap>>,
}

impl<'a> Labels<'a> {
    pub(crate) fn new(rows: &'a Rows, host: &'a str, namespace: Option<&'a str>) -> Self {
        Self { rows, host, namespace, node_labels: OnceCell::new(), namespace_labels: OnceCell::new() }
    }

    /// Whether the pool's `nodeSelector` matches the node.
    pub(crate) fn node_matches(&self, pool: &IPPool) -> Result<bool, IpamError> {
        let Some(selector) = selector(pool, "nodeSelector", &pool.spec.node_selector)? else {
            return Ok(true);
        };
        match self.node()? {
            Some(labels) => Ok(selector.matches(labels)),
            None => {
                Err(IpamError::NodeNotFound { host: self.host.to_owned(), pool: pool.metadata.name.clone() })
            }
        }
    }

    /// Whether the pool's `namespaceSelector` matches the namespace; not if there is none.
    pub(crate) fn namespace_matches(&self, pool: &IPPool) -> Result<bool, IpamError> {
        let text = &pool.spec.namespace_selector;
        let Some(selector) = selector(pool, "namespaceSelector", text)? else { return Ok(true) };
        Ok(self.namespace()?.is_some_and(|labels| selector.matches(labels)))
    }

    fn node(&self) -> Result<Option<&LabelMap>, IpamError> {
        if self.node_labels.get().is_none() {
            let node = objects::read::<NodeSpec>(self.rows.store(), &Metadata::named(self.host))?;
            // Only this thread sets it.
            let _ = self.node_labels.set(node.map(|(node, _)| node.metadata.labels));
        }
        Ok(self.node_labels.get().and_then(Option::as_ref))
    }

    fn namespace(&self) -> Result<Option<&LabelMap>, IpamError> {
        let Some(namespace) = self.namespace else { return Ok(None) };
        if self.namespace_labels.get().is_none() {
            let name = Metadata::named(format!("{NAMESPACE_PROFILE}{namespace}"));
            let profile = objects::read::<ProfileSpec>(self.rows.store(), &name)?;
            let _ = self.namespace_labels.set(profile.map(|(profile, _)| without_prefix(&profile.spec)));
        }
        Ok(self.namespace_labels.get().and_then(Option::as_ref))
    }
}

fn without_prefix(profile: &ProfileSpec) -> LabelMap {
    let labels = profile.labels_to_apply.iter();
    labels
        .filter_map(|(name, value)| Some((name.strip_prefix(NAMESPACE_LABEL)?.to_owned(), value.clone())))
        .collect()
}

/// A selector, unless it selects everything.
fn selector(pool: &IPPool, field: &'static str, text: &str) -> Result<Option<Selector>, IpamError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let selector = Selector::parse(text).map_err(|source| IpamError::BadSelector {
        pool: pool.metadata.name.clone(),
        field,
        source,
    })?;
    Ok(Some(selector).filter(|selector| !selector.is_all()))
}

/// What a request says about pools.
pub(crate) struct Wanted<'a> {
    pub(crate) family: Family,
    pub(crate) usage: IPPoolAllowedUse,
    pub(crate) requested: &'a [IpNet],
}

/// The pools that may be used, and why the others may not.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) pools: Vec<IPPool>,
    pub(crate) rejected: Vec<RejectedPool>,
}

impl Choice {
    /// The CIDRs.
    pub(crate) fn cidrs(&self) -> Vec<IpNet> {
        self.pools.iter().map(cidr).collect()
    }

    /// The pool around a block.
    pub(crate) fn holds(&self, block: &IpNet) -> bool {
        self.pools.iter().any(|pool| cidr(pool).contains(block))
    }
}

pub(crate) fn cidr(pool: &IPPool) -> IpNet {
    pool.spec.cidr.net()
}

/// Chooses from all pools.
pub(crate) fn choose(
    pools: &[IPPool],
    wanted: &Wanted<'_>,
    labels: &Labels<'_>,
) -> Result<Choice, IpamError> {
    let mut choice = Choice::default();
    for pool in candidates(pools, wanted)? {
        match rejection(pool, wanted, labels)? {
            None => choice.pools.push(pool.clone()),
            Some(reason) => {
                choice.rejected.push(RejectedPool { pool: pool.metadata.name.clone(), reason });
            }
        }
    }
    Ok(choice)
}

/// The requested pools in the order of the request, or all of the family.
fn candidates<'p>(pools: &'p [IPPool], wanted: &Wanted<'_>) -> Result<Vec<&'p IPPool>, IpamError> {
    if wanted.requested.is_empty() {
        let of_family = |pool: &&IPPool| Family::of(&cidr(pool)) == wanted.family;
        return Ok(pools.iter().filter(of_family).collect());
    }
    if let Some(other) = wanted.requested.iter().find(|net| Family::of(net) != wanted.family) {
        return Err(IpamError::WrongFamily { cidr: *other, family: wanted.family });
    }
    let find = |net: &IpNet| {
        let enabled = pools.iter().find(|pool| cidr(pool) == net.trunc() && is_enabled(pool));
        enabled.ok_or(IpamError::PoolNotEnabled { cidr: *net })
    };
    wanted.requested.iter().map(find).collect()
}

fn rejection(
    pool: &IPPool,
    wanted: &Wanted<'_>,
    labels: &Labels<'_>,
) -> Result<Option<Rejection>, IpamError> {
    let is_requested = !wanted.requested.is_empty();
    let is_manual = pool.spec.assignment_mode == Some(AssignmentMode::Manual);
    Ok(match () {
        () if !is_enabled(pool) => Some(Rejection::Disabled),
        () if is_manual && !is_requested => Some(Rejection::Manual),
        () if !pool.spec.allows(wanted.usage) => Some(Rejection::Use),
        () if is_requested => None,
        () if !labels.node_matches(pool)? => Some(Rejection::Node),
        () if !labels.namespace_matches(pool)? => Some(Rejection::Namespace),
        () => None,
    })
}

/// Whether addresses may be assigned from it: not while it is disabled or being deleted.
pub(crate) fn is_enabled(pool: &IPPool) -> bool {
    !pool.spec.disabled && pool.metadata.deletion_timestamp.is_none()
}
