//! Bringing a lab up and taking it down.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result, bail};
use kernel::netns;
use rustix::process::Signal;

use crate::node::READY_LIMIT;
use crate::state::{LabDir, LabState, Pod};
use crate::{fabric, interrupt, node, pods, process};

/// The names under which the binary is called in a lab.
const NAMES: [&str; 4] = ["tortie", "calicoctl", "calico", "calico-ipam"];
/// A process that is being ended may have started another meanwhile.
const ROUNDS: usize = 10;

/// Makes hosts, fabric and nodes, and waits until all are ready. Taken down again when a step fails.
///
/// # Errors
/// The step that failed; or a lab is there already, which stays as it is.
pub(crate) fn up(lab: &LabDir, state: &LabState) -> Result<()> {
    lab.create(state)?;
    build(lab, state).inspect_err(|_| {
        // What went wrong first is what matters; `lab down` can be tried again.
        let _ = down(lab);
    })
}

fn build(lab: &LabDir, state: &LabState) -> Result<()> {
    let _held = lab.lock()?;
    let binary = std::env::current_exe().context("cannot find the running binary")?;
    for name in NAMES {
        symlink(&binary, lab.bin().join(name))?;
    }
    fabric::build(lab, &state.topology)?;
    let mut nodes = Vec::new();
    for host in &state.topology.hosts {
        interrupt::check()?;
        nodes.push(node::start(lab, state, host)?);
    }
    node::wait_ready(lab, &mut nodes, READY_LIMIT)
}

/// Removes everything that a lab made, whatever state it is in. Without a lab, does nothing.
///
/// # Errors
/// The folder holds something else, which stays; or the first thing that could not be removed; everything else was.
pub(crate) fn down(lab: &LabDir) -> Result<()> {
    if !lab.exists() {
        return no_lab(lab);
    }
    let _held = lab.lock()?;
    let mut outcomes = vec![end_all(lab)];
    if rustix::process::geteuid().is_root() {
        outcomes.extend(remove_namespaces(lab));
    }
    if outcomes.iter().all(Result::is_ok) {
        outcomes.push(remove_folder(lab));
    }
    outcomes.into_iter().collect()
}

/// Without root they are in a user namespace, and went with its last process.
fn remove_namespaces(lab: &LabDir) -> Vec<Result<()>> {
    let names = match fs::read_dir(lab.namespaces()) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    let mut outcomes: Vec<_> = names.iter().map(|path| Ok(netns::remove_named(path)?)).collect();
    outcomes.push(netns::remove_directory(lab.namespaces()).map_err(Into::into));
    outcomes
}

fn remove_folder(lab: &LabDir) -> Result<()> {
    match fs::remove_dir_all(lab.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", lab.path().display()))
        }
        _ => Ok(()),
    }
}

/// Nothing was begun, or not more than an empty folder.
fn no_lab(lab: &LabDir) -> Result<()> {
    match fs::remove_dir(lab.path()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => bail!(
            "{} is not the folder of a lab (it has no lab.json); nothing was touched",
            lab.path().display()
        ),
    }
}

fn end_all(lab: &LabDir) -> Result<()> {
    for _ in 0..ROUNDS {
        let running = process::running(lab);
        if running.is_empty() {
            return Ok(());
        }
        process::end(&running, Signal::KILL)?;
    }
    bail!("processes of the lab start others faster than they can be ended")
}

/// Adds a pod to a lab. Its labels and annotations are those of a user.
///
/// # Errors
/// There is such a pod, no such host, or the plugin refused.
pub(crate) fn add_pod(lab: &LabDir, mut pod: Pod) -> Result<Pod> {
    let _held = lab.lock()?;
    let mut state = lab.load()?;
    let (name, option) = (pod.full_name(), lab.option());
    for word in [&pod.namespace, &pod.name] {
        pods::check_name(word)?;
    }
    if state.pod(&name).is_some() {
        bail!("pod {name} exists already; remove it with: tortie lab pod remove {name}{option}");
    }
    if state.topology.host(&pod.node).is_none() {
        bail!("there is no host {}; the lab has {}", pod.node, state.topology.names());
    }
    pods::add(lab, &mut pod, state.topology.ipv6)?;
    state.pods.push(pod.clone());
    lab.save(&state)?;
    Ok(pod)
}

/// Removes a pod from a lab.
///
/// # Errors
/// There is no such pod, or the plugin's error, after which the pod is still in the lab's list.
pub(crate) fn remove_pod(lab: &LabDir, word: &str) -> Result<Pod> {
    let _held = lab.lock()?;
    let mut state = lab.load()?;
    let Some(pod) = state.pod(word).cloned() else {
        bail!("there is no pod {word}; the lab has {}", state.pod_names());
    };
    pods::remove(lab, &pod, state.topology.ipv6)?;
    state.pods.retain(|other| *other != pod);
    lab.save(&state)?;
    Ok(pod)
}
