//! The `calico-ipam` plugin: addresses only, for a plugin that makes the link itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::cni::{CniResult, Ip, SpecVersion, code};
use api::wire::{CniRequest, WireError};
use ipnet::IpNet;
use serde_json::Value;

use super::profile::Profiles;
use super::sandbox::Sandbox;
use super::{Cni, addresses, failed, refuse};

/// ADD: addresses with host lengths. One that is repeated gets the same.
pub(super) fn assign(cni: &Cni, request: &CniRequest) -> Result<Value, WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.container_id);
    let held = addresses::held_by(cni, &sandbox.handle())?;
    if is_all_of(&sandbox, &held) {
        return Ok(result(&held));
    }
    let profiles = Profiles::read(cni.store.as_ref(), &sandbox)?;
    Ok(result(&addresses::assign(cni, &sandbox, &profiles)?.addresses))
}

/// Whether these are the addresses that the sandbox asks for: the very ones, or as many of each family.
fn is_all_of(sandbox: &Sandbox, held: &[IpAddr]) -> bool {
    if !sandbox.wanted.is_empty() {
        return BTreeSet::from_iter(&sandbox.wanted) == BTreeSet::from_iter(held);
    }
    let number = |is_v4| held.iter().filter(|address| address.is_ipv4() == is_v4).count();
    let ipam = &sandbox.config.ipam;
    !held.is_empty()
        && number(true) == usize::from(ipam.wants_ipv4())
        && number(false) == usize::from(ipam.wants_ipv6())
}

fn result(addresses: &[IpAddr]) -> Value {
    let ip = |address: &IpAddr| Ip { address: IpNet::from(*address), gateway: None, interface: None };
    let result = CniResult { ips: addresses.iter().map(ip).collect(), ..CniResult::default() };
    result.to_json(SpecVersion::NEWEST)
}

/// DEL.
pub(super) fn release(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.container_id);
    addresses::release_handle(cni, &sandbox.handle()).map(drop).map_err(failed)
}

/// CHECK: the handle still has the addresses that the runtime remembers.
pub(super) fn check(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let wrong = |reason: String| refuse(code::CHECK_FAILED, format!("{}: {reason}", sandbox.display()));
    let held = addresses::held_by(cni, &sandbox.handle())?;
    if held.is_empty() {
        return Err(wrong("it has no address any more".to_owned()));
    }
    let previous = sandbox.config.previous_result.as_ref().map(CniResult::from_json).transpose();
    let previous = previous.map_err(|error| wrong(format!("prevResult is {error}")))?.unwrap_or_default();
    match previous.ips.iter().map(|ip| ip.address.addr()).find(|address| !held.contains(address)) {
        None => Ok(()),
        Some(address) => Err(wrong(format!("prevResult has {address}, which is not assigned to it"))),
    }
}

/// GC: addresses of the network on this node that belong to no attachment in the list. Without a list, nothing.
pub(super) fn collect_garbage(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let template = Sandbox::read(request)?;
    let Some(valid) = &template.config.valid_attachments else { return Ok(()) };
    release_all_but(cni, &template, valid.iter().map(|attachment| attachment.container_id.as_str()))
}

/// Releases the addresses of the network on this node, except those of containers that are to keep theirs.
pub(super) fn release_all_but<'a>(
    cni: &Cni,
    template: &Sandbox,
    kept: impl Iterator<Item = &'a str>,
) -> Result<(), WireError> {
    // Handles are in lower case, whatever the container's id is.
    let kept: BTreeSet<_> = kept.map(str::to_lowercase).collect();
    let prefix = format!("{}.", template.config.name().to_lowercase());
    let assignments = cni.ipam.assignments().map_err(failed)?;
    let ours =
        assignments.iter().filter(|assignment| assignment.attributes.get("node") == Some(&cni.node_name));
    let handles: BTreeSet<_> = ours.filter_map(|assignment| assignment.handle.as_deref()).collect();
    let containers = handles.into_iter().filter_map(|handle| handle.strip_prefix(&prefix));
    let mut errors = Vec::new();
    for container in containers.filter(|container| !kept.contains(*container)) {
        let _held = cni.locks.hold(container);
        errors.extend(addresses::release_handle(cni, &format!("{prefix}{container}")).err());
    }
    let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
    if errors.is_empty() { Ok(()) } else { Err(failed(errors.join("; "))) }
}
