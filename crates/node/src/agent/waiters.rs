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
    /// The kernel has the endpoint like this.
    Programmed(Programmed),
    /// The kernel has the endpoint.
    AnyProgrammed,
    /// Nobody wants it, and the kernel has nothing of it: no rules, no routes, no tracked connections.
    Withdrawn,
}

/// An endpoint with exactly these addresses behind exactly this link: one of the same name may have been there before, and
/// its end may not have been heard of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programmed {
    /// Addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Number of the host's end.
    pub(crate) link: u32,
}

impl Condition {
    /// Given the endpoint as the kernel has it, with the number of its link, and whether the kernel has nothing of it.
    fn holds(&self, programmed: Option<(&Arc<WorkloadEndpoint>, Option<u32>)>, withdrawn: bool) -> bool {
        match (self, programmed) {
            (Self::Programmed(wanted), Some((endpoint, link))) => {
                let nets = endpoint.ipv4_nets.iter().chain(&endpoint.ipv6_nets);
                let addresses: BTreeSet<_> = nets.map(|net| net.addr()).collect();
                addresses == wanted.addresses && link == Some(wanted.link)
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
            let programmed = dataplane.programmed(&waiter.id);
            let programmed = programmed.map(|endpoint| (endpoint, dataplane.link(&endpoint.interface)));
            if waiter.condition.holds(programmed, dataplane.is_withdrawn(&waiter.id)) {
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
            qos: calc::contract::Qos::default(),
        })
    }

    #[test]
    fn an_endpoint_with_other_addresses_or_another_link_is_not_the_one_waited_for() {
        let wanted = Programmed { addresses: ["10.0.0.2".parse().unwrap()].into(), link: 7 };
        let wanted = Condition::Programmed(wanted);
        let [this, other] = ["10.0.0.2/32", "10.0.0.1/32"].map(|net| endpoint(&[net]));
        assert!(!wanted.holds(None, true));
        assert!(!wanted.holds(Some((&other, Some(7))), false));
        assert!(!wanted.holds(Some((&this, Some(6))), false));
        assert!(wanted.holds(Some((&this, Some(7))), false));
    }

    #[test]
    fn an_endpoint_that_is_not_programmed_is_not_withdrawn_for_that() {
        assert!(Condition::Withdrawn.holds(None, true));
        assert!(!Condition::Withdrawn.holds(None, false));
    }
}
