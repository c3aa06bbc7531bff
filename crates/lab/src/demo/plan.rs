//! The demo's pods, ports and policies.

use std::collections::BTreeMap;

use crate::state::Pod;

/// The pool that pods get their addresses from.
pub(crate) const POOL: &str = "10.65.0.0/16";
/// Ports on which every pod has a TCP and a UDP server.
pub(crate) const PORTS: [u16; 2] = [8080, 5353];

/// Two pods on each of three hosts, in two namespaces.
pub(crate) fn pods() -> Vec<Pod> {
    [
        ("shop", "web", "node-1", "app=web"),
        ("shop", "db", "node-2", "app=db"),
        ("shop", "cache", "node-3", "app=cache"),
        ("guests", "alice", "node-1", "role=guest"),
        ("guests", "bob", "node-2", "role=guest"),
        ("guests", "carol", "node-3", "role=staff"),
    ]
    .into_iter()
    .map(|(namespace, name, node, label)| pod(namespace, name, node, label))
    .collect()
}

fn pod(namespace: &str, name: &str, node: &str, label: &str) -> Pod {
    let (key, value) = label.split_once('=').unwrap_or((label, ""));
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        node: node.to_owned(),
        container_id: format!("demo-{namespace}-{name}"),
        labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        annotations: BTreeMap::new(),
        addresses: Vec::new(),
    }
}

/// Ingress to the database: a Kubernetes NetworkPolicy, applied as `kubectl` would have it.
pub(crate) const KUBERNETES_POLICY: &str = r"apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db-ingress
  namespace: shop
spec:
  podSelector:
    matchLabels:
      app: db
  policyTypes: [Ingress]
  ingress:
    - from:
        - podSelector:
            matchLabels:
              app: web
      ports:
        - protocol: TCP
          port: 8080
    - from:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: guests
          podSelector:
            matchLabels:
              role: staff
      ports:
        - protocol: UDP
          port: 5353
";

/// Egress of guests: a Calico GlobalNetworkPolicy. `CACHE` stands for the cache's address.
pub(crate) const CALICO_POLICY: &str = r"apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata:
  name: guests-egress
spec:
  order: 100
  selector: role == 'guest'
  namespaceSelector: projectcalico.org/name == 'guests'
  types: [Egress]
  egress:
    - action: Deny
      protocol: TCP
      destination:
        nets: [CACHE/32]
        ports: [8000:9000]
    - action: Deny
      protocol: UDP
      destination:
        selector: app == 'web'
        namespaceSelector: projectcalico.org/name == 'shop'
    - action: Allow
";
