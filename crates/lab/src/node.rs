//! The `tortie node` of each host.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
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

/// A node that was started; it stays when this is dropped.
#[derive(Debug)]
pub(crate) struct Started {
    host: String,
    child: Child,
}

/// Starts the node of a host, with the lab's settings.
///
/// # Errors
/// The binary cannot be run.
pub(crate) fn start(lab: &LabDir, state: &LabState, host: &Host) -> Result<Started> {
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
    let child = namespace
        .run(move || command.spawn())?
        .with_context(|| format!("cannot start the node of {}", host.name))?;
    Ok(Started { host: host.name.clone(), child })
}

/// Waits until nodes say that they are ready.
///
/// # Errors
/// The time is over, or a node has ended: which one, why, and its last words.
pub(crate) fn wait_ready(lab: &LabDir, nodes: &mut [Started], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    for node in nodes {
        node.wait(lab, deadline, |status| match &status.not_ready[..] {
            [] => Ok(()),
            causes => bail!("{}", causes.join("; ")),
        })
        .with_context(|| format!("{} is not ready", node.host))?;
    }
    Ok(())
}

impl Started {
    /// Waits until the node answers, and what it says of itself is good.
    ///
    /// # Errors
    /// The last complaint when the time is over; or the node has ended. Either quotes its log, which may go with the lab.
    pub(crate) fn wait(
        &mut self,
        lab: &LabDir,
        deadline: Instant,
        good: impl Fn(&NodeStatus) -> Result<()>,
    ) -> Result<NodeStatus> {
        let answer = wait_until(deadline, || {
            if let Some(end) = self.child.try_wait()? {
                // Nothing will come of waiting longer.
                return Ok(Err(anyhow!("its node ended with {end}")));
            }
            let status = status(lab, &self.host)?;
            good(&status)?;
            Ok(Ok(status))
        });
        answer.and_then(|answer| answer).map_err(|error| match last_words(&lab.node_log(&self.host)) {
            words if words.is_empty() => error,
            words => anyhow!("{error:#}; its log ends with: {words}"),
        })
    }
}

/// What a process wrote last: its own complaint (`tortie node: …`, which may have several lines), or the last line.
fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.trim_end().lines().collect();
    let complaint = lines.iter().rposition(|line| line.starts_with("tortie node: "));
    let first = complaint.unwrap_or_else(|| lines.len().saturating_sub(1));
    lines[first..].join("\n")
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
    ensure!(
        !nodes.is_empty(),
        "no node runs on {host}; start it with: tortie lab fault start {host}{}",
        lab.option()
    );
    ensure!(nodes.len() == 1, "{} node processes run on {host}, not one", nodes.len());
    Ok(nodes.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_complaint_or_the_last_line() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let words = |text: &str| {
            std::fs::write(&log, text).unwrap();
            last_words(log.path())
        };
        assert_eq!(
            words("INFO a\ntortie node: IP=\"x\": no\nAS=\"0\": no\n"),
            "tortie node: IP=\"x\": no\nAS=\"0\": no"
        );
        assert_eq!(words("INFO a\nWARN b\n"), "WARN b");
        assert_eq!(words(""), "");
    }
}
