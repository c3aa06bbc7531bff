//! Pods as workload endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use sha1::{Digest, Sha1};

use super::objects::{ContainerPort, Pod};
use super::pod_address::{annotation_path, pod_addresses};
use super::qos::qos_controls;
use super::{
    FieldError, derived_metadata, namespace_or_default, namespace_profile_name, service_account_profile_name,
};
use crate::endpoint_name::{Workload, WorkloadEndpointName};
use crate::scalars::{Net, Protocol};
use crate::v3::{IPNAT, WorkloadEndpoint, WorkloadEndpointPort, WorkloadEndpointSpec};

/// What the names of pods' interfaces on the host start with, unless it is configured.
pub const DEFAULT_INTERFACE_PREFIX: &str = "cali";

const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
const ALLOWED_SOURCE_PREFIXES: &str = "cni.projectcalico.org/allowedSourcePrefixes";
const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// From this length on, an account's name is not a label: 63 is the most that a label's value may have.
const LONGEST_ACCOUNT_LABEL: usize = 62;

const ORCHESTRATOR: &str = "k8s";
const INTERFACE: &str = "eth0";

/// A pod as an endpoint, and what had to be changed or ignored on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvertedPod {
    /// The endpoint.
    pub endpoint: WorkloadEndpoint,
    /// Annotations about QoS that were ignored or brought into range, to be reported.
    pub corrections: Vec<FieldError>,
}

/// The name of a pod's interface on the host: the first of the prefixes (separated by commas; see
/// [`DEFAULT_INTERFACE_PREFIX`]), and 11 hexadecimal digits that depend on the pod alone.
pub fn interface_name(prefixes: &str, namespace: &str, pod: &str) -> String {
    let prefix = prefixes.split(',').next().map(str::trim).unwrap_or_default();
    let digest = Sha1::digest(format!("{namespace}.{pod}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}{}", &digits[..11])
}

/// A pod as a workload endpoint, whose interface on the host has the first of these prefixes. A finished pod has an
/// endpoint without addresses.
///
/// # Errors
/// The pod is not scheduled or on the host's network, or an address, UID or annotation is malformed.
pub fn pod_endpoint(pod: &Pod, interface_prefixes: &str) -> Result<ConvertedPod, FieldError> {
    if pod.spec.host_network {
        return Err(FieldError::new("spec.hostNetwork", "the pod has no network of its own"));
    }
    if pod.spec.node_name.is_empty() {
        return Err(FieldError::new("spec.nodeName", "the pod is not scheduled to a node yet"));
    }
    let (namespace, name) = (namespace_or_default(&pod.metadata), pod.metadata.name.as_str());
    let addresses = pod_addresses(pod)?;
    let (qos_controls, corrections) = qos_controls(&pod.metadata.annotations);
    let spec = WorkloadEndpointSpec {
        orchestrator: ORCHESTRATOR.to_owned(),
        node: pod.spec.node_name.clone(),
        pod: name.to_owned(),
        endpoint: INTERFACE.to_owned(),
        container_id: pod.note(CONTAINER_ID).to_owned(),
        service_account_name: pod.spec.service_account_name.clone(),
        interface_name: interface_name(interface_prefixes, namespace, name),
        profiles: profiles(pod),
        ip_nats: floating_addresses(pod, &addresses)?,
        ip_networks: addresses.into_iter().map(|address| Net::from(ipnet::IpNet::from(address))).collect(),
        allow_spoofed_source_prefixes: source_prefixes(pod)?,
        ports: ports(pod),
        qos_controls: qos_controls.map(Box::new),
        ..WorkloadEndpointSpec::default()
    };
    let mut metadata = derived_metadata(&pod.metadata, endpoint_name(pod)?)?;
    metadata.namespace = Some(namespace.to_owned());
    metadata.generate_name = pod.metadata.generate_name.clone();
    metadata.labels = labels(pod);
    metadata.annotations = annotations(pod);
    Ok(ConvertedPod { endpoint: WorkloadEndpoint::new(metadata, spec), corrections })
}

fn endpoint_name(pod: &Pod) -> Result<String, FieldError> {
    let name = WorkloadEndpointName {
        node: pod.spec.node_name.clone(),
        workload: Workload::Pod(pod.metadata.name.clone()),
        endpoint: INTERFACE.to_owned(),
    };
    name.to_name().map_err(|error| FieldError::new("metadata.name", error.to_string()))
}

fn profiles(pod: &Pod) -> Vec<String> {
    let namespace = namespace_or_default(&pod.metadata);
    let account = &pod.spec.service_account_name;
    let account = (!account.is_empty()).then(|| service_account_profile_name(namespace, account));
    [namespace_profile_name(namespace)].into_iter().chain(account).collect()
}

fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone();
    labels.insert(NAMESPACE_LABEL.to_owned(), namespace_or_default(&pod.metadata).to_owned());
    labels.insert(ORCHESTRATOR_LABEL.to_owned(), ORCHESTRATOR.to_owned());
    let account = &pod.spec.service_account_name;
    if (1..=LONGEST_ACCOUNT_LABEL).contains(&account.len()) {
        labels.insert(SERVICE_ACCOUNT_LABEL.to_owned(), account.clone());
    }
    labels
}

fn annotations(pod: &Pod) -> BTreeMap<String, String> {
    let kept = pod.metadata.annotations.get_key_value(NETWORK_STATUS);
    kept.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Floating addresses lead to the pod's own of the same family; one without counterpart leads nowhere.
fn floating_addresses(pod: &Pod, own: &[IpAddr]) -> Result<Vec<IPNAT>, FieldError> {
    let floating: Vec<IpAddr> = list(pod, FLOATING_IPS, "a JSON list of addresses such as [\"192.0.2.1\"]")?;
    let nat = |external: IpAddr| {
        let internal = own.iter().find(|address| address.is_ipv4() == external.is_ipv4())?;
        Some(IPNAT { internal_ip: *internal, external_ip: external })
    };
    Ok(floating.into_iter().filter_map(nat).collect())
}

fn source_prefixes(pod: &Pod) -> Result<Vec<Net>, FieldError> {
    let nets: Vec<Net> =
        list(pod, ALLOWED_SOURCE_PREFIXES, "a JSON list of CIDRs such as [\"192.0.2.0/24\"]")?;
    Ok(nets.into_iter().map(|net| Net::from(net.net())).collect())
}

/// An annotation that is a list in JSON; nothing if it is absent.
fn list<T: DeserializeOwned>(pod: &Pod, name: &str, expected: &str) -> Result<Vec<T>, FieldError> {
    let Some(text) = pod.metadata.annotations.get(name) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| {
        FieldError::bad_value(annotation_path(name), text, format!("is not {expected}: {error}"))
    })
}

/// Ports that rules can name, or that the host leads to.
fn ports(pod: &Pod) -> Vec<WorkloadEndpointPort> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    containers.flat_map(|container| &container.ports).filter_map(port).collect()
}

fn port(port: &ContainerPort) -> Option<WorkloadEndpointPort> {
    let useful = port.container_port != 0 && (!port.name.is_empty() || port.host_port != 0);
    let protocol = match port.protocol.as_str() {
        "" | "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    useful.then(|| WorkloadEndpointPort {
        name: port.name.clone(),
        protocol,
        port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip.clone(),
    })
}
