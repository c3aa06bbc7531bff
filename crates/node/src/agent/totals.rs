//! How much the agent holds, for metrics.

use std::collections::BTreeSet;
use std::sync::Arc;

use calc::contract::{Change, IpSetId, PolicyId};

use crate::telemetry;

/// What there is now, counted from the changes that made it.
#[derive(Debug, Default)]
pub(super) struct Totals {
    policies: BTreeSet<PolicyId>,
    ip_sets: BTreeSet<IpSetId>,
    hosts: BTreeSet<Arc<str>>,
}

impl Totals {
    pub(super) fn on_change(&mut self, change: &Change) {
        match change {
            Change::PolicyUpdate { id, .. } => drop(self.policies.insert(id.clone())),
            Change::PolicyRemove { id } => drop(self.policies.remove(id)),
            Change::IpSetUpdate { id, .. } => drop(self.ip_sets.insert(id.clone())),
            Change::IpSetRemove { id } => drop(self.ip_sets.remove(id)),
            Change::HostUpdate { node, .. } => drop(self.hosts.insert(node.clone())),
            Change::HostRemove { node } => drop(self.hosts.remove(node)),
            _ => {}
        }
    }

    /// Sets the gauges.
    pub(super) fn publish(&self, endpoints: usize) {
        telemetry::gauge(telemetry::LOCAL_ENDPOINTS, endpoints);
        telemetry::gauge(telemetry::LOCAL_POLICIES, self.policies.len());
        telemetry::gauge(telemetry::IP_SETS, self.ip_sets.len());
        telemetry::gauge(telemetry::HOSTS, self.hosts.len());
    }
}
