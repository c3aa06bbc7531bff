//! Bringing a lab up and taking it down.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kernel::netns;
use rustix::process::Signal;

use crate::state::{LabDir, LabState, Pod};
use crate::topology::Topology;
use crate::{fabric, pods, process};

/// The names under which the binary is called in a lab.
const NAMES: [&str; 4] = ["tortie", "calicoctl", "calico", "calico-ipam"];
/// A node on an idle machine is ready within a second.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// What a lab is to look like.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Hosts and subnets.
    pub topology: Topology,
    /// Further variables for every node (`CALICO_IPV4POOL_CIDR`, `FELIX_…`).
    pub settings: Vec<(String, String)>,
}

/// Makes hosts, fabric and nodes, and waits until all are ready. Taken down again when a step fails.
///
/// # Errors
/// The step that failed; or a lab is there already, which stays as it is.
pub(crate) fn up(lab: &LabDir, plan: &Plan) -> Result<()> {
    require_root()?;
    lab.create(&plan.topology)?;
    build(lab, plan).inspect_err(|_| {
        // What went wrong first is what matters; `lab down` can be tried again.
        let _ = down(lab);
    })
}

/// Namespaces, links and raw sockets need it.
///
/// # Errors
/// Not root.
pub(crate) fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a lab makes network namespaces and links, which needs root: run it with sudo");
    }
    Ok(())
}

fn build(lab: &LabDir, plan: &Plan) -> Result<()> {
    let binary = std::env::current_exe().context("cannot find the running binary")?;
    for name in NAMES {
        symlink(&binary, lab.bin().join(name))?;
    }
    fabric::build(lab, &plan.topology)?;
    for host in &plan.topology.hosts {
        process::start(lab, host, &plan.settings)?;
    }
    process::wait_ready(lab, &plan.topology.hosts, READY_LIMIT)
}

/// Removes everything that a lab made, whatever state it is in. Without a lab, does nothing.
///
/// # Errors
/// The first thing that could not be removed; everything else was.
pub(crate) fn down(lab: &LabDir) -> Result<()> {
    let mut outcomes = vec![process::end(&process::running(lab), Signal::KILL)];
    let namespaces = match fs::read_dir(lab.namespaces()) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    outcomes.extend(namespaces.iter().map(|path| {
        netns::remove_named(path).with_context(|| format!("cannot remove namespace {}", path.display()))
    }));
    outcomes.push(match fs::remove_dir_all(lab.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", lab.path().display()))
        }
        _ => Ok(()),
    });
    outcomes.into_iter().collect()
}

/// Adds a pod to a lab. Its labels and annotations are those of a user.
///
/// # Errors
/// There is such a pod, no such host, or the plugin refused.
pub(crate) fn add_pod(lab: &LabDir, state: &mut LabState, mut pod: Pod) -> Result<Pod> {
    if state.pod(&pod.full_name()).is_some() {
        bail!(
            "pod {} exists already; remove it with: tortie lab pod remove {}",
            pod.full_name(),
            pod.full_name()
        );
    }
    if state.topology.host(&pod.node).is_none() {
        let hosts: Vec<_> = state.topology.hosts.iter().map(|host| host.name.as_str()).collect();
        bail!("there is no host {}; the lab has {}", pod.node, hosts.join(", "));
    }
    pods::add(lab, &mut pod)?;
    state.pods.push(pod.clone());
    lab.save(state)?;
    Ok(pod)
}

/// Removes a pod from a lab.
///
/// # Errors
/// There is no such pod, or the plugin's error, after which the pod is still in the lab's list.
pub(crate) fn remove_pod(lab: &LabDir, state: &mut LabState, word: &str) -> Result<()> {
    let Some(pod) = state.pod(word).cloned() else {
        bail!("there is no pod {word}; tortie lab status lists them");
    };
    pods::remove(lab, &pod)?;
    state.pods.retain(|other| *other != pod);
    lab.save(state)
}
