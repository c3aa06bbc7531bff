//! The addresses that workloads dial, with those on their way out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an address stays that the plan has dropped: the kernel sends nothing from an address that is gone, and peers are
/// to hear why their session ends.
const LINGER: Duration = Duration::from_secs(1);

/// Addresses by interface.
pub(super) type Addresses = BTreeMap<Arc<str>, BTreeSet<IpAddr>>;

/// What the plan wants, and what it wanted a moment ago.
#[derive(Debug, Default)]
pub(super) struct Peering {
    wanted: Addresses,
    leaving: BTreeMap<(Arc<str>, IpAddr), Instant>,
    /// What is wanted has changed since the last look.
    changed: bool,
}

impl Peering {
    /// The plan wants these.
    pub(super) fn set(&mut self, wanted: &Addresses, now: Instant) {
        if self.wanted == *wanted {
            return;
        }
        self.changed = true;
        let before = std::mem::replace(&mut self.wanted, wanted.clone());
        for (interface, addresses) in before {
            for address in addresses {
                self.leaving.insert((interface.clone(), address), now + LINGER);
            }
        }
        self.leaving.retain(|(interface, address), _| !has(wanted, interface, *address));
    }

    /// What is to be there, if that has changed.
    pub(super) fn news(&mut self, now: Instant) -> Option<Addresses> {
        let gone = self.leaving.extract_if(.., |_, until| *until <= now).count();
        (std::mem::take(&mut self.changed) || gone > 0).then(|| self.present())
    }

    fn present(&self) -> Addresses {
        let mut present = self.wanted.clone();
        for (interface, address) in self.leaving.keys() {
            present.entry(interface.clone()).or_default().insert(*address);
        }
        present
    }

    /// When that changes by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.leaving.values().min().copied()
    }
}

fn has(addresses: &Addresses, interface: &str, address: IpAddr) -> bool {
    addresses.get(interface).is_some_and(|all| all.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(pairs: &[(&str, &str)]) -> Addresses {
        let mut addresses = Addresses::new();
        for (interface, address) in pairs {
            addresses.entry((*interface).into()).or_default().insert(address.parse().unwrap());
        }
        addresses
    }

    #[test]
    fn what_comes_is_there_at_once_and_what_goes_a_moment_later() {
        let (mut peering, now) = (Peering::default(), Instant::now());
        peering.set(&on(&[("cali1", "169.254.0.1"), ("cali2", "169.254.0.1")]), now);
        assert_eq!((peering.news(now).unwrap().len(), peering.next_deadline()), (2, None));
        assert_eq!(peering.news(now), None);
        peering.set(&on(&[("cali1", "169.254.0.2"), ("cali2", "169.254.0.1")]), now);
        let both = on(&[("cali1", "169.254.0.1"), ("cali1", "169.254.0.2"), ("cali2", "169.254.0.1")]);
        assert_eq!((peering.news(now), peering.next_deadline()), (Some(both), Some(now + LINGER)));
        let then = now + LINGER;
        let left = on(&[("cali1", "169.254.0.2"), ("cali2", "169.254.0.1")]);
        assert_eq!((peering.news(then), peering.news(then)), (Some(left), None));
        assert_eq!(peering.next_deadline(), None);
    }

    #[test]
    fn what_comes_back_in_time_stays() {
        let (mut peering, now) = (Peering::default(), Instant::now());
        let addresses = on(&[("cali1", "169.254.0.1")]);
        peering.set(&addresses, now);
        peering.set(&Addresses::new(), now);
        peering.set(&addresses, now + LINGER / 2);
        assert_eq!((peering.news(now + LINGER * 2), peering.next_deadline()), (Some(addresses), None));
    }
}
