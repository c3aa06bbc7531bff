//! That nothing is left: what there was before the demo, what it made, and what there is after it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kernel::Rtnetlink;
use kernel::netns::Identity;

use crate::process;
use crate::state::LabDir;

/// The kernel frees a killed process's sockets, and with them its namespace, a moment after the process.
const LIMIT: Duration = Duration::from_secs(5);

/// The links and mounts of the namespaces that the demo was started in.
pub(crate) struct Snapshot {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

/// What a lab consists of, for whoever wants to see it gone.
pub(crate) struct Made {
    namespaces: BTreeSet<Identity>,
    processes: usize,
}

impl Made {
    pub(crate) fn find(lab: &LabDir) -> Self {
        Self {
            namespaces: process::namespaces(lab).into_iter().collect(),
            processes: process::running(lab).len(),
        }
    }

    pub(crate) fn describe(&self) -> String {
        format!(
            "{} namespaces with their links, routes and rules, {} processes, all mounts and files",
            self.namespaces.len(),
            self.processes
        )
    }
}

impl Snapshot {
    pub(crate) fn take() -> Result<Self> {
        let links = Rtnetlink::open()?.links()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
        // proc(5): the fifth field is where it is mounted.
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
        Ok(Self {
            links: links.into_iter().map(|link| link.name.to_string()).collect(),
            mounts: places.collect(),
        })
    }

    /// Whether all that the lab made is gone. Links and mounts of others may come and go meanwhile.
    pub(crate) fn verify(&self, lab: &LabDir, made: &Made) -> Result<()> {
        process::wait_until(Instant::now() + LIMIT, || self.verify_now(lab, made))
    }

    fn verify_now(&self, lab: &LabDir, made: &Made) -> Result<()> {
        ensure!(!lab.path().exists(), "{} is left", lab.path().display());
        ensure!(process::running(lab).is_empty(), "a process of the lab is left");
        ensure!(!process::is_anyone_in(&made.namespaces), "a process is left in a namespace of the lab");
        let held = open_namespaces(&made.namespaces);
        ensure!(held.is_empty(), "a namespace is left: {}", held.join(", "));
        let now = Self::take()?;
        let inside = |place: &&String| Path::new(place).starts_with(lab.path());
        let mounts: Vec<_> = now.mounts.difference(&self.mounts).filter(inside).cloned().collect();
        ensure!(mounts.is_empty(), "mounts are left: {}", mounts.join(", "));
        let ours = |name: &&String| name.starts_with("cali") || name.starts_with("node-");
        let links: Vec<_> = now.links.difference(&self.links).filter(ours).cloned().collect();
        ensure!(links.is_empty(), "links are left: {}", links.join(", "));
        Ok(())
    }
}

/// Which of these namespaces this process still holds open; nobody else could.
fn open_namespaces(namespaces: &BTreeSet<Identity>) -> Vec<String> {
    let names: BTreeSet<_> = namespaces.iter().map(ToString::to_string).collect();
    let Ok(handles) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let targets = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets.filter(|target| names.contains(target)).collect()
}
