//! The node's metrics: their names, what they mean, and how they are served.
//!
//! Where Calico has a metric for the same thing, it has the same name here (control-plane.md 10); ours begin with
//! `tortie_`.

use std::time::Duration;

use anyhow::{Context, Result};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Endpoints of this host whose policy and routes the kernel has.
pub(crate) const LOCAL_ENDPOINTS: &str = "felix_active_local_endpoints";
/// Policies that apply to some endpoint of this host.
pub(crate) const LOCAL_POLICIES: &str = "felix_active_local_policies";
/// IP sets that those policies refer to.
pub(crate) const IP_SETS: &str = "felix_ipsets_calico";
/// Hosts of the cluster.
pub(crate) const HOSTS: &str = "felix_cluster_num_hosts";
/// Seconds to bring the kernel to the desired state, once per batch of changes; a summary.
pub(crate) const APPLY_SECONDS: &str = "felix_int_dataplane_apply_time_seconds";
/// Batches of which the kernel did not take something.
pub(crate) const APPLY_FAILURES: &str = "felix_int_dataplane_failures";
/// BGP sessions that are configured.
pub(crate) const BGP_PEERS: &str = "tortie_bgp_peers";
/// BGP sessions that are Established.
pub(crate) const BGP_ESTABLISHED: &str = "tortie_bgp_peers_established";
/// Bytes received from BGP peers.
pub(crate) const BGP_RECEIVED: &str = "tortie_bgp_received_bytes_total";
/// Bytes sent to BGP peers.
pub(crate) const BGP_SENT: &str = "tortie_bgp_sent_bytes_total";
/// BGP connections from addresses that are no peer's, closed unread.
pub(crate) const BGP_REJECTED: &str = "tortie_bgp_rejected_connections_total";
/// Changes of the best route to a prefix.
pub(crate) const BGP_ROUTE_CHANGES: &str = "tortie_bgp_route_changes_total";
/// BGP sessions that entered a state, by `state`.
pub(crate) const BGP_SESSION_CHANGES: &str = "tortie_bgp_session_changes_total";
/// BFD sessions, by `state` (`up` or `down`).
pub(crate) const BFD_SESSIONS: &str = "tortie_bfd_sessions";
/// BFD packets that were thrown away: malformed, of no session, or not from a neighbour.
pub(crate) const BFD_REFUSED: &str = "tortie_bfd_refused_packets_total";
/// CNI calls, by `command` and `outcome` (`ok` or `error`).
pub(crate) const CNI_CALLS: &str = "tortie_cni_calls_total";
/// Seconds that CNI calls took, by `command`; a summary.
pub(crate) const CNI_SECONDS: &str = "tortie_cni_seconds";

/// Packets that policy denied or allowed and that were looked at, by `action`.
pub(crate) const FLOW_PACKETS: &str = "tortie_flow_packets_total";
/// Packets that were not looked at, because there were too many.
pub(crate) const FLOW_UNSEEN: &str = "tortie_flow_unseen_packets_total";
/// Packets about which a staged policy would have decided, by `rule` (at most 512, then `others`) and `action`.
pub(crate) const STAGED_PACKETS: &str = "tortie_staged_policy_packets_total";

/// Installs the process' recorder and describes every metric; the answer renders them.
///
/// # Errors
/// There is a recorder already.
pub(crate) fn install() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().context("metrics")?;
    describe_gauge!(LOCAL_ENDPOINTS, "Endpoints of this host whose policy and routes the kernel has");
    describe_gauge!(LOCAL_POLICIES, "Policies that apply to some endpoint of this host");
    describe_gauge!(IP_SETS, "IP sets that policies of this host refer to");
    describe_gauge!(HOSTS, "Hosts of the cluster");
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "Time to bring the kernel to the desired state");
    describe_counter!(APPLY_FAILURES, "Batches of changes of which the kernel did not take something");
    describe_gauge!(BGP_PEERS, "BGP sessions that are configured");
    describe_gauge!(BGP_ESTABLISHED, "BGP sessions that are Established");
    describe_counter!(BGP_RECEIVED, Unit::Bytes, "Bytes received from BGP peers");
    describe_counter!(BGP_SENT, Unit::Bytes, "Bytes sent to BGP peers");
    describe_counter!(BGP_REJECTED, "BGP connections from addresses that are no peer's, closed unread");
    describe_counter!(BGP_ROUTE_CHANGES, "Changes of the best route to a prefix");
    describe_counter!(BGP_SESSION_CHANGES, "BGP sessions that entered a state, by state");
    describe_gauge!(BFD_SESSIONS, "BFD sessions by state");
    describe_counter!(BFD_REFUSED, "BFD packets that were thrown away");
    describe_counter!(CNI_CALLS, "CNI calls by command and outcome");
    describe_histogram!(CNI_SECONDS, Unit::Seconds, "Time that CNI calls took by command");
    describe_counter!(
        FLOW_PACKETS,
        "Denied packets, and first packets of allowed flows, that were looked at"
    );
    describe_counter!(FLOW_UNSEEN, "Such packets that were not looked at because there were too many");
    describe_counter!(
        STAGED_PACKETS,
        "Packets about which a rule would have decided if staged policies were enforced"
    );
    Ok(handle)
}

/// Notes packets of flows.
pub(crate) fn flow_packets(action: &'static str, packets: u64) {
    metrics::counter!(FLOW_PACKETS, "action" => action).increment(packets);
}

/// Notes packets of flows that were not seen.
pub(crate) fn flows_unseen(packets: u64) {
    metrics::counter!(FLOW_UNSEEN).increment(packets);
}

/// Notes what a rule would have done if staged policies were enforced.
pub(crate) fn staged_packets(rule: &str, action: &'static str, packets: u64) {
    metrics::counter!(STAGED_PACKETS, "rule" => rule.to_owned(), "action" => action).increment(packets);
}

/// Sets a gauge to a count.
pub(crate) fn gauge(name: &'static str, count: usize) {
    // No count here comes near 2^53.
    metrics::gauge!(name).set(count as f64);
}

/// Notes a batch of changes.
pub(crate) fn applied(took: Duration, failed: bool) {
    metrics::histogram!(APPLY_SECONDS).record(took.as_secs_f64());
    metrics::counter!(APPLY_FAILURES).increment(u64::from(failed));
}

/// Notes a CNI call.
pub(crate) fn cni_call(command: &'static str, took: Duration, failed: bool) {
    let outcome = if failed { "error" } else { "ok" };
    metrics::counter!(CNI_CALLS, "command" => command, "outcome" => outcome).increment(1);
    metrics::histogram!(CNI_SECONDS, "command" => command).record(took.as_secs_f64());
}
