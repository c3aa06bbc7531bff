use std::collections::BTreeMap;

use super::object;
use crate::rules::{
    Place, Rules, check_annotation_keys, check_duration, check_labels, check_range, check_regex,
    check_selector, check_singleton_name, check_subdomain,
};
use crate::scalars::{GoDuration, Net, words};
use crate::{Kind, Object, Spec};

/// Settings of the cluster controllers; only `default` exists.
pub type KubeControllersConfiguration = Object<KubeControllersConfigurationSpec>;

object! {
    /// `spec` of a [`KubeControllersConfiguration`].
    #[derive(Default)]
    pub struct KubeControllersConfigurationSpec {
        /// How much they log; `Info` if absent.
        log_severity_screen: Option<ControllersLogSeverity>,
        /// Whether they serve health checks; `Enabled` if absent.
        health_checks: Option<Switch>,
        /// Port of their metrics; 9094 if absent, 0 for none.
        prometheus_metrics_port: Option<i64>,
        /// How often etcd is compacted; 10m if absent, 0 for never.
        #[serde(rename = "etcdV3CompactionPeriod")]
        etcd_v3_compaction_period: Option<GoDuration>,
        /// Port of their profiler; none if absent.
        debug_profile_port: Option<i64>,
        /// The controllers; one that is absent does not run.
        controllers: ControllersConfig,
    }
}

object! {
    /// `status` of a [`KubeControllersConfiguration`].
    #[derive(Default)]
    pub struct KubeControllersConfigurationStatus {
        /// What is in force.
        running_config: Option<KubeControllersConfigurationSpec>,
        /// Environment variables that override the configuration.
        environment_vars: BTreeMap<String, String>,
    }
}

words! {
    /// On or off.
    Switch {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

words! {
    /// How much the controllers log.
    #[derive(Default)]
    ControllersLogSeverity {
        /// Nothing.
        None = "None",
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
        /// What must not happen.
        Panic = "Panic",
    }
}

object! {
    /// The controllers.
    #[derive(Default)]
    pub struct ControllersConfig {
        /// Nodes: their labels, their addresses, their host endpoints.
        node: Option<NodeControllerConfig>,
        /// Policies from Kubernetes (etcd datastore).
        policy: Option<ReconcilerConfig>,
        /// Workload endpoints (etcd datastore).
        workload_endpoint: Option<ReconcilerConfig>,
        /// Service accounts (etcd datastore).
        service_account: Option<ReconcilerConfig>,
        /// Namespaces (etcd datastore).
        namespace: Option<ReconcilerConfig>,
        /// Addresses of load balancers.
        load_balancer: Option<LoadBalancerControllerConfig>,
        /// Migrations of stored data.
        migration: Option<MigrationControllerConfig>,
    }
}

object! {
    /// A controller that compares from time to time.
    #[derive(Default, Eq)]
    pub struct ReconcilerConfig {
        /// How often; 5m if absent.
        reconciler_period: Option<GoDuration>,
    }
}

object! {
    /// The node controller.
    #[derive(Default)]
    pub struct NodeControllerConfig {
        /// How often it compares; 5m if absent.
        reconciler_period: Option<GoDuration>,
        /// Whether nodes get the labels of the Kubernetes nodes; `Enabled` if absent.
        sync_labels: Option<Switch>,
        /// The host endpoints that it makes.
        host_endpoint: Option<AutoHostEndpointConfig>,
        /// How long a leaked address is left alone; 15m if absent, 0 for ever.
        leak_grace_period: Option<GoDuration>,
    }
}

object! {
    /// Host endpoints that the node controller makes.
    #[derive(Default)]
    pub struct AutoHostEndpointConfig {
        /// Whether it makes any; `Disabled` if absent.
        auto_create: Option<Switch>,
        /// Whether each node gets one for all interfaces; `Enabled` if absent.
        create_default_host_endpoint: Option<Switch>,
        /// Further ones.
        templates: Vec<HostEndpointTemplate>,
    }
}

object! {
    /// A template of host endpoints.
    #[derive(Default)]
    pub struct HostEndpointTemplate {
        /// Part of their names.
        generate_name: String,
        /// For interfaces with an address in one of these.
        #[serde(rename = "interfaceCIDRs")]
        interface_cidrs: Vec<Net>,
        /// For interfaces whose name this regular expression matches.
        interface_pattern: String,
        /// Their labels.
        labels: BTreeMap<String, String>,
        /// Their annotations.
        annotations: BTreeMap<String, String>,
        /// For which nodes.
        node_selector: String,
    }
}

object! {
    /// The load balancer controller.
    #[derive(Default)]
    pub struct LoadBalancerControllerConfig {
        /// Which services get addresses.
        #[serde(rename = "assignIPs")]
        assign_ips: Option<AssignIPs>,
    }
}

words! {
    /// Which services get addresses.
    #[derive(Default)]
    AssignIPs {
        /// All of type LoadBalancer.
        #[default]
        AllServices = "AllServices",
        /// Those that ask.
        RequestedServicesOnly = "RequestedServicesOnly",
    }
}

object! {
    /// Migrations.
    #[derive(Default)]
    pub struct MigrationControllerConfig {
        /// Whether `default.NAME` policies are renamed to `NAME`; `Enabled` if absent.
        policy_name_migrator: Option<Switch>,
    }
}

impl Spec for KubeControllersConfigurationSpec {
    const KIND: Kind = Kind::KubeControllersConfiguration;
    type Status = KubeControllersConfigurationStatus;
}

impl Rules for KubeControllersConfigurationSpec {
    fn check_name(name: &str, at: &Place<'_>) {
        check_singleton_name(name, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        for (port, field) in [
            (spec.prometheus_metrics_port, "prometheusMetricsPort"),
            (spec.debug_profile_port, "debugProfilePort"),
        ] {
            if let Some(port) = port {
                check_range(port, 0, 65_535, &at.field(field));
            }
        }
        check_duration(spec.etcd_v3_compaction_period, &at.field("etcdV3CompactionPeriod"));
        check_controllers(&spec.controllers, &at.field("controllers"));
    }
}

fn check_controllers(controllers: &ControllersConfig, at: &Place<'_>) {
    for (reconciler, field) in [
        (&controllers.policy, "policy"),
        (&controllers.workload_endpoint, "workloadEndpoint"),
        (&controllers.service_account, "serviceAccount"),
        (&controllers.namespace, "namespace"),
    ] {
        let period = reconciler.as_ref().and_then(|reconciler| reconciler.reconciler_period);
        check_duration(period, &at.field(field).field("reconcilerPeriod"));
    }
    let Some(node) = &controllers.node else { return };
    let at = at.field("node");
    check_duration(node.reconciler_period, &at.field("reconcilerPeriod"));
    check_duration(node.leak_grace_period, &at.field("leakGracePeriod"));
    let templates = node.host_endpoint.iter().flat_map(|host_endpoint| &host_endpoint.templates);
    for (index, template) in templates.enumerate() {
        check_template(template, &at.field("hostEndpoint").field("templates").index(index));
    }
}

fn check_template(template: &HostEndpointTemplate, at: &Place<'_>) {
    if !template.generate_name.is_empty() {
        check_subdomain(&template.generate_name, &at.field("generateName"));
    }
    check_regex(&template.interface_pattern, &at.field("interfacePattern"));
    check_labels(&template.labels, &at.field("labels"));
    check_annotation_keys(&template.annotations, &at.field("annotations"));
    check_selector(&template.node_selector, &at.field("nodeSelector"));
}
