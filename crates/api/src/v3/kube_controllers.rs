use std::collections::BTreeMap;

use super::object;
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
