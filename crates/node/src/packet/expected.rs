//! The kernel as it should be: the node's calculation and dataplane over a kernel in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use calc::cluster::Cluster;
use calc::contract::IpSetId;
use dataplane::iptables::tools::NoTools;
use dataplane::{Dataplane, DataplaneConfig, Kernel};
use kernel::fake::FakeKernel;
use kernel::monitor::Event;
use kernel::nft::{Fake, TableId, TableState};

/// What the kernel should hold.
pub(super) struct Expected {
    nft: Fake,
    /// What the sets stand for, by their names in the kernel.
    pub(super) meanings: BTreeMap<String, String>,
}

impl Expected {
    /// From all rows, and the host's links and addresses, since host endpoints are found by them.
    pub(super) fn of(
        cluster: &Cluster,
        config: &DataplaneConfig,
        host: impl IntoIterator<Item = Event>,
    ) -> Self {
        let (nft, kernel) = (Fake::new(), FakeKernel::new());
        let mut dataplane = Dataplane::new(
            config.clone(),
            Kernel {
                nft_v4: nft.other_client(),
                nft_v6: nft.other_client(),
                nft_arp: nft.other_client(),
                iptables: Arc::new(NoTools),
                routes: kernel.clone(),
                interfaces: kernel.clone(),
                connections: kernel,
            },
        );
        host.into_iter().for_each(|event| dataplane.on_event(&event));
        let mut graph = cluster.graph(&config.node_name);
        graph.flush().into_iter().for_each(|change| dataplane.on_change(change));
        // The kernel in memory has neither links nor settings, so routes stay out; rules come first and need neither.
        dataplane.apply(Instant::now());
        Self { nft, meanings: kernel_names(graph.set_meanings()) }
    }

    /// One of its tables; empty if it should not be there.
    pub(super) fn table(&self, id: &TableId) -> TableState {
        self.nft.state(id).unwrap_or_default()
    }
}

/// By every name that a set can have in the kernel.
fn kernel_names(meanings: BTreeMap<IpSetId, String>) -> BTreeMap<String, String> {
    use calc::contract::IpVersion::{V4, V6};
    use dataplane::ip_sets::{Shape, kernel_name};
    let mut names = BTreeMap::new();
    for (id, meaning) in meanings {
        for version in [V4, V6] {
            for shape in [Shape::Addresses, Shape::Networks] {
                names.insert(kernel_name(&id, shape, version), meaning.clone());
            }
        }
    }
    names
}
