//! What a lab remembers: its folder.
//!
//! Everything of a lab lives under one folder (`--dir`), which is made before anything else and removed last; so a lab
//! that was cut off in the middle can still be found, and taken down, by its folder alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::topology::{Host, Topology};

/// Where a lab is unless told otherwise.
pub(crate) const DEFAULT_DIRECTORY: &str = "/run/tortie-lab";

/// The paths of a lab.
#[derive(Debug, Clone)]
pub(crate) struct LabDir(PathBuf);

/// A pod of the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The host that it is on.
    pub node: String,
    /// The sandbox's id, as a container runtime would make it.
    pub container_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its addresses, IPv4 first, as ADD answered; empty until then.
    pub addresses: Vec<std::net::IpAddr>,
}

impl Pod {
    /// `NAMESPACE/NAME`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The contents of `lab.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LabState {
    /// Hosts and fabric.
    pub topology: Topology,
    /// Pods in the order in which they were made.
    pub pods: Vec<Pod>,
}

impl LabState {
    /// The pod that a user means by `NAME` or `NAMESPACE/NAME`.
    pub(crate) fn pod(&self, word: &str) -> Option<&Pod> {
        let (namespace, name) = word.split_once('/').unwrap_or(("default", word));
        self.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }
}

impl LabDir {
    /// The lab in this folder, which need not exist.
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The embedded datastore that all hosts share.
    pub(crate) fn datastore(&self) -> PathBuf {
        self.0.join("datastore.db")
    }

    /// Folder with the binary under its names (`tortie`, `calicoctl`, `calico`, `calico-ipam`).
    pub(crate) fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// Folder of the namespaces' mounts.
    pub(crate) fn namespaces(&self) -> PathBuf {
        self.0.join("netns")
    }

    /// The fabric's namespace.
    pub(crate) fn fabric(&self) -> PathBuf {
        self.namespaces().join("fabric")
    }

    /// A host's namespace.
    pub(crate) fn host(&self, name: &str) -> PathBuf {
        self.namespaces().join(format!("host_{name}"))
    }

    /// A pod's namespace. Kubernetes' names have no underscore, so none meets another.
    pub(crate) fn pod(&self, pod: &Pod) -> PathBuf {
        self.namespaces().join(format!("pod_{}_{}", pod.namespace, pod.name))
    }

    /// A host's own files.
    pub(crate) fn host_files(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The unix socket of a host's node.
    pub(crate) fn node_socket(&self, name: &str) -> PathBuf {
        self.host_files(name).join("run/node.sock")
    }

    /// The log of a host's node.
    pub(crate) fn node_log(&self, name: &str) -> PathBuf {
        self.host_files(name).join("node.log")
    }

    fn state_file(&self) -> PathBuf {
        self.0.join("lab.json")
    }

    /// Makes the folder for a new lab.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be made.
    pub(crate) fn create(&self, topology: &Topology) -> Result<()> {
        if self.0.exists() {
            bail!(
                "{} exists: a lab is there already, or an earlier one was cut off; take it down with: tortie lab down --dir {}",
                self.0.display(),
                self.0.display()
            );
        }
        for folder in [self.0.clone(), self.bin(), self.namespaces()] {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        for Host { name, .. } in &topology.hosts {
            fs::create_dir_all(self.host_files(name).join("run"))?;
        }
        self.save(&LabState { topology: topology.clone(), pods: Vec::new() })
    }

    /// Reads the state.
    ///
    /// # Errors
    /// There is no lab in the folder, or its file cannot be read.
    pub(crate) fn load(&self) -> Result<LabState> {
        let path = self.state_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "there is no lab in {}; make one with: tortie lab up{}",
                self.0.display(),
                if self.0 == Path::new(DEFAULT_DIRECTORY) {
                    String::new()
                } else {
                    format!(" --dir {}", self.0.display())
                }
            ),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_str(&text).with_context(|| format!("{} is not the state of a lab", path.display()))
    }

    /// Writes the state, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(crate) fn save(&self, state: &LabState) -> Result<()> {
        let unfinished = self.0.join(".lab.json");
        fs::write(&unfinished, serde_json::to_vec_pretty(state)?)
            .with_context(|| format!("cannot write {}", unfinished.display()))?;
        fs::rename(&unfinished, self.state_file())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_survives_and_a_second_lab_in_the_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let lab = LabDir::new(parent.path().join("lab"));
        assert!(lab.load().unwrap_err().to_string().contains("tortie lab up --dir"));
        let topology = Topology::new(2, 1).unwrap();
        lab.create(&topology).unwrap();
        assert!(lab.create(&topology).unwrap_err().to_string().contains("tortie lab down --dir"));
        let mut state = lab.load().unwrap();
        state.pods.push(Pod {
            namespace: "default".into(),
            name: "pod-1".into(),
            node: "node-1".into(),
            container_id: "c".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            addresses: vec!["10.65.0.1".parse().unwrap()],
        });
        lab.save(&state).unwrap();
        let state = lab.load().unwrap();
        assert_eq!(state.pod("pod-1"), state.pod("default/pod-1"));
        assert!(state.pod("other/pod-1").is_none());
    }
}
