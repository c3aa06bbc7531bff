//! Executing a plugin.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::outcome::Outcome;
use crate::world::World;

/// What comes on standard input.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// This text.
    Text(String),
    /// Reading fails.
    Unreadable,
}

/// A call of a plugin.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The plugin and its flags.
    pub(crate) line: String,
    /// CNI_*.
    pub(crate) environment: BTreeMap<String, String>,
    /// Standard input.
    pub(crate) input: Input,
}

impl Call {
    /// A call of `calico` for a container that has no pod.
    pub(crate) fn new(world: &World, command: &str, container: &str, netns: &str) -> Self {
        let bin = world.bin();
        let pairs = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &bin.to_string_lossy()),
        ];
        Self {
            line: "calico".to_owned(),
            environment: pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            input: Input::Text(configuration("calico-ipam").to_string()),
        }
    }

    /// The same for a pod.
    pub(crate) fn of_pod(mut self, namespace: &str, name: &str) -> Self {
        let container = self.environment["CNI_CONTAINERID"].clone();
        self.environment.insert("CNI_ARGS".to_owned(), pod_arguments(namespace, name, &container));
        self
    }

    /// The same with another command.
    pub(crate) fn with_command(mut self, command: &str) -> Self {
        self.environment.insert("CNI_COMMAND".to_owned(), command.to_owned());
        self
    }

    /// The same with another configuration.
    pub(crate) fn with_config(mut self, config: &Value) -> Self {
        self.input = Input::Text(config.to_string());
        self
    }

    /// An environment variable, or nothing.
    pub(crate) fn variable(&self, name: &str) -> &str {
        self.environment.get(name).map_or("", String::as_str)
    }

    /// The configuration, if it is JSON.
    pub(crate) fn config(&self) -> Option<Value> {
        match &self.input {
            Input::Text(text) => serde_json::from_str(text).ok(),
            Input::Unreadable => None,
        }
    }

    /// Executes the plugin on a host.
    pub(crate) fn run(&self, world: &World) -> Outcome {
        let output = self.spawn(world).wait_with_output().expect("our own child");
        Outcome::new(&output)
    }

    /// Starts it.
    pub(crate) fn spawn(&self, world: &World) -> Child {
        let mut words = self.line.split_whitespace();
        let name = words.next().expect("a plugin has a name");
        let mut command = Command::new(world.bin().join(name));
        command
            .arg0(name)
            .args(words)
            .env_clear()
            .envs(&self.environment)
            .env("TORTIE_NODE_SOCKET", world.socket())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        match &self.input {
            Input::Text(_) => command.stdin(Stdio::piped()),
            // Reading a folder fails.
            Input::Unreadable => command.stdin(File::open("/").expect("there is a root")),
        };
        let mut child = world.host.run(|| command.spawn()).expect("the plugin starts");
        if let (Some(mut input), Input::Text(text)) = (child.stdin.take(), &self.input) {
            // A plugin that has ended without reading says why on its standard output.
            let _ = input.write_all(text.as_bytes());
        }
        child
    }
}

/// CNI_ARGS as Kubernetes' runtimes make them.
pub(crate) fn pod_arguments(namespace: &str, name: &str, container: &str) -> String {
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={container}"
    )
}

/// A configuration with an IPAM plugin.
pub(crate) fn configuration(ipam: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "calico", "ipam": {"type": ipam}})
}
