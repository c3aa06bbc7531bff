//! Who has which address of a workload, and whose connections are to be forgotten before an address is used.
//!
//! What the kernel tracks as established passes without policy, so an address must not reach its next owner together with
//! the connections of the one before (datapath.md 2.3). An address whose owner has lost it is *stale*: once its route is
//! gone its connections are deleted, and only then may somebody have it. Whoever wants it meanwhile is held back, and so is
//! whoever wants one that somebody else still has.
//!
//! After a restart the owners are read from the routes that the kernel has, so nothing of an endpoint that lives on is
//! deleted. An address that has connections but no route at that time (its owner went while no node ran) is a *suspect*:
//! its connections are deleted before somebody gets it.
//!
//! An owner is an interface together with the endpoint on it. Memory only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calc::contract::WorkloadEndpointId;

/// Shortest and longest time until a stale address is looked at again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Whether an interface may have an address now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is its own.
    Granted,
    /// When the connections of the owner before are gone.
    AfterCleaning,
    /// When this interface does not have it any more.
    Taken(Arc<str>),
}

/// See the documentation of the module.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    interfaces: BTreeMap<Arc<str>, Holding>,
    by_address: BTreeMap<IpAddr, Arc<str>>,
    stale: BTreeMap<IpAddr, Stale>,
    /// Interfaces that wait for an address.
    held_back: BTreeMap<IpAddr, BTreeSet<Arc<str>>>,
    suspects: BTreeSet<IpAddr>,
}

/// What an interface has.
#[derive(Debug, Default)]
struct Holding {
    /// Not known of one that an earlier process has left.
    endpoint: Option<WorkloadEndpointId>,
    addresses: BTreeSet<IpAddr>,
}

/// Of an address whose connections are to be deleted.
#[derive(Debug, Default)]
struct Stale {
    /// Who had it; nobody that is known of a suspect.
    interface: Option<Arc<str>>,
    endpoint: Option<WorkloadEndpointId>,
    attempts: u32,
    next_try: Option<Instant>,
    /// Why they could not be deleted.
    why: Option<String>,
}

impl Owners {
    /// A route that an earlier process has left says whose the address is.
    pub(crate) fn adopt(&mut self, address: IpAddr, interface: &Arc<str>) {
        self.by_address.insert(address, interface.clone());
        self.interfaces.entry(interface.clone()).or_default().addresses.insert(address);
    }

    /// Addresses that have connections, whoever's they are.
    pub(crate) fn suspect(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        let Self { suspects, by_address, .. } = self;
        suspects.extend(addresses.into_iter().filter(|address| !by_address.contains_key(address)));
    }

    /// Interfaces that have addresses.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.interfaces.keys()
    }

    /// From now on the interface wants no more than these addresses, for that endpoint.
    pub(crate) fn keep(
        &mut self,
        interface: &Arc<str>,
        endpoint: Option<&WorkloadEndpointId>,
        wanted: &BTreeSet<IpAddr>,
    ) {
        self.held_back.retain(|address, waiting| {
            if !wanted.contains(address) {
                waiting.remove(interface);
            }
            !waiting.is_empty()
        });
        let Some(holding) = self.interfaces.get_mut(interface) else { return };
        // Another endpoint on the same interface inherits nothing.
        let other = holding.endpoint.is_some() && holding.endpoint.as_ref() != endpoint;
        let lost: Vec<IpAddr> =
            holding.addresses.iter().copied().filter(|address| other || !wanted.contains(address)).collect();
        lost.into_iter().for_each(|address| self.lose(address));
    }

    fn lose(&mut self, address: IpAddr) {
        let Some(interface) = self.by_address.remove(&address) else { return };
        let mut endpoint = None;
        if let Some(holding) = self.interfaces.get_mut(&interface) {
            endpoint = holding.endpoint.clone();
            holding.addresses.remove(&address);
            if holding.addresses.is_empty() {
                self.interfaces.remove(&interface);
            }
        }
        self.stale.insert(address, Stale { interface: Some(interface), endpoint, ..Stale::default() });
    }

    /// The endpoint on an interface wants an address. An owner that cannot have it (its interface is not there, as
    /// `is_usable` says) loses it.
    pub(crate) fn claim(
        &mut self,
        interface: &Arc<str>,
        endpoint: &WorkloadEndpointId,
        address: IpAddr,
        is_usable: impl Fn(&str) -> bool,
    ) -> Claim {
        if let Some(owner) = self.by_address.get(&address).filter(|owner| *owner != interface).cloned() {
            if is_usable(&owner) {
                self.hold_back(address, interface);
                return Claim::Taken(owner);
            }
            self.lose(address);
        }
        if self.suspects.remove(&address) {
            self.stale.entry(address).or_default();
        }
        // What was taken from an interface because nobody had named it yet goes back as it was.
        let left_by_earlier =
            |stale: &Stale| stale.endpoint.is_none() && stale.interface.as_ref() == Some(interface);
        if self.stale.get(&address).is_some_and(left_by_earlier) {
            self.stale.remove(&address);
        }
        if let Some(stale) = self.stale.get_mut(&address) {
            stale.next_try = stale.next_try.filter(|_| stale.why.is_some());
            self.hold_back(address, interface);
            return Claim::AfterCleaning;
        }
        self.by_address.insert(address, interface.clone());
        let holding = self.interfaces.entry(interface.clone()).or_default();
        holding.endpoint = Some(endpoint.clone());
        holding.addresses.insert(address);
        Claim::Granted
    }

    fn hold_back(&mut self, address: IpAddr, interface: &Arc<str>) {
        self.held_back.entry(address).or_default().insert(interface.clone());
    }

    /// Who has an address that this interface waits for.
    pub(crate) fn owner_of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.by_address.get(&address)
    }

    /// All interfaces that wait for an address.
    pub(crate) fn held_back(&self) -> BTreeSet<Arc<str>> {
        self.held_back.values().flatten().cloned().collect()
    }

    /// Whether an endpoint has lost an address whose connections are still there.
    pub(crate) fn is_leaving(&self, endpoint: &WorkloadEndpointId) -> bool {
        self.stale.values().any(|stale| stale.endpoint.as_ref() == Some(endpoint))
    }

    /// The stale addresses whose turn it is, without those that the kernel still routes to their last owner: their turn
    /// comes later.
    pub(crate) fn due(&mut self, now: Instant, is_routed: impl Fn(IpAddr, &str) -> bool) -> BTreeSet<IpAddr> {
        let mut due = BTreeSet::new();
        for (address, stale) in &mut self.stale {
            if stale.next_try.is_some_and(|next| next > now) {
                continue;
            }
            match &stale.interface {
                Some(interface) if is_routed(*address, interface) => stale.put_off(now),
                _ => {
                    due.insert(*address);
                }
            }
        }
        due
    }

    /// The connections of an address are gone. Gives the interfaces that waited for that.
    pub(crate) fn cleaned(&mut self, address: IpAddr) -> BTreeSet<Arc<str>> {
        self.stale.remove(&address);
        self.suspects.remove(&address);
        self.held_back.remove(&address).unwrap_or_default()
    }

    /// The connections of an address could not be deleted.
    pub(crate) fn failed(&mut self, address: IpAddr, why: String, now: Instant) {
        if let Some(stale) = self.stale.get_mut(&address) {
            stale.put_off(now);
            stale.why = Some(why);
        }
    }

    /// Addresses whose connections could not be deleted, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.stale.iter().filter_map(|(address, stale)| Some((*address, stale.why.as_deref()?)))
    }

    /// When the next stale address has its turn.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.stale.values().filter_map(|stale| stale.next_try).min()
    }
}

impl Stale {
    fn put_off(&mut self, now: Instant) {
        let pause = RETRY.0.saturating_mul(2_u32.saturating_pow(self.attempts)).min(RETRY.1);
        self.attempts = self.attempts.saturating_add(1);
        self.next_try = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> WorkloadEndpointId {
        WorkloadEndpointId { orchestrator: "cni".into(), workload: name.into(), endpoint: "eth0".into() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const HERE: fn(&str) -> bool = |_| true;

    fn claim(owners: &mut Owners, interface: &str, endpoint: &str, address: &str) -> Claim {
        owners.claim(&interface.into(), &id(endpoint), ip(address), HERE)
    }

    fn due(owners: &mut Owners, now: Instant) -> Vec<IpAddr> {
        owners.due(now, |_, _| false).into_iter().collect()
    }

    #[test]
    fn an_address_goes_on_only_after_cleaning_and_whoever_waits_is_named() {
        let (mut owners, now) = (Owners::default(), Instant::now());
        assert_eq!(claim(&mut owners, "cali1", "one", "10.0.0.1"), Claim::Granted);
        assert_eq!(claim(&mut owners, "cali2", "two", "10.0.0.1"), Claim::Taken("cali1".into()));
        assert!(due(&mut owners, now).is_empty());
        owners.keep(&"cali1".into(), None, &BTreeSet::new());
        assert!(owners.is_leaving(&id("one")));
        assert_eq!(claim(&mut owners, "cali2", "two", "10.0.0.1"), Claim::AfterCleaning);
        assert_eq!(due(&mut owners, now), [ip("10.0.0.1")]);
        assert_eq!(owners.cleaned(ip("10.0.0.1")), ["cali2".into()].into());
        assert!(!owners.is_leaving(&id("one")));
        assert_eq!(claim(&mut owners, "cali2", "two", "10.0.0.1"), Claim::Granted);
        assert!(owners.held_back().is_empty() && owners.next_try().is_none());
    }

    #[test]
    fn another_endpoint_on_the_same_interface_inherits_nothing() {
        let mut owners = Owners::default();
        claim(&mut owners, "cali1", "one", "10.0.0.1");
        owners.keep(&"cali1".into(), Some(&id("two")), &[ip("10.0.0.1")].into());
        assert_eq!(claim(&mut owners, "cali1", "two", "10.0.0.1"), Claim::AfterCleaning);
    }

    #[test]
    fn what_the_kernel_routes_after_a_restart_is_nobodys_loss() {
        let mut owners = Owners::default();
        owners.adopt(ip("10.0.0.1"), &"cali1".into());
        owners.suspect([ip("10.0.0.1"), ip("10.0.0.2")]);
        // Nobody has named the interface yet; then somebody does.
        owners.keep(&"cali1".into(), None, &BTreeSet::new());
        assert_eq!(claim(&mut owners, "cali1", "one", "10.0.0.1"), Claim::Granted);
        assert!(due(&mut owners, Instant::now()).is_empty());
        assert_eq!(claim(&mut owners, "cali2", "two", "10.0.0.2"), Claim::AfterCleaning);
        assert_eq!(claim(&mut owners, "cali3", "three", "10.0.0.3"), Claim::Granted);
    }

    #[test]
    fn an_owner_whose_interface_is_gone_is_in_nobodys_way() {
        let mut owners = Owners::default();
        claim(&mut owners, "cali1", "one", "10.0.0.1");
        let outcome = owners.claim(&"cali2".into(), &id("two"), ip("10.0.0.1"), |_| false);
        assert_eq!(outcome, Claim::AfterCleaning);
        assert!(owners.is_leaving(&id("one")));
    }

    #[test]
    fn a_route_that_is_still_there_and_a_failure_put_off_later_and_later() {
        let (mut owners, mut now) = (Owners::default(), Instant::now());
        claim(&mut owners, "cali1", "one", "10.0.0.1");
        owners.keep(&"cali1".into(), None, &BTreeSet::new());
        assert!(owners.due(now, |_, interface| interface == "cali1").is_empty());
        assert_eq!(owners.next_try(), Some(now + RETRY.0));
        now += RETRY.0;
        assert_eq!(due(&mut owners, now), [ip("10.0.0.1")]);
        owners.failed(ip("10.0.0.1"), "no memory".to_owned(), now);
        assert_eq!(owners.next_try(), Some(now + 2 * RETRY.0));
        assert_eq!(owners.failures().collect::<Vec<_>>(), [(ip("10.0.0.1"), "no memory")]);
        // Waiting for it does not make a failing kernel be asked more often.
        claim(&mut owners, "cali2", "two", "10.0.0.1");
        assert!(due(&mut owners, now).is_empty());
    }
}
