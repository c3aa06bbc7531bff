//! The sandbox's WorkloadEndpoint.

use std::net::IpAddr;

use api::kubernetes::{self, PodIp};
use api::scalars::{MacAddress, Net};
use api::wire::WireError;
use api::{Metadata, Resource, Row, WorkloadEndpoint, WorkloadEndpointSpec};
use calc::contract::WorkloadEndpointId;
use datastore::{Revision, Store, StoreError, objects};
use ipnet::IpNet;

use super::Cni;
use super::sandbox::Sandbox;

const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// Ours: the network that an endpoint was made for, by which GC knows its own.
const NETWORK_ANNOTATION: &str = "cni.tortie.dev/network";

/// The endpoint of a sandbox with these addresses; the MAC is not known yet.
pub(super) fn build(
    cni: &Cni,
    sandbox: &Sandbox,
    addresses: &[IpAddr],
) -> Result<WorkloadEndpoint, WireError> {
    let mut endpoint = match &sandbox.pod {
        Some(pod) => of_pod(cni, sandbox, pod.clone(), addresses)?,
        None => of_container(cni, sandbox, addresses),
    };
    endpoint.metadata.name = sandbox.endpoint_name(&cni.node_name)?;
    endpoint.metadata.namespace = Some(sandbox.namespace().to_owned());
    endpoint.metadata.resource_version = None;
    let network = sandbox.config.name().to_owned();
    endpoint.metadata.annotations.insert(NETWORK_ANNOTATION.to_owned(), network);
    endpoint.spec.container_id.clone_from(&sandbox.container_id);
    if !endpoint.spec.ip_nats.is_empty() && !sandbox.config.feature_control.floating_ips {
        return Err(sandbox.invalid(
            "annotation cni.projectcalico.org/floatingIPs needs feature_control.floating_ips in the CNI configuration",
        ));
    }
    Ok(endpoint)
}

/// As Kubernetes' own pods are converted, from what the runtime says of this one.
fn of_pod(
    cni: &Cni,
    sandbox: &Sandbox,
    mut pod: kubernetes::Pod,
    addresses: &[IpAddr],
) -> Result<WorkloadEndpoint, WireError> {
    pod.spec.node_name.clone_from(&cni.node_name);
    pod.status.pod_ips = addresses.iter().map(|address| PodIp { ip: address.to_string() }).collect();
    let converted =
        kubernetes::pod_endpoint(&pod, &cni.interface_prefixes).map_err(|error| sandbox.invalid(error))?;
    for correction in &converted.corrections {
        tracing::warn!(pod = sandbox.display(), %correction, "annotation corrected");
    }
    let mut endpoint = converted.endpoint;
    if !sandbox.uses_kubernetes_policy() {
        endpoint.spec.profiles = vec![sandbox.config.name().to_owned()];
    }
    Ok(endpoint)
}

fn of_container(cni: &Cni, sandbox: &Sandbox, addresses: &[IpAddr]) -> WorkloadEndpoint {
    let mut metadata = Metadata::namespaced(sandbox.namespace(), "");
    metadata.labels.clone_from(&sandbox.labels);
    metadata.labels.insert(ORCHESTRATOR_LABEL.to_owned(), "cni".to_owned());
    metadata.labels.insert(NAMESPACE_LABEL.to_owned(), sandbox.namespace().to_owned());
    let spec = WorkloadEndpointSpec {
        orchestrator: "cni".to_owned(),
        workload: sandbox.container_id.clone(),
        node: cni.node_name.clone(),
        endpoint: sandbox.interface.clone(),
        ip_networks: addresses.iter().map(|address| Net::from(IpNet::from(*address))).collect(),
        profiles: vec![sandbox.config.name().to_owned()],
        interface_name: host_interface(cni, sandbox),
        ..WorkloadEndpointSpec::default()
    };
    WorkloadEndpoint::new(metadata, spec)
}

/// The name of the sandbox's interface on the host: by the same hash, pods' is made from namespace and name, that of other
/// containers from their id and interface.
pub(super) fn host_interface(cni: &Cni, sandbox: &Sandbox) -> String {
    let (first, second) = match &sandbox.pod {
        Some(pod) => (sandbox.namespace(), pod.metadata.name.as_str()),
        None => (sandbox.container_id.as_str(), sandbox.interface.as_str()),
    };
    kubernetes::interface_name(&cni.interface_prefixes, first, second)
}

/// Writes an endpoint over the revision that was read, or as a new one. When someone else has touched it meanwhile, theirs
/// is read again and ours put over it.
pub(super) fn write(
    store: &dyn Store,
    endpoint: &WorkloadEndpoint,
    replaces: Option<&Revision>,
) -> Result<(), StoreError> {
    let row = Row::Resource(Resource::from(endpoint.clone()));
    let (key, text) = (row.key(), row.encode());
    let written = match replaces {
        Some(revision) => store.update(&key, &text, Some(revision)),
        None => store.create(&key, &text),
    };
    match written {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {
            objects::modify(store, endpoint.clone(), |stored: &mut WorkloadEndpoint| {
                let revision = stored.metadata.resource_version.take();
                stored.clone_from(endpoint);
                stored.metadata.resource_version = revision;
                Ok::<(), StoreError>(())
            })
            .map(drop)
        }
        Err(error) => Err(error),
    }
}

/// The endpoint's identity for the dataplane.
pub(super) fn identity(endpoint: &WorkloadEndpoint) -> WorkloadEndpointId {
    let namespace = endpoint.metadata.namespace.as_deref().unwrap_or("default");
    calc::workload_id(namespace, &endpoint.metadata.name, &endpoint.spec)
}

/// The network that an endpoint was made for; none if another program made it.
pub(super) fn network(endpoint: &WorkloadEndpoint) -> Option<&str> {
    endpoint.metadata.annotations.get(NETWORK_ANNOTATION).map(String::as_str)
}

/// Notes the MAC, which is known once the link is there; whether it was another.
pub(super) fn set_mac(endpoint: &mut WorkloadEndpoint, mac: Option<kernel::MacAddress>) -> bool {
    let mac = mac.map(|mac| MacAddress(mac.0));
    let differs = mac.is_some() && endpoint.spec.mac != mac;
    if differs {
        endpoint.spec.mac = mac;
    }
    differs
}
