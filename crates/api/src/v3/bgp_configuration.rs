use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::secret::check_password;
use super::{BGPPassword, object};
use crate::rules::{
    Place, ROUTE_PRIORITIES, Rules, SINGLETON, check_community, check_count, check_duration,
    check_interface_pattern, check_range, check_selector,
};
use crate::scalars::{AsNumber, GoDuration, Net, words};
use crate::{Kind, NoStatus, Object, Spec};

/// BGP settings: `default` for all nodes, `node.NAME` for one.
pub type BGPConfiguration = Object<BGPConfigurationSpec>;

object! {
    /// `spec` of a [`BGPConfiguration`].
    #[derive(Default)]
    pub struct BGPConfigurationSpec {
        /// How much BGP logs; `Info` if absent.
        log_severity_screen: Option<BGPLogSeverity>,
        /// Whether every node peers with every other; true if absent. In `default` only.
        node_to_node_mesh_enabled: Option<bool>,
        /// AS of nodes that have none of their own; 64512 if absent. In `default` only.
        as_number: Option<AsNumber>,
        /// Ranges of cluster IPs that are advertised. In `default` only.
        #[serde(rename = "serviceClusterIPs")]
        service_cluster_ips: Vec<ServiceIPBlock>,
        /// Ranges of external IPs that are advertised. In `default` only.
        #[serde(rename = "serviceExternalIPs")]
        service_external_ips: Vec<ServiceIPBlock>,
        /// Ranges of load balancer IPs that are advertised. In `default` only.
        #[serde(rename = "serviceLoadBalancerIPs")]
        service_load_balancer_ips: Vec<ServiceIPBlock>,
        /// Whether load balancer blocks are advertised whole; `Enabled` if absent.
        service_load_balancer_aggregation: Option<ServiceLoadBalancerAggregation>,
        /// The TCP port; 179 if absent.
        listen_port: Option<u16>,
        /// Names for communities.
        communities: Vec<Community>,
        /// Which prefixes get which communities.
        prefix_advertisements: Vec<PrefixAdvertisement>,
        /// Password of the mesh (RFC 2385). In `default` only, needs the mesh.
        node_mesh_password: Option<BGPPassword>,
        /// How long the mesh keeps routes of a restarting node (RFC 4724). In `default` only, needs the mesh.
        node_mesh_max_restart_time: Option<GoDuration>,
        /// On which address to listen; `None` (all) if absent.
        bind_mode: Option<BindMode>,
        /// Interfaces whose subnets are not BGP's business; `*` in a name is a wildcard.
        ignored_interfaces: Vec<String>,
        /// Address of the host's side when pods peer over IPv4.
        #[serde(rename = "localWorkloadPeeringIPV4")]
        local_workload_peering_ipv4: Option<Ipv4Addr>,
        /// Address of the host's side when pods peer over IPv6.
        #[serde(rename = "localWorkloadPeeringIPV6")]
        local_workload_peering_ipv6: Option<Ipv6Addr>,
        /// Which routes between nodes BGP programs; `EnabledNoEncapOnly` if absent.
        program_cluster_routes: Option<ProgramClusterRoutes>,
        /// Metric of IPv4 routes, 1..2147483646; 1024 if absent.
        #[serde(rename = "ipv4NormalRoutePriority")]
        ipv4_normal_route_priority: Option<i64>,
        /// Metric of IPv6 routes, 1..2147483646; 1024 if absent.
        #[serde(rename = "ipv6NormalRoutePriority")]
        ipv6_normal_route_priority: Option<i64>,
        /// Ours: beyond a number of nodes, some of them reflect routes in place of the full mesh; never if absent. In
        /// `default` only, needs the mesh.
        route_reflection: Option<RouteReflection>,
        /// Ours: stations that are told what peers say, over BMP. Those of a node take the place of those of `default`.
        bmp_stations: Vec<BMPStation>,
        /// Ours: prefixes that peers are told as one route for all that lie in them. Those of a node take the place of those of
        /// `default`.
        aggregates: Vec<BGPAggregate>,
    }
}

object! {
    /// Ours: one route for many (RFC 4271, section 9.2.2.2). It is told as long as the node has a route in it.
    #[derive(Eq)]
    pub struct BGPAggregate {
        /// The prefix.
        cidr: Net = required,
        /// Peers that are told of it are not told of the routes in it.
        summary_only: bool,
        /// Peers in our own AS are told of it, too, not only those in others.
        internal_peers: bool,
    }
}

object! {
    /// Ours: a monitoring station (BMP, RFC 7854), which every node dials.
    #[derive(Eq)]
    pub struct BMPStation {
        /// Its address.
        address: IpAddr = required,
        /// Its port; 11019 if absent.
        port: Option<u16>,
        /// What it is told: `PrePolicy` if empty.
        views: Vec<BMPView>,
        /// Between reports of statistics, at least 1s; none if absent.
        statistics_interval: Option<GoDuration>,
        /// Which nodes tell it; all if empty.
        node_selector: String,
    }
}

words! {
    /// A table that a monitoring station is told.
    BMPView {
        /// What peers say, before import filters.
        PrePolicy = "PrePolicy",
        /// What peers say, behind import filters.
        PostPolicy = "PostPolicy",
        /// The best routes (RFC 9069).
        LocRIB = "LocRIB",
    }
}

object! {
    /// Ours: route reflectors (RFC 4456) that the nodes choose among themselves.
    #[derive(Default, Eq)]
    pub struct RouteReflection {
        /// Up to so many nodes form a full mesh; 100 if absent.
        mesh_limit: Option<u32>,
        /// How many nodes reflect, 2..1000; if absent, one for each 200 sessions of clients, at least one more than a client
        /// has.
        reflectors: Option<u32>,
        /// With how many of them each other node peers, 2..8; 2 if absent.
        reflectors_per_client: Option<u32>,
        /// Node labels that tell failure domains, the widest first; `topology.kubernetes.io/zone` and `rack` if empty.
        topology_labels: Vec<String>,
        /// Which nodes may reflect; all if empty.
        node_selector: String,
        /// How long everything new has to be up before sessions that it replaces end, 1s to 1h; 30s if absent.
        settle_time: Option<GoDuration>,
    }
}

words! {
    /// How much BGP logs.
    #[derive(Default)]
    BGPLogSeverity(any_case) {
        /// Every message.
        Trace = "Trace",
        /// Every decision.
        Debug = "Debug",
        /// What an operator cares about.
        #[default]
        Info = "Info",
        /// What is odd.
        Warning = "Warning",
        /// What is broken.
        Error = "Error",
        /// What ends the process.
        Fatal = "Fatal",
    }
}

words! {
    /// Whether load balancer blocks are advertised whole.
    #[derive(Default)]
    ServiceLoadBalancerAggregation {
        /// As the block.
        #[default]
        Enabled = "Enabled",
        /// As single addresses.
        Disabled = "Disabled",
    }
}

words! {
    /// On which address BGP listens.
    #[derive(Default)]
    BindMode {
        /// On all.
        #[default]
        None = "None",
        /// On the node's own.
        NodeIP = "NodeIP",
    }
}

words! {
    /// Which of the routes between nodes a component programs.
    ProgramClusterRoutes {
        /// All.
        Enabled = "Enabled",
        /// None.
        Disabled = "Disabled",
        /// Those through IP-in-IP.
        EnabledIPIPOnly = "EnabledIPIPOnly",
        /// Those without encapsulation.
        EnabledNoEncapOnly = "EnabledNoEncapOnly",
    }
}

object! {
    /// A range of service addresses.
    #[derive(Eq)]
    pub struct ServiceIPBlock {
        /// The range.
        cidr: Net = required,
    }
}

object! {
    /// A name for a community.
    #[derive(Default, Eq)]
    pub struct Community {
        /// The name.
        name: String,
        /// `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
        value: String,
    }
}

object! {
    /// Communities for a prefix.
    #[derive(Eq)]
    pub struct PrefixAdvertisement {
        /// Routes in this range.
        cidr: Net = required,
        /// Names or values of communities.
        communities: Vec<String>,
    }
}

impl Spec for BGPConfigurationSpec {
    const KIND: Kind = Kind::BGPConfiguration;
    type Status = NoStatus;
}

/// AS of nodes for which nobody says another.
pub const DEFAULT_AS_NUMBER: AsNumber = AsNumber(64_512);
/// TCP port of BGP (RFC 4271).
pub const DEFAULT_BGP_PORT: u16 = 179;
/// Metric of routes for which nobody says another.
pub const DEFAULT_ROUTE_PRIORITY: i64 = 1_024;

/// How many communities may be named, and how many prefixes may get some.
const MAX_COMMUNITIES: usize = 500;
/// How many communities a prefix may get.
const MAX_PREFIX_COMMUNITIES: usize = 50;

/// Up to so many nodes form a full mesh where nobody says another number.
pub const DEFAULT_MESH_LIMIT: u32 = 100;
/// With how many reflectors a node peers where nobody says another number.
pub const DEFAULT_REFLECTORS_PER_CLIENT: u32 = 2;
/// Node labels that tell failure domains where nobody names others, the widest first.
pub const DEFAULT_TOPOLOGY_LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "rack"];
/// How long everything new has to be up before the old ends, where nobody says another time.
pub const DEFAULT_SETTLE_TIME: Duration = Duration::from_secs(30);
/// How long that may be.
const SETTLE_TIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// How many reflectors a cluster may ask for.
const REFLECTORS: (i64, i64) = (2, 1_000);
/// With how many of them a node may peer.
const REFLECTORS_PER_CLIENT: (i64, i64) = (2, 8);
/// How many labels may tell failure domains.
const MAX_TOPOLOGY_LABELS: usize = 8;

impl RouteReflection {
    /// Up to how many nodes form a full mesh, the default filled in.
    pub fn mesh_limit(&self) -> u32 {
        self.mesh_limit.unwrap_or(DEFAULT_MESH_LIMIT)
    }

    /// With how many reflectors each other node peers, the default filled in.
    pub fn reflectors_per_client(&self) -> u32 {
        self.reflectors_per_client.unwrap_or(DEFAULT_REFLECTORS_PER_CLIENT)
    }

    /// How long everything new has to be up before sessions that it replaces end, the default filled in.
    pub fn settle_time(&self) -> Duration {
        self.settle_time.and_then(GoDuration::to_duration).unwrap_or(DEFAULT_SETTLE_TIME)
    }

    /// The labels that tell failure domains, the defaults filled in.
    pub fn topology_labels(&self) -> Vec<&str> {
        match self.topology_labels.is_empty() {
            true => DEFAULT_TOPOLOGY_LABELS.to_vec(),
            false => self.topology_labels.iter().map(String::as_str).collect(),
        }
    }
}

/// How many aggregates there may be.
const MAX_AGGREGATES: usize = 100;
/// How many monitoring stations there may be.
const MAX_STATIONS: usize = 8;
/// The port of stations (IANA).
const BMP_PORT: u16 = 11019;
/// The least time between reports of statistics.
const LEAST_STATISTICS_NANOS: i64 = 1_000_000_000;

impl BMPStation {
    /// Where it listens, the default filled in.
    pub fn listens_on(&self) -> SocketAddr {
        (self.address, self.port.unwrap_or(BMP_PORT)).into()
    }

    /// What it is told, the default filled in.
    pub fn views(&self) -> Vec<BMPView> {
        if self.views.is_empty() { vec![BMPView::PrePolicy] } else { self.views.clone() }
    }
}

impl BGPConfigurationSpec {
    /// Whether every node peers with every other, the default filled in.
    pub fn has_mesh(&self) -> bool {
        self.node_to_node_mesh_enabled.unwrap_or(true)
    }

    /// The value of a community, given by name or by value.
    pub fn community_value<'a>(&'a self, name_or_value: &'a str) -> &'a str {
        let named = self.communities.iter().find(|community| community.name == name_or_value);
        named.map_or(name_or_value, |community| &community.value)
    }
}

impl Rules for BGPConfigurationSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        if object.metadata.name != SINGLETON {
            check_only_in_default(spec, &at);
        }
        if let Some(port) = spec.listen_port.filter(|port| *port == 0) {
            at.field("listenPort").refuse(port, "is not a port: 1..65535");
        }
        check_mesh(spec, &at);
        check_stations(&spec.bmp_stations, &at.field("bmpStations"));
        check_aggregates(&spec.aggregates, &at.field("aggregates"));
        check_communities(spec, &at);
        for (index, pattern) in spec.ignored_interfaces.iter().enumerate() {
            let at = at.field("ignoredInterfaces").index(index);
            match pattern.as_str() {
                "*" => at.refuse(pattern, "would ignore every interface"),
                pattern => check_interface_pattern(pattern, &at),
            }
        }
        let (first, last) = ROUTE_PRIORITIES;
        for (priority, field) in [
            (spec.ipv4_normal_route_priority, "ipv4NormalRoutePriority"),
            (spec.ipv6_normal_route_priority, "ipv6NormalRoutePriority"),
        ] {
            if let Some(priority) = priority {
                check_range(priority, first, last, &at.field(field));
            }
        }
    }
}

/// What concerns the whole cluster cannot differ from node to node.
fn check_only_in_default(spec: &BGPConfigurationSpec, at: &Place<'_>) {
    let fields = [
        ("nodeToNodeMeshEnabled", spec.node_to_node_mesh_enabled.is_some()),
        ("asNumber", spec.as_number.is_some()),
        ("serviceClusterIPs", !spec.service_cluster_ips.is_empty()),
        ("serviceExternalIPs", !spec.service_external_ips.is_empty()),
        ("serviceLoadBalancerIPs", !spec.service_load_balancer_ips.is_empty()),
        ("nodeMeshPassword", spec.node_mesh_password.is_some()),
        ("nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time.is_some()),
        ("routeReflection", spec.route_reflection.is_some()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
        at.field(field).refuse_all("can only be set in the BGPConfiguration default");
    }
}

fn check_mesh(spec: &BGPConfigurationSpec, at: &Place<'_>) {
    let fields = [
        ("nodeMeshPassword", spec.node_mesh_password.is_some()),
        ("nodeMeshMaxRestartTime", spec.node_mesh_max_restart_time.is_some()),
        ("routeReflection", spec.route_reflection.is_some()),
    ];
    for (field, _) in fields.iter().filter(|(_, is_set)| *is_set && !spec.has_mesh()) {
        at.field(field).refuse_all("means nothing while nodeToNodeMeshEnabled is false");
    }
    check_duration(spec.node_mesh_max_restart_time, &at.field("nodeMeshMaxRestartTime"));
    check_password(spec.node_mesh_password.as_ref(), &at.field("nodeMeshPassword"));
    if let Some(reflection) = &spec.route_reflection {
        check_reflection(reflection, &at.field("routeReflection"));
    }
}

fn check_reflection(reflection: &RouteReflection, at: &Place<'_>) {
    let RouteReflection { reflectors, reflectors_per_client, .. } = reflection;
    for (number, (first, last), field) in [
        (reflectors, REFLECTORS, "reflectors"),
        (reflectors_per_client, REFLECTORS_PER_CLIENT, "reflectorsPerClient"),
    ] {
        if let Some(number) = number {
            check_range(i64::from(*number), first, last, &at.field(field));
        }
    }
    if let Some(number) = reflectors.filter(|number| *number < reflection.reflectors_per_client()) {
        at.field("reflectors").refuse(number, "is less than reflectorsPerClient");
    }
    let is_settling = |time: GoDuration| {
        time.to_duration().is_some_and(|time| SETTLE_TIME.0 <= time && time <= SETTLE_TIME.1)
    };
    if let Some(time) = reflection.settle_time.filter(|time| !is_settling(*time)) {
        at.field("settleTime").refuse(time, "is not between 1s and 1h");
    }
    check_count(&reflection.topology_labels, MAX_TOPOLOGY_LABELS, &at.field("topologyLabels"));
    for (index, label) in reflection.topology_labels.iter().enumerate() {
        if label.is_empty() {
            at.field("topologyLabels")
                .index(index)
                .refuse_all("is the empty text; name a label of the nodes");
        }
    }
    check_selector(&reflection.node_selector, &at.field("nodeSelector"));
}

fn check_stations(stations: &[BMPStation], at: &Place<'_>) {
    check_count(stations, MAX_STATIONS, at);
    for (index, station) in stations.iter().enumerate() {
        let at = at.index(index);
        if station.port == Some(0) {
            at.field("port").refuse(0, "is not a port: 1..65535");
        }
        if stations[..index].iter().any(|other| other.listens_on() == station.listens_on()) {
            at.field("address").refuse(station.listens_on(), "is there twice: one entry for each station");
        }
        if station.address.is_unspecified() || station.address.is_multicast() {
            at.field("address").refuse(station.address, "cannot be dialled");
        }
        if let Some(interval) =
            station.statistics_interval.filter(|interval| interval.nanos() < LEAST_STATISTICS_NANOS)
        {
            at.field("statisticsInterval").refuse(interval, "is less than 1s");
        }
        check_selector(&station.node_selector, &at.field("nodeSelector"));
    }
}

fn check_aggregates(aggregates: &[BGPAggregate], at: &Place<'_>) {
    check_count(aggregates, MAX_AGGREGATES, at);
    for (index, aggregate) in aggregates.iter().enumerate() {
        let prefix = aggregate.cidr.net().trunc();
        if aggregates[..index].iter().any(|other| other.cidr.net().trunc() == prefix) {
            at.index(index).field("cidr").refuse(prefix, "is there twice: one entry for each prefix");
        }
    }
}

fn check_communities(spec: &BGPConfigurationSpec, at: &Place<'_>) {
    let (named, prefixes) = (at.field("communities"), at.field("prefixAdvertisements"));
    check_count(&spec.communities, MAX_COMMUNITIES, &named);
    check_count(&spec.prefix_advertisements, MAX_COMMUNITIES, &prefixes);
    for (index, community) in spec.communities.iter().enumerate() {
        let at = named.index(index);
        if community.name.is_empty() {
            at.field("name").refuse_all("is required");
        }
        check_community(&community.value, &at.field("value"));
    }
    if !spec.communities.is_empty() && spec.prefix_advertisements.is_empty() {
        named.refuse_all("are not used by any of prefixAdvertisements");
    }
    for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
        check_advertisement(advertisement, spec, &prefixes.index(index).field("communities"));
    }
}

fn check_advertisement(advertisement: &PrefixAdvertisement, spec: &BGPConfigurationSpec, at: &Place<'_>) {
    if advertisement.communities.is_empty() {
        at.refuse_all("are required: at least one");
    }
    check_count(&advertisement.communities, MAX_PREFIX_COMMUNITIES, at);
    for (index, text) in advertisement.communities.iter().enumerate() {
        let is_name = spec.communities.iter().any(|community| community.name == *text);
        let at = at.index(index);
        match (is_name, text.contains(':')) {
            (true, _) => {}
            (false, true) => check_community(text, &at),
            (false, false) => {
                at.refuse(text, "is neither a community (aa:nn, aa:nn:mm) nor a name in communities")
            }
        }
    }
}
