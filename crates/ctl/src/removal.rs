//! Deleting what IPAM knows about: pools and nodes. Everything that depends on them goes first, so that a deletion that
//! was cut off is finished by the same command.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ::ipam::Release;
use anyhow::{Context, Result};
use api::{Kind, Resource};
use datastore::resources::ResourceError;

use crate::session::Session;

/// How long hosts get to notice that a pool is disabled, before its blocks are released (resources.md 4.1).
const DISABLED_GRACE: Duration = Duration::from_millis(500);

/// Prepares the deletion of a resource.
pub(crate) fn prepare(resource: &Resource, session: &Session) -> Result<()> {
    match resource {
        Resource::IPPool(pool) => release_pool(pool, session).with_context(|| {
            format!(
                "IPPool {} is disabled, but its blocks are not all released; try again",
                pool.metadata.name
            )
        }),
        Resource::Node(node) => remove_parts(&node.metadata.name, session)
            .with_context(|| format!("not everything of Node {} is removed; try again", node.metadata.name)),
        _ => Ok(()),
    }
}

fn release_pool(pool: &api::IPPool, session: &Session) -> Result<()> {
    if !pool.spec.disabled {
        session.resources().modify(Kind::IPPool, None, &pool.metadata.name, |before| {
            let mut after = before.clone();
            if let Resource::IPPool(pool) = &mut after {
                pool.spec.disabled = true;
            }
            Ok::<_, ResourceError>(after)
        })?;
        std::thread::sleep(DISABLED_GRACE);
    }
    session.ipam().release_pool_affinities(pool.spec.cidr.net())?;
    Ok(())
}

/// Removes a node's endpoints, addresses, blocks, automatic host endpoints, and the peers that are its alone.
fn remove_parts(node: &str, session: &Session) -> Result<()> {
    let resources = session.resources();
    let mut addresses = BTreeSet::new();
    for resource in resources.list(Kind::WorkloadEndpoint, None)?.items {
        let Resource::WorkloadEndpoint(endpoint) = resource else { continue };
        if endpoint.spec.node == node {
            let metadata = &endpoint.metadata;
            resources.delete(Kind::WorkloadEndpoint, metadata.namespace.as_deref(), &metadata.name, None)?;
            addresses.extend(endpoint.spec.ip_networks.iter().map(|net| net.addr()));
        }
    }
    release_addresses(node, &addresses, session)?;
    session.ipam().remove_host(node)?;
    for resource in resources.list(Kind::HostEndpoint, None)?.items {
        let Resource::HostEndpoint(endpoint) = resource else { continue };
        if endpoint.spec.node == node && endpoint.is_automatic() {
            resources.delete(Kind::HostEndpoint, None, &endpoint.metadata.name, None)?;
        }
    }
    for resource in resources.list(Kind::BGPPeer, None)?.items {
        let Resource::BGPPeer(peer) = resource else { continue };
        if peer.spec.node == node {
            resources.delete(Kind::BGPPeer, None, &peer.metadata.name, None)?;
        }
    }
    Ok(())
}

/// Releases what the node's endpoints had and what was assigned on the node's behalf, tunnel addresses too.
fn release_addresses(node: &str, addresses: &BTreeSet<IpAddr>, session: &Session) -> Result<()> {
    let ipam = session.ipam();
    let assignments = ipam.assignments()?;
    let is_nodes = |assignment: &&::ipam::Assignment| match assignment.attributes.get("node") {
        Some(of) => of == node,
        None => addresses.contains(&assignment.address),
    };
    let releases: Vec<_> = assignments
        .iter()
        .filter(is_nodes)
        .map(|assignment| Release {
            address: assignment.address,
            handle: assignment.handle.clone(),
            sequence: Some(assignment.sequence),
        })
        .collect();
    ipam.release_ips(&releases)?;
    Ok(())
}
