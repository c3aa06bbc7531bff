//! Pods, made and removed as a container runtime does it: a namespace, then the CNI plugin's binary with CNI_* in its
//! environment and its configuration on standard input.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use api::cni::CniResult;
use kernel::link::LinkChange;
use kernel::netns::{self, Netns};
use kernel::{InterfaceName, Rtnetlink};
use serde_json::{Value, json};

use crate::state::{LabDir, Pod};

/// The pod's interface.
pub(crate) const INTERFACE: &str = "eth0";

/// Names are those of Kubernetes' namespaces and pods (RFC 1123): nothing else makes a file name here.
///
/// # Errors
/// What a name looks like.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ensure!(
        bytes.len() <= 63
            && bytes.iter().all(|byte| fits(*byte))
            && edge(bytes.first())
            && edge(bytes.last()),
        "{name:?} is no name for a pod or namespace: use up to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends"
    );
    Ok(())
}

/// The configuration list of a host: Calico's own `10-calico.conflist`, pointed at the host's node.
fn configuration_list(lab: &LabDir, host: &str, ipv6: bool) -> Value {
    json!({
        "name": "k8s-pod-network",
        "cniVersion": "1.0.0",
        "plugins": [{
            "type": "calico",
            "log_level": "info",
            "datastore_type": "kubernetes",
            "nodename": host,
            "mtu": 0,
            "ipam": { "type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": ipv6.to_string() },
            "policy": { "type": "k8s" },
            "capabilities": { "io.kubernetes.cri.pod-annotations": true },
            "node_socket": lab.node_socket(host),
        }],
    })
}

/// Makes a pod: its namespace, and its attachment by the plugin. Undone in full when it fails.
///
/// # Errors
/// The plugin's error, or the kernel's.
pub(crate) fn add(lab: &LabDir, pod: &mut Pod, ipv6: bool) -> Result<()> {
    let path = lab.pod(pod);
    let namespace = Netns::make_named(&path)?;
    let attached = loopback_up(&namespace).and_then(|()| attach(lab, pod, ipv6));
    match attached {
        Ok(result) => {
            pod.addresses = result.ips.iter().map(|ip| ip.address.addr()).collect();
            Ok(())
        }
        Err(error) => {
            netns::remove_named(&path)?;
            Err(error)
        }
    }
}

/// Removes a pod: DEL, then its namespace.
///
/// # Errors
/// The plugin's error; the namespace is removed all the same.
pub(crate) fn remove(lab: &LabDir, pod: &Pod, ipv6: bool) -> Result<()> {
    let detached = execute(lab, pod, "DEL", ipv6);
    netns::remove_named(lab.pod(pod))?;
    let output = detached?;
    ensure!(output.is_empty(), "DEL printed {output}");
    Ok(())
}

fn loopback_up(namespace: &Netns) -> Result<()> {
    let mut links = Rtnetlink::open_in(namespace)?;
    let lo = InterfaceName::new("lo")?;
    Ok(links.change_link(&lo, &LinkChange::up())?)
}

fn attach(lab: &LabDir, pod: &Pod, ipv6: bool) -> Result<CniResult> {
    let output = execute(lab, pod, "ADD", ipv6)?;
    let document = serde_json::from_str(&output).with_context(|| format!("the plugin printed {output:?}"))?;
    Ok(CniResult::from_json(&document)?)
}

/// Runs the plugin on the pod's host; what it printed.
fn execute(lab: &LabDir, pod: &Pod, command: &str, ipv6: bool) -> Result<String> {
    let bin: PathBuf = lab.bin();
    let mut plugin = Command::new(bin.join("calico"));
    plugin
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &pod.container_id)
        .env("CNI_NETNS", lab.pod(pod))
        .env("CNI_IFNAME", INTERFACE)
        .env("CNI_ARGS", arguments(pod))
        .env("CNI_PATH", &bin)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let configuration = configuration(lab, pod, ipv6).to_string();
    let run = move || -> std::io::Result<_> {
        let mut child = plugin.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(configuration.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = Netns::open(lab.host(&pod.node))?.run(run)?.context("cannot run the CNI plugin")?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let error: Value = serde_json::from_str(&printed).unwrap_or_default();
    let said = error["msg"]
        .as_str()
        .map_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned(), str::to_owned);
    bail!("CNI {command} of {}: {}", pod.full_name(), said.trim())
}

fn arguments(pod: &Pod) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
        pod.namespace, pod.name, pod.container_id
    )
}

/// The plugin's part of the list, with what a runtime adds to it.
fn configuration(lab: &LabDir, pod: &Pod, ipv6: bool) -> Value {
    let list = configuration_list(lab, &pod.node, ipv6);
    let mut plugin = list["plugins"][0].clone();
    let labels: Vec<_> =
        pod.labels.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = list["cniVersion"].clone();
    plugin["args"] = json!({ "cni": { "labels": labels } });
    plugin["runtimeConfig"] = json!({ "io.kubernetes.cri.pod-annotations": pod.annotations });
    plugin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["web", "pod-1", "a.b", "0"] {
            check_name(good).unwrap();
        }
        for bad in ["", "Web", "../up", "a_b", "-a", "a-", &"x".repeat(64)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
