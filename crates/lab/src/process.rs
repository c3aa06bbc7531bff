//! The `tortie node` processes of a lab.
//!
//! They are found again by what stands in their environment, not by remembered numbers: so `down` finds them after a
//! crash, and never ends a process that merely got a dead one's number.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::wire::{Answer, NodeStatus, Request};
use kernel::netns::Netns;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::state::LabDir;
use crate::topology::Host;

/// Marks the processes of a lab; its value is the lab's folder.
const LAB_VARIABLE: &str = "TORTIE_LAB";
/// Which host of the lab a process belongs to.
const HOST_VARIABLE: &str = "TORTIE_LAB_HOST";

/// Variables that make a process talk to this lab, as a given host if any.
pub(crate) fn environment(lab: &LabDir, host: Option<&str>) -> Vec<(String, String)> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut variables = vec![
        ("PATH".to_owned(), format!("{}:{path}", lab.bin().display())),
        ("DATASTORE_TYPE".to_owned(), "embedded".to_owned()),
        ("TORTIE_DATASTORE".to_owned(), text(&lab.datastore())),
    ];
    if let Some(host) = host {
        variables.push(("TORTIE_NODE_SOCKET".to_owned(), text(&lab.node_socket(host))));
    }
    variables
}

/// Starts the node of a host.
///
/// # Errors
/// The binary cannot be run.
pub(crate) fn start(lab: &LabDir, host: &Host, settings: &[(String, String)]) -> Result<()> {
    let log = File::options().create(true).append(true).open(lab.node_log(&host.name))?;
    let files = lab.host_files(&host.name);
    let mut command = Command::new(lab.bin().join("tortie"));
    command
        .arg("node")
        .envs(environment(lab, Some(&host.name)))
        .env(LAB_VARIABLE, lab.path())
        .env(HOST_VARIABLE, &host.name)
        .env("NODENAME", &host.name)
        .env("IP", "autodetect")
        .env("TORTIE_RUN_DIR", files.join("run"))
        .env("CALICO_NODENAME_FILE", files.join("nodename"))
        .env("FELIX_HEALTHENABLED", "true")
        .env("FELIX_PROMETHEUSMETRICSENABLED", "true")
        .envs(settings.iter().cloned())
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
/// The time is over: which node is not ready, why, and where its log is.
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

/// Asks until the answer is good or the time is over; the last error counts.
pub(crate) fn wait_until<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// What a node says of itself.
///
/// # Errors
/// No node answers.
pub(crate) fn status(lab: &LabDir, host: &str) -> Result<NodeStatus> {
    match cni::ask(&lab.node_socket(host), &Request::NodeStatus, Duration::ZERO)? {
        Answer::NodeStatus(status) => Ok(status),
        other => bail!("{host} answered {other:?}"),
    }
}

/// A process of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pid: Pid,
    /// The host that it belongs to.
    pub host: Option<String>,
}

/// All processes of a lab that run.
pub(crate) fn running(lab: &LabDir) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let wanted = format!("{LAB_VARIABLE}={}", lab.path().display());
    let process = |pid: i32| {
        let mut environment = Vec::new();
        File::open(format!("/proc/{pid}/environ")).ok()?.read_to_end(&mut environment).ok()?;
        let variables: Vec<_> = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        variables.iter().any(|variable| *variable == wanted).then_some(())?;
        let host =
            variables.iter().find_map(|variable| variable.strip_prefix(HOST_VARIABLE)?.strip_prefix('='));
        Some(Process { pid: Pid::from_raw(pid)?, host: host.map(str::to_owned) })
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(process).collect()
}

/// Ends processes and waits until they are gone.
///
/// # Errors
/// A process that does not end.
pub(crate) fn end(processes: &[Process], signal: Signal) -> Result<()> {
    for process in processes {
        // Gone already is as good.
        let _ = kill_process(process.pid, signal);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    for process in processes {
        wait_until(deadline, || match is_gone(process.pid) {
            true => Ok(()),
            false => bail!("process {} does not end", process.pid.as_raw_nonzero()),
        })?;
    }
    Ok(())
}

/// Whether a process has ended; takes it off the list if it was a child of ours.
fn is_gone(pid: Pid) -> bool {
    let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).map_or(true, |line| line.is_empty())
}
