//! Workloads of this node that it peers with: who they are, and by which addresses they find it.
//!
//! A workload that several `BGPPeer`s select belongs to the first of them by name, as in Calico. Sessions are with its
//! first address of each family. It dials; the node has an address on its interface for that, the same for all workloads
//! of the cluster, so that what runs in them need not know where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::selector::Selector;
use api::{BGPConfigurationSpec, BGPPeerSpec, WorkloadEndpoint};
use ipnet::IpNet;

use super::peers::{Remote, Sessions, add};
use super::planner::{BgpPlanner, NodeRow};
use super::problems::Problem;
use super::types::{Peer, PeerSource};
use crate::convert::workload_labels;

/// Namespace and name.
pub(super) type WorkloadKey = (String, String);

/// What counts of a workload of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorkloadRow {
    /// Its own, and those that Calico gives to each.
    labels: BTreeMap<String, String>,
    /// Profiles, whose labels it has where it has none itself.
    profiles: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) interface: Arc<str>,
}

impl WorkloadRow {
    pub(super) fn of(namespace: &str, endpoint: &WorkloadEndpoint) -> Self {
        let labels = workload_labels(endpoint, namespace);
        Self {
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            profiles: endpoint.spec.profiles.clone(),
            addresses: endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect(),
            interface: endpoint.spec.interface_name.as_str().into(),
        }
    }

    /// The first address of each family.
    fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let first = |v6| self.addresses.iter().copied().find(move |address| address.is_ipv6() == v6);
        [false, true].into_iter().filter_map(first)
    }
}

/// What there is for the workloads that this node peers with.
#[derive(Debug, Default)]
pub(super) struct PeeringWorkloads {
    /// What the host has on their interfaces.
    pub(super) peering_addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// The interfaces behind which their addresses are.
    pub(super) links: BTreeMap<IpNet, Arc<str>>,
}

impl PeeringWorkloads {
    /// The addresses that any of them dials.
    pub(super) fn dialled_addresses(&self) -> BTreeSet<IpAddr> {
        self.peering_addresses.values().flatten().copied().collect()
    }
}

/// A workload, and the `BGPPeer` that has it.
type Selected<'a> = (&'a WorkloadRow, &'a str, &'a BGPPeerSpec);

impl BgpPlanner {
    /// Adds the sessions with workloads, and says what else there has to be for them.
    pub(super) fn add_local_workloads(
        &self,
        us: &NodeRow,
        sessions: &mut Sessions,
        problems: &mut BTreeSet<Problem>,
    ) -> PeeringWorkloads {
        let own = self.dialled_addresses(us, problems);
        let mut found = PeeringWorkloads::default();
        for (workload, name, spec) in self.selected_workloads(us) {
            for address in workload.peers() {
                let dialled = own.iter().copied().find(|own| own.is_ipv6() == address.is_ipv6());
                let session = self.workload_session(us, (address, name), spec);
                let session = session.map(|peer| Peer { source_address: dialled, ..peer });
                session.into_iter().for_each(|peer| add(sessions, peer));
                if workload.interface.is_empty() {
                    continue;
                }
                found.links.insert(address.into(), workload.interface.clone());
                if let Some(dialled) = dialled {
                    found.peering_addresses.entry(workload.interface.clone()).or_default().insert(dialled);
                }
            }
        }
        found
    }

    fn selected_workloads<'a>(&'a self, us: &NodeRow) -> Vec<Selected<'a>> {
        let selecting = |(name, spec): (&'a String, &'a BGPPeerSpec)| {
            let is_ours = !spec.local_workload_selector.is_empty()
                && spec.as_number.is_some()
                && self.source_for_us(us, name, spec).is_some();
            let selector = is_ours.then(|| Selector::parse(&spec.local_workload_selector).ok()).flatten()?;
            Some((selector, name.as_str(), spec))
        };
        let peers: Vec<_> = self.peers.iter().filter_map(selecting).collect();
        if peers.is_empty() {
            return Vec::new();
        }
        let workloads = self.workloads.values().filter_map(|workload| {
            let labels = self.labels_of(workload);
            let (_, name, spec) = peers.iter().find(|(selector, ..)| selector.matches(&labels[..]))?;
            Some((workload, *name, *spec))
        });
        workloads.collect()
    }

    /// Own labels first, then those of the profiles in the workload's order.
    fn labels_of<'a>(&'a self, workload: &'a WorkloadRow) -> Vec<&'a BTreeMap<String, String>> {
        let inherited = workload.profiles.iter().filter_map(|profile| self.profiles.get(profile));
        std::iter::once(&workload.labels).chain(inherited).collect()
    }

    /// The workload dials: the address for that, if there is one, or another of ours.
    fn workload_session(
        &self,
        us: &NodeRow,
        (address, name): (IpAddr, &str),
        spec: &BGPPeerSpec,
    ) -> Option<Peer> {
        let source = PeerSource::LocalWorkload { name: name.to_owned() };
        let as_number = spec.as_number?.0;
        let remote = Remote { address, port: Self::foreign_port(), as_number, node: None };
        Some(Peer { passive: true, ..self.session(us, source, remote, spec)? })
    }

    /// The addresses for workloads to dial, as far as they can be used.
    fn dialled_addresses(&self, us: &NodeRow, problems: &mut BTreeSet<Problem>) -> Vec<IpAddr> {
        let settings = [
            self.written("IPV4", |spec| spec.local_workload_peering_ipv4.map(IpAddr::V4)),
            self.written("IPV6", |spec| spec.local_workload_peering_ipv6.map(IpAddr::V6)),
        ];
        let mut usable = Vec::new();
        for Written { object, field, address } in settings.into_iter().flatten() {
            let mut report = |reason: String, remedy| {
                problems.insert(Problem::new(object.clone(), field.clone(), reason, remedy));
            };
            let own = us.addresses.contains(&address).then_some("is this node's own");
            if let Some(why) = unusable(address).or(own) {
                let reason = format!("{address} {why}; no workload's interface gets it");
                report(reason, "write an address that nothing else has, and that is not link-local in IPv6");
                continue;
            }
            if let Some((pool, _)) = self.pools.iter().find(|(_, pool)| pool.cidr.contains(&address)) {
                let reason =
                    format!("{address} lies in IPPool {pool}, and is used although a workload may get it");
                report(reason, "write an address that is in no pool");
            }
            usable.push(address);
        }
        usable
    }

    /// The address that counts for this node, and where it is written.
    fn written(&self, family: &str, of: impl Fn(&BGPConfigurationSpec) -> Option<IpAddr>) -> Option<Written> {
        let (name, spec) = self.deciding_configuration(|spec| of(spec).is_some())?;
        let field = format!("spec.localWorkloadPeering{family}");
        Some(Written { object: format!("BGPConfiguration {name}"), field, address: of(spec)? })
    }
}

/// An address for workloads to dial, as a resource has it.
struct Written {
    object: String,
    field: String,
    address: IpAddr,
}

/// Why an address cannot be one of the host's on every workload's interface.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    match address {
        _ if address.is_unspecified() || address.is_loopback() => Some("is no address that others can dial"),
        _ if address.is_multicast() || is_broadcast => Some("is no address of a single host"),
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            Some("is link-local, so that it means nothing without the name of an interface")
        }
        _ => None,
    }
}
