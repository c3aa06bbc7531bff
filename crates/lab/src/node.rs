//! The `tortie node` of each host.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use api::wire::{Answer, NodeStatus, Request};
use client::Patience;
use kernel::netns::Netns;

use crate::process::{self, HOST_VARIABLE, LAB_VARIABLE, wait_until};
use crate::state::{LabDir, LabState};
use crate::topology::Host;

/// A node on an idle machine is ready within a second.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(30);

/// Variables that make a process talk to this lab, as a given host if any.
pub(crate) fn environment(lab: &LabDir, host: Option<&str>) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut variables = vec![
        ("PATH".to_owned(), format!("{}:{path}", lab.bin().display())),
        (LAB_VARIABLE.to_owned(), text(lab.path())),
        ("DATASTORE_TYPE".to_owned(), "embedded".to_owned()),
        ("TORTIE_DATASTORE".to_owned(), text(&lab.datastore())),
    ];
    if let Some(host) = host {
        variables.push(("TORTIE_NODE_SOCKET".to_owned(), text(&lab.node_socket(host))));
        variables.push(("NODENAME".to_owned(), host.to_owned()));
    }
    variables
}

/// Starts the node of a host, with the lab's settings.
///
/// # Errors
/// The binary cannot be run.
pub(crate) fn start(lab: &LabDir, state: &LabState, host: &Host) -> Result<()> {
    let log = File::options().create(true).append(true).open(lab.node_log(&host.name))?;
    let files = lab.host_files(&host.name);
    let mut command = Command::new(lab.bin().join("tortie"));
    command
        .arg("node")
        .envs(environment(lab, Some(&host.name)))
        .env(HOST_VARIABLE, &host.name)
        .env("IP", "autodetect")
        .env("TORTIE_RUN_DIR", files.join("run"))
        .env("CALICO_NODENAME_FILE", files.join("nodename"))
        .env("FELIX_HEALTHENABLED", "true")
        .env("FELIX_PROMETHEUSMETRICSENABLED", "true")
        .envs(state.settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Its own group, so that Ctrl-C at `lab up` does not end what is to stay.
        .process_group(0);
    let namespace = Netns::open(lab.host(&host.name))?;
    namespace
        .run(move || command.spawn())?
        .with_context(|| format!("cannot start the node of {}", host.name))?;
    Ok(())
}

/// Waits until nodes say that they are ready.
///
/// # Errors
/// The time is over, or a node has ended: which one, why, and where its log is.
pub(crate) fn wait_ready(lab: &LabDir, hosts: &[Host], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    for host in hosts {
        wait_until(deadline, || match status(lab, &host.name)?.not_ready {
            causes if causes.is_empty() => Ok(()),
            causes => bail!("{}", causes.join("; ")),
        })
        .with_context(|| {
            let log = lab.node_log(&host.name);
            format!("{} is not ready after {} s (log: {})", host.name, limit.as_secs(), log.display())
        })?;
    }
    Ok(())
}

/// What a node says of itself.
///
/// # Errors
/// No node answers.
pub(crate) fn status(lab: &LabDir, host: &str) -> Result<NodeStatus> {
    match client::ask(&lab.node_socket(host), &Request::NodeStatus, Patience::TERMINAL)? {
        Answer::NodeStatus(status) => Ok(status),
        other => bail!("{host} answered {other:?}"),
    }
}

/// The one node process of a host.
///
/// # Errors
/// None runs, or several do.
pub(crate) fn process(lab: &LabDir, host: &str) -> Result<process::Process> {
    let mut nodes: Vec<_> =
        process::running(lab).into_iter().filter(|process| process.host.as_deref() == Some(host)).collect();
    ensure!(nodes.len() == 1, "{} node processes run on {host}, not one", nodes.len());
    Ok(nodes.remove(0))
}
