//! The apply loop on kernels in memory.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use calc::contract::*;
use dataplane::iptables::tools::NoTools;
use dataplane::{ApplyReport, Dataplane, DataplaneConfig, Kernel};
use kernel::fake::FakeKernel;
use kernel::nft::{Fake, TableId};

use crate::common::*;

/// A dataplane over kernels in memory.
pub type FakeDataplane = Dataplane<Fake, FakeKernel, FakeKernel, FakeKernel>;

/// A kernel in memory and a dataplane over it.
pub struct Bench {
    pub nft: Fake,
    pub kernel: FakeKernel,
    pub dataplane: FakeDataplane,
    pub now: Instant,
}

fn start(nft: &Fake, kernel: &FakeKernel) -> FakeDataplane {
    let config = DataplaneConfig { node_name: "node".to_owned(), ..DataplaneConfig::default() };
    // Each table is written over a socket of its own.
    let kernel = Kernel {
        nft_v4: nft.other_client(),
        nft_v6: nft.other_client(),
        nft_arp: nft.other_client(),
        iptables: Arc::new(NoTools),
        routes: kernel.clone(),
        interfaces: kernel.clone(),
        connections: kernel.clone(),
    };
    Dataplane::new(config, kernel)
}

impl Bench {
    pub fn new() -> Self {
        let (nft, kernel) = (Fake::new(), FakeKernel::new());
        for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/default/rp_filter"]
        {
            kernel.put_sysctl(path, "0");
        }
        kernel.add_link("cali1", true);
        kernel.add_link("cali2", true);
        let dataplane = start(&nft, &kernel);
        Self { nft, kernel, dataplane, now: Instant::now() }
    }

    pub fn take(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.dataplane.on_change(change));
    }

    pub fn apply(&mut self) -> ApplyReport {
        self.dataplane.apply(self.now)
    }

    pub fn play(&mut self, changes: impl IntoIterator<Item = Change>) -> ApplyReport {
        self.take(changes);
        self.apply()
    }

    /// Applies when the dataplane asks for it, until it has nothing to complain of.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            let report = self.apply();
            let Some(next) = report.next_apply else {
                assert!(report.errors.is_empty(), "{:?}", report.errors);
                return;
            };
            self.now = next;
        }
        panic!("does not settle: {:?}", self.apply().errors);
    }

    pub fn restart(&mut self) {
        self.dataplane = start(&self.nft, &self.kernel);
    }

    /// Chains with the texts of their rules, and sets with their members, of both tables.
    pub fn tables(&self) -> BTreeMap<TableId, String> {
        let tables = self.nft.tables().into_iter();
        tables.map(|(id, state)| (id, describe(&state))).collect()
    }

    pub fn routes(&self) -> Vec<String> {
        let mut routes: Vec<String> = self.kernel.current_routes().iter().map(ToString::to_string).collect();
        routes.sort();
        routes
    }
}

/// Without handles, which differ by the way.
fn describe(state: &kernel::nft::TableState) -> String {
    let chains: Vec<String> = state
        .chains
        .iter()
        .map(|(name, chain)| {
            let rules: Vec<String> = chain.rules.iter().map(|rule| format!("{:?}", rule.body)).collect();
            format!("{name} {:?}\n{}", chain.base, rules.join("\n"))
        })
        .collect();
    format!("{}\n{:#?}", chains.join("\n"), state.sets)
}

/// Two workloads, a policy with a set, a profile and a pool.
pub fn scene() -> Vec<Change> {
    let tiers = vec![tier("default", TierDefault::Deny, &["web"], &[])];
    vec![
        net_set("s:a", &["10.65.0.2/32"]),
        policy("web", vec![from_set(Action::Allow, "s:a")], vec![]),
        open_profile(),
        Change::PoolUpdate {
            cidr: "10.65.0.0/16".parse().unwrap(),
            pool: Pool { nat_outgoing: true, ..Pool::default() },
        },
        endpoint("one", workload("cali1", "10.65.0.1", tiers)),
        endpoint("two", workload("cali2", "10.65.0.2", vec![])),
        Change::InSync,
    ]
}
