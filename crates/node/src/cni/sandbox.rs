//! What a call says of the sandbox, read from the configuration and CNI_ARGS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Metadata;
use api::cni::{CalicoConfig, code};
use api::endpoint_name::{Workload, WorkloadEndpointName};
use api::kubernetes::Pod;
use api::wire::{CniRequest, WireError};
use kernel::MacAddress;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{failed, refuse};

/// A sandbox as the call names it.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    /// Its configuration.
    pub(super) config: CalicoConfig,
    /// CNI_CONTAINERID.
    pub(super) container_id: String,
    /// CNI_IFNAME.
    pub(super) interface: String,
    /// The pod, when the runtime is Kubernetes': its name, its namespace, and what the runtime says of it.
    pub(super) pod: Option<Pod>,
    /// The labels that the runtime gives to the endpoint of a container that is no pod.
    pub(super) labels: BTreeMap<String, String>,
    /// CNI_ARGS `IP`: the addresses asked for.
    pub(super) wanted: Vec<IpAddr>,
}

impl Sandbox {
    /// Reads a call.
    pub(super) fn read(request: &CniRequest) -> Result<Self, WireError> {
        let text = serde_json::to_vec(&request.config).map_err(failed)?;
        let (config, _) = CalicoConfig::parse(&text).map_err(|error| refuse(error.code, error.reason))?;
        let argument = |name: &str| request.args.get(name).map_or("", String::as_str);
        Ok(Self {
            container_id: request.container_id.clone(),
            interface: request.interface.clone(),
            pod: pod(&config, argument("K8S_POD_NAMESPACE"), argument("K8S_POD_NAME"))?,
            labels: config.labels(),
            wanted: wanted_addresses(argument("IP"), &config.args)?,
            config,
        })
    }

    /// The sandbox of an endpoint that is there already, with the configuration of this one.
    pub(super) fn of_endpoint(&self, endpoint: &api::WorkloadEndpoint) -> Self {
        let (spec, namespace) = (&endpoint.spec, endpoint.metadata.namespace.as_deref().unwrap_or_default());
        let pod = || Pod { metadata: Metadata::namespaced(namespace, &spec.pod), ..Pod::default() };
        Self {
            container_id: spec.container_id.clone(),
            interface: spec.endpoint.clone(),
            pod: (spec.orchestrator == "k8s").then(pod),
            ..self.clone()
        }
    }

    /// The handle of its addresses (control-plane.md 1.4).
    pub(super) fn handle(&self) -> String {
        format!("{}.{}", self.config.name(), self.container_id)
    }

    /// The Ethernet address of its interface, unless it asks for one: of its own, and the same when ADD is repeated. Of the
    /// first octet, the two low bits say that it is one host's and that nobody administers it (IEEE 802, 8.2).
    pub(super) fn mac(&self) -> MacAddress {
        let digest = Sha256::digest(format!("{}.{}", self.container_id, self.interface));
        let mut octets: [u8; 6] = std::array::from_fn(|index| digest[index]);
        octets[0] = octets[0] & 0xfc | 0x02;
        MacAddress(octets)
    }

    /// The namespace of its endpoint.
    pub(super) fn namespace(&self) -> &str {
        self.pod.as_ref().and_then(|pod| pod.metadata.namespace.as_deref()).unwrap_or("default")
    }

    /// An annotation of the pod.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.pod.as_ref()?.metadata.annotations.get(name).map(String::as_str)
    }

    /// Whether rules come from Kubernetes: then the profile is the namespace's, not the network's.
    pub(super) fn uses_kubernetes_policy(&self) -> bool {
        self.pod.is_some() && self.config.policy.kind.as_deref() == Some("k8s")
    }

    /// The name of its endpoint on a node. A pod has one endpoint, whatever its interface is called.
    pub(super) fn endpoint_name(&self, node: &str) -> Result<String, WireError> {
        let (workload, endpoint) = match &self.pod {
            Some(pod) => (Workload::Pod(pod.metadata.name.clone()), "eth0".to_owned()),
            None => (Workload::Container(self.container_id.clone()), self.interface.clone()),
        };
        WorkloadEndpointName { node: node.to_owned(), workload, endpoint }
            .to_name()
            .map_err(|error| refuse(code::INVALID_ENVIRONMENT, error.to_string()))
    }

    /// What it is called in messages.
    pub(super) fn display(&self) -> String {
        match &self.pod {
            Some(pod) => format!("pod {}/{}", self.namespace(), pod.metadata.name),
            None => format!("container {}", self.container_id),
        }
    }

    /// An error about what the sandbox asks for.
    pub(super) fn invalid(&self, reason: impl std::fmt::Display) -> WireError {
        refuse(code::INVALID_CONFIG, format!("{}: {reason}", self.display()))
    }
}

/// The pod that CNI_ARGS name. What it is like comes from the runtime: `args.tortie.pod`, CNI's `args.cni.labels`, and the
/// annotations that containerd and CRI-O pass on.
fn pod(config: &CalicoConfig, namespace: &str, name: &str) -> Result<Option<Pod>, WireError> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut pod = config.pod().map_err(|error| refuse(error.code, error.reason))?.unwrap_or_default();
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    let known = std::mem::replace(&mut pod.metadata, Metadata::namespaced(namespace, name));
    pod.metadata.generate_name = known.generate_name;
    pod.metadata.labels = known.labels;
    pod.metadata.labels.extend(config.labels());
    pod.metadata.annotations = known.annotations;
    pod.metadata.annotations.extend(config.annotations());
    Ok(Some(pod))
}

/// CNI_ARGS `IP`, else CNI's convention `args.cni.ips`.
fn wanted_addresses(argument: &str, args: &Value) -> Result<Vec<IpAddr>, WireError> {
    let conventional = args.pointer("/cni/ips").and_then(Value::as_array).into_iter().flatten();
    let items: Vec<&str> = match argument {
        "" => conventional.filter_map(Value::as_str).collect(),
        argument => argument.split(',').collect(),
    };
    let parse = |item: &str| {
        let address = item.split('/').next().unwrap_or(item);
        let reason = || format!("{item:?} in CNI_ARGS IP or args.cni.ips is not an address");
        address.parse().map_err(|_| refuse(code::INVALID_ENVIRONMENT, reason()))
    };
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

#[cfg(test)]
mod tests {
    use api::wire::CniCommand;
    use serde_json::json;

    use super::*;

    fn request(args: &[(&str, &str)], config: serde_json::Value) -> CniRequest {
        CniRequest {
            command: CniCommand::Add,
            container_id: "c1".into(),
            netns: None,
            interface: "net1".into(),
            args: args.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            config,
            delegated: None,
        }
    }

    #[test]
    fn a_pod_is_named_by_its_arguments_and_a_container_by_its_id() {
        let config = json!({"name": "net", "cniVersion": "1.0.0"});
        let pod =
            Sandbox::read(&request(&[("K8S_POD_NAME", "p-1"), ("K8S_POD_NAMESPACE", "ns")], config.clone()));
        let pod = pod.unwrap();
        assert_eq!(pod.endpoint_name("n-1").unwrap(), "n--1-k8s-p--1-eth0");
        assert_eq!((pod.handle().as_str(), pod.namespace()), ("net.c1", "ns"));
        let container = Sandbox::read(&request(&[], config)).unwrap();
        assert_eq!(container.endpoint_name("n").unwrap(), "n-cni-c1-net1");
    }

    #[test]
    fn what_the_runtime_says_of_the_pod_comes_together_under_the_name_of_the_arguments() {
        let config = json!({
            "name": "net",
            "args": {
                "cni": {"labels": [{"key": "a", "value": "cni"}]},
                "tortie": {"pod": {"metadata": {"name": "other", "labels": {"a": "pod", "b": "pod"}, "generateName": "p-"}}},
            },
            "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"note": "1"}},
        });
        let sandbox = Sandbox::read(&request(&[("K8S_POD_NAME", "p-1")], config)).unwrap();
        let metadata = &sandbox.pod.as_ref().unwrap().metadata;
        assert_eq!((metadata.name.as_str(), metadata.namespace.as_deref()), ("p-1", Some("default")));
        let labels = [("a".to_owned(), "cni".to_owned()), ("b".to_owned(), "pod".to_owned())];
        assert_eq!(metadata.labels, labels.into());
        assert_eq!(metadata.generate_name, "p-");
        assert_eq!(sandbox.annotation("note"), Some("1"));
    }

    #[test]
    fn addresses_that_are_asked_for_have_to_be_addresses() {
        let config = json!({"name": "net"});
        let sandbox = Sandbox::read(&request(&[("IP", "10.0.0.1/24, fd00::1")], config.clone())).unwrap();
        assert_eq!(sandbox.wanted.len(), 2);
        let conventional = json!({"name": "net", "args": {"cni": {"ips": ["10.0.0.7"]}}});
        assert_eq!(Sandbox::read(&request(&[], conventional)).unwrap().wanted.len(), 1);
        let error = Sandbox::read(&request(&[("IP", "ten")], config)).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    }
}
