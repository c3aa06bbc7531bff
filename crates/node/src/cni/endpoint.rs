//! The sandbox's WorkloadEndpoint, and the profile that it relies on.

use std::net::IpAddr;

use api::kubernetes::{self, Namespace, Pod, PodIp};
use api::scalars::{MacAddress, Net};
use api::wire::WireError;
use api::{Action, EntityRule, Metadata, Profile, ProfileSpec, Rule, WorkloadEndpoint, WorkloadEndpointSpec};
use calc::contract::WorkloadEndpointId;
use datastore::{Store, StoreError, objects};
use ipnet::IpNet;

use super::request::Sandbox;
use super::{Cni, refuse};

const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// The endpoint of a sandbox with these addresses; the MAC is not known yet.
pub(super) fn build(
    cni: &Cni,
    sandbox: &Sandbox,
    addresses: &[IpAddr],
) -> Result<WorkloadEndpoint, WireError> {
    let mut endpoint = match &sandbox.pod {
        Some(_) => of_pod(cni, sandbox, addresses)?,
        None => of_container(cni, sandbox, addresses),
    };
    endpoint.metadata.name = sandbox.endpoint_name(&cni.node_name)?;
    endpoint.metadata.namespace = Some(sandbox.namespace().to_owned());
    endpoint.metadata.resource_version = None;
    endpoint.spec.container_id.clone_from(&sandbox.container_id);
    if !endpoint.spec.ip_nats.is_empty() && !sandbox.config.feature_control.floating_ips {
        let msg = "annotation cni.projectcalico.org/floatingIPs needs feature_control.floating_ips in the CNI configuration";
        return Err(refuse(api::cni::code::INVALID_CONFIG, msg));
    }
    Ok(endpoint)
}

/// As Kubernetes' own pods are converted, from what the runtime says of this one.
fn of_pod(cni: &Cni, sandbox: &Sandbox, addresses: &[IpAddr]) -> Result<WorkloadEndpoint, WireError> {
    let Some(name) = &sandbox.pod else { return Ok(of_container(cni, sandbox, addresses)) };
    let mut pod = Pod { metadata: Metadata::namespaced(&name.namespace, &name.name), ..Pod::default() };
    pod.metadata.labels.clone_from(&sandbox.labels);
    pod.metadata.annotations.clone_from(&sandbox.annotations);
    pod.spec.node_name.clone_from(&cni.node_name);
    pod.status.pod_ips = addresses.iter().map(|address| PodIp { ip: address.to_string() }).collect();
    let converted = kubernetes::pod_endpoint(&pod, &cni.interface_prefixes)
        .map_err(|error| refuse(api::cni::code::INVALID_CONFIG, format!("{}: {error}", sandbox.display())))?;
    for correction in &converted.corrections {
        tracing::warn!(pod = sandbox.display(), %correction, "annotation corrected");
    }
    let mut endpoint = converted.endpoint;
    if !uses_kubernetes_policy(sandbox) {
        endpoint.spec.profiles = vec![sandbox.config.name().to_owned()];
    }
    Ok(endpoint)
}

fn of_container(cni: &Cni, sandbox: &Sandbox, addresses: &[IpAddr]) -> WorkloadEndpoint {
    let prefix = cni.interface_prefixes.split(',').next().unwrap_or_default();
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
        interface_name: host_interface_of_container(prefix, &sandbox.container_id, &sandbox.interface),
        ..WorkloadEndpointSpec::default()
    };
    WorkloadEndpoint::new(metadata, spec)
}

/// Pods have names from their namespace and name; other containers from their id and interface, by the same hash.
fn host_interface_of_container(prefix: &str, container: &str, interface: &str) -> String {
    kubernetes::interface_name(prefix, container, interface)
}

fn uses_kubernetes_policy(sandbox: &Sandbox) -> bool {
    sandbox.config.policy.kind.as_deref() == Some("k8s")
}

/// Makes the profile that the endpoint relies on, when there is none. On a cluster, controllers make `kns.` profiles from
/// namespaces; without them a pod's namespace has to be known all the same, or its traffic would be denied.
pub(super) fn ensure_profile(store: &dyn Store, sandbox: &Sandbox) -> Result<(), StoreError> {
    let allow = || vec![Rule::new(Action::Allow)];
    let profile = if sandbox.pod.is_some() && uses_kubernetes_policy(sandbox) {
        let mut namespace = Namespace { metadata: Metadata::named(sandbox.namespace()) };
        let label = ("kubernetes.io/metadata.name".to_owned(), sandbox.namespace().to_owned());
        namespace.metadata.labels.extend([label]);
        match kubernetes::namespace_profile(&namespace) {
            Ok(profile) => profile,
            // A name that is no namespace's cannot be a pod's either; the endpoint's own validation says so.
            Err(_) => return Ok(()),
        }
    } else if sandbox.pod.is_some() {
        let spec = ProfileSpec { ingress: allow(), egress: allow(), ..ProfileSpec::default() };
        Profile::new(Metadata::named(sandbox.config.name()), spec)
    } else {
        same_network_profile(sandbox.config.name())
    };
    objects::create_if_absent(store, profile).map(drop)
}

/// Calico's profile for containers without an orchestrator: members of the network reach each other, and everything.
fn same_network_profile(network: &str) -> Profile {
    let mut from_same = Rule::new(Action::Allow);
    from_same.source = EntityRule { selector: format!("has({network})"), ..EntityRule::default() };
    let spec = ProfileSpec {
        ingress: vec![from_same],
        egress: vec![Rule::new(Action::Allow)],
        labels_to_apply: [(network.to_owned(), String::new())].into(),
    };
    Profile::new(Metadata::named(network), spec)
}

/// The endpoint's identity for the dataplane.
pub(super) fn identity(endpoint: &WorkloadEndpoint) -> WorkloadEndpointId {
    let namespace = endpoint.metadata.namespace.as_deref().unwrap_or("default");
    calc::workload_id(namespace, &endpoint.metadata.name, &endpoint.spec)
}

/// Writes the MAC, which is known once the link is there.
pub(super) fn set_mac(endpoint: &mut WorkloadEndpoint, mac: kernel::MacAddress) {
    endpoint.spec.mac = Some(MacAddress(mac.0));
}
