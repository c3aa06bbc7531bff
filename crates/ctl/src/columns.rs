//! The columns of each kind.

use anyhow::{Result, bail};
use api::Kind;
use serde_json::Value;

use crate::table::cell;

/// A column of a kind.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// Upper case.
    pub(crate) heading: &'static str,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    /// A JSON pointer.
    Field(&'static str),
    /// A JSON pointer, and what its absence means.
    Or(&'static str, &'static str),
    /// Something else.
    Computed(fn(&Value, &Context) -> String),
}

/// What cells need to know beside the resource.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// The AS number of nodes that have none of their own.
    pub(crate) default_as: String,
}

impl Column {
    /// What the column says of a resource.
    pub(crate) fn text(&self, resource: &Value, context: &Context) -> String {
        match self.source {
            Source::Field(pointer) => resource.pointer(pointer).map(cell).unwrap_or_default(),
            Source::Or(pointer, absent) => resource.pointer(pointer).map_or_else(|| absent.to_owned(), cell),
            Source::Computed(compute) => compute(resource, context),
        }
    }
}

/// All columns of a kind, and which of them are shown.
struct View {
    columns: &'static [Column],
    ps: &'static [&'static str],
    wide: &'static [&'static str],
}

/// How many columns to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    Ps,
    Wide,
    Custom(Vec<String>),
}

/// The columns of a kind that were chosen; with `namespaces`, the namespace comes first.
///
/// # Errors
/// The kind has no such column.
pub(crate) fn chosen(kind: Kind, choice: &Choice, namespaces: bool) -> Result<Vec<Column>> {
    let view = view(kind);
    let headings: Vec<String> = match choice {
        Choice::Ps => view.ps.iter().map(|heading| (*heading).to_owned()).collect(),
        Choice::Wide => view.wide.iter().map(|heading| (*heading).to_owned()).collect(),
        Choice::Custom(headings) => headings.iter().map(|heading| heading.to_uppercase()).collect(),
    };
    let mut columns = Vec::new();
    if namespaces && kind.is_namespaced() && !matches!(choice, Choice::Custom(_)) {
        columns.push(NAMESPACE);
    }
    for heading in &headings {
        match known(kind, &view).find(|column| column.heading == *heading) {
            Some(column) => columns.push(column),
            None => {
                let known: Vec<_> = known(kind, &view).map(|column| column.heading).collect();
                bail!("{kind} has no column {heading:?}; there are {}", known.join(", "));
            }
        }
    }
    Ok(columns)
}

fn known(kind: Kind, view: &View) -> impl Iterator<Item = Column> {
    view.columns.iter().copied().chain(kind.is_namespaced().then_some(NAMESPACE))
}

const fn field(heading: &'static str, pointer: &'static str) -> Column {
    Column { heading, source: Source::Field(pointer) }
}

const fn or(heading: &'static str, pointer: &'static str, absent: &'static str) -> Column {
    Column { heading, source: Source::Or(pointer, absent) }
}

const fn computed(heading: &'static str, compute: fn(&Value, &Context) -> String) -> Column {
    Column { heading, source: Source::Computed(compute) }
}

const NAME: Column = field("NAME", "/metadata/name");
const NAMESPACE: Column = field("NAMESPACE", "/metadata/namespace");
const NO_ORDER: &str = "<none>";

const NAME_ONLY: View = View { columns: &[NAME], ps: &["NAME"], wide: &["NAME"] };

const POLICY: View = View {
    columns: &[
        NAME,
        or("TIER", "/spec/tier", api::DEFAULT_TIER),
        or("ORDER", "/spec/order", NO_ORDER),
        field("SELECTOR", "/spec/selector"),
    ],
    ps: &["NAME", "TIER"],
    wide: &["NAME", "TIER", "ORDER", "SELECTOR"],
};

const NETWORK_SET: View =
    View { columns: &[NAME, computed("NETS", nets)], ps: &["NAME"], wide: &["NAME", "NETS"] };

fn view(kind: Kind) -> View {
    match kind {
        Kind::IPPool => IP_POOL,
        Kind::Node => NODE,
        Kind::BGPPeer => BGP_PEER,
        Kind::WorkloadEndpoint => WORKLOAD_ENDPOINT,
        Kind::HostEndpoint => HOST_ENDPOINT,
        Kind::BGPConfiguration => BGP_CONFIGURATION,
        Kind::BGPFilter => BGP_FILTER,
        Kind::ClusterInformation => CLUSTER_INFORMATION,
        Kind::FelixConfiguration => FELIX_CONFIGURATION,
        Kind::Tier => TIER,
        Kind::Profile => PROFILE,
        Kind::IPReservation => IP_RESERVATION,
        Kind::IPAMConfiguration => IPAM_CONFIGURATION,
        Kind::BlockAffinity => BLOCK_AFFINITY,
        Kind::CalicoNodeStatus => NODE_STATUS,
        Kind::NetworkSet | Kind::GlobalNetworkSet => NETWORK_SET,
        Kind::KubernetesEndpointSlice => ENDPOINT_SLICE,
        Kind::NetworkPolicy
        | Kind::GlobalNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy => POLICY,
        Kind::KubeControllersConfiguration => NAME_ONLY,
    }
}

const ENDPOINT_SLICE: View = View {
    columns: &[
        NAME,
        field("SERVICE", "/spec/service"),
        field("ADDRESSES", "/spec/addresses"),
        computed("PORTS", ports),
    ],
    ps: &["NAME", "SERVICE"],
    wide: &["NAME", "SERVICE", "ADDRESSES", "PORTS"],
};

fn ports(slice: &Value, _: &Context) -> String {
    let ports = slice.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let text = |port: &Value| format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or_default());
    ports.map(text).collect::<Vec<_>>().join(",")
}

const IP_POOL: View = View {
    columns: &[
        NAME,
        field("CIDR", "/spec/cidr"),
        or("NAT", "/spec/natOutgoing", "false"),
        or("IPIPMODE", "/spec/ipipMode", "Never"),
        or("VXLANMODE", "/spec/vxlanMode", "Never"),
        or("DISABLED", "/spec/disabled", "false"),
        or("DISABLEBGPEXPORT", "/spec/disableBGPExport", "false"),
        or("SELECTOR", "/spec/nodeSelector", "all()"),
        or("ASSIGNMENTMODE", "/spec/assignmentMode", "Automatic"),
        field("BLOCKSIZE", "/spec/blockSize"),
    ],
    ps: &["NAME", "CIDR", "SELECTOR"],
    wide: &[
        "NAME",
        "CIDR",
        "NAT",
        "IPIPMODE",
        "VXLANMODE",
        "DISABLED",
        "DISABLEBGPEXPORT",
        "SELECTOR",
        "ASSIGNMENTMODE",
    ],
};

const NODE: View = View {
    columns: &[
        NAME,
        computed("ASN", as_number),
        field("IPV4", "/spec/bgp/ipv4Address"),
        field("IPV6", "/spec/bgp/ipv6Address"),
    ],
    ps: &["NAME"],
    wide: &["NAME", "ASN", "IPV4", "IPV6"],
};

const BGP_PEER: View = View {
    columns: &[
        NAME,
        computed("PEERIP", peer_address),
        computed("NODE", peer_node),
        field("ASN", "/spec/asNumber"),
    ],
    ps: &["NAME", "PEERIP", "NODE", "ASN"],
    wide: &["NAME", "PEERIP", "NODE", "ASN"],
};

const WORKLOAD_ENDPOINT: View = View {
    columns: &[
        NAME,
        computed("WORKLOAD", workload),
        field("NODE", "/spec/node"),
        field("NETWORKS", "/spec/ipNetworks"),
        field("INTERFACE", "/spec/interfaceName"),
        field("PROFILES", "/spec/profiles"),
        computed("NATS", nats),
    ],
    ps: &["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
    wide: &["NAME", "WORKLOAD", "NODE", "NETWORKS", "INTERFACE", "PROFILES", "NATS"],
};

const HOST_ENDPOINT: View = View {
    columns: &[
        NAME,
        field("NODE", "/spec/node"),
        field("INTERFACE", "/spec/interfaceName"),
        field("IPS", "/spec/expectedIPs"),
        field("PROFILES", "/spec/profiles"),
    ],
    ps: &["NAME", "NODE"],
    wide: &["NAME", "NODE", "INTERFACE", "IPS", "PROFILES"],
};

const BGP_CONFIGURATION: View = View {
    columns: &[
        NAME,
        field("LOGSEVERITY", "/spec/logSeverityScreen"),
        or("MESHENABLED", "/spec/nodeToNodeMeshEnabled", "true"),
        or("ASNUMBER", "/spec/asNumber", "64512"),
    ],
    ps: &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
    wide: &["NAME", "LOGSEVERITY", "MESHENABLED", "ASNUMBER"],
};

const BGP_FILTER: View = View {
    columns: &[
        NAME,
        computed("NUMEXPORTV4", |filter, _| count(filter, "/spec/exportV4")),
        computed("NUMIMPORTV4", |filter, _| count(filter, "/spec/importV4")),
        computed("NUMEXPORTV6", |filter, _| count(filter, "/spec/exportV6")),
        computed("NUMIMPORTV6", |filter, _| count(filter, "/spec/importV6")),
    ],
    ps: &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"],
    wide: &["NAME", "NUMEXPORTV4", "NUMIMPORTV4", "NUMEXPORTV6", "NUMIMPORTV6"],
};

const CLUSTER_INFORMATION: View = View {
    columns: &[
        NAME,
        field("CLUSTERGUID", "/spec/clusterGUID"),
        field("CLUSTERTYPE", "/spec/clusterType"),
        field("CALICOVERSION", "/spec/calicoVersion"),
        field("DATASTOREREADY", "/spec/datastoreReady"),
    ],
    ps: &["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"],
    wide: &["NAME", "CLUSTERGUID", "CLUSTERTYPE", "CALICOVERSION", "DATASTOREREADY"],
};

const FELIX_CONFIGURATION: View = View {
    columns: &[NAME, field("LOGSEVERITY", "/spec/logSeverityScreen")],
    ps: &["NAME"],
    wide: &["NAME", "LOGSEVERITY"],
};

const TIER: View = View {
    columns: &[
        NAME,
        or("ORDER", "/spec/order", "1000000"),
        or("DEFAULTACTION", "/spec/defaultAction", "Deny"),
    ],
    ps: &["NAME", "ORDER"],
    wide: &["NAME", "ORDER", "DEFAULTACTION"],
};

const PROFILE: View = View {
    columns: &[NAME, field("LABELS", "/spec/labelsToApply")],
    ps: &["NAME"],
    wide: &["NAME", "LABELS"],
};

const IP_RESERVATION: View =
    View { columns: &[NAME, field("CIDRS", "/spec/reservedCIDRs")], ps: &["NAME"], wide: &["NAME", "CIDRS"] };

const IPAM_CONFIGURATION: View = View {
    columns: &[
        NAME,
        or("STRICTAFFINITY", "/spec/strictAffinity", "false"),
        or("AUTOALLOCATEBLOCKS", "/spec/autoAllocateBlocks", "true"),
        or("MAXBLOCKSPERHOST", "/spec/maxBlocksPerHost", "0"),
    ],
    ps: &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
    wide: &["NAME", "STRICTAFFINITY", "AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"],
};

const BLOCK_AFFINITY: View = View {
    columns: &[
        NAME,
        field("NODE", "/spec/node"),
        field("CIDR", "/spec/cidr"),
        field("STATE", "/spec/state"),
        field("TYPE", "/spec/type"),
    ],
    ps: &["NAME", "NODE", "CIDR", "STATE"],
    wide: &["NAME", "NODE", "CIDR", "STATE", "TYPE"],
};

const NODE_STATUS: View = View {
    columns: &[
        NAME,
        field("NODE", "/spec/node"),
        field("CLASSES", "/spec/classes"),
        field("LASTUPDATED", "/status/lastUpdated"),
    ],
    ps: &["NAME", "NODE"],
    wide: &["NAME", "NODE", "CLASSES", "LASTUPDATED"],
};

fn text<'a>(resource: &'a Value, pointer: &str) -> &'a str {
    resource.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// In brackets when it is the cluster's default.
fn as_number(node: &Value, context: &Context) -> String {
    node.pointer("/spec/bgp/asNumber").map_or_else(|| format!("({})", context.default_as), cell)
}

fn peer_address(peer: &Value, _: &Context) -> String {
    let selector = text(peer, "/spec/peerSelector");
    if selector.is_empty() { text(peer, "/spec/peerIP").to_owned() } else { selector.to_owned() }
}

fn peer_node(peer: &Value, _: &Context) -> String {
    match (text(peer, "/spec/node"), text(peer, "/spec/nodeSelector")) {
        ("", "") => "(global)".to_owned(),
        ("", selector) => selector.to_owned(),
        (node, _) => node.to_owned(),
    }
}

/// The pod, or whatever else identifies the workload to its orchestrator.
fn workload(endpoint: &Value, _: &Context) -> String {
    let fields = ["/spec/pod", "/spec/workload", "/spec/containerID"];
    let mut names = fields.iter().map(|pointer| text(endpoint, pointer)).filter(|name| !name.is_empty());
    names.next().unwrap_or_default().to_owned()
}

/// As `INTERNAL->EXTERNAL`.
fn nats(endpoint: &Value, _: &Context) -> String {
    let nats = endpoint.pointer("/spec/ipNATs").and_then(Value::as_array).cloned().unwrap_or_default();
    let shown = nats.iter().map(|nat| format!("{}->{}", text(nat, "/internalIP"), text(nat, "/externalIP")));
    shown.collect::<Vec<_>>().join(",")
}

/// How long a list of networks may be in a table.
const NETS_WIDTH: usize = 80;

/// As many networks as fit.
fn nets(set: &Value, _: &Context) -> String {
    let all = set.pointer("/spec/nets").map(cell).unwrap_or_default();
    match all.len() <= NETS_WIDTH {
        true => all,
        false => {
            let fitting = &all[..NETS_WIDTH - 3];
            format!("{}...", &fitting[..fitting.rfind(',').map_or(0, |comma| comma + 1)])
        }
    }
}

fn count(resource: &Value, pointer: &str) -> String {
    resource.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headings(kind: Kind, choice: &Choice, namespaces: bool) -> Vec<&'static str> {
        chosen(kind, choice, namespaces).unwrap().iter().map(|column| column.heading).collect()
    }

    #[test]
    fn every_column_of_every_view_exists() {
        for kind in Kind::ALL {
            for choice in [Choice::Ps, Choice::Wide] {
                assert!(!headings(*kind, &choice, false).is_empty(), "{kind}");
            }
        }
    }

    #[test]
    fn namespaces_come_first_when_all_are_shown() {
        assert_eq!(headings(Kind::NetworkPolicy, &Choice::Ps, true), ["NAMESPACE", "NAME", "TIER"]);
        assert_eq!(headings(Kind::IPPool, &Choice::Ps, true), ["NAME", "CIDR", "SELECTOR"]);
    }

    #[test]
    fn custom_columns_are_named_in_any_case_and_refused_if_unknown() {
        let choice = |names: &[&str]| Choice::Custom(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(headings(Kind::IPPool, &choice(&["cidr", "NAME"]), true), ["CIDR", "NAME"]);
        let error = chosen(Kind::IPPool, &choice(&["COLOUR"]), false).err().expect("unknown").to_string();
        assert!(error.contains("COLOUR") && error.contains("CIDR, NAT"), "{error}");
    }

    #[test]
    fn the_default_as_number_is_in_brackets() {
        let context = Context { default_as: "64512".into() };
        assert_eq!(as_number(&json!({"spec": {}}), &context), "(64512)");
        assert_eq!(as_number(&json!({"spec": {"bgp": {"asNumber": 65001}}}), &context), "65001");
    }

    #[test]
    fn long_lists_of_networks_are_cut_between_two() {
        let set: Vec<_> = (0..20).map(|number| format!("10.0.{number}.0/24")).collect();
        let text = nets(&json!({"spec": {"nets": set}}), &Context::default());
        assert!(text.len() <= NETS_WIDTH && text.ends_with("/24,..."), "{text}");
    }
}
