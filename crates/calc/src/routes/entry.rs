//! The facts about one CIDR.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contract::{Pool, Route, RouteType, TunnelKind};

/// Things that may be there several times over.
#[derive(Debug)]
pub(super) struct Counted<T>(BTreeMap<T, u32>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Counted<T> {
    /// Counts a thing in or out.
    pub(super) fn count(&mut self, thing: T, is_there: bool) {
        if is_there {
            *self.0.entry(thing).or_default() += 1;
        } else if let Some(count) = self.0.get_mut(&thing) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&thing);
            }
        }
    }

    fn first(&self) -> Option<&T> {
        self.0.keys().next()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Everything that is filed under one CIDR.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The pool with this CIDR.
    pub(super) pool: Option<Pool>,
    /// The owner of the block with this CIDR.
    pub(super) block: Option<Arc<str>>,
    /// Nodes that have this address of a block that is not their own.
    pub(super) borrowers: Counted<Arc<str>>,
    /// Nodes with this address.
    pub(super) hosts: Counted<Arc<str>>,
    /// Nodes of workloads with this address.
    pub(super) workloads: Counted<Arc<str>>,
    /// Nodes of tunnel devices with this address.
    pub(super) tunnels: Counted<(TunnelKind, Arc<str>)>,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.pool.is_none()
            && self.block.is_none()
            && self.borrowers.is_empty()
            && self.hosts.is_empty()
            && self.workloads.is_empty()
            && self.tunnels.is_empty()
    }

    /// Adds what this entry knows to the route of its CIDR or of one inside it.
    pub(super) fn describe(&self, route: &mut Route, our_name: &Arc<str>) {
        route.pool = self.pool.or(route.pool);
        let workload_at = |node: &Arc<str>| match node == our_name {
            true => RouteType::LocalWorkload,
            false => RouteType::RemoteWorkload,
        };
        for node in self.block.iter().chain(self.borrowers.first()) {
            route.types.insert(workload_at(node));
            route.node = Some(node.clone());
        }
        route.borrowed |= !self.borrowers.is_empty();
        if let Some(node) = self.hosts.first() {
            let is_ours = node == our_name;
            route.types.insert(if is_ours { RouteType::LocalHost } else { RouteType::RemoteHost });
            route.node = Some(node.clone());
        }
        if let Some((kind, node)) = self.tunnels.first() {
            let is_ours = node == our_name;
            route.types.insert(if is_ours { RouteType::LocalTunnel } else { RouteType::RemoteTunnel });
            route.node = Some(node.clone());
            route.tunnel = Some(*kind);
        }
        // A workload that runs here is what we know best; of those elsewhere any will do, but always the same.
        let ours = self.workloads.0.get_key_value(our_name).map(|(node, _)| node);
        if let Some(node) = ours.or_else(|| self.workloads.first()) {
            route.types.insert(workload_at(node));
            route.local_workload = ours.is_some();
            route.node = Some(node.clone());
            route.tunnel = None;
        }
    }
}
