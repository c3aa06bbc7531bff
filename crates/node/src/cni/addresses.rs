//! A sandbox's addresses: from Calico's IPAM, or from an annotation. (Those of other IPAM plugins: [`super::delegation`].)

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::IPPoolAllowedUse;
use api::wire::WireError;
use ipam::{AssignIp, AutoAssign, IpamError};

use super::profile::Profiles;
use super::sandbox::Sandbox;
use super::{Cni, failed, pools, refuse};

/// Addresses, and how to give them back.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// At most one of a family; IPv4 first, unless they were asked for by name.
    pub(super) addresses: Vec<IpAddr>,
    /// The handle that they were taken under; absent when they are not IPAM's.
    pub(super) handle: Option<String>,
}

/// What a sandbox asks for.
enum Request {
    /// These, which IPAM does not know.
    ByHand(Vec<IpAddr>),
    /// These, from IPAM.
    Named(Vec<IpAddr>),
    /// Any.
    Any,
}

/// Gets the addresses of a sandbox that has none: all that it asks for, or none.
pub(super) fn assign(cni: &Cni, sandbox: &Sandbox, profiles: &Profiles) -> Result<Assigned, WireError> {
    let assigned = match request(sandbox)? {
        Request::ByHand(addresses) => return Ok(Assigned { addresses, handle: None }),
        Request::Named(addresses) => {
            release_leftovers(cni, sandbox)?;
            named(cni, sandbox, addresses)
        }
        Request::Any => {
            let request = automatic(cni, sandbox, profiles)?;
            release_leftovers(cni, sandbox)?;
            cni.ipam.auto_assign_all(&request).map(|assigned| assigned.addresses().collect())
        }
    };
    let addresses = assigned.map_err(|error| {
        // A write whose answer was lost may have assigned one all the same.
        if let Err(error) = release_handle(cni, &sandbox.handle()) {
            tracing::warn!(sandbox = sandbox.display(), %error, "addresses of a failed ADD may stay until its DEL");
        }
        failed(format!("{}: {error}", sandbox.display()))
    })?;
    Ok(Assigned { addresses, handle: Some(sandbox.handle()) })
}

fn request(sandbox: &Sandbox) -> Result<Request, WireError> {
    let by_hand = addresses_of(sandbox, "ipAddrsNoIpam")?;
    let named = addresses_of(sandbox, "ipAddrs")?;
    let gate = sandbox.config.feature_control.ip_addrs_no_ipam;
    let request = match (by_hand, named) {
        (Some(_), Some(_)) => {
            return Err(sandbox.invalid("annotations ipAddrs and ipAddrsNoIpam exclude each other"));
        }
        (Some(_), None) if !gate => {
            return Err(sandbox.invalid(
                "annotation ipAddrsNoIpam needs feature_control.ip_addrs_no_ipam in the CNI configuration",
            ));
        }
        (Some(addresses), None) => Request::ByHand(addresses),
        (None, Some(addresses)) => Request::Named(addresses),
        (None, None) if gate && sandbox.pod.is_none() => {
            return Err(sandbox.invalid(
                "feature_control.ip_addrs_no_ipam needs a Kubernetes pod with the annotation ipAddrsNoIpam",
            ));
        }
        (None, None) if !sandbox.wanted.is_empty() => Request::Named(sandbox.wanted.clone()),
        (None, None) => Request::Any,
    };
    if let Request::ByHand(addresses) | Request::Named(addresses) = &request {
        check_families(sandbox, addresses)?;
    }
    Ok(request)
}

/// An endpoint has at most one address of a family.
fn check_families(sandbox: &Sandbox, addresses: &[IpAddr]) -> Result<(), WireError> {
    let number = |is_v4| addresses.iter().filter(|address| address.is_ipv4() == is_v4).count();
    match (number(true), number(false)) {
        (0, 0) => Err(sandbox.invalid("the list of addresses that it asks for is empty")),
        (0 | 1, 0 | 1) => Ok(()),
        _ => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Err(sandbox.invalid(format!(
                "it asks for {}; a pod has one IPv4 and one IPv6 address at most",
                list.join(", ")
            )))
        }
    }
}

/// A list of addresses in an annotation `cni.projectcalico.org/…`.
fn addresses_of(sandbox: &Sandbox, name: &str) -> Result<Option<Vec<IpAddr>>, WireError> {
    let Some(text) = sandbox.annotation(&format!("cni.projectcalico.org/{name}")) else { return Ok(None) };
    let parse = |item: &String| {
        item.parse().map_err(|_| sandbox.invalid(format!("annotation {name}: {item:?} is not an address")))
    };
    strings(sandbox, name, text)?.iter().map(parse).collect::<Result<_, _>>().map(Some)
}

/// The value of an annotation that is a JSON list of strings.
pub(super) fn strings(sandbox: &Sandbox, name: &str, text: &str) -> Result<Vec<String>, WireError> {
    serde_json::from_str(text).map_err(|error| {
        sandbox.invalid(format!("annotation {name} is {text:?}, not a JSON list of strings: {error}"))
    })
}

fn named(cni: &Cni, sandbox: &Sandbox, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, IpamError> {
    for address in &addresses {
        cni.ipam.assign_ip(&AssignIp {
            handle: Some(sandbox.handle()),
            attributes: attributes(cni, sandbox),
            intended_use: Some(IPPoolAllowedUse::Workload),
            ..AssignIp::new(*address, &cni.node_name)
        })?;
    }
    Ok(addresses)
}

/// One address of each family that the configuration wants.
fn automatic(cni: &Cni, sandbox: &Sandbox, profiles: &Profiles) -> Result<AutoAssign, WireError> {
    let ipam = &sandbox.config.ipam;
    if !ipam.is_calico() {
        let msg = "ipam.type has to be calico-ipam, host-local or another plugin's name";
        return Err(refuse(api::cni::code::INVALID_CONFIG, msg));
    }
    let (num4, num6) = (usize::from(ipam.wants_ipv4()), usize::from(ipam.wants_ipv6()));
    if num4 + num6 == 0 {
        return Err(sandbox.invalid("ipam.assign_ipv4 and ipam.assign_ipv6 are both false"));
    }
    let pools = pools::Chooser { cni, sandbox, profiles };
    Ok(AutoAssign {
        num4,
        num6,
        handle: Some(sandbox.handle()),
        ipv4_pools: pools.wanted("ipv4pools", &ipam.ipv4_pools)?,
        ipv6_pools: pools.wanted("ipv6pools", &ipam.ipv6_pools)?,
        attributes: attributes(cni, sandbox),
        intended_use: IPPoolAllowedUse::Workload,
        namespace: sandbox.pod.is_some().then(|| sandbox.namespace().to_owned()),
        ..AutoAssign::new(&cni.node_name)
    })
}

/// control-plane.md 1.4.
fn attributes(cni: &Cni, sandbox: &Sandbox) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([
        ("node".to_owned(), cni.node_name.clone()),
        ("timestamp".to_owned(), jiff::Timestamp::now().to_string()),
    ]);
    if let Some(pod) = &sandbox.pod {
        attributes.insert("pod".to_owned(), pod.metadata.name.clone());
        attributes.insert("namespace".to_owned(), sandbox.namespace().to_owned());
    }
    attributes
}

/// A process that was killed half-way through an ADD may have left addresses under this very handle.
fn release_leftovers(cni: &Cni, sandbox: &Sandbox) -> Result<(), WireError> {
    let released = release_handle(cni, &sandbox.handle()).map_err(failed)?;
    if !released.is_empty() {
        tracing::info!(sandbox = sandbox.display(), ?released, "released what an unfinished ADD had left");
    }
    Ok(())
}

/// Releases what a handle has; nothing is as good.
pub(super) fn release_handle(cni: &Cni, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
    match cni.ipam.release_by_handle(handle) {
        Err(IpamError::HandleNotFound(_)) => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// The addresses under a handle; none when there is no such handle.
pub(super) fn held_by(cni: &Cni, handle: &str) -> Result<Vec<IpAddr>, WireError> {
    match cni.ipam.ips_by_handle(handle) {
        Err(IpamError::HandleNotFound(_)) => Ok(Vec::new()),
        found => found.map_err(failed),
    }
}
