//! DEL and GC. Both go on past errors, report them all, and take what is gone already for done.

use std::collections::BTreeSet;

use api::cni::Attachment;
use api::wire::{CniRequest, WireError};
use api::{Kind, Resource, Row, WorkloadEndpoint};
use datastore::{Scope, StoreError};
use kernel::InterfaceName;
use kernel::netns::Netns;
use kernel::pod::Removal;

use super::request::{PodName, Sandbox};
use super::{Cni, PROGRAMMING_LIMIT, addresses, attach, endpoint, failed};

/// Detaches a sandbox.
pub(super) fn delete(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let _held = cni.locks.hold(&sandbox.endpoint_name(&cni.node_name)?);
    detach(cni, &sandbox, request.netns.as_deref())
}

/// Endpoint, then link, then addresses: nobody else gets an address while packets to it could still arrive here.
fn detach(cni: &Cni, sandbox: &Sandbox, netns: Option<&str>) -> Result<(), WireError> {
    let found = attach::find(cni, sandbox);
    // The pod may have a newer sandbox, whose endpoint and link are not ours to take.
    let ours = !matches!(&found, Ok(Some(other)) if !is_of(other, sandbox));
    let mut outcomes = vec![found.as_ref().map(drop).map_err(Clone::clone)];
    if ours {
        outcomes.push(delete_endpoint(cni, sandbox));
        outcomes.push(remove_link(cni, sandbox, found.ok().flatten().as_ref(), netns));
    }
    outcomes.push(addresses::release(cni, sandbox));
    let errors: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    match errors.first() {
        None => Ok(()),
        Some(first) => {
            let all: Vec<_> = errors.iter().map(|error| error.msg.as_str()).collect();
            Err(WireError { code: first.code, msg: all.join("; "), details: String::new() })
        }
    }
}

/// control-plane.md 2.3: only when the stored container is empty or the same.
fn is_of(endpoint: &WorkloadEndpoint, sandbox: &Sandbox) -> bool {
    let id = &endpoint.spec.container_id;
    id.is_empty() || *id == sandbox.container_id
}

/// Deletes the sandbox's endpoint, and waits until the kernel has nothing of it.
pub(super) fn delete_endpoint(cni: &Cni, sandbox: &Sandbox) -> Result<(), WireError> {
    let name = sandbox.endpoint_name(&cni.node_name)?;
    let key = api::Key::namespaced(Kind::WorkloadEndpoint, sandbox.namespace(), name);
    // A conflict means that the pod was attached anew, or touched, between reading and deleting: look again.
    for _ in 0..5 {
        let entry = match cni.store.get(&key) {
            Ok(entry) => entry,
            Err(StoreError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let endpoint = match Row::decode(&entry.key, &entry.value) {
            Ok(Row::Resource(Resource::WorkloadEndpoint(endpoint))) => Some(endpoint),
            // What cannot be read cannot belong to a newer sandbox of ours.
            _ => None,
        };
        if endpoint.as_ref().is_some_and(|endpoint| !is_of(endpoint, sandbox)) {
            return Ok(());
        }
        match cni.store.delete(&key, Some(&entry.revision)) {
            Ok(_) | Err(StoreError::NotFound(_)) => {
                let Some(endpoint) = endpoint else { return Ok(()) };
                let identity = endpoint::identity(&endpoint);
                return cni.agent.wait_withdrawn(&identity, PROGRAMMING_LIMIT).map_err(failed);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(super::later(format!("{key} keeps changing")))
}

fn remove_link(
    cni: &Cni,
    sandbox: &Sandbox,
    found: Option<&WorkloadEndpoint>,
    netns: Option<&str>,
) -> Result<(), WireError> {
    let host = match found {
        Some(endpoint) => endpoint.spec.interface_name.clone(),
        None => endpoint::build(cni, sandbox, &[])
            .map(|endpoint| endpoint.spec.interface_name)
            .unwrap_or_default(),
    };
    let (Ok(host), Ok(inside)) = (InterfaceName::new(&host), InterfaceName::new(&sandbox.interface)) else {
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

/// Detaches every sandbox of the configuration's network on this node that is not in the list. Without a list, nothing:
/// an absent key is not an empty list.
pub(super) fn collect_garbage(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let template = Sandbox::read(request)?;
    let Some(valid) = &template.config.valid_attachments else { return Ok(()) };
    let valid: BTreeSet<_> = valid.iter().cloned().collect();
    let mut errors = Vec::new();
    for endpoint in endpoints_of_node(cni)? {
        let sandbox = sandbox_of(&template, &endpoint);
        let attachment =
            Attachment { container_id: sandbox.container_id.clone(), ifname: sandbox.interface.clone() };
        if valid.contains(&attachment) || !is_of_network(cni, &sandbox, &endpoint)? {
            continue;
        }
        let name = sandbox.endpoint_name(&cni.node_name)?;
        let _held = cni.locks.hold(&name);
        if let Err(error) = detach(cni, &sandbox, None) {
            errors.push(format!("{}: {}", sandbox.display(), error.msg));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(failed(errors.join("; "))) }
}

fn endpoints_of_node(cni: &Cni) -> Result<Vec<WorkloadEndpoint>, WireError> {
    let entries = cni.store.list(&Scope::all(Kind::WorkloadEndpoint)).map_err(failed)?.entries;
    let endpoints = entries.iter().filter_map(|entry| match Row::decode(&entry.key, &entry.value) {
        Ok(Row::Resource(Resource::WorkloadEndpoint(endpoint))) => Some(*endpoint),
        _ => None,
    });
    Ok(endpoints.filter(|endpoint| endpoint.spec.node == cni.node_name).collect())
}

/// The sandbox that made an endpoint.
fn sandbox_of(template: &Sandbox, endpoint: &WorkloadEndpoint) -> Sandbox {
    let pod = (endpoint.spec.orchestrator == "k8s").then(|| PodName {
        namespace: endpoint.metadata.namespace.clone().unwrap_or_default(),
        name: endpoint.spec.pod.clone(),
    });
    Sandbox {
        container_id: endpoint.spec.container_id.clone(),
        interface: endpoint.spec.endpoint.clone(),
        pod,
        ..template.clone()
    }
}

/// An endpoint does not say which network made it; the handle of its addresses begins with the network's name.
fn is_of_network(cni: &Cni, sandbox: &Sandbox, endpoint: &WorkloadEndpoint) -> Result<bool, WireError> {
    let held = addresses::held_by(cni, &sandbox.handle())?;
    Ok(endpoint.spec.ip_networks.iter().any(|net| held.contains(&net.addr())))
}
