//! A CNI plugin, executed as a container runtime does it.

use std::io::ErrorKind::BrokenPipe;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testkit::TestNamespace;

use crate::harness::cluster::NODE;
use crate::harness::host::Host;

/// Label `app` of our pods.
pub(super) const APP: &str = "app-0";
/// Where Debian puts the plugins.
const PEERS: &str = "/usr/lib/cni";

/// A plugin with its configuration.
pub(super) struct Plugin {
    pub(super) name: &'static str,
    program: PathBuf,
    /// CNI_PATH.
    path: PathBuf,
    configuration: Value,
}

impl Plugin {
    /// Ours, on a host with a node.
    pub(super) fn tortie(host: &Host) -> Self {
        let configuration = json!({
            "name": "k8s-pod-network", "cniVersion": "1.0.0", "type": "calico", "log_level": "info",
            "datastore_type": "kubernetes", "nodename": NODE, "mtu": 0, "ipam": {"type": "calico-ipam"},
            "policy": {"type": "k8s"}, "node_socket": host.socket(),
            "args": {"cni": {"labels": [{"key": "app", "value": APP}]}},
        });
        Self { name: "tortie", program: host.path("calico"), path: host.path("."), configuration }
    }

    /// The peer, on a host without.
    pub(super) fn ptp(host: &Host) -> Result<Self> {
        let program = PathBuf::from(PEERS).join("ptp");
        ensure!(program.exists(), "{} is missing; run scripts/install-test-packages", program.display());
        let configuration = json!({
            "name": "peer", "cniVersion": "1.0.0", "type": "ptp", "ipMasq": false,
            "ipam": {
                "type": "host-local", "subnet": "10.1.0.0/16", "dataDir": host.path("host-local"),
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        Ok(Self { name: "ptp + host-local", program, path: PEERS.into(), configuration })
    }

    /// Adds or deletes a pod's network.
    ///
    /// # Errors
    /// The plugin's error.
    pub(super) fn execute(&self, command: &str, pod: usize, namespace: &TestNamespace) -> Result<()> {
        let container = format!("{pod:064x}");
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{pod};K8S_POD_INFRA_CONTAINER_ID={container}"
        );
        let mut plugin = self.command(command);
        plugin
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", namespace.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", arguments);
        let output = self.finish(plugin)?;
        let printed = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{} {command} of pod {pod}: {printed}", self.name);
        }
        ensure!(
            (command == "ADD") == printed.contains("\"ips\""),
            "{} {command} printed {printed}",
            self.name
        );
        Ok(())
    }

    /// The command that touches nothing.
    pub(super) fn version(&self) -> Result<()> {
        let output = self.finish(self.command("VERSION"))?;
        ensure!(output.status.success(), "{} VERSION failed", self.name);
        Ok(())
    }

    fn command(&self, command: &str) -> Command {
        let mut plugin = Command::new(&self.program);
        plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_PATH", &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        plugin
    }

    fn finish(&self, mut plugin: Command) -> Result<Output> {
        let mut run = || -> std::io::Result<_> {
            let mut child = plugin.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                // VERSION may be answered before the configuration is read.
                let written = input.write_all(self.configuration.to_string().as_bytes());
                written.or_else(|error| if error.kind() == BrokenPipe { Ok(()) } else { Err(error) })?;
            }
            child.wait_with_output()
        };
        run().with_context(|| format!("cannot run {}", self.program.display()))
    }
}
