//! Who waits for an endpoint.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use calc::contract::{WorkloadEndpoint, WorkloadEndpointId};
use dataplane::RealDataplane;

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The kernel has the endpoint with exactly these addresses.
    Programmed(BTreeSet<IpAddr>),
    /// The kernel has the endpoint.
    AnyProgrammed,
    /// The kernel does not have it.
    Withdrawn,
}

impl Condition {
    fn holds(&self, programmed: Option<&Arc<WorkloadEndpoint>>) -> bool {
        match (self, programmed) {
            (Self::Programmed(addresses), Some(endpoint)) => {
                let nets = endpoint.ipv4_nets.iter().chain(&endpoint.ipv6_nets);
                nets.map(|net| net.addr()).collect::<BTreeSet<_>>() == *addresses
            }
            (Self::AnyProgrammed, programmed) => programmed.is_some(),
            (Self::Withdrawn, programmed) => programmed.is_none(),
            (Self::Programmed(_), None) => false,
        }
    }
}

/// One that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// For which endpoint.
    pub(crate) id: WorkloadEndpointId,
    /// For what.
    pub(crate) condition: Condition,
    /// How to tell it.
    pub(crate) told: SyncSender<()>,
    /// When it gives up.
    pub(crate) deadline: Instant,
}

/// All that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

impl Waiters {
    pub(crate) fn add(&mut self, waiter: Waiter) {
        self.0.push(waiter);
    }

    /// Tells those whose condition holds, and forgets those that gave up.
    pub(crate) fn tell(&mut self, dataplane: &RealDataplane, now: Instant) {
        self.0.retain(|waiter| {
            if waiter.condition.holds(dataplane.programmed(&waiter.id)) {
                // One that has given up meanwhile does not listen any more.
                let _ = waiter.told.try_send(());
                return false;
            }
            waiter.deadline > now
        });
    }

    /// When the first of them gives up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|waiter| waiter.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(nets: &[&str]) -> Arc<WorkloadEndpoint> {
        Arc::new(WorkloadEndpoint {
            active: true,
            interface: "cali1".into(),
            mac: None,
            ipv4_nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
            ipv6_nets: Vec::new(),
            tiers: Vec::new(),
            profiles: Vec::new(),
            allow_spoofed_source_prefixes: Vec::new(),
        })
    }

    #[test]
    fn an_endpoint_with_other_addresses_is_not_the_one_waited_for() {
        let wanted = Condition::Programmed(["10.0.0.2".parse().unwrap()].into());
        assert!(!wanted.holds(None));
        assert!(!wanted.holds(Some(&endpoint(&["10.0.0.1/32"]))));
        assert!(wanted.holds(Some(&endpoint(&["10.0.0.2/32"]))));
        assert!(Condition::Withdrawn.holds(None) && !Condition::Withdrawn.holds(Some(&endpoint(&[]))));
    }
}
