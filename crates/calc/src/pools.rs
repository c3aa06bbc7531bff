//! IP pools as the dataplane and the route resolver see them: by CIDR.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::contract::Pool;
use crate::published::{Differences, Published};

/// Pools by name and by CIDR. Two pools never have the same CIDR for long; while they do, the first by name counts.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_name: BTreeMap<String, IpNet>,
    by_cidr: BTreeMap<IpNet, BTreeMap<String, Pool>>,
    published: Published<IpNet, Pool>,
}

impl Pools {
    /// Adds, replaces or removes a pool; returns the CIDRs that now have another pool (or none).
    pub(crate) fn set(&mut self, name: &str, pool: Option<(IpNet, Pool)>) -> Vec<(IpNet, Option<Pool>)> {
        let old = match pool {
            Some((cidr, _)) => self.by_name.insert(name.to_owned(), cidr),
            None => self.by_name.remove(name),
        };
        if let Some(pools) = old.and_then(|cidr| self.by_cidr.get_mut(&cidr)) {
            pools.remove(name);
        }
        if let Some((cidr, pool)) = pool {
            self.by_cidr.entry(cidr).or_default().insert(name.to_owned(), pool);
        }
        self.by_cidr.retain(|_, pools| !pools.is_empty());
        let mut touched: Vec<IpNet> = old.into_iter().chain(pool.map(|(cidr, _)| cidr)).collect();
        touched.dedup();
        touched.into_iter().map(|cidr| (cidr, self.publish(cidr))).collect()
    }

    /// Pools that changed, and CIDRs that have none any more.
    pub(crate) fn flush(&mut self) -> Differences<IpNet, Pool> {
        self.published.drain()
    }

    pub(crate) fn size(&self) -> usize {
        self.by_name.len() + self.by_cidr.len() + self.published.len()
    }

    fn publish(&mut self, cidr: IpNet) -> Option<Pool> {
        let pool = self.by_cidr.get(&cidr).and_then(|pools| pools.values().next()).copied();
        self.published.set(cidr, pool);
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_pools_with_one_cidr_the_first_by_name_counts() {
        let cidr: IpNet = "10.0.0.0/16".parse().unwrap();
        let (plain, nat) = (Pool::default(), Pool { nat_outgoing: true, ..Pool::default() });
        let mut pools = Pools::default();
        assert_eq!(pools.set("b", Some((cidr, nat))), [(cidr, Some(nat))]);
        assert_eq!(pools.set("a", Some((cidr, plain))), [(cidr, Some(plain))]);
        assert_eq!(pools.flush().updates, [(cidr, plain)]);
        assert_eq!(pools.set("a", None), [(cidr, Some(nat))]);
        assert_eq!(pools.set("b", None), [(cidr, None)]);
        assert_eq!(pools.flush().removals, [cidr]);
        assert_eq!(pools.size(), 0);
    }
}
