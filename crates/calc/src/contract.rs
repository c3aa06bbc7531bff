//! What calc tells the dataplane: the desired state of this node, as differences.
//!
//! These types know policies, IP sets, endpoints and routes; they know nothing of the kernel and nothing of the
//! datastore. Every rule keeps the identity of the policy rule that it came from ([`RuleId`]), end to end.
//!
//! Order within one flush: IP sets, policies and profiles, endpoints, then the removals the other way round; so a
//! consumer that applies changes in order never sees a reference to something that it does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// One difference of this node's desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The set exists with exactly these members (a new set, or one to be replaced as a whole).
    IpSetUpdate {
        /// Which set.
        id: IpSetId,
        /// What its members look like; never changes for a given id.
        kind: IpSetKind,
        /// All members.
        members: BTreeSet<IpSetMember>,
    },
    /// The set, which exists, gains and loses these members; the two lists are disjoint.
    IpSetDelta {
        /// Which set.
        id: IpSetId,
        /// Members that it did not have.
        added: Vec<IpSetMember>,
        /// Members that it had.
        removed: Vec<IpSetMember>,
    },
    /// The set is no longer referred to.
    IpSetRemove {
        /// Which set.
        id: IpSetId,
    },
    /// The policy applies to some local endpoint and has these rules.
    PolicyUpdate {
        /// Which policy.
        id: PolicyId,
        /// Its rules.
        policy: Arc<Policy>,
    },
    /// The policy applies to no local endpoint any more.
    PolicyRemove {
        /// Which policy.
        id: PolicyId,
    },
    /// A local endpoint names the profile and it has these rules. A profile that does not exist denies.
    ProfileUpdate {
        /// Which profile.
        id: ProfileId,
        /// Its rules.
        profile: Arc<Profile>,
    },
    /// No local endpoint names the profile any more.
    ProfileRemove {
        /// Which profile.
        id: ProfileId,
    },
    /// The workload endpoint is on this node and looks like this.
    WorkloadEndpointUpdate {
        /// Which endpoint.
        id: WorkloadEndpointId,
        /// The whole endpoint.
        endpoint: Arc<WorkloadEndpoint>,
    },
    /// The workload endpoint is gone from this node.
    WorkloadEndpointRemove {
        /// Which endpoint.
        id: WorkloadEndpointId,
    },
    /// The host endpoint is on this node and looks like this.
    HostEndpointUpdate {
        /// Its name.
        name: Arc<str>,
        /// The whole endpoint.
        endpoint: Arc<HostEndpoint>,
    },
    /// The host endpoint is gone from this node.
    HostEndpointRemove {
        /// Its name.
        name: Arc<str>,
    },
    /// The destination is reached like this.
    RouteUpdate {
        /// Block, pool, host or workload address.
        destination: IpNet,
        /// Where it is.
        route: Arc<Route>,
    },
    /// Nothing is known of the destination any more.
    RouteRemove {
        /// The destination of an earlier update.
        destination: IpNet,
    },
    /// The pool exists and looks like this (masquerade needs it).
    PoolUpdate {
        /// The pool's CIDR.
        cidr: IpNet,
        /// What the dataplane has to know of it.
        pool: Pool,
    },
    /// The pool is gone.
    PoolRemove {
        /// The pool's CIDR.
        cidr: IpNet,
    },
    /// The node has these addresses.
    HostUpdate {
        /// Node name.
        node: Arc<str>,
        /// Its BGP addresses, IPv4 and IPv6.
        addresses: BTreeSet<IpAddr>,
    },
    /// The node is gone.
    HostRemove {
        /// Node name.
        node: Arc<str>,
    },
    /// The addresses of Services are in these networks, and in no others: BGPConfiguration `default`, `serviceClusterIPs`,
    /// `serviceExternalIPs` and `serviceLoadBalancerIPs`. None as long as this was not said.
    ServiceNetworksUpdate {
        /// Of both families.
        networks: BTreeSet<IpNet>,
    },
    /// The effective Felix parameters that came from the datastore, by parameter name as resources.md section 8
    /// writes it (`DefaultEndpointToHostAction`), in the form of the environment (`DROP`).
    ConfigUpdate {
        /// Parameters that are set; others have their defaults.
        parameters: BTreeMap<String, String>,
    },
    /// Everything that the datastore held at the start has been sent. Exactly once.
    InSync,
}

/// Identity of an IP set: `s:…` for a selector, `n:…` for a named port, `svc:…` (`svcnoport:…` without ports) for a
/// service; globally unique for its content's definition, so equal selectors share one set. See `Selector::unique_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpSetId(pub Arc<str>);

impl fmt::Display for IpSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The shape of an IP set's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSetKind {
    /// Addresses and networks of either family. No member lies inside another, whatever the endpoints and network sets
    /// that it is made of: the inner one is not mentioned while the outer one is there.
    Net,
    /// (address or network, protocol, port).
    NetPort,
}

/// A member of an IP set. Sets hold both families; a dataplane takes those of the family that it programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSetMember {
    /// For [`IpSetKind::Net`]; host bits are zero.
    Net(IpNet),
    /// For [`IpSetKind::NetPort`].
    NetPort {
        /// Address (full length) or network.
        net: IpNet,
        /// IP protocol number: 6, 17 or 132.
        protocol: u8,
        /// 1..=65535.
        port: u16,
    },
}

/// What kind of resource a policy is; part of its identity, since v3.32. Staged kinds sort behind all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `projectcalico.org/v3` NetworkPolicy.
    NetworkPolicy,
    /// `projectcalico.org/v3` GlobalNetworkPolicy.
    GlobalNetworkPolicy,
    /// `networking.k8s.io/v1` NetworkPolicy, from the Kubernetes datastore.
    KubernetesNetworkPolicy,
    /// `policy.networking.k8s.io` ClusterNetworkPolicy.
    KubernetesClusterNetworkPolicy,
    /// Evaluated and reported, never enforced.
    StagedNetworkPolicy,
    /// Evaluated and reported, never enforced.
    StagedGlobalNetworkPolicy,
    /// Evaluated and reported, never enforced.
    StagedKubernetesNetworkPolicy,
}

impl PolicyKind {
    /// The resource kind's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            Self::KubernetesClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
        }
    }

    /// Whether policies of this kind are only reported.
    pub fn is_staged(self) -> bool {
        matches!(
            self,
            Self::StagedNetworkPolicy | Self::StagedGlobalNetworkPolicy | Self::StagedKubernetesNetworkPolicy
        )
    }
}

/// Identity of a policy; displayed as `Kind/[namespace/]name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// Resource kind.
    pub kind: PolicyKind,
    /// Absent for cluster kinds.
    pub namespace: Option<Arc<str>>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl PolicyId {
    /// The enforced policies that a staged one is a draft of: those of its name. (Kubernetes policies are also kept as Calico's,
    /// `knp.default.NAME`.) None if this is not staged.
    pub fn stands_for(&self) -> Vec<Self> {
        let of = |kind, name: Arc<str>| Self { kind, namespace: self.namespace.clone(), name };
        match self.kind {
            PolicyKind::StagedNetworkPolicy => vec![of(PolicyKind::NetworkPolicy, self.name.clone())],
            PolicyKind::StagedGlobalNetworkPolicy => {
                vec![of(PolicyKind::GlobalNetworkPolicy, self.name.clone())]
            }
            PolicyKind::StagedKubernetesNetworkPolicy => vec![
                of(PolicyKind::KubernetesNetworkPolicy, self.name.clone()),
                of(PolicyKind::NetworkPolicy, format!("knp.default.{}", self.name).into()),
            ],
            PolicyKind::NetworkPolicy
            | PolicyKind::GlobalNetworkPolicy
            | PolicyKind::KubernetesNetworkPolicy
            | PolicyKind::KubernetesClusterNetworkPolicy => Vec::new(),
        }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind.name(), self.name),
            None => write!(f, "{}/{}", self.kind.name(), self.name),
        }
    }
}

/// Name of a profile (`kns.default`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId(pub Arc<str>);

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a workload endpoint on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadEndpointId {
    /// `k8s`, `cni`, …
    pub orchestrator: Arc<str>,
    /// `namespace/pod` for Kubernetes, else the namespace and the orchestrator's own name for it.
    pub workload: Arc<str>,
    /// The interface inside: `eth0`.
    pub endpoint: Arc<str>,
}

impl fmt::Display for WorkloadEndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.orchestrator, self.workload, self.endpoint)
    }
}

/// A policy's rules after selectors have become IP sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Name of the tier that it is in.
    pub tier: Arc<str>,
    /// Ingress rules in order. Empty when the policy has no `Ingress` type.
    pub inbound: Vec<Rule>,
    /// Egress rules in order.
    pub outbound: Vec<Rule>,
    /// doNotTrack: enforced before connection tracking (host endpoints only).
    pub untracked: bool,
    /// preDNAT: enforced before destination NAT (host endpoints only).
    pub pre_dnat: bool,
    /// applyOnForward: for host endpoints, enforced on forwarded traffic too.
    pub apply_on_forward: bool,
    /// Packets of established connections to (or from) the endpoints that it governs are judged again, as if each began its
    /// connection ([`api::Established::Recheck`]). Answers pass.
    pub rechecks: bool,
}

/// A profile's rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Ingress rules in order.
    pub inbound: Vec<Rule>,
    /// Egress rules in order.
    pub outbound: Vec<Rule>,
}

/// Seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// The policy or profile a rule stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleOwner {
    /// A policy.
    Policy(PolicyId),
    /// A profile.
    Profile(ProfileId),
}

/// Identity of a rule; kept down to the kernel rule's comment and counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId {
    /// Where it stands.
    pub owner: RuleOwner,
    /// In the ingress or the egress list.
    pub direction: Direction,
    /// Its place in that list of the resource, from 0.
    pub index: u32,
}

/// What a rule does with a packet that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Accept; final.
    Allow,
    /// Drop; final.
    Deny,
    /// To the next tier, or to the profiles after the last one.
    Pass,
    /// Log, and go on with the next rule.
    Log,
}

/// IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpVersion {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One rule. All conditions that are present must hold; an empty list is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where it came from.
    pub id: RuleId,
    /// What it does.
    pub action: Action,
    /// Only packets of this family.
    pub ip_version: Option<IpVersion>,
    /// Only this IP protocol.
    pub protocol: Option<u8>,
    /// Only other IP protocols.
    pub not_protocol: Option<u8>,
    /// Only ICMP (or ICMPv6) messages of this type (and code).
    pub icmp: Option<IcmpMatch>,
    /// All but ICMP messages of this type (and code).
    pub not_icmp: Option<IcmpMatch>,
    /// On the packet's source.
    pub source: EntityMatch,
    /// On the packet's destination.
    pub destination: EntityMatch,
    /// `metadata.annotations` of the rule.
    pub annotations: BTreeMap<String, String>,
}

impl Rule {
    /// A rule without conditions.
    pub fn new(id: RuleId, action: Action) -> Self {
        Self {
            id,
            action,
            ip_version: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: EntityMatch::default(),
            destination: EntityMatch::default(),
            annotations: BTreeMap::new(),
        }
    }
}

/// ICMP type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpMatch {
    /// 0..=254.
    pub icmp_type: u8,
    /// Any when absent.
    pub code: Option<u8>,
}

/// Conditions on one end of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EntityMatch {
    /// The address is in one of these.
    pub nets: Vec<IpNet>,
    /// The address is in none of these.
    pub not_nets: Vec<IpNet>,
    /// The port is in one of these ranges, or (address, protocol, port) is in one of `named_port_sets`.
    pub ports: Vec<PortRange>,
    /// OR-ed with `ports`.
    pub named_port_sets: Vec<IpSetId>,
    /// The port is in none of these ranges.
    pub not_ports: Vec<PortRange>,
    /// (address, protocol, port) is in none of these.
    pub not_named_port_sets: Vec<IpSetId>,
    /// The address is in every one of these sets.
    pub ip_sets: Vec<IpSetId>,
    /// The address is in none of these sets.
    pub not_ip_sets: Vec<IpSetId>,
    /// (address, protocol, port) is in every one of these sets of services.
    pub ip_port_sets: Vec<IpSetId>,
}

/// Inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub min: u16,
    /// Last port, not below `min`.
    pub max: u16,
}

/// A workload endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadEndpoint {
    /// Whether it may carry traffic.
    pub active: bool,
    /// Host side of its veth: `cali…`.
    pub interface: Arc<str>,
    /// MAC inside, if known.
    pub mac: Option<[u8; 6]>,
    /// /32s.
    pub ipv4_nets: Vec<IpNet>,
    /// /128s.
    pub ipv6_nets: Vec<IpNet>,
    /// Tiers in order, only those with a policy that selects the endpoint.
    pub tiers: Vec<Tier>,
    /// Profiles in the endpoint's order.
    pub profiles: Vec<ProfileId>,
    /// Extra source prefixes that it may send from.
    pub allow_spoofed_source_prefixes: Vec<IpNet>,
    /// Limits on its traffic (`spec.qosControls`).
    pub qos: Qos,
}

/// Limits on a workload's traffic, and a mark on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Qos {
    /// Of what it receives.
    pub ingress: Limits,
    /// Of what it sends.
    pub egress: Limits,
    /// DSCP of what it sends to outside the cluster, 0..=63.
    pub dscp: Option<u8>,
}

impl Qos {
    /// Those of a direction.
    pub fn limits(&self, direction: Direction) -> &Limits {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// Limits of one direction; what is absent is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    /// Of octets.
    pub bandwidth: Option<Bandwidth>,
    /// Of packets.
    pub packets: Option<PacketRate>,
    /// TCP connections at one time.
    pub max_connections: Option<u32>,
}

/// A rate of octets: a token bucket, and one behind it for the peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth {
    /// Bits per second, not 0.
    pub rate: u64,
    /// Bits that may pass at once.
    pub burst: u64,
    /// Bits per second while the burst lasts, above `rate`; no bound when absent.
    pub peak: Option<u64>,
    /// Octets that may pass at once at that rate; those of a packet when absent.
    pub peak_burst: Option<u32>,
}

/// A rate of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketRate {
    /// Packets per second, not 0.
    pub rate: u32,
    /// Packets beyond the rate that may pass at once, not 0.
    pub burst: u32,
}

/// A host endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostEndpoint {
    /// Interface, `*`, or absent (then the one that holds an expected address).
    pub interface: Option<Arc<str>>,
    /// Expected addresses.
    pub expected_ips: Vec<IpAddr>,
    /// Normal policies.
    pub tiers: Vec<Tier>,
    /// doNotTrack policies.
    pub untracked_tiers: Vec<Tier>,
    /// preDNAT policies.
    pub pre_dnat_tiers: Vec<Tier>,
    /// applyOnForward policies.
    pub forward_tiers: Vec<Tier>,
    /// Profiles in order.
    pub profiles: Vec<ProfileId>,
}

/// What happens at the end of a tier to a packet that no rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierDefault {
    /// Drop it.
    Deny,
    /// Go on with the next tier.
    Pass,
}

/// A tier as one endpoint sees it. A direction without (unstaged) policies is skipped, default action included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tier {
    /// Its name.
    pub name: Arc<str>,
    /// Its default action.
    pub default_action: TierDefault,
    /// Policies with the `Ingress` type that select the endpoint, in order.
    pub ingress: Vec<PolicyId>,
    /// Policies with the `Egress` type that select the endpoint, in order.
    pub egress: Vec<PolicyId>,
}

/// What lies behind a destination. Field names follow Calico's route resolver (calc-state vectors).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Route {
    /// All the kinds of thing that the destination is.
    pub types: BTreeSet<RouteType>,
    /// The pool's encapsulation, when it lies in a pool.
    pub pool: Option<Pool>,
    /// The node that has it.
    pub node: Option<Arc<str>>,
    /// That node's address of the destination's family.
    pub node_address: Option<IpAddr>,
    /// That address is in our own subnet.
    pub same_subnet: bool,
    /// It is (also) a workload of this node.
    pub local_workload: bool,
    /// An address taken from another node's block.
    pub borrowed: bool,
    /// It is a tunnel device's address.
    pub tunnel: Option<TunnelKind>,
}

/// The kinds of destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteType {
    /// A whole pool.
    CidrInfo,
    /// Another node's block or workload.
    RemoteWorkload,
    /// This node's block or workload.
    LocalWorkload,
    /// Another node's own address.
    RemoteHost,
    /// This node's own address.
    LocalHost,
    /// Another node's tunnel address.
    RemoteTunnel,
    /// This node's tunnel address.
    LocalTunnel,
}

/// Kinds of tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// WireGuard.
    Wireguard,
}

/// How traffic between nodes is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EncapMode {
    /// Not at all.
    #[default]
    Never,
    /// Always.
    Always,
    /// Only when the other node is in another subnet.
    CrossSubnet,
}

/// What the dataplane knows of an IP pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pool {
    /// ipipMode.
    pub ipip: EncapMode,
    /// vxlanMode.
    pub vxlan: EncapMode,
    /// natOutgoing.
    pub nat_outgoing: bool,
}
