//! The processes of a lab: nodes, and whatever runs inside its hosts and pods.
//!
//! They are found again by what the kernel says of them (a variable in their environment, the namespace that they are in),
//! not by remembered numbers: so `down` finds them after a crash. They are ended through a handle that was opened before
//! the kernel was asked, so that never a process is ended that merely got a dead one's number.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kernel::netns::{Identity, Netns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

use crate::interrupt;
use crate::state::LabDir;

/// Marks the processes of a lab; its value is the lab's folder.
pub(crate) const LAB_VARIABLE: &str = "TORTIE_LAB";
/// The host whose node a process is.
pub(crate) const HOST_VARIABLE: &str = "TORTIE_LAB_HOST";
/// How long a killed process may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How often [`wait_until`] tries.
const RETRY: Duration = Duration::from_millis(10);

/// A process of the lab.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// The host whose node it is.
    pub host: Option<String>,
    handle: OwnedFd,
}

impl Process {
    /// Its number, as `/proc` has it.
    pub(crate) fn number(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal that does not end it.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn tell(&self, signal: Signal) -> Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }
}

/// All processes of a lab that run, but for the calling one.
pub(crate) fn running(lab: &LabDir) -> Vec<Process> {
    let namespaces = namespaces(lab).into_iter().collect();
    all().into_iter().filter_map(|pid| belonging(pid, lab, &namespaces)).collect()
}

/// The network namespaces that the lab has names for.
pub(crate) fn namespaces(lab: &LabDir) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir(lab.namespaces()) else { return Vec::new() };
    let open = |entry: std::io::Result<fs::DirEntry>| Netns::open(entry.ok()?.path()).ok();
    entries.filter_map(open).map(|namespace| namespace.identity()).collect()
}

/// The numbers of all other processes.
fn all() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    let others = entries.filter_map(number).filter(|pid| u32::try_from(*pid) != Ok(std::process::id()));
    others.filter_map(Pid::from_raw).collect()
}

/// Whether a process is in one of these namespaces.
pub(crate) fn is_anyone_in(namespaces: &BTreeSet<Identity>) -> bool {
    all().into_iter().any(|pid| is_in(pid, namespaces))
}

fn is_in(pid: Pid, namespaces: &BTreeSet<Identity>) -> bool {
    let number = pid.as_raw_nonzero().get().unsigned_abs();
    Netns::of_process(number).is_ok_and(|namespace| namespaces.contains(&namespace.identity()))
}

fn belonging(pid: Pid, lab: &LabDir, namespaces: &BTreeSet<Identity>) -> Option<Process> {
    let wanted = format!("{LAB_VARIABLE}={}", lab.path().display());
    // Opened before it is looked at: then what was looked at is what the handle is of.
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let variables: Vec<_> = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let marked = variables.iter().any(|variable| *variable == wanted);
    if (!marked && !is_in(pid, namespaces)) || has_ended(&handle, Duration::ZERO) {
        return None;
    }
    let host = variables.iter().filter(|_| marked);
    let host = host.filter_map(|variable| variable.strip_prefix(HOST_VARIABLE)?.strip_prefix('=')).next();
    Some(Process { pid, host: host.map(str::to_owned), handle })
}

/// Ends processes and waits until they are gone.
///
/// # Errors
/// A process that does not end.
pub(crate) fn end(processes: &[Process], signal: Signal) -> Result<()> {
    for process in processes {
        // Gone already is as good.
        let _ = pidfd_send_signal(&process.handle, signal);
    }
    let deadline = Instant::now() + END_LIMIT;
    for process in processes {
        if !has_ended(&process.handle, deadline.saturating_duration_since(Instant::now())) {
            bail!("process {} does not end within {} s", process.pid.as_raw_nonzero(), END_LIMIT.as_secs());
        }
        // Takes it off the kernel's list if it is a child of ours.
        let _ = waitpid(Some(process.pid), WaitOptions::NOHANG);
    }
    Ok(())
}

/// pidfd_open(2): the handle is readable once the process has ended.
fn has_ended(handle: &OwnedFd, limit: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap_or_default();
    matches!(poll(&mut polled, Some(&limit)), Ok(1..))
}

/// Asks until the answer is good or the time is over; the last error counts.
///
/// # Errors
/// The last answer, or a signal.
pub(crate) fn wait_until<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => interrupt::pause(RETRY)?,
        }
    }
}
