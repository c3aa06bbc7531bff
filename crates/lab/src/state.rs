//! What a lab remembers: its folder.
//!
//! Everything of a lab lives under one folder (`--dir`), which is made before anything else and removed last; so a lab
//! that was cut off in the middle can still be found, and taken down, by its folder alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::process::wait_until;
use crate::topology::{Host, Topology};

/// Where a lab is unless told otherwise.
pub(crate) const DEFAULT_DIRECTORY: &str = "/run/tortie-lab";
/// The file by which a folder is known to be a lab.
const STATE: &str = "lab.json";
/// How long to wait for another command in the same lab; making a pod takes well under a second.
const LOCK_LIMIT: Duration = Duration::from_secs(20);

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
    /// Further variables for every node (`CALICO_IPV4POOL_CIDR`, `FELIX_…`).
    pub settings: Vec<(String, String)>,
    /// Whether its namespaces belong to a user namespace of whoever made it, who was not root.
    pub user_namespace: bool,
    /// Pods in the order in which they were made.
    pub pods: Vec<Pod>,
}

impl LabState {
    /// The pod that a user means by `NAME` or `NAMESPACE/NAME`.
    pub(crate) fn pod(&self, word: &str) -> Option<&Pod> {
        let (namespace, name) = word.split_once('/').unwrap_or(("default", word));
        self.pods.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// The names of all pods, for a message.
    pub(crate) fn pod_names(&self) -> String {
        match &self.pods[..] {
            [] => "no pods".to_owned(),
            pods => pods.iter().map(Pod::full_name).collect::<Vec<_>>().join(", "),
        }
    }
}

impl LabDir {
    /// The lab in this folder, which need not exist. The path becomes absolute and free of links, so that a lab is the same
    /// however it is named.
    ///
    /// # Errors
    /// The path cannot be resolved.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path)?;
        let mut existing = path.as_path();
        while !existing.exists() {
            existing = existing.parent().unwrap_or(Path::new("/"));
        }
        let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
        let resolved =
            existing.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))?;
        Ok(Self(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) }))
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
        self.0.join(STATE)
    }

    /// Whether a lab is here, whole or cut off.
    pub(crate) fn exists(&self) -> bool {
        self.state_file().exists()
    }

    /// Makes the folder for a new lab. An empty one that is there already will do.
    ///
    /// # Errors
    /// There is something in it, or it cannot be made.
    pub(crate) fn create(&self, state: &LabState) -> Result<()> {
        if self.exists() {
            bail!(
                "a lab is in {} already; take it down first with: tortie lab down{}",
                self.0.display(),
                self.option()
            );
        }
        self.check_length(&state.topology)?;
        fs::create_dir_all(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        if fs::read_dir(&self.0)?.next().is_some() {
            bail!("{} has something in it that is no lab; use another --dir", self.0.display());
        }
        // First of all, for it is what `down` knows a lab by.
        self.save(state)?;
        let hosts = state.topology.hosts.iter().map(|Host { name, .. }| self.host_files(name).join("run"));
        for folder in [self.bin(), self.namespaces()].into_iter().chain(hosts) {
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    }

    /// unix(7): the path of a socket has 108 bytes, the last of them zero.
    fn check_length(&self, topology: &Topology) -> Result<()> {
        const LONGEST: usize = 107;
        let sockets = topology.hosts.iter().map(|host| self.node_socket(&host.name).as_os_str().len());
        match sockets.max().unwrap_or(0).saturating_sub(LONGEST) {
            0 => Ok(()),
            excess => bail!(
                "{} is too long by {excess} bytes for the unix sockets in it; use a shorter --dir",
                self.0.display()
            ),
        }
    }

    /// Holds the lab against other commands that change it, until dropped.
    ///
    /// # Errors
    /// Another command has held it for [`LOCK_LIMIT`], or there is no such folder.
    pub(crate) fn lock(&self) -> Result<File> {
        let folder = File::open(&self.0).with_context(|| format!("cannot open {}", self.0.display()))?;
        wait_until(Instant::now() + LOCK_LIMIT, || {
            flock(&folder, FlockOperation::NonBlockingLockExclusive).with_context(|| {
                format!(
                    "another tortie lab command is at work in {}; try again when it has ended",
                    self.0.display()
                )
            })
        })?;
        Ok(folder)
    }

    /// How a user names this lab on the command line: ` --dir …`, or nothing.
    pub(crate) fn option(&self) -> String {
        match self.0 == Path::new(DEFAULT_DIRECTORY) {
            true => String::new(),
            false => format!(" --dir {}", self.0.display()),
        }
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
                self.option()
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

    fn state() -> LabState {
        LabState {
            topology: Topology::new(2, 1).unwrap(),
            settings: vec![],
            user_namespace: false,
            pods: vec![],
        }
    }

    #[test]
    fn state_survives_and_a_second_lab_in_the_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let lab = LabDir::new(&parent.path().join("lab")).unwrap();
        assert!(lab.load().unwrap_err().to_string().contains("tortie lab up --dir"));
        lab.create(&state()).unwrap();
        assert!(lab.create(&state()).unwrap_err().to_string().contains("tortie lab down --dir"));
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

    #[test]
    fn a_folder_with_anything_else_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
        let lab = LabDir::new(folder.path()).unwrap();
        assert!(lab.create(&state()).unwrap_err().to_string().contains("that is no lab"));
        assert!(!lab.exists());
    }

    #[test]
    fn a_path_too_long_for_sockets_is_refused_before_anything_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let lab = LabDir::new(&folder.path().join("x".repeat(100))).unwrap();
        assert!(lab.create(&state()).unwrap_err().to_string().contains("shorter --dir"));
        assert!(!lab.path().exists());
    }

    #[test]
    fn a_lab_is_the_same_however_its_folder_is_written() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        let plain = LabDir::new(&folder.path().join("lab")).unwrap();
        let detour = LabDir::new(&folder.path().join("link/link/lab")).unwrap();
        assert_eq!(plain.path(), detour.path());
    }
}
