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
    /// Nobody wants it, and the kernel has nothing of it: no rules, no routes, no tracked connections.
    Withdrawn,
}

impl Condition {
    /// Given the endpoint as the kernel has it, and whether that has nothing of it.
    fn holds(&self, programmed: Option<&Arc<WorkloadEndpoint>>, withdrawn: bool) -> bool {
        match (self, programmed) {
            (Self::Programmed(addresses), Some(endpoint)) => {
                let nets = endpoint.ipv4_nets.iter().chain(&endpoint.ipv6_nets);
                nets.map(|net| net.addr()).collect::<BTreeSet<_>>() == *addresses
            }
            (Self::AnyProgrammed, programmed) => programmed.is_some(),
            (Self::Withdrawn, _) => withdrawn,
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
            let (programmed, withdrawn) =
                (dataplane.programmed(&waiter.id), dataplane.is_withdrawn(&waiter.id));
            if waiter.condition.holds(programmed, withdrawn) {
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
        assert!(!wanted.holds(None, true));
        assert!(!wanted.holds(Some(&endpoint(&["10.0.0.1/32"])), false));
        assert!(wanted.holds(Some(&endpoint(&["10.0.0.2/32"])), false));
    }

    #[test]
    fn an_endpoint_that_is_not_programmed_is_not_withdrawn_for_that() {
        assert!(Condition::Withdrawn.holds(None, true));
        assert!(!Condition::Withdrawn.holds(None, false));
    }
}
