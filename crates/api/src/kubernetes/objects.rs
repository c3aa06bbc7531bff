//! Kubernetes objects as the API server gives them: the parts that matter here. Reading is lenient: fields that are not
//! named here are ignored, and `null` is as good as absent.
//! (What users write is read strictly, with the same types: see [`super::stored_resource`].)

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::Metadata;

/// A `Namespace`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Its name and labels.
    pub metadata: Metadata,
}

/// A `ServiceAccount`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {
    /// Its name, namespace and labels.
    pub metadata: Metadata,
}

/// A `Pod`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its name, namespace, labels and annotations.
    #[serde(deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What was asked for.
    #[serde(deserialize_with = "or_default")]
    pub spec: PodSpec,
    /// What became of it.
    #[serde(deserialize_with = "or_default")]
    pub status: PodStatus,
}

/// `spec` of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node that it is scheduled to; empty until then.
    #[serde(deserialize_with = "or_default")]
    pub node_name: String,
    /// Whether it has the host's network instead of its own.
    #[serde(deserialize_with = "or_default")]
    pub host_network: bool,
    /// The account that it runs as; empty if none.
    #[serde(deserialize_with = "or_default")]
    pub service_account_name: String,
    /// Its containers.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// Containers that run before those.
    #[serde(deserialize_with = "or_default")]
    pub init_containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The ports that it declares.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `TCP` (also if empty), `UDP` or `SCTP`.
    #[serde(deserialize_with = "or_default")]
    pub protocol: String,
    /// The port in the pod; 0 if absent.
    #[serde(deserialize_with = "or_default")]
    pub container_port: u16,
    /// The port of the host that leads to it; 0 if absent.
    #[serde(deserialize_with = "or_default")]
    pub host_port: u16,
    /// The host's address on which it does; empty for all.
    #[serde(rename = "hostIP", deserialize_with = "or_default")]
    pub host_ip: String,
}

/// `status` of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, ….
    #[serde(deserialize_with = "or_default")]
    pub phase: String,
    /// Its address; empty until it has one.
    #[serde(rename = "podIP", deserialize_with = "or_default")]
    pub pod_ip: String,
    /// All its addresses.
    #[serde(rename = "podIPs", deserialize_with = "or_default")]
    pub pod_ips: Vec<PodIp>,
}

/// One of a pod's addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}

/// A condition on labels. All parts have to hold; without any it selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that have to have these values.
    #[serde(deserialize_with = "or_default")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(deserialize_with = "or_default")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values of `In` and `NotIn`.
    #[serde(deserialize_with = "or_default")]
    pub values: Vec<String>,
}

/// A `networking.k8s.io/v1` `NetworkPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What it says.
    #[serde(deserialize_with = "or_default")]
    pub spec: NetworkPolicySpec,
}

/// `spec` of a network policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// The pods that it is about.
    #[serde(deserialize_with = "or_default")]
    pub pod_selector: LabelSelector,
    /// What may come in.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<NetworkPolicyIngressRule>,
    /// What may go out.
    #[serde(deserialize_with = "or_default")]
    pub egress: Vec<NetworkPolicyEgressRule>,
    /// `Ingress`, `Egress` or both: the directions that it is about.
    #[serde(deserialize_with = "or_default")]
    pub policy_types: Vec<String>,
}

/// Traffic that may come in: from any of the peers to any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct NetworkPolicyIngressRule {
    /// Where from; empty for anywhere.
    #[serde(deserialize_with = "or_default")]
    pub from: Vec<NetworkPolicyPeer>,
    /// To which ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<NetworkPolicyPort>,
}

/// Traffic that may go out: to any of the peers and any of the ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct NetworkPolicyEgressRule {
    /// Where to; empty for anywhere.
    #[serde(deserialize_with = "or_default")]
    pub to: Vec<NetworkPolicyPeer>,
    /// To which ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<NetworkPolicyPort>,
}

/// The other end of a rule's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPeer {
    /// Pods, in the policy's namespace unless there is a namespace selector.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses.
    pub ip_block: Option<IpBlock>,
}

/// A network with holes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// The network.
    pub cidr: String,
    /// The holes.
    #[serde(deserialize_with = "or_default")]
    pub except: Vec<String>,
}

/// Ports of one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyPort {
    /// `TCP` (also if absent), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// A number or a name; absent for all ports.
    pub port: Option<IntOrText>,
    /// Makes `port`, a number, the first of a range that ends here.
    pub end_port: Option<i64>,
}

/// A number or a text, as `intstr.IntOrString` in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IntOrText {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
}

impl fmt::Display for IntOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A `policy.networking.k8s.io/v1alpha2` `ClusterNetworkPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicy {
    /// Its name.
    pub metadata: Metadata,
    /// What it says.
    #[serde(deserialize_with = "or_default")]
    pub spec: ClusterNetworkPolicySpec,
}

/// `spec` of a cluster network policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicySpec {
    /// `Admin` or `Baseline`.
    #[serde(deserialize_with = "or_default")]
    pub tier: String,
    /// Its place in the tier: lower first.
    #[serde(deserialize_with = "or_default")]
    pub priority: i32,
    /// The pods that it is about.
    #[serde(deserialize_with = "or_default")]
    pub subject: ClusterNetworkPolicySubject,
    /// Rules for what comes in.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<ClusterNetworkPolicyIngressRule>,
    /// Rules for what goes out.
    #[serde(deserialize_with = "or_default")]
    pub egress: Vec<ClusterNetworkPolicyEgressRule>,
}

/// The pods that a cluster network policy is about: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicySubject {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    pub pods: Option<NamespacedPod>,
}

/// Pods by their own labels and those of their namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPod {
    /// The namespaces.
    #[serde(deserialize_with = "or_default")]
    pub namespace_selector: LabelSelector,
    /// The pods in them.
    #[serde(deserialize_with = "or_default")]
    pub pod_selector: LabelSelector,
}

/// A rule for what comes in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicyIngressRule {
    /// A name for people; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    #[serde(deserialize_with = "or_default")]
    pub action: String,
    /// Where from.
    #[serde(deserialize_with = "or_default")]
    pub from: Vec<ClusterNetworkPolicyPeer>,
    /// Which protocols and ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub protocols: Vec<ClusterNetworkPolicyProtocol>,
}

/// A rule for what goes out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicyEgressRule {
    /// A name for people; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    #[serde(deserialize_with = "or_default")]
    pub action: String,
    /// Where to.
    #[serde(deserialize_with = "or_default")]
    pub to: Vec<ClusterNetworkPolicyPeer>,
    /// Which protocols and ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub protocols: Vec<ClusterNetworkPolicyProtocol>,
}

/// The other end of a rule's traffic: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyPeer {
    /// All pods of these namespaces.
    pub namespaces: Option<LabelSelector>,
    /// These pods of these namespaces.
    pub pods: Option<NamespacedPod>,
    /// Networks; for egress only.
    #[serde(deserialize_with = "or_default")]
    pub networks: Vec<String>,
    /// Nodes; for egress only, and nothing that Calico can express.
    pub nodes: Option<LabelSelector>,
    /// DNS names; for egress only, and nothing that Calico can express.
    #[serde(deserialize_with = "or_default")]
    pub domain_names: Vec<String>,
}

/// Protocol and ports: one of the four.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyProtocol {
    /// TCP.
    pub tcp: Option<DestinationPort>,
    /// UDP.
    pub udp: Option<DestinationPort>,
    /// SCTP.
    pub sctp: Option<DestinationPort>,
    /// A port that the pods name, of whatever protocol; empty if absent.
    #[serde(deserialize_with = "or_default")]
    pub destination_named_port: String,
}

/// Ports of a protocol; all if there is nothing in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationPort {
    /// The port or ports.
    pub destination_port: Option<PortOrRange>,
}

/// One port or a range: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PortOrRange {
    /// One port.
    pub number: Option<i64>,
    /// Several.
    pub range: Option<PortRange>,
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct PortRange {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

/// A `discovery.k8s.io/v1` `EndpointSlice`: some of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct EndpointSlice {
    /// Its name, namespace and labels; the label `kubernetes.io/service-name` names the service.
    pub metadata: Metadata,
    /// The endpoints.
    #[serde(deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that all of them have.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// The service that the slice belongs to.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.get("kubernetes.io/service-name").map(String::as_str)
    }
}

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Its addresses, all of one family.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// The node that it is on, if on one.
    #[serde(deserialize_with = "or_default", rename = "nodeName")]
    pub node_name: String,
    /// How it is.
    #[serde(deserialize_with = "or_default")]
    pub conditions: EndpointConditions,
}

/// How an endpoint of a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Whether it takes traffic; unknown counts as yes.
    pub ready: Option<bool>,
}

/// A `v1` `Service`, reduced to its addresses.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(deserialize_with = "or_default")]
    pub spec: ServiceSpec,
    /// What is.
    #[serde(deserialize_with = "or_default")]
    pub status: ServiceStatus,
}

/// `spec` of a [`Service`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP` (also if empty), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Its first cluster IP; `None` (the word) or empty without.
    #[serde(rename = "clusterIP", deserialize_with = "or_default")]
    pub cluster_ip: String,
    /// All cluster IPs.
    #[serde(rename = "clusterIPs", deserialize_with = "or_default")]
    pub cluster_ips: Vec<String>,
    /// Further addresses.
    #[serde(rename = "externalIPs", deserialize_with = "or_default")]
    pub external_ips: Vec<String>,
    /// `Local` or `Cluster` (also if empty).
    #[serde(deserialize_with = "or_default")]
    pub external_traffic_policy: String,
    /// Its ports.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<ServicePort>,
}

/// A port of a [`Service`]. The port of its endpoints with the same name is where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ServicePort {
    /// Its name; empty if it is the only one.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The port.
    pub port: u16,
    /// `TCP` (also if absent), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}

impl ServicePort {
    /// The IP protocol's number.
    pub fn protocol_number(&self) -> u8 {
        match self.protocol.as_deref() {
            Some("UDP") => 17,
            Some("SCTP") => 132,
            _ => 6,
        }
    }
}

/// `status` of a [`Service`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its load balancer.
    #[serde(deserialize_with = "or_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// The load balancer of a [`Service`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Its addresses.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// An address of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// The address; empty if it has a host name.
    #[serde(deserialize_with = "or_default")]
    pub ip: String,
}

/// A port of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Its name; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The port; absent for all.
    pub port: Option<u16>,
    /// `TCP` (also if absent), `UDP` or `SCTP`.
    pub protocol: Option<String>,
}

/// Takes `null` for the default, as Go does.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
