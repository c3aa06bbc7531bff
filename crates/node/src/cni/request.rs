//! What a call says of the pod, read from the configuration and CNI_ARGS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::cni::{CalicoConfig, code};
use api::endpoint_name::{Workload, WorkloadEndpointName};
use api::wire::{CniRequest, WireError};

use super::{Cni, failed, refuse};

/// A sandbox as the call names it.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    /// Its configuration.
    pub(super) config: CalicoConfig,
    /// CNI_CONTAINERID.
    pub(super) container_id: String,
    /// CNI_IFNAME.
    pub(super) interface: String,
    /// The pod, when the runtime is Kubernetes'.
    pub(super) pod: Option<PodName>,
    /// The pod's annotations.
    pub(super) annotations: BTreeMap<String, String>,
    /// The endpoint's labels, as the user gave them.
    pub(super) labels: BTreeMap<String, String>,
    /// CNI_ARGS `IP`: the addresses asked for.
    pub(super) wanted: Vec<IpAddr>,
}

/// A pod's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodName {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
}

impl Sandbox {
    /// Reads a call.
    pub(super) fn read(request: &CniRequest) -> Result<Self, WireError> {
        let text = serde_json::to_vec(&request.config).map_err(failed)?;
        let (config, _) = CalicoConfig::parse(&text).map_err(|error| refuse(error.code, error.reason))?;
        let argument = |name: &str| request.args.get(name).filter(|value| !value.is_empty());
        let pod = argument("K8S_POD_NAME").map(|name| PodName {
            namespace: argument("K8S_POD_NAMESPACE").map_or_else(|| "default".to_owned(), String::clone),
            name: name.clone(),
        });
        Ok(Self {
            container_id: request.container_id.clone(),
            interface: request.interface.clone(),
            pod,
            annotations: config.annotations(),
            labels: config.labels(),
            wanted: wanted_addresses(argument("IP").map_or("", String::as_str))?,
            config,
        })
    }

    /// The handle of its addresses (control-plane.md 1.4).
    pub(super) fn handle(&self) -> String {
        format!("{}.{}", self.config.name(), self.container_id)
    }

    /// The namespace of its endpoint.
    pub(super) fn namespace(&self) -> &str {
        self.pod.as_ref().map_or("default", |pod| &pod.namespace)
    }

    /// The name of its endpoint on a node. A pod has one endpoint, whatever its interface is called.
    pub(super) fn endpoint_name(&self, node: &str) -> Result<String, WireError> {
        let (workload, endpoint) = match &self.pod {
            Some(pod) => (Workload::Pod(pod.name.clone()), "eth0".to_owned()),
            None => (Workload::Container(self.container_id.clone()), self.interface.clone()),
        };
        WorkloadEndpointName { node: node.to_owned(), workload, endpoint }
            .to_name()
            .map_err(|error| refuse(code::INVALID_ENVIRONMENT, error.to_string()))
    }

    /// What it is called in messages.
    pub(super) fn display(&self) -> String {
        match &self.pod {
            Some(pod) => format!("pod {}/{}", pod.namespace, pod.name),
            None => format!("container {}", self.container_id),
        }
    }
}

fn wanted_addresses(text: &str) -> Result<Vec<IpAddr>, WireError> {
    let parse = |item: &str| {
        let address = item.split('/').next().unwrap_or(item);
        address
            .parse()
            .map_err(|_| refuse(code::INVALID_ENVIRONMENT, format!("CNI_ARGS IP={item}: not an address")))
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

/// Refuses what this node cannot or must not serve, before anything is made.
pub(super) fn check_config(cni: &Cni, sandbox: &Sandbox) -> Result<(), WireError> {
    let config = &sandbox.config;
    let kind = config.dataplane_options.get("type").and_then(|kind| kind.as_str());
    if let Some(kind) = kind.filter(|kind| !matches!(*kind, "" | "default")) {
        let msg = format!("dataplane_options.type {kind:?} is not supported; leave it out");
        return Err(refuse(code::UNSUPPORTED_FIELD, msg));
    }
    check_node_name(cni, config)
}

/// The configuration's idea of this node has to be ours; one that has none relies on the file that we wrote.
fn check_node_name(cni: &Cni, config: &CalicoConfig) -> Result<(), WireError> {
    match config.nodename.as_ref().or(config.hostname.as_ref()).filter(|name| !name.is_empty()) {
        Some(name) if name.eq_ignore_ascii_case(&cni.node_name) => Ok(()),
        Some(name) => {
            let msg = format!(
                "nodename {name:?} is not this node, which is {:?}; correct nodename in the CNI configuration, or NODENAME \
                 of the node",
                cni.node_name
            );
            Err(refuse(code::INVALID_CONFIG, msg))
        }
        None => {
            let file = config.nodename_file.as_ref().unwrap_or(&cni.nodename_file);
            if config.nodename_file_optional || file.exists() {
                return Ok(());
            }
            let msg = format!(
                "{} does not exist; the node writes it when it starts: check that `tortie node` runs with the same \
                 CALICO_NODENAME_FILE, or set nodename",
                file.display()
            );
            Err(refuse(code::TRY_AGAIN_LATER, msg))
        }
    }
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
    fn addresses_that_are_asked_for_have_to_be_addresses() {
        let config = json!({"name": "net"});
        let sandbox = Sandbox::read(&request(&[("IP", "10.0.0.1/24, fd00::1")], config.clone())).unwrap();
        assert_eq!(sandbox.wanted.len(), 2);
        let error = Sandbox::read(&request(&[("IP", "ten")], config)).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    }
}
