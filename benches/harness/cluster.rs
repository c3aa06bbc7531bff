//! Rows of a cluster: local and remote endpoints, and policies over them.

use anyhow::Result;
use api::{Key, Kind};
use datastore::Store;
use serde_json::{Value, json};

/// The host under test.
pub(crate) const NODE: &str = "node";
/// Endpoints belong to one of these; half of them are on no endpoint of the host.
pub(crate) const APPS: usize = 100;

/// How much there is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Size {
    /// Workloads on the host
    #[arg(long, default_value_t = 100)]
    pub(crate) pods: usize,
    /// Workloads on other hosts
    #[arg(long, default_value_t = 10_000)]
    pub(crate) remote: usize,
    /// Policies, each with an ingress and an egress rule
    #[arg(long, default_value_t = 1_000)]
    pub(crate) policies: usize,
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pods, remote, policies } = self;
        write!(f, "{pods} pods here, {remote} elsewhere, {policies} policies")
    }
}

/// Writes a cluster to an empty datastore.
pub(crate) fn fill(store: &dyn Store, size: Size) -> Result<()> {
    let local = (0..size.pods).map(|number| pod(number, NODE, number % (APPS / 2)));
    let remote = (0..size.remote).map(|number| remote_pod(number, number % APPS));
    let policies = (0..size.policies).map(|number| policy(number, 80));
    for (key, value) in std::iter::once(namespace()).chain(local).chain(remote).chain(policies) {
        store.create(&key, &value.to_string())?;
    }
    Ok(())
}

/// The host's end of a local pod's veth.
pub(crate) fn interface(number: usize) -> String {
    format!("cali{number}")
}

/// What Kubernetes' namespace `default` becomes.
pub(crate) fn namespace() -> (Key, Value) {
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "Profile", "metadata": {"name": "kns.default"},
        "spec": {"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]},
    });
    (Key::cluster(Kind::Profile, "kns.default"), value)
}

/// An endpoint of another host.
pub(crate) fn remote_pod(number: usize, app: usize) -> (Key, Value) {
    pod(0x1_0000 + number, &format!("other-{}", number / 100), app)
}

/// The address of an endpoint elsewhere.
pub(crate) fn remote_address(number: usize) -> [u8; 4] {
    address(0x1_0000 + number)
}

fn address(number: usize) -> [u8; 4] {
    (0x0a41_0000 + u32::try_from(number).expect("fewer than 2^24 pods")).to_be_bytes()
}

/// An endpoint as the CNI plugin of Calico or ours writes it.
pub(crate) fn pod(number: usize, node: &str, app: usize) -> (Key, Value) {
    let resource = format!("{node}-k8s-pod--{number}-eth0");
    let key = Key::namespaced(Kind::WorkloadEndpoint, "default", &resource);
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint",
        "metadata": {
            "name": resource, "namespace": "default",
            "labels": {
                "app": format!("app-{app}"), "projectcalico.org/namespace": "default",
                "projectcalico.org/orchestrator": "k8s",
            },
        },
        "spec": {
            "orchestrator": "k8s", "node": node, "pod": format!("pod-{number}"), "endpoint": "eth0",
            "containerID": format!("{number:064x}"), "interfaceName": interface(number),
            "profiles": ["kns.default"],
            "ipNetworks": [format!("{}/32", std::net::Ipv4Addr::from(address(number)))],
        },
    });
    (key, value)
}

/// A policy for the pods of one app: from a second app to a port, and to a third app's DNS.
pub(crate) fn policy(number: usize, port: u16) -> (Key, Value) {
    let name = format!("policy-{number}");
    let value = json!({
        "apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name},
        "spec": {
            "order": number, "selector": format!("app == 'app-{}'", number % (APPS / 2)),
            "types": ["Ingress", "Egress"],
            "ingress": [{
                "action": "Allow", "protocol": "TCP",
                "source": {"selector": format!("app == 'app-{}'", (number + 1) % APPS)},
                "destination": {"ports": [port]},
            }],
            "egress": [{
                "action": "Allow", "protocol": "UDP",
                "destination": {"selector": format!("app == 'app-{}'", (number + 7) % APPS), "ports": [53]},
            }],
        },
    });
    (Key::cluster(Kind::GlobalNetworkPolicy, &name), value)
}
