//! The plugin's network configuration: what `10-calico.conflist` holds for it (control-plane.md 2.1).

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::SpecVersion;
use super::code;
use crate::kubernetes::Pod;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ConfigError {
    /// Its CNI error code.
    pub code: u32,
    /// What is wrong, with the field's name.
    pub reason: String,
}

/// The configuration of the `calico` and `calico-ipam` plugins. Fields that the runtime adds, that belong to other
/// plugins of the chain, or that configure access to a datastore (which the node has, and the plugin does not need) are
/// accepted and left alone, so that Calico's files of any age work unchanged.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CalicoConfig {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
    name: Option<String>,
    /// `ipam`.
    pub ipam: IpamConfig,
    /// `policy.type`: `k8s` reads the pod's labels.
    pub policy: Policy,
    /// `nodename`, or the deprecated `hostname`.
    pub nodename: Option<String>,
    /// Deprecated form of `nodename`.
    pub hostname: Option<String>,
    /// File with the node's name, written by the node.
    pub nodename_file: Option<PathBuf>,
    /// Whether that file may be absent.
    pub nodename_file_optional: bool,
    /// MTU of the pod's link in bytes; 0 = what the node has written into its `mtu` file, or its own choice.
    pub mtu: u32,
    /// Whether the node has to have written that file.
    pub require_mtu_file: bool,
    /// Queues of the veth.
    pub num_queues: Option<u32>,
    /// `veth`, or absent.
    pub device_type: Option<String>,
    /// `container_settings`.
    pub container_settings: ContainerSettings,
    /// `feature_control`.
    pub feature_control: FeatureControl,
    /// Default routes beside those of `ipam.routes`.
    pub include_default_routes: bool,
    /// URLs that have to answer before ADD goes on.
    pub readiness_gates: Vec<String>,
    /// `dataplane_options.type`, which must be absent or `default`.
    pub dataplane_options: BTreeMap<String, Value>,
    /// `args`: CNI's conventions (`args.cni.labels`) and Mesos' labels.
    pub args: Value,
    /// What the runtime passes for declared capabilities.
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: BTreeMap<String, Value>,
    /// Ours: the node's unix socket, when it is not the default.
    pub node_socket: Option<PathBuf>,
    /// The result of the earlier ADD, for CHECK and DEL.
    #[serde(rename = "prevResult")]
    pub previous_result: Option<Value>,
    /// GC: the attachments that are to stay.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<Attachment>>,
}

/// `policy`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// `k8s`, or absent.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// `container_settings`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ContainerSettings {
    /// Turns on forwarding inside the pod.
    pub allow_ip_forwarding: bool,
}

/// `feature_control`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct FeatureControl {
    /// Allows the annotation `ipAddrsNoIpam`.
    pub ip_addrs_no_ipam: bool,
    /// Allows the annotation `floatingIPs`.
    pub floating_ips: bool,
}

/// An attachment in GC's list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Attachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Its interface.
    pub ifname: String,
}

/// `ipam`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// `calico-ipam`, `host-local`, or another plugin's name.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "flag")]
    assign_ipv4: Option<bool>,
    #[serde(deserialize_with = "flag")]
    assign_ipv6: Option<bool>,
    /// Pools to take IPv4 addresses from, by name or CIDR.
    pub ipv4_pools: Vec<String>,
    /// The same for IPv6.
    pub ipv6_pools: Vec<String>,
    /// Where the pod's routes lead to, instead of everywhere, when another IPAM plugin assigns the addresses.
    pub routes: Vec<IpamRoute>,
}

/// An entry of `ipam.routes`. Its gateway, if any, is left alone: a pod has one way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct IpamRoute {
    /// Destination.
    pub dst: IpNet,
}

impl IpamConfig {
    /// Whether to assign an IPv4 address (default yes).
    pub fn wants_ipv4(&self) -> bool {
        self.assign_ipv4.unwrap_or(true)
    }

    /// Whether to assign an IPv6 address (default no).
    pub fn wants_ipv6(&self) -> bool {
        self.assign_ipv6.unwrap_or(false)
    }

    /// Whether addresses come from Calico's IPAM.
    pub fn is_calico(&self) -> bool {
        self.kind.as_deref() == Some("calico-ipam")
    }

    /// The IPAM plugin to execute, when addresses do not come from Calico's.
    pub fn delegate(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| !kind.is_empty() && *kind != "calico-ipam")
    }
}

/// Calico writes `"true"`; people write `true`.
fn flag<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(flag)),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        other => Err(serde::de::Error::custom(format!("{other} is neither \"true\" nor \"false\""))),
    }
}

/// Go's decoder, which Calico's files were written for, reads `null` as "absent".
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

impl CalicoConfig {
    /// Reads a configuration from the bytes on standard input.
    ///
    /// # Errors
    /// Code 6 when it is not a JSON object or a field has the wrong type, 7 when its name is missing or wrong, 1 when its
    /// version is not supported.
    pub fn parse(text: &[u8]) -> Result<(Self, Value), ConfigError> {
        let refuse = |code, reason: String| ConfigError { code, reason };
        let value: Value = serde_json::from_slice(text).map_err(|error| {
            refuse(code::DECODING_FAILURE, format!("the network configuration is not JSON: {error}"))
        })?;
        if !value.is_object() {
            return Err(refuse(
                code::DECODING_FAILURE,
                "the network configuration is not a JSON object".to_owned(),
            ));
        }
        let config = Self::deserialize(without_nulls(value.clone()))
            .map_err(|error| refuse(code::DECODING_FAILURE, format!("the network configuration: {error}")))?;
        let name = config.name();
        if name.is_empty() {
            return Err(refuse(code::INVALID_CONFIG, "the network configuration has no name".to_owned()));
        }
        if !is_identifier(name) {
            let reason = format!(
                "name {name:?}: a network's name begins with a letter or digit and has letters, digits, _ . - only"
            );
            return Err(refuse(code::INVALID_CONFIG, reason));
        }
        config.version().map_err(|error| refuse(code::INCOMPATIBLE_VERSION, error.to_string()))?;
        Ok((config, value))
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The version to answer in.
    ///
    /// # Errors
    /// A version that the plugin does not speak.
    pub fn version(&self) -> Result<SpecVersion, super::UnsupportedVersion> {
        match self.cni_version.as_deref() {
            None | Some("") => Ok(SpecVersion::WHEN_ABSENT),
            Some(text) => text.parse(),
        }
    }

    /// Labels for the endpoint: CNI's convention `args.cni.labels` ([{key, value}]), then Mesos' `network_info`.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let places = ["/cni/labels", "/org.apache.mesos/network_info/labels/labels"];
        let entries = places.iter().filter_map(|place| self.args.pointer(place)?.as_array()).flatten();
        entries
            .filter_map(|entry| {
                Some((entry["key"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned()))
            })
            .collect()
    }

    /// The pod's annotations, as containerd and CRI-O pass them for the capability `io.kubernetes.cri.pod-annotations`.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let Some(Value::Object(entries)) = self.runtime_config.get("io.kubernetes.cri.pod-annotations")
        else {
            return BTreeMap::new();
        };
        entries.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// What the runtime knows of the pod: `args.tortie.pod` (ours), a Pod as Kubernetes writes it. It is for runtimes that
    /// know pods where no Kubernetes API does: its labels, annotations, `generateName`, service account and ports become
    /// the endpoint's.
    ///
    /// # Errors
    /// Code 6 when it is no Pod.
    pub fn pod(&self) -> Result<Option<Pod>, ConfigError> {
        let Some(pod) = self.args.pointer("/tortie/pod") else { return Ok(None) };
        Pod::deserialize(pod).map(Some).map_err(|error| ConfigError {
            code: code::DECODING_FAILURE,
            reason: format!("args.tortie.pod in the network configuration: {error}"),
        })
    }
}

/// CNI SPEC: network names and container identifiers.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CalicoConfig, ConfigError> {
        CalicoConfig::parse(text.as_bytes()).map(|(config, _)| config)
    }

    #[test]
    fn calicos_own_files_of_then_and_now_are_accepted_unchanged() {
        let v3_8 = r#"{"cniVersion":"0.3.1","name":"k8s-pod-network","type":"calico","log_level":"info","datastore_type":"kubernetes",
            "nodename":"node-1","mtu":1440,"ipam":{"type":"calico-ipam"},"policy":{"type":"k8s"},
            "kubernetes":{"kubeconfig":"/etc/cni/net.d/calico-kubeconfig"}}"#;
        let config = parse(v3_8).unwrap();
        assert_eq!((config.mtu, config.nodename.as_deref()), (1440, Some("node-1")));
        assert_eq!(config.policy.kind.as_deref(), Some("k8s"));
        let today = r#"{"cniVersion":"0.3.1","name":"k8s-pod-network","type":"calico","log_level":"info",
            "log_file_path":"/var/log/calico/cni/cni.log","datastore_type":"kubernetes","mtu":0,"require_mtu_file":true,
            "ipam":{"type":"calico-ipam","assign_ipv4":"true","assign_ipv6":"false"},"policy":{"type":"k8s"},
            "kubernetes":{"kubeconfig":"x"}}"#;
        let config = parse(today).unwrap();
        assert!(config.ipam.is_calico() && config.ipam.wants_ipv4() && !config.ipam.wants_ipv6());
    }

    #[test]
    fn each_fault_has_its_code() {
        for (text, code) in [
            ("", 6),
            ("[]", 6),
            ("{\"name\": 3}", 6),
            (r#"{"cniVersion":"1.0.0"}"#, 7),
            (r#"{"cniVersion":"1.0.0","name":"te%%st"}"#, 7),
            (r#"{"cniVersion":"9.8.7","name":"n"}"#, 1),
            (r#"{"name":"n","ipam":{"assign_ipv4":"perhaps"}}"#, 6),
            (r#"{"name":null,"ipam":null}"#, 7),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
        assert_eq!(parse(r#"{"name":"n"}"#).unwrap().version().unwrap(), SpecVersion::V0_2_0);
    }

    #[test]
    fn a_pod_that_the_runtime_knows_is_read_and_one_that_is_none_refused() {
        let config =
            |pod: &str| parse(&format!(r#"{{"name":"n","args":{{"tortie":{{"pod":{pod}}}}}}}"#)).unwrap();
        let pod =
            config(r#"{"metadata":{"generateName":"p-","labels":null},"spec":{"serviceAccountName":"sa"}}"#);
        let pod = pod.pod().unwrap().unwrap();
        assert_eq!(pod.metadata.generate_name, "p-");
        assert_eq!(pod.spec.service_account_name, "sa");
        assert_eq!(config("\"p\"").pod().unwrap_err().code, 6);
        assert_eq!(parse(r#"{"name":"n"}"#).unwrap().pod(), Ok(None));
    }

    #[test]
    fn labels_come_from_cnis_convention_and_from_mesos() {
        let config = parse(
            r#"{"name":"n","args":{"cni":{"labels":[{"key":"a","value":"1"}]},
               "org.apache.mesos":{"network_info":{"labels":{"labels":[{"key":"b","value":"2"}]}}}}}"#,
        )
        .unwrap();
        assert_eq!(config.labels(), BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
    }
}
