//! DEL and GC. Both go on past errors, report them all, and take what is gone already for done.

use std::collections::BTreeSet;
use std::time::Duration;

use api::cni::Attachment;
use api::wire::{CniRequest, WireError};
use api::{Kind, Resource, Row, WorkloadEndpoint};
use datastore::{Scope, StoreError};
use kernel::InterfaceName;
use kernel::netns::Netns;
use kernel::pod::Removal;

use super::attach::Stored;
use super::sandbox::Sandbox;
use super::{Cni, addresses, endpoint, failed, ipam_plugin};

/// Attempts to delete an endpoint that others keep touching (control-plane.md 2.3).
const MAX_ATTEMPTS: usize = 5;

/// Detaches a sandbox.
pub(super) fn delete(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.endpoint_name(&cni.node_name)?);
    detach(cni, &sandbox, request.netns.as_deref())
}

/// Endpoint, then link, then addresses: nobody else gets an address while packets to it could still arrive here, or while an
/// endpoint (and so a policy) still names it.
fn detach(cni: &Cni, sandbox: &Sandbox, netns: Option<&str>) -> Result<(), WireError> {
    let found = find(cni, sandbox)?;
    let mut errors = Vec::new();
    // The pod may have a newer sandbox, whose endpoint and link are not ours to take.
    if !found.is_of_another(sandbox) {
        let host_interface = found.host_interface(cni, sandbox);
        errors.extend(delete_found(cni, sandbox, found, cni.programming_limit).err());
        let is_referred_to = !errors.is_empty();
        errors.extend(remove_link(cni, sandbox, &host_interface, netns).err());
        if is_referred_to {
            return all_of(&errors);
        }
    }
    errors.extend(addresses::release_handle(cni, &sandbox.handle()).map_err(failed).err());
    all_of(&errors)
}

/// One error that tells all; the first has the code.
fn all_of(errors: &[WireError]) -> Result<(), WireError> {
    let Some(first) = errors.first() else { return Ok(()) };
    let messages: Vec<_> = errors.iter().map(|error| error.msg.as_str()).collect();
    Err(WireError { code: first.code, msg: messages.join("; "), details: String::new() })
}

/// What the datastore has under the name of the sandbox's endpoint.
enum Found {
    Nothing,
    Endpoint(Box<Stored>),
    /// Something that cannot be read, and so cannot belong to a newer sandbox.
    Unreadable,
    /// The datastore does not answer; the link can go all the same.
    Unknown(WireError),
}

impl Found {
    /// control-plane.md 2.3: ours only when the stored container is empty or the same.
    fn is_of_another(&self, sandbox: &Sandbox) -> bool {
        let Self::Endpoint(stored) = self else { return false };
        let id = &stored.endpoint.spec.container_id;
        !id.is_empty() && *id != sandbox.container_id
    }

    fn host_interface(&self, cni: &Cni, sandbox: &Sandbox) -> String {
        match self {
            Self::Endpoint(stored) => stored.endpoint.spec.interface_name.clone(),
            _ => endpoint::host_interface(cni, sandbox),
        }
    }
}

fn find(cni: &Cni, sandbox: &Sandbox) -> Result<Found, WireError> {
    let entry = match cni.store.get(&key(cni, sandbox)?) {
        Ok(entry) => entry,
        Err(StoreError::NotFound(_)) => return Ok(Found::Nothing),
        Err(error) => return Ok(Found::Unknown(failed(error))),
    };
    Ok(match Row::decode(&entry.key, &entry.value) {
        Ok(Row::Resource(Resource::WorkloadEndpoint(endpoint))) => {
            Found::Endpoint(Box::new(Stored { endpoint: *endpoint, revision: entry.revision }))
        }
        _ => Found::Unreadable,
    })
}

fn key(cni: &Cni, sandbox: &Sandbox) -> Result<api::Key, WireError> {
    let name = sandbox.endpoint_name(&cni.node_name)?;
    Ok(api::Key::namespaced(Kind::WorkloadEndpoint, sandbox.namespace(), name))
}

/// Deletes the sandbox's endpoint, if it has one, and waits until the kernel has nothing of it.
pub(super) fn delete_endpoint(cni: &Cni, sandbox: &Sandbox, limit: Duration) -> Result<(), WireError> {
    delete_found(cni, sandbox, find(cni, sandbox)?, limit)
}

fn delete_found(cni: &Cni, sandbox: &Sandbox, mut found: Found, limit: Duration) -> Result<(), WireError> {
    let key = key(cni, sandbox)?;
    // A conflict means that the pod was attached anew, or touched, between reading and deleting: look again.
    for _ in 0..MAX_ATTEMPTS {
        if found.is_of_another(sandbox) {
            return Ok(());
        }
        let revision = match &found {
            Found::Nothing => return Ok(()),
            Found::Unknown(error) => return Err(error.clone()),
            Found::Unreadable => None,
            Found::Endpoint(stored) => Some(&stored.revision),
        };
        match (cni.store.delete(&key, revision), &found) {
            (Ok(_) | Err(StoreError::NotFound(_)), Found::Endpoint(stored)) => {
                let identity = endpoint::identity(&stored.endpoint);
                return cni.agent.wait_withdrawn(&identity, limit).map_err(failed);
            }
            (Ok(_) | Err(StoreError::NotFound(_)), _) => return Ok(()),
            (Err(StoreError::Conflict { .. }), _) => found = find(cni, sandbox)?,
            (Err(error), _) => return Err(failed(error)),
        }
    }
    Err(super::later(format!("{key} keeps changing")))
}

fn remove_link(
    cni: &Cni,
    sandbox: &Sandbox,
    host_interface: &str,
    netns: Option<&str>,
) -> Result<(), WireError> {
    let (Ok(host), Ok(inside)) = (InterfaceName::new(host_interface), InterfaceName::new(&sandbox.interface))
    else {
        return Ok(());
    };
    let namespace = match netns.map(Netns::open) {
        Some(Ok(namespace)) => Some(namespace),
        Some(Err(error)) if !error.is_gone() => return Err(failed(error)),
        _ => None,
    };
    let removal =
        Removal { host_interface: host, inside: namespace.as_ref().map(|namespace| (namespace, inside)) };
    cni.condemn(&removal)
}

/// Detaches every sandbox of the configuration's network on this node that is not in the list, and releases the addresses
/// of those that have nothing else any more. Without a list, nothing: an absent key is not an empty list.
pub(super) fn collect_garbage(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let template = Sandbox::read(request)?;
    let Some(valid) = &template.config.valid_attachments else { return Ok(()) };
    let valid: BTreeSet<_> = valid.iter().cloned().collect();
    let mut errors = Vec::new();
    let mut kept: BTreeSet<_> = valid.iter().map(|attachment| attachment.container_id.clone()).collect();
    for endpoint in endpoints_of_node(cni)? {
        let sandbox = template.of_endpoint(&endpoint);
        let attachment =
            Attachment { container_id: sandbox.container_id.clone(), ifname: sandbox.interface.clone() };
        if valid.contains(&attachment) || !is_of_network(cni, &sandbox, &endpoint)? {
            kept.insert(sandbox.container_id);
            continue;
        }
        let _held = cni.locks.hold(&sandbox.endpoint_name(&cni.node_name)?);
        if let Err(mut error) = detach(cni, &sandbox, None) {
            error.msg = format!("{}: {}", sandbox.display(), error.msg);
            errors.push(error);
            kept.insert(sandbox.container_id);
        }
    }
    errors.extend(ipam_plugin::release_all_but(cni, &template, kept.iter().map(String::as_str)).err());
    all_of(&errors)
}

fn endpoints_of_node(cni: &Cni) -> Result<Vec<WorkloadEndpoint>, WireError> {
    let entries = cni.store.list(&Scope::all(Kind::WorkloadEndpoint)).map_err(failed)?.entries;
    let endpoints = entries.iter().filter_map(|entry| match Row::decode(&entry.key, &entry.value) {
        Ok(Row::Resource(Resource::WorkloadEndpoint(endpoint))) => Some(*endpoint),
        _ => None,
    });
    Ok(endpoints.filter(|endpoint| endpoint.spec.node == cni.node_name).collect())
}

/// An endpoint that another program made (Calico's plugin, before) does not say of which network it is; the handle of its
/// addresses begins with the network's name.
fn is_of_network(cni: &Cni, sandbox: &Sandbox, endpoint: &WorkloadEndpoint) -> Result<bool, WireError> {
    match endpoint::network(endpoint) {
        Some(network) => Ok(network == sandbox.config.name()),
        None => {
            let held = addresses::held_by(cni, &sandbox.handle())?;
            Ok(endpoint.spec.ip_networks.iter().any(|net| held.contains(&net.addr())))
        }
    }
}
