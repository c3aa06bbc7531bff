//! A sandbox's addresses: from Calico's IPAM, from an annotation, or from another IPAM plugin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::cni::{CniResult, Ip, code};
use api::wire::{CniRequest, WireError};
use api::{IPPoolAllowedUse, Kind, Resource, Row};
use datastore::Scope;
use ipam::{AssignIp, AutoAssign, IpamError};
use ipnet::IpNet;
use serde_json::Value;

use super::request::Sandbox;
use super::{Cni, failed, refuse};

/// Addresses, and whether to give them back when the ADD fails.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// IPv4 first.
    pub(super) addresses: Vec<IpAddr>,
    /// The handle that this ADD took them under; absent when they are not IPAM's, or were there before.
    pub(super) handle: Option<String>,
}

/// Gets the addresses of a sandbox.
pub(super) fn assign(cni: &Cni, sandbox: &Sandbox, delegated: Option<&Value>) -> Result<Assigned, WireError> {
    if let Some(result) = delegated {
        return from_other_plugin(result);
    }
    let by_hand = annotation(sandbox, "ipAddrsNoIpam")?;
    let from_ipam = annotation(sandbox, "ipAddrs")?;
    match (by_hand, from_ipam) {
        (Some(_), Some(_)) => {
            Err(invalid(sandbox, "annotations ipAddrs and ipAddrsNoIpam exclude each other"))
        }
        (Some(addresses), None) => without_ipam(sandbox, addresses),
        (None, Some(addresses)) => specific(cni, sandbox, &addresses),
        (None, None) if sandbox.config.feature_control.ip_addrs_no_ipam && sandbox.pod.is_none() => {
            Err(invalid(
                sandbox,
                "feature_control.ip_addrs_no_ipam needs a Kubernetes pod with the annotation ipAddrsNoIpam",
            ))
        }
        (None, None) if !sandbox.wanted.is_empty() => specific(cni, sandbox, &sandbox.wanted),
        (None, None) => automatic(cni, sandbox),
    }
}

fn from_other_plugin(result: &Value) -> Result<Assigned, WireError> {
    let result = CniResult::from_json(result)
        .map_err(|error| failed(format!("the IPAM plugin's answer is {error}")))?;
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.addr()).collect();
    match addresses.is_empty() {
        true => Err(failed("the IPAM plugin assigned no address")),
        false => Ok(Assigned { addresses, handle: None }),
    }
}

/// A list of addresses in an annotation `cni.projectcalico.org/…`.
fn annotation(sandbox: &Sandbox, name: &str) -> Result<Option<Vec<IpAddr>>, WireError> {
    strings(sandbox, name)?
        .map(|items| {
            let parse = |item: &String| {
                item.parse()
                    .map_err(|_| invalid(sandbox, format!("annotation {name}: {item:?} is not an address")))
            };
            items.iter().map(parse).collect()
        })
        .transpose()
}

fn strings(sandbox: &Sandbox, name: &str) -> Result<Option<Vec<String>>, WireError> {
    let Some(text) = sandbox.annotations.get(&format!("cni.projectcalico.org/{name}")) else {
        return Ok(None);
    };
    serde_json::from_str(text).map(Some).map_err(|error| {
        invalid(sandbox, format!("annotation {name} is {text:?}, not a JSON list of strings: {error}"))
    })
}

fn invalid(sandbox: &Sandbox, reason: impl std::fmt::Display) -> WireError {
    refuse(code::INVALID_CONFIG, format!("{}: {reason}", sandbox.display()))
}

fn without_ipam(sandbox: &Sandbox, addresses: Vec<IpAddr>) -> Result<Assigned, WireError> {
    if !sandbox.config.feature_control.ip_addrs_no_ipam {
        let reason =
            "annotation ipAddrsNoIpam needs feature_control.ip_addrs_no_ipam in the CNI configuration";
        return Err(invalid(sandbox, reason));
    }
    Ok(Assigned { addresses, handle: None })
}

/// These addresses and no others; all or none.
fn specific(cni: &Cni, sandbox: &Sandbox, addresses: &[IpAddr]) -> Result<Assigned, WireError> {
    let handle = sandbox.handle();
    for address in addresses {
        let assigned = cni.ipam.assign_ip(&AssignIp {
            handle: Some(handle.clone()),
            attributes: attributes(cni, sandbox),
            intended_use: Some(IPPoolAllowedUse::Workload),
            ..AssignIp::new(*address, &cni.node_name)
        });
        if let Err(error) = assigned {
            give_back(cni, &handle);
            return Err(failed(format!("{}: {error}", sandbox.display())));
        }
    }
    Ok(Assigned { addresses: addresses.to_vec(), handle: Some(handle) })
}

/// One address of each family that the configuration wants; all or none.
fn automatic(cni: &Cni, sandbox: &Sandbox) -> Result<Assigned, WireError> {
    let ipam = &sandbox.config.ipam;
    if !ipam.is_calico() {
        let msg = "ipam.type has to be calico-ipam, host-local or another plugin's name";
        return Err(refuse(code::INVALID_CONFIG, msg));
    }
    let (num4, num6) = (usize::from(ipam.wants_ipv4()), usize::from(ipam.wants_ipv6()));
    if num4 + num6 == 0 {
        return Err(invalid(sandbox, "ipam.assign_ipv4 and ipam.assign_ipv6 are both false"));
    }
    let handle = sandbox.handle();
    let request = AutoAssign {
        num4,
        num6,
        handle: Some(handle.clone()),
        ipv4_pools: pools(cni, sandbox, "ipv4pools", &ipam.ipv4_pools)?,
        ipv6_pools: pools(cni, sandbox, "ipv6pools", &ipam.ipv6_pools)?,
        attributes: attributes(cni, sandbox),
        intended_use: IPPoolAllowedUse::Workload,
        namespace: sandbox.pod.as_ref().map(|pod| pod.namespace.clone()),
        ..AutoAssign::new(&cni.node_name)
    };
    let assigned = cni.ipam.auto_assign_all(&request);
    let assigned = assigned.map_err(|error| failed(format!("{}: {error}", sandbox.display())))?;
    Ok(Assigned { addresses: assigned.addresses().collect(), handle: Some(handle) })
}

/// Gives back what an ADD took that did not succeed. When even that fails the addresses stay under their handle, from which
/// the runtime's DEL releases them.
pub(super) fn give_back(cni: &Cni, handle: &str) {
    if let Err(error) = release_handle(cni, handle) {
        tracing::warn!(handle, %error, "addresses of a failed ADD stay assigned until its DEL");
    }
}

/// control-plane.md 1.4.
fn attributes(cni: &Cni, sandbox: &Sandbox) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), cni.node_name.clone()),
        ("timestamp".to_owned(), jiff::Timestamp::now().to_string()),
    ]);
    if let Some(pod) = &sandbox.pod {
        attributes.insert("pod".to_owned(), pod.name.clone());
        attributes.insert("namespace".to_owned(), pod.namespace.clone());
    }
    attributes
}

/// The pools to take addresses from: the pod's annotation before the namespace's before the configuration; names or
/// CIDRs. Empty: all.
fn pools(cni: &Cni, sandbox: &Sandbox, name: &str, configured: &[String]) -> Result<Vec<IpNet>, WireError> {
    let annotated = match strings(sandbox, name)? {
        Some(words) => Some(words),
        None => namespace_annotation(cni, sandbox, name)?,
    };
    let words = annotated.unwrap_or_else(|| configured.to_vec());
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let known = known_pools(cni)?;
    words
        .iter()
        .map(|word| find_pool(&known, word).ok_or_else(|| unknown_pool(sandbox, word, &known)))
        .collect()
}

/// Annotations of a namespace live on its profile.
fn namespace_annotation(cni: &Cni, sandbox: &Sandbox, name: &str) -> Result<Option<Vec<String>>, WireError> {
    if sandbox.pod.is_none() {
        return Ok(None);
    }
    let profile = api::kubernetes::namespace_profile_name(sandbox.namespace());
    let found =
        datastore::objects::read::<api::ProfileSpec>(cni.store.as_ref(), &api::Metadata::named(profile));
    let Some((profile, _)) = found.map_err(failed)? else { return Ok(None) };
    strings(&Sandbox { annotations: profile.metadata.annotations, ..sandbox.clone() }, name)
}

fn known_pools(cni: &Cni) -> Result<Vec<(String, IpNet)>, WireError> {
    let entries = cni.store.list(&Scope::all(Kind::IPPool)).map_err(failed)?.entries;
    let pools = entries.iter().filter_map(|entry| match Row::decode(&entry.key, &entry.value) {
        Ok(Row::Resource(Resource::IPPool(pool))) => Some((pool.metadata.name.clone(), pool.spec.cidr.net())),
        _ => None,
    });
    Ok(pools.collect())
}

fn find_pool(known: &[(String, IpNet)], word: &str) -> Option<IpNet> {
    let cidr = word.parse::<IpNet>().ok().map(|cidr| cidr.trunc());
    known.iter().find(|(name, net)| name == word || Some(*net) == cidr).map(|(_, net)| *net)
}

fn unknown_pool(sandbox: &Sandbox, word: &str, known: &[(String, IpNet)]) -> WireError {
    let names: Vec<_> = known.iter().map(|(name, cidr)| format!("{name} ({cidr})")).collect();
    invalid(sandbox, format!("there is no IPPool {word:?}; there are {}", names.join(", ")))
}

/// `calico-ipam` ADD: addresses with host lengths, for a plugin that makes the link itself.
pub(super) fn assign_for_plugin(cni: &Cni, request: &CniRequest) -> Result<Value, WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.container_id);
    let assigned = assign(cni, &sandbox, None)?;
    Ok(result(&assigned.addresses))
}

fn result(addresses: &[IpAddr]) -> Value {
    let ip = |address: &IpAddr| Ip { address: IpNet::from(*address), gateway: None, interface: None };
    let result = CniResult { ips: addresses.iter().map(ip).collect(), ..CniResult::default() };
    result.to_json(api::cni::SpecVersion::NEWEST)
}

/// `calico-ipam` DEL.
pub(super) fn release_for_plugin(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.container_id);
    release(cni, &sandbox)
}

/// Releases what the sandbox has; nothing is as good.
pub(super) fn release(cni: &Cni, sandbox: &Sandbox) -> Result<(), WireError> {
    release_handle(cni, &sandbox.handle()).map_err(failed)
}

fn release_handle(cni: &Cni, handle: &str) -> Result<(), IpamError> {
    match cni.ipam.release_by_handle(handle) {
        Ok(_) | Err(IpamError::HandleNotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The addresses under a handle; none when there is no such handle.
pub(super) fn held_by(cni: &Cni, handle: &str) -> Result<Vec<IpAddr>, WireError> {
    match cni.ipam.ips_by_handle(handle) {
        Err(IpamError::HandleNotFound(_)) => Ok(Vec::new()),
        found => found.map_err(failed),
    }
}

/// `calico-ipam` CHECK: the handle still has addresses.
pub(super) fn check_for_plugin(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    match held_by(cni, &sandbox.handle())?.is_empty() {
        true => Err(refuse(code::CHECK_FAILED, format!("{} has no address any more", sandbox.display()))),
        false => Ok(()),
    }
}
