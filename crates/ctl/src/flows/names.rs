//! Whose addresses those are, by the endpoints and network sets of the datastore.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use api::wire::flows::Flow;
use api::{Kind, Resource};

use crate::Console;
use crate::cli::Global;
use crate::session::{Access, Session};

/// Addresses that are not known are looked for again after this: a pod may be new.
const AGAIN: Duration = Duration::from_secs(2);

/// The names; none where there is no datastore.
pub(super) struct Names {
    session: Option<Session>,
    known: BTreeMap<IpAddr, String>,
    looked: Option<Instant>,
}

impl Names {
    /// Of the datastore, if it can be opened: flows are worth showing without.
    pub(super) fn open(global: &Global, console: &Console<'_>) -> Self {
        let session = Session::open(global, console, Access::Existing).ok();
        Self { session, known: BTreeMap::new(), looked: None }
    }

    /// The addresses of a pod, wherever it is.
    pub(super) fn addresses(&mut self, pod: &str) -> Vec<IpAddr> {
        self.look();
        self.known.iter().filter(|(_, name)| *name == pod).map(|(address, _)| *address).collect()
    }

    /// Says who the ends of a flow are.
    pub(super) fn fill_in(&mut self, flow: &mut Flow) {
        let unknown = [flow.source.address, flow.destination.address]
            .iter()
            .any(|address| !self.known.contains_key(address));
        if unknown && self.looked.is_none_or(|looked| looked.elapsed() >= AGAIN) {
            self.look();
        }
        for end in [&mut flow.source, &mut flow.destination] {
            end.name = self.known.get(&end.address).cloned();
        }
    }

    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let Some(session) = &self.session else { return };
        let Ok(endpoints) = session.resources().list(Kind::WorkloadEndpoint, None) else { return };
        self.known.clear();
        for resource in endpoints.items {
            let Resource::WorkloadEndpoint(endpoint) = resource else { continue };
            let namespace = endpoint.metadata.namespace.as_deref().unwrap_or_default();
            let name = match endpoint.spec.pod.is_empty() {
                true => format!("{namespace}/{}", endpoint.spec.container_id),
                false => format!("{namespace}/{}", endpoint.spec.pod),
            };
            let addresses = endpoint.spec.ip_networks.iter().map(|net| net.net().addr());
            self.known.extend(addresses.map(|address| (address, name.clone())));
        }
    }
}
