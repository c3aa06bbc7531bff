//! What a node does once, before anything runs: its own Node resource and the cluster's defaults (control-plane.md 4.2).
//!
//! Every write is create-if-absent or compare-and-swap, so that any number of nodes may start at once, and a start that
//! was cut off is simply repeated.

use std::net::{IpAddr, Ipv4Addr};

use api::scalars::{AsNumber, Net};
use api::{
    Action, BGPConfiguration, BGPConfigurationSpec, ClusterInformation, ClusterInformationSpec,
    EncapsulationMode, FelixConfiguration, FelixConfigurationSpec, IPPool, IPPoolSpec, Kind, Metadata, Node,
    NodeAddress, NodeAddressType, NodeBGPSpec, NodeSpec, OrchRef, Profile, ProfileSpec, Resource, Row, Rule,
};
use datastore::{Scope, Store, StoreError, objects};
use ipnet::IpNet;

use crate::config::{DefaultPools, NodeConfig, PoolDefaults};

/// The addresses that were found for this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    /// IPv4, with the subnet that it is in.
    pub ipv4: Option<IpNet>,
    /// IPv6, likewise.
    pub ipv6: Option<IpNet>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The datastore's. Retryable when that is.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another node has the address. Not retryable.
    #[error(
        "address {address} of this node ({this}) is already that of node {other}: give one of them another address \
         (IP), or, if {other} is gone for good, delete it with: calicoctl delete node {other}; \
         DISABLE_NODE_IP_CHECK=true turns this check off"
    )]
    AddressInUse {
        /// This node.
        this: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        other: String,
    },
    /// Another process runs a node of the same name. Not retryable.
    #[error("{0}")]
    NameInUse(String),
}

/// The stored addresses of a node, to keep them when nothing says otherwise.
///
/// # Errors
/// The datastore's.
pub fn stored_addresses(store: &dyn Store, node: &str) -> Result<Addresses, StoreError> {
    let Some((node, _)) = objects::read::<NodeSpec>(store, &Metadata::named(node))? else {
        return Ok(Addresses::default());
    };
    let bgp = node.spec.bgp.unwrap_or_default();
    let address = |net: Option<Net>| net.map(|net| net.interface());
    Ok(Addresses { ipv4: address(bgp.ipv4_address), ipv6: address(bgp.ipv6_address) })
}

/// Writes this node's Node resource.
///
/// # Errors
/// An address that another node has, or the datastore's.
pub fn register_node(
    store: &dyn Store,
    config: &NodeConfig,
    addresses: Addresses,
) -> Result<Node, StartupError> {
    if !config.skip_address_check {
        refuse_taken_addresses(store, &config.node_name, addresses)?;
    }
    let initial = Node::new(Metadata::named(&config.node_name), NodeSpec::default());
    objects::modify(store, initial, |node: &mut Node| {
        let bgp = node.spec.bgp.get_or_insert_with(NodeBGPSpec::default);
        bgp.ipv4_address = addresses.ipv4.map(Net::from);
        bgp.ipv6_address = addresses.ipv6.map(Net::from);
        if let Some(number) = config.as_number {
            bgp.as_number = Some(AsNumber(number));
        }
        if *bgp == NodeBGPSpec::default() {
            node.spec.bgp = None;
        }
        let kept = node
            .spec
            .addresses
            .iter()
            .filter(|address| address.address_type != Some(NodeAddressType::CalicoNodeIP));
        let ours = [addresses.ipv4, addresses.ipv6].into_iter().flatten().map(|address| NodeAddress {
            address: Net::from(address.addr()),
            address_type: Some(NodeAddressType::CalicoNodeIP),
        });
        node.spec.addresses = ours.chain(kept.cloned()).collect();
        if let Some(name) = &config.kubernetes_node {
            node.spec.orch_refs = vec![OrchRef { node_name: name.clone(), orchestrator: "k8s".to_owned() }];
        }
        Ok(())
    })
}

fn refuse_taken_addresses(store: &dyn Store, this: &str, addresses: Addresses) -> Result<(), StartupError> {
    let ours = [addresses.ipv4, addresses.ipv6].map(|net| net.map(|net| net.addr()));
    for entry in store.list(&Scope::all(Kind::Node))?.entries {
        // A Node that cannot be read has no address that could be compared; its own node will say so.
        let Ok(Row::Resource(Resource::Node(node))) = Row::decode(&entry.key, &entry.value) else { continue };
        if node.metadata.name == this {
            continue;
        }
        let bgp = node.spec.bgp.unwrap_or_default();
        let theirs = [bgp.ipv4_address, bgp.ipv6_address].map(|net| net.map(|net| net.addr()));
        for (our, their) in ours.iter().zip(theirs) {
            if let Some(address) = our.filter(|our| Some(*our) == their) {
                let other = node.metadata.name.clone();
                return Err(StartupError::AddressInUse { this: this.to_owned(), address, other });
            }
        }
    }
    Ok(())
}

/// Makes what every cluster has: ClusterInformation, the built-in tiers and profile, FelixConfiguration, the default BGP
/// settings, and pools when there are none. What exists stays as it is.
///
/// # Errors
/// The datastore's.
pub fn ensure_defaults(
    store: &dyn Store,
    config: &NodeConfig,
    host_addresses: &[IpAddr],
    guid: impl FnOnce() -> String,
) -> Result<(), StoreError> {
    ensure_cluster_information(store, config, guid())?;
    for tier in api::built_in_tiers() {
        objects::create_if_absent(store, tier)?;
    }
    objects::create_if_absent(store, default_allow_profile())?;
    objects::create_if_absent(
        store,
        FelixConfiguration::new(Metadata::named("default"), FelixConfigurationSpec::default()),
    )?;
    objects::create_if_absent(
        store,
        BGPConfiguration::new(Metadata::named("default"), BGPConfigurationSpec::default()),
    )?;
    ensure_pools(store, &config.default_pools, host_addresses)
}

fn ensure_cluster_information(
    store: &dyn Store,
    config: &NodeConfig,
    guid: String,
) -> Result<(), StoreError> {
    let spec = ClusterInformationSpec { cluster_guid: guid, ..ClusterInformationSpec::default() };
    let initial = ClusterInformation::new(Metadata::named("default"), spec);
    objects::modify(store, initial, |information: &mut ClusterInformation| {
        let spec = &mut information.spec;
        spec.datastore_ready.get_or_insert(true);
        spec.calico_version = env!("CARGO_PKG_VERSION").to_owned();
        let mut words: Vec<_> = spec
            .cluster_type
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect();
        let wanted = config.cluster_type.iter().map(String::as_str).chain(config.bgp.then_some("bgp"));
        for word in wanted {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
        spec.cluster_type = words.join(",");
        Ok::<(), StoreError>(())
    })
    .map(drop)
}

/// resources.md 2.7.
fn default_allow_profile() -> Profile {
    let allow = || vec![Rule::new(Action::Allow)];
    let spec = ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() };
    Profile::new(Metadata::named("projectcalico-default-allow"), spec)
}

fn ensure_pools(
    store: &dyn Store,
    pools: &DefaultPools,
    host_addresses: &[IpAddr],
) -> Result<(), StoreError> {
    let DefaultPools::Create { ipv4, ipv6 } = pools else { return Ok(()) };
    let existing: Vec<Net> = store
        .list(&Scope::all(Kind::IPPool))?
        .entries
        .iter()
        .filter_map(|entry| match Row::decode(&entry.key, &entry.value) {
            Ok(Row::Resource(Resource::IPPool(pool))) => Some(pool.spec.cidr),
            _ => None,
        })
        .collect();
    if let Some(pool) = ipv4.as_ref().filter(|_| existing.iter().all(Net::is_ipv6)) {
        let cidr = pool.cidr.unwrap_or_else(|| free_ipv4_cidr(host_addresses));
        create_pool(store, "default-ipv4-ippool", cidr, pool)?;
    }
    // Without a CIDR no IPv6 pool: a host that has IPv6 switched off must not hand out such addresses by accident.
    if let Some((pool, cidr)) = ipv6.as_ref().and_then(|pool| Some((pool, pool.cidr?)))
        && !existing.iter().any(Net::is_ipv6)
    {
        create_pool(store, "default-ipv6-ippool", cidr, pool)?;
    }
    Ok(())
}

fn create_pool(
    store: &dyn Store,
    name: &str,
    cidr: IpNet,
    defaults: &PoolDefaults,
) -> Result<(), StoreError> {
    let mode = |text: &str| match text {
        "Always" => EncapsulationMode::Always,
        "CrossSubnet" => EncapsulationMode::CrossSubnet,
        _ => EncapsulationMode::Never,
    };
    let mut spec = IPPoolSpec::new(Net::from(cidr));
    spec.ipip_mode = Some(mode(&defaults.ipip));
    spec.vxlan_mode = Some(mode(&defaults.vxlan));
    spec.block_size = Some(defaults.block_size);
    spec.nat_outgoing = defaults.nat_outgoing;
    spec.node_selector = defaults.node_selector.clone();
    spec.disable_bgp_export = defaults.disable_bgp_export;
    let made = objects::create_if_absent(store, IPPool::new(Metadata::named(name), spec))?;
    if made {
        tracing::info!(pool = name, %cidr, "made the default pool");
    }
    Ok(())
}

/// 192.168.0.0/16, or the first of 172.16.0.0/16 … 172.31.0.0/16 that holds no address of the host (control-plane.md 4.4).
fn free_ipv4_cidr(host_addresses: &[IpAddr]) -> IpNet {
    let network = |a, b| IpNet::new_assert(Ipv4Addr::new(a, b, 0, 0).into(), 16);
    let candidates = std::iter::once(network(192, 168)).chain((16..32).map(|b| network(172, b)));
    let mut free = candidates.filter(|net| !host_addresses.iter().any(|address| net.contains(address)));
    free.next().unwrap_or_else(|| network(192, 168))
}

#[cfg(test)]
mod tests {
    use datastore::Memory;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> NodeConfig {
        let find =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        NodeConfig::read(find, std::iter::empty(), "node-1").unwrap()
    }

    fn addresses(text: &str) -> Addresses {
        Addresses { ipv4: Some(text.parse().unwrap()), ipv6: None }
    }

    fn pools(store: &Memory) -> Vec<String> {
        let entries = store.list(&Scope::all(Kind::IPPool)).unwrap().entries;
        entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    #[test]
    fn a_node_is_registered_and_a_second_start_writes_nothing() {
        let store = Memory::new();
        let config = config(&[("AS", "64513"), ("CALICO_K8S_NODE_REF", "k1")]);
        register_node(&store, &config, addresses("10.0.0.1/24")).unwrap();
        let revision = store.list(&Scope::all(Kind::Node)).unwrap().revision;
        let node = register_node(&store, &config, addresses("10.0.0.1/24")).unwrap();
        assert_eq!(store.list(&Scope::all(Kind::Node)).unwrap().revision, revision);
        assert_eq!(node.spec.bgp.unwrap().as_number, Some(AsNumber(64513)));
        assert_eq!(node.spec.addresses[0].address.to_string(), "10.0.0.1");
        assert_eq!(stored_addresses(&store, "node-1").unwrap(), addresses("10.0.0.1/24"));
    }

    #[test]
    fn an_address_of_another_node_is_refused_by_name_unless_the_check_is_off() {
        let store = Memory::new();
        register_node(&store, &config(&[]), addresses("10.0.0.1/24")).unwrap();
        let other = config(&[("NODENAME", "node-2")]);
        let error = register_node(&store, &other, addresses("10.0.0.1/24")).unwrap_err().to_string();
        assert!(error.contains("10.0.0.1 of this node (node-2) is already that of node node-1"), "{error}");
        let unchecked = config(&[("NODENAME", "node-2"), ("DISABLE_NODE_IP_CHECK", "true")]);
        register_node(&store, &unchecked, addresses("10.0.0.1/24")).unwrap();
    }

    #[test]
    fn defaults_are_made_once_and_never_overwritten() {
        let store = Memory::new();
        let config = config(&[("CALICO_IPV4POOL_CIDR", "10.65.0.0/16"), ("CLUSTER_TYPE", "k8s")]);
        ensure_defaults(&store, &config, &[], || "a".repeat(32)).unwrap();
        ensure_defaults(&store, &config, &[], || "b".repeat(32)).unwrap();
        assert_eq!(pools(&store), ["IPPool default-ipv4-ippool"]);
        let (information, _) =
            objects::read::<ClusterInformationSpec>(&store, &Metadata::named("default")).unwrap().unwrap();
        assert_eq!(information.spec.cluster_guid, "a".repeat(32));
        assert_eq!(information.spec.cluster_type, "k8s,bgp");
        assert_eq!(information.spec.datastore_ready, Some(true));
        assert_eq!(store.list(&Scope::all(Kind::Tier)).unwrap().entries.len(), 3);
    }

    #[test]
    fn a_pool_of_the_users_own_keeps_the_default_one_away() {
        let store = Memory::new();
        let own = IPPool::new(Metadata::named("own"), IPPoolSpec::new("10.9.0.0/16".parse().unwrap()));
        objects::create_if_absent(&store, own).unwrap();
        ensure_defaults(&store, &config(&[]), &[], String::new).unwrap();
        assert_eq!(pools(&store), ["IPPool own"]);
    }

    #[test]
    fn the_default_pool_avoids_the_hosts_own_networks() {
        let host = ["192.168.1.1".parse().unwrap(), "172.16.0.9".parse().unwrap()];
        assert_eq!(free_ipv4_cidr(&[]).to_string(), "192.168.0.0/16");
        assert_eq!(free_ipv4_cidr(&host).to_string(), "172.17.0.0/16");
    }
}
